"""How long do a thousand components take to start, stop and restart, and what does one cost?

    python -m benchmarks.lifecycle [--quick] [--json FILE] [--plot FILE]

| metric | workload |
|---|---|
| start | `start()` until all are ready, on graphs of 1,000 components |
| stop | `stop()` until all have stopped |
| restart | a failure in the middle of a chain of 100 with its dependents, until all are ready |
| report | one `report()` of 1,000 components |

Graphs: alone (nobody needs anybody), tree (each needs one of ten), chain (each needs the one
before: nothing can be done at once), star (all need the first). The components do nothing.

The baseline is the least that could be done: call every start in order, and every stop in reverse,
on a thread of its own each, as a manager must if none of them may hold up the others. There is no
peer to install: supervisors for threads with dependencies are what people write by hand.
"""

from __future__ import annotations

import argparse
import functools
import threading
from collections.abc import Callable

from benchmarks.harness import Benchmark, main, seconds
from threadkit import Backoff, ComponentManager, Context, ErrorLog, Intensity

Needs = Callable[[int], list[int]]

GRAPHS: dict[str, Needs] = {
    "alone": lambda _number: [],
    "tree": lambda number: [(number - 1) // 10] if number else [],
    "chain": lambda number: [number - 1] if number else [],
    "star": lambda number: [0] if number else [],
}


class Nothing:
    """A component that does nothing but count."""

    def __init__(self) -> None:
        self.starts = self.stops = 0
        self.ctx: Context | None = None

    def start(self, ctx: Context, /) -> None:
        """Count."""
        self.ctx = ctx
        self.starts += 1

    def stop(self, _ctx: Context, /) -> None:
        """Count."""
        self.stops += 1


def managed(count: int, needs: Needs, scope: str = "one") -> tuple[ComponentManager, list[Nothing]]:
    """A manager of so many components."""
    manager = ComponentManager(intensity=Intensity(10**6), errors=ErrorLog())
    parts = [Nothing() for _ in range(count)]
    for number, part in enumerate(parts):
        names = [f"part{need}" for need in needs(number)]
        manager.add(f"part{number}", part, needs=names, scope=scope, backoff=Backoff(0, 0))  # type: ignore[arg-type]
    return manager, parts


def started(count: int, needs: Needs) -> float:
    """Milliseconds of start()."""
    manager, parts = managed(count, needs)
    spent = seconds(manager.start)
    assert all(part.starts == 1 for part in parts)
    manager.stop()
    return spent * 1e3


def stopped(count: int, needs: Needs) -> float:
    """Milliseconds of stop()."""
    manager, parts = managed(count, needs)
    manager.start()
    spent = seconds(manager.stop)
    assert all(part.stops == 1 for part in parts)
    return spent * 1e3


def by_hand(count: int, *, stop: bool) -> float:
    """Milliseconds of the least: one thread a call."""
    parts = [Nothing() for _ in range(count)]
    context: Context = None  # type: ignore[assignment]  # nobody looks at it

    def call_all() -> None:
        for part in reversed(parts) if stop else parts:
            thread = threading.Thread(target=part.stop if stop else part.start, args=(context,))
            thread.start()
            thread.join()

    spent = seconds(call_all)
    assert all((part.stops if stop else part.starts) == 1 for part in parts)
    return spent * 1e3


def restarted(length: int) -> float:
    """Milliseconds from a failure in the middle of a chain until all of it are ready again."""
    manager, parts = managed(length, GRAPHS["chain"], scope="dependents")
    manager.start()
    middle, last = parts[length // 2], parts[-1]
    failed = middle.ctx
    assert failed is not None

    def fail() -> None:
        failed.fail(ValueError("crash"))
        while last.starts < 2:
            manager.wait_ready(f"part{length - 1}", timeout=10)
        assert manager.wait_ready(timeout=10)

    spent = seconds(fail)
    assert sum(part.starts for part in parts) == length + length - length // 2
    manager.stop()
    return spent * 1e3


def reported(count: int) -> float:
    """Milliseconds of one report."""
    manager, _ = managed(count, GRAPHS["tree"])
    with manager:
        spent = seconds(lambda: [manager.report() for _ in range(10)])
        assert len(manager.report().components) == count
    return spent / 10 * 1e3


def build(options: argparse.Namespace) -> Benchmark:
    """The cases of every metric."""
    bench = Benchmark("lifecycle", baseline="by hand")
    count = 200 if options.quick else 1000
    for name, needs in GRAPHS.items():
        workload = f"{count:,} {name}"
        for metric, measure in {"start": started, "stop": stopped}.items():
            hand = functools.partial(by_hand, count, stop=metric == "stop")
            bench.add("by hand", metric, hand, unit="ms", workload=workload)
            ours = functools.partial(measure, count, needs)
            bench.add("threadkit", metric, ours, unit="ms", workload=workload)
    bench.add("threadkit", "restart", lambda: restarted(100), unit="ms", workload="half of 100")
    bench.add("threadkit", "report", lambda: reported(count), unit="ms", workload=f"{count:,}")
    return bench


if __name__ == "__main__":
    main(build)
