"""What the runs of all contenders mean: regrets, goals, agreement, a recommendation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.comparison.measures import (
    COSTS,
    FELT,
    Run,
    agreement,
    combined,
    oracle_of,
    regret,
)
from benchmarks.comparison.real import PEERS
from benchmarks.workloads import MAX_WORKERS, MIN_WORKERS, Workload

__all__ = ["GOALS", "Comparison", "compare", "notes", "recommendation", "score", "verdicts"]

GOALS = {"makespan": 1.10, "sojourn_mean": 1.10, "sojourn_p99": 1.10, "thread_seconds": 1.25}


@dataclass(frozen=True)
class Comparison:
    """All contenders at one workload, as medians over seeds or repeats, and their regrets."""

    workload: Workload
    oracle: int
    runs: Mapping[str, Run]
    regrets: Mapping[str, Mapping[str, float]]  # contender -> metric -> multiple of the oracle's
    worst: Mapping[str, Mapping[str, float]]  # the same, the worst of the seeds or repeats


def compare(workload: Workload, rounds: Sequence[Mapping[str, Run]]) -> Comparison:
    """Each round has its own oracle: other arrivals, or another moment of the machine."""
    ratios: dict[str, list[dict[str, float]]] = {}
    oracles: list[int] = []
    for runs in rounds:
        fixed = {
            int(name.partition(":")[2]): run
            for name, run in runs.items()
            if name.startswith("fixed:") and run.error is None
        }
        oracles.append(oracle_of(fixed))
        best = fixed[oracles[-1]]
        for name, run in runs.items():
            if run.error is None:
                ratios.setdefault(name, []).append(regret(run, best))
    merged = {name: combined([runs[name] for runs in rounds]) for name in rounds[0]}
    middle, worst = (
        {n: {c: pick(r[c] for r in rs) for c in COSTS} for n, rs in ratios.items()}
        for pick in (statistics.median, max)
    )
    return Comparison(workload, int(statistics.median(oracles)), merged, middle, worst)


def score(comparisons: Iterable[Comparison], name: str) -> tuple[float, float]:
    """The worst felt regret of a contender anywhere, then its thread-seconds: less is better."""
    rows = [c.regrets.get(name) for c in comparisons]
    if any(row is None for row in rows):
        return math.inf, math.inf
    felt = max(row[metric] for row in rows if row for metric in FELT)
    return felt, statistics.fmean(row["thread_seconds"] for row in rows if row)


def recommendation(comparisons: Sequence[Comparison]) -> str:
    """Which policy, with which limits, and why.

    Of those within 5 % of the least felt regret, the one that needs clearly fewer threads; the
    default, if there is none.
    """
    names = [n for n in comparisons[0].runs if not n.startswith("fixed:") and n not in PEERS]
    scores = {name: score(comparisons, name) for name in names}
    bound = 1.05 * min(felt for felt, _ in scores.values())
    near = [name for name in names if scores[name][0] <= bound]
    best = min(near, key=lambda name: (round(scores[name][1], 1), name != "adaptive"))
    felt, threads = scores[best]
    # Seen from outside, a pool's supervisor counts as a thread, too.
    peak = min(MAX_WORKERS, max(int(c.runs[best].costs["peak"]) for c in comparisons))
    others = sorted((n for n in names if n != best), key=lambda n: scores[n])
    rival = ""
    if others:
        rival_felt, rival_threads = scores[others[0]]
        rival = f" Its best rival, {others[0]}, stands at {rival_felt:.2f} and {rival_threads:.2f}."
    sizes = ", ".join(f"{c.oracle} for {c.workload.name}" for c in comparisons)
    return (
        f'Use policy="{best}" with min_workers={MIN_WORKERS} and max_workers of at least {peak}: '
        f"its worst makespan, mean or p99 sojourn is {felt:.2f} times that of the best fixed size, "
        f"with {threads:.2f} times its thread-seconds on average.{rival} "
        f"The best fixed sizes would be {sizes}."
    )


def verdicts(comparisons: Mapping[str, Comparison]) -> dict[str, dict[str, float | None]]:
    """Adaptive against its goals: the worst over the seeds."""
    return {
        metric: {name: c.worst.get("adaptive", {}).get(metric) for name, c in comparisons.items()}
        for metric in GOALS
    }


def _goal_notes(title: str, comparisons: Mapping[str, Comparison]) -> list[str]:
    """How Adaptive stands against its goals, naming where it misses them."""
    out: list[str] = []
    for metric, row in verdicts(comparisons).items():
        worst = {name: value for name, value in row.items() if value is not None}
        if not worst:
            continue
        missed = [f"{name} {value:.2f}" for name, value in worst.items() if value > GOALS[metric]]
        out.append(
            f"{title}: Adaptive's worst {metric} of any seed or repeat is "
            f"{max(worst.values()):.2f} times the oracle's (goal {GOALS[metric]:.2f}"
            f"{'; missed: ' + ', '.join(missed) if missed else ''})"
        )
    return out


def _agreements(
    sim: Mapping[str, Comparison], real: Mapping[str, Comparison]
) -> dict[str, tuple[float, int]]:
    """How far simulated and real runs rank the same contenders alike, by mean sojourn."""
    out: dict[str, tuple[float, int]] = {}
    for name in sim.keys() & real.keys():
        first, second = (
            {n: r.costs["sojourn_mean"] for n, r in c[name].runs.items() if r.error is None}
            for c in (sim, real)
        )
        out[name] = agreement(first, second)
    return {name: out[name] for name in sim if name in out}


def _errors(
    sim: Mapping[str, Comparison], real: Mapping[str, Comparison], metric: str
) -> list[float]:
    """Relative errors of the simulator against the real pool, of every contender both ran."""
    return [
        abs(sim[name].runs[who].costs[metric] / run.costs[metric] - 1)
        for name in sim.keys() & real.keys()
        for who, run in real[name].runs.items()
        if who in sim[name].runs and run.error is None and run.costs[metric] > 0
    ]


def notes(sim: Mapping[str, Comparison], real: Mapping[str, Comparison]) -> list[str]:
    """Sentences about the goals, and about how far simulation and reality agree."""
    out = [*_goal_notes("simulated", sim), *_goal_notes("real", real)]
    if not real:
        return out
    out += [
        f"{name}: Kendall's tau of simulated and real ranking {tau:.2f} over {pairs} pairs"
        for name, (tau, pairs) in _agreements(sim, real).items()
    ]
    for metric in (*FELT, "thread_seconds"):
        errors = sorted(_errors(sim, real, metric))
        out.append(
            f"the simulator's {metric} is off by {statistics.median(errors):.0%} in the median, "
            f"{errors[int(0.9 * (len(errors) - 1))]:.0%} at p90 ({len(errors)} runs)"
        )
    return out
