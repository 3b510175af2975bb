"""What a sizing policy is given, what it answers, and the protocol between pool and policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["Decision", "PoolSnapshot", "SizingPolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """What a pool knows about itself at one instant: the only thing a policy ever sees.

    Counts and sums cover the `interval` since the previous decision. Intervals are irregular: a
    pool asks once per check interval while there is something to observe, and at once when a
    submit finds no parked worker.

    Attributes:
        now: Monotonic seconds.
        interval: Seconds since the previous decision.
        min_workers: Fewest workers the pool may have.
        max_workers: Most workers the pool may have.
        idle_timeout: Seconds a worker may stay surplus before it should go: the shrink window.
        workers: Threads of the pool, those just being started included, abandoned ones not.
        busy: Workers that run a task, blocked ones included.
        blocked: Busy workers whose task said it waits (`with pool.blocking():`).
        queued: Tasks that wait for a worker.
        oldest_wait: Seconds the task at the head of the queue has waited; 0 without one.
        arrivals: Tasks submitted.
        started: Tasks taken up by a worker.
        completions: Tasks that ended, however they ended.
        wait_time: Seconds from submit to start, summed over `started`.
        run_time: Seconds from start to end, summed over `completions`.
        cpu_time: CPU seconds of the same tasks; sampled, then scaled to all of them.
        process_time: CPU seconds the whole process used, the submitters included.
        run_ages: Seconds each busy worker has been running its present task, in any order.
        idle_ages: Seconds each idle worker has been parked, in any order.
        cores: CPUs the process may use; a fraction under a container's quota.
        gil: Whether one thread at a time runs Python code.
    """

    now: float
    interval: float
    min_workers: int
    max_workers: int
    idle_timeout: float = 10.0
    workers: int
    busy: int = 0
    blocked: int = 0
    queued: int = 0
    oldest_wait: float = 0.0
    arrivals: int = 0
    started: int = 0
    completions: int = 0
    wait_time: float = 0.0
    run_time: float = 0.0
    cpu_time: float = 0.0
    process_time: float = 0.0
    run_ages: tuple[float, ...] = ()
    idle_ages: tuple[float, ...] = ()
    cores: float = 1.0
    gil: bool = True

    @property
    def idle(self) -> int:
        """Workers that wait for a task."""
        return self.workers - self.busy

    @property
    def usable_cores(self) -> float:
        """CPUs that Python code can keep busy: one under the GIL."""
        return min(1.0, self.cores) if self.gil else self.cores

    def clamp(self, size: float) -> int:
        """The size, brought between the pool's limits."""
        return int(min(self.max_workers, max(self.min_workers, size)))


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers a policy wants, and why.

    Attributes:
        size: Workers wanted. The pool clamps it between its limits.
        reason: A short phrase for people and logs, never empty.
        recheck: Seconds after which the policy wants to be asked again although nothing may have
            happened; None leaves it to the pool's check interval.
    """

    size: int
    reason: str
    recheck: float | None = None


@runtime_checkable
class SizingPolicy(Protocol):
    """A rule that turns a snapshot into a wanted size.

    It starts no thread, reads no clock and touches no pool: what it remembers between calls is
    its own small state, so one object serves one pool (or one simulation) at a time.

    Thread safety: a pool never calls it from two threads at once.
    """

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        """The wanted size, and the reason for it."""
        ...
