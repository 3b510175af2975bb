"""Governor: what it shrinks, what it holds, what it gives back, and when it keeps its hands off."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from math import inf
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from threadkit import (
    DynamicThreadPool,
    Governor,
    Reading,
    ResourceLevel,
    ResourceMonitor,
    ResourceSample,
    TTLCache,
)
from threadkit._monitor._governor import _shares
from threadkit._runtime import RealRuntime
from threadkit.sizing._stabiliser import Stabiliser
from threadkit.testing import FakeClock


class ByHand(RealRuntime):
    """A runtime whose clock the test moves."""

    def __init__(self):
        self.monotonic = FakeClock()
        self.advance = self.monotonic.advance


@dataclass(frozen=True)
class Figures:
    min_workers: int = 1
    max_workers: int = 16
    alive: int = 4
    busy: int = 4
    queued: tuple[int, ...] = (0,)


class FakePool:
    def __init__(self, **figures):
        self.figures = Figures(**figures)

    def statistics(self):
        return self.figures

    def resize(self, min_workers=None, max_workers=None):
        assert max_workers >= self.figures.min_workers
        self.figures = replace(self.figures, max_workers=max_workers)


class FakeCache:
    """Full, unless it is told what it holds."""

    def __init__(self, maxsize, weight=None):
        self.maxsize, self.weight = maxsize, weight

    def statistics(self):
        weight = self.maxsize if self.weight is None else min(self.weight, self.maxsize)
        return SimpleNamespace(weight=weight)

    def resize(self, maxsize):
        self.maxsize = maxsize


class Bench:
    """A governor with a monitor whose memory the test sets."""

    def __init__(self, **options):
        self.clock = ByHand()
        self.ratio = 0.5
        self.monitor = ResourceMonitor(
            sources={"memory": lambda: Reading(self.ratio, 1.0)}, runtime=self.clock
        )
        self.governor = Governor(self.monitor, runtime=self.clock, **options).start()

    def sample(self, ratio=None):
        self.ratio = self.ratio if ratio is None else ratio
        readings = {} if self.ratio is None else {"memory": Reading(self.ratio, 1.0)}
        return ResourceSample(self.clock.monotonic(), readings)

    def tick(self, ratio=None, after=1.0):
        self.clock.advance(after)
        return self.governor.tick(self.sample(ratio))


def test_critical_memory_shrinks_caches_by_a_tenth_a_tick_down_to_their_floor():
    bench, cache = Bench(), FakeCache(1000)
    bench.governor.cache("answers", cache, floor=0.5)
    sizes = []
    for _ in range(10):
        bench.tick(0.95)
        sizes.append(cache.maxsize)
    assert sizes[:3] == [900, 810, 729]
    assert sizes[-1] == 500
    assert all(new >= old * 0.9 for old, new in zip([1000, *sizes], sizes, strict=False))


def test_a_cache_grows_back_once_all_is_well_and_not_beyond_its_size():
    bench, cache = Bench(), FakeCache(1000)
    bench.governor.cache("answers", cache)
    bench.tick(0.95)
    bench.tick(0.95)
    assert bench.tick(0.85) == []  # WARN: nothing grows
    assert cache.maxsize == 810
    for _ in range(20):
        bench.tick(0.5)
    assert cache.maxsize == 1000


def test_a_cache_that_is_not_full_gives_back_a_tenth_of_what_it_holds():
    """Else it would go on growing up to a size that it does not have yet."""
    bench, cache = Bench(), FakeCache(1000, weight=400)
    bench.governor.cache("answers", cache)
    sizes = []
    for _ in range(3):
        bench.tick(0.95)
        sizes.append(cache.maxsize)
    assert sizes == [360, 324, 292]


def test_a_warning_lets_no_cache_hold_more_than_it_does_then():
    bench, cache, empty = Bench(), FakeCache(1000, weight=400), FakeCache(1000.0, weight=0.0)
    bench.governor.cache("answers", cache)
    bench.governor.cache("empty", empty, floor=0.2)
    bench.tick(0.85)
    assert (cache.maxsize, empty.maxsize) == (400, 200.0)
    cache.weight = 300  # what expires leaves room for others
    bench.tick(0.85)
    assert cache.maxsize == 400
    bench.tick(0.95)
    assert cache.maxsize == 270
    bench.tick(0.85)
    assert cache.maxsize == 270
    bench.tick(0.5)
    assert (cache.maxsize, empty.maxsize) == (297, 220.0)
    bench.tick(0.85)
    assert cache.maxsize == 297


def test_a_small_cache_shrinks_too():
    bench, cache = Bench(), FakeCache(5)
    bench.governor.cache("answers", cache)
    sizes = [bench.tick(0.95) and cache.maxsize for _ in range(4)]
    assert sizes == [4, 3, 2, 1]


@pytest.mark.parametrize("ratio", [0.85, 0.95])
def test_pools_may_not_grow_while_memory_is_short(ratio):
    bench, pool = Bench(), FakePool(max_workers=16, alive=5, busy=5, queued=(40,))
    bench.governor.pool("work", pool)
    (event,) = bench.tick(ratio)
    assert (event.kind, event.name, event.old, event.new) == ("pool", "work", 16, 5)
    pool.figures = replace(pool.figures, alive=3)
    bench.tick()
    assert pool.figures.max_workers == 3
    bench.tick(0.5)
    assert pool.figures.max_workers == 16


def test_a_pool_keeps_its_fewest_workers_whatever_happens():
    bench, pool = Bench(budget=2), FakePool(min_workers=4, alive=0, busy=0)
    bench.governor.pool("work", pool)
    bench.tick(0.95)
    assert pool.figures.max_workers == 4


def test_pools_share_a_budget_by_what_they_need():
    bench = Bench(budget=12)
    idle, loaded = FakePool(busy=1), FakePool(busy=4, queued=(7,))
    bench.governor.pool("idle", idle)
    bench.governor.pool("loaded", loaded)
    bench.tick()
    assert (idle.figures.max_workers, loaded.figures.max_workers) == (1, 11)


def test_a_share_grows_at_once_and_shrinks_after_the_window():
    bench = Bench(budget=10, window=30.0)
    first, second = FakePool(busy=1), FakePool(busy=1)
    bench.governor.pool("first", first)
    bench.governor.pool("second", second)
    bench.tick()
    assert first.figures.max_workers == 5
    first.figures = replace(first.figures, busy=9)
    bench.tick()
    assert first.figures.max_workers == 9
    first.figures = replace(first.figures, busy=1)
    bench.tick(after=20.0)
    assert first.figures.max_workers == 9
    bench.tick(after=20.0)
    assert first.figures.max_workers == 5


def test_it_is_frozen_by_hand_and_by_samples_without_the_metric():
    bench, cache = Bench(), FakeCache(100)
    bench.governor.cache("answers", cache)
    bench.governor.freeze("starting")
    assert bench.tick(0.95) == []
    assert bench.governor.statistics().frozen == "starting"
    bench.governor.thaw()
    bench.ratio = None
    assert bench.tick() == []
    assert cache.maxsize == 100
    bench.tick(0.95)
    assert cache.maxsize == 90


def test_freezes_of_two_owners_hold_beside_one_another():
    bench, cache = Bench(), FakeCache(100)
    bench.governor.cache("answers", cache)
    bench.governor.freeze("bot is starting")
    bench.governor.freeze("by hand")
    bench.governor.thaw("bot is starting")
    assert bench.tick(0.95) == []
    assert bench.governor.statistics().frozen == "by hand"
    bench.governor.thaw("unknown")
    bench.governor.thaw("by hand")
    bench.tick(0.95)
    assert (cache.maxsize, bench.governor.statistics().frozen) == (90, None)


def test_a_sample_that_waited_too_long_changes_nothing():
    bench, cache = Bench(stale=5.0), FakeCache(100)
    bench.governor.cache("answers", cache)
    for age, size, stale in ((5.1, 100, 1), (4.9, 90, 1)):
        sample = bench.sample(0.95)
        bench.clock.advance(age)
        bench.governor.tick(sample)
        assert (cache.maxsize, bench.governor.statistics().stale) == (size, stale)
    assert bench.governor.statistics().level is ResourceLevel.CRITICAL


def test_three_periods_are_too_long_by_default():
    clock = ByHand()
    monitor = ResourceMonitor(period=10.0, sources={"memory": lambda: None}, runtime=clock)
    governor = Governor(monitor, runtime=clock).start()
    for age, stale in ((29.9, 0), (30.1, 1)):
        sample = ResourceSample(clock.monotonic(), {})
        clock.advance(age)
        governor.tick(sample)
        assert governor.statistics().stale == stale
    governor.stop()


def test_of_two_samples_that_overtake_one_another_the_older_changes_nothing():
    bench, cache = Bench(), FakeCache(100)
    bench.governor.cache("answers", cache)
    older = bench.sample(0.95)
    bench.tick(0.5)
    assert bench.governor.tick(older) == []
    assert (cache.maxsize, bench.governor.statistics().stale) == (100, 1)
    assert bench.governor.statistics().level is ResourceLevel.OK


def test_a_dry_run_says_what_it_would_do():
    events = []
    bench, cache = Bench(dry_run=True, on_event=events.append), FakeCache(100)
    bench.governor.cache("answers", cache)
    bench.tick(0.95)
    assert cache.maxsize == 100
    assert [(event.name, event.old, event.new) for event in events] == [("answers", 100, 90)]
    assert bench.governor.statistics().events == tuple(events)


def test_one_that_cannot_be_resized_spares_the_others(monkeypatch):
    reported = []
    monkeypatch.setattr("sys.unraisablehook", reported.append)
    bench, stubborn, cache = Bench(), FakeCache(100), FakeCache(100)
    monkeypatch.setattr(stubborn, "resize", lambda maxsize: 1 / 0)
    bench.governor.cache("stubborn", stubborn)
    bench.governor.cache("answers", cache)
    (event,) = bench.tick(0.95)
    assert (event.name, cache.maxsize) == ("answers", 90)
    assert bench.governor.statistics().errors == 1
    assert "stubborn" in reported[0].err_msg


def test_it_acts_between_start_and_stop_and_then_gives_everything_back():
    ratio = 0.95
    monitor = ResourceMonitor(sources={"memory": lambda: Reading(ratio, 1.0)})
    cache, pool = FakeCache(1000), FakePool(alive=2, busy=2)
    governor = Governor(monitor)
    governor.cache("answers", cache)
    governor.pool("work", pool)
    monitor.sample()
    assert cache.maxsize == 1000
    with governor:
        monitor.sample()
        assert (cache.maxsize, pool.figures.max_workers) == (900, 2)
        assert governor.statistics().level is ResourceLevel.CRITICAL
        late = monitor.latest
    assert (cache.maxsize, pool.figures.max_workers) == (1000, 16)
    monitor.sample()
    assert governor.tick(late) == []  # a sample that was on its way
    assert cache.maxsize == 1000


def test_it_governs_the_real_ones():
    ratio = 0.5
    monitor = ResourceMonitor(sources={"memory": lambda: Reading(ratio, 1.0)})
    cache = TTLCache[int, int](100, ttl=60.0)
    gate, begun = threading.Event(), threading.Semaphore(0)

    def task():
        begun.release()
        gate.wait(30)

    with DynamicThreadPool(min_workers=1, max_workers=8) as pool, Governor(monitor) as governor:
        governor.pool("work", pool)
        governor.cache("numbers", cache)
        for number in range(100):
            cache.put(number, number)
        pool.submit(task)
        assert begun.acquire(timeout=30)
        alive = pool.statistics().alive
        ratio = 0.95
        monitor.sample()
        assert pool.statistics().max_workers == alive
        assert (cache.maxsize, len(cache)) == (90, 90)
        ratio = 0.5
        for _ in range(3):
            monitor.sample()
        assert pool.statistics().max_workers == 8
        assert cache.maxsize == 100
        gate.set()


def test_what_is_forgotten_keeps_its_size():
    bench, cache = Bench(), FakeCache(100)
    bench.governor.cache("answers", cache)
    bench.tick(0.95)
    bench.governor.forget("answers")
    bench.governor.forget("nobody")
    bench.tick(0.95)
    bench.governor.stop()
    assert cache.maxsize == 90


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "budget must be None or at least 1 worker, not 0"),
        ({"window": -1.0}, "window must be at least 0 seconds, not -1.0"),
        ({"step": 1.0}, "step must be between 0 and 1, not 1.0"),
        ({"warn": 0.1}, "clear, warn and critical"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Governor(ResourceMonitor(sources={}), **options)


def test_registrations_that_make_no_sense_are_refused():
    governor = Governor(ResourceMonitor(sources={}))
    governor.cache("answers", FakeCache(10))
    with pytest.raises(ValueError, match="name 'answers' is taken"):
        governor.pool("answers", FakePool())
    with pytest.raises(ValueError, match="has no bound"):
        governor.cache("endless", FakeCache(inf))
    with pytest.raises(ValueError, match="floor must be more than 0 and at most 1, not 0"):
        governor.cache("other", FakeCache(10), floor=0)


@settings(max_examples=500)
@given(
    budget=st.integers(1, 60),
    pools=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=1, max_size=8),
)
@example(budget=3, pools=[(30, 30), (0, 30), (0, 30)])
def test_shares_keep_to_the_budget_and_to_the_ceilings(budget, pools):
    needs = {str(i): need for i, (need, _) in enumerate(pools)}
    ceilings = {str(i): ceiling for i, (_, ceiling) in enumerate(pools)}
    shares = _shares(budget, needs, ceilings)
    assert all(1 <= shares[name] <= ceilings[name] for name in shares)
    assert sum(shares.values()) <= max(budget, len(pools))
    if sum(max(1, need) for need in needs.values()) <= budget:
        assert all(shares[name] >= min(needs[name], ceilings[name]) for name in shares)
    assert sum(shares.values()) >= min(budget, sum(ceilings.values()))


@given(st.lists(st.tuples(st.floats(0.1, 20), st.integers(0, 50)), min_size=1, max_size=60))
def test_a_stabiliser_says_the_largest_of_its_window(steps):
    stabiliser, seen, now = Stabiliser(30.0), [], 0.0
    for gap, wanted in steps:
        now += gap
        seen.append((now, wanted))
        assert stabiliser.update(now, wanted) == max(n for at, n in seen if at >= now - 30.0)
