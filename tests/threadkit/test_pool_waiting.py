"""Waiting inside tasks, from coroutines, and through the standard library's functions."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import threading
import weakref

import pytest

from threadkit import DynamicThreadPool, Rejected, TaskCancelled, TaskTimeout, current_task
from threadkit.testing import SimRuntime

WAIT = 10


# -- inside tasks --------------------------------------------------------------------------


def test_a_tree_of_tasks_that_wait_for_one_another_needs_one_worker():
    with DynamicThreadPool(max_workers=1) as pool:

        def count(depth):
            if depth == 0:
                return 1
            return sum(f.result() for f in [pool.submit(count, depth - 1) for _ in range(3)])

        assert pool.submit(count, 4).result(WAIT) == 81
        assert pool.statistics().alive == 1


def test_a_chain_deeper_than_the_stack_allows_is_lent_workers():
    with DynamicThreadPool(max_workers=1) as pool:

        def descend(depth):
            return 0 if depth == 0 else 1 + pool.submit(descend, depth - 1).result()

        assert pool.submit(descend, 100).result(WAIT) == 100
        assert pool.statistics().lent == 0


@pytest.mark.parametrize("how", ["wait", "as_completed", "result with a timeout", "exception"])
def test_any_way_of_waiting_for_a_task_of_the_same_pool_lets_it_run(how):
    with DynamicThreadPool(max_workers=1) as pool:

        def parent():
            children = [pool.submit(abs, -n) for n in range(3)]
            if how == "wait":
                concurrent.futures.wait(children)
            elif how == "as_completed":
                list(concurrent.futures.as_completed(children))
            elif how == "exception":
                assert [child.exception() for child in children] == [None] * 3
            return [child.result(WAIT) for child in children]

        assert pool.submit(parent).result(WAIT) == [0, 1, 2]
        pool.submit(int).result(WAIT)
        assert pool.wait_idle(WAIT)
        assert pool.statistics().lent == 0


def test_a_worker_stands_in_for_a_task_that_says_it_will_wait():
    with DynamicThreadPool(max_workers=1) as pool:
        gate = threading.Event()

        def waits():
            with pool.blocking():
                return gate.wait(WAIT)

        waiting = pool.submit(waits)
        pool.submit(gate.set).result(WAIT)
        assert waiting.result(WAIT)
        assert pool.statistics().lent == 0


def test_a_pool_of_extra_workers_shrinks_back_to_its_size():
    def scenario(sim):
        with DynamicThreadPool(max_workers=1, runtime=sim) as pool:

            def waits():
                with pool.blocking():
                    sim.sleep(1.0)
                return pool.statistics().alive

            alive = [future.result() for future in [pool.submit(waits) for _ in range(5)]]
            sim.sleep(60.0)
            return max(alive), pool.statistics().alive

    sim = SimRuntime(seed=5)
    assert sim.run(scenario, sim) == (5, 1)


def test_blocking_means_nothing_outside_a_task():
    with DynamicThreadPool(max_workers=1) as pool, pool.blocking():
        assert pool.statistics().lent == 0


@pytest.mark.parametrize("propagate", [True, False])
def test_what_a_task_or_its_callback_sets_is_not_seen_by_the_next(propagate):
    variable = contextvars.ContextVar("variable", default="unset")
    seen, gate = [], threading.Event()
    with DynamicThreadPool(max_workers=1, propagate_context=propagate) as pool:
        pool.submit(gate.wait, WAIT)
        for n in range(3):
            future = pool.submit(lambda n=n: (seen.append(variable.get()), variable.set(n)))
            future.add_done_callback(lambda _: variable.set("by a callback"))
        last = pool.submit(lambda: seen.append(variable.get()))
        gate.set()
        last.result(WAIT)
    assert seen == ["unset"] * 4


def test_a_task_that_runs_in_place_of_a_wait_knows_itself_and_its_context():
    variable = contextvars.ContextVar("variable", default="unset")
    with DynamicThreadPool(max_workers=1) as pool:

        def child():
            seen = current_task().label, variable.get()
            variable.set("child's")
            return seen

        def parent():
            variable.set("parent's")
            seen = pool.with_options(label="child").submit(child).result()
            return seen, current_task().label, variable.get()

        parent_sees = pool.with_options(label="parent").submit(parent).result(WAIT)
    assert parent_sees == (("child", "parent's"), "parent", "parent's")


# -- context variables ---------------------------------------------------------------------


def test_tasks_see_their_submitters_context_and_leave_nothing_behind():
    variable = contextvars.ContextVar("variable", default="unset")

    def change():
        seen = variable.get()
        variable.set("changed")
        return seen

    with DynamicThreadPool(max_workers=1) as pool:
        assert [pool.submit(change).result(WAIT) for _ in range(2)] == ["unset", "unset"]
        token = variable.set("submitter's")
        assert [pool.submit(change).result(WAIT) for _ in range(2)] == ["submitter's"] * 2
        variable.reset(token)


def test_propagation_can_be_switched_off():
    variable = contextvars.ContextVar("variable", default="unset")
    token = variable.set("submitter's")
    with DynamicThreadPool(max_workers=1, propagate_context=False) as pool:
        assert pool.submit(variable.get).result(WAIT) == "unset"
    variable.reset(token)


# -- coroutines ----------------------------------------------------------------------------


def test_a_coroutine_awaits_a_task_and_gets_its_result_or_exception():
    async def main():
        with DynamicThreadPool(max_workers=2) as pool:
            results = await asyncio.gather(*(pool.run(pow, 2, exp=n) for n in range(20)))
            with pytest.raises(ValueError, match="invalid literal"):
                await pool.with_options(label="x").run(int, "x")
            assert await pool.run(threading.get_ident) != threading.get_ident()
            return results

    assert asyncio.run(main()) == [2**n for n in range(20)]


def test_cancelling_a_coroutine_cancels_the_task_that_waits():
    async def main():
        gate = threading.Event()
        with DynamicThreadPool(max_workers=1) as pool:
            first = pool.submit(gate.wait, WAIT)
            ran = []
            waiting = pool.run(ran.append, 1)
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            gate.set()
            first.result(WAIT)
            statistics = pool.statistics()
        return ran, statistics.cancelled

    assert asyncio.run(main()) == ([], 1)


def test_cancelling_a_coroutine_asks_the_task_that_runs_to_stop():
    begun, stop, ended = threading.Event(), threading.Event(), []

    def task():
        begun.set()
        assert stop.wait(WAIT)
        try:
            current_task().check()
        except TaskCancelled:
            ended.append("stopped")

    async def main():
        with DynamicThreadPool(max_workers=1) as pool:
            running = pool.run(task)
            await asyncio.to_thread(begun.wait, WAIT)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            stop.set()

    asyncio.run(main())
    assert ended == ["stopped"]


def test_a_stop_iteration_does_not_hang_the_coroutine():
    async def main():
        pool = DynamicThreadPool(max_workers=1)
        with pool, pytest.raises(RuntimeError, match="StopIteration"):
            await pool.run(next, iter(()))

    asyncio.run(main())


def test_a_full_queue_makes_the_coroutine_wait_not_the_loop():
    async def main():
        gate = threading.Event()
        with DynamicThreadPool(max_workers=1, queue_limit=1) as pool:
            begun = threading.Event()
            pool.submit(lambda: (begun.set(), gate.wait(WAIT)))
            await asyncio.to_thread(begun.wait, WAIT)
            pool.submit(int)
            waiting = [pool.run(abs, -n) for n in range(5)]
            await asyncio.sleep(0)  # the loop is alive
            gate.set()
            return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


def test_a_coroutine_is_told_when_no_room_comes_in_time():
    async def main():
        gate = threading.Event()
        with DynamicThreadPool(max_workers=1, queue_limit=1, overflow_timeout=0.01) as pool:
            begun = threading.Event()
            pool.submit(lambda: (begun.set(), gate.wait(WAIT)))
            await asyncio.to_thread(begun.wait, WAIT)
            pool.submit(int)
            with pytest.raises(Rejected, match="no room"):
                await pool.run(int)
            gate.set()

    asyncio.run(main())


def test_an_event_loop_takes_the_pool_as_its_executor():
    async def main():
        with DynamicThreadPool(max_workers=2) as pool:
            loop = asyncio.get_running_loop()
            assert await loop.run_in_executor(pool, pow, 2, 8) == 256
            assert await asyncio.wrap_future(pool.submit(pow, 2, 9)) == 512

    asyncio.run(main())


# -- map -----------------------------------------------------------------------------------


def test_map_yields_in_order_and_stops_at_the_first_failure():
    with DynamicThreadPool(max_workers=2) as pool:
        results = pool.map(divmod, [7, 8, 9], [2, 0, 3])
        assert next(results) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_map_submits_no_more_than_its_buffer_ahead_of_the_reader():
    taken = []

    def numbers():
        for n in range(10):
            taken.append(n)
            yield n

    with DynamicThreadPool(max_workers=2) as pool:
        results = pool.map(abs, numbers(), buffersize=3)
        assert taken == [0, 1, 2]
        assert next(results) == 0
        assert taken == [0, 1, 2, 3]
        assert list(results) == list(range(1, 10))


def test_map_times_out_and_cancels_what_has_not_begun():
    gate = threading.Event()
    with DynamicThreadPool(max_workers=1) as pool:
        results = pool.map(lambda _: gate.wait(WAIT), range(3), timeout=0.01)
        with pytest.raises(concurrent.futures.TimeoutError):
            next(results)
        gate.set()
        assert pool.wait_idle(WAIT)
        assert pool.statistics().cancelled == 2


@pytest.mark.parametrize(("buffersize", "error"), [(0, ValueError), ("many", TypeError)])
def test_map_names_a_bad_buffersize(buffersize, error):
    with DynamicThreadPool() as pool, pytest.raises(error, match="buffersize"):
        pool.map(abs, [1], buffersize=buffersize)


class Cursor:
    """An iterator that can be asked how far it was read."""

    def __init__(self, items):
        self.read = 0
        self._items = iter(items)

    def __iter__(self):
        return self

    def __next__(self):
        self.read += 1
        return next(self._items)


@pytest.mark.parametrize("buffersize", [None, 1, 5])
def test_map_reads_no_further_than_the_shortest_iterable_asks(buffersize):
    with DynamicThreadPool(max_workers=2) as pool:
        first = Cursor(range(20))
        assert list(pool.map(max, first, [7, 8, 9], buffersize=buffersize)) == [7, 8, 9]
        assert first.read == 4  # the built-in map and zip read one too many, too; once


def test_a_failing_map_leaves_no_circle_behind():
    class Local:
        pass

    def fail(n):
        raise ValueError(n)

    def fails_with_a_local(pool):
        local = Local()
        with pytest.raises(ValueError, match="0"):
            list(pool.map(fail, range(3)))
        return weakref.ref(local)

    with DynamicThreadPool(max_workers=2) as pool:
        gc.collect()
        gc.disable()
        try:
            assert fails_with_a_local(pool)() is None
        finally:
            gc.enable()


# -- the context of tasks that run on somebody else's thread ----------------------------------


def test_a_task_run_in_place_of_a_wait_sees_nothing_of_the_waiting_one():
    spoken = contextvars.ContextVar("spoken", default="nothing")
    seen = []

    def inner():
        seen.append(spoken.get())
        spoken.set("inside")

    with DynamicThreadPool(max_workers=1, propagate_context=False) as pool:

        def outer():
            spoken.set("outside")
            pool.submit(inner).result(None)
            return spoken.get()

        assert pool.submit(outer).result(WAIT) == "outside"
    assert seen == ["nothing"]


def full_pool(gate, **options):
    """A pool whose worker is busy and whose queue is full: who submits runs the task."""
    pool = DynamicThreadPool(max_workers=1, queue_limit=1, overflow="caller_runs", **options)
    begun = threading.Event()
    pool.submit(lambda: (begun.set(), gate.wait(WAIT)))
    assert begun.wait(WAIT)
    pool.submit(int)
    return pool


def test_a_task_its_submitter_runs_leaves_no_context_behind_and_knows_itself():
    spoken = contextvars.ContextVar("spoken", default="nothing")
    gate = threading.Event()
    with full_pool(gate) as pool:
        view = pool.with_options(label="mine")
        future = view.submit(lambda: (spoken.set("inside"), current_task().label))
        assert future.result(0)[1] == "mine"
        assert spoken.get() == "nothing"
        assert current_task().label is None
        gate.set()


def test_a_task_its_submitter_runs_hears_of_its_timeout():
    gate, told = threading.Event(), threading.Event()
    with full_pool(gate) as pool:

        def patient():
            while True:
                try:
                    current_task().check()
                except TaskTimeout:
                    told.set()
                    return

        assert isinstance(pool.with_options(timeout=0.01).submit(patient).exception(0), TaskTimeout)
        assert told.is_set()
        assert pool.statistics().abandoned == 0  # nobody's worker
        gate.set()


def test_a_shutdown_that_gives_up_asks_every_task_of_a_worker_to_stop():
    inner_begun, stop = threading.Event(), threading.Event()
    pool = DynamicThreadPool(max_workers=1)

    def inner():
        inner_begun.set()
        assert stop.wait(WAIT)

    def outer():
        pool.with_options(label="inner").submit(inner).result()
        current_task().check()
        return "was not asked"

    future = pool.with_options(label="outer").submit(outer)
    assert inner_begun.wait(WAIT)
    report = pool.shutdown(timeout=0)
    assert report.running == ("inner", "outer")
    stop.set()
    assert isinstance(future.exception(WAIT), TaskCancelled)
    assert pool.shutdown(timeout=WAIT).finished
