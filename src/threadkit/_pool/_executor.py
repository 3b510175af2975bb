"""DynamicThreadPool, the pool as its users hold it, and its views with options."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from concurrent.futures._base import PENDING
from contextlib import AbstractContextManager
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar, cast

from typing_extensions import ParamSpec

from threadkit import sizing
from threadkit._futures import Future
from threadkit._pool._crew import Crew, Settings, check_limits
from threadkit._pool._mapping import map_tasks
from threadkit._pool._options import TaskOptions
from threadkit._pool._statistics import PoolStatistics, ShutdownReport, SizeChange
from threadkit._pool._worker import blocking
from threadkit._runtime import REAL, Runtime
from threadkit.sizing import SizingPolicy

__all__ = ["DynamicThreadPool", "PoolView"]

P = ParamSpec("P")
T = TypeVar("T")

_frame = sys._getframe
_numbers = itertools.count()


class PoolView:
    """A pool seen through options: everything submitted here has them. See `with_options`.

    Thread safety: as the pool's.

    Lifetime: keeps its pool from being collected; closing is the pool's business.
    """

    __slots__ = ("_crew", "_options", "_pool")

    def __init__(self, pool: DynamicThreadPool, options: TaskOptions) -> None:
        self._pool = pool
        self._crew = options.crew
        self._options = options

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As the pool's `submit`, with these options."""
        caller = sys._getframe(1)
        return self._crew.submit(self._options, fn, args, kwargs, (caller.f_code, caller.f_lasti))

    def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """As the pool's `run`, with these options."""
        caller = sys._getframe(1)
        future = self._crew.submit(self._options, fn, args, kwargs, (caller.f_code, caller.f_lasti))
        return asyncio.wrap_future(future)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """As the pool's `map`, with these options."""
        del chunksize
        return _map(
            self._crew, self._options, fn, iterables, timeout=timeout, buffersize=buffersize
        )

    def __repr__(self) -> str:
        return f"<PoolView of {self._crew.name}: {self._options!r}>"


