"""Limits that follow the run time of tasks, after TCP's congestion control.

Each judges round by round: a round has passed when as many tasks ended as there are workers. The
pool grows only while tasks lack workers, so that no capacity grows that nobody uses.
"""

from __future__ import annotations

import math

from threadkit.sizing._check import at_least, positive
from threadkit.sizing._snapshot import Decision, PoolSnapshot
from threadkit.sizing._surplus import rest

__all__ = ["Aimd", "Gradient", "Vegas"]


class _Rounds:
    """Mean run time of a round of tasks, and the least one seen."""

    LEAST = 10  # tasks a round has, at the least

    def __init__(self) -> None:
        self.best = math.inf
        self._run_time = 0.0
        self._completions = 0

    def observe(self, snapshot: PoolSnapshot) -> float | None:
        """The mean run time in seconds, when a round has passed."""
        self._run_time += snapshot.run_time
        self._completions += snapshot.completions
        if self._completions < max(self.LEAST, snapshot.workers):
            return None
        mean = self._run_time / self._completions
        self._run_time, self._completions = 0.0, 0
        self.best = min(self.best, mean)
        return mean


class Aimd:
    """One more worker a round; a tenth fewer when tasks take too long.

    Source: Netflix concurrency-limits, AIMDLimit; Chiu and Jain 1989.

    Args:
        slow: Times the best run time from which on tasks take too long.
        backoff: Factor on the size then.
    """

    def __init__(self, *, slow: float = 2.0, backoff: float = 0.9) -> None:
        self.slow = at_least("slow", slow, 1.0)
        self.backoff = positive("backoff", backoff)
        if backoff >= 1:
            raise ValueError(f"backoff must be below 1, not {backoff!r}")
        self._rounds = _Rounds()

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        size, mean = snapshot.workers, self._rounds.observe(snapshot)
        if snapshot.queued <= snapshot.idle:
            return rest(snapshot)
        if mean is None:
            return Decision(size, "the round is not over")
        if mean > self.slow * self._rounds.best:
            return Decision(int(size * self.backoff), f"tasks take {mean:.3f} s, too long")
        return Decision(size + 1, f"tasks take {mean:.3f} s")

    def __repr__(self) -> str:
        return f"Aimd(slow={self.slow}, backoff={self.backoff})"


class Vegas:
    """Estimate from the run times how many tasks queue inside the dependency; keep that small.

    Source: TCP Vegas (Brakmo 1994), as in Netflix concurrency-limits, VegasLimit.
    """

    def __init__(self) -> None:
        self._rounds = _Rounds()

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        size, mean = snapshot.workers, self._rounds.observe(snapshot)
        if snapshot.queued <= snapshot.idle:
            return rest(snapshot)
        if mean is None or not mean:
            return Decision(size, "the round is not over")
        inside = size * (1 - self._rounds.best / mean)
        unit = max(1.0, math.log10(max(1, size)))
        if inside <= unit:
            return Decision(size + round(6 * unit), "none queue inside the dependency")
        if inside < 3 * unit:
            return Decision(size + round(unit), f"{inside:.1f} queue inside the dependency")
        if inside > 6 * unit:
            return Decision(size - round(unit), f"{inside:.1f} queue inside the dependency")
        return Decision(size, f"{inside:.1f} queue inside the dependency")

    def __repr__(self) -> str:
        return "Vegas()"


class Gradient:
    """Follow the ratio of the long-term to the short-term run time.

    Source: Netflix concurrency-limits, Gradient2Limit.

    Args:
        tolerance: Times the long-term run time that is still no reason to shrink.
        headroom: Workers added for a queue, each round.
        smoothing: Share of a new limit that is taken over each round.
        memory: Rounds the long-term run time remembers.
    """

    def __init__(
        self,
        *,
        tolerance: float = 1.5,
        headroom: int = 4,
        smoothing: float = 0.2,
        memory: float = 60.0,
    ) -> None:
        self.tolerance = at_least("tolerance", tolerance, 1.0)
        self.headroom = at_least("headroom", headroom, 1)
        self.smoothing = positive("smoothing", smoothing)
        self.memory = at_least("memory", memory, 1.0)
        self._rounds = _Rounds()
        self._long = 0.0
        self._limit = 0.0

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        mean = self._rounds.observe(snapshot)
        if mean:
            self._long += (mean - self._long) / self.memory if self._long else mean
        if snapshot.queued <= snapshot.idle:
            return rest(snapshot)
        if not mean:
            return Decision(snapshot.workers, "the round is not over")
        gradient = max(0.5, min(1.0, self.tolerance * self._long / mean))
        size = snapshot.workers
        # Whole workers would swallow the small steps, so the fraction is carried on.
        limit = self._limit if int(self._limit) == size else float(size)
        self._limit = limit + self.smoothing * (limit * gradient + self.headroom - limit)
        return Decision(int(self._limit), f"gradient {gradient:.2f}")

    def __repr__(self) -> str:
        return f"Gradient(tolerance={self.tolerance}, headroom={self.headroom})"
