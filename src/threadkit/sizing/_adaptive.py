"""The default policy: demand, bounded by saturation; fast up for waiting work, slow down."""

from __future__ import annotations

import math
from collections import deque

from threadkit.sizing._check import positive
from threadkit.sizing._snapshot import Decision, PoolSnapshot

__all__ = ["Adaptive"]


class Adaptive:
    """Grow at once for work that waits, not for work that computes; shrink slowly.

    Args:
        saturation: Share of the usable cores above which more threads cannot help.
        probe: Seconds over which the process's CPU use is judged.
        window: Seconds a worker must have been surplus before it goes; None means the pool's
            `idle_timeout`.
    """

    def __init__(
        self, *, saturation: float = 0.7, probe: float = 0.003, window: float | None = None
    ) -> None:
        self.saturation = positive("saturation", saturation)
        self.probe = positive("probe", probe)
        self.window = None if window is None else positive("window", window)
        self._recent: deque[tuple[float, float]] = deque()  # (interval, process_time) of the probe

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        load = self._load(snapshot)
        lacking = snapshot.queued - snapshot.idle
        if lacking > 0:
            return self._grow(snapshot, lacking, load)
        window = snapshot.idle_timeout if self.window is None else self.window
        surplus = sum(age >= window for age in snapshot.idle_ages)
        if surplus:
            return Decision(snapshot.workers - surplus, f"{surplus} surplus for {window:g} s")
        return Decision(snapshot.workers, "steady")

    def _load(self, snapshot: PoolSnapshot) -> float | None:
        """Share of the usable cores in use over the probe; None while too little was seen."""
        self._recent.append((snapshot.interval, snapshot.process_time))
        span = math.fsum(seconds for seconds, _ in self._recent)
        while len(self._recent) > 1 and span - self._recent[0][0] >= self.probe:
            span -= self._recent.popleft()[0]
        if span < self.probe:
            return None
        return math.fsum(cpu for _, cpu in self._recent) / span / snapshot.usable_cores

    def _grow(self, snapshot: PoolSnapshot, lacking: int, load: float | None) -> Decision:
        if load is None:
            return Decision(snapshot.workers, "looking whether tasks compute or wait", self.probe)
        if load >= self.saturation:
            return Decision(snapshot.workers, f"cores {load:.0%} busy", 10 * self.probe)
        return Decision(snapshot.workers + lacking, f"{lacking} tasks wait, cores {load:.0%} busy")

    def __repr__(self) -> str:
        return f"Adaptive(saturation={self.saturation}, window={self.window})"
