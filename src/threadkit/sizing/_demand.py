"""Rules that follow the demand: how long tasks wait, how many arrive."""

from __future__ import annotations

import math

from threadkit.sizing._check import positive
from threadkit.sizing._snapshot import Decision, PoolSnapshot
from threadkit.sizing._surplus import rest

__all__ = ["LittlesLaw", "QueueDelay"]

FADED = 1e-9  # of a completion: nothing is remembered any more


class QueueDelay:
    """Keep the age of the oldest queued task under a target.

    The age must stay above the target for a while, as in CoDel; then the pool grows in proportion
    to how far it is exceeded, at most twofold.

    Sources: CoDel (Nichols and Jacobson 2012), SEDA's thread pool controller (Welsh 2001).

    Args:
        target: Seconds the oldest task may wait.
        patience: Seconds the target must be exceeded before the pool grows.
    """

    def __init__(self, target: float = 0.02, *, patience: float = 0.05) -> None:
        self.target = positive("target", target)
        self.patience = positive("patience", patience)
        self._above_at: float | None = None

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        size, age = snapshot.workers, snapshot.oldest_wait
        if snapshot.queued <= snapshot.idle:
            self._above_at = None
            return rest(snapshot)
        if age <= self.target:
            self._above_at = None
            return Decision(size, "the wait is within the target", self.target - age + 1e-3)
        if self._above_at is None:
            self._above_at = snapshot.now
        left = self._above_at + self.patience - snapshot.now
        if left > 0:
            return Decision(size, "the wait has only just passed the target", left)
        self._above_at = None
        wanted = min(2 * size, math.ceil(size * age / self.target), size + snapshot.queued)
        return Decision(wanted, f"tasks wait {age:.3f} s", self.patience)

    def __repr__(self) -> str:
        return f"QueueDelay(target={self.target})"


class LittlesLaw:
    """Arrival rate times run time, plus what works off the backlog in time.

    Source: Little, "A proof for the queuing formula L = lambda W" (1961).

    Args:
        drain: Seconds within which a backlog should be worked off.
        headroom: Factor on the mean demand, for arrivals are not even.
        memory: Seconds over which rate and run time are averaged.
    """

    def __init__(self, *, drain: float = 0.25, headroom: float = 1.5, memory: float = 1.0) -> None:
        self.drain = positive("drain", drain)
        self.headroom = positive("headroom", headroom)
        self.memory = positive("memory", memory)
        self._rate = 0.0  # arrivals a second
        self._run_time = 0.0  # summed and fading, as are the completions
        self._completions = 0.0

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        self._observe(snapshot)
        lacking = snapshot.queued - snapshot.idle
        if lacking <= 0:
            return self._shrink(snapshot)
        if self._completions <= FADED:
            return Decision(snapshot.workers, "no run time is known yet")
        wanted = self._demand() + lacking * self._typical() / self.drain
        size = min(math.ceil(wanted), snapshot.workers + lacking)
        return Decision(max(size, snapshot.workers), f"demand {wanted:.1f}, {lacking} lacking")

    def _observe(self, snapshot: PoolSnapshot) -> None:
        if snapshot.interval <= 0:
            return
        keep = math.exp(-snapshot.interval / self.memory)
        self._rate = keep * self._rate + (1 - keep) * snapshot.arrivals / snapshot.interval
        self._run_time = keep * self._run_time + snapshot.run_time
        self._completions = keep * self._completions + snapshot.completions

    def _typical(self) -> float:
        return self._run_time / self._completions if self._completions > FADED else 0.0

    def _demand(self) -> float:
        return self.headroom * self._rate * self._typical()

    def _shrink(self, snapshot: PoolSnapshot) -> Decision:
        """Let the expired go, but not below the demand."""
        decision = rest(snapshot)
        needed = min(snapshot.workers, math.ceil(self._demand()))
        if decision.size < needed:
            return Decision(needed, f"demand {self._demand():.1f}")
        return decision

    def __repr__(self) -> str:
        return f"LittlesLaw(drain={self.drain}, headroom={self.headroom})"
