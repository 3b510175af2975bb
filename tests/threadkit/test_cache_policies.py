"""Contract of every eviction order, and what S3-FIFO is chosen for."""

from __future__ import annotations

import itertools
import random

import pytest

from threadkit import TTLCache
from threadkit._cache._entry import DEAD, FullEntry
from threadkit._cache._lru import LruOrder
from threadkit._cache._s3fifo import S3FifoOrder


class Entries:
    """A cache's dict and clock, without the cache."""

    def __init__(self, order_class):
        self.data = {}
        self.turns = itertools.count(1)
        self.clock = lambda: float(next(self.turns))
        if order_class is LruOrder:
            self.order, self.tracker = LruOrder(self.data, self.clock), None
        else:
            self.order = self.tracker = S3FifoOrder(self.data)

    def add(self, key):
        entry = FullEntry()
        entry.key, entry.value, entry.weight = key, key, 1
        entry.touched_at = self.clock()
        entry.fresh_until = float("inf")
        if self.tracker:
            self.tracker.admit(entry)
        self.data[key] = entry
        if self.tracker:
            self.tracker.added(entry)

    def remove(self, entry):
        del self.data[entry.key]
        entry.fresh_until = DEAD
        if self.tracker:
            self.tracker.removed(entry)


@pytest.mark.parametrize("order_class", [LruOrder, S3FifoOrder])
def test_an_order_names_every_live_entry_once_and_only_those(order_class):
    for seed in range(10):
        entries = Entries(order_class)
        rnd = random.Random(seed)
        for key in range(5000):
            action = rnd.random()
            if action < 0.5 or not entries.data:
                entries.add(key)
            elif action < 0.8:
                rnd.choice(
                    list(itertools.islice(entries.data.values(), 50))
                ).touched_at = entries.clock()
            elif action < 0.9:
                entries.remove(next(iter(entries.data.values())))
            else:
                victim = entries.order.victim()
                if victim is not None:
                    assert entries.data[victim.key] is victim
                    entries.remove(victim)
        left = len(entries.data)
        calls = 0
        while entries.data:
            calls += 1
            assert calls < 10 * left + 100  # it ends, whatever was touched
            victim = entries.order.victim()
            if victim is not None:
                entries.remove(victim)


@pytest.mark.parametrize("order_class", [LruOrder, S3FifoOrder])
def test_an_order_of_nothing_has_no_victim(order_class):
    entries = Entries(order_class)
    assert [entries.order.victim() for _ in range(3)] == [None] * 3
    entries.add("a")
    found = [entries.order.victim() for _ in range(2)]
    assert "a" in {victim.key for victim in found if victim is not None}


def hit_ratio(policy, trace, size):
    cache = TTLCache(size, policy=policy)
    for key in trace:
        if cache.get(key) is None:
            cache[key] = True
    return cache.statistics().hit_ratio


def test_s3fifo_answers_more_reads_than_lru_when_scans_pass_through():
    rnd = random.Random(1)
    trace = []
    for start in range(0, 10_000, 1000):
        trace += [int(rnd.paretovariate(0.8)) % 2000 for _ in range(3000)]
        trace += range(100_000 + start, 101_000 + start)
    assert hit_ratio("s3fifo", trace, 200) > hit_ratio("lru", trace, 200) + 0.01


def test_a_key_that_comes_back_soon_after_its_eviction_enters_the_main_queue():
    cache = TTLCache(100, policy="s3fifo")
    for key in range(150):
        cache[key] = key
    assert 40 not in cache
    cache[40] = 40
    for key in range(1000, 1400):
        cache[key] = key
    assert 40 in cache  # a newcomer would have been gone after ten others


def test_the_ghosts_of_s3fifo_shrink_with_the_cache():
    cache = TTLCache(2000, policy="s3fifo")
    for number in range(8000):
        cache[number] = number
    assert len(cache._evict_order._ghosts) > 1000
    cache.resize(10)
    for number in range(100):
        cache[number] = number
    assert len(cache._evict_order._ghosts) <= 10
