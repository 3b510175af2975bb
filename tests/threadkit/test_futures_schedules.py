"""The light future under the simulator: the races told in its module, and those of its waiters.

The futures come from pools, so that the worker's own way of ending them is what is tested; the
standard `wait` and `as_completed` take part through substitution. As they sort and hash futures by
address, a schedule that fails may need a few seeds to fail again.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import traceback
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
)
from contextlib import contextmanager

import pytest

from scenarios import Scenarios
from sim_threads import together
from threadkit import DynamicThreadPool, Future
from threadkit._futures import Condition, future_type
from threadkit.testing import ScheduleFailed, explore

STANDARD = "concurrent.futures._base"
PREEMPT = ["threadkit._pool._worker", "threadkit._futures", STANDARD]
SCENARIOS = Scenarios(PREEMPT)
scenario = SCENARIOS.add


@contextmanager
def pool_of(sim, workers):
    pool = DynamicThreadPool(
        workers, workers, runtime=sim, policy="fixed", thread_name_prefix="pool"
    )
    with sim.substituted(STANDARD):
        yield pool
        pool.shutdown()


def fail():
    raise ValueError("on purpose")


# -- finish against wait -------------------------------------------------------------------


@scenario
def finish_against_result(sim):
    """Everybody who waits in result() gets it, whichever way they wait."""
    with pool_of(sim, 1) as pool:
        future = pool.submit(int, "7")
        got = []
        together(
            sim,
            lambda: got.append(future.result()),
            lambda: got.append(future.result()),
            lambda: got.append(future.result(timeout=1000)),
        )
        assert got == [7, 7, 7]


@scenario
def failure_against_result(sim):
    """A failure reaches every waiter, and its traceback does not grow."""
    with pool_of(sim, 1) as pool:
        future = pool.submit(fail)
        lengths = []

        def look():
            try:
                future.result()
            except ValueError as exc:
                lengths.append(len(traceback.extract_tb(exc.__traceback__)))

        look()
        together(sim, future.exception, look)
        look()
        assert len(lengths) == 3
        assert lengths[0] == lengths[2]


@scenario
def timed_result_against_finish(sim):
    """result(timeout) that expires just when the task ends says either; asked later, the end."""
    with pool_of(sim, 1) as pool:
        future = pool.submit(lambda: sim.sleep(1) or "done")
        sim.sleep(0)
        try:
            assert future.result(timeout=1) == "done"
        except concurrent.futures.TimeoutError:
            assert future.result() == "done"
        assert future.done()
        assert not future.running()


@scenario
def finish_against_wait_for_all(sim):
    """wait(ALL_COMPLETED) returns with all of them done, never earlier."""
    with pool_of(sim, 2) as pool:
        futures = [pool.submit(int, n) for n in range(3)]
        done, waiting = concurrent.futures.wait(futures, return_when=ALL_COMPLETED)
        assert done == set(futures)
        assert not waiting
        assert all(future.done() for future in futures)


@scenario
def finish_against_wait_for_the_first(sim):
    """wait(FIRST_COMPLETED) returns at least one, and those it returns are done."""
    with pool_of(sim, 2) as pool:
        futures = {pool.submit(int, n) for n in range(2)}
        while futures:
            done, futures = concurrent.futures.wait(futures, return_when=FIRST_COMPLETED)
            assert done
            assert all(future.done() for future in done)


@scenario
def failure_against_wait_for_an_exception(sim):
    """wait(FIRST_EXCEPTION) returns for a failure, without waiting for those that never end."""
    with pool_of(sim, 3) as pool:
        gate = sim.event()
        futures = [pool.submit(gate.wait), pool.submit(fail), pool.submit(int)]
        done, _ = concurrent.futures.wait(futures, return_when=FIRST_EXCEPTION)
        assert futures[1] in done
        assert futures[0] not in done
        gate.set()


@scenario
def wait_that_expires_against_finish(sim):
    """wait(timeout) puts every future on one side, and those it calls done are."""
    with pool_of(sim, 2) as pool:
        futures = [pool.submit(sim.sleep, 1), pool.submit(sim.sleep, 1)]
        sim.sleep(0)
        done, waiting = concurrent.futures.wait(futures, timeout=1)
        assert done | waiting == set(futures)
        assert not done & waiting
        assert all(future.done() for future in done)


@scenario
def wait_does_not_deny_what_result_told(sim):
    """Who has the result finds the future done in wait() too, whoever watches it."""
    with pool_of(sim, 1) as pool:
        future = pool.submit(int, "7")

        def look():
            if future.done():
                assert concurrent.futures.wait([future], timeout=0).done == {future}

        together(sim, look, lambda: concurrent.futures.wait([future]), look)


@scenario
def as_completed_of_what_is_done_just_now(sim):
    """as_completed watches futures that are done, too, and yields none of them twice."""
    with pool_of(sim, 2) as pool:
        futures = [pool.submit(int, n) for n in range(2)]
        seen = [[], []]
        together(
            sim,
            lambda: seen[0].extend(concurrent.futures.as_completed(futures)),
            lambda: seen[1].extend(concurrent.futures.as_completed(futures)),
        )
        assert all(len(each) == 2 and set(each) == set(futures) for each in seen)


@scenario
def as_completed_over_ours_and_standard_ones(sim):
    """as_completed yields each once, whoever made it, and ends."""
    with pool_of(sim, 1) as pool:
        standard = concurrent.futures.Future()
        ours = [pool.submit(int, "1"), pool.submit(fail)]
        sim.thread(standard.set_result, args=(3,)).start()
        seen = list(concurrent.futures.as_completed([*ours, standard]))
        assert len(seen) == 3
        assert set(seen) == {*ours, standard}


@scenario
def wait_over_ours_standard_ones_and_a_cancelled_one(sim):
    """wait counts a cancelled future of either kind as done."""
    with pool_of(sim, 1) as pool:
        gate = sim.event()
        busy = pool.submit(gate.wait)
        queued, standard = pool.submit(int), concurrent.futures.Future()

        def end():
            assert queued.cancel()
            standard.set_result(1)
            gate.set()

        sim.thread(end).start()
        done, waiting = concurrent.futures.wait([busy, queued, standard])
        assert done == {busy, queued, standard}
        assert not waiting
        assert queued.cancelled()


@scenario
def two_waiters_of_different_kinds(sim):
    """wait, as_completed and result on the same future do not rob each other."""
    with pool_of(sim, 1) as pool:
        future = pool.submit(int, "7")
        got = []
        together(
            sim,
            lambda: got.extend(concurrent.futures.wait([future]).done),
            lambda: got.extend(concurrent.futures.as_completed([future])),
            lambda: got.append(future.result() and future),
        )
        assert got == [future] * 3


@scenario
def waiting_for_others_inside_a_task(sim):
    """A task that calls wait() on tasks of its own pool is given somebody to run them."""
    with pool_of(sim, 1) as pool:

        def outer():
            inner = [pool.submit(int, n) for n in range(2)]
            return len(concurrent.futures.wait(inner).done)

        assert pool.submit(outer).result() == 2


# Rare: the inner task has to end between the waiter's look at it and its joining.
@pytest.mark.parametrize("wait", [concurrent.futures.wait, concurrent.futures.as_completed])
def test_finish_against_waiting_inside_a_task(wait):
    """A task that waits for others of its pool is told of one that ends just then."""

    def inside(sim):
        with pool_of(sim, 3) as pool:

            def outer():
                inner = [pool.submit(int, n) for n in range(2)]
                for _ in wait(inner):
                    pass
                return all(future.done() for future in inner)

            assert pool.submit(outer).result()

    explored = explore(inside, 800, preempt=PREEMPT)
    assert explored.schedules == 800


# -- cancel, callbacks ---------------------------------------------------------------------


@scenario
def cancel_against_claim_with_a_waiter(sim):
    """The waiter learns of the cancellation at once, or gets the result."""
    ran, got = [], []
    with pool_of(sim, 1) as pool:
        future = pool.submit(ran.append, 1)

        def wait():
            try:
                got.append(future.result())
            except CancelledError:
                got.append("cancelled")

        def cancel():
            got.append(future.cancel())

        together(sim, wait, cancel)
        assert set(got) == ({"cancelled", True} if future.cancelled() else {None, False})
        assert ran == ([] if future.cancelled() else [1])


@scenario
def callback_against_finish(sim):
    """A callback is called once, after the end, whether it came before or after it."""
    calls = []
    with pool_of(sim, 1) as pool:
        future = pool.submit(int, "7")

        def add(name):
            future.add_done_callback(lambda f: calls.append((name, f.done(), f.result())))

        together(sim, lambda: (add("a"), add("b")), lambda: add("c"))
    assert sorted(calls) == [(name, True, 7) for name in "abc"]


@scenario
def callback_against_cancel(sim):
    """The same when the future is cancelled, by whichever of two cancellers."""
    calls = []
    with pool_of(sim, 1) as pool:
        gate = sim.event()
        pool.submit(gate.wait)
        future = pool.submit(int)
        together(
            sim,
            lambda: future.add_done_callback(lambda f: calls.append(f.cancelled())),
            future.cancel,
            future.cancel,
        )
        gate.set()
    assert calls == [True]


@scenario
def a_callback_that_raises_harms_nobody(sim):
    """The other callbacks are called, the waiters woken, the worker goes on."""
    calls = []
    with pool_of(sim, 1) as pool:
        gate = sim.event()
        future = pool.submit(gate.wait)

        def callback(f):
            raise SystemExit

        future.add_done_callback(callback)
        future.add_done_callback(calls.append)
        gate.set()
        assert future.result() is True
        assert pool.submit(int, "8").result() == 8
    assert calls == [future]


@scenario
def foreign_executors_use_it(sim):
    """set_running_or_notify_cancel, set_result and cancel: one of them decides."""
    kind = future_type(sim)
    with sim.substituted(STANDARD):
        future = kind()
        ends = []

        def execute():
            if future.set_running_or_notify_cancel():
                future.set_result("ran")

        def wait():
            try:
                ends.append(future.result())
            except CancelledError:
                ends.append("cancelled")

        together(sim, execute, lambda: ends.append(future.cancel()), wait)
        assert set(ends) in ({"ran", False}, {"cancelled", True})
        assert isinstance(future, Future)


# -- coroutines ----------------------------------------------------------------------------


@scenario
def awaited_from_a_coroutine(sim):
    """asyncio.wrap_future wakes the coroutine from the worker's thread."""
    with pool_of(sim, 2) as pool:

        async def main():
            futures = [asyncio.wrap_future(pool.submit(int, n)) for n in range(3)]
            return await asyncio.gather(*futures)

        assert sim.run_async(main()) == [0, 1, 2]


