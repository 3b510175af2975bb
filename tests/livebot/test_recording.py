"""Rooms as JSON lines: both formats, recorder and replay."""

from __future__ import annotations

import gzip
import json
import re
import threading

import pytest

from livebot.messages import Chat, Control, Fansclub, Gift, Like, Member, Room, Social, Stats, User
from livebot.sources import FeedState, Recorder, ReplaySource, read_recording, shipped_room
from livebot.sources.recording import busy_room
from threadkit.testing import SimRuntime

WITHIN = 10.0  # seconds until a real wait of these tests counts as failed


def write(path, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


# -- our own format -----------------------------------------------------------------------------


def test_what_is_recorded_is_read_back(tmp_path):
    path = tmp_path / "room.jsonl"
    user = User(id="1", name="小鱼")
    events = [
        Chat(id="1", user=user, text="你好\n[大笑]", received_at=100.0),
        Gift(id="2", user=user, gift_id="5", repeat_count=3, received_at=101.25),
        Stats(id="3", viewers=9, received_at=100.5),
    ]
    with Recorder(path) as recorder:
        for event in events:
            recorder.record(event)
        assert recorder.count == 3
    read = list(read_recording(path))
    assert [t for t, _ in read] == [0.0, 1.25, 0.5]
    assert [e.id for _, e in read] == ["1", "2", "3"]
    assert read[0][1].text == "你好\n[大笑]"


def test_an_event_without_an_arrival_is_stamped_now(tmp_path):
    path = tmp_path / "room.jsonl"
    with Recorder(path) as recorder:
        recorder.record(Chat(id="1", text="x"))
    assert [t for t, _ in read_recording(path)] == [0.0]


def test_a_closed_recorder_takes_nothing_and_closes_twice(tmp_path):
    recorder = Recorder(tmp_path / "room.jsonl")
    recorder.close()
    recorder.close()
    with pytest.raises(ValueError, match="the recorder is closed"):
        recorder.record(Chat(id="1", text="x"))


def test_threads_record_whole_lines(tmp_path):
    path = tmp_path / "room.jsonl"
    with Recorder(path) as recorder:

        def record(first):
            for n in range(first, first + 200):
                recorder.record(Chat(id=str(n), text="字" * 50, received_at=1.0))

        threads = [threading.Thread(target=record, args=[n * 1000]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WITHIN)
    assert len({event.id for _, event in read_recording(path)}) == 800


def test_the_shipped_room_is_large_enough_and_names_its_origin():
    room = list(read_recording(shipped_room()))
    kinds = {event.kind for _, event in room}
    assert len(room) >= 500
    assert {"chat", "gift", "like", "social", "stats"} <= kinds
    origin = shipped_room().with_name("README.md").read_text(encoding="utf-8")
    assert "xhynice/DouyinBarrage" in origin
    assert "MIT" in origin


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 2: Expecting property name"),
        ("[]", "line 2: must be a JSON object, not list"),
        ({"kind": "chat", "id": "1", "text": ""}, "line 2: t must be seconds since the start"),
        ({"t": -1, "kind": "like", "id": "1"}, "t must be seconds since the start, not -1"),
        ('{"t": NaN, "kind": "like", "id": "1"}', "t must be seconds since the start, not nan"),
        ({"t": True, "kind": "like", "id": "1"}, "not True"),
        ({"t": 1, "kind": "chat", "id": "1"}, "line 2: chat: text missing"),
        ({"t": 1, "type": "song"}, "type is 'song'"),
        ({"t": 1}, "needs kind (our format) or type"),
        ({"t": 1, "type": "gift", "gift_name": "x", "gift_count": 1}, "diamond_total missing"),
        ({"t": 1, "type": "like", "count": "many"}, "line 2: invalid literal"),
        ({"t": 1, "type": "like", "count": None}, "line 2: like: int() argument"),
        ({"format": "livebot-recording", "version": 99}, "not 'livebot-recording' version 99"),
    ],
)
def test_a_wrong_line_is_named_by_file_and_number(tmp_path, line, complaint):
    path = write(tmp_path / "room.jsonl", {"t": 0, "kind": "like", "id": "1"}, line)
    with pytest.raises(ValueError) as caught:
        list(read_recording(path))
    assert str(caught.value).startswith(f"{path}, line 2")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("deep.jsonl", b"[" * 100_000, "line 1: nested too deeply"),
        ("bytes.jsonl", b'{"kind": "chat", "t": 0, "id": "\xff"}', "after line 0: not UTF-8"),
        ("cut.jsonl.gz", gzip.compress(b"\n" * 999, mtime=0)[:-9], "Compressed file ended"),
        ("digits.jsonl", b'{"t": 1' + b"0" * 5000 + b"}", "line 1: "),
    ],
)
def test_a_file_that_is_broken_is_named(tmp_path, name, content, complaint):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(complaint)) as caught:
        list(read_recording(path))
    assert name in str(caught.value)


