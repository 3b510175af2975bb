"""Keep a number of workers active; those that are stuck do not count."""

from __future__ import annotations

import math

from threadkit.sizing._check import at_least, positive
from threadkit.sizing._snapshot import Decision, PoolSnapshot
from threadkit.sizing._surplus import rest

__all__ = ["StallAware"]


class StallAware:
    """A worker whose task runs longer than the stall time stops counting, and is replaced.

    Workers inside `pool.blocking()` do not count either.

    Source: the thread pools of Percona Server and MySQL, `thread_pool_stall_limit`.

    Args:
        stall: Seconds after which a running task counts as stuck.
        active: Workers wanted besides those; None means one for each core.
    """

    def __init__(self, stall: float = 0.06, *, active: int | None = None) -> None:
        self.stall = positive("stall", stall)
        self.active = None if active is None else at_least("active", active, 1)

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        if snapshot.queued <= snapshot.idle:
            return rest(snapshot)
        stuck = max(snapshot.blocked, sum(age >= self.stall for age in snapshot.run_ages))
        active = math.ceil(snapshot.cores) if self.active is None else self.active
        waiting = [self.stall - age for age in snapshot.run_ages if age < self.stall]
        recheck = max(1e-3, min(waiting)) if waiting else None
        wanted = max(snapshot.workers, min(active + stuck, snapshot.busy + snapshot.queued))
        return Decision(wanted, f"{stuck} workers are stuck", recheck)

    def __repr__(self) -> str:
        return f"StallAware(stall={self.stall})"
