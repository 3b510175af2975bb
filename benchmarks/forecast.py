"""Which forecast tells a leak from what only looks like one, and how soon?

    python -m benchmarks.forecast [--quick] [--json FILE] [--plot FILE]

A made-up reading each second for ten minutes, limit 100. An alarm is an end within 180 seconds,
three times in a row.

| metric | workload |
|---|---|
| false alarms | share of runs with an alarm; flat: 50; noise: sd 2; spikes: +30 in 5 % of the \
readings; saw-tooth: 40 to 75 in 20 to 60 s; step: 30 to 70 at once; warm-up: 0 to 50 in \
the first 40 s |
| time to alarm | seconds from the beginning of a leak at 300 s, added to one of the above; runs \
that alarm earlier or never count as 300 |
| cost | of one reading and its forecast |
| sample | of one sample of the whole system, with every metric watched; `psutil` reads the same \
figures without limits, levels and forecasts |

Contenders: `threadkit` is the monitor's; `theil-sen` is the median of slopes over 15 s alone;
`least squares` fits a line to the last 30 s, and is the baseline; `holt` is double exponential
smoothing (level 0.3, trend 0.1).
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import deque
from collections.abc import Callable
from itertools import combinations
from math import inf
from typing import Protocol

import psutil

from benchmarks.harness import Benchmark, main, seconds
from threadkit import ResourceMonitor
from threadkit._monitor import Forecast

LIMIT = 100.0
LENGTH = 600
BEGIN = 300
HORIZON = 180.0
CONFIRM = 3

Series = Callable[[int], float]


class Forecaster(Protocol):
    """What a contender has to be able to do."""

    def add(self, at: float, value: float, /) -> None:
        """Take a reading in."""
        ...

    def seconds_left(self, limit: float, /) -> float:
        """Seconds until the limit."""
        ...


class Window:
    """The last readings, and the time left at some slope through them."""

    def __init__(self, length: int, slope: Callable[[list[tuple[float, float]]], float]) -> None:
        self._points: deque[tuple[float, float]] = deque(maxlen=length)
        self._slope = slope

    def add(self, at: float, value: float) -> None:
        """Keep it."""
        self._points.append((at, value))

    def seconds_left(self, limit: float) -> float:
        """At this slope, from the last reading."""
        if len(self._points) < CONFIRM:
            return inf
        slope = self._slope(list(self._points))
        return max(0.0, limit - self._points[-1][1]) / slope if slope > 0 else inf


class Holt:
    """Double exponential smoothing."""

    def __init__(self) -> None:
        self._level: float | None = None
        self._trend = 0.0

    def add(self, _at: float, value: float) -> None:
        """Smooth level and trend."""
        if self._level is None:
            self._level = value
            return
        before = self._level
        self._level = 0.3 * value + 0.7 * (before + self._trend)
        self._trend = 0.1 * (self._level - before) + 0.9 * self._trend

    def seconds_left(self, limit: float) -> float:
        """At the smoothed trend."""
        if self._level is None or self._trend <= 0:
            return inf
        return max(0.0, limit - self._level) / self._trend


def least_squares(points: list[tuple[float, float]]) -> float:
    """Slope of the line with the least squared distance."""
    times, values = zip(*points, strict=True)
    return statistics.linear_regression(times, values).slope


def theil_sen(points: list[tuple[float, float]]) -> float:
    """Median of the slopes of all pairs."""
    return statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2))


CONTENDERS: dict[str, Callable[[], Forecaster]] = {
    "threadkit": Forecast,
    "theil-sen": lambda: Window(15, theil_sen),
    "least squares": lambda: Window(30, least_squares),
    "holt": Holt,
}


# -- what is read ---------------------------------------------------------------------------


def flat(_rng: random.Random) -> Series:
    """Nothing happens."""
    return lambda _second: 50.0


def noise(rng: random.Random) -> Series:
    """Like the CPU of a busy program."""
    return lambda _second: rng.gauss(50.0, 2.0)


def spikes(rng: random.Random) -> Series:
    """Like buffers of large requests."""
    return lambda _second: rng.gauss(50.0, 0.5) + (30.0 if rng.random() < 0.05 else 0.0)


def saw_tooth(rng: random.Random) -> Series:
    """Like a heap and its collector."""
    phase, period = rng.uniform(0, 60), rng.uniform(20, 60)
    return lambda second: 40.0 + 35.0 * ((second + phase) % period) / period + rng.gauss(0, 0.3)


def step(rng: random.Random) -> Series:
    """Like a model that is loaded."""
    return lambda second: rng.gauss(30.0 if second < BEGIN else 70.0, 0.5)


def warm_up(rng: random.Random) -> Series:
    """Like a program that starts."""
    return lambda second: min(50.0, second * 1.25) + rng.gauss(0, 0.5)


SERIES = {
    "flat": flat,
    "noise": noise,
    "spikes": spikes,
    "saw-tooth": saw_tooth,
    "step": step,
    "warm-up": warm_up,
}


def with_leak(make: Callable[[random.Random], Series], rng: random.Random, rate: float) -> Series:
    """The same, somewhat lower, and a leak from `BEGIN` on."""
    series = make(rng)
    return lambda second: 0.7 * series(second) + rate * max(0, second - BEGIN)


def first_alarm(forecast: Forecaster, series: Series) -> int | None:
    """The second of the first alarm; None: there is none."""
    in_a_row = 0
    for second in range(LENGTH):
        forecast.add(float(second), series(second))
        in_a_row = in_a_row + 1 if forecast.seconds_left(LIMIT) <= HORIZON else 0
        if in_a_row == CONFIRM:
            return second
    return None


# -- what is measured -----------------------------------------------------------------------


def false_alarms(
    make: Callable[[], Forecaster], series: Callable[[random.Random], Series], seeds: range
) -> float:
    """Percent of runs with an alarm where there is nothing to be alarmed about."""
    alarms = sum(first_alarm(make(), series(random.Random(seed))) is not None for seed in seeds)
    return 100.0 * alarms / len(seeds)


def time_to_alarm(
    make: Callable[[], Forecaster],
    series: Callable[[random.Random], Series],
    rate: float,
    seeds: range,
) -> float:
    """Median of the seconds from the beginning of the leak to the alarm."""
    delays: list[int] = []
    for seed in seeds:
        alarm = first_alarm(make(), with_leak(series, random.Random(seed), rate))
        missed = alarm is None or alarm < BEGIN
        delays.append(LENGTH - BEGIN if missed or alarm is None else alarm - BEGIN)
    return statistics.median(delays)


def cost(make: Callable[[], Forecaster]) -> float:
    """Microseconds for a reading and its forecast, in a leak."""
    series = with_leak(noise, random.Random(0), 0.1)
    values = [series(second) for second in range(LENGTH)]
    forecast = make()

    def work() -> None:
        for second, value in enumerate(values):
            forecast.add(float(second), value)
            forecast.seconds_left(LIMIT)

    return seconds(work) / LENGTH * 1e6


def each(take: Callable[[], object]) -> float:
    """Microseconds of one call."""
    times = 200
    return seconds(lambda: [take() for _ in range(times)]) / times * 1e6


def sampled_by_monitor() -> Callable[[], object]:
    """The monitor's sample of the system."""
    monitor = ResourceMonitor()
    for metric in ("memory", "rss", "cpu", "files", "disk"):
        monitor.watch(metric)

    def take() -> object:
        readings = monitor.sample().readings
        assert readings["rss"].used > 0
        return readings

    return take


