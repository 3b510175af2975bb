"""DynamicThreadPool, the pool as its users hold it."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from concurrent.futures._base import PENDING
from contextlib import AbstractContextManager
from contextvars import copy_context
from functools import partial
from types import FrameType
from typing import Any, TypeVar

from typing_extensions import ParamSpec

from threadkit import sizing
from threadkit._failures import ErrorLog
from threadkit._futures import UNSET, Future
from threadkit._pool._coroutines import run_from_coroutine
from threadkit._pool._crew import Crew
from threadkit._pool._lifetimes import watch
from threadkit._pool._mapping import map_tasks
from threadkit._pool._options import TaskOptions
from threadkit._pool._settings import (
    AtExit,
    Overflow,
    Settings,
    check_limits,
    check_priority,
    check_seconds,
    check_settings,
)
from threadkit._pool._statistics import PoolStatistics, RunningTask, ShutdownReport, SizeChange
from threadkit._pool._worker import blocking
from threadkit._runtime import REAL, Runtime
from threadkit.sizing import SizingPolicy

__all__ = ["DynamicThreadPool", "PoolView"]

P = ParamSpec("P")
T = TypeVar("T")

_frame = sys._getframe
_Function = types.FunctionType  # most are, and it is quicker to see than `callable`
_numbers = itertools.count()


class _Submitter:
    """What a pool and its views have in common: ways to have a function called."""

    __slots__ = (
        "_clock",
        "_crew",
        "_future_type",
        "_guarded",
        "_options",
        "_propagate",
        "_put",
    )

    def __init__(self, options: TaskOptions) -> None:
        # What submit needs of the crew, at hand.
        self._crew = crew = options.crew
        self._options = options
        self._guarded = options.guarded
        self._put = crew.intake.door(options)
        self._propagate = crew.settings.propagate_context
        self._clock = crew.clock
        self._future_type = crew.future_type

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have `fn(*args, **kwargs)` called by a worker.

        Blocks: only if the queue is bounded and full, and the rule is to block or to run the task
        here.

        Raises:
            PoolClosed: The pool was shut down, or is being drained. A RuntimeError.
            Rejected: The queue is full, and the rule is to say so.
            WorkerLost: The pool is broken, or has no worker and the system refuses to start one.
            TypeError: `fn` cannot be called.
        """
        # The hot path, everything in place; `Crew.submit` is the same in readable steps.
        crew = self._crew
        caller = _frame(1)
        if crew.refusing or self._guarded or (type(fn) is not _Function and not callable(fn)):
            site = caller.f_code, caller.f_lasti
            return crew.submit(self._options, fn, args, kwargs, site)
        future = self._future_type()
        future._fn = partial(fn, **kwargs) if kwargs else fn
        future._args = args
        future._result = UNSET
        future._state = PENDING
        future._cond = None
        future._context = (copy_context() or None) if self._propagate else None
        future._code = caller.f_code
        future._lasti = caller.f_lasti
        future._origin = self._options
        future._submitted_at = self._clock()
        self._put(future)
        if crew.parked:
            crew.wake_one()
        elif crew.hungry:
            crew.starved(future)
        if self._crew.refusing:
            crew.came_late(future)
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Results of `fn` over the iterables, in order.

        Args:
            fn: What to call.
            *iterables: Its arguments; the shortest ends it.
            timeout: Seconds from now after which the iterator raises TimeoutError.
            chunksize: Accepted as the standard executors do; threads gain nothing from it.
            buffersize: Most tasks submitted ahead of the results taken; None for all at once.
        """
        del chunksize
        options, site = self._options, _site_of(_frame(1))
        return _map(self._crew, options, site, fn, iterables, (timeout, buffersize))

    def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Submit from a coroutine, and await the result: `await pool.run(fn, *args)`.

        As `asyncio.to_thread`, on this pool. Cancelling what is returned cancels a task that
        waits, and asks one that runs to stop. Where `submit` would block, the coroutine waits.
        """
        return _run(self._crew, self._options, _site_of(_frame(1)), fn, args, kwargs)


