"""TTLCache as a mapping: what it keeps, for how long, whom it evicts, whom it tells."""

from __future__ import annotations

import functools
import gc
import itertools
import math
import random
import sys
import threading
import weakref
from collections import OrderedDict
from fractions import Fraction

import pytest

from threadkit import RemovalCause, TTLCache
from threadkit._cache._entry import Entry
from threadkit.testing import FakeClock, SimRuntime

POLICIES = pytest.mark.parametrize("policy", ["lru", "s3fifo"])


@pytest.fixture
def clock():
    return FakeClock(100.0)


def heard_by(cache_arguments):
    """A cache that notes what its listener hears."""
    heard = []
    cache = TTLCache(on_remove=lambda *event: heard.append(event), **cache_arguments)
    return cache, heard


# -- a mapping ------------------------------------------------------------------------------


@POLICIES
def test_it_is_a_mutable_mapping(policy):
    cache = TTLCache(10, 60, policy=policy)
    cache["a"] = 1
    cache.update(b=2, c=3)
    assert cache == {"a": 1, "b": 2, "c": 3}
    assert dict(cache) == {"a": 1, "b": 2, "c": 3}
    assert (cache["a"], cache.get("x"), cache.get("x", 7)) == (1, None, 7)
    assert ("a" in cache, "x" in cache, len(cache)) == (True, False, 3)
    assert (cache.setdefault("a", 9), cache.setdefault("d", 9)) == (1, 9)
    assert (cache.pop("d"), cache.pop("d", 5)) == (9, 5)
    del cache["c"]
    assert sorted(cache.items()) == [("a", 1), ("b", 2)]
    cache.clear()
    assert not cache
    assert cache == {}


def test_none_is_a_value_like_any_other():
    cache = TTLCache(10)
    cache["a"] = None
    assert "a" in cache
    assert cache.get("a", 5) is None
    assert cache["a"] is None
    assert cache.setdefault("a", 5) is None
    assert cache.load("a", lambda _key: pytest.fail("it is there")) is None


@pytest.mark.parametrize("missing", [lambda c: c["x"], lambda c: c.pop("x"), lambda c: c.popitem()])
def test_what_is_not_there_is_a_key_error(missing):
    with pytest.raises(KeyError):
        missing(TTLCache(10))


def test_popitem_takes_the_least_recently_used():
    cache = TTLCache(10)
    cache.update(a=1, b=2, c=3)
    cache["a"]
    assert [cache.popitem(), cache.popitem(), cache.popitem()] == [("b", 2), ("c", 3), ("a", 1)]


def test_iteration_is_not_disturbed_by_changes():
    cache = TTLCache(10)
    cache.update(a=1, b=2, c=3)
    for key in cache:
        del cache[key]
    assert not cache


def test_get_many_returns_what_is_there():
    cache = TTLCache(10)
    cache.update(a=1, b=2)
    assert cache.get_many(["a", "x", "b"]) == {"a": 1, "b": 2}
    assert (cache.statistics().hits, cache.statistics().misses) == (2, 1)


def test_keys_of_equal_hash_do_not_evict_one_another():
    # theine keeps them in one place
    class Key:
        def __init__(self, name):
            self.name = name

        def __hash__(self):
            return 7

        def __eq__(self, other):
            return self.name == other.name

    cache = TTLCache(10, 60)
    for name in "abcde":
        cache[Key(name)] = name
    assert [cache[Key(name)] for name in "abcde"] == list("abcde")


def test_an_unhashable_key_is_a_type_error_and_changes_nothing():
    cache = TTLCache(10)
    for call in (cache.get, cache.pop, lambda key: cache.put(key, 1), lambda key: key in cache):
        with pytest.raises(TypeError):
            call([])
    cache["a"] = 1
    assert cache["a"] == 1


