"""Hill climbing: vary the size, see what it does to the throughput, follow."""

from __future__ import annotations

from threadkit.sizing._check import positive
from threadkit.sizing._snapshot import Decision, PoolSnapshot
from threadkit.sizing._surplus import rest

__all__ = ["HillClimbing"]

STARVED = 0.5  # seconds without a task taken from the queue
MOST_CPU = 0.95  # of the usable cores, above which nothing grows


class HillClimbing:
    """Alternate between a smaller and a larger size, and move to where more gets done.

    It works only while tasks lack workers: without a backlog the throughput says nothing about
    the size. It answers too slowly for bursts alone, so a starvation gate adds a worker when no
    task was taken from the queue for half a second.

    Source: the .NET thread pool; Hellerstein, Morrison and Eilebrecht, "Applying control theory
    in the real world" (2009). A square wave here in place of their sine and Fourier filter.

    Args:
        period: Seconds each half of the wave lasts.
        worth: Relative gain in throughput, per relative gain in size, for which it grows.
    """

    def __init__(self, *, period: float = 0.2, worth: float = 0.3) -> None:
        self.period = positive("period", period)
        self.worth = positive("worth", worth)
        self._taken_at = 0.0  # when a task was last taken from the queue, or none waited
        self._stop()

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        now = snapshot.now
        if snapshot.started or not snapshot.queued:
            self._taken_at = now
        if snapshot.queued <= snapshot.idle:
            self._stop()
            return rest(snapshot)
        if now - self._taken_at >= STARVED:
            self._taken_at = now
            self._stop()
            return Decision(snapshot.workers + 1, "no task was taken up for half a second")
        self._busy_cores += snapshot.process_time
        self._completions += snapshot.completions
        self._span += snapshot.interval
        if self._low is None:
            self._begin(max(1, snapshot.workers))
        elif self._span >= self.period:
            return self._turn(snapshot)
        return Decision(self._size, "measuring", self.period)

    def _stop(self) -> None:
        """No wave is under way."""
        self._low: int | None = None
        self._restart()

    def _restart(self) -> None:
        self._span = self._busy_cores = 0.0
        self._completions = 0

    def _begin(self, low: int) -> None:
        self._low = self._size = low
        self._low_rate: float | None = None
        self._restart()

    def _turn(self, snapshot: PoolSnapshot) -> Decision:
        """One half of the wave is over."""
        rate = self._completions / self._span
        saturated = self._busy_cores >= MOST_CPU * snapshot.usable_cores * self._span
        self._restart()
        low = self._size if self._low is None else self._low
        if self._low_rate is None:
            if saturated:
                return Decision(low, "the cores are saturated", self.period)
            self._low_rate = rate
            self._size = low + max(1, low // 4)
            return Decision(self._size, f"{rate:.0f} a second at {low}", self.period)
        gain = (rate / self._low_rate - 1) if self._low_rate else 1.0
        worth_it = gain >= self.worth * (self._size / low - 1)
        better = self._size if worth_it else max(1, low - max(1, low // 8)) if gain < 0 else low
        reason = f"{self._size} did {1 + gain:.2f} times as much as {low}"
        self._begin(better)
        return Decision(better, reason, self.period)

    def __repr__(self) -> str:
        return f"HillClimbing(period={self.period})"
