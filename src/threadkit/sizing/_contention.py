"""Does more at once mean slower each? The evidence, and the size beyond which growth hurts."""

from __future__ import annotations

import math

from threadkit.sizing._snapshot import PoolSnapshot

__all__ = ["Contention"]


class Contention:
    """Learns how the run time depends on the number of tasks in flight.

    Fits `run_time = a + b * in_flight**2` by least squares, over windows of a tenth of a second
    each; the throughput, `in_flight / run_time`, then peaks at `sqrt(a / b)`.

    The danger is to take effect for cause: a service that becomes slow by itself raises the
    number in flight (Little's law), which looks like contention. But what the fit explains does
    not surprise it: a window whose run time is far from what the fit expects at that number in
    flight means that the service has changed, and everything learned before is forgotten.

    Source: Gunther's Universal Scalability Law, its coherency term.
    """

    WINDOW = 0.1  # seconds, at the least, that one observation covers
    LEAST = 10  # windows; fewer prove nothing
    CERTAINTY = 3.0  # standard errors the slope must lie above 0
    SURPRISE = 1.7  # times the expected run time, up or down
    MEMORY = 100.0  # windows after which an observation has faded to about a third
    INFLATED = 2.0  # times the best run time

    def __init__(self) -> None:
        self.run_time = 0.0  # seconds, the mean; 0 while unknown
        self._best = math.inf
        self._ages = 0.0
        self.forget()
        self._begin_window()

    def forget(self) -> None:
        """Forget the relation between run time and tasks in flight."""
        self._windows = self._weight = 0.0
        self._flight2 = 0.0  # mean of in_flight squared
        # Weighted products of the deviations from the means, per unit of weight.
        self._run_run = self._run_flight = self._flight_flight = 0.0

    def observe(self, snapshot: PoolSnapshot) -> None:
        """Add what happened since the last snapshot."""
        # Finished and unfinished run time together give the exact mean number in flight.
        ages = math.fsum(snapshot.run_ages)
        self._worked += snapshot.run_time + ages - self._ages
        self._ages = ages
        self._span += snapshot.interval
        self._total += snapshot.run_time
        self._completions += snapshot.completions
        if self._completions:
            run_time = self._total / self._completions
            if self._span >= max(self.WINDOW, 2 * run_time):
                self._learn(run_time, (self._worked / self._span) ** 2)
                self._begin_window()

    def peak(self) -> float:
        """How many at once give the most throughput; infinite without evidence of a peak."""
        slope = self._slope()
        if slope <= 0 or self._windows < self.LEAST:
            return math.inf
        unexplained = max(0.0, self._run_run - slope * self._run_flight)
        if slope < self.CERTAINTY * math.sqrt(unexplained / self._flight_flight / self._windows):
            return math.inf
        return math.sqrt(max(self.run_time - slope * self._flight2, 0.0) / slope)

    @property
    def inflated(self) -> bool:
        """Whether tasks take far longer than the best window seen."""
        return self.run_time > self.INFLATED * self._best

    def _begin_window(self) -> None:
        self._span = self._worked = self._total = 0.0
        self._completions = 0

    def _slope(self) -> float:
        return max(0.0, self._run_flight / self._flight_flight) if self._flight_flight else 0.0

    def _learn(self, run_time: float, flight2: float) -> None:
        """Fold one window, weighted by its completions, into the means and products."""
        self._best = min(self._best, run_time)
        expected = self.run_time + self._slope() * (flight2 - self._flight2)
        if not expected < self.SURPRISE * run_time < self.SURPRISE**2 * expected:
            self.forget()
        keep = 1.0 - 1.0 / self.MEMORY
        self._windows = self._windows * keep + 1.0
        self._weight = self._weight * keep + self._completions
        share = self._completions / self._weight
        run_off, flight_off = run_time - self.run_time, flight2 - self._flight2
        self.run_time += share * run_off
        self._flight2 += share * flight_off
        rest = 1.0 - share
        self._run_run = rest * (self._run_run + share * run_off * run_off)
        self._run_flight = rest * (self._run_flight + share * run_off * flight_off)
        self._flight_flight = rest * (self._flight_flight + share * flight_off * flight_off)