# -- arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"maxsize": 0}, ValueError, "maxsize"),
        ({"maxsize": -1}, ValueError, "maxsize"),
        ({"maxsize": math.nan}, ValueError, "maxsize"),
        ({"maxsize": "10"}, TypeError, "maxsize"),
        ({"maxsize": True}, TypeError, "maxsize"),
        ({"ttl": 0}, ValueError, "ttl"),
        ({"ttl": -1.0}, ValueError, "ttl"),
        ({"ttl": math.nan}, ValueError, "ttl"),
        ({"ttl": "1"}, TypeError, "ttl"),
        ({"idle": 0}, ValueError, "idle"),
        ({"weigher": 1}, TypeError, "weigher"),
        ({"policy": "fifo"}, ValueError, "policy"),
        ({"sweep_interval": 0}, ValueError, "sweep_interval"),
        ({"on_remove": "print"}, TypeError, "on_remove"),
        ({"refresh_after": 0}, ValueError, "refresh_after"),
        ({"stale_if_error": -1}, ValueError, "stale_if_error"),
        ({"negative_ttl": "x"}, TypeError, "negative_ttl"),
        ({"clock": 5}, TypeError, "clock"),
    ],
)
def test_a_bad_argument_is_named(arguments, error, name):
    with pytest.raises(error, match=name):
        TTLCache(**{"maxsize": 10, **arguments})


def test_bad_arguments_of_methods_are_named():
    cache = TTLCache(10)
    for call, error, name in [
        (lambda: cache.put("a", 1, ttl=0), ValueError, "ttl"),
        (lambda: cache.put("a", 1, idle="x"), TypeError, "idle"),
        (lambda: cache.resize(0), ValueError, "maxsize"),
        (lambda: cache.set_ttl(-1), ValueError, "ttl"),
        (lambda: cache.load("a", None), TypeError, "loader"),
        (lambda: cache.load("a", str, timeout=0), ValueError, "timeout"),
        (lambda: cache.invalidate_if(1), TypeError, "predicate"),
    ]:
        with pytest.raises(error, match=name):
            call()
    assert not cache


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, 10**400, "1", None, True])
def test_a_weigher_that_returns_nonsense_is_an_error_and_keeps_nothing(weight):
    cache = TTLCache(10, weigher=lambda _key, _value: weight)
    with pytest.raises((ValueError, TypeError), match="weigh"):
        cache["a"] = 1
    assert "a" not in cache


def test_infinity_is_allowed_everywhere(clock):
    # cachebox aborts the process on an infinite ttl
    cache = TTLCache(math.inf, math.inf, idle=math.inf, sweep_interval=math.inf, clock=clock)
    cache.put("a", 1, ttl=math.inf, idle=math.inf)
    clock.advance(1e12)
    assert cache["a"] == 1
    assert cache.expires_at("a") == math.inf


# -- expiry ---------------------------------------------------------------------------------


@POLICIES
def test_an_entry_lives_for_its_ttl_and_not_a_moment_longer(clock, policy):
    cache = TTLCache(10, 5, clock=clock, policy=policy)
    cache["a"] = 1
    clock.advance(4.999)
    assert cache["a"] == 1
    clock.advance(0.001)
    assert cache.get("a") is None
    assert "a" not in cache
    assert list(cache) == []
    assert len(cache) == 0


def test_reading_does_not_prolong_the_ttl_but_writing_does(clock):
    cache = TTLCache(10, 5, clock=clock)
    cache["a"] = 1
    cache["b"] = 1
    clock.advance(4)
    assert cache["a"] == cache["b"] == 1
    cache["b"] = 2
    clock.advance(1)
    assert cache.get_many("ab") == {"b": 2}


def test_an_entry_lives_until_it_is_not_read_for_its_idle_time(clock):
    cache = TTLCache(10, idle=5, clock=clock)
    cache["a"] = cache["b"] = 1
    for _ in range(5):
        clock.advance(4)
        assert cache.get("a") == 1
    assert "b" not in cache
    clock.advance(5)
    assert "a" not in cache


def test_ttl_and_idle_hold_together_and_per_entry(clock):
    cache = TTLCache(10, 10, idle=4, clock=clock)
    cache.put("own", 1, ttl=100, idle=50)
    cache["usual"] = 1
    for _ in range(3):
        clock.advance(3)
        assert "usual" in cache
        assert cache["usual"] == 1
    clock.advance(1)
    assert "usual" not in cache  # read a second ago, but ten seconds old
    clock.advance(30)
    assert cache["own"] == 1
    clock.advance(50)
    assert "own" not in cache