class DynamicThreadPool(Executor):
    """A `concurrent.futures.Executor` whose number of threads follows the work.

    >>> with DynamicThreadPool(max_workers=8) as pool:
    ...     pool.submit(pow, 2, 10).result()
    ...     list(pool.map(str.upper, ["tea", "time"]))
    1024
    ['TEA', 'TIME']

    Wherever ThreadPoolExecutor stood, this can stand.

    Thread safety: every method may be called from any thread, a signal handler included for
    `submit`.

    Lifetime: close it with `shutdown` or a `with` block. A pool that is only dropped finishes
    what was submitted, and its threads leave. It cannot be opened again.

    Args:
        min_workers: Fewest threads kept; by default the smaller of 2 and `max_workers`. Threads
            are started when they are first needed.
        max_workers: Most threads; by default as the standard executor's.
        policy: How many threads to have between the two: the name of a policy or an object of
            `threadkit.sizing`.
        thread_name_prefix: The pool's name; its threads are called `<name>-worker-<n>`.
        levels: How many priority levels there are. 0 is the most important.
        ageing: Seconds of waiting that make up for one level.
        check_interval: Seconds between two looks of the policy while there is work.
        idle_timeout: Seconds a thread may be without work before policies let it go.
        initializer: Called with `initargs` on each new thread.
        initargs: Its arguments.
        propagate_context: Whether tasks run in a copy of their submitter's context variables.
        runtime: Clock, locks and threads.

    Raises:
        ValueError: A size, interval or name is out of its range.
        TypeError: An argument is of the wrong kind.
    """

    def __init__(
        self,
        min_workers: int | None = None,
        max_workers: int | None = None,
        *,
        policy: str | SizingPolicy = "adaptive",
        thread_name_prefix: str = "",
        levels: int = 1,
        ageing: float = 1.0,
        check_interval: float = 0.1,
        idle_timeout: float = 10.0,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        propagate_context: bool = True,
        runtime: Runtime = REAL,
    ) -> None:
        if max_workers is None:
            max_workers = max(_default_max_workers(), min_workers or 1)
        if min_workers is None:
            min_workers = min(2, max_workers)
        check_limits(min_workers, max_workers)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._crew = crew = Crew(
            Settings(
                name=thread_name_prefix or f"DynamicThreadPool-{next(_numbers)}",
                min_workers=min_workers,
                max_workers=max_workers,
                policy=sizing.policy(policy),
                levels=levels,
                ageing=ageing,
                check_interval=check_interval,
                idle_timeout=idle_timeout,
                initializer=initializer,
                initargs=initargs,
                propagate_context=propagate_context,
                runtime=runtime,
            )
        )
        self._options = crew.options
        self._propagate = propagate_context
        self._clock = runtime.monotonic
        self._future_type = crew.future_type
        self._new = crew.future_type.__new__
        weakref.finalize(self, crew.close).atexit = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have `fn(*args, **kwargs)` called by a worker.

        Raises:
            PoolClosed: The pool was shut down. A RuntimeError.
            TypeError: `fn` cannot be called.
        """
        # The hot path: everything in place. `Crew.submit` is the same in readable steps.
        crew = self._crew
        caller = _frame(1)
        if crew.special or not callable(fn):
            return crew.submit(self._options, fn, args, kwargs, (caller.f_code, caller.f_lasti))
        future = self._new(self._future_type)
        future._fn = partial(fn, **kwargs) if kwargs else fn
        future._args = args
        future._state = PENDING
        future._cond = None
        future._context = (copy_context() or None) if self._propagate else None
        future._code = caller.f_code
        future._lasti = caller.f_lasti
        future._origin = self._options
        future._submitted_at = self._clock()
        crew.put(future)
        if crew.parked:
            crew.wake_one()
        elif crew.hungry:
            crew.starved(future)
        if crew.closing:
            crew.came_late(future)
        return cast("Future[T]", future)

    def with_options(
        self,
        *,
        priority: int = 0,
        timeout: float | None = None,
        ttl: float | None = None,
        label: str | None = None,
        key: object = None,
    ) -> PoolView:
        """The pool with options for what is submitted through the view."""
        crew = self._crew
        return PoolView(
            self, TaskOptions(crew, level=priority, timeout=timeout, ttl=ttl, label=label, key=key)
        )

    def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Submit from a coroutine, and await the result."""
        caller = sys._getframe(1)
        future = self._crew.submit(self._options, fn, args, kwargs, (caller.f_code, caller.f_lasti))
        return asyncio.wrap_future(future)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Results of `fn` over the iterables, in order."""
        del chunksize  # threads gain nothing from it; the standard thread pool ignores it too
        return _map(
            self._crew, self._options, fn, iterables, timeout=timeout, buffersize=buffersize
        )

    def blocking(self) -> AbstractContextManager[None]:
        """For a task of this pool: `with pool.blocking():` another worker stands in."""
        return blocking(self._crew)

    def shutdown(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        self, wait: bool = True, *, cancel_futures: bool = False, timeout: float | None = None
    ) -> ShutdownReport:
        """Take no more tasks, and wait for those there are."""
        return self._crew.shutdown(wait=wait, cancel_futures=cancel_futures, timeout=timeout)

    def resize(self, min_workers: int | None = None, max_workers: int | None = None) -> None:
        """Set the limits, while the pool works or rests.

        Nothing queued or running is touched: too many workers leave when they have nothing to do,
        or between two tasks.

        Raises:
            ValueError: The limits are out of range or cross.
        """
        self._crew.resize(min_workers, max_workers)

    def adjust_pool_size(self, n: int) -> None:
        """Have `n` workers from now on (between the limits), until the policy says otherwise."""
        self._crew.want(n, "adjust_pool_size")

    def subscribe(self, callback: Callable[[SizeChange], object]) -> Callable[[], None]:
        """Call `callback(change)` whenever the pool's size is to change; returns the undoing.

        It is called on the thread that changes the size, with no lock held; what it raises is
        logged.
        """
        return self._crew.subscribe(callback)

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until nothing is queued or running; false when `timeout` seconds passed."""
        return self._crew.wait_idle(timeout)

    def statistics(self) -> PoolStatistics:
        """The pool as of now."""
        return self._crew.statistics()


def _default_max_workers() -> int:
    cpus: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
    return min(32, (cpus() or 1) + 4)


def _map(
    crew: Crew,
    options: TaskOptions,
    fn: Callable[..., T],
    iterables: tuple[Iterable[Any], ...],
    *,
    timeout: float | None,
    buffersize: int | None,
) -> Iterator[T]:
    caller = sys._getframe(2)
    site = caller.f_code, caller.f_lasti

    def submit(args: tuple[Any, ...]) -> Future[T]:
        return crew.submit(options, fn, args, {}, site)

    return map_tasks(submit, iterables, timeout=timeout, buffersize=buffersize, clock=crew.clock)