def test_what_only_looks_packed_is_an_error_of_the_system(tmp_path):
    path = tmp_path / "plain.jsonl.gz"
    path.write_bytes(b"{}")
    with pytest.raises(OSError, match="gzip"):
        list(read_recording(path))


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    path = tmp_path / "room.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"t": 0, "kind": "chat", "id": "1", "text": "a"}')
    [(_, event)] = read_recording(path)
    assert event.text == "a"


def test_the_busy_room_is_what_it_is_said_to_be():
    events = list(read_recording(busy_room()))
    assert (len(events), events[-1][0]) == (3690, 599.0)
    assert sum(isinstance(event, Gift) for _, event in events) == 2953
    assert busy_room().stat().st_size < 40_000


def test_empty_lines_are_skipped(tmp_path):
    path = write(tmp_path / "room.jsonl", "", {"t": 0, "kind": "like", "id": "1"}, "  ")
    assert len(list(read_recording(path))) == 1


# -- the column format --------------------------------------------------------------------------


def columns(tmp_path, *rows):
    return [event for _, event in read_recording(write(tmp_path / "room.jsonl", *rows))]


def test_each_type_of_row_makes_its_event(tmp_path):
    who = {"user": "u00012", "grade": "[等级14]", "fans_club": "[粉丝团:某某 Lv12]"}
    events = columns(
        tmp_path,
        {"t": 0, "type": "chat", "content": "你好", **who},
        {"t": 1, "type": "like", "count": 27, "total": 1047692, **who},
        {"t": 2, "type": "social", "action": "关注了主播", "follow_count": 5, **who},
        {"t": 3, "type": "social", "action": "分享了直播间", **who},
        {"t": 4, "type": "stats", "current": 15783, "total_user": "10万+"},
        {"t": 5, "type": "member", "user": "老王", "count": 3},
        {"t": 6, "type": "fansclub", "content": "加入了粉丝团"},
        {"t": 7, "type": "lucky_bag", "content": "福袋"},
        {"t": 8, "type": "control", "action": 3},
    )
    user = User(id="12", name="u00012", level=14, fan_level=12, fan_club="某某")
    chat, like, follow, share, stats, member, fansclub, bag, control = events
    assert chat == Chat(id="7500000000000000001", user=user, text="你好")
    assert like == Like(id="7500000000000000002", user=user, count=27, total=1047692)
    assert (follow.action, follow.followers, share.action) == ("follow", 5, "share")
    assert isinstance(follow, Social)
    assert stats == Stats(id="7500000000000000005", viewers=15783, text="10万+")
    assert isinstance(member, Member)
    assert member.user.name == "老王"
    assert member.user.id.isdigit()
    assert isinstance(fansclub, Fansclub)
    assert fansclub.action == "join"
    assert isinstance(bag, Room)
    assert isinstance(control, Control)
    assert control.ended


def gifts(tmp_path, *counts_at):
    rows = [
        {
            "t": t,
            "type": "gift",
            "user": "u1",
            "gift_name": "x",
            "gift_count": n,
            "diamond_total": n,
        }
        for t, n in counts_at
    ]
    return columns(tmp_path, *rows)


def test_growing_counts_are_one_combo(tmp_path):
    events = gifts(tmp_path, (0, 1), (1, 2), (3, 7))
    assert len({event.group_id for event in events}) == 1
    assert not any(event.repeat_end for event in events)


