"""When a growing series will reach its limit, if it really grows. Pure: it is handed the times.

Ordinary least squares and exponential smoothing take any wobble for a trend. A median of slopes
(Theil 1950, Sen 1968) does not mind outliers up to 29 % of the points, and medians of short spans
do not mind noise. Neither knows a saw-tooth: a heap that fills until its collection climbs as a
leak does. What tells them apart is that a leak goes where the series has not been for a long time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import combinations, islice, takewhile
from math import inf
from statistics import median

__all__ = ["Forecast"]

Point = tuple[float, float]  # seconds, value

FIT = 15.0  # seconds of the fit over points: how soon a steep leak is seen
FIT_POINTS = 16  # of so many at most: all pairs are looked at
SPAN, SPANS = 5.0, 6  # seconds of one median, and how many: how slow a leak is seen
AGREEMENT = 0.8  # of the pairs must rise (as in Mann-Kendall's test for a trend)
WARM_UP = 60.0  # seconds of watching before anything is foretold: programs grow as they start
MEMORY = 120.0  # seconds in which the series must not have been as high
MARGIN = 0.2  # of its largest fall, to count as being elsewhere
RESOLUTION = 0.5  # seconds; values that come sooner after another are passed over
LEVEL_POINTS = 5  # whose median is the level: lone spikes are none


class Forecast:
    """Seconds until a series reaches its limit.

    >>> forecast = Forecast()
    >>> for second in range(120):
    ...     forecast.add(float(second), 50.0 if second < 100 else second - 50.0)
    >>> forecast.seconds_left(limit=100.0)
    33.0

    Thread safety: none, its owner has the lock.
    """

    def __init__(self) -> None:
        self._points: deque[Point] = deque()
        self._levels: deque[Point] = deque()
        self._heights: deque[float] = deque()  # of the levels, for a look at all of them in C
        self._began_at = inf

    def add(self, at: float, value: float) -> None:
        """Take a value in, not earlier than the last one."""
        if self._points and at - self._points[-1][0] < RESOLUTION:
            return
        self._began_at = min(self._began_at, at)
        self._points.append((at, value))
        latest = [value for _, value in islice(reversed(self._points), LEVEL_POINTS)]
        level = median(latest)
        self._levels.append((at, level))
        self._heights.append(level)
        while self._points[0][0] < at - MEMORY:
            self._points.popleft()
            self._levels.popleft()
            self._heights.popleft()

    def seconds_left(self, limit: float) -> float:
        """Seconds until `limit` at the present rate; inf when it does not grow, or looks so."""
        if not self._points:
            return inf
        now, level = self._levels[-1]
        if level >= limit:
            return 0.0
        if now - self._began_at < WARM_UP or not self._goes_where_it_has_not_been():
            return inf
        growth = max(_slope(self._fit(now)), _slope(self._medians(now)))
        return (limit - level) / growth if growth > 0 else inf

    def _goes_where_it_has_not_been(self) -> bool:
        now, level = self._levels[-1]
        recent = sum(1 for _ in takewhile(lambda p: p[0] >= now - FIT / 2, reversed(self._levels)))
        earlier = len(self._levels) - recent
        if earlier and level <= max(islice(self._heights, earlier)):
            return False  # as nearly always: the rest is for what does grow
        highest, largest_fall = -inf, 0.0
        for at, before in self._levels:
            if at >= now - FIT / 2:
                break
            highest = max(highest, before)
            largest_fall = max(largest_fall, highest - before)
        return level > highest + MARGIN * largest_fall

    def _fit(self, now: float) -> list[Point]:
        points = [point for point in self._points if point[0] >= now - FIT]
        step = max(1, -(-len(points) // FIT_POINTS))
        return points[::-1][::step]

    def _medians(self, now: float) -> list[Point]:
        spans: list[list[Point]] = [[] for _ in range(SPANS)]
        for point in self._points:
            index = int((now - point[0]) // SPAN)
            if index < SPANS:
                spans[index].append(point)
        return [
            (median(at for at, _ in span), median(value for _, value in span))
            for span in spans
            if span
        ]


def _slope(points: Sequence[Point]) -> float:
    """Median of the slopes of all pairs (Theil-Sen), or 0 where too few of them rise."""
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if b[0] != a[0]]
    rising = sum(slope > 0 for slope in slopes)
    return median(slopes) if rising > AGREEMENT * len(slopes) else 0.0
