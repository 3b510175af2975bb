"""How other pools have failed, each as a test of ours. The names are of those that failed."""

from __future__ import annotations

import concurrent.futures
import gc
import threading
import weakref

import pytest

from threadkit import DynamicThreadPool, PoolClosed
from threadkit.testing import SimRuntime

WAIT = 10


def simulated(scenario, seed=1):
    sim = SimRuntime(seed=seed)
    return sim.run(scenario, sim)


@pytest.mark.parametrize("how", ["wait", "as_completed"])
def test_stdlib_waiting_for_futures_that_a_shutdown_cancelled_does_not_stick(how):
    gate = threading.Event()
    pool = DynamicThreadPool(max_workers=1)
    running = pool.submit(gate.wait, WAIT)
    queued = [pool.submit(int) for _ in range(5)]
    pool.shutdown(wait=False, cancel_futures=True)
    if how == "wait":
        assert concurrent.futures.wait(queued, WAIT).not_done == set()
    else:
        assert set(concurrent.futures.as_completed(queued, WAIT)) == set(queued)
    assert all(future.cancelled() for future in queued)
    gate.set()
    assert running.result(WAIT)
    pool.shutdown()


def test_stdlib_threads_are_given_back_after_a_burst():
    def scenario(sim):
        with DynamicThreadPool(min_workers=2, max_workers=32, runtime=sim) as pool:
            for future in [pool.submit(sim.sleep, 1.0) for _ in range(64)]:
                future.result()
            most = max(change.after for change in pool.statistics().changes)
            sim.sleep(300.0)
            return most, pool.statistics().alive

    most, left = simulated(scenario)
    assert most > 8
    assert left == 2


def test_stdlib_a_task_does_not_stay_queued_when_no_thread_could_start():
    def scenario(sim):
        with DynamicThreadPool(max_workers=1, runtime=sim) as pool:
            sim.fail_thread_starts(1)
            with pytest.raises(RuntimeError):
                pool.submit(int).result(5)
            return pool.submit(int, "3").result(5), pool.statistics().queued

    # WorkerLost is a BrokenExecutor, and that a RuntimeError.
    assert simulated(scenario) == (3, (0,))


def test_flexible_cancelling_queued_futures_kills_no_worker():
    gate = threading.Event()
    with DynamicThreadPool(max_workers=2, policy="fixed") as pool:
        held = [pool.submit(gate.wait, WAIT) for _ in range(2)]
        cancelled = [pool.submit(int) for _ in range(20)]
        assert all(future.cancel() for future in cancelled)
        gate.set()
        assert all(future.result(WAIT) for future in held)
        assert [pool.submit(abs, -n).result(WAIT) for n in range(10)] == list(range(10))
        assert pool.statistics().alive == 2


def test_flexible_workers_are_started_for_tasks_that_come_while_others_finish():
    def scenario(sim):
        with DynamicThreadPool(max_workers=4, policy="fixed", runtime=sim) as pool:
            for _ in range(10):
                started = sim.monotonic()
                for future in [pool.submit(sim.sleep, 1.0) for _ in range(4)]:
                    future.result()
                took = sim.monotonic() - started
        return took

    assert simulated(scenario) == pytest.approx(1.0, abs=0.2)  # all four at once: virtual time


def test_flexible_shutdown_shuts_down():
    pool = DynamicThreadPool(max_workers=2)
    thread = pool.submit(threading.current_thread).result(WAIT)
    assert pool.shutdown().finished
    assert not thread.is_alive()
    with pytest.raises(PoolClosed):
        pool.submit(int)


def test_shrink_able_nested_submits_do_not_deadlock():
    with DynamicThreadPool(max_workers=2) as pool:

        def nest(depth):
            return depth if depth == 0 else pool.submit(nest, depth - 1).result()

        futures = [pool.submit(nest, 5) for _ in range(4)]
        assert [future.result(WAIT) for future in futures] == [0] * 4


def test_plus_a_blocked_submit_does_not_stand_in_the_way_of_a_shutdown():
    gate = threading.Event()
    pool = DynamicThreadPool(max_workers=1, queue_limit=1)
    refused = []

    def submit():
        try:
            for _ in range(3):
                pool.submit(gate.wait, WAIT)
        except PoolClosed:
            refused.append(True)

    submitter = threading.Thread(target=submit)
    submitter.start()
    report = pool.shutdown(timeout=0.01)
    submitter.join(WAIT)
    assert not submitter.is_alive()
    gate.set()
    assert pool.shutdown(timeout=WAIT).finished
    assert not report.finished or refused


