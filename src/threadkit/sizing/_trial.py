"""Would another size work off the backlog faster? Try it and measure."""

from __future__ import annotations

from threadkit.sizing._snapshot import PoolSnapshot

__all__ = ["Trial"]


class Trial:
    """One comparison of two sizes under a backlog, by throughput.

    The base size is measured first, then the other, each without the tasks that began before: when
    a burst has just come, or the size has just changed, the first completions come late.

    While every worker is busy, the throughput is the number of workers over the mean run time
    (Little's law). Counting completions instead would need many more of them, since tasks that
    began together end together.

    Args:
        base: The present size.
        other: The size to compare it with.
        settled: Whether the backlog has lasted, so that the base size can be measured at once.
    """

    LEAST = 16  # completions, at the least, that make a measurement
    WORTH = 0.5  # of the gain to be hoped for: what a larger size must bring
    EQUAL = 0.9  # of the throughput: what a smaller size must keep

    def __init__(self, base: int, other: int, *, settled: bool = False) -> None:
        self.base = base
        self.other = other
        self.size = base  # what is measured at present
        self._settling = 0 if settled else base  # completions still to be left out
        self._base_rate = 0.0
        self._completions = 0
        self._run_time = 0.0

    def observe(self, snapshot: PoolSnapshot) -> float | None:
        """The other size's throughput over the base's, once both were measured."""
        if self._settling > 0:
            self._settling -= snapshot.completions
            return None
        self._completions += snapshot.completions
        self._run_time += snapshot.run_time
        if self._completions < max(self.LEAST, self.size) or self._run_time <= 0:
            return None
        rate = self.size * self._completions / self._run_time
        if self.size == self.other:
            return rate / self._base_rate
        self._base_rate, self.size, self._settling = rate, self.other, self.base
        self._completions, self._run_time = 0, 0.0
        return None

    def won(self, gain: float) -> bool:
        """Whether such a gain speaks for the other size."""
        ratio = self.other / self.base
        return gain >= (1 + self.WORTH * (ratio - 1) if ratio > 1 else self.EQUAL)
