"""What does a failure cost: knowing where a task came from, recording it, raising it again?

    python -m benchmarks.failures [--quick] [--json FILE] [--plot FILE]

| metric | workload | stdlib is |
|---|---|---|
| submit site | remember the caller's place, 20 frames deep | traceback.extract_stack(limit=1) |
| record | count and throttle one more failure of a known kind, 8 frames deep, with a logging sink \
and a JSON lines sink | logging.exception to a formatter and a memory stream |
| record first | the same for a kind never seen before | the same |
| failing task | submit a task that raises and read its exception | ThreadPoolExecutor |
| result() | of one failed task, called 1,000 times | ThreadPoolExecutor |
| traceback | its length after those 1,000 calls | ThreadPoolExecutor |

`submit site` is the difference between a call that remembers its caller and the same call that
does not. It and `record` count the CPU time of the calling thread, which other programs on the
machine disturb least. Every contender's work is checked: the exceptions are the right ones, the
counts exact.
"""

from __future__ import annotations

import argparse
import functools
import io
import itertools
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from benchmarks.harness import Benchmark, main, seconds
from threadkit import DynamicThreadPool, ErrorLog, JsonLinesSink, LoggingSink

Remember = Callable[[], object]


# -- where a task came from -----------------------------------------------------------------


def nothing() -> object:
    """A call that remembers nothing: what the others are compared with."""
    return None


def caller() -> object:
    """What submit() does."""
    frame = sys._getframe(1)  # noqa: SLF001 - what is measured
    return frame.f_code, frame.f_lasti


def callers() -> object:
    """What submit() does when it is asked for eight frames."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    site: list[object] = []
    while frame is not None and len(site) < 16:
        site += (frame.f_code, frame.f_lasti)
        frame = frame.f_back
    return tuple(site)


def extracted() -> object:
    """The standard library's way."""
    return traceback.extract_stack(limit=1)


def cost_of(remember: Remember, calls: int) -> float:
    """Microseconds that `remember` adds to a call, 20 frames deep in a program."""
    return deep(20, lambda: (timed(remember, calls) - timed(nothing, calls)) / calls * 1e6)


def deep(depth: int, work: Callable[[], float]) -> float:
    """Call `work` at a depth that programs have."""
    return work() if depth == 0 else deep(depth - 1, work)


def timed(remember: Remember, calls: int) -> float:
    """Seconds for so many calls; the results are let go as a pool lets go of its tasks."""
    start = time.thread_time()
    for _ in itertools.repeat(None, calls):
        remember()
    return time.thread_time() - start


# -- recording ------------------------------------------------------------------------------


def cpu_seconds(work: Callable[[], None]) -> float:
    """CPU time of this thread."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def failures(count: int, kinds: int = 1) -> list[ValueError]:
    """Fresh exceptions with a traceback of 8 frames, of so many kinds."""

    def fail(depth: int) -> None:
        if depth == 0:
            raise ValueError("no such room")
        fail(depth - 1)

    raised: list[ValueError] = []
    for number in range(count):
        cls = ValueError if kinds == 1 else type(f"Kind{number}", (ValueError,), {})
        try:
            fail(6) if kinds == 1 else _raise(cls)
        except ValueError as exc:
            raised.append(exc)
    return raised


def _raise(cls: type[ValueError]) -> None:
    raise cls("no such room")


@contextmanager
def our_log() -> Iterator[ErrorLog]:
    """An error log as an application has it."""
    quiet = logging.getLogger("benchmarks.failures.quiet")
    quiet.propagate = False
    quiet.addHandler(logging.StreamHandler(io.StringIO()))
    with tempfile.TemporaryDirectory() as folder, ErrorLog() as errors:
        errors.add_sink(LoggingSink(quiet.name))
        errors.add_sink(JsonLinesSink(Path(folder) / "failures.jsonl"))
        yield errors


def recorded_by_us(count: int, kinds: int) -> float:
    """Microseconds a failure."""
    with our_log() as errors:
        errors.record(failures(1)[0])
        errors.flush(10)
        exceptions = failures(count, kinds)

        def record() -> None:
            for exc in exceptions:
                errors.record(exc)

        spent = cpu_seconds(record)
        assert errors.statistics().recorded == count + 1
        assert errors.statistics().groups == (1 if kinds == 1 else count + 1)
    return spent / count * 1e6


def recorded_by_logging(count: int, kinds: int) -> float:
    """Microseconds a failure."""
    stream = io.StringIO()
    logger = logging.getLogger("benchmarks.failures")
    logger.propagate = False
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.handlers = [handler]
    exceptions = failures(count, kinds)

    def record() -> None:
        for exc in exceptions:
            logger.error("a task failed", exc_info=exc)

    spent = cpu_seconds(record)
    assert stream.getvalue().count("no such room") >= count
    return spent / count * 1e6


# -- raising again --------------------------------------------------------------------------


def bad_room(number: int) -> None:
    """The failing task."""
    raise ValueError(number)


def failing_tasks(make: Callable[[], Executor], count: int) -> float:
    """Microseconds from submit to the exception in hand, a task."""
    with make() as pool:
        pool.submit(bad_room, 0).exception()

        def work() -> None:
            futures = [pool.submit(bad_room, number) for number in range(count)]
            assert [str(future.exception()) for future in futures] == numbers

        numbers = [str(number) for number in range(count)]
        return seconds(work) / count * 1e6


def raised_again(make: Callable[[], Executor], calls: int) -> tuple[float, int]:
    """Microseconds a result() of one failed task, and its traceback's length at the end."""
    with make() as pool:
        future = pool.submit(bad_room, 1)
        error = future.exception()

        def work() -> None:
            for _ in range(calls):
                try:
                    future.result()
                except ValueError as exc:
                    assert exc is error  # noqa: PT017 - no test

        spent = seconds(work)
        assert error is not None
        return spent / calls * 1e6, sum(1 for _ in traceback.walk_tb(error.__traceback__))


def build(options: argparse.Namespace) -> Benchmark:
    """The cases of every metric."""
    bench = Benchmark("failures", baseline="stdlib")
    scale = 10 if options.quick else 1
    sites = {"stdlib": extracted, "threadkit": caller, "threadkit:8 frames": callers}
    for name, remember in sites.items():
        calls = (5_000 if name == "stdlib" else 200_000) // scale
        bench.add(name, "submit site", functools.partial(cost_of, remember, calls), unit="us")
    for name, record in {"stdlib": recorded_by_logging, "threadkit": recorded_by_us}.items():
        count = 2_000 // scale
        bench.add(name, "record", functools.partial(record, count, 1), unit="us")
        bench.add(name, "record first", functools.partial(record, 400 // scale, 2), unit="us")
    pools: dict[str, Callable[[], Executor]] = {
        "stdlib": lambda: ThreadPoolExecutor(2),
        "threadkit": lambda: DynamicThreadPool(2, 2),
    }
    for name, make in pools.items():
        bench.add(
            name,
            "failing task",
            functools.partial(failing_tasks, make, 5_000 // scale),
            unit="us",
        )
        again = functools.partial(raised_again, make, 1_000)
        bench.add(name, "result()", lambda again=again: again()[0], unit="us", workload="x 1,000")
        bench.add(
            name, "traceback", lambda again=again: again()[1], unit="entries", workload="x 1,000"
        )
    return bench


if __name__ == "__main__":
    main(build)
