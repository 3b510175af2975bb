"""The classical rules: a fixed number, idle-time expiry, queue thresholds."""

from __future__ import annotations

import itertools
from collections import deque

from threadkit.sizing._check import at_least, positive
from threadkit.sizing._snapshot import Decision, PoolSnapshot
from threadkit.sizing._surplus import rest

__all__ = ["Fixed", "KeepAlive", "QueueThreshold"]


class Fixed:
    """Always the same number of workers.

    Args:
        size: That number; None means the pool's `max_workers`.
    """

    def __init__(self, size: int | None = None) -> None:
        self.size = None if size is None else at_least("size", size, 1)

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        size = snapshot.max_workers if self.size is None else self.size
        return Decision(size, "fixed")

    def __repr__(self) -> str:
        return f"Fixed({self.size})"


class KeepAlive:
    """Grow whenever no worker is idle; let a worker go once it has been idle long enough.

    Source: Java's ThreadPoolExecutor (as it behaves with a direct hand-off), HikariCP.

    Args:
        idle_timeout: Seconds of idleness; None means the pool's own.
    """

    def __init__(self, idle_timeout: float | None = None) -> None:
        self.idle_timeout = None if idle_timeout is None else positive("idle_timeout", idle_timeout)

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        lacking = snapshot.queued - snapshot.idle
        if lacking > 0:
            return Decision(snapshot.workers + lacking, f"{lacking} tasks without a worker")
        return rest(snapshot, self.idle_timeout)

    def __repr__(self) -> str:
        return f"KeepAlive(idle_timeout={self.idle_timeout})"


class QueueThreshold:
    """Two more workers when the queue is long, one fewer when it is short.

    The queue is averaged over a window; it grows only if the queue is not already falling, and
    shrinks only if it is not rising.

    Source: the controller most hand-written pools have.

    Args:
        high: Queued tasks per worker above which the pool grows.
        low: Queued tasks per worker below which it shrinks.
        step_up: Workers added at a time.
        step_down: Workers removed at a time.
        window: Seconds the queue is averaged over, and between two changes.
    """

    def __init__(
        self,
        high: float = 3.0,
        low: float = 0.5,
        *,
        step_up: int = 2,
        step_down: int = 1,
        window: float = 0.25,
    ) -> None:
        self.low = positive("low", low)
        self.high = at_least("high", high, low)
        self.step_up = at_least("step_up", step_up, 1)
        self.step_down = at_least("step_down", step_down, 1)
        self.window = positive("window", window)
        self._samples: deque[tuple[float, int]] = deque()
        self._due_at: float | None = None

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        now, size = snapshot.now, snapshot.workers
        self._observe(now, snapshot.queued)
        if self._due_at is None:
            self._due_at = now + self.window
        if now < self._due_at:
            return Decision(size, "inside the window", self._due_at - now)
        self._due_at = now + self.window
        average, trend = self._average(), snapshot.queued - self._samples[0][1]
        if snapshot.queued > snapshot.idle and average > self.high * size and trend >= 0:
            return Decision(size + self.step_up, f"{average:.1f} queued on average")
        if average < self.low * size and trend <= 0:
            return Decision(size - self.step_down, f"{average:.1f} queued on average")
        return Decision(size, f"{average:.1f} queued on average is in range")

    def _observe(self, now: float, queued: int) -> None:
        samples = self._samples
        samples.append((now, queued))
        while len(samples) > 1 and samples[1][0] <= now - self.window:
            samples.popleft()

    def _average(self) -> float:
        """The queue's mean over time: a burst of decisions must not outweigh a quiet second."""
        pairs = list(self._samples)
        span = pairs[-1][0] - pairs[0][0]
        if not span:
            return float(pairs[-1][1])
        area = sum(q * (t1 - t0) for (t0, q), (t1, _) in itertools.pairwise(pairs))
        return area / span

    def __repr__(self) -> str:
        return f"QueueThreshold(high={self.high}, low={self.low}, window={self.window})"
