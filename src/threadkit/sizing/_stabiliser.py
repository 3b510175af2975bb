"""The largest of what was wanted during a window: grow at once, shrink late."""

from __future__ import annotations

from collections import deque

__all__ = ["Stabiliser"]


class Stabiliser:
    """Grows at once, shrinks only to the largest of the last `window` seconds.

    A short lull is not worth a reversal. Source: the stabilisation window of Kubernetes' horizontal
    pod autoscaler.

    >>> stabiliser = Stabiliser(window=60.0)
    >>> [stabiliser.update(at, n) for at, n in ((0.0, 4), (10.0, 9), (20.0, 2), (75.0, 3))]
    [4, 9, 9, 3]
    """

    def __init__(self, window: float) -> None:
        self._window = window
        # Falling values only: one that is at least as large and newer outlives those before it.
        self._candidates: deque[tuple[float, int]] = deque()

    def update(self, at: float, wanted: int) -> int:
        """Take a recommendation in; the size to have."""
        candidates = self._candidates
        while candidates and candidates[-1][1] <= wanted:
            candidates.pop()
        candidates.append((at, wanted))
        while candidates[0][0] < at - self._window:
            candidates.popleft()
        return candidates[0][1]
