"""A finalizer or a signal handler that uses the cache wherever the interpreter may run one.

That is after a call, at the beginning of a function, at a jump back, where a container is made, and
where two readings of a coarse clock are compared: not between any two bytecodes. Each of these
places in the cache's code is met with some chance, and then anything may be done there, twice deep.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import importlib
import math
import random
import sys
import time
from collections import Counter

import pytest

from threadkit import LoadCycle, TTLCache

PARTS = (
    "_announcer",
    "_boarding",
    "_entry",
    "_flights",
    "_holding",
    "_loading",
    "_lru",
    "_s3fifo",
    "_store",
    "_ttl",
    "_views",
)
FILES = {importlib.import_module(f"threadkit._cache.{part}").__file__ for part in PARTS}
PLACES = {"RESUME", "BUILD_TUPLE", "BUILD_LIST", "BUILD_MAP", "BUILD_SET", "COMPARE_OP"}
DEPTH = 2  # interruptions of interruptions
SEEDS = 25

KINDS = {
    "plain": {},
    "listening": {"listens": True},
    "weighed": {"weighs": True, "listens": True},
    "s3fifo": {"policy": "s3fifo"},
    "s3fifo weighed": {"policy": "s3fifo", "weighs": True, "listens": True},
    "idle": {"idle": 5.0, "listens": True},
    "refreshing": {"refresh_after": 2.0, "stale_if_error": 3.0, "listens": True},
    "remembering": {"negative_ttl": 2.0, "listens": True},
}


@functools.cache
def places_of(code):
    """Where, in `code`, the interpreter may run something else before it goes on."""
    places, before = set(), ""
    for instruction in dis.get_instructions(code):
        if before in PLACES or before.startswith("CALL"):
            places.add(instruction.offset)
        if instruction.opname.startswith("JUMP_BACKWARD"):
            places.add(instruction.argval)
        before = instruction.opname
    return places


class Scenario:
    """Forty random operations on one cache, interrupted by others."""

    def __init__(self, seed, *, listens=False, weighs=False, **arguments):
        self.draw = draw = random.Random(seed)
        self.now, self.serial, self.depth, self.interruptions = 0.0, 0, 0, 0
        self.rate = draw.choice([0.001, 0.01, 0.05])
        self.put, self.told = set(), []
        if listens:
            arguments["on_remove"] = lambda _key, value, cause: self.told.append((value, cause))
        if weighs:
            arguments["weigher"] = lambda _key, _value: draw.choice([0, 1, 1, 2, 99])
        self.cache = TTLCache(
            draw.choice([1, 1, 2, 3, 5]),
            draw.choice([None, 10.0]),
            clock=lambda: self.now,
            sweep_interval=math.inf,
            **arguments,
        )

    def run(self):
        before = sys.gettrace()
        sys.settrace(self.trace)
        try:
            for _ in range(40):
                self.act()
        finally:
            sys.settrace(before)

    def trace(self, frame, event, _argument):
        if frame.f_code.co_filename not in FILES:
            return None
        frame.f_trace_opcodes = True
        is_place = event == "opcode" and frame.f_lasti in places_of(frame.f_code)
        if is_place and self.depth < DEPTH and self.draw.random() < self.rate:
            self.interruptions += 1
            self.depth += 1
            try:
                self.act()
            finally:
                self.depth -= 1
        return self.trace

    def new(self):
        self.serial += 1
        return self.serial

    def new_put(self):
        value = self.new()
        self.put.add(value)
        return value

    def setdefault(self, key):
        value = self.new()
        if self.cache.setdefault(key, value) == value:
            self.put.add(value)

    def popitem(self):
        try:
            self.cache.popitem()
        except KeyError as exc:
            assert "cache is empty" in str(exc)  # noqa: PT017 - and no other one

    def load(self, _key):
        if self.draw.random() < 0.2:
            raise ValueError
        if self.draw.random() < 0.2:
            self.act()
        return self.new()

    def act(self):
        cache, draw = self.cache, self.draw
        key = draw.randrange(4)
        operations = {
            lambda: cache.put(key, self.new_put()): 6,
            lambda: cache.put(key, self.new_put(), ttl=draw.choice([1, 5])): 1,
            lambda: self.setdefault(key): 1,
            lambda: cache.pop(key, None): 2,
            lambda: cache.get(key): 2,
            lambda: cache.load(key, self.load): 2,
            lambda: cache.load_many(
                [0, 1, 2], lambda keys: {key: self.load(key) for key in keys}
            ): 1,
            cache.clear: 0.6,
            lambda: cache.resize(draw.choice([1, 2, 3, 5])): 0.6,
            lambda: len(cache): 0.5,
            lambda: list(cache.items()): 0.5,
            lambda: cache.invalidate_if(lambda _key, _value: draw.random() < 0.5): 0.5,
            lambda: cache.touch(key): 0.4,
            cache.statistics: 0.4,
            lambda: cache.coldest(2): 0.4,
            self.popitem: 0.4,
            cache._sweep: 0.2,
            lambda: setattr(self, "now", self.now + draw.random() * 2): 0.6,
        }
        [operation] = draw.choices(list(operations), operations.values())
        with contextlib.suppress(ValueError, LoadCycle):  # of the loader and its recursion
            operation()

    def check(self):
        cache = self.cache
        deadline = time.monotonic() + 10
        while cache._flights and time.monotonic() < deadline:
            time.sleep(0.001)  # refreshes have threads of their own
        assert not cache._flights
        assert cache._depth == 0
        len(cache)  # settles
        entries = cache._entries
        assert all(entry.key == key and entry.value for key, entry in entries.items())
        weight = sum(getattr(entry, "weight", 1) for entry in entries.values())
        assert weight == cache.currsize <= cache.maxsize
        if cache._tracker is not None:
            small = sum(entry.weight for entry in entries.values() if entry.probation)
            assert (cache._tracker._small_weight, cache._tracker._main_weight) == (
                small,
                weight - small,
            )
        if cache._announcer._listener is not None:
            self.check_told()

    def check_told(self):
        """Every value that was put is there or was told, once, and counted by its cause."""
        found = Counter([value for value, _ in self.told])
        found.update(entry.value for entry in self.cache._entries.values())
        assert set(found.values()) <= {1}
        assert not self.put - found.keys()
        causes = Counter(str(cause) for _, cause in self.told)
        counts = self.cache._removal_counts()
        assert {name: count for name, count in counts.items() if count} == causes


def interrupt(kind, seeds):
    interruptions = 0
    for seed in seeds:
        scenario = Scenario(seed, **KINDS[kind])
        try:
            scenario.run()
            scenario.check()
        except BaseException as exc:
            raise AssertionError(f"{kind}, seed {seed}: {exc!r}") from exc
        interruptions += scenario.interruptions
    return interruptions


@pytest.mark.parametrize("kind", KINDS)
def test_the_cache_may_be_used_wherever_the_interpreter_may_interrupt_it(kind):
    assert interrupt(kind, range(SEEDS)) > 10 * SEEDS


@pytest.mark.stress
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_for_many_more_seeds(kind):
    assert interrupt(kind, range(SEEDS, 1000)) > 10_000
