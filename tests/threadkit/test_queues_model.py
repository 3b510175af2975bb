"""MessageQueue against a model of a few lines, with the clock as one of the rules."""

from __future__ import annotations

import math
from collections import Counter
from typing import get_args

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from threadkit import MessageQueue, Overflow, QueueClosed, QueueEmpty, QueueFull
from threadkit.testing import SimRuntime

LEVELS = 3
TTLS = [None, 1.0, 3.0, 7.0]
KEYS = [None, None, "a", "b"]
PUTS = st.tuples(st.integers(0, LEVELS - 1), st.sampled_from(TTLS), st.sampled_from(KEYS))


class Model:
    """A list in the order of the puts; whatever is to leave is searched for."""

    def __init__(self, overflow, maxsize, ageing, ttl, merge):
        self.overflow, self.maxsize, self.ageing, self.ttl, self.merge = (
            overflow, maxsize, ageing, ttl, merge,
        )  # fmt: skip
        self.now, self.waiting, self.dropped, self.serial = 0.0, [], [], 0

    def drop(self, entry, reason):
        self.waiting.remove(entry)
        self.dropped.append((entry["item"], reason))

    def stale(self):
        past = [entry for entry in self.waiting if entry["deadline"] <= self.now]
        return sorted(past, key=lambda entry: (entry["deadline"], entry["serial"]))

    def rank(self, entry):
        wait = (entry["at"] + entry["level"] * self.ageing) if self.ageing is not None else 0
        return wait, entry["level"], entry["serial"]

    def find(self, key):
        return next((e for e in self.waiting if key is not None and e["key"] == key), None)

    def put(self, item, level, ttl, key):
        """True; or False where it is refused."""
        deadline = self.now + (ttl or self.ttl or math.inf)
        same = self.find(key)
        if same in self.stale():
            self.drop(same, "expired")
            same = None
        if same is not None:
            if self.merge is None:
                self.dropped.append((same["item"], "replaced"))
            item = item if self.merge is None else self.merge(same["item"], item)
            same.update(item=item, deadline=deadline, level=min(level, same["level"]))
            return True
        self.serial += 1
        entry = {"item": item, "level": level, "deadline": deadline, "key": key,
                 "at": self.now, "serial": self.serial}  # fmt: skip
        while self.maxsize and len(self.waiting) >= self.maxsize:
            victim = self.victim(level)
            if victim is None:
                if self.overflow in ("block", "reject"):
                    return False
                self.dropped.append((item, self.overflow))
                return True
            self.drop(*victim)
        self.waiting.append(entry)
        return True

    def victim(self, level):
        for entry in self.stale():
            return entry, "expired"
        if self.overflow == "drop_oldest":
            return min(self.waiting, key=lambda e: e["serial"]), "drop_oldest"
        if self.overflow == "drop_lowest":
            lowest = min(self.waiting, key=lambda e: (-e["level"], e["serial"]))
            if lowest["level"] >= level:
                return lowest, "drop_lowest"
        return None

    def get(self):
        while self.waiting:
            entry = min(self.waiting, key=self.rank)
            if entry["deadline"] > self.now:
                self.waiting.remove(entry)
                return entry["item"]
            self.drop(entry, "expired")
        return None


reached: Counter[str] = Counter()  # what the steps of all examples led to


