"""How fast to speak: calmly when little waits, faster when much does."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Pace"]


@dataclass(frozen=True, slots=True)
class Pace:
    """A speaking rate that rises with the backlog, in steps, and falls back with it.

        >>> pace = Pace(rate=200, fastest=300, calm=2, full=10, steps=4)
        >>> [pace(waiting) for waiting in (0, 2, 4, 6, 10, 50)]
        [200, 200, 225, 250, 300, 300]

    Few steps, because each rate of a text is a separate entry of the cache.

    Thread safety: a pure function.

    Args:
        rate: Words a minute while at most `calm` sentences wait.
        fastest: Words a minute once `full` wait; much above 350 nobody understands.
        calm: How many sentences may wait without haste.
        full: From how many on the rate is `fastest`; more than `calm`.
        steps: How many rates there are above `rate`, at least 1.

    Raises:
        ValueError: If these contradict one another.
    """

    rate: int = 200
    fastest: int = 300
    calm: int = 2
    full: int = 10
    steps: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.rate <= self.fastest:
            raise ValueError(f"fastest must be at least rate={self.rate}, not {self.fastest!r}")
        if not 0 <= self.calm < self.full:
            raise ValueError(f"full must be above calm={self.calm}, not {self.full!r}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps!r}")

    def __call__(self, waiting: int) -> int:
        """Words a minute while `waiting` sentences wait."""
        haste = min(1.0, max(0.0, (waiting - self.calm) / (self.full - self.calm)))
        step = int(haste * self.steps)
        return self.rate + (self.fastest - self.rate) * step // self.steps
