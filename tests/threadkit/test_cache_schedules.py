"""Races of the cache under the deterministic scheduler: every outcome is one of some sequence."""

from __future__ import annotations

import math

import pytest

from threadkit import LoadCycle, LoadTimeout, TTLCache
from threadkit.testing import ScheduleFailed, explore

# Where threads may be pre-empted between lines, besides at every lock.
CODE = [
    "threadkit._cache._ttl",
    "threadkit._cache._store",
    "threadkit._cache._holding",
    "threadkit._cache._loading",
    "threadkit._cache._boarding",
    "threadkit._cache._lru",
]
SEEDS = 150


def race(sim, *calls):
    """Run `calls` at the same time; their results or errors, in order."""
    results = [None] * len(calls)

    def run(index, call):
        try:
            results[index] = call()
        except Exception as exc:
            results[index] = exc

    threads = [sim.thread(run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def make(sim, maxsize=4, ttl=10, **arguments):
    cache = TTLCache(maxsize, ttl, runtime=sim, sweep_interval=math.inf, **arguments)
    if not arguments:  # the first put of a cache takes the lock; the later ones shall be seen here
        cache["warm"] = 1
        del cache["warm"]
    return cache


def consistent(cache, maxsize):
    entries = list(cache._entries.values())
    assert len(entries) <= maxsize
    assert all(cache._entries[entry.key] is entry for entry in entries)
    assert cache._depth == 0
    assert not cache._removed
    assert not cache._flights


def test_puts_of_new_keys_without_the_lock_each_evict_one():
    def scenario(sim):
        cache = make(sim, 3)
        for key in "abc":
            cache[key] = key
        race(sim, *[lambda key=key: cache.put(key, key) for key in "xyz"], lambda: cache.get("c"))
        consistent(cache, 3)
        assert all(cache.peek(key, key) == key for key in "abcxyz")
        assert cache.statistics().evicted == 6 - len(cache)
        # Puts that meet may each make room for the other too; never is there one too many.
        assert 1 <= len(cache) <= 3

    explore(scenario, SEEDS, preempt=CODE)


def test_put_against_put_of_one_key_keeps_one_of_both():
    def scenario(sim):
        cache = make(sim)
        race(sim, lambda: cache.put("a", 1), lambda: cache.put("a", 2))
        assert cache["a"] in {1, 2}
        assert cache.statistics().replaced == 1
        consistent(cache, 4)

    explore(scenario, SEEDS, preempt=CODE)


def test_put_against_clear_is_one_before_the_other():
    def scenario(sim):
        cache = make(sim)
        cache["old"] = 1
        race(sim, lambda: cache.put("a", 1), cache.clear)
        assert "old" not in cache
        numbers = cache.statistics()
        assert numbers.cleared + len(cache) == 2
        consistent(cache, 4)

    explore(scenario, SEEDS, preempt=CODE)


def test_each_removal_is_heard_once_with_values_in_conservation():
    def scenario(sim):
        heard = []
        cache = make(sim, 2, on_remove=lambda *event: heard.append(event))
        cache["a"] = 0
        race(
            sim,
            lambda: cache.put("a", 1),
            lambda: [cache.put("b", 2), cache.put("c", 3)],
            lambda: cache.pop("a", None),
            lambda: cache.resize(1),
        )
        left = dict(cache)
        consistent(cache, 1)
        assert sorted([value for _key, value, _cause in heard] + list(left.values())) == [
            0,
            1,
            2,
            3,
        ]

    explore(scenario, SEEDS, preempt=CODE)


def test_weights_add_up_whatever_races():
    def scenario(sim):
        cache = make(sim, 10, weigher=lambda _key, value: value)
        cache["a"] = 3
        race(
            sim,
            lambda: [cache.put("a", 5), cache.put("b", 4)],
            lambda: [cache.pop("a", None), cache.put("a", 2)],
            lambda: [cache.put("a", 7), cache.clear()],
        )
        assert cache.statistics().weight == sum(dict(cache).values()) <= 10
        consistent(cache, 10)

    explore(scenario, SEEDS, preempt=CODE)


def test_a_read_at_the_deadline_finds_it_or_not_and_it_expires_once():
    def scenario(sim):
        heard = []
        cache = make(sim, ttl=5, on_remove=lambda *event: heard.append(event))
        cache["a"] = 1
        sim.advance(4.5)

        def later():
            sim.sleep(0.5)
            return cache.get("a")

        results = race(sim, lambda: cache.get("a"), later, later)
        assert results[1:] == [None, None]
        assert heard == [("a", 1, "expired")]

    explore(scenario, SEEDS, preempt=CODE)


def test_idle_reads_from_two_threads_keep_it_alive():
    def scenario(sim):
        cache = make(sim, ttl=None, idle=2)
        cache["a"] = 1

        def read(offset):
            sim.sleep(offset)
            return [(sim.sleep(1), cache.get("a"))[1] for _ in range(4)]

        assert race(sim, lambda: read(0), lambda: read(0.5)) == [[1] * 4] * 2
        sim.sleep(2.5)
        assert cache.get("a") is None

    explore(scenario, SEEDS, preempt=CODE)


def test_a_load_runs_once_for_all_who_meet_it():
    def scenario(sim):
        cache = make(sim)
        calls = []

        def loader(key):
            calls.append(key)
            sim.sleep(1)
            return len(calls)

        assert race(sim, *[lambda: cache.load("a", loader)] * 3) == [1, 1, 1]
        assert calls == ["a"]
        consistent(cache, 4)

    explore(scenario, SEEDS, preempt=CODE)


def test_what_a_put_without_the_lock_wrote_is_not_overwritten_by_an_older_load():
    def scenario(sim):
        cache = make(sim)
        database = ["old"]

        def loader(_key):
            value = database[0]
            sim.sleep(1)
            return value

        def write():
            sim.sleep(0.5)  # after the loader looked, before it returned; or before either
            database[0] = "new"
            cache["a"] = "new"

        race(sim, lambda: cache.load("a", loader), write)
        assert cache["a"] == "new"
        consistent(cache, 4)

    explore(scenario, SEEDS, preempt=CODE, stall_ratio=0.1)


def test_a_put_that_meets_the_beginning_of_a_load_wins_over_it():
    def scenario(sim):
        cache = make(sim)
        results = race(
            sim,
            lambda: cache.load("a", lambda _key: sim.sleep(1) or "loaded"),
            lambda: cache.put("a", "put"),
        )
        assert results[0] in {"loaded", "put"}
        # The put may come before the load began, or after it ended; never is it undone by it.
        assert cache["a"] == "put"
        consistent(cache, 4)

    explore(scenario, 2 * SEEDS, preempt=CODE)


def test_a_clear_or_delete_during_a_load_keeps_its_result_out():
    def scenario(sim):
        cache = make(sim)
        database = ["old"]

        def loader(_key):
            value = database[0]
            sim.sleep(1)
            return value

        def change():
            sim.sleep(0.5)
            database[0] = "new"
            (cache.clear if sim.seed % 3 else lambda: cache.pop("a", None))()

        race(sim, lambda: cache.load("a", loader), change, lambda: cache.load("a", loader))
        assert cache.load("a", loader) == "new"
        consistent(cache, 4)

    explore(scenario, SEEDS, preempt=CODE, stall_ratio=0.1)


def test_errors_interrupts_and_timeouts_leave_no_flight_behind():
    def scenario(sim):
        cache = make(sim)
        calls = []

        def loader(_key):
            calls.append(1)
            sim.sleep(1)
            if len(calls) == 1:
                raise ValueError("down")
            return 5

        results = race(
            sim,
            lambda: cache.load("a", loader),
            lambda: cache.load("a", loader, timeout=0.5),
            lambda: cache.load("a", loader),
        )
        assert all(
            result == 5 or isinstance(result, (ValueError, LoadTimeout)) for result in results
        )
        consistent(cache, 4)

    explore(scenario, SEEDS, preempt=CODE, stall_ratio=0.1)


def test_no_schedule_of_loads_in_a_circle_hangs():
    def scenario(sim):
        cache = make(sim)

        def loader_of(other):
            return lambda _key: (sim.sleep(1), cache.load(other, lambda _key: other))[1]

        results = race(
            sim,
            lambda: cache.load("a", loader_of("b")),
            lambda: cache.load("b", loader_of("c")),
            lambda: cache.load("c", loader_of("a")),
        )
        assert all(isinstance(result, LoadCycle) or result in {"a", "b", "c"} for result in results)
        consistent(cache, 4)

    explore(scenario, SEEDS, preempt=["threadkit._cache._loading", "threadkit._cache._boarding"])


def test_refreshing_ahead_runs_one_reload_and_never_serves_past_the_deadline():
    def scenario(sim):
        cache = make(sim, ttl=10, refresh_after=5)
        calls = []

        def loader(_key):
            calls.append(sim.monotonic())
            sim.sleep(2)
            return len(calls)

        cache.load("a", loader)
        sim.advance(6)
        assert race(sim, *[lambda: cache.load("a", loader)] * 3) == [1, 1, 1]
        sim.sleep(5)
        assert cache.load("a", loader) == 2
        assert len(calls) == 2
        assert not cache._flights

    explore(scenario, SEEDS, preempt=CODE)


def test_the_sweeper_expires_what_nobody_reads_while_others_write():
    def scenario(sim):
        heard = []
        cache = TTLCache(
            50, 5, sweep_interval=1, runtime=sim, on_remove=lambda *event: heard.append(event)
        )
        for number in range(5):
            cache[number] = number
        cache.put("long", 1, ttl=100)
        sim.sleep(3)
        cache["late"] = 1
        sim.sleep(20)
        assert sorted(str(key) for key, _value, _cause in heard) == [*"01234", "late"]
        assert {cause for _key, _value, cause in heard} == {"expired"}
        assert list(cache._entries) == ["long"]

    parts = ["_sweeper", "_store", "_holding"]
    explore(scenario, SEEDS, preempt=[f"threadkit._cache.{part}" for part in parts])


def puts_during_a_load(sim, cache):
    """A put of a key that is loading, which is evicted before the load lands."""
    race(
        sim,
        lambda: cache.load("a", lambda _key: sim.sleep(1) or "loaded"),
        lambda: (sim.sleep(0.5), cache.put("a", "put"), cache.put("b", 1), cache.put("c", 1)),
    )
    assert cache.get("a", "put") == "put"


def test_a_put_during_a_load_wins_even_if_it_was_evicted_before_the_load_lands():
    explore(lambda sim: puts_during_a_load(sim, make(sim, 2)), SEEDS, preempt=CODE)


def test_the_harness_sees_a_cache_whose_put_looks_for_flights_only_once():
    """A check that cannot fail is worth nothing: with the second look taken out, a seed fails."""

    class Blind(dict):
        """Flights that nobody sees the first time they look after a put entered its value."""

        def __bool__(self):
            return False

    def scenario(sim):
        cache = make(sim, 2)
        cache._flights = Blind()
        puts_during_a_load(sim, cache)

    with pytest.raises(ScheduleFailed):
        explore(scenario, SEEDS, preempt=CODE)


def test_a_load_that_lands_never_overwrites_a_put_that_came_after_it_began():
    def scenario(sim):
        cache = make(sim)
        race(
            sim,
            lambda: cache.load("a", lambda _key: "loaded"),
            lambda: cache.put("a", "put"),
        )
        began_after = cache.statistics().loads == 0 or cache["a"] == "put"
        assert began_after

    explore(scenario, 6 * SEEDS, preempt=CODE)


def test_setdefault_returns_what_is_kept():
    def scenario(sim):
        cache = make(sim)
        given, _ = race(sim, lambda: cache.setdefault("a", 1), lambda: cache.put("a", 2))
        assert given in {1, 2}
        assert cache["a"] == 2  # the put is first and kept, or comes second and overwrites

    explore(scenario, 4 * SEEDS, preempt=CODE)


def test_pop_returns_each_value_that_is_put_once_and_loses_none():
    def scenario(sim):
        cache = make(sim)
        cache["a"] = 0
        popped, _ = race(
            sim, lambda: cache.pop("a"), lambda: (cache.put("a", 1), cache.put("a", 2))
        )
        left = cache.peek("a")
        numbers = cache.statistics()
        assert popped in {0, 1, 2}  # there was a value at every moment
        assert left == (None if popped == 2 else 2)  # neither lost nor popped and still there
        assert numbers.replaced + numbers.deleted + (left is not None) == 3 + 1  # "warm" was one

    explore(scenario, 4 * SEEDS, preempt=CODE)


def test_a_victim_that_is_removed_or_renewed_meanwhile_leaves_once():
    """Puts into a full cache take the oldest out without the lock; others reach for it too."""

    def scenario(sim):
        cache = make(sim, 3)
        for key in "abcd":
            cache[key] = key  # now full, and "b" is the oldest
        popped, *_ = race(
            sim,
            lambda: cache.pop("b", None),
            lambda: cache.put("x", "x"),
            lambda: cache.put("b", "again"),
        )
        assert popped in {"b", "again", None}
        numbers = cache.statistics()
        gone = numbers.evicted + numbers.deleted + numbers.replaced
        assert gone + len(cache) == 1 + 4 + 2  # "warm" was one
        consistent(cache, 3)

    explore(scenario, 4 * SEEDS, preempt=CODE)


def test_a_put_whose_entry_is_gone_already_says_nothing_of_the_next_to_expire():
    def scenario(sim):
        cache = TTLCache(3, 10, runtime=sim, sweep_interval=math.inf)
        race(sim, lambda: cache.put("a", 1), lambda: cache.pop("a", None))
        assert cache._earliest > 0

    explore(scenario, SEEDS, preempt=CODE)


def test_two_who_pop_an_item_each_get_one_as_long_as_there_are_any():
    def scenario(sim):
        cache = make(sim)
        cache.update(a=1, b=2)
        results = race(sim, cache.popitem, cache.popitem)
        assert sorted(results) == [("a", 1), ("b", 2)]

    explore(scenario, seeds=SEEDS, preempt=CODE)


def test_a_value_never_lives_by_the_deadline_of_another():
    """A put without the lock meets one with a ttl of its own: the two do not mix."""

    def scenario(sim):
        cache = make(sim, ttl=100)
        cache["a"] = 0
        race(sim, lambda: cache.put("a", "long"), lambda: cache.put("a", "short", ttl=5))
        sim.advance(10)
        assert cache.get("a") in {None, "long"}
        assert (cache.peek("a") == "long") == ("a" in cache)

    explore(scenario, 4 * SEEDS, preempt=CODE)


def test_a_put_against_clear_is_swept_and_counted_all_the_same():
    def scenario(sim):
        cache = make(sim)
        race(sim, lambda: cache.put("a", 1), cache.clear)
        sim.advance(11)
        assert len(cache) == 0
        assert list(cache) == []

    explore(scenario, 2 * SEEDS, preempt=CODE)


def test_a_put_while_a_sweep_looks_what_expires_next_is_expired_in_time():
    def scenario(sim):
        cache = make(sim)
        cache.put("day", 1, ttl=86_400)
        cache._earliest = 5.0  # as after something that was to expire then
        race(sim, lambda: cache.put("a", 1), cache._sweep)
        sim.advance(11)
        assert len(cache) == 1
        assert list(cache) == ["day"]

    explore(scenario, 2 * SEEDS, preempt=CODE)


def test_items_and_values_never_meet_a_key_that_is_gone():
    def scenario(sim):
        cache = make(sim)
        cache["a"], cache["b"] = 1, 2
        results = race(
            sim,
            lambda: list(cache.items()),
            lambda: list(cache.values()),
            lambda: cache.pop("b"),
            cache.clear,
        )
        assert results[0] in ([("a", 1), ("b", 2)], [("a", 1)], [("b", 2)], [])
        assert results[1] in ([1, 2], [1], [2], [])
        assert cache.statistics().hits == 0

    explore(scenario, SEEDS, preempt=CODE)


def test_invalidate_if_spares_a_value_put_after_it_looked():
    def scenario(sim):
        cache = make(sim)
        cache["a"] = "stale"

        def is_stale(_key, value):
            sim.sleep(1)
            return value == "stale"

        race(
            sim,
            lambda: cache.invalidate_if(is_stale),
            lambda: (sim.sleep(0.5), cache.put("a", "fresh")),
        )
        assert cache["a"] == "fresh"

    explore(scenario, SEEDS, preempt=CODE)
