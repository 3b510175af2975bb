"""Loading: single flight, its errors, cycles and time limits; bulk, refresh, stale and negative."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import math
import sys
import threading
import time
import traceback

import pytest

from threadkit import LoadCycle, LoadTimeout, TTLCache
from threadkit.testing import FakeClock

WAIT = 10  # seconds a test waits for what comes at once


class Gate:
    """A loader that waits to be let through, and counts how often it was called."""

    def __init__(self, outcome=None):
        self.outcome = outcome
        self.calls = 0
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, key):
        self.calls += 1
        self.entered.set()
        assert self.opened.wait(WAIT)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome if self.outcome is not None else f"value of {key}"


def in_threads(*calls):
    """Start `calls`; returns a function that waits for their results or errors, in order."""
    results = [None] * len(calls)

    def run(index, call):
        try:
            results[index] = call()
        except BaseException as exc:
            results[index] = exc

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()

    def join():
        for thread in threads:
            thread.join(WAIT)
            assert not thread.is_alive()
        return results

    return join


def wait_until_joined(cache, key, count):
    """Wait until `count` threads wait for the load of `key`."""
    deadline = time.monotonic() + WAIT
    while cache.statistics().misses < count + 1:
        assert time.monotonic() < deadline
        time.sleep(0)
    assert key in cache._flights


async def until(condition):
    """Let the others run until `condition()`."""
    while not condition():  # noqa: ASYNC110 - nothing tells a test that somebody waits
        await asyncio.sleep(0)


# -- one loader a key -----------------------------------------------------------------------


def test_of_eight_who_ask_one_loads():
    cache = TTLCache(10)
    gate = Gate()
    join = in_threads(*[lambda: cache.load("a", gate)] * 8)
    assert gate.entered.wait(WAIT)
    wait_until_joined(cache, "a", 7)
    gate.opened.set()
    assert join() == ["value of a"] * 8
    assert gate.calls == 1
    assert cache["a"] == "value of a"
    assert cache.statistics().loads == 1


def test_eight_callers_of_a_failing_loader_cost_one_call_and_all_get_its_error():
    cache = TTLCache(10)
    gate = Gate(ValueError("no such room"))
    join = in_threads(*[lambda: cache.load("a", gate)] * 8)
    assert gate.entered.wait(WAIT)
    wait_until_joined(cache, "a", 7)
    gate.opened.set()
    errors = join()
    assert [(type(error), str(error)) for error in errors] == [(ValueError, "no such room")] * 8
    assert gate.calls == 1
    assert "a" not in cache
    assert cache.load("a", lambda _key: 5) == 5  # an error is not kept


def test_the_error_shows_where_the_loader_raised():
    def loader(_key):
        raise ValueError("deep inside")

    with pytest.raises(ValueError, match="deep inside") as caught:
        TTLCache(10).load("a", loader)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "loader"


def test_a_loader_that_raises_once_does_not_hang_its_key():
    # theine does
    cache = TTLCache(10)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            cache.load("a", lambda _key: 1 / 0)
    assert cache.load("a", lambda _key: 1) == 1


def test_a_loader_that_is_interrupted_is_replaced_by_one_who_waits():
    cache = TTLCache(10)
    gate = Gate(KeyboardInterrupt())
    join_first = in_threads(lambda: cache.load("a", gate))
    assert gate.entered.wait(WAIT)
    join = in_threads(*[lambda: cache.load("a", lambda _key: "mine")] * 3)
    wait_until_joined(cache, "a", 3)
    gate.opened.set()
    assert isinstance(join_first()[0], KeyboardInterrupt)
    assert join() == ["mine"] * 3
    assert not cache._flights


def test_different_keys_load_at_the_same_time():
    cache = TTLCache(10)
    both = threading.Barrier(2, timeout=WAIT)
    join = in_threads(
        lambda: cache.load("a", lambda _key: both.wait() is not None),
        lambda: cache.load("b", lambda _key: both.wait() is not None),
    )
    assert join() == [True, True]


def test_one_who_waits_too_long_leaves_the_load_running():
    cache = TTLCache(10, name="rooms")
    gate = Gate()
    join = in_threads(lambda: cache.load("a", gate))
    assert gate.entered.wait(WAIT)
    with pytest.raises(LoadTimeout, match=r"rooms: 'a' was not loaded within 0\.01 s") as caught:
        cache.load("a", gate, timeout=0.01)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.key == "a"
    gate.opened.set()
    assert join() == ["value of a"]
    assert gate.calls == 1
    assert cache["a"] == "value of a"


# -- what happens to the key meanwhile ---------------------------------------------------------


@pytest.mark.parametrize(
    "outdate",
    [
        lambda cache: cache.clear(),
        lambda cache: cache.pop("a", None),
        lambda cache: cache.invalidate_if(lambda _key, _value: False),
    ],
    ids=["clear", "delete", "invalidate_if"],
)
def test_a_result_that_became_outdated_is_handed_out_but_not_kept(outdate):
    # cachetools stores it after the clear
    cache = TTLCache(10)
    gate = Gate()
    join = in_threads(lambda: cache.load("a", gate))
    assert gate.entered.wait(WAIT)
    outdate(cache)
    assert cache.load("a", lambda _key: "new") == "new"  # who asks now does not get the old
    gate.opened.set()
    assert join() == ["value of a"]
    assert cache["a"] == "new"
    cache.clear()


@pytest.mark.parametrize("first", ["a", "another"])
def test_a_load_that_was_overtaken_in_a_full_cache_is_not_kept_though_the_newer_is_gone(first):
    cache = TTLCache(4, 60)
    for number in range(10):
        cache[number] = number

    def overtaken(_key):
        cache[first] = cache["a"] = "newer"
        for number in range(10):
            cache[number] = number
        assert "a" not in cache
        return "older"

    assert cache.load("a", overtaken) == "older"
    assert "a" not in cache


def test_a_value_put_meanwhile_is_not_overwritten():
    cache = TTLCache(10)
    gate = Gate()
    join = in_threads(lambda: cache.load("a", gate))
    assert gate.entered.wait(WAIT)
    cache["a"] = "newer"
    gate.opened.set()
    assert join() == ["value of a"]
    assert cache["a"] == "newer"


def test_a_result_too_heavy_for_the_cache_is_handed_out():
    cache = TTLCache(10, weigher=lambda _key, value: value)
    assert cache.load("a", lambda _key: 11) == 11
    assert "a" not in cache
    assert cache.statistics().rejected == 1


def test_a_weigher_that_raises_on_a_result_fails_the_load_and_hangs_nobody():
    cache = TTLCache(10, weigher=lambda _key, _value: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            cache.load("a", lambda _key: 1)
    assert not cache._flights


# -- cycles ---------------------------------------------------------------------------------


def test_loading_a_key_inside_its_own_loader_raises():
    # cachetools hangs
    cache = TTLCache(10, name="rooms")
    with pytest.raises(LoadCycle, match="rooms: loads wait for one another: 'a' -> 'a'"):
        cache.load("a", lambda key: cache.load(key, str))
    assert cache.load("a", lambda key: cache.load("b", lambda _key: 1) + 1) == 2


def test_a_that_loads_b_while_b_loads_a_raises_in_one_and_hangs_neither():
    # cachetools deadlocks
    cache = TTLCache(10)
    both = threading.Barrier(2, timeout=WAIT)

    def loader_of(other):
        def loader(_key):
            both.wait()
            return cache.load(other, lambda key: f"plain {key}")

        return loader

    join = in_threads(
        lambda: cache.load("a", loader_of("b")), lambda: cache.load("b", loader_of("a"))
    )
    results = join()
    assert any(isinstance(result, LoadCycle) for result in results)
    cycle = next(result for result in results if isinstance(result, LoadCycle))
    assert set(cycle.keys) == {"a", "b"}
    assert not cache._flights


def test_a_cycle_through_two_caches_and_three_threads_is_seen():
    caches = [TTLCache(10), TTLCache(10), TTLCache(10)]
    all_in = threading.Barrier(3, timeout=WAIT)

    def call(index):
        def loader(_key):
            all_in.wait()
            return caches[(index + 1) % 3].load("k", lambda _key: "plain")

        return caches[index].load("k", loader)

    results = in_threads(*[lambda index=index: call(index) for index in range(3)])()
    assert sum(isinstance(result, LoadCycle) for result in results) >= 1


def test_a_loader_that_hands_work_to_a_thread_with_its_context_is_still_seen():
    cache = TTLCache(10)

    def loader(key):
        context = contextvars.copy_context()
        (result,) = in_threads(lambda: context.run(cache.load, key, str))()
        raise result

    with pytest.raises(LoadCycle):
        cache.load("a", loader)


def test_waiting_for_one_who_does_not_wait_for_us_is_no_cycle():
    cache = TTLCache(10)
    gate = Gate("plain")
    join = in_threads(lambda: cache.load("b", gate))
    assert gate.entered.wait(WAIT)
    join_a = in_threads(lambda: cache.load("a", lambda _key: cache.load("b", gate) + "!"))
    wait_until_joined(cache, "b", 2)
    gate.opened.set()
    assert (join(), join_a()) == (["plain"], ["plain!"])


# -- many at once -----------------------------------------------------------------------------


def test_load_many_asks_once_for_all_that_is_missing():
    cache = TTLCache(10)
    cache["a"] = "A"
    asked = []

    def bulk(keys):
        asked.append(keys)
        return {key: key.upper() for key in keys if key != "x"} | {"unasked": 1}

    assert cache.load_many(["a", "b", "x", "c", "b"], bulk) == {"a": "A", "b": "B", "c": "C"}
    assert asked == [["b", "x", "c"]]
    assert sorted(cache) == ["a", "b", "c"]
    assert not cache._flights


def test_load_many_waits_for_what_others_load():
    cache = TTLCache(10)
    gate = Gate()
    join = in_threads(lambda: cache.load("a", gate))
    assert gate.entered.wait(WAIT)
    join_many = in_threads(
        lambda: cache.load_many(["a", "b"], lambda keys: dict.fromkeys(keys, "bulk"))
    )
    wait_until_joined(cache, "a", 2)
    gate.opened.set()
    assert join() == ["value of a"]
    assert join_many() == [{"a": "value of a", "b": "bulk"}]


def test_two_bulk_loads_that_overlap_do_not_wait_in_a_circle():
    cache = TTLCache(10)
    both = threading.Barrier(2, timeout=WAIT)

    def first(keys):
        assert keys == ["a"]
        both.wait()
        return cache.load_many(["b"], lambda _keys: {"b": 0}) and {"a": 1}

    join = in_threads(
        lambda: cache.load_many(["a"], first),
        lambda: cache.load_many(["b"], lambda _keys: both.wait() is None or {"b": 2}),
    )
    assert join() == [{"a": 1}, {"b": 2}]


def test_a_bulk_loader_that_raises_gives_its_error_to_all_who_wait():
    cache = TTLCache(10)
    gate = Gate(ValueError("down"))
    join_many = in_threads(lambda: cache.load_many(["a", "b"], gate))
    assert gate.entered.wait(WAIT)
    join = in_threads(lambda: cache.load("b", str))
    wait_until_joined(cache, "b", 2)
    gate.opened.set()
    assert [str(error) for error in [*join_many(), *join()]] == ["down", "down"]
    assert not cache._flights


def test_one_who_waits_for_a_key_the_bulk_loader_left_out_loads_it_himself():
    cache = TTLCache(10)
    gate = Gate({"a": 1})
    join_many = in_threads(lambda: cache.load_many(["a", "b"], gate))
    assert gate.entered.wait(WAIT)
    join = in_threads(lambda: cache.load("b", str.upper))
    wait_until_joined(cache, "b", 2)
    gate.opened.set()
    assert (join_many(), join()) == ([{"a": 1}], ["B"])


@pytest.mark.parametrize("answer", [None, ["a"], 5])
def test_a_bulk_loader_must_return_a_mapping(answer):
    cache = TTLCache(10)
    with pytest.raises(TypeError, match="bulk_loader must return a mapping"):
        cache.load_many(["a"], lambda _keys: answer)
    assert not cache._flights


@pytest.mark.parametrize("timeout", [math.inf, 1e12])
def test_a_timeout_no_lock_can_wait_for_is_none(timeout):
    cache = TTLCache(10)
    assert cache._remaining(cache._patience(timeout)) is None
    with pytest.raises(ValueError, match="timeout"):
        cache._patience(-math.inf)


def test_load_many_gives_up_waiting_after_its_timeout():
    cache = TTLCache(10)
    gate = Gate()
    join = in_threads(lambda: cache.load("a", gate))
    assert gate.entered.wait(WAIT)
    with pytest.raises(LoadTimeout):
        cache.load_many(["a", "b"], lambda keys: dict.fromkeys(keys, 1), timeout=0.01)
    assert cache["b"] == 1
    gate.opened.set()
    join()


# -- stale, refreshed, negative ----------------------------------------------------------------


def test_a_value_past_refresh_after_is_served_while_one_reload_runs():
    clock = FakeClock()
    cache = TTLCache(10, 100, refresh_after=10, clock=clock)
    cache.load("a", lambda _key: "old")
    clock.advance(10)
    gate = Gate("new")
    for _ in range(5):
        assert cache.load("a", gate) == "old"
    assert gate.entered.wait(WAIT)
    assert gate.calls == 1
    assert cache.get("a") == "old"
    flight = cache._flights["a"]
    landed = threading.Event()
    flight.call_when_landed_locked(landed.set)
    gate.opened.set()
    assert landed.wait(WAIT)
    assert cache.load("a", gate) == "new"
    assert cache.expires_at("a") == 110
    assert gate.calls == 1


def test_hard_expiry_holds_while_a_reload_runs():
    # dogpile serves the expired value while one regenerates it
    clock = FakeClock()
    cache = TTLCache(10, 20, refresh_after=10, clock=clock)
    cache.load("a", lambda _key: "old")
    clock.advance(10)
    gate = Gate("new")
    assert cache.load("a", gate) == "old"
    assert gate.entered.wait(WAIT)
    clock.advance(10)
    assert cache.get("a") is None
    join = in_threads(lambda: cache.load("a", gate))
    wait_until_joined(cache, "a", 2)
    gate.opened.set()
    assert join() == ["new"]
    assert gate.calls == 1


def test_a_reload_that_fails_leaves_the_value_and_is_not_tried_at_every_hit(caplog):
    clock = FakeClock()
    cache = TTLCache(10, 100, refresh_after=10, clock=clock)
    cache.load("a", lambda _key: "old")
    clock.advance(10)
    gate = Gate(ValueError("down"))
    cache.load("a", gate)
    flight = cache._flights["a"]
    landed = threading.Event()
    flight.call_when_landed_locked(landed.set)
    gate.opened.set()
    assert landed.wait(WAIT)
    assert cache.load("a", gate) == "old"
    clock.advance(9)
    assert cache.load("a", gate) == "old"
    assert gate.calls == 1
    assert cache.statistics().load_failures == 1
    assert not cache._flights


def test_when_no_thread_can_be_started_the_value_is_served_and_a_later_hit_tries_again(caplog):
    from threadkit.testing import SimRuntime

    def scenario(sim):
        cache = TTLCache(10, 100, refresh_after=10, sweep_interval=math.inf, runtime=sim)
        cache.load("a", lambda _key: "old")
        sim.advance(10)
        sim.fail_thread_starts(1)
        assert cache.load("a", lambda _key: "new") == "old"
        assert not cache._flights
        assert cache.load("a", lambda _key: "new") == "old"
        sim.sleep(1)
        assert cache.load("a", lambda _key: "newer") == "new"

    sim = SimRuntime(seed=1)
    sim.run(scenario, sim)


def test_an_expired_value_is_served_if_its_loader_fails_and_for_no_longer_than_allowed(caplog):
    clock = FakeClock()
    heard = []
    cache = TTLCache(
        10, 5, stale_if_error=10, clock=clock, on_remove=lambda *event: heard.append(event)
    )
    cache["a"] = "old"
    clock.advance(5)
    assert cache.get("a") is None
    assert "a" not in cache
    assert len(cache) == 0
    assert cache.load("a", lambda _key: 1 / 0) == "old"
    assert cache.statistics().stale_served == 1
    assert heard == []
    clock.advance(9.99)
    assert cache.load("a", lambda _key: 1 / 0) == "old"
    clock.advance(0.01)
    with pytest.raises(ZeroDivisionError):
        cache.load("a", lambda _key: 1 / 0)
    assert heard == [("a", "old", "expired")]
    cache["b"] = "old"
    clock.advance(5)
    assert cache.load("b", lambda _key: "new") == "new"
    assert heard[1:] == [("b", "old", "expired")]


def test_errors_are_remembered_for_negative_ttl_and_no_longer():
    clock = FakeClock()
    cache = TTLCache(10, negative_ttl=5, clock=clock)
    calls = []

    def loader(key):
        calls.append(key)
        raise ValueError("no such room")

    for _ in range(3):
        with pytest.raises(ValueError, match="no such room"):
            cache.load("a", loader)
    with pytest.raises(ValueError, match="no such room"):
        cache.load_many(["b", "a"], lambda keys: dict.fromkeys(keys, 1))
    assert calls == ["a"]
    assert cache.get("a") is None
    clock.advance(5)
    assert cache.load("a", lambda _key: 1) == 1
    for forget in (lambda: cache.put("c", 1), lambda: cache.pop("c", None), cache.clear):
        with pytest.raises(ValueError, match="no such room"):
            cache.load("c", loader)
        forget()
        assert cache.load("c", lambda _key: 1) == 1
        cache.pop("c")


def test_remembered_errors_are_bounded():
    cache = TTLCache(10, negative_ttl=50)
    for number in range(3000):
        with pytest.raises(ZeroDivisionError):
            cache.load(number, lambda _key: 1 / 0)
    assert len(cache._errors) <= 1024


# -- coroutines -----------------------------------------------------------------------------


def test_of_many_coroutines_one_loads():
    async def main():
        cache = TTLCache(10)
        calls = []

        async def loader(key):
            calls.append(key)
            await asyncio.sleep(0)
            return key.upper()

        assert await asyncio.gather(*(cache.aload("a", loader) for _ in range(8))) == ["A"] * 8
        assert calls == ["a"]
        assert await cache.aload("b", lambda key: key * 2) == "bb"  # a plain function will do
        return cache

    cache = asyncio.run(main())
    assert cache["a"] == "A"


def test_an_error_goes_to_every_coroutine_once():
    async def main():
        cache = TTLCache(10)

        async def loader(_key):
            await asyncio.sleep(0)
            raise ValueError("down")

        results = await asyncio.gather(
            *(cache.aload("a", loader) for _ in range(5)), return_exceptions=True
        )
        assert [str(result) for result in results] == ["down"] * 5
        assert cache.statistics().load_failures == 1

    asyncio.run(main())


def test_a_cancelled_leader_hands_over_to_one_who_waits():
    async def main():
        cache = TTLCache(10)
        entered = asyncio.Event()

        async def never(_key):
            entered.set()
            await asyncio.Event().wait()

        leader = asyncio.create_task(cache.aload("a", never))
        await entered.wait()

        async def loader(_key):
            return "mine"

        follower = asyncio.create_task(cache.aload("a", loader))
        await asyncio.sleep(0)
        leader.cancel()
        assert await asyncio.wait_for(follower, WAIT) == "mine"
        with pytest.raises(asyncio.CancelledError):
            await leader

    asyncio.run(main())


def test_a_coroutine_that_waits_too_long_leaves_the_load_running():
    async def main():
        cache = TTLCache(10)
        opened = asyncio.Event()

        async def loader(_key):
            await opened.wait()
            return 1

        leader = asyncio.create_task(cache.aload("a", loader))
        await asyncio.sleep(0)
        with pytest.raises(LoadTimeout):
            await cache.aload("a", loader, timeout=0.01)
        opened.set()
        assert await leader == 1

    asyncio.run(main())


def test_coroutines_see_cycles_through_gather_and_both_ways():
    async def main():
        cache = TTLCache(10)

        async def itself(key):
            (value,) = await asyncio.gather(cache.aload(key, itself))
            return value

        with pytest.raises(LoadCycle):
            await cache.aload("a", itself)

        started = {"b": asyncio.Event(), "c": asyncio.Event()}

        def loader_of(other):
            async def loader(key):
                started[key].set()
                await started[other].wait()
                return await cache.aload(other, loader_of(key))

            return loader

        results = await asyncio.wait_for(
            asyncio.gather(
                cache.aload("b", loader_of("c")),
                cache.aload("c", loader_of("b")),
                return_exceptions=True,
            ),
            WAIT,
        )
        assert any(isinstance(result, LoadCycle) for result in results)

    asyncio.run(main())


def test_a_thread_and_a_coroutine_share_a_flight_both_ways():
    cache = TTLCache(10)
    gate = Gate()
    join = in_threads(lambda: cache.load("a", gate))
    assert gate.entered.wait(WAIT)

    async def follow_the_thread():
        task = asyncio.create_task(cache.aload("a", lambda _key: "mine"))
        await asyncio.sleep(0)
        gate.opened.set()
        return await asyncio.wait_for(task, WAIT)

    assert asyncio.run(follow_the_thread()) == "value of a"
    assert join() == ["value of a"]

    async def lead_a_thread():
        entered, opened = asyncio.Event(), asyncio.Event()

        async def loader(_key):
            entered.set()
            await opened.wait()
            return "of the loop"

        task = asyncio.create_task(cache.aload("b", loader))
        await entered.wait()
        join = in_threads(lambda: cache.load("b", lambda _key: "mine"))
        await until(lambda: cache.statistics().misses == 4)
        opened.set()
        assert await task == "of the loop"
        assert await asyncio.to_thread(join) == ["of the loop"]

    asyncio.run(asyncio.wait_for(lead_a_thread(), WAIT))


def test_blocking_the_loop_on_a_load_that_needs_it_raises_instead_of_hanging():
    async def main():
        cache = TTLCache(10)
        opened = asyncio.Event()

        async def loader(_key):
            await opened.wait()
            return 1

        task = asyncio.create_task(cache.aload("a", loader))
        await asyncio.sleep(0)
        with pytest.raises(LoadCycle):
            cache.load("a", str)
        opened.set()
        assert await task == 1

    asyncio.run(main())


def test_coroutines_refresh_ahead_in_a_task():
    async def main():
        clock = FakeClock()
        cache = TTLCache(10, 100, refresh_after=10, clock=clock)
        await cache.aload("a", lambda _key: "old")
        clock.advance(10)

        async def loader(_key):
            return "new"

        assert await cache.aload("a", loader) == "old"
        await until(lambda: not cache._flights)
        assert await cache.aload("a", loader) == "new"

    asyncio.run(main())


def test_one_who_waited_in_a_loop_that_is_closed_disturbs_nobody():
    cache = TTLCache(10)
    gate = Gate()
    join = in_threads(lambda: cache.load("a", gate))
    assert gate.entered.wait(WAIT)

    async def give_up():
        with pytest.raises(LoadTimeout):
            await cache.aload("a", str, timeout=0.01)

    asyncio.run(give_up())
    gate.opened.set()
    assert join() == ["value of a"]


def test_an_expired_value_is_not_served_past_its_grace_even_if_the_loader_was_slow():
    clock = FakeClock()
    cache = TTLCache(10, ttl=10, stale_if_error=5, clock=clock)
    cache["a"] = "old"
    clock.advance(11)

    def slow_and_failing(_key):
        clock.advance(5)
        raise ValueError("down")

    with pytest.raises(ValueError, match="down"):
        cache.load("a", slow_and_failing)
    assert cache.statistics().stale_served == 0


@pytest.mark.parametrize("remove", ["pop", "del", "invalidate_if", "clear", "too heavy"])
@pytest.mark.parametrize("when", ["before", "during"])
def test_an_expired_value_that_was_removed_is_not_served_when_the_loader_fails(remove, when):
    clock = FakeClock()
    heard = []
    cache = TTLCache(
        10,
        ttl=10,
        stale_if_error=500,
        weigher=lambda _key, value: len(value),
        clock=clock,
        on_remove=lambda *event: heard.append(event),
    )
    cache["a"] = "old"
    clock.advance(11)

    def remove_it():
        if remove == "pop":
            assert cache.pop("a", None) is None
        elif remove == "del":
            with pytest.raises(KeyError):
                del cache["a"]
        elif remove == "invalidate_if":
            assert cache.invalidate_if(lambda key, _value: key == "a") == 1
        elif remove == "clear":
            cache.clear()
        else:
            cache["a"] = "o" * 20

    def failing(_key):
        if when == "during":
            remove_it()
        raise ValueError("down")

    if when == "before":
        remove_it()
    with pytest.raises(ValueError, match="down"):
        cache.load("a", failing)
    assert [event for event in heard if event[1] == "old"] == [("a", "old", "expired")]


def test_load_many_serves_expired_values_when_its_loader_fails():
    clock = FakeClock()
    cache = TTLCache(10, ttl=10, stale_if_error=100, clock=clock)
    cache.update(a=1, b=2)
    clock.advance(11)

    def failing(_keys):
        raise ValueError("down")

    assert cache.load_many(["a", "b"], failing) == {"a": 1, "b": 2}
    assert cache.statistics().stale_served == 2
    with pytest.raises(ValueError, match="down"):
        cache.load_many(["a", "c"], failing)
    assert not cache._flights


def test_a_key_whose_hash_fails_while_it_loads_lands_for_those_who_wait():
    class Key:
        is_bad = False

        def __hash__(self):
            if self.is_bad:
                raise RuntimeError("hash")
            return 1

    cache = TTLCache(10)
    key = Key()
    gate = Gate("value")
    join = in_threads(lambda: cache.load(key, gate), lambda: cache.load(key, gate))
    assert gate.entered.wait(WAIT)
    wait_until_joined(cache, key, 1)
    key.is_bad = True
    gate.opened.set()
    assert [str(error) for error in join()] == ["hash", "hash"]
    key.is_bad = False
    cache.clear()
    assert cache.load(key, lambda _key: "again") == "again"
    assert not cache._flights


def test_a_load_whose_event_loop_was_closed_is_taken_over():
    clock = FakeClock()
    cache = TTLCache(10, ttl=100, refresh_after=5, clock=clock)
    cache["a"] = "old"
    clock.advance(6)

    async def never(_key):
        await asyncio.get_running_loop().create_future()

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(cache.aload("a", never)) == "old"
    leading = loop.create_task(cache.aload("b", never))
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    assert len(cache._flights) == 2
    loop.close()
    clock.advance(1000)
    assert cache.load("a", lambda _key: "new") == "new"
    assert cache.load("b", lambda _key: "new") == "new"
    assert not cache._flights
    leading._log_destroy_pending = False


def test_a_refresh_on_a_closed_loop_is_ended_by_the_collector_and_wakes_who_waits():
    clock = FakeClock()
    cache = TTLCache(10, ttl=100, refresh_after=5, clock=clock)
    cache["a"] = "old"
    clock.advance(6)

    async def never(_key):
        await asyncio.get_running_loop().create_future()

    async def refresh():
        value = await cache.aload("a", never)
        await asyncio.sleep(0)
        return value

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(refresh()) == "old"
    clock.advance(1000)
    join = in_threads(lambda: cache.load("a", lambda _key: "new"))
    wait_until_joined(cache, "a", 0)
    loop.close()
    gc.collect()
    assert join() == ["new"]


def test_a_refresh_may_load_what_the_load_it_came_from_is_loading():
    """It is nobody's wait: the load that noticed the old value does not wait for the refresh."""
    clock = FakeClock()
    cache = TTLCache(10, ttl=100, refresh_after=5, clock=clock)
    cache["b"] = "old"
    clock.advance(6)

    async def load_b(_key):
        return "new " + await cache.aload("a", load_a)

    async def load_a(_key):
        found = await cache.aload("b", load_b)
        await asyncio.sleep(0.01)
        return found

    async def main():
        assert await cache.aload("a", load_a) == "old"
        await until(lambda: not cache._flights)

    asyncio.run(asyncio.wait_for(main(), WAIT))
    assert cache.statistics().load_failures == 0
    assert cache["b"] == "new old"


