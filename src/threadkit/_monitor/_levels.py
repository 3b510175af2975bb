"""How bad a reading is, with hysteresis. Pure: a watch is handed times and readings."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from math import inf
from typing import Literal

from threadkit._monitor._forecast import Forecast
from threadkit._monitor._readings import Reading

__all__ = ["ResourceChange", "ResourceLevel", "Watch"]


class ResourceLevel(enum.IntEnum):
    """How near a resource is to its end."""

    OK = 0
    WARN = 1
    CRITICAL = 2


@dataclass(frozen=True)
class ResourceChange:
    """A watched metric went to another level."""

    metric: str
    """What was watched."""
    level: ResourceLevel
    """Where it is now."""
    previous: ResourceLevel
    """Where it was."""
    reading: Reading
    """What was read."""
    seconds_left: float
    """Until its limit at the present rate; inf: no end is in sight."""
    reason: Literal["ratio", "forecast"]
    """What raised or lowered the level."""
    at: float
    """When, on the monitor's clock."""


class Watch:
    """The level of one metric.

    The ratio raises it to WARN and CRITICAL at once. It falls from CRITICAL to WARN below
    `critical - (warn - clear)`, and to OK below `clear`. A forecast raises it to WARN when the end
    was within `horizon` seconds `confirm` times in a row, until it was not as often.

    Thread safety: none, its owner has the lock.
    """

    def __init__(
        self,
        metric: str,
        *,
        warn: float = 0.80,
        critical: float = 0.92,
        clear: float = 0.75,
        horizon: float = 180.0,
        confirm: int = 3,
    ) -> None:
        if not 0 < clear <= warn <= critical:
            raise ValueError(
                "clear, warn and critical must be ratios with 0 < clear <= warn <= critical, not "
                f"{clear!r}, {warn!r}, {critical!r}"
            )
        if not horizon >= 0:
            raise ValueError(f"horizon must be at least 0 seconds, not {horizon!r}")
        if confirm < 1:
            raise ValueError(f"confirm must be at least 1, not {confirm!r}")
        self.metric = metric
        self.level = ResourceLevel.OK
        self.seconds_left = inf
        self._warn, self._critical, self._clear = warn, critical, clear
        self._horizon, self._confirm = horizon, confirm
        self._forecast = Forecast()
        self._by_ratio = ResourceLevel.OK
        self._foretold = False
        self._in_a_row = 0  # forecasts that contradict `_foretold`

    def update(self, at: float, reading: Reading) -> ResourceChange | None:
        """Take a reading in; the change of level it makes, if any."""
        ratio = reading.ratio
        if ratio is None or reading.limit is None:
            return None
        self._forecast.add(at, reading.used)
        self.seconds_left = self._forecast.seconds_left(reading.limit)
        previous, held_by_ratio = self.level, self._by_ratio
        self._by_ratio = self._plan_by_ratio(ratio)
        self._count_forecasts()
        self.level = max(self._by_ratio, ResourceLevel.WARN if self._foretold else ResourceLevel.OK)
        if self.level == previous:
            return None
        higher = max(self.level, previous)
        holder = self._by_ratio if higher == self.level else held_by_ratio
        return ResourceChange(
            metric=self.metric,
            level=self.level,
            previous=previous,
            reading=reading,
            seconds_left=self.seconds_left,
            reason="ratio" if holder == higher else "forecast",
            at=at,
        )

    def _plan_by_ratio(self, ratio: float) -> ResourceLevel:
        falls_below = self._critical - (self._warn - self._clear)
        was_critical = self._by_ratio == ResourceLevel.CRITICAL
        if ratio >= (falls_below if was_critical else self._critical):
            return ResourceLevel.CRITICAL
        if ratio >= self._warn:
            return ResourceLevel.WARN
        if ratio >= self._clear:
            return min(self._by_ratio, ResourceLevel.WARN)
        return ResourceLevel.OK

    def _count_forecasts(self) -> None:
        """Believe a forecast, or its absence, when it has come `confirm` times in a row."""
        contradicts = (self.seconds_left <= self._horizon) is not self._foretold
        self._in_a_row = self._in_a_row + 1 if contradicts else 0
        if self._in_a_row >= self._confirm:
            self._foretold = not self._foretold
            self._in_a_row = 0
