"""What the standard executor's users rely on, asked of it and of DynamicThreadPool alike.

That every test passes on ThreadPoolExecutor too shows that it asks for what the standard does. How
executors end, and where ours differs on purpose, is in test_executor_endings.py.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import (
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    Executor,
    Future,
    ThreadPoolExecutor,
    TimeoutError,  # noqa: A004 - until Python 3.11 it is not the built-in one
    as_completed,
    wait,
)

import pytest

from threadkit import DynamicThreadPool

WAIT = 10


def test_what_it_is(pool):
    future = pool.submit(int)
    assert isinstance(pool, Executor)
    assert isinstance(future, Future)
    assert future.result(WAIT) == 0


# -- submit ---------------------------------------------------------------------------------


def test_every_keyword_belongs_to_the_callable(pool):
    keywords = {
        "fn": 1,
        "self": 2,
        "priority": 3,
        "timeout": 4,
        "args": 5,
        "label": 6,
        "key": 7,
        "ttl": 8,
    }
    assert pool.submit(dict, **keywords).result(WAIT) == keywords


def test_arguments_by_place_and_by_name(pool):
    assert pool.submit(lambda *args, **kwargs: (args, kwargs), 1, 2, a=3).result(WAIT) == (
        (1, 2),
        {"a": 3},
    )


def test_the_callable_is_not_taken_by_name(pool):
    with pytest.raises(TypeError):
        pool.submit(fn=int)


def test_tasks_of_one_worker_run_in_their_order(pool):
    ran = []
    for future in [pool.submit(ran.append, n) for n in range(50)]:
        future.result(WAIT)
    assert ran == list(range(50))


# -- map ------------------------------------------------------------------------------------


def test_map_yields_in_order_and_stops_with_the_shortest_iterable(new_pool):
    assert list(new_pool(3).map(pow, range(5), [2, 2, 3])) == [0, 1, 8]


def test_map_of_nothing_yields_nothing(pool):
    assert list(pool.map(int)) == []
    assert list(pool.map(int, [])) == []


def test_map_submits_everything_before_anything_is_read(pool):
    taken = []
    results = pool.map(abs, (taken.append(n) or n for n in range(5)))
    assert taken == [0, 1, 2, 3, 4]
    assert list(results) == taken


def test_map_raises_where_the_exception_happened_and_then_is_over(pool):
    results = pool.map(int, ["1", "x", "3"])
    assert next(results) == 1
    with pytest.raises(ValueError, match="'x'"):
        next(results)
    assert list(results) == []


def test_an_iterable_that_raises_does_so_in_map_itself(pool):
    def broken():
        yield 1
        raise LookupError

    with pytest.raises(LookupError):
        pool.map(abs, broken())
    assert pool.submit(abs, -2).result(WAIT) == 2


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_map_raises_timeout_error_and_cancels_what_has_not_begun(pool, busy, gate, timeout):
    ran = []
    with pytest.raises(TimeoutError):
        next(pool.map(ran.append, range(3), timeout=timeout))
    gate.set()
    pool.submit(int).result(WAIT)
    assert ran == []


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_map_left_in_the_middle_cancels_the_rest(pool, gate, how):
    ran = []

    def record(n):
        ran.append(n)
        return n if n == 0 else gate.wait(WAIT)  # 1 may have begun, and then holds the worker

    results = pool.map(record, range(5))
    assert next(results) == 0
    if how == "close":
        results.close()
    del results
    gate.set()
    pool.submit(int).result(WAIT)
    assert ran in ([0], [0, 1])


def test_map_takes_a_chunksize_and_ignores_it(pool):
    assert list(pool.map(abs, [-1, -2, -3], chunksize=2)) == [1, 2, 3]


def test_map_reads_at_most_a_buffer_ahead(pool):
    has_it = "buffersize" in inspect.signature(type(pool).map).parameters
    assert has_it or type(pool) is ThreadPoolExecutor
    if has_it:
        taken = []
        results = pool.map(abs, (taken.append(n) or n for n in range(6)), buffersize=2)
        assert taken == [0, 1]
        assert next(results) == 0
        assert taken == [0, 1, 2]
        assert list(results) == [1, 2, 3, 4, 5]


# -- as_completed ---------------------------------------------------------------------------


def test_as_completed_yields_a_duplicate_once_and_what_is_done_first(pool, busy, gate):
    done = Future()
    done.set_result(1)
    waiting = pool.submit(int)
    finished = as_completed([waiting, done, waiting, busy, done], WAIT)
    assert next(finished) is done
    gate.set()
    assert list(finished) == [busy, waiting]


def test_as_completed_with_no_time_yields_what_is_done_and_raises(pool, busy):
    done = Future()
    done.set_result(1)
    finished = as_completed([busy, done], timeout=0)
    assert next(finished) is done
    with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        next(finished)


@pytest.mark.parametrize("other", [ThreadPoolExecutor, DynamicThreadPool])
def test_as_completed_and_wait_take_futures_of_different_origin(pool, busy, gate, other):
    by_hand = Future()
    with other(max_workers=1) as second:
        foreign = second.submit(gate.wait, WAIT)
        futures = {busy, foreign, by_hand}
        assert wait(futures, 0).not_done == futures
        finished = as_completed(futures, WAIT)
        by_hand.set_result(None)
        assert next(finished) is by_hand
        gate.set()
        assert set(finished) == {busy, foreign}
    assert wait(futures, WAIT).done == futures


def test_as_completed_yields_futures_cancelled_before_and_meanwhile(pool, busy, gate):
    done, before, meanwhile = Future(), pool.submit(int), pool.submit(int)
    done.set_result(1)
    before.cancel()
    finished = as_completed([done, meanwhile], WAIT)
    assert next(finished) is done  # from now on it waits for the other
    meanwhile.cancel()
    gate.set()
    assert list(finished) == [meanwhile]
    assert set(as_completed([before, busy], WAIT)) == {before, busy}


# -- wait -----------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, WAIT])
def test_wait_for_all(pool, timeout):
    futures = [pool.submit(abs, n) for n in range(5)]
    done, not_done = wait([*futures, futures[0]], timeout)
    assert (done, not_done) == (set(futures), set())


@pytest.mark.parametrize("mode", [FIRST_COMPLETED, FIRST_EXCEPTION, "ALL_COMPLETED"])
@pytest.mark.parametrize("timeout", [0, 0.01])
def test_wait_gives_back_what_is_not_done_in_time(pool, busy, mode, timeout):
    waiting = pool.submit(int)
    assert wait([busy, waiting], timeout, mode) == (set(), {busy, waiting})


@pytest.mark.parametrize("timeout", [None, WAIT])
def test_wait_for_the_first(pool, busy, timeout):
    done = Future()
    threading.Thread(target=done.set_result, args=(1,)).start()
    assert wait([busy, done], timeout, FIRST_COMPLETED) == ({done}, {busy})


@pytest.mark.parametrize("timeout", [None, WAIT])
def test_wait_for_the_first_exception(new_pool, gate, timeout):
    pool = new_pool(2)
    held = pool.submit(gate.wait, WAIT)
    good, bad = pool.submit(abs, 1), pool.submit(int, "x")
    assert wait([held, good, bad], timeout, FIRST_EXCEPTION) == ({good, bad}, {held})


def test_a_cancelled_future_is_no_first_exception(pool, busy, gate):
    waiting = pool.submit(int)
    waiting.cancel()
    threading.Thread(target=gate.set).start()
    assert wait([busy, waiting], WAIT, FIRST_EXCEPTION).not_done == set()


# -- asyncio --------------------------------------------------------------------------------


def test_a_loop_runs_tasks_and_awaits_futures(pool):
    async def main():
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(pool, pow, 2, 5) == 32
        assert await asyncio.wrap_future(pool.submit(abs, -3)) == 3
        with pytest.raises(ValueError, match="'x'"):
            await loop.run_in_executor(pool, int, "x")
        with pytest.raises(ValueError, match="'y'"):
            await asyncio.wrap_future(pool.submit(int, "y"))

    asyncio.run(main())


def test_what_a_loop_cancels_does_not_run(pool, busy, gate):
    ran = []

    async def main():
        loop = asyncio.get_running_loop()
        waiting = pool.submit(ran.append, 1)
        for awaited in (asyncio.wrap_future(waiting), loop.run_in_executor(pool, ran.append, 2)):
            awaited.cancel()
            with pytest.raises(asyncio.CancelledError):
                await awaited
            await asyncio.sleep(0)  # the loop passes it on in its next round
        assert waiting.cancelled()

    asyncio.run(main())
    gate.set()
    pool.submit(int).result(WAIT)
    assert ran == []


def test_a_loop_hears_that_somebody_else_cancelled(pool, busy):
    async def main():
        waiting = pool.submit(int)
        awaited = asyncio.wrap_future(waiting)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaited

    asyncio.run(main())


def test_a_running_task_survives_the_loop_that_gave_it_up(pool, busy, gate):
    async def main():
        awaited = asyncio.wrap_future(busy)
        awaited.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaited

    asyncio.run(main())
    gate.set()
    assert busy.result(WAIT) is True
