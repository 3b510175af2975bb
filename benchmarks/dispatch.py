"""What does a task cost?

Workload: tasks that do nothing, so that only the pool's own work is left, and a burst of tasks
that wait. Every contender does the same tasks, and every result is checked. Ratios are to the
standard ThreadPoolExecutor in the same run; below 1 is better than it.

Peers: ThreadPoolExecutor (the baseline), multiprocessing's ThreadPool, pebble,
flexible-thread-pool, threadpool-executor-shrink-able, ThreadPoolExecutorPlus, betapool.
A peer is left out of a question it has no means for; one that fails is reported as failed.

    python -m benchmarks.dispatch [--quick] [--json FILE] [--plot FILE] [--only METRIC] [--ours]
"""

from __future__ import annotations

import argparse
import builtins
import concurrent.futures
import contextlib
import functools
import gc
import importlib.util
import io
import logging
import statistics
import sys
import threading
import time
import tracemalloc
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, main, seconds
from threadkit import DynamicThreadPool

BASELINE = "ThreadPoolExecutor"
PATIENCE = 60.0  # s a result may take before a contender is called stuck
MICRO = 1e6


def identity(value: int) -> int:
    """The task that does nothing."""
    return value


# -- contenders: each a function that makes a pool of at most so many workers ------------------


def _threadkit(workers: int) -> Any:
    return DynamicThreadPool(max_workers=workers)


def _threadkit_levels_bounded(workers: int) -> Any:
    return DynamicThreadPool(max_workers=workers, levels=3, queue_limit=1_000_000)


class _MultiprocessingThreadPool:
    def __init__(self, workers: int) -> None:
        from multiprocessing.pool import ThreadPool  # noqa: PLC0415 - each peer only when asked

        self._pool = ThreadPool(workers)

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        result = self._pool.apply_async(fn, args)
        return types.SimpleNamespace(result=result.get)

    def shutdown(self) -> None:
        self._pool.close()
        self._pool.join()


class _Pebble:
    def __init__(self, workers: int) -> None:
        from pebble import ThreadPool  # noqa: PLC0415

        self._pool = ThreadPool(max_workers=workers)

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self._pool.schedule(fn, args=args)

    def shutdown(self) -> None:
        self._pool.close()
        self._pool.join()


def _flexible(workers: int) -> Any:
    with _quiet_nb_log():
        from flexible_thread_pool import FlexibleThreadPool  # noqa: PLC0415
    return FlexibleThreadPool(workers, work_queue_maxsize=1_000_000)


def _shrink_able(workers: int) -> Any:
    with _quiet_nb_log():
        from threadpool_executor_shrink_able import ThreadPoolExecutorShrinkAble  # noqa: PLC0415
    return ThreadPoolExecutorShrinkAble(workers)


def _plus(workers: int) -> Any:
    from ThreadPoolExecutorPlus import ThreadPoolExecutor  # noqa: PLC0415

    return ThreadPoolExecutor(max_workers=workers)


def _betapool(workers: int) -> Any:
    from betapool import AdaptiveThreadPoolExecutor  # noqa: PLC0415

    return AdaptiveThreadPoolExecutor(min_workers=min(2, workers), max_workers=workers)


@contextlib.contextmanager
def _quiet_nb_log() -> Iterator[None]:
    """Import a peer that logs through nb_log, which else writes a file beside us and patches print.

    It writes no configuration where the second entry of the path is its own folder.
    """
    spec = importlib.util.find_spec("nb_log")
    assert spec is not None
    assert spec.origin is not None
    logging.disable(logging.INFO)  # or it tells of every thread
    path, print_, streams = sys.path.copy(), builtins.print, (sys.stdout, sys.stderr)
    sys.path.insert(1, str(Path(spec.origin).parent.parent))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        sys.path[:] = path
        builtins.print = print_
        sys.stdout, sys.stderr = streams


