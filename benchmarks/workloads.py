"""The workloads of the policy comparison: what arrives, when, and what it costs.

Every workload is defined by a seed, lasts some seconds, and is the same for the simulator and for
real pools. A task computes for `cpu` seconds, then blocks for `block` seconds; "16 busy" below is
arrival rate x duration, the workers kept busy on average (Little 1961). All pools may have 2 to
64 workers and give an idle worker back after `IDLE_TIMEOUT`.

A file of your own (`load`, for `--workload FILE`) is CSV with the header
`arrival,duration,cpu_share` or JSON lines with those keys: seconds since the start, seconds the
task ran, and the share of these it computed (0 to 1; 0 when missing). `save` writes one.
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.simulator import Dependency, Tasks

__all__ = ["IDLE_TIMEOUT", "SEEDS", "WORKLOADS", "Workload", "build", "load", "save"]

MIN_WORKERS = 2
MAX_WORKERS = 64
IDLE_TIMEOUT = 2.0  # seconds; short, because the workloads squeeze hours into seconds
SEEDS = (1, 2, 3)  # fixed before the policies were designed
FINAL_SEEDS = (301, 302, 303, 304, 305)  # looked at only once they were
DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Workload:
    """Tasks with a name, a sentence, and the seed they were drawn with."""

    name: str
    description: str
    tasks: Tasks
    seed: int = 0

    @property
    def horizon(self) -> float:
        """Seconds the pool is kept."""
        return max(self.tasks.horizon, self.tasks.arrivals[-1])


Row = tuple[float, float, float]
"""arrival, cpu, block"""


def _tasks(
    rows: Iterable[Row], *, dependency: Dependency | None = None, horizon: float = 0.0
) -> Tasks:
    arrivals, cpu, block = zip(*sorted(rows), strict=True)
    return Tasks(list(arrivals), list(cpu), list(block), dependency, horizon)


# -- how tasks arrive -----------------------------------------------------------------------


def _poisson(
    draw: random.Random, rate: Callable[[float], float], peak: float, until: float
) -> Iterator[float]:
    """Arrivals of a Poisson process whose rate changes, by thinning (Lewis and Shedler 1979)."""
    now = draw.expovariate(peak)
    while now < until:
        if draw.random() * peak < rate(now):
            yield now
        now += draw.expovariate(peak)


def _steady(draw: random.Random, rate: float, until: float) -> Iterator[float]:
    return _poisson(draw, lambda _now: rate, rate, until)


def _around(draw: random.Random, typical: float) -> float:
    """A duration that varies by about a quarter, as a call to a healthy service does."""
    return typical * math.exp(draw.gauss(0.0, 0.25))


# -- the workloads --------------------------------------------------------------------------


def steady_io(draw: random.Random) -> Tasks:
    """200 a second for 10 s, each waits 20 ms: 4 busy."""
    return _tasks((at, 0.0, _around(draw, 0.02)) for at in _steady(draw, 200, 10))


def burst(draw: random.Random) -> Tasks:
    """200 tasks at once that wait 50 ms each, on 2 workers."""
    return _tasks((draw.random() * 2e-3, 0.0, 0.05) for _ in range(200))


def burst_then_idle(draw: random.Random) -> Tasks:
    """The same burst, then 10 s of nothing."""
    return _tasks(((draw.random() * 2e-3, 0.0, 0.05) for _ in range(200)), horizon=10)


def cpu_steady(draw: random.Random) -> Tasks:
    """70 a second for 10 s, each computes 5 to 15 ms: the interpreter is 70 % busy."""
    return _tasks((at, draw.uniform(0.005, 0.015), 0.0) for at in _steady(draw, 70, 10))


def cpu_burst(draw: random.Random) -> Tasks:
    """400 tasks at once that compute 5 ms each."""
    return _tasks((draw.random() * 4e-3, 0.005, 0.0) for _ in range(400))


def mixed(draw: random.Random) -> Tasks:
    """150 a second for 10 s: four of five wait 50 ms, one computes 10 ms; 6 busy."""
    return _tasks(
        (at, 0.01, 0.0) if draw.random() < 0.2 else (at, 0.0005, _around(draw, 0.05))
        for at in _steady(draw, 150, 10)
    )


def contended(draw: random.Random) -> Tasks:
    """120 a second for 10 s to a service that is best at 8 calls in flight; 60 more at once."""
    rows = [(at, 0.0, 0.02) for at in _steady(draw, 120, 10)]
    rows += [(4 + draw.random() * 1e-3, 0.0, 0.02) for _ in range(60)]
    return _tasks(rows, dependency=lambda _now, in_flight: 1 + (in_flight / 8) ** 2)


def ramp(draw: random.Random) -> Tasks:
    """From 20 to 400 a second over 10 s, each waits 40 ms: 1 to 16 busy."""
    return _tasks(
        (at, 0.0, _around(draw, 0.04)) for at in _poisson(draw, lambda t: 20 + 38 * t, 400, 10)
    )


def day_and_night(draw: random.Random) -> Tasks:
    """Two days of 8 s: from 10 to 300 a second and back, each waits 40 ms: up to 12 busy."""

    def rate(now: float) -> float:
        return 155 - 145 * math.cos(2 * math.pi * now / 8)

    return _tasks((at, 0.0, _around(draw, 0.04)) for at in _poisson(draw, rate, 300, 16))


def heavy_tail(draw: random.Random) -> Tasks:
    """100 a second for 10 s; most wait 10 ms, a few seconds (Pareto, 1.5): about 3 busy."""
    return _tasks(
        (at, 0.0, min(2.0, 0.01 * draw.paretovariate(1.5))) for at in _steady(draw, 100, 10)
    )


def flapping(draw: random.Random) -> Tasks:
    """A second of 300 a second, a second of 5, for 20 s; each waits 40 ms: 12 busy, then none."""
    return _tasks(
        (at, 0.0, _around(draw, 0.04))
        for at in _poisson(draw, lambda t: 300 if t % 2 < 1 else 5, 300, 20)
    )


def slow_dependency(draw: random.Random) -> Tasks:
    """100 a second for 10 s, each waits 20 ms, from second 4 to 7 tenfold: 2, then 20 busy."""
    return _tasks(
        ((at, 0.0, _around(draw, 0.02)) for at in _steady(draw, 100, 10)),
        dependency=lambda now, _in_flight: 10.0 if 4 <= now < 7 else 1.0,
    )


def live_room(draw: random.Random) -> Tasks:
    """200 s of a recorded live room, played 20 times as fast; the durations are assumed."""
    del draw  # a recording is the same for every seed
    return _read(DATA / "live_room.csv")


WORKLOADS: Mapping[str, Callable[[random.Random], Tasks]] = {
    make.__name__: make
    for make in (
        steady_io,
        burst,
        burst_then_idle,
        cpu_steady,
        cpu_burst,
        mixed,
        contended,
        ramp,
        day_and_night,
        heavy_tail,
        flapping,
        slow_dependency,
        live_room,
    )
}


def build(name: str, seed: int = SEEDS[0]) -> Workload:
    """The workload of that name, drawn with that seed."""
    if name not in WORKLOADS:
        raise ValueError(f"no workload is named {name!r}; there are: {', '.join(WORKLOADS)}")
    make = WORKLOADS[name]
    return Workload(name, make.__doc__ or name, make(random.Random(f"{name} {seed}")), seed)


# -- files ----------------------------------------------------------------------------------


def load(path: Path) -> Workload:
    """The workload in a CSV or JSON lines file; the name's ending says which."""
    return Workload(path.stem, f"recorded in {path.name}", _read(path))


