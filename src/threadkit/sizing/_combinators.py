"""Policies made of other policies."""

from __future__ import annotations

from collections.abc import Callable

from threadkit.sizing._check import at_least, positive
from threadkit.sizing._snapshot import Decision, PoolSnapshot, SizingPolicy
from threadkit.sizing._stabiliser import Stabiliser

__all__ = ["Clamped", "GilAware", "Stabilised", "Vetoed"]


class Clamped:
    """Another policy's size, brought between two limits.

    Args:
        policy: The policy asked.
        least: Fewest workers.
        most: Most workers; None means no limit of its own.
    """

    def __init__(self, policy: SizingPolicy, least: int = 1, most: int | None = None) -> None:
        self.policy = policy
        self.least = at_least("least", least, 0)
        self.most = None if most is None else at_least("most", most, least)

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        decision = self.policy.decide(snapshot)
        size = max(self.least, decision.size)
        size = size if self.most is None else min(self.most, size)
        if size == decision.size:
            return decision
        reason = f"{decision.reason}, limited from {decision.size}"
        return Decision(size, reason, decision.recheck)

    def __repr__(self) -> str:
        return f"Clamped({self.policy!r}, {self.least}, {self.most})"


class Stabilised:
    """Shrink only to the largest size recommended during a window; grow at once.

    Source: the stabilisation window of Kubernetes' horizontal autoscaler.

    Args:
        policy: The policy asked.
        window: Seconds.
    """

    def __init__(self, policy: SizingPolicy, window: float) -> None:
        self.policy = policy
        self.window = positive("window", window)
        self._stabiliser = Stabiliser(self.window)

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        decision = self.policy.decide(snapshot)
        largest = self._stabiliser.update(snapshot.now, decision.size)
        held = min(largest, max(snapshot.workers, decision.size))
        if held == decision.size:
            return decision
        reason = f"{decision.reason}, held for {self.window:g} s"
        return Decision(held, reason, decision.recheck)

    def __repr__(self) -> str:
        return f"Stabilised({self.policy!r}, {self.window})"


class Vetoed:
    """Another policy's size, unless it would grow and somebody objects.

    Args:
        policy: The policy asked.
        by: Called with the snapshot when the policy wants to grow; gives the objection, or None.
    """

    def __init__(self, policy: SizingPolicy, by: Callable[[PoolSnapshot], str | None]) -> None:
        self.policy = policy
        self.by = by

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        decision = self.policy.decide(snapshot)
        if decision.size <= snapshot.workers:
            return decision
        objection = self.by(snapshot)
        if objection is None:
            return decision
        return Decision(snapshot.workers, f"vetoed: {objection}", decision.recheck)

    def __repr__(self) -> str:
        return f"Vetoed({self.policy!r})"


class GilAware:
    """Another policy's size, but no growth while the interpreter is saturated.

    Saturated means that finished tasks spent little of their run time waiting, or that the process
    used nearly all that the usable cores give: one under the GIL, all of them without it.

    Sources: betapool's blocking ratio; the Universal Scalability Law.

    Args:
        policy: The policy asked.
        blocking: Least share of the run time that tasks must spend waiting.
        limit: Largest share of the usable cores that the process may use.
        memory: Seconds over which both are averaged.
    """

    def __init__(
        self,
        policy: SizingPolicy,
        *,
        blocking: float = 0.3,
        limit: float = 0.9,
        memory: float = 0.5,
    ) -> None:
        self.blocking = positive("blocking", blocking)
        self.limit = positive("limit", limit)
        self.memory = positive("memory", memory)
        self._inner = Vetoed(policy, self._objection)
        # Fading sums over `memory`: of finished tasks, of the whole process, of time.
        self._cpu = self._run_time = self._process = self._span = 0.0

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        keep = max(0.0, 1.0 - snapshot.interval / self.memory)
        self._cpu = self._cpu * keep + snapshot.cpu_time
        self._run_time = self._run_time * keep + snapshot.run_time
        self._process = self._process * keep + snapshot.process_time
        self._span = self._span * keep + snapshot.interval
        return self._inner.decide(snapshot)

    def _objection(self, snapshot: PoolSnapshot) -> str | None:
        if self._cpu > (1 - self.blocking) * self._run_time:
            return "tasks hardly wait"
        if self._process > self.limit * snapshot.usable_cores * self._span > 0:
            return "the cores are saturated"
        return None

    def __repr__(self) -> str:
        return f"GilAware({self._inner.policy!r})"
