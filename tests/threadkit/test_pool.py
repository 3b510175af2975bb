"""DynamicThreadPool: what it promises beside being an Executor."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from threadkit import DynamicThreadPool, PoolClosed, TaskStale, TaskTimeout, current_task

WAIT = 10  # s; how long a test waits for what must happen


@pytest.fixture
def pool():
    with DynamicThreadPool(max_workers=4) as pool:
        yield pool


def test_every_task_runs_once_and_its_future_has_its_result(pool):
    futures = [pool.submit(pow, 2, n) for n in range(500)]
    assert [future.result(WAIT) for future in futures] == [2**n for n in range(500)]
    statistics = pool.statistics()
    assert (statistics.submitted, statistics.completed) == (500, 500)
    assert statistics.run.count == statistics.wait.count == 500


def test_a_closed_pool_refuses_in_the_standard_executors_words(pool):
    pool.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.submit(int)
    with pytest.raises(PoolClosed):
        pool.with_options(label="late").submit(int)


def test_a_task_that_outstays_its_ttl_in_the_queue_fails_and_never_runs():
    ran = []
    gate = threading.Event()
    with DynamicThreadPool(max_workers=1) as pool:
        pool.submit(gate.wait, WAIT)
        stale = pool.with_options(ttl=0.01, label="greeting").submit(ran.append, 1)
        with pytest.raises(TaskStale, match="greeting waited"):
            stale.result(WAIT)
        gate.set()
    assert not ran
    assert pool.statistics().expired == 1


def test_a_task_that_runs_too_long_is_given_up_and_its_worker_replaced():
    gate = threading.Event()
    with DynamicThreadPool(max_workers=1) as pool:
        slow = pool.with_options(timeout=0.01).submit(gate.wait, WAIT)
        with pytest.raises(TaskTimeout):
            slow.result(WAIT)
        assert pool.submit(pow, 2, 3).result(WAIT) == 8
        gate.set()
    statistics = pool.statistics()
    assert (statistics.timed_out, statistics.completed) == (1, 1)


def test_a_running_task_learns_that_it_was_cancelled():
    begun, cancelled = threading.Event(), threading.Event()

    def task():
        begun.set()
        assert cancelled.wait(WAIT)
        current_task().check()

    with DynamicThreadPool(max_workers=1) as pool:
        future = pool.submit(task)
        assert begun.wait(WAIT)
        assert not future.cancel()
        cancelled.set()
        assert type(future.exception(WAIT)).__name__ == "TaskCancelled"


def test_a_dropped_pool_is_collected_and_its_threads_leave():
    pool = DynamicThreadPool(max_workers=2)
    future = pool.submit(threading.current_thread)
    worker = future.result(WAIT)
    collected = weakref.ref(pool)
    del pool
    gc.collect()
    assert collected() is None
    worker.join(WAIT)
    assert not worker.is_alive()


def test_shutdown_with_a_timeout_never_hangs_and_says_what_it_left():
    gate = threading.Event()
    pool = DynamicThreadPool(max_workers=1)
    begun = pool.with_options(label="stuck").submit(gate.wait, WAIT)
    queued = pool.submit(int)
    report = pool.shutdown(timeout=0.01)
    assert not report.finished
    assert report.running == ("stuck",)
    assert report.cancelled == 1
    assert queued.cancelled()
    gate.set()
    assert begun.result(WAIT)
    assert pool.shutdown(timeout=WAIT).finished


def test_shrinking_lets_idle_workers_go_and_loses_no_task():
    with DynamicThreadPool(min_workers=0, max_workers=8, policy="fixed") as pool:
        assert sum(pool.map(abs, range(100))) == sum(range(100))
        pool.resize(max_workers=2)
        assert sum(pool.map(abs, range(100))) == sum(range(100))
        assert pool.statistics().alive <= 2