def test_an_aload_that_hits_takes_no_lock():
    cache = TTLCache(10)
    cache["a"] = 1
    held = threading.Event()
    done = threading.Event()

    def hold():
        with cache._lock:
            held.set()
            done.wait(3 * WAIT)  # longer than the test waits for the hit

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(WAIT)
    try:
        join = in_threads(lambda: asyncio.run(cache.aload("a", str)))
        assert join() == [1]
    finally:
        done.set()
        thread.join(WAIT)


@pytest.mark.parametrize("spare_frames", range(12))
def test_a_load_cut_off_by_the_limit_of_recursion_can_be_loaded_again(spare_frames):
    cache = TTLCache(100_000)

    def endless(number):
        return cache.load(number, lambda key: endless(key + 1))

    def from_deeper(frames):
        return from_deeper(frames - 1) if frames else endless(0)

    with pytest.raises(RecursionError):
        from_deeper(spare_frames)  # it differs in which call is one too many
    numbers = range(sys.getrecursionlimit())
    join = in_threads(lambda: [cache.load(number, lambda key: key) for number in numbers])
    assert join() == [list(numbers)]


@pytest.mark.parametrize("use", ["load", "load_many", "aload"])
def test_a_listener_that_exits_while_a_load_begins_keeps_nobody_waiting(use):
    clock = FakeClock(100.0)

    def leave(key, _value, cause):
        if (key, cause) == ("old", "expired"):
            raise SystemExit

    cache = TTLCache(10, 5, refresh_after=3, clock=clock, on_remove=leave)
    calls = {
        "load": lambda: cache.load("old", str.upper),
        "load_many": lambda: cache.load_many(["old"], lambda keys: dict.fromkeys(keys, 1)),
        "aload": lambda: asyncio.run(cache.aload("old", str.upper)),
    }
    cache.put("old", "value", ttl=1)
    clock.advance(2)
    with pytest.raises(SystemExit):
        calls[use]()
    assert in_threads(lambda: cache.load("old", str.upper))() == ["OLD"]


@pytest.mark.parametrize("way", ["load", "load_many", "aload"])
def test_a_clock_that_fails_leaves_no_key_loading_for_ever(way):
    readings, failing = [], []

    def clock():
        readings.append(1)
        if len(readings) in failing:
            raise OSError("no clock")
        return float(len(readings))

    def load():
        if way == "load":
            return cache.load("a", lambda _key: "value")
        if way == "load_many":
            return cache.load_many(["a"], lambda keys: dict.fromkeys(keys, "value"))["a"]
        return asyncio.run(cache.aload("a", lambda _key: "value"))

    failures = 0
    for failing_at in range(1, 6):
        cache = TTLCache(3, clock=clock)
        failing[:] = [len(readings) + failing_at]
        try:
            load()
        except OSError:
            failures += 1
        failing.clear()
        assert not cache._flights
        assert load() == "value"
    assert failures >= 2