def test_peeking_is_not_reading(clock):
    cache = TTLCache(2, idle=5, clock=clock)
    cache["a"] = cache["b"] = 1
    clock.advance(4)
    assert cache.peek("a") == 1
    assert cache["b"] == 1
    clock.advance(1)
    assert cache.peek("a") is None
    assert (cache.statistics().hits, cache.statistics().misses) == (1, 0)


def test_expires_at_touch_and_set_ttl(clock):
    cache = TTLCache(10, 5, clock=clock)
    cache["a"] = 1
    assert cache.expires_at("a") == 105
    assert cache.expires_at("x") is None
    clock.advance(3)
    assert cache.touch("a")
    assert cache.expires_at("a") == 108
    assert cache.touch("a", 100)
    assert cache.expires_at("a") == 203
    assert not cache.touch("x")
    cache.set_ttl(50, idle=20)
    cache["b"] = 1
    assert (cache.ttl, cache.idle) == (50, 20)
    assert (cache.expires_at("a"), cache.expires_at("b")) == (203, 123)
    cache.set_ttl(None)
    cache["c"] = 1
    assert cache.expires_at("c") == math.inf
    clock.advance(1000)
    assert list(cache) == ["c"]


def test_the_clock_is_monotonic_so_setting_the_wall_clock_changes_nothing(monkeypatch):
    # cachebox uses the wall clock
    monkeypatch.setattr("time.time", lambda: pytest.fail("the wall clock was read"))
    cache = TTLCache(10, 60)
    cache["a"] = 1
    assert cache["a"] == 1
    assert len(cache) == 1


def test_len_counts_the_living_only(clock):
    # cachebox counts what expired
    cache = TTLCache(10, 5, clock=clock)
    cache.put("short", 1, ttl=1)
    cache["long"] = 1
    assert len(cache) == 2
    clock.advance(1)
    assert len(cache) == 1
    assert cache.statistics().entries == 2  # one that nobody met yet


def test_the_clock_is_read_once_an_operation():
    reads = []
    seconds = itertools.count()
    cache = TTLCache(2, 60, clock=lambda: reads.append(1) or float(next(seconds)))
    cache["a"] = cache["b"] = 1
    for number, operation in enumerate(
        (
            lambda: cache.get("a"),
            lambda: cache.get("x"),
            lambda: cache.put("a", 2),
            lambda: cache.put("z", 2),
            lambda: cache.pop("z"),
            lambda: cache.touch("a"),
            lambda: cache.peek("a"),
            lambda: len(cache),
            lambda: iter(cache),
            lambda: cache.invalidate_if(lambda _key, _value: False),
        )
    ):
        reads.clear()
        operation()
        assert len(reads) <= 1, number


# -- eviction -------------------------------------------------------------------------------


def test_what_was_read_last_is_evicted_last():
    # cachebox's TTL cache evicts in order of insertion
    cache = TTLCache(3, 60)
    cache.update(a=1, b=2, c=3)
    cache["a"]
    cache["d"] = 4
    assert sorted(cache) == ["a", "c", "d"]
    assert (cache.coldest(2), cache.hottest(2)) == (["c", "a"], ["d", "a"])


@pytest.mark.parametrize("listening", [True, False])
def test_the_order_is_exactly_that_of_a_reference_lru(listening):
    for seed in range(20):
        rnd = random.Random(seed)
        size = rnd.choice([1, 2, 7, 50, 300])
        cache = TTLCache(size, 1e9, on_remove=(lambda *_event: None) if listening else None)
        reference = OrderedDict()
        for _ in range(4000):
            key = int(rnd.paretovariate(0.6)) % (4 * size)
            if rnd.random() < 0.5:
                assert cache.get(key) == reference.get(key)
                if key in reference:
                    reference.move_to_end(key)
            elif rnd.random() < 0.1:
                assert cache.pop(key, None) == reference.pop(key, None)
            else:
                cache[key] = reference[key] = rnd.random()
                reference.move_to_end(key)
                if len(reference) > size:
                    reference.popitem(last=False)
            assert len(cache) == len(reference)
        assert dict(cache) == reference


