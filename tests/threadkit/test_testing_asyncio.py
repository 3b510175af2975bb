"""Coroutines, and code without a runtime, under the simulator."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest

from threadkit.testing import Deadlock, ScheduleFailed, SimRuntime, explore, schedules


@schedules(50)
def test_a_thread_hands_its_result_to_a_coroutine(sim):
    async def wait_for_thread():
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        sim.thread(loop.call_soon_threadsafe, args=(answer.set_result, 42)).start()
        return await answer

    assert sim.run_async(wait_for_thread()) == 42


def test_timers_run_in_virtual_time():
    sim = SimRuntime()

    async def sleeper(seconds):
        await asyncio.sleep(seconds)
        return asyncio.get_running_loop().time()

    async def main():
        slow = asyncio.wait_for(sleeper(7200), timeout=3600)
        results = await asyncio.gather(sleeper(60), slow, return_exceptions=True)
        return results, sim.monotonic()

    (minute, timeout), ended_at = sim.run(lambda: sim.run_async(main()))
    assert minute == 60
    assert isinstance(timeout, asyncio.TimeoutError)
    assert ended_at == 3600


def test_tasks_left_behind_are_cancelled():
    ended = []

    async def background():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def main():
        kept = asyncio.ensure_future(background())
        await asyncio.sleep(0)
        return kept

    sim = SimRuntime()
    task = sim.run(lambda: sim.run_async(main()))
    assert task.cancelled()
    assert ended == ["cancelled"]


def test_a_coroutine_nobody_wakes_is_a_deadlock():
    sim = SimRuntime()
    with pytest.raises(Deadlock, match="main waits for event"):
        sim.run(lambda: sim.run_async(asyncio.Event().wait()))


async def take(slot, kept):
    """The bug: what was delivered before the cancellation came is gone."""
    return await slot


async def take_or_keep(slot, kept):
    try:
        return await slot
    except asyncio.CancelledError:
        if slot.done() and not slot.cancelled():
            kept.append(slot.result())
        raise


def cancelled_getter(sim, get):
    """An item is put from a thread while the coroutine that waits for it is cancelled."""

    async def main():
        loop = asyncio.get_running_loop()
        slot, kept = loop.create_future(), []

        def deliver():
            if slot.done():
                kept.append("item")
            else:
                slot.set_result("item")

        getter = asyncio.ensure_future(get(slot, kept))
        await asyncio.sleep(0)
        putter = sim.thread(loop.call_soon_threadsafe, args=(deliver,))
        putter.start()
        loop.call_soon(getter.cancel)
        putter.join()
        await asyncio.wait([getter])
        got = [] if getter.cancelled() else [getter.result()]
        assert got + kept == ["item"]

    sim.run_async(main())


def test_an_item_lost_to_a_cancelled_coroutine_is_missed():
    with pytest.raises(ScheduleFailed):
        explore(lambda sim: cancelled_getter(sim, take), 200)


def test_an_item_a_cancelled_coroutine_gives_back_is_not_lost():
    assert explore(lambda sim: cancelled_getter(sim, take_or_keep), 200).schedules == 200


@schedules(50)
def test_the_standard_futures_wait_in_virtual_time(sim):
    with sim.substituted("concurrent.futures._base"):
        one, two = concurrent.futures.Future(), concurrent.futures.Future()

        def finish():
            sim.sleep(10)
            one.set_result(1)

        sim.thread(finish).start()
        done, waiting = concurrent.futures.wait([one, two], timeout=60)
        assert (done, waiting, sim.monotonic()) == ({one}, {two}, 60)


def test_substitution_ends_with_its_context():
    module = concurrent.futures._base
    sim = SimRuntime()
    with sim.substituted(module):
        assert module.threading is not threading
        assert module.threading.Lock().acquire()
        assert module.threading.current_thread() is threading.current_thread()
    assert module.threading is threading


def test_a_module_with_nothing_to_substitute_is_refused():
    sim = SimRuntime()
    with (
        pytest.raises(ValueError, match=r"asyncio.locks has no global threading or time or queue"),
        sim.substituted("concurrent.futures._base", "asyncio.locks"),
    ):
        pass
    assert concurrent.futures._base.threading is threading


def test_substituted_threads_are_simulated():
    import concurrent.futures.thread as pool

    sim = SimRuntime()

    def scenario():
        started = []
        thread = pool.threading.Thread(None, started.append, "standard", ("ran",))
        thread.start()
        thread.join()
        return started, thread.name, sim.get_ident() != thread.ident

    with sim.substituted(pool):
        assert sim.run(scenario) == (["ran"], "standard", True)
        with pytest.raises(ValueError, match="group must be None"):
            pool.threading.Thread(object())