OURS: dict[str, Callable[[int], Any]] = {
    BASELINE: concurrent.futures.ThreadPoolExecutor,
    "threadkit": _threadkit,
}
WITH_LEVELS = {"threadkit:levels+bound": _threadkit_levels_bounded}
PEERS: dict[str, Callable[[int], Any]] = {
    "multiprocessing.ThreadPool": _MultiprocessingThreadPool,
    "pebble": _Pebble,
    "flexible-thread-pool": _flexible,
    "shrink-able": _shrink_able,
    "Plus": _plus,
    "betapool": _betapool,
}


@contextlib.contextmanager
def _pool(make: Callable[[int], Any], workers: int) -> Iterator[Any]:
    gc.collect()
    pool = make(workers)
    try:
        yield pool
    finally:
        pool.shutdown()


@contextlib.contextmanager
def _held(make: Callable[[int], Any]) -> Iterator[Any]:
    """A pool of one worker that is busy, so that what is submitted stays queued."""
    gate, begun = threading.Event(), threading.Event()
    with _pool(make, 1) as pool:
        pool.submit(lambda: (begun.set(), gate.wait(PATIENCE)))
        assert begun.wait(PATIENCE)
        try:
            yield pool
        finally:
            gate.set()


# -- questions: each does the checked work once and returns one number -------------------------


def dispatch(make: Callable[[int], Any], tasks: int) -> float:
    """Microseconds for a task from submit to result: many submitted, then all awaited."""
    with _pool(make, 4) as pool:
        _warm_up(pool)
        started = time.perf_counter()
        futures = [pool.submit(identity, n) for n in range(tasks)]
        total = sum(future.result() for future in futures)
        took = time.perf_counter() - started
    assert total == sum(range(tasks))
    return took / tasks * MICRO


def submit_alone(make: Callable[[int], Any], tasks: int) -> float:
    """Microseconds that the submitter spends, while no worker takes part."""
    with _held(make) as pool:
        futures: list[Any] = []
        took = seconds(lambda: futures.extend(pool.submit(identity, n) for n in range(tasks)))
    assert sum(future.result(PATIENCE) for future in futures) == sum(range(tasks))
    return took / tasks * MICRO


def four_producers(make: Callable[[int], Any], tasks: int) -> float:
    """Microseconds for a task when four threads submit and await their own."""
    sums: list[int] = []

    def produce(pool: Any, first: int) -> None:
        futures = [pool.submit(identity, n) for n in range(first, tasks, 4)]
        sums.append(sum(future.result() for future in futures))

    with _pool(make, 4) as pool:
        _warm_up(pool)
        producers = [threading.Thread(target=produce, args=(pool, n)) for n in range(4)]
        started = time.perf_counter()
        for producer in producers:
            producer.start()
        for producer in producers:
            producer.join()
        took = time.perf_counter() - started
    assert sum(sums) == sum(range(tasks))
    return took / tasks * MICRO


def ping_pong(make: Callable[[int], Any], trips: int, quantile: float) -> float:
    """Microseconds of one task, submitted and awaited before the next: this quantile."""
    times = []
    with _pool(make, 4) as pool:
        _warm_up(pool)
        for n in range(trips):
            started = time.perf_counter()
            answer = pool.submit(identity, n).result()
            times.append(time.perf_counter() - started)
            assert answer == n
    return statistics.quantiles(times, n=100)[int(quantile * 100) - 1] * MICRO


def memory(make: Callable[[int], Any], tasks: int) -> float:
    """Bytes that a waiting task takes, its future and its place in the caller's list included."""
    with _held(make) as pool:
        tracemalloc.start()
        futures: list[Any] = [None] * tasks
        before = tracemalloc.get_traced_memory()[0]
        for n in range(tasks):
            futures[n] = pool.submit(identity, 7)
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert sum(future.result(PATIENCE) for future in futures) == 7 * tasks
    return (after - before) / tasks


def wait_for_all(make: Callable[[int], Any], tasks: int) -> float:
    """Microseconds for a task, awaited by `concurrent.futures.wait`."""
    with _pool(make, 4) as pool:
        _warm_up(pool)
        started = time.perf_counter()
        done, not_done = concurrent.futures.wait([pool.submit(identity, n) for n in range(tasks)])
        took = time.perf_counter() - started
    assert not not_done
    assert sum(future.result() for future in done) == sum(range(tasks))
    return took / tasks * MICRO