def sampled_by_psutil() -> Callable[[], object]:
    """The same figures as psutil gives them."""
    process = psutil.Process()

    def take() -> object:
        with process.oneshot():
            figures = process.memory_info(), process.cpu_times(), process.num_threads()
        return *figures, process.num_fds(), psutil.virtual_memory(), psutil.disk_usage(".")

    return take


def build(options: argparse.Namespace) -> Benchmark:
    """Every contender on every series; each repeat has seeds of its own."""
    runs, repeats = (4, 7) if options.quick else (20, 9)
    bench = Benchmark("forecast", baseline="least squares")
    for name, make in CONTENDERS.items():
        for kind, series in SERIES.items():
            bench.add(
                name,
                "false alarms",
                _with_new_seeds(
                    lambda seeds, make=make, series=series: false_alarms(make, series, seeds), runs
                ),
                unit="% of runs",
                workload=kind,
                repeats=repeats,
                warm_up=0,
            )
        for kind in ("flat", "noise", "spikes", "saw-tooth"):
            for rate in (0.25, 0.5):
                bench.add(
                    name,
                    "time to alarm",
                    _with_new_seeds(
                        lambda seeds, make=make, kind=kind, rate=rate: time_to_alarm(
                            make, SERIES[kind], rate, seeds
                        ),
                        runs,
                    ),
                    unit="s",
                    workload=f"{kind}, {rate:g}/s",
                    repeats=repeats,
                    warm_up=0,
                )
        bench.add(name, "cost", lambda make=make: cost(make), unit="us", repeats=repeats)
    for name, take in {"threadkit": sampled_by_monitor(), "psutil": sampled_by_psutil()}.items():
        bench.add(name, "sample", lambda take=take: each(take), unit="us", repeats=repeats)
    return bench


def _with_new_seeds(measure: Callable[[range], float], runs: int) -> Callable[[], float]:
    """`measure` on the next `runs` seeds each time."""
    turns = iter(range(0, 1_000_000, runs))
    return lambda: measure(range(first := next(turns), first + runs))


if __name__ == "__main__":
    main(build)
