"""Every exception threadkit raises on purpose: its grade, its advice, its facts.

The grade says who must act: the caller (retry or give up), the component's supervisor (restart),
or the whole program (stop). Constructors take facts, keep them as attributes and build the
sentence; every exception pickles and unpickles with its facts.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import enum
import queue
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures.thread import BrokenThreadPool
from typing import Any, cast

from typing_extensions import Self

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

__all__ = [
    "CacheError",
    "DependencyCycle",
    "Exhausted",
    "LifecycleError",
    "LoadCycle",
    "LoadTimeout",
    "NearExhaustion",
    "PoolClosed",
    "PoolError",
    "QueueClosed",
    "QueueEmpty",
    "QueueError",
    "QueueFull",
    "Rejected",
    "ResourceError",
    "RestartsExhausted",
    "Retry",
    "Severity",
    "StartTimeout",
    "StartupError",
    "StopTimeout",
    "StorageFailed",
    "Superseded",
    "TaskCancelled",
    "TaskError",
    "TaskStale",
    "TaskTimeout",
    "ThreadkitError",
    "WorkerLost",
    "report_unraisable",
]


class Severity(enum.IntEnum):
    """How bad a failure is, on `logging`'s scale."""

    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50
    FATAL = 60


class Retry(enum.Enum):
    """What to do about a failure (the distinctions of gRPC's status codes)."""

    NEVER = "never"
    """The same call will fail the same way."""
    SAFE = "safe"
    """Nothing was done: call again, after `retry_after` where given."""
    IF_IDEMPOTENT = "if_idempotent"
    """Something may have been done: call again only if doing it twice is harmless."""
    HIGHER_LEVEL = "higher_level"
    """Repeat the whole operation this call was part of, not the call."""
    AFTER_FIX = "after_fix"
    """Call again once somebody has mended the cause."""


def _rebuild(cls: type[BaseException], args: tuple[Any, ...], facts: dict[str, Any]) -> Any:
    """Make an exception again from its parts, without its constructor."""
    exc = cls.__new__(cls, *args)
    exc.args = args
    exc.__dict__.update(facts)
    return exc


def _unraisable_type() -> Any:
    """The type that Python's own hook insists on. No module names it."""
    subclasses = cast("Any", tuple).__subclasses__()
    return next(cls for cls in subclasses if cls.__name__ == "UnraisableHookArgs")


_UnraisableHookArgs: Any = _unraisable_type()


def report_unraisable(exc: BaseException, message: str, source: object) -> None:
    """Hand an exception that has nowhere to go to where Python reports such ones.

    For callbacks of users: the call they were made from did its work and must not fail for them,
    nor for a hook that raises, whose own exception goes to the hook Python came with.
    """
    try:
        _tell(sys.unraisablehook, exc, message, source)
    except Exception as failure:  # noqa: BLE001 - a hook of the user
        with contextlib.suppress(Exception):  # not even standard error takes it
            _tell(sys.__unraisablehook__, failure, "sys.unraisablehook raised", source)


def _tell(hook: Any, exc: BaseException, message: str, source: object) -> None:
    hook(_UnraisableHookArgs((type(exc), exc, exc.__traceback__, message, source)))


