"""Which sizing policy, with which limits, for which work? Simulated, and with real pools.

    python -m benchmarks.policies                       every policy and workload, simulated
    python -m benchmarks.policies --real --report r.html      the same for real, and a page about it
    python -m benchmarks.policies --workload mine.csv --policy my.module:MyPolicy

Every policy is compared with the oracle: the fixed size, between the pool's limits, that turns
out afterwards to be the best for that workload. A regret of 1.05 means 5 % worse than that.

The workloads are defined in benchmarks/workloads.py, the model in benchmarks/simulator.py. A file
for `--workload` is CSV with the header `arrival,duration,cpu_share`, or JSON lines with those keys;
`--record FILE` writes one from a real run, `benchmarks.comparison.recording.Recorder` from your
own program.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.comparison.measures import (
    COSTS,
    FELT,
    Run,
    costs_of,
    queue_series,
)
from benchmarks.comparison.real import PEERS, STANDARD, run_real, threadkit_pool
from benchmarks.comparison.recording import Recorder
from benchmarks.comparison.report import Section, page, regret_table
from benchmarks.comparison.verdicts import (
    GOALS,
    Comparison,
    compare,
    notes,
    recommendation,
    score,
    verdicts,
)
from benchmarks.harness import Benchmark, Row, rows_as_json
from benchmarks.simulator import Machine, simulate
from benchmarks.workloads import (
    FINAL_SEEDS,
    IDLE_TIMEOUT,
    MAX_WORKERS,
    MIN_WORKERS,
    SEEDS,
    WORKLOADS,
    Workload,
    build,
    load,
)
from threadkit.sizing import POLICIES, Fixed, SizingPolicy, policy

Makers = Mapping[str, Callable[[], SizingPolicy]]

SIZES = (*range(2, 21), *range(22, 33, 2), *range(36, 65, 4))
REAL_SIZES = (2, 8, 16, 64)
REAL_POLICIES = ("adaptive", "keep_alive", "queue_threshold")
DRAWN = ("adaptive", "keep_alive", "queue_threshold", "queue_delay")
POINTS = 300  # of a plotted line
ORACLE = "oracle"


# -- simulated ------------------------------------------------------------------------------


def simulated(
    name: str, make: Callable[[], SizingPolicy], workload: Workload, machine: Machine
) -> Run:
    """One contender in virtual time."""
    outcome = simulate(
        make(),
        workload.tasks,
        min_workers=MIN_WORKERS,
        max_workers=MAX_WORKERS,
        machine=machine,
        idle_timeout=IDLE_TIMEOUT,
    )
    arrivals = workload.tasks.arrivals
    starts = [due + wait for due, wait in zip(arrivals, outcome.waits, strict=True)]
    costs = costs_of(
        waits=outcome.waits,
        sojourns=outcome.sojourns,
        makespan=outcome.makespan,
        thread_seconds=outcome.thread_seconds,
        sizes=outcome.sizes,
    )
    series = queue_series(arrivals, starts, outcome.sizes, POINTS)
    return Run(name, workload.name, costs, series)


def _simulate_all(
    workloads: Mapping[str, Sequence[Workload]], makers: Makers, machine: Machine
) -> dict[str, Comparison]:
    contenders = {f"fixed:{size}": lambda size=size: Fixed(size) for size in SIZES} | dict(makers)
    total = sum(map(len, workloads.values())) * len(contenders)
    out: dict[str, Comparison] = {}
    with _progress() as progress:
        bar = progress.add_task("simulating", total=total)
        for name, seeds in workloads.items():
            rounds: list[dict[str, Run]] = []
            for workload in seeds:
                runs = {}
                for contender, make in contenders.items():
                    runs[contender] = simulated(contender, make, workload, machine)
                    progress.update(bar, advance=1, description=f"simulating {name}")
                rounds.append(runs)
            out[name] = compare(seeds[0], rounds)
    return out


# -- real -----------------------------------------------------------------------------------


def _real_contenders(
    makers: Makers, names: Sequence[str], sizes: Iterable[int]
) -> dict[str, Callable[[], Executor]]:
    out = {name: threadkit_pool(make) for name, make in makers.items() if name in names}
    out |= {
        f"fixed:{size}": threadkit_pool(lambda size=size: Fixed(size)) for size in sorted(sizes)
    }
    return out | {name: make for name, make in PEERS.items() if "peers" in names or name in names}


def _run_all_real(
    workloads: Sequence[Workload],
    makers: Makers,
    names: Sequence[str],
    oracles: Mapping[str, int],
    repeats: int,
) -> dict[str, Comparison]:
    out: dict[str, Comparison] = {}
    plan = [
        (workload, _real_contenders(makers, names, {*REAL_SIZES, oracles[workload.name]}))
        for workload in workloads
    ]
    with _progress() as progress:
        bar = progress.add_task("real", total=repeats * sum(len(c) for _, c in plan))
        for workload, contenders in plan:
            rounds: list[dict[str, Run]] = []
            for turn in range(repeats):
                # Another order each time: who runs after whom must not decide.
                order = sorted(contenders, key=lambda name, turn=turn: hash((name, turn)))
                runs = {}
                for name in order:
                    progress.update(bar, description=f"{workload.name} {name}"[:40])
                    progress.refresh()
                    runs[name] = run_real(name, contenders[name], workload)
                    progress.update(bar, advance=1)
                rounds.append(runs)
            out[workload.name] = compare(workload, rounds)
    return out


def _progress() -> Progress:
    columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn())
    # Refreshed by hand in real runs: a refreshing thread would run inside the measured work.
    console = Console(stderr=True)
    return Progress(*columns, TimeElapsedColumn(), console=console, auto_refresh=False)


# -- showing --------------------------------------------------------------------------------


def _felt(comparison: Comparison, name: str) -> float | None:
    """The worst of what users feel, as a multiple of the oracle's."""
    row = comparison.regrets.get(name)
    return None if row is None else max(row[metric] for metric in FELT)


