"""A clock that stands still until it is told to move."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """A clock for classes that take only a clock: call it for the time, `advance` it by hand.

        >>> clock = FakeClock(100.0)
        >>> clock.advance(2.5)
        102.5
        >>> clock()
        102.5

    Thread safety: readers may be in other threads; move it from one.

    Args:
        now: Seconds it shows at first.
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Move on by `seconds`, not negative, and return the new time."""
        if not seconds >= 0:
            raise ValueError(f"seconds must be 0 or more, but is {seconds!r}; see `set`")
        self._now += seconds
        return self._now

    def set(self, now: float) -> None:
        """Show `now`, which may be earlier: wall clocks are set back."""
        self._now = now

    def __repr__(self) -> str:
        return f"FakeClock({self._now!r})"
