"""Where DynamicThreadPool differs from the standard executor on purpose, both side by side.

The reasons are in docs/guides/pool.md and docs/decisions/.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import weakref
from concurrent.futures import as_completed, wait

import pytest

from failing import caught
from threadkit import DynamicThreadPool

WAIT = 10


def ours(kind):
    return kind is DynamicThreadPool


def hold(pool, gate):
    """Have the pool's only worker wait for the gate."""
    begun = threading.Event()
    pool.submit(lambda: (begun.set(), gate.wait(WAIT)))
    assert begun.wait(WAIT)


def test_the_first_argument_by_place_is_the_most_workers_or_the_fewest(kind):
    pool = kind(3)
    assert (pool.statistics().min_workers if ours(kind) else pool._max_workers) == 3
    pool.shutdown()


def test_what_cannot_be_called_fails_the_future_or_already_the_submit(kind):
    with kind(max_workers=1) as pool:
        if ours(kind):
            with pytest.raises(TypeError, match="callable"):
                pool.submit(5)
        else:
            assert isinstance(pool.submit(5).exception(WAIT), TypeError)


def test_waiters_hear_of_a_cancelling_when_a_worker_sees_it_or_at_once(kind, gate):
    with kind(max_workers=1) as pool:
        hold(pool, gate)
        waiting = pool.submit(int)
        waiting.cancel()
        assert wait([waiting], timeout=0).done == ({waiting} if ours(kind) else set())
        gate.set()
        assert list(as_completed([waiting], WAIT)) == [waiting]


def test_tasks_see_no_context_variables_or_their_submitters(kind):
    user = contextvars.ContextVar("user", default="nobody")
    with kind(max_workers=1) as pool:
        user.set("Ada")
        assert pool.submit(user.get).result(WAIT) == ("Ada" if ours(kind) else "nobody")


def test_threads_are_numbered_or_named_workers(kind):
    with kind(max_workers=1, thread_name_prefix="replies") as pool:
        name = pool.submit(lambda: threading.current_thread().name).result(WAIT)
    assert name == ("replies-worker-0" if ours(kind) else "replies_0")


def test_a_read_exception_grows_its_traceback_or_stays_as_it_was(kind):
    with kind(max_workers=1) as pool:
        future = pool.submit(int, "x")
        lengths = {len(traceback_of(caught(future.result, WAIT))) for _ in range(3)}
    assert len(lengths) == (1 if ours(kind) else 3)


def traceback_of(error):
    entries, entry = [], error.__traceback__
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    return entries


@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 takes any executor, and warns")
def test_a_loop_takes_only_the_standard_one_for_its_default(kind):
    async def main(pool):
        asyncio.get_running_loop().set_default_executor(pool)

    with kind(max_workers=1) as pool:
        if ours(kind):
            with pytest.raises(TypeError, match="ThreadPoolExecutor"):
                asyncio.run(main(pool))
        else:
            asyncio.run(main(pool))


def test_an_exception_keeps_its_tasks_locals_or_lets_them_go(kind):
    class Thing:
        pass

    things = []

    def fail():
        thing = Thing()
        things.append(weakref.ref(thing))
        raise KeyError

    with kind(max_workers=1) as pool:
        future = pool.submit(fail)
        assert isinstance(future.exception(WAIT), KeyError)
        pool.submit(int).result(WAIT)
        gc.collect()
        assert (things[0]() is None) == ours(kind)


def test_a_task_that_waits_for_its_own_pool_is_stuck_or_served(kind):
    def outer():
        inner = pool.submit(abs, -3)
        return (wait([inner], 0.01 if not ours(kind) else WAIT).done == {inner}), inner

    with kind(max_workers=1) as pool:
        served, inner = pool.submit(outer).result(WAIT)
        assert served == ours(kind)
        assert inner.result(WAIT) == 3
