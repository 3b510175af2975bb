"""An evening in minutes, and a flood: the feed and moderation under everything at once."""

from __future__ import annotations

import gc
import logging
import threading
from collections import Counter

import psutil
import pytest

from flood import CROWD, EVENTS, TREASURE, flood
from livebot.messages import Gift
from livebot.moderation import LEVELS, Moderator, Outcome, Rules
from livebot.sources import (
    Backoff,
    Crowd,
    DouyinSource,
    Faults,
    FeedOptions,
    FeedState,
    Played,
    Simulator,
    busy_room,
    read_recording,
)
from threadkit import MessageQueue, QueueClosed

pytestmark = [pytest.mark.stress, pytest.mark.timeout(900)]

MEBIBYTE = 1024 * 1024


@pytest.fixture(autouse=True)
def few_log_lines(caplog):
    """Pytest keeps every record, and an evening of cuts makes thousands."""
    caplog.set_level(logging.ERROR, logger="livebot.sources")


class Pipeline:
    """Source, queue, four processing threads, moderation: livebot up to the text queue."""

    def __init__(self, url, *, maxsize, rules, **source):
        self.dropped = Counter()
        self.gifts = Counter()  # spoken of, by viewer and gift
        self.treasures = set()  # combos of the big gift that were spoken of
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.moderator = Moderator(rules, announce=self._spoken)
        self.messages = MessageQueue(
            maxsize=maxsize,
            levels=LEVELS,
            overflow="drop_lowest",
            on_drop=lambda event, reason: self.dropped.update([str(reason)]),
        )
        self.source = DouyinSource(
            url, emit=self._put, on_state=self._on_state, options=FeedOptions(**source)
        )
        self.threads = [threading.Thread(target=self._process) for _ in range(4)]

    def __enter__(self):
        self.moderator.start()
        for thread in self.threads:
            thread.start()
        self.source.start()
        return self

    def __exit__(self, *exc_info):
        self.source.stop()
        self.messages.close()
        for thread in self.threads:
            thread.join()
        self.moderator.flush()
        self.moderator.stop()

    def _put(self, event):
        self.messages.put_nowait(event, self.moderator.rank(event))

    def _on_state(self, state, sentence):
        if state is FeedState.ENDED:
            self.ended.set()

    def _process(self):
        while True:
            try:
                event = self.messages.get()
            except QueueClosed:
                return
            self._spoken(self.moderator.consider(event))

    def _spoken(self, verdict):
        event = verdict.event
        if verdict.outcome is not Outcome.SPEAK or not isinstance(event, Gift):
            return
        with self.lock:
            self.gifts[event.user.id, event.gift_id] += event.repeat_count
            if event.gift_id == TREASURE:
                self.treasures.add((event.user.id, event.group_id))

    def balances(self):
        """Every event handed over was considered or dropped by the queue, and has an outcome."""
        delivered = sum(self.source.statistics().decoded.values())
        books = self.moderator.statistics()
        assert delivered == books.considered + sum(self.dropped.values())
        assert books.considered == (
            books.spoken
            + books.skipped
            + books.held
            + sum(books.folded.values())
            + sum(books.dropped.values())
        )


def recorded_totals(events, rounds):
    """The ten-line model: of each combo the highest counter, summed by viewer and gift."""
    highest = {}
    for _, event in events:
        if isinstance(event, Gift):
            key = (event.user.id, event.gift_id, event.group_id)
            highest[key] = max(highest.get(key, 0), event.repeat_count)
    totals = Counter()
    for (user, gift, _), count in highest.items():
        totals[user, gift] += rounds * count
    return totals


def test_an_evening_in_minutes():
    """The ten busiest minutes of a room, 12 times over, at 50x, under every fault at once.

    The client is cut every 20 s of the room, meets half-dead silences, repeats, malformed and
    truncated frames and gzip bombs; afterwards the books are exact and nothing is left over.
    """
    rounds, speed = 12, 50.0
    room = list(read_recording(busy_room()))
    faults = Faults(
        cut_every=20.0,
        silence_every=313.0,
        repeat=0.05,
        malformed=0.05,
        truncated=0.05,
        bombs=0.001,
    )
    process = psutil.Process()
    threads_before, sockets_before = threading.active_count(), len(process.net_connections())
    simulator = Simulator(Played(room, rounds=rounds), speed=speed, seed=5, faults=faults)
    rules = Rules(cool_down=0, repeat_window=0, combo_idle=0.5)
    patient = {"silence": 0.4, "backoff": Backoff(first=0.02, most=0.05), "heartbeat_every": 0.1}
    with Pipeline(simulator.start(), maxsize=20_000, rules=rules, **patient) as pipeline:
        rss = []
        while not pipeline.ended.wait(20.0):
            gc.collect()
            rss.append(process.memory_info().rss)
    pipeline.balances()
    served, seen = simulator.statistics(), pipeline.source.statistics()
    simulator.stop()
    print(f"\n{served}\n{seen}\n{pipeline.moderator.statistics()}")  # noqa: T201
    print("RSS in MiB every 20 s:", [round(size / MEBIBYTE, 1) for size in rss])  # noqa: T201
    assert seen.decoded == served.sent
    assert sum(seen.decoded.values()) == rounds * len(room) + 1
    assert seen.reconnects >= 20 * rounds  # a cut every 20 s of ten minutes, and silences
    assert all(served.faults[name] for name in ("cuts", "silences", "malformed", "truncated"))
    assert pipeline.gifts == recorded_totals(room, rounds)
    assert threading.active_count() == threads_before
    assert len(process.net_connections()) == sockets_before
    assert max(rss[3:]) - rss[2] < 5 * MEBIBYTE  # after the first minute


def test_a_flood_of_twenty_thousand_events_a_second():
    """Thirty seconds of it: bounded memory, prompt pongs, and every big gift answered."""
    process, rss = psutil.Process(), []
    with (
        flood() as crowd,
        Pipeline(crowd.url, maxsize=2000, rules=Rules(combo_idle=1.0)) as pipeline,
    ):
        while not pipeline.ended.wait(5.0):
            rss.append(process.memory_info().rss)
    seen = pipeline.source.statistics()
    print(f"\npongs {crowd.pongs}, slowest {crowd.slowest_pong * 1000:.1f} ms")  # noqa: T201
    print("RSS in MiB every 5 s:", [round(size / MEBIBYTE, 1) for size in rss])  # noqa: T201
    print("queue drops", dict(pipeline.dropped), pipeline.moderator.statistics())  # noqa: T201
    pipeline.balances()
    print("shed by the source", dict(seen.shed), "of", dict(seen.received))  # noqa: T201
    assert sum(seen.decoded.values()) + sum(seen.shed.values()) == EVENTS + 1
    assert crowd.pongs >= 5
    assert crowd.slowest_pong < 1.0
    assert max(rss[1:]) - rss[0] < 40 * MEBIBYTE
    sent = map(Crowd(**CROWD).event, range(0, EVENTS, 16 * 64))
    treasures = {(event.user.id, event.group_id) for event in sent}
    assert pipeline.treasures == treasures