def test_the_same_count_a_moment_later_closes_the_combo(tmp_path):
    first, closing, other = gifts(tmp_path, (0, 1), (3, 1), (4, 1))
    assert closing.repeat_end
    assert closing.group_id == first.group_id != other.group_id
    assert not other.repeat_end


@pytest.mark.parametrize("later", [(5.5, 1), (2, 0), (11, 2)])
def test_a_late_or_smaller_count_begins_a_new_combo(tmp_path, later):
    first, second = gifts(tmp_path, (0, 1), later)
    assert first.group_id != second.group_id


def test_the_price_is_that_of_one(tmp_path):
    row = {"t": 0, "type": "gift", "user": "u1", "gift_name": "x", "gift_count": 3}
    (event,) = columns(tmp_path, {**row, "diamond_total": 27})
    assert (event.diamond_count, event.repeat_count) == (9, 3)


# -- replay -------------------------------------------------------------------------------------


def likes(*times):
    return [(t, Like(id=str(n))) for n, t in enumerate(times, 1)]


@pytest.mark.parametrize("speed", [1.0, 50.0])
def test_a_replay_keeps_the_recordings_pace_times_speed(speed):
    runtime = SimRuntime(seed=3)
    heard = []

    def scenario():
        began = runtime.monotonic()
        source = ReplaySource(
            likes(0.0, 10.0, 600.0),
            emit=lambda event: heard.append(event.received_at - began),
            speed=speed,
            runtime=runtime,
        )
        source.start()
        runtime.sleep(601.0 / speed)
        assert source.state is FeedState.ENDED
        source.stop()

    runtime.run(scenario)
    assert heard == pytest.approx([0.0, 10.0 / speed, 600.0 / speed])


def test_a_replay_is_stopped_in_the_middle_of_a_pause():
    runtime = SimRuntime(seed=3)

    def scenario():
        source = ReplaySource(likes(0.0, 3600.0), emit=lambda event: None, runtime=runtime)
        source.start()
        runtime.sleep(10.0)
        source.stop()
        assert runtime.monotonic() < 20.0 + began
        assert source.state is FeedState.STOPPED
        assert source.statistics().decoded == {"like": 1}

    began = runtime.monotonic()
    runtime.run(scenario)


def test_a_replay_without_pauses_is_as_fast_as_emit():
    done, heard = threading.Event(), []
    source = ReplaySource(
        likes(0.0, 1e6, 2e6),
        emit=heard.append,
        speed=float("inf"),
        on_state=lambda state, sentence: done.set() if state is FeedState.ENDED else None,
    )
    source.start()
    assert done.wait(WITHIN)
    source.stop()
    assert len(heard) == 3


def test_a_replay_can_be_stepped():
    heard = []
    source = ReplaySource(likes(0.0, 1e9, 2e9), emit=heard.append)
    assert source.step(2) == 2
    assert source.step(5) == 1
    assert source.step() == 0
    assert source.state is FeedState.ENDED
    assert [event.id for event in heard] == ["1", "2", "3"]


def test_a_replay_may_be_stopped_by_whom_it_tells():
    stopped = threading.Event()

    def emit(event):
        source.stop()
        stopped.set()

    source = ReplaySource(likes(0.0, 3600.0), emit=emit)
    source.start()
    assert stopped.wait(WITHIN)
    source.stop()
    assert source.state is FeedState.STOPPED


def test_a_replay_counts_what_emit_refuses():
    def emit(event):
        raise RuntimeError("full")

    source = ReplaySource(likes(0.0, 1.0), emit=emit)
    source.step(2)
    assert source.statistics().undelivered == 2


def test_a_broken_line_ends_a_replay_with_one_log_line(tmp_path, caplog):
    path = write(tmp_path / "room.jsonl", {"t": 0, "kind": "like", "id": "1"}, "{")
    ended = threading.Event()
    source = ReplaySource(
        read_recording(path),
        emit=lambda event: None,
        on_state=lambda state, sentence: ended.set() if "line 2" in sentence else None,
    )
    source.start()
    assert ended.wait(WITHIN)
    source.stop()
    assert len(caplog.records) == 1


def test_a_speed_of_nothing_is_refused():
    with pytest.raises(ValueError, match="speed must be above 0, not 0"):
        ReplaySource([], emit=print, speed=0)