def test_a_large_cache_evicts_exactly_too_though_it_sorts_in_slices():
    size = 20_000
    cache = TTLCache(size, 1e9)
    reference = OrderedDict()
    for key in range(size):
        cache[key] = reference[key] = key
    rnd = random.Random(5)
    for _ in range(3):
        keys = list(reference)
        rnd.shuffle(keys)
        for key in keys[: rnd.randrange(size)]:
            assert cache.get(key) == key
            reference.move_to_end(key)
        for _ in range(rnd.randrange(size)):
            key = len(reference) + rnd.getrandbits(60)
            cache[key] = reference[key] = key
            reference.popitem(last=False)
            if rnd.random() < 0.001:
                assert len(cache) == size
        assert sorted(cache) == sorted(reference)


def test_the_work_of_one_put_is_bounded_when_everything_was_touched():
    """No put looks at more than a slice of a large cache, however much was touched before it."""
    from threadkit._cache import _lru

    class Touched:
        looks = 0

        @property
        def touched_at(self):
            Touched.looks += 1
            return self.stamp

        fresh_until = math.inf
        stamp = 0.0

    entries = [Touched() for _ in range(100_000)]
    for number, entry in enumerate(entries):
        entry.stamp = float(number)
    clock = FakeClock()
    order = _lru.LruOrder(dict(enumerate(entries)), clock)
    worst = 0
    victims = []
    for now in (1e6, 3e6):
        clock.set(now)
        for _ in range(300):
            Touched.looks = 0
            victim = order.victim()
            worst = max(worst, Touched.looks)
            if victim is not None:
                victims.append(entries.index(victim))
                victim.fresh_until = -math.inf
        for number, entry in enumerate(entries):
            entry.stamp = 2e6 + number  # all were touched since the order was found
    assert len(victims) > 200
    assert victims == list(range(len(victims)))  # the oldest, each time
    assert worst <= 4 * _lru.SLICE


@pytest.mark.parametrize("fate", ["boundary", "many", "finalizer"])
def test_the_order_is_exact_though_the_entries_are_copied_in_two_calls(fate):
    """What leaves between the calls hides nobody, though the other half is copied backwards."""
    from threadkit._cache import _lru

    class Faulty(dict):
        is_changed = fate == "finalizer"  # by a finalizer, while an iterator is made

        def values(self):
            if Faulty.is_changed:
                Faulty.is_changed = False
                return iter_of_changed()
            return super().values()

    def iter_of_changed():
        changed = {1: 1}
        for _ in changed:
            changed[2] = 2
            yield

    size = 10 * _lru.SLICE
    entries = Faulty()
    ages = random.Random(3).sample(range(size), size)
    for number, age in enumerate(ages):
        entry = Entry()
        entry.key, entry.touched_at, entry.fresh_until = number, float(age), math.inf
        entries[number] = entry
    order = _lru.LruOrder(entries, FakeClock(1e6))
    assert order.victim() is None  # the first half is copied
    middle = size // 2
    for number in {
        "boundary": [middle - 1],
        "many": range(100, 100 + 2 * _lru.SLICE),
        "finalizer": [],
    }[fate]:
        del entries[number]
    left = sorted(ages[number] for number in entries)
    found = []
    while entries:
        victim = order.victim()
        if victim is not None and victim.key in entries:
            found.append(victim.touched_at)
            del entries[victim.key]
            victim.fresh_until = -math.inf
    assert found == left


def test_a_surplus_is_small_and_nobody_sees_it():
    size = 10_000
    cache = TTLCache(size)
    for key in range(size):
        cache[key] = key
    for key in range(size):
        cache.get(key)
    most = 0
    for key in range(size, size + 300):
        cache[key] = key
        most = max(most, len(cache._entries))
    assert size < most <= size * 65 / 64
    assert len(cache) == size
    assert list(cache) == list(range(300, size + 300))
    for key in range(300, size + 300):
        cache.get(key)
    for key in range(size + 300, size + 800):
        cache[key] = key
    assert len(cache._entries) == size  # and it is gone without anybody's looking


@POLICIES
def test_weights_count_against_the_bound(policy):
    cache, heard = heard_by(
        {"maxsize": 100, "weigher": lambda _key, value: len(value), "policy": policy}
    )
    cache["a"] = "x" * 60
    cache["b"] = "x" * 40
    assert cache.currsize == 100
    cache["c"] = "x" * 1
    assert cache.currsize == 41
    assert heard == [("a", "x" * 60, RemovalCause.EVICTED)]
    cache["b"] = "x" * 100
    assert list(cache) == ["b"]
    assert cache.statistics().weight == cache.currsize == 100