def test_plus_a_dropped_pool_is_collected():
    pool = DynamicThreadPool(max_workers=2)
    pool.submit(int).result(WAIT)
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None


def test_betapool_reports_the_threads_it_has():
    def scenario(sim):
        with DynamicThreadPool(max_workers=32, runtime=sim) as pool:
            alive = set()
            for future in [pool.submit(lambda: alive.add(sim.get_ident())) for _ in range(20)]:
                future.result()
            statistics = pool.statistics()
            threads = [t for t in pool._crew.roster.workers if t.thread.is_alive()]
            return len(alive) <= statistics.alive == len(threads)

    assert simulated(scenario)


def test_adaptive_executor_an_exception_kills_no_worker():
    with DynamicThreadPool(max_workers=1) as pool:
        workers = set()
        for _ in range(5):
            assert isinstance(pool.submit(int, "x").exception(WAIT), ValueError)
            workers.add(pool.submit(threading.get_ident).result(WAIT))
        assert len(workers) == 1


def test_ace_lowering_the_limit_under_load_does_not_deadlock():
    def scenario(sim):
        with DynamicThreadPool(max_workers=16, policy="fixed", runtime=sim) as pool:
            futures = [pool.submit(sim.sleep, 1.0) for _ in range(100)]
            sim.sleep(1.5)
            pool.resize(min_workers=1, max_workers=1)
            sim.sleep(2.0)
            low = pool.statistics().alive
            for future in futures:
                future.result()
            return low

    assert simulated(scenario) == 1


def test_collapsing_after_shutdown_every_future_is_done():
    pool = DynamicThreadPool(max_workers=3)
    futures = [pool.submit(abs, -n) for n in range(300)]
    pool.shutdown(wait=True)
    assert all(future.done() for future in futures)


def test_pebble_stopping_strands_no_future():
    gate = threading.Event()
    pool = DynamicThreadPool(max_workers=1)
    running = pool.submit(gate.wait, WAIT)
    queued = [pool.submit(int) for _ in range(10)]
    pool.shutdown(timeout=0)
    assert all(future.done() for future in queued)
    gate.set()
    assert running.result(WAIT)
    pool.shutdown()


def test_bounded_pool_submitting_after_shutdown_uses_up_no_room():
    pool = DynamicThreadPool(max_workers=1, queue_limit=1)
    pool.shutdown()
    for _ in range(10):  # blocked for ever after as many as there was room for
        with pytest.raises(PoolClosed):
            pool.submit(int)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_fastthreadpool_and_multiprocessing_exit_requests_kill_no_worker(kind):
    def leave():
        raise kind

    with DynamicThreadPool(max_workers=1) as pool:
        before = pool.submit(threading.get_ident).result(WAIT)
        assert isinstance(pool.submit(leave).exception(WAIT), kind)
        assert pool.submit(threading.get_ident).result(WAIT) == before


def test_java_an_unbounded_queue_does_not_keep_the_pool_small():
    def scenario(sim):
        with DynamicThreadPool(min_workers=1, max_workers=16, runtime=sim) as pool:
            started = sim.monotonic()
            for future in [pool.submit(sim.sleep, 1.0) for _ in range(32)]:
                future.result()
            return sim.monotonic() - started

    assert simulated(scenario) < 4.0  # 32 with one worker, 2 with sixteen; virtual time


def test_cherrypy_shrinking_twice_at_once_does_not_take_the_pool_to_nothing():
    def scenario(sim):
        with DynamicThreadPool(min_workers=2, max_workers=8, policy="fixed", runtime=sim) as pool:
            for future in [pool.submit(sim.sleep, 1.0) for _ in range(8)]:
                future.result()
            shrinkers = [sim.thread(pool.resize, kwargs={"max_workers": 2}) for _ in range(4)]
            for shrinker in shrinkers:
                shrinker.start()
            for shrinker in shrinkers:
                shrinker.join()
            sim.sleep(10.0)
            return pool.statistics().alive, pool.submit(int, "4").result(5)

    for seed in range(30):
        assert simulated(scenario, seed) == (2, 4)