def as_completed(make: Callable[[int], Any], tasks: int) -> float:
    """Microseconds for a task, awaited by `as_completed`."""
    with _pool(make, 4) as pool:
        _warm_up(pool)
        started = time.perf_counter()
        futures = [pool.submit(identity, n) for n in range(tasks)]
        total = sum(future.result() for future in concurrent.futures.as_completed(futures))
        took = time.perf_counter() - started
    assert total == sum(range(tasks))
    return took / tasks * MICRO


def map_(make: Callable[[int], Any], tasks: int) -> float:
    """Microseconds for a task of `map`."""
    with _pool(make, 4) as pool:
        _warm_up(pool)
        started = time.perf_counter()
        results = list(pool.map(identity, range(tasks)))
        took = time.perf_counter() - started
    assert results == list(range(tasks))
    return took / tasks * MICRO


def burst(make: Callable[[int], Any]) -> float:
    """Milliseconds for 200 tasks that wait 50 ms each, on at most 64 workers, from cold."""
    with _pool(make, 64) as pool:
        started = time.perf_counter()
        futures = [pool.submit(time.sleep, 0.05) for _ in range(200)]
        for future in futures:
            future.result()
        return (time.perf_counter() - started) * 1e3


def after_burst() -> float:
    """Workers left two idle timeouts after the burst (the standard executor keeps all 64)."""
    with DynamicThreadPool(max_workers=64, idle_timeout=0.5) as pool:
        for future in [pool.submit(time.sleep, 0.05) for _ in range(200)]:
            future.result()
        assert pool.statistics().alive > pool.statistics().min_workers
        time.sleep(1.0 + 0.5)  # the timeouts, and looks of the policy
        return pool.statistics().alive


def _after_burst_of_the_standard() -> float:
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        before = threading.active_count()
        for future in [pool.submit(time.sleep, 0.05) for _ in range(200)]:
            future.result()
        return threading.active_count() - before


def _warm_up(pool: Any) -> None:
    for future in [pool.submit(identity, n) for n in range(100)]:
        future.result()


# -- the benchmark -----------------------------------------------------------------------------


def build(options: argparse.Namespace) -> Benchmark:
    """Every contender at every question it has means for."""
    tasks = 5_000 if options.quick else 50_000
    peers = {} if options.ours else PEERS
    packages = ["pebble", "flexible-thread-pool", "threadpool-executor-shrink-able"]
    packages += ["ThreadPoolExecutorPlus", "betapool"]
    bench = Benchmark("dispatch", BASELINE, packages=[] if options.ours else packages)
    for name, make in {**OURS, **WITH_LEVELS, **peers}.items():
        few = tasks // 5 if name in peers else tasks
        bench.add(name, "dispatch", functools.partial(dispatch, make, few), unit="us/task")
    for name, make in {**OURS, **WITH_LEVELS}.items():
        for metric, question in {
            "submit alone": submit_alone,
            "4 producers": four_producers,
            "wait": wait_for_all,
            "as_completed": as_completed,
            "map": map_,
        }.items():
            bench.add(name, metric, functools.partial(question, make, tasks), unit="us/task")
        bench.add(
            name, "memory", functools.partial(memory, make, 5_000), unit="bytes/task", repeats=7
        )
    for name, make in {**OURS, **peers}.items():
        for quantile in (0.50, 0.99):
            run = functools.partial(ping_pong, make, max(200, tasks // 25), quantile)
            bench.add(name, f"ping-pong p{quantile * 100:.0f}", run, unit="us")
    for name, make in {**OURS, **peers}.items():
        bench.add(name, "burst", functools.partial(burst, make), unit="ms", workload="200 x 50 ms")
    bench.add(BASELINE, "after burst", _after_burst_of_the_standard, unit="workers", repeats=7)
    bench.add("threadkit", "after burst", after_burst, unit="workers", repeats=7)
    return bench


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ours", action="store_true", help="without the peers")


if __name__ == "__main__":
    main(build, add_arguments=_add_arguments)