@pytest.mark.parametrize("size", [1.0, 0.3, 10**9, 2**50, 1e-300, 5e-324, math.inf])
@POLICIES
def test_weights_that_are_fractions_add_up_exactly(policy, size):
    """Floats added one by one drift, and a cache that is empty does not weigh 0."""
    draw = random.Random(1)
    unit = 100.0 if size == math.inf else size
    cache = TTLCache(size, weigher=lambda _key, value: value, policy=policy)

    def check():
        exact = sum(map(Fraction, (entry.weight for entry in cache._entries.values())))
        assert cache.currsize == exact
        tracker = cache._tracker
        if tracker is not None:
            assert Fraction(tracker._small_weight) + Fraction(tracker._main_weight) == exact

    for step in range(3000):
        key, chance = draw.randrange(8), draw.random()
        if chance < 0.85:
            weights = [0.1 * unit, 0.3 * unit, unit / 3, unit / 7, draw.random() * unit, 0.0]
            cache.put(key, draw.choice(weights))
        elif chance < 0.95:
            cache.pop(key, None)
        elif size != math.inf:
            cache.resize(max(size * draw.choice([1, 1, 100, 1 / 3]), 5e-324))
        if step % 10 == 0:
            check()
    for key in range(8):
        cache.pop(key, None)
    assert cache.currsize == 0


def test_ten_tenths_fit_into_one_and_whole_numbers_stay_what_they_are():
    cache = TTLCache(1.0, weigher=lambda _key, value: value)
    for key in range(10):
        cache[key] = 0.1
    assert len(cache) == 10
    assert cache.currsize == pytest.approx(1)
    large = TTLCache(10**30, weigher=lambda _key, value: value)
    large["a"], large["b"] = 10**29 + 1, 7
    assert large.currsize == 10**29 + 8


def test_an_oversized_value_is_rejected_and_takes_the_old_one_along():
    cache, heard = heard_by({"maxsize": 10, "weigher": lambda _key, value: value})
    cache["a"] = 5
    cache["b"] = 5
    cache["a"] = 11
    assert dict(cache) == {"b": 5}
    assert heard == [("a", 5, "replaced"), ("a", 11, "rejected")]
    assert (cache.statistics().rejected, cache.statistics().evicted) == (1, 0)


@pytest.mark.parametrize(
    "make_room",
    [
        lambda cache, _clock: cache.pop(7),
        lambda cache, _clock: cache.invalidate_if(lambda key, _value: key == 7),
        lambda cache, _clock: cache.resize(5),
        lambda cache, _clock: cache.clear(),
        lambda cache, clock: (cache.touch(7, ttl=1), clock.advance(2), cache.get(7)),
    ],
)
def test_room_that_was_made_is_used_before_anybody_is_evicted(clock, make_room):
    cache = TTLCache(4, 60, clock=clock)
    for number in range(10):
        cache.put(number, number)
    assert sorted(cache) == [6, 7, 8, 9]
    make_room(cache, clock)
    before = set(cache)
    cache.put("new", 1)
    assert set(cache) == {*before, "new"}
    assert cache.statistics().evicted == 6
    for number in range(10, 20):
        cache.put(number, number)
    assert sorted(cache) == list(range(20 - int(cache.maxsize), 20))


def test_a_full_cache_notices_that_what_is_put_expires_first(clock):
    cache = TTLCache(4, 60, clock=clock)
    for number in range(10):
        cache.put(number, number)
    cache.set_ttl(5)
    cache.put("short", 1)
    clock.advance(10)
    assert sorted(cache) == [7, 8, 9]
    assert (len(cache), cache.currsize) == (3, 4)  # nobody came to sweep yet
    cache.set_ttl(60)
    cache.put("new", 1)  # makes the very oldest go, though it could have been the one expired
    assert set(cache) == {8, 9, "new"}
    assert cache.statistics().evicted == 8


def test_a_full_cache_notices_what_expires_first_after_a_sweep_too():
    sim = SimRuntime(seed=1)

    def scenario():
        cache = TTLCache(3, 10, runtime=sim, sweep_interval=1)
        for key in "abc":
            cache.put(key, key, ttl=1000)
        cache.put("d", "d")
        cache.put("d", "d", ttl=1000)
        sim.sleep(100)
        cache.put("short", 1)
        sim.sleep(10.5)  # expired, and not swept yet
        assert len(cache) == 2

    sim.run(scenario)


