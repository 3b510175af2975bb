"""Bytes to events: every kind of the protocol, sparse messages, and input that is broken."""

from __future__ import annotations

import gzip
import importlib.util
import pathlib
import random
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebot import messages
from livebot.messages import Chat, Control, Gift, Rank, Room, Social, Stats, User
from livebot.sources import DouyinSource, read_recording, shipped_room
from livebot.sources import webcast_pb2 as webcast
from livebot.sources.connection import FeedClosed
from livebot.sources.decoding import METHODS, decode
from livebot.sources.encoding import encode
from livebot.sources.faults import bomb
from livebot.sources.wire import (
    HEARTBEAT,
    MalformedFrame,
    ack,
    cursor_of,
    inflate,
    pack,
    read_frame,
    read_response,
)


def load_neighbour(name):
    path = pathlib.Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Deaf:
    """A socket nobody reads from."""

    backlog_bytes = 0

    def reply(self, payload):
        pass


def message(payload, msg_id=9):
    return webcast.Message(
        method=f"Webcast{payload.DESCRIPTOR.name}",
        payload=payload.SerializeToString(),
        msg_id=msg_id,
    )


# -- every kind ---------------------------------------------------------------------------------


def test_every_event_of_the_recorded_room_survives_the_wire():
    for _, event in read_recording(shipped_room()):
        assert decode(encode(event), 0.0) == event


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_empty_message_of_every_method_makes_an_event(method):
    event = decode(webcast.Message(method=method), 5.0)
    assert event.kind in messages.KINDS
    assert event.id == "0"
    assert event.user is None
    assert event.sent_at is None
    assert event.received_at == 5.0


def test_every_kind_of_event_has_a_method():
    kinds = {decode(webcast.Message(method=method), 0.0).kind for method in METHODS}
    assert kinds == set(messages.KINDS)


def test_an_unknown_method_is_no_event():
    assert decode(webcast.Message(method="WebcastNewDanceMessage", payload=b"\xff"), 0.0) is None


def test_ids_of_64_bits_stay_exact():
    user = webcast.User(id=2**64 - 1, nickname="n")
    gift = webcast.GiftMessage(user=user, gift_id=2**53 + 1, group_id=2**64 - 3)
    event = decode(message(gift, msg_id=2**63 + 1), 0.0)
    assert (event.id, event.user.id) == (str(2**63 + 1), str(2**64 - 1))
    assert (event.gift_id, event.group_id) == (str(2**53 + 1), str(2**64 - 3))


def test_the_message_id_falls_back_to_the_common_part():
    chat = webcast.ChatMessage(content="x", common=webcast.Common(msg_id=77))
    assert decode(message(chat, msg_id=0), 0.0).id == "77"


def test_times_are_seconds_and_zero_means_unknown():
    chat = webcast.ChatMessage(common=webcast.Common(create_time=1_763_900_000_123))
    assert decode(message(chat), 0.0).sent_at == 1_763_900_000.123


def test_a_users_grade_comes_before_the_old_level():
    user = webcast.User(id=1, level=3)
    assert decode(message(webcast.ChatMessage(user=user)), 0.0).user.level == 3
    user.pay_grade.level = 40
    assert decode(message(webcast.ChatMessage(user=user)), 0.0).user.level == 40


def test_a_hidden_viewer_keeps_the_name_the_platform_shows():
    user = webcast.User(id=1, desensitized_nickname="神**人")
    assert decode(message(webcast.ChatMessage(user=user)), 0.0).user.name == "神**人"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (
            webcast.SocialMessage(action=1, follow_count=5),
            Social(id="9", action="follow", followers=5),
        ),
        (
            webcast.SocialMessage(action=3, share_target="112"),
            Social(id="9", action="share", share_target="douyin"),
        ),
        (
            webcast.SocialMessage(action=7, share_target="31"),
            Social(id="9", action="action-7", share_target="31"),
        ),
        (webcast.FansclubMessage(action=1), messages.Fansclub(id="9", action="level_up")),
        (webcast.FansclubMessage(action=2), messages.Fansclub(id="9", action="join")),
        (webcast.FansclubMessage(action=9), messages.Fansclub(id="9", action="action-9")),
        (webcast.ControlMessage(action=3), Control(id="9", action=3, ended=True)),
        (webcast.ControlMessage(action=1), Control(id="9", action=1)),
        (webcast.MemberMessage(member_count=8), messages.Member(id="9", viewers=8)),
        (webcast.LikeMessage(count=2, total=9), messages.Like(id="9", count=2, total=9)),
        (
            webcast.RoomUserSeqMessage(total=5, total_user=9, total_user_str="9人"),
            Stats(id="9", viewers=5, total_viewers=9, text="9人"),
        ),
        (
            webcast.RoomStatsMessage(display_value=7, display_long="7在线观众"),
            Stats(id="9", viewers=7, text="7在线观众"),
        ),
        (webcast.RoomMessage(content="公告", biz_scene="x"), Room(id="9", text="公告", topic="x")),
        (webcast.RoomStreamAdaptationMessage(adaptation_type=2), Room(id="9", topic="layout-2")),
        (
            webcast.EmojiChatMessage(emoji_id=4, default_content="[比心]"),
            messages.Emoji(id="9", text="[比心]", emoji_id="4"),
        ),
        (
            webcast.RoomRankMessage(
                ranks=[
                    webcast.RoomRankMessage.RoomRank(user=webcast.User(id=1, nickname="a")),
                    webcast.RoomRankMessage.RoomRank(),
                ]
            ),
            Rank(id="9", users=(User(id="1", name="a"),)),
        ),
    ],
)
def test_what_the_numbers_of_the_protocol_mean(payload, expected):
    assert decode(message(payload), 0.0) == expected


