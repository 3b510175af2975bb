"""What the type checkers make of a pool. Checked by mypy and pyright, not run."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator

from typing_extensions import assert_type

from threadkit import (
    DynamicThreadPool,
    Future,
    Histogram,
    PoolStatistics,
    PoolView,
    ShutdownReport,
    SizeChange,
    Task,
    current_task,
)


def greet(name: str, *, times: int = 1) -> str:
    return name * times


def standard(executor: concurrent.futures.Executor) -> None:
    executor.submit(greet, "x")


def submitting(pool: DynamicThreadPool) -> None:
    standard(pool)
    assert_type(pool.submit(greet, "x", times=2), Future[str])
    assert_type(pool.submit(greet, "x").result(1.0), str)
    pool.submit(greet, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pool.submit(greet, "x", often=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(pool.map(len, ["a", "b"]), Iterator[int])
    view = pool.with_options(priority=1, timeout=1.0, ttl=2.0, label="x", key=("a", 1))
    assert_type(view, PoolView)
    assert_type(view.submit(greet, "x"), Future[str])
    concurrent.futures.wait([view.submit(greet, "x")])


async def awaiting(pool: DynamicThreadPool) -> None:
    assert_type(await pool.run(greet, "x", times=2), str)
    assert_type(await asyncio.wrap_future(pool.submit(greet, "x")), str)


def watching(pool: DynamicThreadPool) -> None:
    statistics = pool.statistics()
    assert_type(statistics, PoolStatistics)
    assert_type(statistics.wait, Histogram)
    assert_type(statistics.wait + statistics.run, Histogram)
    assert_type(statistics.changes, tuple[SizeChange, ...])
    assert_type(current_task(), Task)
    assert_type(pool.shutdown(timeout=1.0), ShutdownReport)


def making() -> None:
    DynamicThreadPool(2, 8, overflow="drop_oldest", queue_limit=5, at_exit=1.5)
    DynamicThreadPool(overflow="drop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
