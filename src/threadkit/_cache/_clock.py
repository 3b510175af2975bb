"""Clock readings that tell apart what happened at the same moment.

Recency is a clock reading. Linux and macOS count nanoseconds, so no two readings are equal; a
clock that stands still (a test's) or ticks every 15 ms (Windows before Python 3.13) would make
recency a lottery. `strict` gives the readings of such a clock an order of their own.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable

__all__ = ["strict"]

_FINE = 1e-6  # seconds; a clock with this resolution tells readings apart by itself


class _Instant(float):
    """A reading that is later than an equal one taken before it; else an ordinary float."""

    __slots__ = ("turn",)
    turn: int

    def __lt__(self, other: float) -> bool:
        if isinstance(other, _Instant) and float.__eq__(self, other):
            return self.turn < other.turn
        return float.__lt__(self, other)

    def __gt__(self, other: float) -> bool:
        if isinstance(other, _Instant) and float.__eq__(self, other):
            return self.turn > other.turn
        return float.__gt__(self, other)

    def __le__(self, other: float) -> bool:
        return not self > other

    def __ge__(self, other: float) -> bool:
        return not self < other


def _is_fine(clock: Callable[[], float]) -> bool:
    for name in ("monotonic", "perf_counter"):
        if clock is getattr(time, name):
            return time.get_clock_info(name).resolution <= _FINE
    return False


def strict(clock: Callable[[], float]) -> Callable[[], float]:
    """`clock`, or the same clock with readings that are never equal in order and never go back.

    >>> still = strict(lambda: 5.0)
    >>> first, second = still(), still()
    >>> first < second, first + 1 == second + 1, 5.0 > second
    (True, True, False)
    """
    if _is_fine(clock):
        return clock
    turns = itertools.count()
    latest = -math.inf

    def reading() -> float:
        nonlocal latest
        now = clock()
        # Wall clocks are set back. If ours followed, what was put since would be older than all
        # that was there, and a search for the oldest would find nothing.
        latest = max(latest, now)
        instant = _Instant(latest)
        instant.turn = next(turns)
        return instant

    return reading