class QueueMachine(RuleBasedStateMachine):
    @initialize(
        overflow=st.sampled_from(get_args(Overflow)),
        maxsize=st.sampled_from([4, 2, 3, 1, 0]),
        ageing=st.sampled_from([None, 0.0, 2.0]),
        ttl=st.sampled_from([None, 4.0]),
        merges=st.booleans(),
    )
    def make(self, overflow, maxsize, ageing, ttl, merges):
        merge = (lambda old, new: (*old, *new)) if merges else None
        self.clock = SimRuntime()
        self.drops = []
        self.counts = Counter()
        self.serial = 0
        self.model = Model(overflow, maxsize, ageing, ttl, merge)
        self.queue = MessageQueue(
            LEVELS,
            maxsize=maxsize,
            overflow=overflow,
            ageing=ageing,
            ttl=ttl,
            merge=merge,
            on_drop=lambda item, reason: self.drops.append((item, reason)),
            runtime=self.clock,
        )

    @rule(puts=st.lists(PUTS, min_size=1, max_size=5))
    def put(self, puts):
        for level, ttl, key in puts:
            self.put_one(level, ttl, key)

    def put_one(self, level, ttl, key):
        if self.queue.closed:
            with pytest.raises(QueueClosed):
                self.queue.put(("refused",), level, ttl=ttl, key=key)
            return
        self.serial += 1
        item = (self.serial,)
        before = len(self.model.dropped)
        merged = self.model.merge is not None and self.model.find(key) is not None
        accepted = self.model.put(item, level, ttl, key)
        if accepted:
            self.queue.put(item, level, ttl=ttl, key=key, timeout=0)
        else:
            with pytest.raises(QueueFull):
                self.queue.put(item, level, ttl=ttl, key=key, timeout=0)
        reached["put accepted" if accepted else "put refused"] += 1
        reached["put merged"] += merged
        for _, reason in self.model.dropped[before:]:
            reached[f"put dropped: {reason}"] += 1

    @rule(level=st.integers(0, LEVELS - 1), ttl=st.sampled_from(TTLS))
    def put_from_signal(self, level, ttl):
        self.serial += 1
        item = (self.serial,)
        if self.queue.closed:
            self.model.dropped.append((item, "closed"))
        else:
            bound, full = self.model.maxsize, False
            if not self.model.put(item, level, ttl, None):
                self.model.maxsize, full = 0, True
                assert self.model.put(item, level, ttl, None)
                self.model.maxsize = bound
            reached["signal beyond the bound"] += full
        self.queue.put_from_signal(item, level, ttl=ttl)
        self.queue.statistics()  # any other method reports what the handler dropped

    @rule()
    def get(self):
        expected = self.model.get()
        if expected is not None:
            assert self.queue.get(timeout=0) == expected
            self.counts["gets"] += 1
        else:
            with pytest.raises(QueueClosed if self.queue.closed else QueueEmpty):
                self.queue.get(timeout=0)
            reached["get found nothing"] += 1

    @rule(n=st.integers(1, 3))
    def get_batch(self, n):
        expected = []
        while len(expected) < n and (item := self.model.get()) is not None:
            expected.append(item)
        if expected:
            assert self.queue.get_batch(n, timeout=0) == expected
            self.counts["gets"] += len(expected)
        else:
            with pytest.raises((QueueEmpty, QueueClosed)):
                self.queue.get_batch(n, timeout=0)

    @rule(key=st.sampled_from(["a", "b"]))
    def cancel(self, key):
        entry = self.model.find(key)
        if entry is not None:
            self.model.drop(entry, "cancelled")
        assert self.queue.cancel(key) is (entry is not None)
        reached["cancelled"] += entry is not None

    @rule(key=st.sampled_from(["a", "b"]), level=st.integers(0, LEVELS - 1))
    def reprioritize(self, key, level):
        entry = self.model.find(key)
        if entry is not None:
            reached["moved"] += entry["level"] != level
            entry["level"] = level
        assert self.queue.reprioritize(key, level) is (entry is not None)

    @rule(maxsize=st.sampled_from([0, 1, 2, 4]))
    def resize(self, maxsize):
        self.model.maxsize = maxsize
        if self.model.overflow in ("drop_oldest", "drop_lowest") and not self.queue.closed:
            while maxsize and len(self.model.waiting) > maxsize:
                self.model.drop(*self.model.victim(0))
                reached["dropped by a resize"] += 1
        self.queue.resize(maxsize)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 5.0]))
    def advance_the_clock(self, seconds):
        self.model.now += seconds
        self.clock.advance(seconds)

    @precondition(lambda self: self.serial > 25)
    @rule(drain=st.booleans())
    def close(self, drain):
        self.close_now(drain=drain)

    def teardown(self):
        if hasattr(self, "queue"):
            self.close_now(drain=False)
            self.nothing_is_lost()

    def close_now(self, *, drain):
        left = []
        if not drain:
            for entry in sorted(self.model.waiting, key=self.model.rank):
                stale = entry["deadline"] <= self.model.now
                left += [] if stale else [entry["item"]]
                self.model.drop(entry, "expired" if stale else "closed")
        assert self.queue.close(drain=drain) == left
        reached["closed with items left"] += bool(left)

    @invariant()
    def nothing_is_lost(self):
        if not hasattr(self, "queue"):
            return
        seen = self.queue.statistics()
        assert self.drops == self.model.dropped
        assert seen.waiting == len(self.model.waiting) == len(self.queue)
        assert seen.gets == self.counts["gets"]
        assert seen.puts == seen.gets + seen.dropped + seen.waiting
        assert seen.drops == {**dict.fromkeys(seen.drops, 0), **Counter(r for _, r in self.drops)}
        assert seen.waiting_by_level == tuple(
            sum(entry["level"] == level for entry in self.model.waiting) for level in range(LEVELS)
        )
        oldest = min((entry["at"] for entry in self.model.waiting), default=self.model.now)
        assert seen.oldest_age == self.model.now - oldest


def test_a_queue_does_what_its_model_does():
    reached.clear()
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=150,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    # A state that was hardly reached was hardly tested.
    for state in (
        "put accepted",
        "put refused",
        "put merged",
        "put dropped: expired",
        "put dropped: replaced",
        "put dropped: drop_new",
        "put dropped: drop_oldest",
        "put dropped: drop_lowest",
        "signal beyond the bound",
        "get found nothing",
        "cancelled",
        "moved",
        "dropped by a resize",
        "closed with items left",
    ):
        assert reached[state] >= 10, (state, reached)