class ThreadkitError(Exception):
    """Base of everything threadkit raises on purpose.

    Attributes:
        severity: How bad it is.
        retry: What to do about it.
        retry_after: Seconds to wait before a retry, when known.
        component: Name of the pool, cache, queue or component it happened in.
        task: Label of the task it happened to.
    """

    severity: Severity = Severity.ERROR
    retry: Retry = Retry.NEVER

    def __init__(
        self,
        message: str,
        *,
        component: str | None = None,
        task: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.component = component
        self.task = task
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


# -- pools ----------------------------------------------------------------------------------


class PoolError(ThreadkitError):
    """Base of what a pool raises."""


class Rejected(PoolError):
    """Raised when a bounded pool does not take, or drops, a task."""

    severity = Severity.WARNING
    retry = Retry.SAFE

    def __init__(self, *, component: str, reason: str, limit: int, task: str | None = None) -> None:
        super().__init__(
            f"{component} did not take the task: {reason} (queue_limit={limit})",
            component=component,
            task=task,
        )
        self.reason = reason
        self.limit = limit


class PoolClosed(PoolError, RuntimeError):
    """Raised when a task is submitted to a pool that takes no more."""

    retry = Retry.HIGHER_LEVEL


class WorkerLost(PoolError, BrokenThreadPool):
    """Raised when a pool cannot keep a worker: its initializer failed, or the process forked."""

    severity = Severity.CRITICAL
    retry = Retry.AFTER_FIX


# -- tasks ----------------------------------------------------------------------------------


class TaskError(ThreadkitError):
    """Base of what becomes of a task that did not end by itself."""


class TaskTimeout(TaskError, TimeoutError):
    """Raised when a task ran longer than its timeout. Its late result is discarded."""

    retry = Retry.IF_IDEMPOTENT

    def __init__(self, *, timeout: float, task: str | None = None, component: str = "") -> None:
        super().__init__(
            f"{task or 'the task'} ran longer than its timeout of {timeout:g} s",
            component=component or None,
            task=task,
        )
        self.timeout = timeout


class TaskCancelled(TaskError, concurrent.futures.CancelledError):
    """Raised inside a task by `current_task().check()` when it was cancelled."""

    severity = Severity.INFO


class TaskStale(TaskError, TimeoutError):
    """Raised when a task was still waiting for a worker after its `ttl`. It never ran."""

    severity = Severity.WARNING
    retry = Retry.SAFE

    def __init__(
        self, *, ttl: float, waited: float, task: str | None = None, component: str = ""
    ) -> None:
        super().__init__(
            f"{task or 'the task'} waited {waited:.3g} s for a worker, longer than its ttl of "
            f"{ttl:g} s, and was not run",
            component=component or None,
            task=task,
        )
        self.ttl = ttl
        self.waited = waited


# -- queues ---------------------------------------------------------------------------------


class QueueError(ThreadkitError):
    """Base of what a queue raises."""


class QueueFull(QueueError, queue.Full):
    """Raised when an item finds no room, at once or within the timeout."""

    severity = Severity.WARNING
    retry = Retry.SAFE

    def __init__(self, *, component: str, maxsize: int) -> None:
        super().__init__(f"{component} is full ({maxsize} items)", component=component)
        self.maxsize = maxsize


class QueueEmpty(QueueError, queue.Empty):
    """Raised when no item came, at once or within the timeout."""

    severity = Severity.INFO
    retry = Retry.SAFE

    def __init__(self, *, component: str) -> None:
        super().__init__(f"{component} is empty", component=component)


class QueueClosed(QueueError, queue.Full, queue.Empty):
    """Raised by a put after close, and by a get once what was left is drained."""

    severity = Severity.INFO

    def __init__(self, *, component: str) -> None:
        super().__init__(f"{component} is closed", component=component)


# -- caches ---------------------------------------------------------------------------------


class CacheError(ThreadkitError):
    """Base of what a cache raises."""


class LoadCycle(CacheError, RuntimeError):
    """Raised when loading a key needs that same key, directly or through other threads."""

    retry = Retry.AFTER_FIX

    def __init__(self, *, component: str, keys: Sequence[object]) -> None:
        chain = " -> ".join(repr(key) for key in keys)
        super().__init__(f"{component}: loads wait for one another: {chain}", component=component)
        self.keys = tuple(keys)


class LoadTimeout(CacheError, TimeoutError):
    """Raised to one who waited too long for another's load. The load itself goes on."""

    severity = Severity.WARNING
    retry = Retry.SAFE

    def __init__(self, *, component: str, key: object, timeout: float) -> None:
        super().__init__(
            f"{component}: {key!r} was not loaded within {timeout:g} s", component=component
        )
        self.key = key
        self.timeout = timeout


class StorageFailed(CacheError, OSError):
    """Raised when a file tier cannot write: the disk is full, read-only or gone."""

    severity = Severity.CRITICAL
    retry = Retry.AFTER_FIX

    def __init__(self, *, component: str, path: str, cause: str) -> None:
        super().__init__(f"{component}: cannot write {path}: {cause}", component=component)
        self.path = path


# -- lifecycles -----------------------------------------------------------------------------


class LifecycleError(ThreadkitError):
    """Base of what starting, supervising and stopping components raises."""


class StartupError(LifecycleError, ExceptionGroup[Exception]):
    """Raised when components did not start; holds every cause. What had started was stopped.

    Attributes:
        failed: Name of each component that failed, to its error.
    """

    severity = Severity.CRITICAL
    retry = Retry.AFTER_FIX
    failed: Mapping[str, Exception]

    def __new__(cls, message: str, causes: Sequence[Exception]) -> Self:
        return ExceptionGroup.__new__(cls, message, causes)

    def __init__(self, message: str, causes: Sequence[Exception]) -> None:
        ExceptionGroup.__init__(self, message, causes)
        self.component = None
        self.task = None
        self.retry_after = None
        self.failed = {}

    @classmethod
    def of(cls, component: str, failed: Mapping[str, Exception]) -> StartupError:
        """The error of a manager whose components `failed`, by name."""
        parts = "; ".join(f"{name}: {exc}" for name, exc in failed.items())
        error = cls(f"{component} did not start: {parts}", list(failed.values()))
        error.component = component
        error.failed = dict(failed)
        return error

    def derive(self, excs: Sequence[Exception]) -> ExceptionGroup[Exception]:  # type: ignore[override]
        """A group of some of the causes, for `except*` and `split`."""
        return ExceptionGroup(self.message, excs)


class StartTimeout(LifecycleError, TimeoutError):
    """Raised when a component was not ready in time. Should it start later, it is stopped."""

    severity = Severity.CRITICAL
    retry = Retry.IF_IDEMPOTENT

    def __init__(self, *, component: str, timeout: float) -> None:
        super().__init__(f"{component} was not ready within {timeout:g} s", component=component)
        self.timeout = timeout


class StopTimeout(LifecycleError, TimeoutError):
    """Raised when components did not stop within the budget; names the laggards."""

    severity = Severity.CRITICAL

    def __init__(self, *, component: str, laggards: Sequence[str], timeout: float) -> None:
        super().__init__(
            f"{component} did not stop within {timeout:g} s: {', '.join(laggards)}",
            component=component,
        )
        self.laggards = tuple(laggards)
        self.timeout = timeout


class DependencyCycle(LifecycleError, ValueError):
    """Raised when components need one another in a circle."""

    retry = Retry.AFTER_FIX

    def __init__(self, *, component: str, cycle: Sequence[str]) -> None:
        super().__init__(
            f"{component}: components need one another in a circle: {' -> '.join(cycle)}",
            component=component,
        )
        self.cycle = tuple(cycle)


class RestartsExhausted(LifecycleError):
    """Raised when a component failed more often than its restart intensity allows."""

    severity = Severity.FATAL
    retry = Retry.AFTER_FIX

    def __init__(self, *, component: str, restarts: int, per: float) -> None:
        super().__init__(
            f"{component} was restarted {restarts} times within {per:g} s: giving up",
            component=component,
        )
        self.restarts = restarts
        self.per = per


class Superseded(LifecycleError):
    """Raised in an instance of a component once it was replaced or has stopped."""

    severity = Severity.INFO

    def __init__(self, *, component: str, generation: int, current: int) -> None:
        end = f"was superseded by {current}" if current > generation else "is over"
        super().__init__(f"{component}: generation {generation} {end}", component=component)
        self.generation = generation
        self.current = current


# -- resources ------------------------------------------------------------------------------


class ResourceError(ThreadkitError):
    """Base of what the resource monitor reports."""

    severity = Severity.CRITICAL

    def __init__(self, *, metric: str, used: float, limit: float, message: str) -> None:
        super().__init__(message, component=metric)
        self.metric = metric
        self.used = used
        self.limit = limit


class Exhausted(ResourceError):
    """Raised when a resource is used up."""

    def __init__(self, *, metric: str, used: float, limit: float) -> None:
        super().__init__(
            metric=metric,
            used=used,
            limit=limit,
            message=f"{metric} is used up: {used:g} of {limit:g}",
        )


class NearExhaustion(ResourceError):
    """Raised when a resource is forecast to be used up within `seconds_left`."""

    severity = Severity.WARNING

    def __init__(self, *, metric: str, used: float, limit: float, seconds_left: float) -> None:
        super().__init__(
            metric=metric,
            used=used,
            limit=limit,
            message=f"{metric} is at {used:g} of {limit:g} and will be used up in "
            f"{seconds_left:.0f} s at this rate",
        )
        self.seconds_left = seconds_left