def save(path: Path, rows: Iterable[tuple[float, float, float]]) -> None:
    """Write (arrival, duration, cpu share) rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["arrival", "duration", "cpu_share"])
        out.writerows((f"{at:.6f}", f"{took:.6f}", f"{share:.4f}") for at, took, share in rows)


def _read(path: Path) -> Tasks:
    # Spreadsheets put a byte order mark in front.
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = (line for line in file if not line.startswith("#"))
        records: Iterable[object] = (
            csv.DictReader(lines)
            if path.suffix == ".csv"
            else (_parsed(path, line) for line in lines if line.strip())
        )
        rows = [_row(path, number, record) for number, record in enumerate(records, start=1)]
    if not rows:
        raise ValueError(f"{path} holds no task")
    first = min(rows)[0]
    return _tasks((at - first, cpu, block) for at, cpu, block in rows)


def _parsed(path: Path, line: str) -> object:
    try:
        return json.loads(line)
    except ValueError as exc:
        raise ValueError(f"{path}: no JSON in the line {line.strip()[:80]!r}") from exc


def _row(path: Path, number: int, record: Any) -> Row:
    try:
        arrival, duration = float(str(record["arrival"])), float(str(record["duration"]))
        share = float(str(record.get("cpu_share") or 0))
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ValueError(
            f"{path}, task {number}: wants numbers for arrival, duration and perhaps cpu_share, "
            f"got {record}"
        ) from exc
    if not (math.isfinite(arrival) and 0 <= duration < math.inf and 0 <= share <= 1):
        raise ValueError(
            f"{path}, task {number}: wants a finite arrival, duration >= 0 and cpu_share 0 to 1, "
            f"got {record}"
        )
    return arrival, duration * share, duration * (1 - share)