def test_puts_into_a_full_cache_count_what_expired_as_expired(clock):
    cache = TTLCache(4, 60, clock=clock)
    for number in range(10):
        cache.put(number, number)
    clock.advance(100)
    for number in range(10, 14):
        cache.put(number, number)
    statistics = cache.statistics()
    assert (statistics.evicted, statistics.expired) == (6, 4)
    assert sorted(cache) == [10, 11, 12, 13]


@POLICIES
def test_resizing_evicts_at_once_and_growing_makes_room(policy):
    cache = TTLCache(10, policy=policy)
    cache.update({number: number for number in range(10)})
    cache.resize(3)
    assert len(cache) == cache.maxsize == 3
    if policy == "lru":
        assert list(cache) == [7, 8, 9]
    cache.resize(20)
    cache.update({number: number for number in range(50, 67)})
    assert len(cache) == 20
    assert cache.statistics().evicted == 7


def test_s3fifo_keeps_what_is_read_through_a_scan():
    cache = TTLCache(100, policy="s3fifo")
    for _ in range(3):
        for key in range(50):
            if cache.get(key) is None:
                cache[key] = key
    for key in range(1000, 3000):
        cache[key] = key
    assert sum(key in cache for key in range(50)) >= 45


def test_s3fifo_does_not_collect_dead_entries_when_nothing_is_evicted():
    cache = TTLCache(1000, policy="s3fifo")
    for number in range(20_000):
        cache[number] = number
        del cache[number]
    order = cache._evict_order
    assert len(order._small) + len(order._main) < 200


@POLICIES
def test_the_values_of_removed_entries_are_freed_at_once(policy):
    class Value:
        pass

    for remove in (
        lambda cache, _key: cache.clear(),
        lambda cache, key: cache.pop(key),
        lambda cache, key: cache.put(key, 1),
        lambda cache, key: cache.invalidate_if(lambda k, _value: k == key),
    ):
        cache = TTLCache(10, 60, policy=policy)
        for number in range(20):
            cache[number] = number  # the policy has an order now, which holds entries
        value = Value()
        alive = weakref.ref(value)
        cache["a"] = value
        for number in range(100, 105):
            cache[number] = number
        assert cache.pop("a") is value
        cache["a"] = value
        cache.get("a")
        cache[200] = 1
        del value
        remove(cache, "a")
        assert alive() is None


# -- removals -------------------------------------------------------------------------------


@POLICIES
def test_the_listener_hears_each_removal_once_with_its_cause(clock, policy):
    cache, heard = heard_by({"maxsize": 3, "ttl": 10, "clock": clock, "policy": policy})
    cache["a"] = 1
    cache["a"] = 2
    cache["b"] = 1
    del cache["b"]
    cache.put("c", 1, ttl=1)
    clock.advance(1)
    cache.get("c")
    cache["d"] = cache["e"] = 1
    cache["f"] = 1
    cache.clear()
    evicted = ("a", 2) if policy == "lru" else ("d", 1)  # to S3-FIFO a write is a read
    assert heard[:4] == [
        ("a", 1, "replaced"),
        ("b", 1, "deleted"),
        ("c", 1, "expired"),
        (*evicted, "evicted"),
    ]
    left = {("a", 2), ("d", 1), ("e", 1), ("f", 1)} - {evicted}
    assert sorted(heard[4:]) == [(*entry, "cleared") for entry in sorted(left)]
    numbers = cache.statistics()
    assert (numbers.replaced, numbers.deleted, numbers.expired) == (1, 1, 1)
    assert (numbers.evicted, numbers.cleared, numbers.rejected) == (1, 3, 0)


def test_what_is_past_its_deadline_expired_whoever_removes_it(clock):
    cache, heard = heard_by({"maxsize": 2, "ttl": 5, "clock": clock, "sweep_interval": math.inf})
    cache["evicted"] = cache["replaced"] = 1
    clock.advance(5)
    cache["new"] = 1
    cache["replaced"] = 2
    cache.put("cleared", 1, ttl=1)
    clock.advance(1)
    cache.clear()
    assert [(key, str(cause)) for key, _value, cause in heard[:2]] == [
        ("evicted", "expired"),
        ("replaced", "expired"),
    ]
    assert ("cleared", 1, "expired") in heard