def _value(comparison: Comparison, name: str, metric: str) -> float | None:
    run = comparison.runs.get(name)
    return None if run is None else run.costs.get(metric)


def _tables(title: str, comparisons: Mapping[str, Comparison]) -> Iterable[Table]:
    """What a terminal has room for; the report has every metric."""
    measures: dict[str, Callable[[Comparison, str], float | None]] = {
        "the worst of makespan, mean and p99 sojourn, as a multiple of the oracle's": _felt,
        "thread-seconds, as a multiple of the oracle's": lambda comparison, name: (
            comparison.regrets.get(name, {}).get("thread_seconds")
        ),
        "reversals of the size": lambda comparison, name: _value(comparison, name, "reversals"),
    }
    for caption, measure in measures.items():
        table = Table(title=f"{title}: {caption}")
        table.add_column("contender")
        for name, comparison in comparisons.items():
            table.add_column(f"{name}\n(best {comparison.oracle})", justify="right")
        for name in _shown(comparisons):
            values = (measure(comparison, name) for comparison in comparisons.values())
            table.add_row(name, *("-" if v is None else f"{v:.3g}" for v in values))
        yield table


def _shown(comparisons: Mapping[str, Comparison]) -> list[str]:
    """Contenders, the best first, then some fixed sizes."""
    names = dict.fromkeys(name for c in comparisons.values() for name in c.runs)
    shown = [n for n in names if not n.startswith("fixed:")]
    shown.sort(key=lambda name: score(list(comparisons.values()), name))
    return [*shown, *(n for n in ("fixed:2", "fixed:8", "fixed:16", "fixed:64") if n in names)]


def _regret_rows(
    comparisons: Mapping[str, Comparison], metric: str
) -> dict[str, dict[str, float | None]]:
    """Contender -> workload -> regret."""
    return {
        name: {w: c.regrets.get(name, {}).get(metric) for w, c in comparisons.items()}
        for name in _shown(comparisons)
    }


def _html(
    sim: Mapping[str, Comparison],
    real: Mapping[str, Comparison],
    advice: str,
    remarks: Sequence[str],
) -> str:
    parts = [f"<p><b>{advice}</b>", *(f"<p>{note}" for note in remarks)]
    for title, comparisons in (("Simulated", sim), ("Real", real)):
        if not comparisons:
            continue
        columns = list(comparisons)
        parts.append(f"<h2>{title}</h2>")
        goals = verdicts(comparisons)
        parts.append(regret_table("Adaptive, the worst seed or repeat", goals, columns))
        for metric in (*FELT, "thread_seconds"):
            rows = _regret_rows(comparisons, metric)
            caption = f"{metric}, as a multiple of the oracle's"
            parts.append(regret_table(caption, rows, columns, good=GOALS[metric]))
        parts.append(_absolute(comparisons))
    sections = [
        Section(f"{name}, {title}", comparison.workload.description, _drawn(comparison))
        for title, comparisons in (("simulated", sim), ("real", real))
        for name, comparison in comparisons.items()
    ]
    return page("threadkit: the comparison of sizing policies", parts, sections)


