"""`map` over a pool: results in order, at most a buffer of tasks ahead of the reader."""

from __future__ import annotations

import concurrent.futures
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

__all__ = ["map_tasks"]


def map_tasks(
    submit: Callable[[tuple[Any, ...]], concurrent.futures.Future[Any]],
    iterables: tuple[Iterable[Any], ...],
    *,
    timeout: float | None,
    buffersize: int | None,
    clock: Callable[[], float],
) -> Iterator[Any]:
    """Submit now (all, or the first `buffersize`), and return an iterator over the results."""
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
    deadline = None if timeout is None else clock() + timeout
    calls = _once(zip(*iterables, strict=False))  # the shortest ends it, as in the built-in map
    futures = deque(submit(args) for args in islice(calls, buffersize))
    return _results(submit, calls, futures, deadline, clock)


def _once(calls: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The same, but at its end once and for all: a zip that is asked again eats of its first."""
    yield from calls


def _results(
    submit: Callable[[tuple[Any, ...]], concurrent.futures.Future[Any]],
    calls: Iterator[tuple[Any, ...]],
    futures: deque[concurrent.futures.Future[Any]],
    deadline: float | None,
    clock: Callable[[], float],
) -> Iterator[Any]:
    try:
        while futures:
            for args in islice(calls, 1):
                futures.append(submit(args))
            yield _result_of(futures.popleft(), None if deadline is None else deadline - clock())
    finally:
        for future in futures:
            future.cancel()


def _result_of(future: concurrent.futures.Future[Any], timeout: float | None) -> Any:
    """Its result. No frame of a traceback keeps the future, which would make a circle."""
    try:
        return future.result(timeout)
    except BaseException:
        future.cancel()  # perhaps the time is over
        raise
    finally:
        del future
