"""Events keep what they say through a record and back; wrong records are refused by name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livebot import messages
from livebot.messages import Chat, Gift, Like, Rank, RecentIds, Stats, User, from_record, to_record

IDS = st.integers(0, 2**64 - 1).map(str)
USERS = st.builds(
    User,
    id=IDS,
    name=st.text(max_size=20),
    level=st.integers(0, 75),
    fan_level=st.integers(0, 20),
    fan_club=st.text(max_size=5),
    gender=st.integers(0, 2),
)
HEADS = {
    "id": IDS,
    "user": st.none() | USERS,
    "sent_at": st.none() | st.integers(1, 10**13).map(lambda ms: ms / 1000),
}
COUNTS = st.integers(0, 2**31 - 1)
TEXTS = st.text(max_size=40)
EVENTS = [
    st.builds(Chat, **HEADS, text=TEXTS),
    st.builds(messages.Emoji, **HEADS, text=TEXTS, emoji_id=st.just("") | IDS),
    st.builds(
        Gift,
        **HEADS,
        gift_id=IDS,
        name=TEXTS,
        diamond_count=COUNTS,
        repeat_count=COUNTS,
        combo_count=COUNTS,
        group_count=COUNTS,
        group_id=IDS,
        repeat_end=st.booleans(),
        total_count=COUNTS,
        send_type=COUNTS,
        combo=st.booleans(),
        to_user=st.none() | USERS,
    ),
    st.builds(Like, **HEADS, count=COUNTS, total=COUNTS),
    st.builds(messages.Member, **HEADS, viewers=COUNTS),
    st.builds(
        messages.Social,
        **HEADS,
        action=st.sampled_from(["follow", "share", "action-9"]),
        share_target=st.sampled_from(["", "wechat", "douyin", "77"]),
        followers=COUNTS,
    ),
    st.builds(messages.Fansclub, **HEADS, action=st.sampled_from(["join", "level_up"]), text=TEXTS),
    st.builds(Stats, id=IDS, viewers=COUNTS, total_viewers=COUNTS, text=TEXTS),
    st.builds(Rank, id=IDS, users=st.lists(USERS, max_size=3).map(tuple)),
    st.builds(messages.Room, id=IDS, text=TEXTS, topic=TEXTS),
    st.builds(messages.Control, id=IDS, action=st.just(3), ended=st.just(True), text=TEXTS),
]


@pytest.mark.parametrize("events", EVENTS)
def test_an_event_survives_json(events):
    @given(events)
    def survives(event):
        assert from_record(json.loads(json.dumps(to_record(event)))) == event

    survives()


def test_every_kind_is_among_the_strategies_above():
    @given(st.tuples(*EVENTS))
    @settings(max_examples=1)
    def check(events):
        assert {event.kind for event in events} == set(messages.KINDS)

    check()


def test_the_time_of_arrival_is_not_recorded_but_stamped_anew():
    event = Chat(id="1", text="你好", received_at=5.0)
    assert "received_at" not in to_record(event)
    assert from_record(to_record(event), received_at=9.0).received_at == 9.0


def test_unknown_keys_are_ignored():
    record = {"kind": "like", "id": "1", "count": 2, "colour": "red", "t": 3}
    assert from_record(record) == Like(id="1", count=2)


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({}, "kind must be one of chat, emoji"),
        ({"kind": "song", "id": "1"}, "not 'song'"),
        ({"kind": ["chat"], "id": "1"}, "not ['chat']"),
        ({"kind": "chat", "id": "1"}, "chat: text missing"),
        ({"kind": "chat", "id": 1, "text": ""}, "chat.id must be str, not 1"),
        ({"kind": "like", "id": "1", "count": True}, "like.count must be int, not True"),
        ({"kind": "like", "id": "1", "user": "u"}, "like.user must be an object or null"),
        ({"kind": "like", "id": "1", "user": {"name": "x"}}, "like.user: id missing"),
        ({"kind": "like", "id": "1", "sent_at": "now"}, "like.sent_at must be"),
        ({"kind": "rank", "id": "1", "users": [3]}, "rank.users must be an object"),
        ({"kind": "rank", "id": "1", "users": {}}, "rank.users must be a list"),
    ],
)
def test_a_wrong_record_is_refused_by_the_name_of_the_key(record, complaint):
    with pytest.raises(ValueError) as caught:
        from_record(record)
    assert complaint in str(caught.value)


def test_events_are_frozen_and_carry_no_dict():
    event = Chat(id="1", text="x")
    with pytest.raises(AttributeError):
        event.text = "y"
    assert not hasattr(event, "__dict__")


def test_recent_ids_forget_the_oldest_and_stay_bounded():
    seen = RecentIds(limit=100)
    assert all(seen.add(str(n)) for n in range(1000))
    assert len(seen) == 100
    assert not seen.add("950")
    assert seen.add("899")


def test_recent_ids_need_room():
    with pytest.raises(ValueError, match="limit must be 1 or more"):
        RecentIds(limit=0)
