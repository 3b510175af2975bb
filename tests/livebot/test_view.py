import json
import math
from pathlib import Path

import pytest

from livebot.ledger import Ledger, Stage
from livebot.messages import Chat, Gift, Like, Social, User
from livebot.sources import FeedState
from livebot.view import EventView, event_view, plain, shown


def viewed(event):
    ledger = Ledger()
    ledger.admit(event)
    return event_view(ledger.recent()[0], 1000.0)


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("a\x00b\x1b[31mc", "a b [31mc"),
        ("甲\u202egpj.exe", "甲gpj.exe"),
        ("one\r\ntwo\u2028three", "one two three"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),  # text stays text
        ("half of an emoji\ud83d", "half of an emoji"),
        ("x" * 1_000_000, "x" * 199 + "…"),
        ("👨‍👩‍👧", "👨‍👩‍👧"),  # joined emoji stay joined
    ],
)
def test_words_of_the_room_are_shown_on_one_line_and_cut(hostile, harmless):
    assert shown(hostile) == harmless


def test_an_event_is_shown_with_times_since_the_epoch():
    view = viewed(Chat(id="1", user=User(id="7", name="小鱼"), text="你好", received_at=5.0))
    assert (view.kind, view.user, view.user_id, view.text) == ("chat", "小鱼", "7", "你好")
    assert view.at == 1005.0
    assert view.since.keys() == {"received"}


@pytest.mark.parametrize(
    ("event", "kind", "text", "count"),
    [
        (Gift(id="1", gift_id="1", name="玫瑰", repeat_count=3), "gift", "玫瑰", 3),
        (Like(id="1", count=9), "like", "", 9),
        (Social(id="1", action="follow"), "follow", "", 0),
    ],
)
def test_each_kind_says_what_there_is_to_it(event, kind, text, count):
    view = viewed(event)
    assert (view.kind, view.text, view.count) == (kind, text, count)


def test_a_view_can_be_written_as_json():
    view = viewed(Chat(id="1", text="你好"))
    written = json.loads(json.dumps(plain({"events": (view,), FeedState.NEW: Path("a")})))
    assert written["events"][0]["text"] == "你好"
    assert written["new"] == "a"
    assert plain([math.inf, math.nan, 1.5, True, None]) == [None, None, 1.5, True, None]


def test_what_became_of_an_event_is_told_with_its_reason():
    ledger = Ledger()
    spoken, dropped = ledger.admit(Chat(id="1", text="a")), ledger.admit(Chat(id="2", text="b"))
    ledger.move(spoken, Stage.TEXT, 1)
    ledger.begin(spoken, "甲说，a")
    ledger.drop(dropped, "cool_down")
    first, second = [event_view(passage, 0.0) for passage in ledger.recent()]
    assert isinstance(first, EventView)
    assert (first.stage, first.fate, first.said, first.priority) == ("text", "", "甲说，a", 1)
    assert (second.stage, second.fate) == ("ended", "cool_down")
    assert second.version > first.version > first.number


def test_only_what_waits_to_be_spoken_is_in_the_queue():
    ledger = Ledger()
    entries = [ledger.admit(Chat(id=str(n), text="a")) for n in range(4)]
    for entry in entries:
        ledger.move(entry, Stage.TEXT, 2)
    ledger.move(entries[0], Stage.SPEECH)
    ledger.drop(entries[1], "stale")
    assert [passage.number for passage in ledger.queued()] == [3, 4]


def test_the_ledger_remembers_a_bounded_number_of_events():
    ledger = Ledger()
    for n in range(1000):
        ledger.drop(ledger.admit(Chat(id=str(n), text="a")), "cool_down")
    assert [passage.number for passage in ledger.recent()] == list(range(801, 1001))
    assert ledger.queued() == []


def test_only_stays_of_events_that_went_on_are_measured():
    ledger = Ledger()
    ledger.drop(ledger.admit(Chat(id="1", text="a")), "cool_down")
    assert ledger.stays() == {}
    entry = ledger.admit(Chat(id="2", text="a"))
    ledger.move(entry, Stage.TEXT)
    assert ledger.stays().keys() == {Stage.RECEIVED}