class DynamicThreadPool(_Submitter, Executor):
    """A `concurrent.futures.Executor` whose number of threads follows the work.

    Whatever works with ThreadPoolExecutor works with it, and it may be put in its place::

        submit --> backlog --> the worker that parked last --> future
                                       ^
                      supervisor: policy, deadlines

    >>> with DynamicThreadPool(max_workers=8) as pool:
    ...     pool.submit(pow, 2, 10).result()
    ...     list(pool.map(str.upper, ["tea", "time"]))
    1024
    ['TEA', 'TIME']

    Thread safety: every method may be called from any thread; `submit` also from a signal handler
    and a done-callback.

    Lifetime: close it with `shutdown` or a `with` block. A pool that is only dropped finishes
    what was submitted, and its threads leave. It cannot be opened again. After a fork, the child's
    copy starts anew: its unfinished futures fail with WorkerLost, and it may be used.

    Args:
        min_workers: Fewest threads kept; by default the smaller of 2 and `max_workers`. Threads
            are started when they are first needed.
        max_workers: Most threads; by default as many as the standard executor's. Threads that
            stand in for a waiting task (see `blocking`) come on top.
        policy: How many threads to have between the two: the name of a policy, or an object of
            `threadkit.sizing`.
        thread_name_prefix: The pool's name; its threads are called `<name>-worker-<n>`.
        queue_limit: Most tasks that wait for a worker; None for no bound.
        overflow: What happens to a task that finds the queue full. "block": submit waits for
            room. "reject": submit raises Rejected. "drop_oldest": the task that waited longest is
            dropped. "drop_lowest": the oldest of the least important level is dropped, if that
            is no more important than the new one; else submit raises. "caller_runs": submit runs
            the task itself. A dropped task's future fails with Rejected.
        overflow_timeout: Seconds that "block" waits before it raises Rejected; None for ever.
        levels: How many priority levels there are. 0 is the most important.
        ageing: Seconds of waiting that make up for one level, so that no task starves.
        check_interval: Seconds between two looks of the policy while there is work.
        idle_timeout: Seconds a thread may be without work before policies let it go.
        initializer: Called with `initargs` on each new thread. If it raises, the pool is broken:
            waiting tasks fail, and submit raises WorkerLost, a BrokenThreadPool.
        initargs: Its arguments.
        errors: Where failures of tasks go whose future is dropped before anybody read it.
        propagate_context: Whether tasks run in a copy of their submitter's context variables.
        at_exit: What the interpreter's exit does about unfinished tasks: "wait" for them, wait
            so many seconds at most, or "abandon" them.
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
        queue_limit: int | None = None,
        overflow: Overflow = "block",
        overflow_timeout: float | None = None,
        levels: int = 1,
        ageing: float = 1.0,
        check_interval: float = 0.1,
        idle_timeout: float = 10.0,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        errors: ErrorLog | None = None,
        propagate_context: bool = True,
        at_exit: AtExit = "wait",
        runtime: Runtime = REAL,
    ) -> None:
        cores = _cores()
        if max_workers is None:
            max_workers = max(min(32, cores + 4), min_workers or 1)
        check_limits(0, max_workers)
        settings = Settings(
            name=thread_name_prefix or f"DynamicThreadPool-{next(_numbers)}",
            min_workers=min(2, max_workers) if min_workers is None else min_workers,
            max_workers=max_workers,
            policy=sizing.policy(policy),
            queue_limit=queue_limit,
            overflow=overflow,
            overflow_timeout=overflow_timeout,
            levels=levels,
            ageing=ageing,
            check_interval=check_interval,
            idle_timeout=idle_timeout,
            initializer=initializer,
            initargs=initargs,
            errors=errors,
            propagate_context=propagate_context,
            at_exit=at_exit,
            cores=cores,
            runtime=runtime,
        )
        check_settings(settings)
        crew = Crew(settings)
        super().__init__(crew.options)
        weakref.finalize(self, crew.ending.close).atexit = False
        if runtime is REAL:
            watch(crew)

    # -- tasks ------------------------------------------------------------------------------

    def with_options(
        self,
        *,
        priority: int = 0,
        timeout: float | None = None,
        ttl: float | None = None,
        label: str | None = None,
        key: object = None,
    ) -> PoolView:
        """The pool, seen through options for what is submitted that way.

        >>> with DynamicThreadPool(levels=3) as pool:
        ...     urgent = pool.with_options(priority=0, timeout=5.0, label="greeting")
        ...     urgent.submit(str.title, "hello").result()
        'Hello'

        Args:
            priority: The level, 0 first.
            timeout: Seconds the task may run. Then its future fails with TaskTimeout, its worker
                is replaced (a thread cannot be killed), and its late result is discarded.
            ttl: Seconds the task may wait for a worker. Then it fails with TaskStale, unrun.
            label: What to call the task in failures and reports.
            key: A task with the same key that still waits is superseded: its future fails with
                Rejected, and only the newest runs.

        Raises:
            ValueError: The level is unknown, or a duration is negative.
            TypeError: The key cannot be hashed, or a duration is no number.
        """
        crew = self._crew
        hash(key)
        check_priority(priority, crew.settings.levels)
        check_seconds("timeout", timeout)
        check_seconds("ttl", ttl)
        return PoolView(
            self, TaskOptions(crew, level=priority, timeout=timeout, ttl=ttl, label=label, key=key)
        )

    def blocking(self) -> AbstractContextManager[None]:
        """For a task of this pool that is going to wait: another worker stands in meanwhile.

        >>> with DynamicThreadPool(max_workers=1) as pool:
        ...     def fetch():
        ...         with pool.blocking():  # say, a slow request
        ...             return pool.submit(pow, 2, 4).result(timeout=5)
        ...     pool.submit(fetch).result()
        16

        Anywhere else it does nothing. Waiting for a task of this pool (`result`, `wait`,
        `as_completed`) needs no such word.
        """
        return blocking(self._crew)

    # -- size -------------------------------------------------------------------------------

    def resize(self, min_workers: int | None = None, max_workers: int | None = None) -> None:
        """Set the limits, while the pool works or rests.

        Nothing queued or running is touched: too many workers leave when they have nothing to do,
        or between two tasks.

        Raises:
            ValueError: The limits are out of range or cross.
        """
        self._crew.roster.resize(min_workers, max_workers)

    def adjust_pool_size(self, n: int) -> None:
        """Have `n` workers from now on (between the limits), until the policy says otherwise.

        Raises:
            TypeError: `n` is no int.
            ValueError: `n` is negative.
        """
        if not isinstance(n, int):
            raise TypeError(f"n must be an int, not {n!r}")
        if n < 0:
            raise ValueError(f"n must be 0 or more, not {n!r}")
        self._crew.roster.want(n, f"adjust_pool_size({n})")

    def check_and_adjust(self, queue_size: int | None = None) -> int:
        """Have the policy look now; how many workers it wants. The pool does it by itself, too.

        Args:
            queue_size: What to tell the policy is queued; by default what is.
        """
        self._crew.supervisor.look(queue_size)
        return self._crew.roster.wanted

    def subscribe(self, callback: Callable[[SizeChange], object]) -> Callable[[], None]:
        """Call `callback(change)` whenever the pool's size is to change; returns the undoing.

        It is called on the thread that changes the size, with no lock held; what it raises is
        logged.
        """
        return self._crew.roster.subscribe(callback)

    # -- pauses and the end -----------------------------------------------------------------

    def pause(self) -> None:
        """Let no worker begin a task until `resume`.

        Running tasks go on, and submit goes on accepting. A shutdown ends the pause.
        """
        self._crew.pauses.pause()

    def resume(self) -> None:
        """Undo `pause` and `drain`."""
        self._crew.pauses.resume()

    def drain(self, timeout: float | None = None) -> bool:
        """Refuse new tasks until `resume`, and wait until the accepted ones have ended.

        Blocks: at most `timeout` seconds; then the answer is False.

        Raises:
            RuntimeError: A task of the pool asked for it: it would wait for itself.
        """
        check_seconds("timeout", timeout)
        return self._crew.pauses.drain(timeout)

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until nothing is queued or running.

        Blocks: at most `timeout` seconds; then the answer is False.

        Raises:
            RuntimeError: A task of the pool asked for it: it would wait for itself.
        """
        check_seconds("timeout", timeout)
        return self._crew.pauses.wait_idle(timeout)

    def shutdown(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        self, wait: bool = True, *, cancel_futures: bool = False, timeout: float | None = None
    ) -> ShutdownReport:
        """Take no more tasks, and wait for those there are.

        Called from a task of the pool (or a done-callback on its worker), it waits for all workers
        but that task's, and those whose tasks do the same.

        Blocks: with `wait`, until every worker has left, at most `timeout` seconds. Then tasks
        that still wait are cancelled, those that run are asked to stop (`current_task`), and the
        report says what was left.

        Args:
            wait: Whether to wait.
            cancel_futures: Whether to cancel the tasks that have not begun.
            timeout: Seconds to wait at most; None for ever.
        """
        check_seconds("timeout", timeout)
        return self._crew.ending.shutdown(wait=wait, cancel_futures=cancel_futures, timeout=timeout)

    def running(self) -> tuple[RunningTask, ...]:
        """The tasks that run now, those of abandoned workers too, the oldest first.

        A worker that is just taking its next task may be seen with the time of its last one.
        """
        return self._crew.ledger.running(self._crew)

    def statistics(self) -> PoolStatistics:
        """The pool as of now."""
        return self._crew.ledger.statistics(self._crew)

    def __repr__(self) -> str:
        crew = self._crew
        state = "closed" if crew.closing else f"wants {crew.roster.wanted}"
        return (
            f"<DynamicThreadPool {crew.name}: {len(crew.roster.workers)} workers ({state}), "
            f"{len(crew.parked)} idle, {len(crew.backlog)} tasks queued>"
        )


