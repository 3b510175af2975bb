"""A Hypothesis state machine: the cache and its listener do what a model of a few lines does."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import ClassVar

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

from threadkit import TTLCache
from threadkit.testing import FakeClock

KEYS = st.integers(0, 7)
WEIGHTS = st.integers(0, 12)
LIMITS = st.sampled_from([None, None, 2.0, 5.0, math.inf])
TTLS = st.sampled_from([None, 4.0, 10.0])


class Model:
    """A sequential cache; an entry is [value, weight, written, ttl, idle, read, turn of read]."""

    def __init__(self, maxsize, ttl, idle):
        self.maxsize, self.ttl, self.idle = maxsize, ttl, idle
        self.entries, self.events, self.now = {}, [], 0.0
        self.turns = itertools.count()
        self.choose = lambda: min(self.entries, key=lambda key: self.entries[key][6])

    def deadline(self, entry):
        return min(entry[2] + entry[3], entry[5] + entry[4])

    def touch(self, entry):
        entry[5], entry[6] = self.now, next(self.turns)

    def out(self, key, cause):
        entry = self.entries.pop(key)
        late = self.deadline(entry) <= self.now
        self.events.append((key, entry[0], "expired" if late else cause))
        return entry

    def live(self, key):
        if key in self.entries and self.deadline(self.entries[key]) <= self.now:
            self.out(key, "expired")
        return self.entries.get(key)

    def get(self, key):
        entry = self.live(key)
        if entry is not None:
            self.touch(entry)
        return entry and entry[0]

    def total(self):
        return sum(entry[1] for entry in self.entries.values())

    def evict(self, room):
        while self.entries and self.total() + room > self.maxsize:
            self.out(self.choose(), "evicted")

    def put(self, key, value, weight, ttl=None, idle=None):
        old = self.live(key)
        if weight > self.maxsize:
            if old:
                self.out(key, "replaced")
            self.events.append((key, value, "rejected"))
            return
        ttl = self.ttl if ttl is None else ttl
        idle = self.idle if idle is None else idle
        new = [value, weight, self.now, ttl, idle, self.now, next(self.turns)]
        if old:
            self.events.append((key, old[0], "replaced"))
            self.entries[key] = new
            self.evict(0)
        else:
            self.evict(weight)
            self.entries[key] = new


class CacheMachine(RuleBasedStateMachine):
    policy = "lru"
    weighed = True
    listening = True
    reached: ClassVar[Counter[str]] = Counter()

    @initialize(maxsize=st.integers(1, 20), ttl=TTLS, idle=st.sampled_from([None, 3.0]))
    def begin(self, maxsize, ttl, idle):
        self.heard = []
        self.clock = FakeClock()
        self.cache = TTLCache(
            maxsize,
            ttl,
            idle=idle if self.weighed else None,
            weigher=(lambda _key, value: value[1]) if self.weighed else None,
            policy=self.policy,
            on_remove=(lambda *event: self.heard.append(event)) if self.listening else None,
            sweep_interval=math.inf,
            clock=self.clock,
        )
        idle = idle if self.weighed else None
        self.model = Model(maxsize, ttl or math.inf, idle or math.inf)
        if self.policy == "s3fifo":
            self.model.choose = self.chosen
        self.serial = itertools.count()
        self.missed = self.hit = 0

    def next_to_expire(self):
        return min(map(self.model.deadline, self.model.entries.values()), default=math.inf)

    def value(self, weight):
        return (next(self.serial), weight if self.weighed else 1)

    def read(self, found, expected):
        assert found == expected
        self.hit += expected is not None
        self.missed += expected is None

    @rule(key=KEYS, weight=WEIGHTS, ttl=LIMITS, idle=LIMITS)
    def put(self, key, weight, ttl, idle):
        value = self.value(weight)
        self.cache.put(key, value, ttl=ttl, idle=idle)
        self.model.put(key, value, value[1], ttl, idle)

    @rule(key=KEYS, weight=WEIGHTS)
    def set_item(self, key, weight):
        value = self.value(weight)
        self.cache[key] = value
        self.model.put(key, value, value[1])

    @rule(key=KEYS)
    def get(self, key):
        self.read(self.cache.get(key), self.model.get(key))

    @rule(key=KEYS)
    def get_item(self, key):
        expected = self.model.get(key)
        if expected is None:
            with pytest.raises(KeyError):
                self.cache[key]
            self.missed += 1
        else:
            self.read(self.cache[key], expected)

    @rule(key=KEYS)
    def peek(self, key):
        entry = self.model.entries.get(key)
        live = entry is not None and self.model.deadline(entry) > self.model.now
        assert self.cache.peek(key) == (entry[0] if live else None)
        assert (key in self.cache) == live
        assert self.cache.expires_at(key) == (self.model.deadline(entry) if live else None)

    @rule(key=KEYS, weight=WEIGHTS)
    def set_default(self, key, weight):
        value = self.value(weight)
        expected = self.model.get(key)
        self.hit += expected is not None
        self.missed += expected is None
        assert self.cache.setdefault(key, value) == (expected or value)
        if expected is None:
            self.model.put(key, value, value[1])

    @rule(key=KEYS, weight=WEIGHTS)
    def load(self, key, weight):
        value = self.value(weight)
        expected = self.model.get(key)
        self.hit += expected is not None
        self.missed += expected is None
        assert self.cache.load(key, lambda _key: value) == (expected or value)
        if expected is None:
            self.model.put(key, value, value[1])

    @rule(key=KEYS)
    def pop(self, key):
        expected = self.model.live(key)
        assert self.cache.pop(key, None) == (expected and expected[0])
        if expected:
            self.model.out(key, "deleted")

    @rule(key=KEYS, ttl=LIMITS)
    def touch(self, key, ttl):
        entry = self.model.live(key)
        assert self.cache.touch(key, ttl) == (entry is not None)
        if entry:
            entry[2], entry[3] = self.model.now, self.model.ttl if ttl is None else ttl
            self.model.touch(entry)

    @rule(even=st.booleans())
    def invalidate(self, even):
        gone = [
            key
            for key, entry in self.model.entries.items()
            if self.model.deadline(entry) > self.model.now and (key % 2 == 0) == even
        ]
        assert self.cache.invalidate_if(lambda key, _value: (key % 2 == 0) == even) == len(gone)
        for key in gone:
            self.model.out(key, "deleted")

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 5.0]))
    def advance(self, seconds):
        self.clock.advance(seconds)
        self.model.now += seconds

    @precondition(lambda self: self.next_to_expire() < math.inf)
    @rule()
    def outlive(self):
        key = min(self.model.entries, key=lambda key: self.model.deadline(self.model.entries[key]))
        self.advance(max(0.0, self.next_to_expire() - self.model.now))
        self.get(key)
        assert key not in self.cache

    @rule(maxsize=st.integers(1, 20))
    def resize(self, maxsize):
        self.cache.resize(maxsize)
        self.model.maxsize = maxsize
        self.model.evict(0)

    @precondition(lambda self: len(self.model.entries) > 1)
    @rule()
    def clear(self):
        self.cache.clear()
        for key in list(self.model.entries):
            self.model.out(key, "cleared")

    @rule()
    def look(self):
        live = [
            key
            for key, entry in self.model.entries.items()
            if self.model.deadline(entry) > self.model.now
        ]
        live.sort(key=lambda key: self.model.entries[key][6])
        assert self.cache.coldest(3) == live[:3]
        assert self.cache.hottest(3) == live[::-1][:3]
        assert sorted(self.cache) == sorted(live)
        assert len(self.cache) == len(live)

    @invariant()
    def same(self):
        if not hasattr(self, "cache"):
            return
        numbers = self.cache.statistics()
        assert (numbers.hits, numbers.misses) == (self.hit, self.missed)
        assert numbers.weight == self.model.total() <= self.model.maxsize
        assert numbers.entries == len(self.model.entries)
        causes = Counter(cause for _key, _value, cause in self.model.events)
        assert {cause: getattr(numbers, cause) for cause in causes} == causes
        if self.listening:
            assert self.heard == self.model.events
        self.reached.update(causes.keys())


class S3FifoMachine(CacheMachine):
    """The model follows whom the policy evicts, and checks all the rest."""

    policy = "s3fifo"

    def chosen(self):
        return self.heard[len(self.model.events)][0]


class PlainMachine(CacheMachine):
    """The cache that takes new keys without the lock: no weigher, no listener, no idle."""

    weighed = listening = False


FAST = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_a_weighed_cache_with_a_listener_agrees_with_the_model():
    CacheMachine.reached.clear()
    run_state_machine_as_test(CacheMachine, settings=FAST)
    # A machine that never gets there proves nothing.
    assert set(CacheMachine.reached) == {
        "expired",
        "evicted",
        "replaced",
        "deleted",
        "cleared",
        "rejected",
    }
    assert min(CacheMachine.reached.values()) > 5


def test_a_plain_cache_agrees_with_the_model():
    PlainMachine.reached.clear()
    run_state_machine_as_test(PlainMachine, settings=FAST)
    assert PlainMachine.reached["evicted"] > 5


def test_s3fifo_agrees_with_the_model_whomever_it_evicts():
    S3FifoMachine.reached.clear()
    run_state_machine_as_test(S3FifoMachine, settings=FAST)
    assert S3FifoMachine.reached["evicted"] > 5