def _drawn(comparison: Comparison) -> list[Run]:
    best = f"fixed:{comparison.oracle}"
    own = [n for n in comparison.runs if n not in POLICIES and not n.startswith("fixed:")]
    names = dict.fromkeys([*DRAWN, best, *own])
    return [comparison.runs[name] for name in names if name in comparison.runs][:8]


def _absolute(comparisons: Mapping[str, Comparison]) -> str:
    """Every measure of every contender, folded away."""
    head = "".join(f"<th>{metric}" for metric in COSTS)
    body = "".join(
        f"<tr><td>{name} {run.contender}"
        + (
            f'<td colspan="{len(COSTS)}">{run.error}'
            if run.error
            else "".join(f"<td>{run.costs[metric]:.4g}" for metric in COSTS)
        )
        for name, comparison in comparisons.items()
        for run in comparison.runs.values()
    )
    return (
        "<details><summary>Every measure, in seconds or counts</summary><div class=wide>"
        f"<table><tr><th>{head}{body}</table></div></details>"
    )


def _rows(kind: str, comparisons: Mapping[str, Comparison]) -> list[Row]:
    """The result as rows of the harness's JSON; the oracle is the baseline."""
    units = dict.fromkeys(COSTS, "s") | dict.fromkeys(("changes", "reversals", "peak"), "count")
    return [
        Row(
            contender=f"threadkit:{name}" if name not in PEERS else name,
            metric=f"{kind} {metric}",
            workload=workload,
            unit=units[metric],
            median=run.costs.get(metric, math.nan),
            ratio=comparison.regrets.get(name, {}).get(metric),
            spread=(run.costs.get(metric, math.nan),) * 2,
            repeats=0 if run.error else 1,
            error=run.error,
        )
        for workload, comparison in comparisons.items()
        for name, run in comparison.runs.items()
        for metric in COSTS
    ]


def _picture(comparisons: Mapping[str, Comparison], path: Path) -> None:
    """Bars of each contender's worst felt regret. Needs the `bench` extra."""
    import matplotlib as mpl  # noqa: PLC0415 - only this option needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    everything = list(comparisons.values())
    names = [n for n in everything[0].runs if not n.startswith("fixed:")]
    scores = {n: score(everything, n)[0] for n in names}
    names = sorted((n for n in names if math.isfinite(scores[n])), key=lambda n: -scores[n])
    figure, panel = plt.subplots(figsize=(8, 1 + 0.3 * len(names)))
    panel.barh(names, [scores[name] for name in names])
    panel.axvline(1.0, color="black", linewidth=0.8)
    panel.set_xscale("log")
    panel.set_xlabel("worst makespan, mean or p99 sojourn, as a multiple of the best fixed size's")
    figure.tight_layout()
    figure.savefig(path)


# -- the command line -----------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policies", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--quick", action="store_true", help="one seed")
    add("--final", action="store_true", help="the five seeds kept for the end")
    add("--only", metavar="NAMES", help=f"workloads, with commas: {', '.join(WORKLOADS)}")
    add("--workload", type=Path, metavar="FILE", help="your recorded workload instead")
    add("--policy", action="append", default=[], metavar="MODULE:NAME", help="a policy of yours")
    add("--real", action="store_true", help="run real pools, too")
    add(
        "--contenders",
        metavar="NAMES",
        default=",".join((*REAL_POLICIES, "peers")),
        help="of real runs, with commas: policies, peers by name, or `peers` for all of them "
        "(default: %(default)s)",
    )
    add("--repeats", type=_count, default=1, metavar="N", help="of real runs (default: 1)")
    add(
        "--cores", type=_count, default=2, metavar="N", help="of the simulated machine (default: 2)"
    )
    add("--no-gil", action="store_true", help="simulate a free-threaded Python")
    add("--record", type=Path, metavar="FILE", help="record a real run of the first workload")
    add("--json", type=Path, metavar="FILE", help="write what was measured")
    add("--plot", type=Path, metavar="FILE", help="draw the worst regrets")
    add("--report", type=Path, metavar="FILE", help="write a page of tables and lines")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, not {text}")
    return int(text)


