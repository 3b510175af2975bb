"""How often does a pool's size change, and how often is it too small, with and without a window?

    python -m benchmarks.governor [--quick] [--json FILE] [--plot FILE]

A made-up hour, looked at once a second: the need for workers swings with the minutes, with noise
and bursts on top. `threadkit` is the Governor's rule (grow at once, shrink only to the largest
need of the last 60 s); `naive`, the baseline, takes each need as it comes; `mean` takes the mean
of the last 60 s.

| metric | what |
|---|---|
| changes | of the size, in an hour |
| reversals | changes in the other direction than the one before |
| shortage | workers that were missing, each second, summed |
| idle | workers that were too many, each second, summed |
| highest | memory of a real process that asks for four times its ceiling, in % of the ceiling |
| recovery | seconds until all its sizes are as before, once it asks for nothing more |

The last two are `benchmarks.ceiling`: against an injected limit, and in a control group whose limit
the kernel enforces where this process may make one. `naive` has no governor there, and is stopped
when it is a third above its limit; in a control group the kernel would kill it, so it is left out.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from benchmarks import ceiling
from benchmarks.harness import Benchmark, main
from threadkit.sizing._stabiliser import Stabiliser

HOUR = 3600
WINDOW = 60
Rule = Callable[[float, int], int]


def governor() -> Rule:
    """The Governor's."""
    return Stabiliser(float(WINDOW)).update


def naive() -> Rule:
    """Whatever is needed now."""
    return lambda _at, need: need


def mean() -> Rule:
    """Smoothed, so late at every rise."""
    last: deque[int] = deque(maxlen=WINDOW)

    def rule(_at: float, need: int) -> int:
        last.append(need)
        return max(1, round(sum(last) / len(last)))

    return rule


CONTENDERS: dict[str, Callable[[], Rule]] = {"threadkit": governor, "naive": naive, "mean": mean}


def needs(seed: int) -> list[int]:
    """An hour of needs."""
    rng = random.Random(seed)
    burst = 0.0
    series: list[int] = []
    for second in range(HOUR):
        burst = 15.0 if rng.random() < 0.002 else burst * 0.95
        swing = 12.0 + 8.0 * math.sin(second / 300.0)
        series.append(max(1, round(swing + burst + rng.gauss(0, 1.5))))
    return series


@dataclass(frozen=True)
class Outcome:
    """What became of an hour."""

    changes: int
    reversals: int
    shortage: int
    idle: int


def live_through(make: Callable[[], Rule], seed: int) -> Outcome:
    """An hour under a rule; a size takes effect in the second after it was chosen."""
    rule, series = make(), needs(seed)
    sizes = [rule(float(second), need) for second, need in enumerate(series)]
    steps = [after - before for before, after in pairwise(sizes) if after != before]
    gaps = [need - size for size, need in zip(sizes, series[1:], strict=False)]
    return Outcome(
        changes=len(steps),
        reversals=sum(before * after < 0 for before, after in pairwise(steps)),
        shortage=sum(gap for gap in gaps if gap > 0),
        idle=-sum(gap for gap in gaps if gap < 0),
    )


def build(options: argparse.Namespace) -> Benchmark:
    """Every rule on the same hours, another one each repeat."""
    repeats = 7 if options.quick else 25
    bench = Benchmark("governor", baseline="naive")
    for metric, unit in (
        ("changes", "an hour"),
        ("reversals", "an hour"),
        ("shortage", "worker seconds"),
        ("idle", "worker seconds"),
    ):
        for name, make in CONTENDERS.items():
            hours = iter(range(1_000_000))
            bench.add(
                name,
                metric,
                lambda metric=metric, make=make, hours=hours: float(
                    getattr(live_through(make, next(hours)), metric)
                ),
                unit=unit,
                repeats=repeats,
                warm_up=0,
            )
    add_real_runs(bench, repeats=1 if options.quick else 3)
    return bench


def add_real_runs(bench: Benchmark, repeats: int) -> None:
    """A process under its ceiling, with the governor and without."""
    with ceiling.control_group() as group:
        modes = ["injected"] if group is None else ["injected", "cgroup"]
    for mode in modes:
        for name in ("threadkit", "naive") if mode == "injected" else ("threadkit",):
            runs: list[dict[str, float]] = []

            def highest(
                mode: str = mode, name: str = name, runs: list[dict[str, float]] = runs
            ) -> float:
                found = ceiling.measure(mode, governed=name == "threadkit")
                assert found is not None
                assert found.get("hits", 0) == 0  # the kernel never had to step in
                runs.append(found)
                return found["highest"]

            def recovery(runs: list[dict[str, float]] = runs) -> float:
                return runs.pop()["recovery"]

            options = {"workload": f"real, {mode}", "repeats": repeats, "warm_up": 0}
            bench.add(name, "highest", highest, unit="% of the ceiling", **options)  # type: ignore[arg-type]
            if name == "threadkit":
                bench.add(name, "recovery", recovery, unit="s", **options)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(build)
