"""What is measured of a run, the oracle, and how near to it the others come."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

__all__ = [
    "COSTS",
    "FELT",
    "Run",
    "agreement",
    "combined",
    "costs_of",
    "oracle_of",
    "percentile",
    "regret",
]

FELT = ("makespan", "sojourn_mean", "sojourn_p99")  # what users feel, and the goal speaks of
COSTS = (
    *FELT,
    "sojourn_p50",
    "sojourn_p95",
    "wait_mean",
    "wait_p50",
    "wait_p95",
    "wait_p99",
    "thread_seconds",
    "changes",
    "reversals",
    "peak",
)
TIE = 1.01  # sizes this near to the best are equally good, and the smallest is taken
SAME = 1.05  # contenders this near to one another are not ranked


@dataclass(frozen=True)
class Run:
    """One contender at one workload.

    Attributes:
        contender: `adaptive`, `fixed:8`, `ThreadPoolExecutor`, ...
        workload: Its name.
        costs: Metric to number: seconds, except `changes`, `reversals` and `peak`, which count.
        series: (instant, workers, queued, oldest wait in seconds), thinned, for plots.
        error: Why there are no numbers.
    """

    contender: str
    workload: str
    costs: Mapping[str, float] = field(default_factory=dict)
    series: Sequence[tuple[float, int, int, float]] = ()
    error: str | None = None


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which that share of the ascending values lies (nearest rank)."""
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def costs_of(
    *,
    waits: Iterable[float],
    sojourns: Iterable[float],
    makespan: float,
    thread_seconds: float,
    sizes: Sequence[tuple[float, int]],
) -> dict[str, float]:
    """Every metric of a run, from what happened to its tasks and to its size."""
    out = {"makespan": makespan, "thread_seconds": thread_seconds}
    for name, values in (("wait", sorted(waits)), ("sojourn", sorted(sojourns))):
        out[f"{name}_mean"] = statistics.fmean(values)
        for share in (0.5, 0.95, 0.99):
            out[f"{name}_p{share * 100:.0f}"] = percentile(values, share)
    steps = [after - before for (_, before), (_, after) in pairwise(sizes) if after != before]
    out["changes"] = float(len(steps))
    out["reversals"] = float(sum((a > 0) != (b > 0) for a, b in pairwise(steps)))
    out["peak"] = float(max((size for _, size in sizes), default=0))
    return out


def combined(runs: Sequence[Run]) -> Run:
    """The medians of the same contender and workload over seeds or repeats."""
    sound = [run for run in runs if run.error is None]
    if not sound:
        return runs[0]
    costs = {name: statistics.median(run.costs[name] for run in sound) for name in sound[0].costs}
    return Run(sound[0].contender, sound[0].workload, costs, sound[0].series)


def oracle_of(fixed: Mapping[int, Run]) -> int:
    """The best fixed size in hindsight: its worst ratio to the best of makespan, mean and p99.

    Among sizes within a hundredth of the best, the smallest.
    """
    best = {name: min(run.costs[name] for run in fixed.values()) for name in FELT}
    worst = {
        size: max(_ratio(run.costs[name], best[name]) for name in FELT)
        for size, run in fixed.items()
    }
    bound = TIE * min(worst.values())
    return min(size for size, ratio in worst.items() if ratio <= bound)


def regret(run: Run, oracle: Run) -> dict[str, float]:
    """Each cost as a multiple of the oracle's."""
    return {name: _ratio(run.costs[name], oracle.costs[name]) for name in COSTS}


def _ratio(value: float, base: float) -> float:
    return value / base if base > 0 else (1.0 if value <= 0 else math.inf)


def agreement(first: Mapping[str, float], second: Mapping[str, float]) -> tuple[float, int]:
    """Kendall's tau of two rankings of the same contenders, and the number of pairs it rests on.

    Pairs that differ by less than 5 % in either ranking are ties and left out.
    """
    names = sorted(first.keys() & second.keys())
    pairs = [(a, b) for at, a in enumerate(names) for b in names[at + 1 :]]
    apart = [
        (a, b) for a, b in pairs if _apart(first[a], first[b]) and _apart(second[a], second[b])
    ]
    if not apart:
        return math.nan, 0
    same = sum((first[a] < first[b]) == (second[a] < second[b]) for a, b in apart)
    return (2 * same - len(apart)) / len(apart), len(apart)


def _apart(a: float, b: float) -> bool:
    return max(a, b) > SAME * min(a, b)


def queue_series(
    dues: Sequence[float], starts: Sequence[float], sizes: Sequence[tuple[float, int]], points: int
) -> list[tuple[float, int, int, float]]:
    """(instant, workers, queued, oldest wait) at evenly spaced instants of a run.

    Tasks are taken up in the order they arrive, so the oldest is the one after the last started.
    """
    end = max(*starts, dues[-1])
    begun = sorted(starts)
    changed_at = [at for at, _ in sizes]
    out: list[tuple[float, int, int, float]] = []
    for step in range(points + 1):
        now = end * step / points
        arrived, taken = bisect.bisect_right(dues, now), bisect.bisect_right(begun, now)
        at = bisect.bisect_right(changed_at, now)
        queued = max(0, arrived - taken)
        oldest = now - dues[taken] if queued else 0.0
        out.append((now, sizes[at - 1][1] if at else 0, queued, oldest))
    return out