def test_a_gift_without_its_own_id_takes_the_one_of_its_table():
    gift = webcast.GiftMessage(gift=webcast.GiftStruct(id=463, name="小心心"))
    event = decode(message(gift), 0.0)
    assert isinstance(event, Gift)
    assert (event.gift_id, event.name) == ("463", "小心心")


def test_the_simulator_refuses_an_event_it_cannot_spell():
    with pytest.raises(ValueError, match="carries a"):
        encode(messages.Event(id="1"))
    with pytest.raises(ValueError):
        encode(Chat(id="not a number", text="x"))


# -- frames -------------------------------------------------------------------------------------


def test_the_heartbeat_is_the_one_of_the_protocol():
    assert bytes.fromhex("3a026862") == HEARTBEAT


def test_an_acknowledgement_carries_the_log_id_and_the_internal_ext():
    frame = webcast.PushFrame.FromString(ack(webcast.PushFrame(log_id=2**63), "a|b"))
    assert (frame.log_id, frame.payload_type, frame.payload) == (2**63, "ack", b"a|b")


@pytest.mark.parametrize("compress", [True, False])
def test_a_response_is_read_gzipped_or_plain(compress):
    response = webcast.Response(cursor="c", need_ack=True)
    frame = read_frame(pack(response, log_id=3, compress=compress))
    assert frame.log_id == 3
    assert read_response(frame) == response


def test_gzip_is_told_by_its_first_bytes_whatever_the_header_says():
    payload = gzip.compress(webcast.Response(cursor="c").SerializeToString())
    assert read_response(webcast.PushFrame(payload=payload)).cursor == "c"


def test_the_cursor_of_the_frames_headers_wins():
    response = webcast.Response(cursor="body", internal_ext="body")
    frame = webcast.PushFrame(headers=[webcast.PushHeader(key="im-cursor", value="head")])
    assert cursor_of(frame, response) == ("head", "body")


def test_inflating_stops_at_the_limit():
    stream = gzip.compress(bytes(1000))
    assert len(inflate(stream, limit_bytes=1000)) == 1000
    with pytest.raises(MalformedFrame, match="inflates past 999 bytes"):
        inflate(stream, limit_bytes=999)


def test_a_gzip_bomb_is_refused_without_being_held():
    frame = read_frame(bomb())
    assert len(frame.payload) < 100_000
    tracemalloc.start()
    with pytest.raises(MalformedFrame, match="inflates past"):
        read_response(frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 32 * 1024 * 1024


@pytest.mark.parametrize("cut_bytes", range(1, 30))
def test_a_truncated_gzip_stream_is_malformed(cut_bytes):
    stream = gzip.compress(b"some payload that is long enough")
    with pytest.raises(MalformedFrame):
        inflate(stream[:-cut_bytes])


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_or_malformed(data):
    try:
        response = read_response(read_frame(data))
    except MalformedFrame:
        return
    assert isinstance(response, webcast.Response)


@given(st.binary(max_size=100), st.sampled_from(sorted(METHODS)))
def test_any_payload_of_any_method_is_an_event_or_malformed(payload, method):
    try:
        event = decode(webcast.Message(method=method, payload=payload), 0.0)
    except MalformedFrame:
        return
    assert event.kind in messages.KINDS


def test_thousands_of_mutated_frames_never_let_an_exception_out():
    """What the stress test does two hundred thousand times; see tests/stress/test_feed_fuzz.py."""
    mutations = load_neighbour("frame_mutations")
    frames = mutations.real_frames()
    got = []
    source = DouyinSource("ws://nowhere/", emit=got.append)
    source._is_new = lambda _, batch: (
        True
    )  # the same few frames again and again: dedupe would hide them
    endings = 0
    for data in mutations.mutated(frames, random.Random(7), 5000):
        try:
            source._receive(data, Deaf())
        except FeedClosed:  # a mutation that spells "close"; anything else fails the test
            endings += 1
    statistics = source.statistics()
    assert statistics.malformed > 1500
    assert len(got) > 1500
    assert endings < 50


# -- the generated code -------------------------------------------------------------------------


def test_the_generated_code_is_that_of_the_proto_file():
    proto = pathlib.Path(webcast.__file__).with_name("webcast.proto").read_text(encoding="utf-8")
    text = re.sub(r"//[^\n]*", "", proto)
    fields = re.findall(r"(\w+) = (\d+);", text)
    generated = sorted(
        (field.name, field.number)
        for descriptor in _all_messages(webcast.DESCRIPTOR.message_types_by_name.values())
        for field in descriptor.fields
    )
    assert generated == sorted((name, int(number)) for name, number in fields)


def _all_messages(descriptors):
    for descriptor in descriptors:
        if descriptor.GetOptions().map_entry:
            continue
        yield descriptor
        yield from _all_messages(descriptor.nested_types)


def test_inflate_names_what_is_wrong_with_bytes_that_are_no_gzip():
    with pytest.raises(MalformedFrame, match="broken gzip of 12 bytes"):
        inflate(b"\x1f\x8b" + b"\xff" * 10)
