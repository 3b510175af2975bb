"""The light future: a `concurrent.futures.Future` that costs a tenth of the standard one.

It is its own work item, and makes a condition only when somebody needs one. What waits for it
is kept in one slot, `_cond`, which holds, in the order of rising cost:

* None: nobody waits. A worker ends such a future with one store.
* a raw lock: one thread waits in `result()`.
* a list: only done-callbacks wait.
* a `_Condition`: anything else (`wait()`, `as_completed()`, timeouts, cancelling, deadlines).
  Once there, it stays, and every change of state happens under it.

The publish lock guards the step between the two worlds: "`_cond` is no condition, so the state
changes without one" and "a condition is put into `_cond`" exclude each other. Without it:

1. A thread in `concurrent.futures.wait()` makes the condition and, holding it, reads the state:
   pending.
2. A worker that looked at `_cond` before step 1 stores the state: finished. It tells no waiter,
   for it saw none.
3. The thread reads the state again to count what is pending, counts one too few, and `wait()`
   returns early (or, where it counted before, never).

The lock is held for a few stores, never across a condition, user code or a wait. It is
re-entrant, because a finalizer or a signal handler may end or cancel another future in the middle
of those stores. Where there is no GIL it is striped by the future's address.

Starting and cancelling exclude each other without a lock:

1. A worker takes the work out (`_fn` becomes None), then looks at `_cond`.
2. A canceller makes the condition, then looks at `_fn`.

One of the two comes second with its look and sees the other: a worker that finds a condition asks
`_claim()`, a canceller that finds no work answers "too late". This needs the two accesses of each
to stay in order, as they do under the GIL; without one, stores to slots lock their object, which
is the barrier it takes.
"""

from __future__ import annotations

import _thread
import concurrent.futures
import sys
import threading
from collections.abc import Callable
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    LOGGER,
    PENDING,
    RUNNING,
)
from contextlib import suppress
from types import CodeType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol, TypeAlias, TypeVar, cast

from threadkit._failures import Failure, UnreadFailure
from threadkit._runtime import REAL, Lock, Runtime

__all__ = ["Future", "Origin", "fork_lock", "future_type"]

T = TypeVar("T")

Story: TypeAlias = "Failure | UnreadFailure"

here = threading.local()
"""The calling thread's `worker`, on threads of a pool."""

GIL = getattr(sys, "_is_gil_enabled", lambda: True)()

_CANCELLED_STATES = (CANCELLED, CANCELLED_AND_NOTIFIED)
_DONE_STATES = (FINISHED, CANCELLED_AND_NOTIFIED, CANCELLED)


class Origin(Protocol):
    """Who made a future: its pool, with the options its task was submitted with."""

    @property
    def crew(self) -> object:
        """What it has in common with the workers of the same pool."""
        ...

    @property
    def guarded(self) -> bool:
        """Whether its tasks have deadlines: then their futures have a condition from birth."""
        ...

    def begun(self, future: Future[Any], /) -> bool:
        """Called when a guarded task is to begin; false if it must not."""
        ...

    def cancelled(self, future: Future[Any], /) -> None:
        """Called once, just before anybody can see that the future is cancelled."""
        ...

    def wait(self, future: Future[Any], timeout: float | None, /) -> None:
        """Called on a worker of the same pool, which must not hold up the others by waiting."""
        ...

    def waited_upon(self) -> None:
        """As `wait`, when wait() or as_completed() is about to wait for an unfinished future."""
        ...


class _Condition:
    """What `Future`, `wait()` and `as_completed()` use of a condition, at a fifth of its cost.

    Itself the lock. Waiters are raw locks, all woken at once when the future is done.
    """

    if not TYPE_CHECKING:
        __slots__ = ()  # the fields are the subclasses', for a lock in C has no room for them
    else:
        locks: list[Lock]
        waiters: list[Any]  # of wait() and as_completed()
        callbacks: list[Callable[[Any], object]]
        cancel_requested: bool
        _new_lock: Callable[..., Any]

        acquire: Callable[..., bool]
        release: Callable[[], None]

        def __enter__(self) -> bool:
            return True

        def __exit__(self, *exc_info: object) -> None: ...

    def wait(self, timeout: float | None = None) -> bool:
        """Release, sleep until the future is done or `timeout` seconds passed, take it again."""
        lock: Lock = self._new_lock()
        lock.acquire()
        self.locks.append(lock)
        self.release()
        try:
            if timeout is None:
                return lock.acquire()
            return lock.acquire(True, max(0.0, min(timeout, threading.TIMEOUT_MAX)))
        finally:
            self.acquire()
            with suppress(ValueError):
                self.locks.remove(lock)

    def notify_all(self) -> None:
        """Wake every waiter."""
        locks, self.locks = self.locks, []
        for lock in locks:
            lock.release()

    def notify(self, n: int = 1) -> None:
        """Wake every waiter: what they wait for is the same, and happens once."""
        del n
        self.notify_all()