def _makers(names: Iterable[str]) -> Makers:
    """The library's policies and the user's own."""
    makers: dict[str, Callable[[], SizingPolicy]] = dict(POLICIES)
    for spec in names:
        module, _, name = spec.partition(":")
        if not name:
            raise ValueError(f"--policy wants package.module:Name, not {spec!r}")
        make = getattr(importlib.import_module(module), name)
        policy(make())  # raises, saying why, if it is no policy
        makers[name] = make
    return makers


def _workloads(options: argparse.Namespace) -> dict[str, list[Workload]]:
    if options.workload is not None:
        recorded = load(options.workload)
        return {recorded.name: [recorded]}
    names = options.only.split(",") if options.only else list(WORKLOADS)
    seeds = FINAL_SEEDS if options.final else SEEDS[:1] if options.quick else SEEDS
    return {name: [build(name, seed) for seed in seeds] for name in names}


def _contenders(options: argparse.Namespace, makers: Makers) -> list[str]:
    names = options.contenders.split(",")
    for name in names:
        if name != "peers" and name not in makers and name not in PEERS:
            allowed = ", ".join(["peers", *makers, *PEERS])
            raise ValueError(f"no contender is named {name!r}; there are: {allowed}")
    return [*names, *(spec.partition(":")[2] for spec in options.policy)]


def _check_writable(options: argparse.Namespace) -> None:
    """Fail now, not after the measurement."""
    for path in (options.record, options.json, options.plot, options.report):
        if path is not None and not path.resolve().parent.is_dir():
            raise ValueError(f"cannot write {path}: there is no such folder")


def _record(workload: Workload, path: Path) -> None:
    recorders: list[Recorder] = []

    def make() -> Executor:
        recorders.append(Recorder(threadkit_pool(POLICIES["adaptive"])()))
        return recorders[0]

    run_real("adaptive", make, workload)
    recorders[0].save(path)
    print(f"recorded {len(recorders[0].rows())} tasks of {workload.name} in {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for, and say what it means."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        workloads, makers = _workloads(options), _makers(options.policy)
        names = _contenders(options, makers)
        _check_writable(options)
    except (OSError, ValueError, TypeError, ImportError, AttributeError) as exc:
        parser.error(str(exc))
    if options.record is not None:
        _record(next(iter(workloads.values()))[0], options.record)
        return 0
    sim = _simulate_all(workloads, makers, Machine(cores=options.cores, gil=not options.no_gil))
    real: dict[str, Comparison] = {}
    if options.real:
        oracles = {name: c.oracle for name, c in sim.items()}
        first = [seeds[0] for seeds in workloads.values()]
        real = _run_all_real(first, makers, names, oracles, options.repeats)
    _show(sim, real, options)
    if real:  # some peer's threads never end, and would keep the process
        sys.stdout.flush()
        os._exit(0)
    return 0


def _show(
    sim: Mapping[str, Comparison], real: Mapping[str, Comparison], options: argparse.Namespace
) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200)
    for title, comparisons in (("simulated", sim), ("real", real)):
        for table in _tables(title, comparisons) if comparisons else ():
            console.print(table)
    remarks = notes(sim, real)
    advice = recommendation(list((real if _has_policies(real) else sim).values()))
    print(*remarks, "", advice, sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps(_as_json(sim, real), indent=1), encoding="utf-8")
    if options.plot is not None:
        _picture(real or sim, options.plot)
    if options.report is not None:
        options.report.write_text(_html(sim, real, advice, remarks), encoding="utf-8")
        print(f"report: {options.report}")


def _has_policies(comparisons: Mapping[str, Comparison]) -> bool:
    """Whether there is a choice to recommend: not where only peers were run."""
    return any(name in POLICIES for c in comparisons.values() for name in c.runs)


def _as_json(sim: Mapping[str, Comparison], real: Mapping[str, Comparison]) -> dict[str, Any]:
    peers = [name for name in PEERS if name != STANDARD]
    bench = Benchmark("policies", baseline=ORACLE, packages=peers if real else ())
    return rows_as_json(bench, [*_rows("simulated", sim), *_rows("real", real)])


if __name__ == "__main__":
    sys.exit(main())
