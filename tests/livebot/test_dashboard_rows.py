"""From a view to rows of text, without a browser."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from livebot.config import ReplySettings
from livebot.history import FeedChange, PoolChange
from livebot.sources import FeedState
from livebot.view import ErrorView, EventView, ResourceView
from livebot.web.dashboard import listing, words
from livebot.web.dashboard.words import CHINESE, Words
from threadkit import ComponentReport, ComponentState, ManagerReport

EN, ZH = Words("en"), Words("zh")
ROOM = Path(words.__file__).parent


def event(**facts):
    given = {
        "number": 1, "version": 1, "kind": "chat", "user": "甲", "user_id": "7", "text": "你好",
        "count": 0, "stage": "received", "fate": "", "said": "", "priority": None, "at": 5.0,
        "since": {"received": 5.0},
    }  # fmt: skip
    return EventView(**{**given, **facts})


@pytest.mark.parametrize(
    ("facts", "badge", "tone"),
    [
        ({"stage": "received"}, "queued", "warn"),
        ({"stage": "processing"}, "looked at", "warn"),
        ({"stage": "speech"}, "speaking", "live"),
        ({"stage": "ended", "fate": "spoken"}, "spoken", "good"),
        ({"stage": "ended", "fate": "cool_down"}, "the same viewer a moment ago", "faded"),
        ({"stage": "ended", "fate": "no template for like"}, "no template", "faded"),
        ({"stage": "ended", "fate": "text queue: expired"}, "waited too long", "faded"),
        ({"stage": "ended", "fate": "message queue: drop_lowest"}, "message queue full", "faded"),
        ({"stage": "ended", "fate": "speech: timeout"}, "speech failed", "faded"),
        ({"stage": "ended", "fate": "nobody foresaw this"}, "nobody foresaw this", "faded"),
    ],
)
def test_an_event_says_what_became_of_it(facts, badge, tone):
    row = listing.event_row(event(**facts), EN)
    assert (row["badge"], row["tone"]) == (badge, tone)


def test_a_gift_says_how_many():
    row = listing.event_row(event(kind="gift", text="玫瑰", count=3), EN)
    assert row["text"] == "玫瑰 × 3"
    assert listing.event_row(event(kind="like", text="", count=9), ZH)["text"] == "点赞 × 9"


def test_a_failure_is_told_with_its_story():
    error = ErrorView("f", "a.b.Broken", "no", "error", 3, 1.0, 2.0, "speech", "你好", "Traceback")
    [row] = listing.error_rows([error], EN)
    assert (row["title"], row["badge"], row["note"]) == ("Broken", "3 ×", "speech · 你好")
    assert (row["story"], row["tone"]) == ("Traceback", "bad")


def test_a_resource_near_its_end_says_when():
    near = ResourceView("memory", 7 * 2**30, 8 * 2**30, "warn", 90.0)
    [row] = listing.resource_rows([near], EN)
    assert row["badge"] == "7.00 / 8.0 GiB"
    assert (row["note"], row["tone"], row["share"]) == ("warn · full in 1:30", "warn", 0.875)


def test_alarms_name_what_is_near_its_end_and_what_is_not_well():
    def part(name, state):
        return ComponentReport(name, state, (), 1.0, None)

    report = ManagerReport(
        "bot",
        (part("player", ComponentState.RUNNING), part("source", ComponentState.DEGRADED)),
    )
    resources = (
        ResourceView("memory", 9, 10, "critical", None),
        ResourceView("disk", 1, 10, "ok", None),
    )
    view = SimpleNamespace(resources=resources, components=report)
    assert listing.alarms(view, EN) == ["memory: critical", "source: degraded"]
    assert listing.alarms(view, ZH) == ["内存: 危急", "source: 降级"]


def test_changes_are_told_with_their_reason_the_latest_first():
    changes = [PoolChange(1.0, "tts", 1, 2, "queue grows"), PoolChange(2.0, "tts", 2, 1, "idle")]
    rows = listing.pool_rows(changes)
    assert [(row["text"], row["note"]) for row in rows] == [
        ("2 → 1", "idle"),
        ("1 → 2", "queue grows"),
    ]
    feed = [FeedChange(1.0, FeedState.WAITING, "lost it"), FeedChange(2.0, FeedState.CONNECTED, "")]
    assert [row["title"] for row in listing.feed_rows(feed, EN)] == [
        "connected",
        "waiting to reconnect",
    ]
    assert len({row["n"] for row in listing.feed_rows(feed, EN)}) == 2


def _sentences():
    """Every constant sentence that the page has translated, as its sources say it."""
    called = re.compile(r'\bwords\(\s*"([^"]+)"')
    for path in ROOM.glob("*.py"):
        if path.name != "words.py":
            yield from called.findall(path.read_text(encoding="utf-8"))


def test_every_sentence_of_the_page_is_there_in_chinese():
    sentences = {sentence.replace("\\", "") for sentence in _sentences()}
    assert len(sentences) > 30
    assert sentences - CHINESE.keys() == set()


def test_every_reason_kind_and_state_is_there_in_chinese():
    said = {sentence for _, sentence in words._REASONS if "\\" not in sentence}
    said |= {"nothing to say", "cleared by hand", "stopping", "spoken"}
    said |= set(ReplySettings.model_fields) - {"nobody"}
    said |= {name for name, _ in listing._FEED.values()} | set(listing._STAGES.values())
    states = {state.value for state in ComponentState} - {"stopping"}
    assert (said | states) - CHINESE.keys() == set()
    assert listing._FEED.keys() == {state.value for state in FeedState}


def test_both_languages_fill_in_the_same_facts():
    for english, chinese in CHINESE.items():
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", chinese))


@pytest.mark.parametrize(
    ("asked", "header", "language"),
    [
        (None, "", "en"),
        (None, "zh-CN,zh;q=0.9", "zh"),
        (None, "fr-FR, de", "en"),
        ("zh", "en-US", "zh"),
        ("<script>", "en-US", "en"),
    ],
)
def test_the_language_is_the_one_asked_for_or_the_browsers(asked, header, language):
    assert words.language_for(asked, header) == language