_FIELDS = ("callbacks", "cancel_requested", "locks", "waiters")


_RLock: Any = _thread.RLock  # Any, because stubs call it final, which it is not


class _RealCondition(_Condition, _RLock):  # type: ignore[misc]
    """A condition that is a lock of the standard library, so that its methods are C."""

    __slots__ = _FIELDS
    _new_lock = staticmethod(_thread.allocate_lock)

    def __init__(self) -> None:
        self.locks = []
        self.waiters = []
        self.callbacks = []
        self.cancel_requested = False


class Future(concurrent.futures.Future[T]):
    """What will become of a task: a `concurrent.futures.Future`, and accepted wherever one is.

    Differences to the standard one, beside its cost: cancelling tells waiters at once, not when a
    worker comes across it; `result()` raises the task's exception with the same traceback however
    often it is called; cancelling a running task answers False, and asks the task to stop (see
    `current_task`).

    Thread safety: every method may be called from any thread.

    Lifetime: made by a pool's `submit`; keeps neither the callable nor its arguments once the
    task has begun or was cancelled.
    """

    __slots__ = (
        "_args",
        "_code",  # of the caller of submit(): where the task comes from
        "_cond",
        "_context",
        "_fn",
        "_lasti",
        "_origin",
        "_result",  # of a failed task: its Failure, or UnreadFailure
        "_state",
        "_submitted_at",
    )
    if TYPE_CHECKING:
        _fn: Callable[..., Any] | None
        _args: tuple[Any, ...] | None
        _context: Any
        _cond: Any
        _code: CodeType | None
        _lasti: int
        _origin: Origin | None
        _submitted_at: float
    _exception: BaseException | None = None

    # Any, because a type checker would take a callable in the class for a method.
    _publish: ClassVar[Any] = threading.RLock()
    _new_lock: ClassVar[Any] = staticmethod(_thread.allocate_lock)
    _new_condition: ClassVar[Any] = _RealCondition

    def __init__(self) -> None:
        self._state = PENDING
        self._cond = None
        self._fn = _no_work
        self._args = ()
        self._context = None
        self._code = None
        self._lasti = -1
        self._origin = None
        self._submitted_at = 0.0

    def _publish_lock(self) -> Lock:
        return cast("Lock", self._publish)

    # -- the condition, made on first touch -------------------------------------------------

    @property
    def _condition(self) -> _Condition:  # type: ignore[override]
        cond = self._cond
        if isinstance(cond, _Condition):
            return cond
        fresh: _Condition = self._new_condition()
        with self._publish_lock():
            cond = self._cond
            if isinstance(cond, _Condition):  # another thread was faster
                return cond
            if type(cond) is list:
                fresh.callbacks = cond  # pyright: ignore[reportUnknownMemberType]
            elif cond is not None:
                fresh.locks.append(cond)
            self._cond = fresh
        return fresh

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        """Touched by wait() and as_completed() when they are about to wait, and afterwards."""
        cond = self._cond
        if not isinstance(cond, _Condition):
            cond = self._condition
        worker = getattr(here, "worker", None)
        if worker is not None and self._is_of(worker) and self._state not in _DONE_STATES:
            cast("Origin", self._origin).waited_upon()
        return cond.waiters

    def _is_of(self, worker: Any) -> bool:
        """Whether the worker belongs to the pool of this future."""
        return self._origin is not None and self._origin.crew is worker.crew

    @property
    def _done_callbacks(self) -> list[Callable[[Any], object]]:
        return self._condition.callbacks

    # -- what a worker does -----------------------------------------------------------------

    def _claim(self) -> bool:
        """Whether the task is to be run, for a worker that took the work out and saw `_cond`."""
        cond = self._cond
        if not isinstance(cond, _Condition):
            return True  # only waiters: whoever cancels makes a condition first
        with cond:
            if self._state != PENDING:
                return False
            self._state = RUNNING
        origin = self._origin
        return origin is None or not origin.guarded or origin.begun(self)

    def _finish(self, value: T, runs: list[float], seconds: float) -> bool:
        """End with a result; false when the future had ended before (it timed out).

        `seconds` are added to `runs` just before anybody can see that it ended this way.
        """
        cond = self._cond
        if not isinstance(cond, _Condition):
            with self._publish_lock():
                cond = self._cond
                if not isinstance(cond, _Condition):
                    runs.append(seconds)
                    self._result = value
                    self._state = FINISHED
                    self._cond = None
        if not isinstance(cond, _Condition):
            self._wake(cond)
            return True
        with cond:
            if self._state in _DONE_STATES:
                return False
            runs.append(seconds)
            self._result = value
            self._state = FINISHED
            for waiter in cond.waiters:
                waiter.add_result(self)
            if cond.locks:
                cond.notify_all()
        if cond.callbacks:
            self._invoke_callbacks(cond)
        return True

    def _fail(
        self,
        exc: BaseException,
        story: Story,
        count: Callable[[], object],
        *,
        unrun: bool = False,
    ) -> bool:
        """End with an exception; false when the future had ended before.

        `count()` is called just before anybody can see that it ended this way. With `unrun`, only
        a task that no worker has begun is ended.
        """
        cond = self._condition
        with cond:
            if self._state in _DONE_STATES:
                return False
            if unrun and (self._state != PENDING or self._fn is None):
                return False
            if unrun:
                self._fn = self._args = self._context = None
            count()
            self._result = cast("Any", story)
            self._exception = exc
            self._state = FINISHED
            for waiter in cond.waiters:
                waiter.add_exception(self)
            cond.notify_all()
        self._invoke_callbacks(cond)
        return True

    def _end_in_child(self, exc: BaseException, story: Story) -> None:
        """End a future of the parent in a fork's child: no other thread there, no lock to trust."""
        self._fn = self._args = self._context = None
        self._cond = None  # whoever waited or wanted to be called is in the parent
        self._result = cast("Any", story)
        self._exception = exc
        self._state = FINISHED

    def _wake(self, waiting: Any) -> None:
        if type(waiting) is list:
            self._run_callbacks(waiting)  # pyright: ignore[reportUnknownArgumentType]
        elif waiting is not None:
            waiting.release()

    def _invoke_callbacks(self, cond: _Condition | None = None) -> None:
        if cond is None:
            cond = self._condition
        callbacks, cond.callbacks = cond.callbacks, []
        self._run_callbacks(callbacks)

    def _run_callbacks(self, callbacks: list[Callable[[Any], object]]) -> None:
        """Call each, in order; one that raises keeps none of the others from being called."""
        fatal: BaseException | None = None
        for callback in callbacks:
            try:
                callback(self)
            except Exception:  # noqa: BLE001 - user code
                LOGGER.exception("exception calling callback for %r", self)
            except BaseException as exc:  # noqa: BLE001 - raised again below
                fatal = exc
        if fatal is not None:
            raise fatal

    # -- the public face --------------------------------------------------------------------

    def __repr__(self) -> str:
        shown = super().__repr__()  # knows the state, which is only written where it matters
        return shown.replace("state=pending", "state=running") if self.running() else shown

    def cancel(self) -> bool:
        """Cancel the task if it has not begun; else ask it to stop, and answer False."""
        cond = self._condition
        with cond:
            if self._state in _CANCELLED_STATES:
                return True
            if self._state != PENDING or self._fn is None:
                cond.cancel_requested = True
                return False
            self._fn = self._args = self._context = None
            if self._origin is not None:
                self._origin.cancelled(self)
            self._state = CANCELLED_AND_NOTIFIED
            for waiter in cond.waiters:
                waiter.add_cancelled(self)
            cond.notify_all()
        self._invoke_callbacks(cond)
        return True

    def cancelled(self) -> bool:
        return self._state in _CANCELLED_STATES

    def running(self) -> bool:
        return self._state == RUNNING or (self._state == PENDING and self._fn is None)

    def done(self) -> bool:
        return self._state in _DONE_STATES

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[T]], object]) -> None:
        """Call `fn(self)` when the future is done; at once when it is done already."""
        if not self._add_to_list(fn):
            cond = self._condition
            with cond:
                if self._state not in _DONE_STATES:
                    cond.callbacks.append(fn)
                    return
            self._call_now(fn)

    def _add_to_list(self, fn: Callable[[concurrent.futures.Future[T]], object]) -> bool:
        with self._publish_lock():
            if self._state == PENDING:
                if self._cond is None:
                    self._cond = [fn]
                    return True
                if type(self._cond) is list:
                    self._cond.append(fn)  # pyright: ignore[reportUnknownMemberType]
                    return True
        return False

    def _call_now(self, fn: Callable[[concurrent.futures.Future[T]], object]) -> None:
        try:
            fn(self)
        except Exception:  # noqa: BLE001 - user code
            LOGGER.exception("exception calling callback for %r", self)

    def result(self, timeout: float | None = None) -> T:
        """The task's result, or its exception raised.

        Blocks: until the future is done, at most `timeout` seconds.

        Raises:
            CancelledError: The task was cancelled.
            TimeoutError: It was not done within `timeout`.
        """
        try:
            if self._state != FINISHED:
                self._wait(timeout)
            if self._exception is None:
                return cast("T", self._result)
            self._failure().reraise()
        finally:
            # The frame is part of the exception's traceback: it must not lead back to the future.
            self = None  # type: ignore[assignment]  # noqa: PLW0642

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception the task raised, or None.

        Blocks: until the future is done, at most `timeout` seconds.

        Raises:
            CancelledError: The task was cancelled.
            TimeoutError: It was not done within `timeout`.
        """
        if self._state != FINISHED:
            self._wait(timeout)
        return None if self._exception is None else self._failure().restored()

    def _failure(self) -> Failure:
        """The failure of a failed task; from now on it is the caller's business."""
        story = cast("Story", self._result)
        return story.read() if type(story) is UnreadFailure else cast("Failure", story)

    def _wait(self, timeout: float | None) -> None:
        """Return when the task has finished."""
        worker = getattr(here, "worker", None)
        if worker is not None and self._is_of(worker):
            cast("Origin", self._origin).wait(self, timeout)
        else:
            self._wait_plainly(timeout)

    def _wait_plainly(self, timeout: float | None) -> None:
        if timeout is None and self._wait_alone():
            return
        cond = self._condition
        with cond:
            if self._state not in _DONE_STATES:
                cond.wait(timeout)
            if self._state in _CANCELLED_STATES:
                raise concurrent.futures.CancelledError
            if self._state != FINISHED:
                raise concurrent.futures.TimeoutError

    def _wait_alone(self) -> bool:
        """Wait on a bare lock if nothing else waits; whether the task has finished."""
        lock = self._new_lock()
        lock.acquire()
        with self._publish_lock():
            if self._state == FINISHED:
                return True
            if self._cond is not None or self._state != PENDING:
                return False
            self._cond = lock
        lock.acquire()
        return self.done() and not self.cancelled()

    # -- for code that ends futures itself, as executors do ---------------------------------

    def set_running_or_notify_cancel(self) -> bool:
        """Claim the task; false when it was cancelled."""
        with self._condition:  # re-entrant
            if self.cancelled():
                return False
            claimed = super().set_running_or_notify_cancel()
            self._fn = None
        return claimed

    def set_exception(self, exception: BaseException | None) -> None:
        if exception is None:
            self.set_result(cast("T", None))
        elif not self._fail(exception, Failure(exception), lambda: None):
            raise concurrent.futures.InvalidStateError(f"{self._state}: {self!r}")


