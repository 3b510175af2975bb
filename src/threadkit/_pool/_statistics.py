"""What a pool tells about itself: frozen, and consistent as far as a running pool can be."""

from __future__ import annotations

from dataclasses import dataclass

from threadkit._pool._histogram import Histogram

__all__ = ["PoolStatistics", "RunningTask", "ShutdownReport", "SizeChange"]


@dataclass(frozen=True, slots=True)
class SizeChange:
    """One change of the number of workers a pool may have.

    Attributes:
        at: When, on the runtime's monotonic clock.
        before: Workers wanted until then.
        after: Workers wanted from then on.
        reason: Why: the policy's words, or who called what.
    """

    at: float
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """A pool at one instant.

    Every task submitted is in exactly one of: queued, running, completed, failed, cancelled,
    expired, dropped, superseded, timed_out (and of these, `abandoned` are also still running). The
    counts are taken from a pool that goes on meanwhile, so they may be out of step by the tasks
    that are just changing hands; in a pool at rest they are exact.

    Attributes:
        min_workers: Fewest workers there may be.
        max_workers: Most workers there may be, but for those that stand in for waiting ones.
        wanted: How many there may be now.
        alive: Workers there are, without abandoned ones.
        busy: Of these, how many are not parked.
        idle: Of these, how many are parked.
        lent: Extra workers allowed because as many wait inside their task.
        abandoned: Workers given up because their task timed out and still runs.
        queued: Tasks that wait, by level.
        running: Tasks that have begun and not ended; those of abandoned workers too.
        submitted: Tasks accepted.
        completed: Tasks that ended with a result.
        failed: Tasks that ended with an exception of their own.
        cancelled: Tasks cancelled before they began.
        expired: Tasks not begun within their `ttl`.
        timed_out: Tasks that ran longer than their `timeout`.
        dropped: Accepted tasks dropped to make room for others, or because the pool broke.
        superseded: Queued tasks replaced by a newer one with the same key.
        rejected: Tasks refused by submit because the queue was full. Not among the submitted.
        starts_refused: Times the system refused to start a worker.
        wait: Seconds from submit to start, of every task that began.
        run: Seconds from start to end, of every task that completed or failed.
        cpu_share: CPU time over run time, 0 to 1.
        throughput: Tasks ended per second since the pool was made.
        changes: The last changes of `wanted`, oldest first.
    """

    min_workers: int
    max_workers: int
    wanted: int
    alive: int
    busy: int
    idle: int
    lent: int
    abandoned: int
    queued: tuple[int, ...]
    running: int
    submitted: int
    completed: int
    failed: int
    cancelled: int
    expired: int
    timed_out: int
    dropped: int
    superseded: int
    rejected: int
    starts_refused: int
    wait: Histogram
    run: Histogram
    cpu_share: float
    throughput: float
    changes: tuple[SizeChange, ...]


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that runs.

    Attributes:
        label: The label it was submitted with.
        worker: Name of the thread it runs on.
        ident: That thread's identifier.
        began_at: When it began, on the runtime's monotonic clock.
        seconds: How long it has run.
    """

    label: str | None
    worker: str
    ident: int | None
    began_at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ShutdownReport:
    """What a shutdown left behind.

    Attributes:
        finished: Every worker has left, and no task is queued or running; but for the caller's,
            and others in the middle of a shutdown, where a task of the pool called it.
        cancelled: Queued tasks this shutdown cancelled.
        running: Labels of the tasks that still run, abandoned ones included.
        queued: Tasks that still wait; only without waiting.
    """

    finished: bool
    cancelled: int = 0
    running: tuple[str, ...] = ()
    queued: int = 0
