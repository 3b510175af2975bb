"""Run a workload against a real pool, whoever wrote it, and measure it from outside.

All pools are measured alike: threads by counting those alive, waits and sojourns by clock
readings inside the tasks, counted from the instant a task was due (so a submitter that is late,
for want of the GIL, does not hide what users feel).
"""

from __future__ import annotations

import builtins
import gc
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from benchmarks.comparison.measures import Run, costs_of, queue_series
from benchmarks.workloads import IDLE_TIMEOUT, MAX_WORKERS, MIN_WORKERS, Workload
from threadkit import DynamicThreadPool
from threadkit.sizing import SizingPolicy

__all__ = ["PEERS", "STANDARD", "run_real", "threadkit_pool"]

STANDARD = "ThreadPoolExecutor"
SAMPLE = 0.01  # seconds between two counts of the threads alive
PATIENCE = 60.0  # seconds a contender may take longer than the workload lasts
POINTS = 400  # of a plotted series


def threadkit_pool(make: Callable[[], SizingPolicy]) -> Callable[[], Executor]:
    """Makes our pool with a new policy each time."""
    return lambda: DynamicThreadPool(
        MIN_WORKERS, MAX_WORKERS, policy=make(), idle_timeout=IDLE_TIMEOUT
    )


# -- the peers, with the same limits where they have any ------------------------------------


@contextmanager
def _tamed() -> Iterator[None]:
    """Around imports that replace `print` and leave a configuration file in a source folder."""
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(1, folder)
        original = builtins.print
        try:
            yield
        finally:
            sys.path.remove(folder)
            builtins.print = original


def _flexible_thread_pool() -> Executor:
    with _tamed():
        from flexible_thread_pool import FlexibleThreadPool  # noqa: PLC0415 - optional peer

    pool = FlexibleThreadPool(MAX_WORKERS, work_queue_maxsize=0)
    pool.MIN_WORKERS, pool.KEEP_ALIVE_TIME = MIN_WORKERS, IDLE_TIMEOUT
    return pool


def _plus() -> Executor:
    from ThreadPoolExecutorPlus import ThreadPoolExecutor as Plus  # noqa: PLC0415

    pool = Plus(MAX_WORKERS)
    pool.set_daemon_opts(min_workers=MIN_WORKERS, keep_alive_time=IDLE_TIMEOUT)
    return pool


def _shrink_able() -> Executor:
    with _tamed():
        from threadpool_executor_shrink_able import ThreadPoolExecutorShrinkAble  # noqa: PLC0415

    pool = ThreadPoolExecutorShrinkAble(MAX_WORKERS)
    pool.MIN_WORKERS, pool.KEEP_ALIVE_TIME = MIN_WORKERS, IDLE_TIMEOUT
    return pool


def _betapool() -> Executor:
    from betapool import AdaptiveThreadPoolExecutor  # noqa: PLC0415

    return AdaptiveThreadPoolExecutor(min_workers=MIN_WORKERS, max_workers=MAX_WORKERS)


PEERS: Mapping[str, Callable[[], Executor]] = {
    STANDARD: lambda: ThreadPoolExecutor(MAX_WORKERS),
    "flexible-thread-pool": _flexible_thread_pool,
    "ThreadPoolExecutorPlus": _plus,
    "threadpool-executor-shrink-able": _shrink_able,
    "betapool": _betapool,
}


# -- one run --------------------------------------------------------------------------------


@dataclass
class _Tasks:
    """The tasks of a workload as real ones."""

    workload: Workload
    starts: list[float] = field(init=False)
    ends: list[float] = field(init=False)
    started_at: float = 0.0
    left: int = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.workload.tasks.arrivals)
        self.starts, self.ends, self.left = [0.0] * count, [0.0] * count, count
        # Guards in_flight and left; held for one addition.
        self._lock = threading.Lock()
        self._in_flight = 0
        self.all_done = threading.Event()

    def run(self, index: int) -> int:
        """Compute, then block, as the workload says."""
        tasks = self.workload.tasks
        self.starts[index] = time.perf_counter() - self.started_at
        _compute(tasks.cpu[index])
        if tasks.block[index]:
            self._block(tasks.block[index])
        self.ends[index] = time.perf_counter() - self.started_at
        with self._lock:
            self.left -= 1
            last = not self.left
        if last:
            self.all_done.set()
        return index

    def _block(self, seconds: float) -> None:
        dependency = self.workload.tasks.dependency
        if dependency is None:
            time.sleep(seconds)
            return
        with self._lock:
            self._in_flight += 1
            in_flight = self._in_flight
        time.sleep(seconds * dependency(time.perf_counter() - self.started_at, in_flight))
        with self._lock:
            self._in_flight -= 1


