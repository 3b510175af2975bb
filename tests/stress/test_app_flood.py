"""A flood through the whole bot: from the socket to the sound, thirty seconds long."""

from __future__ import annotations

import contextlib
import logging
import threading
import time

import psutil
import pytest

from flood import CROWD, EVENTS, TREASURE, flood
from livebot.app import LiveBot
from livebot.config import Settings
from livebot.terminal import summary

pytestmark = [pytest.mark.stress, pytest.mark.timeout(300)]

MEBIBYTE = 1024 * 1024


@pytest.fixture(autouse=True)
def few_log_lines(caplog):
    caplog.set_level(logging.ERROR, logger="livebot")


def noting_what_is_heard(bot):
    """A list that will hold, of each sentence, when it was first heard and the event it is of."""
    heard, started = [], bot.speaking.player._on_started

    def note(utterance):
        heard.append((utterance.first_sound_at, utterance.tag.event))
        started(utterance)

    bot.speaking.player._on_started = note
    return heard


@contextlib.contextmanager
def memory():
    """A list that holds the process's memory in MiB, every 5 s."""
    over, process, rss = threading.Event(), psutil.Process(), []

    def watch():
        while not over.wait(5.0):
            rss.append(process.memory_info().rss / MEBIBYTE)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield rss
    finally:
        over.set()
        watcher.join()


def test_a_flood_of_twenty_thousand_events_a_second_through_the_whole_bot(tmp_path):
    """Bounded memory, prompt pongs, and the newest of the big gifts heard soon after it came."""
    settings = {
        "replies": {"gift": ["{gift}"]},
        "voice": {"rate": 450, "rest": 0.0},
        "moderation": {"combo_idle": 1.0},
        "pipeline": {"text_ttl": 5.0},
    }
    with flood() as crowd:
        bot = LiveBot(
            crowd.url, settings=Settings.model_validate(settings), wav=tmp_path / "out.wav"
        )
        heard = noting_what_is_heard(bot)
        began_at = time.monotonic()
        with memory() as rss:
            assert bot.run() == 0
    account = summary(bot.snapshot())
    spoken = [(at - began_at, at - e.received_at, e) for at, e in heard]
    treasures = [row for row in spoken if getattr(row[2], "gift_id", "") == TREASURE]
    print(f"\npongs {crowd.pongs}, slowest {crowd.slowest_pong * 1000:.0f} ms")  # noqa: T201
    print("RSS in MiB every 5 s:", [round(size, 1) for size in rss])  # noqa: T201
    print("feed", account["feed"])  # noqa: T201
    print({key: account[key] for key in ("received", "spoken", "dropped", "other")})  # noqa: T201
    print(f"spoken {len(spoken)}, big gifts {len(treasures)}")  # noqa: T201
    print("seconds from gift to sound:", [round(late, 1) for _, late, _ in treasures])  # noqa: T201

    feed = account["feed"]
    assert feed["messages"] == EVENTS + 1  # and the one that ends the broadcast
    assert feed["messages"] == (
        feed["decoded"]
        + feed["undelivered"]
        + sum(feed["shed"].values())
        + sum(feed["unknown"].values())
        + feed["duplicates"]
        + feed["unreadable"]
    )
    assert feed["decoded"] == account["received"] + sum(account["other"].values())
    assert account["pending"] == 0
    assert account["received"] == account["spoken"] + sum(account["dropped"].values())
    assert crowd.pongs >= 5
    assert crowd.slowest_pong < 1.0
    assert max(rss[1:]) - rss[0] < 40
    in_flood = [row for row in spoken if row[0] < CROWD["seconds"]]
    # Before the first of them has come, and its combo is over, anything may be heard.
    settled = [row for row in in_flood if row[0] > 5.0]
    assert len(settled) >= 10
    assert all(getattr(event, "gift_id", "") == TREASURE for _, _, event in settled)
    last_came = max(event.received_at for _, _, event in treasures) - began_at
    assert last_came > CROWD["seconds"] - 5.0, "the newest were heard, not the oldest"