def test_the_listener_runs_outside_the_lock():
    def listen(key, _value, _cause):
        def other():
            cache.put(("from", key), 1)
            done.set()

        thread = threading.Thread(target=other)
        done = threading.Event()
        thread.start()
        heard.append(done.wait(5))  # another thread gets the lock while we are told
        thread.join()

    heard = []
    cache = TTLCache(1000, on_remove=listen)
    cache["a"] = 1
    del cache["a"]
    cache["b"] = 1
    cache["b"] = 2
    cache.clear()
    assert all(heard)
    assert len(heard) >= 3


def test_a_listener_that_raises_is_logged_and_counted_and_hurts_nobody(caplog):
    def listen(_key, _value, _cause):
        raise RuntimeError("deaf")

    cache = TTLCache(1, on_remove=listen, name="rooms")
    cache["a"] = 1
    cache["b"] = 2
    assert dict(cache) == {"b": 2}
    assert cache.statistics().listener_errors == 1
    assert "rooms" in caplog.text
    assert "deaf" in caplog.text


def test_a_listener_that_exits_takes_no_removal_from_the_others():
    heard, all_heard = [], threading.Event()

    def listen(key, _value, _cause):
        heard.append(key)
        if len(heard) == 5:
            all_heard.set()
        if key == 1:
            raise SystemExit

    cache = TTLCache(10, on_remove=listen)
    cache.update(dict.fromkeys(range(5)))
    with pytest.raises(SystemExit):
        cache.clear()
    assert all_heard.wait(10)  # by the sweeper, though nobody uses the cache any more
    assert heard == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size", [100, 5000])
