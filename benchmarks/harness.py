"""What every benchmark shares: a fair order, medians, ratios to a named baseline, a table, JSON.

A benchmark declares `Case`s; a case is one contender doing one workload, measured by a function
that does the checked work once and returns one number. The harness warms every case up, then runs
all contenders of a metric interleaved in shuffled order, and reports medians and their ratio to
the baseline's median in the same run. Numbers of two runs are never compared.

    def build(options):
        bench = Benchmark("dispatch", baseline="ThreadPoolExecutor")
        for name, make in CONTENDERS.items():
            bench.add(name, "dispatch", lambda make=make: dispatch(make), unit="us/task")
        return bench

    if __name__ == "__main__":
        main(build)
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = ["Benchmark", "Case", "Row", "main", "measure", "rows_as_json", "seconds"]

REPEATS = 7  # the least that gives a median its spread
HIGHER_IS_BETTER = ("/s", "%")  # how the units end where more is better; all others count costs


@dataclass(frozen=True)
class Case:
    """One contender at one workload: `run()` does the work once and returns its number."""

    contender: str
    metric: str
    run: Callable[[], float]
    unit: str
    workload: str = ""
    repeats: int = REPEATS
    warm_up: int = 1

    @property
    def question(self) -> tuple[str, str]:
        """Cases with the same question are compared with one another."""
        return self.metric, self.workload


@dataclass(frozen=True)
class Row:
    """What came out of a case; `ratio` is None when the baseline has no number."""

    contender: str
    metric: str
    workload: str
    unit: str
    median: float
    ratio: float | None
    spread: tuple[float, float]
    repeats: int
    error: str | None = None


@dataclass
class Benchmark:
    """The cases of one question, in the order they were added.

    Args:
        name: The benchmark's file name.
        baseline: The contender every ratio is taken to.
        packages: Distributions whose versions belong to the result.
    """

    name: str
    baseline: str
    packages: Sequence[str] = ()
    cases: list[Case] = field(default_factory=list)

    def add(
        self,
        contender: str,
        metric: str,
        run: Callable[[], float],
        *,
        unit: str,
        workload: str = "",
        repeats: int = REPEATS,
        warm_up: int = 1,
    ) -> None:
        """Add a case."""
        self.cases.append(Case(contender, metric, run, unit, workload, repeats, warm_up))

    def versions(self) -> dict[str, str]:
        """The installed versions of `packages`."""
        return {name: importlib.metadata.version(name) for name in self.packages}


def seconds(work: Callable[[], Any]) -> float:
    """How long `work()` took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# -- measuring ------------------------------------------------------------------------------


def measure(
    bench: Benchmark, *, seed: int = 0, tick: Callable[[Case], None] | None = None
) -> list[Row]:
    """Run every case of `bench` and return a row for each, in the order they were added.

    A contender that raises is reported with its error and not run again; the others go on.
    """
    shuffle = random.Random(seed).shuffle
    samples: dict[int, list[float]] = {id(case): [] for case in bench.cases}
    errors: dict[int, str] = {}
    for question in dict.fromkeys(case.question for case in bench.cases):
        cases = [case for case in bench.cases if case.question == question]
        for turn in _turns(cases, shuffle):
            if id(turn) in errors:
                continue
            _one_repeat(turn, samples[id(turn)], errors)
            if tick is not None:
                tick(turn)
    return _rows(bench, samples, errors)


def _turns(cases: Sequence[Case], shuffle: Callable[[list[Case]], None]) -> Iterable[Case]:
    """Every case as often as it wants to run, interleaved, each round shuffled anew."""
    for round_ in range(max(case.repeats + case.warm_up for case in cases)):
        order = [case for case in cases if round_ < case.repeats + case.warm_up]
        shuffle(order)
        yield from order


def _one_repeat(case: Case, samples: list[float], errors: dict[int, str]) -> None:
    try:
        samples.append(case.run())
    except Exception as exc:  # noqa: BLE001 - a peer may fail in any way, and that is a result too
        errors[id(case)] = f"{type(exc).__name__}: {exc}"


def _rows(bench: Benchmark, samples: dict[int, list[float]], errors: dict[int, str]) -> list[Row]:
    kept = {id(case): samples[id(case)][case.warm_up :] for case in bench.cases}
    base = {
        case.question: statistics.median(kept[id(case)])
        for case in bench.cases
        if case.contender == bench.baseline and kept[id(case)]
    }
    return [
        _row(case, kept[id(case)], base.get(case.question), errors.get(id(case)))
        for case in bench.cases
    ]


def _row(case: Case, numbers: list[float], base: float | None, error: str | None) -> Row:
    if error is not None or not numbers:
        numbers = [float("nan")]
    median = statistics.median(numbers)
    return Row(
        contender=case.contender,
        metric=case.metric,
        workload=case.workload,
        unit=case.unit,
        median=median,
        ratio=median / base if base else None,
        spread=(min(numbers), max(numbers)),
        repeats=0 if error else len(numbers),
        error=error,
    )


