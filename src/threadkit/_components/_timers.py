"""What is to be done when, for a thread that sleeps until then."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable


class Timer:
    """One thing to be done at one instant, unless it is cancelled before."""

    __slots__ = ("action", "at")

    def __init__(self, at: float, action: Callable[[], object]) -> None:
        self.at = at
        self.action: Callable[[], object] | None = action

    @property
    def is_over(self) -> bool:
        """Whether it was done or cancelled."""
        return self.action is None

    def cancel(self) -> None:
        """Never mind."""
        self.action = None


class Timers:
    """Timers in the order of their instants. For one thread."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._number = itertools.count()  # first made, first done, at the same instant

    def add(self, at: float, action: Callable[[], object]) -> Timer:
        timer = Timer(at, action)
        heapq.heappush(self._heap, (at, next(self._number), timer))
        return timer

    def wait(self, now: float) -> float | None:
        """Seconds until the next one is due, or as many as can be waited; None: there is none."""
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
        if not self._heap:
            return None
        return min(max(0.0, self._heap[0][0] - now), threading.TIMEOUT_MAX)

    def due(self, now: float) -> list[Callable[[], object]]:
        """Take out what is to be done by now."""
        actions: list[Callable[[], object]] = []
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            if timer.action is not None:
                actions.append(timer.action)
                timer.cancel()
        return actions