@POLICIES
def test_a_clock_that_is_set_back_neither_hangs_nor_turns_the_order_round(policy, size):
    now = itertools.count(1000.0)
    set_back = [0.0]
    cache = TTLCache(size, 1e9, clock=lambda: next(now) - set_back[0], policy=policy)
    cache.update(dict.fromkeys(range(size)))
    set_back[0] = 1e6
    cache.put("new", 1)
    cache.resize(size // 2)
    assert len(cache) == size // 2
    if policy == "lru":
        assert set(cache) == {*range(size // 2 + 1, size), "new"}


def test_causes_are_strings_too():
    assert RemovalCause.EXPIRED == "expired"
    assert str(RemovalCause.EVICTED) == "evicted"


# -- numbers --------------------------------------------------------------------------------


def test_statistics_tell_what_happened(clock):
    cache = TTLCache(2, 60, clock=clock)
    assert cache.statistics().hit_ratio == 0
    cache["a"] = 1
    for _ in range(300):
        cache.get("a")
    cache.get("x")
    assert cache.load("b", lambda _key: clock.advance(2) and 5) == 5
    with pytest.raises(ZeroDivisionError):
        cache.load("c", lambda _key: 1 / 0)
    numbers = cache.statistics()
    assert (numbers.hits, numbers.misses) == (300, 3)
    assert numbers.hit_ratio == pytest.approx(300 / 303)
    assert (numbers.loads, numbers.load_failures, numbers.load_time) == (1, 1, 2)
    assert (numbers.entries, numbers.weight, numbers.maxsize) == (2, 2, 2)
    with pytest.raises(AttributeError):
        numbers.hits = 5


def _interleaved(works, *, patience):
    """Run each on a thread of its own, with threads switched as often as the interpreter can."""
    threads = [threading.Thread(target=work) for work in works]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(patience)
    finally:
        sys.setswitchinterval(interval)


def test_hits_are_counted_exactly_by_threads_under_a_gil():
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip("without a GIL the count is documented to be approximate")
    cache = TTLCache(100, 60)
    cache["a"] = 1

    def read():
        for _ in range(20_000):
            cache.get("a")

    _interleaved([read] * 4, patience=30)
    assert cache.statistics().hits == 80_000


@POLICIES
def test_four_threads_without_a_lock_of_their_own_see_no_error(policy):
    # cachetools raises KeyErrors; lru-dict crashes
    cache = TTLCache(50, 60, policy=policy)
    errors = []

    def work(seed):
        draw = random.Random(seed)
        try:
            for number in range(3000):
                key = draw.randrange(80)
                cache[key] = number
                cache.get(draw.randrange(80))
                cache.pop(draw.randrange(80), None)
                if number % 300 == 0:
                    assert len(list(cache.items())) <= 50
                    cache.popitem()
        except BaseException as exc:
            errors.append(exc)

    _interleaved([functools.partial(work, seed) for seed in range(4)], patience=60)
    assert not errors
    assert len(cache) <= 50


@POLICIES
def test_deleting_looks_at_no_other_key(policy):
    # cachebox looks at all that came before
    class Counting(dict):
        looks = 0

        def __iter__(self):
            Counting.looks += 1
            return super().__iter__()

        def values(self):
            Counting.looks += 1
            return super().values()

    cache = TTLCache(1000, 60, policy=policy)
    cache._begin(Counting())
    cache.update(dict.fromkeys(range(1000)))
    Counting.looks = 0
    for key in range(999, 400, -1):
        del cache[key]
    assert Counting.looks == 0
    assert len(list(cache)) == 401
    assert Counting.looks > 0  # they are seen


def test_repr_shows_the_counts():
    cache = TTLCache(10, 60, name="rooms")
    cache["a"] = 1
    assert repr(cache) == "<TTLCache 'rooms': 1 of 10, ttl=60.0, policy='lru'>"


# -- lifetimes ------------------------------------------------------------------------------


@POLICIES
def test_a_dropped_cache_is_freed_without_the_collector(policy):
    cache = TTLCache(10, 60, policy=policy, on_remove=lambda *_event: None)
    for number in range(30):
        cache[number] = number
    cache.load("a", str)
    gone = weakref.ref(cache)
    gc.disable()
    try:
        del cache
        assert gone() is None
    finally:
        gc.enable()


def test_a_cache_can_be_subclassed():
    class Doubling(TTLCache):
        def put(self, key, value, **limits):
            super().put(key, 2 * value, **limits)

    cache = Doubling(10)
    cache["a"] = 1
    cache.extra = 5
    assert cache["a"] == 2


@pytest.mark.parametrize("name", ["ttl", "idle", "maxsize"])
def test_a_number_beyond_floats_is_infinity(name):
    cache = TTLCache(**{"maxsize": 10, name: 10**400})
    cache["a"] = 1
    assert cache["a"] == 1
    assert cache.maxsize == (math.inf if name == "maxsize" else 10)
    assert cache.expires_at("a") == math.inf
    cache.resize(10**400)
    assert cache.maxsize == math.inf


@pytest.mark.parametrize("method", ["coldest", "hottest"])
def test_a_count_of_keys_is_checked(method):
    cache = TTLCache(10)
    cache["a"] = 1
    assert getattr(cache, method)(0) == []
    with pytest.raises(ValueError, match="n must be 0 or more, not -1"):
        getattr(cache, method)(-1)
    with pytest.raises(TypeError, match="n must be a whole number"):
        getattr(cache, method)(1.5)


def test_looking_at_items_and_values_is_no_read():
    clock = FakeClock()
    cache = TTLCache(3, 10, clock=clock)
    cache.update(a=1, b=2)
    clock.advance(5)
    cache["c"] = 3
    items, values = cache.items(), cache.values()
    assert list(items) == [("a", 1), ("b", 2), ("c", 3)]
    assert list(values) == [1, 2, 3]
    assert cache.statistics().hits == 0
    assert cache.coldest() == ["a"]
    assert len(items) == len(values) == 3
    assert ("a", 1) in items
    assert ("a", 2) not in items
    assert "a" not in items
    assert ("a",) not in items
    assert 3 in values
    assert 4 not in values
    clock.advance(5)
    assert list(items) == [("c", 3)]  # a view, like that of a dict
    assert dict(cache) == cache == {"c": 3}
    assert cache.statistics().misses == 0


def test_removing_a_key_while_iterating_items_is_harmless():
    cache = TTLCache(10)
    cache.update(a=1, b=2)
    for key, value in cache.items():
        assert value
        cache.pop("b" if key == "a" else "a", None)
    assert len(cache) == 1 or len(cache) == 0
    for _value in cache.values():
        cache.clear()
    assert len(cache) == 0