# -- showing --------------------------------------------------------------------------------


def rows_as_json(bench: Benchmark, rows: Iterable[Row]) -> dict[str, Any]:
    """The object that `--json` writes."""
    return {
        "benchmark": bench.name,
        "python": platform.python_version(),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "versions": bench.versions(),
        "cpu_count": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "baseline": bench.baseline,
        "rows": [_row_as_json(row) for row in rows],
    }


def _row_as_json(row: Row) -> dict[str, Any]:
    out: dict[str, Any] = {
        "contender": row.contender,
        "metric": row.metric,
        "workload": row.workload,
        "unit": row.unit,
        "median": None if row.error else row.median,
        "ratio": None if row.error else row.ratio,
        "spread": None if row.error else list(row.spread),
        "repeats": row.repeats,
    }
    if row.error:
        out["error"] = row.error
    return out


def _table(bench: Benchmark, rows: Sequence[Row]) -> Table:
    table = Table(
        title=f"{bench.name}: ratio to {bench.baseline}, Python {platform.python_version()}"
    )
    for heading in ("metric", "contender"):
        table.add_column(heading)
    for heading in ("median", "unit", "ratio", "spread", "n"):
        table.add_column(heading, justify="right")
    previous: tuple[str, str] | None = None
    for row in sorted(rows, key=_by_question(rows)):
        question = (row.metric, row.workload)
        if previous not in (None, question):
            table.add_section()
        label = " ".join(filter(None, question)) if previous != question else ""
        previous = question
        table.add_row(label, row.contender, *_figures(row))
    return table


def _by_question(rows: Sequence[Row]) -> Callable[[Row], tuple[int, bool, float]]:
    """Questions in the order they were asked; in each, the best contender first."""
    order = {q: i for i, q in enumerate(dict.fromkeys((r.metric, r.workload) for r in rows))}

    def key(row: Row) -> tuple[int, bool, float]:
        rank = -row.median if row.unit.endswith(HIGHER_IS_BETTER) else row.median
        return order[row.metric, row.workload], row.error is not None, 0.0 if row.error else rank

    return key


def _figures(row: Row) -> tuple[str, str, str, str, str]:
    if row.error:
        return "failed", row.error[:40], "", "", ""
    ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
    low, high = row.spread
    return f"{row.median:.4g}", row.unit, ratio, f"{low:.4g} .. {high:.4g}", str(row.repeats)


def _plot(bench: Benchmark, rows: Sequence[Row], path: Path) -> None:
    """Horizontal bars of the ratios, one panel per question. Needs the `bench` extra."""
    import matplotlib as mpl  # noqa: PLC0415 - only this option needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    questions = list(dict.fromkeys((row.metric, row.workload) for row in rows))
    size = (8, 1 + 0.3 * len(rows) + 0.5 * len(questions))
    figure, panels = plt.subplots(len(questions), squeeze=False, figsize=size)
    for question, panel in zip(questions, panels[:, 0], strict=True):
        shown = [r for r in rows if (r.metric, r.workload) == question and not r.error]
        best_last = sorted(shown, key=_by_question(rows), reverse=True)
        panel.barh([r.contender for r in best_last], [r.ratio or 0.0 for r in best_last])
        panel.axvline(1.0, color="black", linewidth=0.8)
        panel.set_title(" ".join(filter(None, question)), loc="left", fontsize=9)
    figure.suptitle(f"{bench.name}: ratio to {bench.baseline}")
    figure.tight_layout()
    figure.savefig(path)


# -- the command line -----------------------------------------------------------------------


def main(
    build: Callable[[argparse.Namespace], Benchmark],
    *,
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None,
    argv: Sequence[str] | None = None,
) -> list[Row]:
    """Parse the common options, build the benchmark with them, run it and show what came out."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="smaller workloads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the contenders")
    parser.add_argument("--only", metavar="METRIC", help="metrics whose name contains this")
    if add_arguments is not None:
        add_arguments(parser)
    options = parser.parse_args(argv)
    bench = build(options)
    if options.only:
        bench.cases = [case for case in bench.cases if options.only in case.metric]
    rows = _measure_with_progress(bench, options.seed)
    Console().print(_table(bench, rows))
    if options.json is not None:
        options.json.write_text(json.dumps(rows_as_json(bench, rows), indent=1), encoding="utf-8")
    if options.plot is not None:
        _plot(bench, rows, options.plot)
    return rows


def _measure_with_progress(bench: Benchmark, seed: int) -> list[Row]:
    columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn())
    # Refreshed by hand between repeats: a refreshing thread would run inside the measured work.
    with Progress(
        *columns, TimeElapsedColumn(), console=Console(stderr=True), auto_refresh=False
    ) as progress:
        total = sum(case.repeats + case.warm_up for case in bench.cases)
        bar = progress.add_task(bench.name, total=total)

        def tick(case: Case) -> None:
            progress.update(bar, advance=1, description=f"{case.metric} {case.contender}"[:40])
            progress.refresh()

        return measure(bench, seed=seed, tick=tick)