@scenario
def cancelled_coroutine_against_claim(sim):
    """Cancelling what awaits a queued task cancels the task, or the task runs; never both."""
    ran = []
    with pool_of(sim, 1) as pool:
        submitted = []

        async def wait():
            submitted.append(pool.submit(ran.append, 1))
            await asyncio.wrap_future(submitted[0])

        async def main():
            task = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        sim.run_async(main())
        pool.shutdown()
        assert ran == ([] if submitted[0].cancelled() else [1])


test_under_many_schedules = SCENARIOS.test()


# -- the schedules themselves --------------------------------------------------------------


class NoLock:
    """A watch lock that keeps nobody out."""

    def acquire(self, blocking=True, timeout=-1):
        return True

    __enter__ = acquire

    def release(self):
        """Nothing was acquired."""

    def __exit__(self, *exc_info):
        """Nothing was acquired."""


@pytest.mark.parametrize("name", ["finish_against_result", "callback_against_finish"])
def test_a_missing_watch_lock_is_found(name, monkeypatch):
    def without_lock(runtime):
        kind = future_type(runtime)
        kind._watch = NoLock()
        return kind

    monkeypatch.setattr("threadkit._pool._crew.future_type", without_lock)
    with pytest.raises(ScheduleFailed):
        explore(SCENARIOS[name][0], 600, preempt=PREEMPT)