class PoolView(_Submitter):
    """A pool seen through options: everything submitted here has them. See `with_options`.

    Thread safety: as the pool's.

    Lifetime: keeps its pool from being collected; closing is the pool's business.
    """

    __slots__ = ("_pool",)

    def __init__(self, pool: DynamicThreadPool, options: TaskOptions) -> None:
        super().__init__(options)
        self._pool = pool

    def __repr__(self) -> str:
        return f"<PoolView of {self._crew.name}: {self._options!r}>"


def _cores() -> int:
    """CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _site_of(frame: FrameType) -> tuple[Any, int]:
    return frame.f_code, frame.f_lasti


def _map(  # noqa: PLR0917 - of this file, and called twice
    crew: Crew,
    options: TaskOptions,
    site: tuple[Any, int],
    fn: Callable[..., T],
    iterables: tuple[Iterable[Any], ...],
    limits: tuple[float | None, int | None],
) -> Iterator[T]:
    def submit(args: tuple[Any, ...]) -> Future[T]:
        return crew.submit(options, fn, args, {}, site)

    timeout, buffersize = limits
    return map_tasks(submit, iterables, timeout=timeout, buffersize=buffersize, clock=crew.clock)


def _run(  # noqa: PLR0917 - of this file, and called twice
    crew: Crew,
    options: TaskOptions,
    site: tuple[Any, int],
    fn: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> asyncio.Future[T]:
    return run_from_coroutine(crew, options, crew.new_future(options, fn, args, kwargs, site))