def _no_work() -> NoReturn:
    """Stand in for the work of a future that no pool made."""
    msg = "this future has no task"
    raise RuntimeError(msg)


class _PoolFuture(Future[T]):
    """A future as a pool makes it: blank, for submit to fill in.

    Its `__init__` is the one of object, in C: the call of one in Python costs as much as the rest
    of a submit.
    """

    __slots__ = ()
    __init__ = object.__init__


class _StripedFuture(_PoolFuture[T]):
    """The future where there is no GIL: workers would queue for one publish lock."""

    __slots__ = ()
    _stripes: ClassVar[tuple[Lock, ...]] = tuple(cast("Lock", threading.RLock()) for _ in range(64))

    def _publish_lock(self) -> Lock:
        return self._stripes[id(self) >> 6 & 63]  # allocations are at least 64 bytes apart


_PoolFuture.__name__ = _StripedFuture.__name__ = "Future"  # what it is to whoever prints it


class _AllPublishLocks:
    """Every publish lock at once: held while the process forks."""

    def __init__(self) -> None:
        self._locks: tuple[Lock, ...] = (
            cast("Lock", Future._publish),  # noqa: SLF001 - of this module
            *_StripedFuture._stripes,  # noqa: SLF001
        )

    def acquire(self) -> None:
        for lock in self._locks:
            lock.acquire()

    def release(self) -> None:
        for lock in reversed(self._locks):
            lock.release()


fork_lock = _AllPublishLocks()


def future_type(runtime: Runtime) -> type[Future[Any]]:
    """The class of the futures of a pool on this runtime: its locks are the runtime's."""
    if runtime is REAL:
        return cast("type[Future[Any]]", _PoolFuture if GIL else _StripedFuture)

    class RuntimeCondition(_Condition):
        __slots__ = (*_FIELDS, "acquire", "release")
        _new_lock = staticmethod(runtime.lock)

        def __init__(self) -> None:
            lock = runtime.rlock()
            self.acquire = lock.acquire
            self.release = lock.release
            self.locks = []
            self.waiters = []
            self.callbacks = []
            self.cancel_requested = False

        def __enter__(self) -> bool:
            return self.acquire()

        def __exit__(self, *exc_info: object) -> None:
            self.release()

    class RuntimeFuture(Future[Any]):
        __slots__ = ()
        _publish = runtime.rlock()
        _new_lock = staticmethod(runtime.lock)
        _new_condition = RuntimeCondition

    RuntimeFuture.__name__ = "Future"
    return cast("type[Future[Any]]", RuntimeFuture)