@pytest.mark.parametrize(
    "name", ["finish_against_result", "finish_against_wait_for_all", "callback_against_finish"]
)
def test_a_publisher_that_does_not_look_again_is_found(name, monkeypatch):
    monkeypatch.setattr(Future, "_tell", lambda future: None)
    with pytest.raises(ScheduleFailed):
        explore(SCENARIOS[name][0], 600, preempt=PREEMPT)


def make_condition_without_looking(future):
    """Step 3 of a watcher without step 4."""
    fresh = future._condition_type()
    fresh.waiters, fresh.locks, fresh.callbacks = [], None, None
    fresh.contested = fresh.cancel_requested = False
    with future._watch_lock():
        if isinstance(future._cond, Condition):
            return future._cond
        assert not isinstance(future._cond, list)
        fresh.locks = future._cond and [future._cond]
        future._cond = fresh
    return fresh


def test_a_condition_made_without_looking_for_a_result_is_found(monkeypatch):
    monkeypatch.setattr(Future, "_make_condition", make_condition_without_looking)
    with pytest.raises(ScheduleFailed):
        explore(finish_against_wait_for_all, 600, preempt=PREEMPT)


def test_a_claim_that_does_not_ask_the_canceller_is_found(monkeypatch):
    monkeypatch.setattr(Future, "_claim", lambda future: True)
    with pytest.raises(ScheduleFailed):
        explore(SCENARIOS["cancel_against_claim_with_a_waiter"][0], 600, preempt=PREEMPT)
