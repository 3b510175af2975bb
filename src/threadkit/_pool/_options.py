"""What a task was submitted with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from threadkit._futures import Future
from threadkit._pool._worker import Worker, current_worker, run_here

if TYPE_CHECKING:
    from threadkit._pool._crew import Crew

__all__ = ["TaskOptions"]

MAX_DEPTH = 32  # waits that run their task in place, one inside the other: six frames each


class TaskOptions:
    """The options of a task, shared by all tasks of one view of the pool."""

    __slots__ = ("crew", "guarded", "key", "label", "level", "timeout", "ttl")

    def __init__(
        self,
        crew: Crew,
        *,
        level: int = 0,
        timeout: float | None = None,
        ttl: float | None = None,
        label: str | None = None,
        key: object = None,
    ) -> None:
        self.crew = crew
        self.level = level
        self.timeout = timeout
        self.ttl = ttl
        self.label = label
        self.key = key
        # Such a task can end in more ways than by its worker: it is claimed under its condition.
        self.guarded = timeout is not None or ttl is not None or key is not None

    def name_of(self, future: Future[Any]) -> str:
        """What to call a task among people: its label, else its function."""
        if self.label is not None:
            return self.label
        fn = future._fn  # noqa: SLF001
        return getattr(fn, "__qualname__", None) or "a task"

    def __repr__(self) -> str:
        shown = ("level", "timeout", "ttl", "label", "key")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)

    def cancelled(self, future: Future[Any], /) -> None:
        """Count the future's cancellation."""
        del future
        self.crew.count("cancelled")

    def wait(self, future: Future[Any], timeout: float | None, /) -> None:
        """Wait for a task; a worker that waits for its own pool must not hold it up."""
        worker = current_worker()
        if worker is None or worker.crew is not self.crew:
            future._wait_plainly(timeout)  # noqa: SLF001
        elif timeout is not None or worker.depth >= MAX_DEPTH:
            with self.crew.lending(worker):
                future._wait_plainly(timeout)  # noqa: SLF001
        else:
            if self.crew.backlog.discard(future):
                _run_in_place(worker, future)
            future._wait_plainly(None)  # noqa: SLF001

    def waited_upon(self) -> None:
        """Somebody calls wait() or as_completed(); a worker of the pool is replaced meanwhile."""
        worker = current_worker()
        if worker is not None and worker.crew is self.crew and not worker.lent:
            worker.record.fold_at = 0.0  # the loop is to look, when the task is over
            self.crew.lend(worker)


def _run_in_place(worker: Worker, future: Future[Any]) -> None:
    outer = worker.current
    worker.current = future
    worker.depth += 1
    try:
        run_here(future, worker.record, worker.crew.clock)
    finally:
        worker.depth -= 1
        worker.current = outer