def _compute(seconds: float) -> int:
    """Pure Python work for so much CPU time of this thread."""
    if not seconds:
        return 0
    turns, until = 0, time.thread_time() + seconds
    while time.thread_time() < until:
        turns += 1
    return turns


@contextmanager
def _threads_counted(started_at: float) -> Iterator[list[tuple[float, int]]]:
    """Count the threads that were not there before; (instant, count) at each change."""
    sizes: list[tuple[float, int]] = [(0.0, 0)]
    stop = threading.Event()
    before = set(threading.enumerate())

    def count() -> None:
        before.add(threading.current_thread())
        while not stop.wait(SAMPLE):
            alive = sum(thread not in before for thread in threading.enumerate())
            if alive != sizes[-1][1]:
                sizes.append((time.perf_counter() - started_at, alive))

    thread = threading.Thread(target=count, name="count-threads", daemon=True)
    thread.start()
    try:
        yield sizes
    finally:
        stop.set()
        thread.join()


def run_real(contender: str, make: Callable[[], Executor], workload: Workload) -> Run:
    """Run the workload once; a contender that fails or hangs is reported with its error."""
    gc.collect()
    tasks = _Tasks(workload)
    try:
        pool = make()
    except Exception as exc:  # noqa: BLE001 - a peer may fail in any way
        return Run(contender, workload.name, error=f"{type(exc).__name__}: {exc}")
    tasks.started_at = time.perf_counter()
    with _threads_counted(tasks.started_at) as sizes:
        error = _drive(pool, tasks)
        until = max(workload.horizon, time.perf_counter() - tasks.started_at)
    if error is not None:
        threading.Thread(target=pool.shutdown, daemon=True).start()  # it may hang, too
        return Run(contender, workload.name, error=error)
    pool.shutdown(wait=True)
    return _result(contender, tasks, sizes, until)


def _drive(pool: Executor, tasks: _Tasks) -> str | None:
    """Submit each task when it is due, and wait for all; why that failed, if it did."""
    futures = []
    try:
        for index, due in enumerate(tasks.workload.tasks.arrivals):
            ahead = due - (time.perf_counter() - tasks.started_at)
            if ahead > 0:
                time.sleep(ahead)
            futures.append(pool.submit(tasks.run, index))
        if not tasks.all_done.wait(tasks.workload.horizon + PATIENCE):
            return f"{tasks.left} tasks were never done"
        done = [future.result(timeout=PATIENCE) for future in futures]
    except Exception as exc:  # noqa: BLE001 - a peer may fail in any way
        return f"{type(exc).__name__}: {exc}"
    if done != list(range(len(done))):
        return "results are wrong"
    rest = tasks.workload.horizon - (time.perf_counter() - tasks.started_at)
    if rest > 0:
        time.sleep(rest)
    return None


def _result(contender: str, tasks: _Tasks, sizes: list[tuple[float, int]], until: float) -> Run:
    arrivals = tasks.workload.tasks.arrivals
    changes = [*sizes, (until, 0)]
    thread_seconds = sum(size * (after - at) for (at, size), (after, _) in pairwise(changes))
    costs = costs_of(
        waits=[start - due for start, due in zip(tasks.starts, arrivals, strict=True)],
        sojourns=[end - due for end, due in zip(tasks.ends, arrivals, strict=True)],
        makespan=max(tasks.ends) - arrivals[0],
        thread_seconds=thread_seconds,
        sizes=sizes[1:],
    )
    series = queue_series(arrivals, tasks.starts, sizes, POINTS)
    return Run(contender, tasks.workload.name, costs, series)
