"""Record what a running pool is given, for `--workload FILE`.

    with Recorder(pool) as recorder:
        app.run(executor=recorder)  # anything that takes an Executor
    recorder.save(Path("mine.csv"))

It stands in front of the pool: what is submitted through it is passed on, with two clock readings
around each task. It works with any Executor, since no pool need know of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from benchmarks.workloads import save

__all__ = ["Recorder"]


class Recorder(Executor):
    """An executor that notes arrival, duration and CPU share of every task of another one.

    Thread safety: as the executor's; `rows` and `save` may be called while tasks run.

    Lifetime: it does not shut the recorded executor down, unless `shutdown` is called on it.

    Args:
        executor: The executor that does the work.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._started_at = time.perf_counter()
        self._rows: list[tuple[float, float, float]] = []  # append is atomic, also without a GIL

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Pass the task on, timed."""
        arrival = time.perf_counter() - self._started_at
        return self.executor.submit(self._timed, arrival, fn, args, kwargs)

    def _timed(
        self, arrival: float, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            return fn(*args, **kwargs)
        finally:
            took = time.perf_counter() - wall
            share = (time.thread_time() - cpu) / took if took else 0.0
            self._rows.append((arrival, took, min(1.0, share)))

    def rows(self) -> list[tuple[float, float, float]]:
        """(arrival, duration, CPU share) of the tasks that have ended, by arrival."""
        return sorted(self._rows.copy())

    def save(self, path: Path) -> None:
        """Write the rows as CSV."""
        save(path, self.rows())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut the recorded executor down."""
        self.executor.shutdown(wait=wait, cancel_futures=cancel_futures)

    def __exit__(self, *exc_info: object) -> None:
        """Stop nothing: the executor is its owner's."""

    def __repr__(self) -> str:
        return f"<Recorder of {self.executor!r}, {len(self._rows)} tasks>"
