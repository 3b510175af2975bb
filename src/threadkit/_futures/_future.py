"""The future itself, with its races.

It is its own work item, and makes a condition only when somebody needs one. What waits for it
is kept in one slot, `_cond`, which holds, in the order of rising cost:

* None: nobody waits.
* a raw lock: one thread waits in `result()`.
* a list: only done-callbacks wait.
* a `Condition`: anything else (`wait()`, `as_completed()`, timeouts, cancelling, deadlines).
  Once there, it stays.

**Publishing against watching.** A worker publishes a result without a lock:

1. It stores `_result`. From here on the future has a result.
2. It looks at `_cond`, and tells whom it finds: releases the lock, calls the callbacks, or, under
   the condition, makes `_state` FINISHED and tells the waiters.

Whoever comes to wait does the same two things in the other order:

3. It puts its lock, list or condition into `_cond`, under the watch lock, which keeps watchers
   from one another.
4. It looks at `_result`, and does not wait if that is there.

One of the two comes second with its look and sees the other. Both may: then nobody is told twice,
for a lock is released by the publisher alone, a callback is taken from its list by one `pop`, and
the waiters of a condition are told by whoever makes `_state` FINISHED, under the condition.

`_state` is what is to be seen under the condition, and changes only there; without a condition it
stays PENDING, and nobody looks. So `wait()`, which holds all conditions and reads the states twice,
reads the same twice, although results may be stored meanwhile. A new condition is held while steps
3 and 4 are done: nobody can have joined it when its state becomes FINISHED in step 4.

Between 1 and 2 the worker may be held up, with a condition made meanwhile that says PENDING. Who
then learns of the result by `result()` or `done()` makes it FINISHED first, so that `wait()` does
not deny what somebody knows already.

The watch lock is held for a few stores, never across a condition that others can hold, user code or
a wait. It is re-entrant, because a finalizer or a signal handler may watch or cancel another future
in the middle of those stores. Where there is no GIL it is striped by the future's address.

**Starting against cancelling** needs no lock either:

1. A worker takes the work out (`_fn` becomes None), then looks at `_cond`, and at its `contested`.
2. A canceller makes the condition and contests it, then looks at `_fn`.

One of the two comes second with its look and sees the other: a worker that finds a contest asks
under the condition, a canceller that finds no work answers "too late".

Both need the two accesses of each to stay in order, as they do under the GIL; without one, stores
to slots lock their object, which is the barrier it takes.
"""

from __future__ import annotations

import _thread
import concurrent.futures
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
from types import CodeType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeAlias, TypeVar, cast

from threadkit._failures import Failure, UnreadFailure
from threadkit._futures._origin import Origin, here
from threadkit._futures._watch import Condition, RealCondition
from threadkit._runtime import Lock

__all__ = ["UNSET", "Future"]

T = TypeVar("T")

Story: TypeAlias = "Failure | UnreadFailure"

UNSET: Any = object()
"""What `_result` is while there is none."""

_CANCELLED_STATES = (CANCELLED, CANCELLED_AND_NOTIFIED)
_DONE_STATES = (FINISHED, CANCELLED_AND_NOTIFIED, CANCELLED)


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
        "_result",
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
    # Of the class, for most tasks do not fail.
    _exception: BaseException | None = None
    _story: Story | None = None

    # Any, because a type checker would take a callable in the class for a method.
    _watch: ClassVar[Any] = threading.RLock()
    _new_lock: ClassVar[Any] = staticmethod(_thread.allocate_lock)
    _condition_type: ClassVar[type[Condition]] = RealCondition

    def __init__(self) -> None:
        self._result = UNSET
        self._state = PENDING
        self._cond = None
        self._fn = _no_work
        self._args = ()
        self._context = None
        self._code = None
        self._lasti = -1
        self._origin = None
        self._submitted_at = 0.0

    def _watch_lock(self) -> Lock:
        return cast("Lock", self._watch)

    # -- the condition, made on first touch -------------------------------------------------

    @property
    def _condition(self) -> Condition:  # type: ignore[override]
        cond = self._cond
        return cond if type(cond) is self._condition_type else self._make_condition()

    def _make_condition(self) -> Condition:
        fresh = self._condition_type()
        fresh.waiters = []
        fresh.locks = fresh.callbacks = None
        fresh.contested = fresh.cancel_requested = False
        with self._watch_lock():
            cond = self._cond
            if type(cond) is self._condition_type:  # another thread was faster
                return cond
            if type(cond) is list:
                fresh.callbacks = cond  # pyright: ignore[reportUnknownMemberType]
            elif cond is not None:
                fresh.locks = [cond]
            with fresh:
                self._cond = fresh
                if self._result is not UNSET:
                    self._state = FINISHED
        return fresh

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        """Touched by wait() and as_completed() when they are about to wait, and afterwards."""
        cond = self._cond
        if type(cond) is not self._condition_type:
            cond = self._make_condition()
        worker = here.worker
        if worker is not None and self._is_of(worker) and not self._has_ended():
            cast("Origin", self._origin).waited_upon()
        return cond.waiters

    def _has_ended(self) -> bool:
        """As `done`, but changes nothing: its caller is about to join the condition's waiters.

        Were they told of a result before it joins, it would never be told.
        """
        return self._result is not UNSET or self._state in _DONE_STATES

    def _is_of(self, worker: Any) -> bool:
        """Whether the worker belongs to the pool of this future."""
        return self._origin is not None and self._origin.crew is worker.crew

    @property
    def _done_callbacks(self) -> list[Callable[[Any], object]]:
        return self._condition.callbacks or []

    # -- what a worker does -----------------------------------------------------------------

    def _claim(self) -> bool:
        """Whether the task is to be run, for a worker that took the work out and saw `_cond`."""
        cond = self._cond
        if type(cond) is not self._condition_type:
            return True  # only waiters: whoever cancels makes a condition first
        origin = self._origin
        guarded = origin is not None and origin.guarded
        if not guarded and not cond.contested:
            return True
        with cond:
            if self._state != PENDING:
                return False
            self._state = RUNNING
        return not guarded or cast("Origin", origin).begun(self)

    def _finish(self, value: T, runs: list[float], seconds: float) -> bool:
        """End with a result; false when the future had ended before (it timed out).

        `seconds` are added to `runs` just before anybody can see that it ended this way.
        """
        cond = self._cond
        if type(cond) is not self._condition_type:
            runs.append(seconds)
            self._result = value
            self._tell()
            return True
        with cond:
            if self._state in _DONE_STATES:
                return False
            runs.append(seconds)
            self._result = value
            self._settle_locked(cond)
            cond.notify_all()
        if cond.callbacks:
            self._run_callbacks(cond.callbacks)
        return True

    def _tell(self) -> None:
        """Tell who waits that the result is there: step 2 of a publisher."""
        waiting = self._cond
        if type(waiting) is self._condition_type:
            with waiting:
                self._settle_locked(waiting)
                waiting.notify_all()
            self._run_callbacks(waiting.callbacks or [])
        elif type(waiting) is list:
            self._run_callbacks(waiting)  # pyright: ignore[reportUnknownArgumentType]
        elif waiting is not None:
            waiting.release()

    def _settle_locked(self, cond: Condition) -> None:
        """Let the condition's waiters know of the result, if nobody did."""
        if self._state not in _DONE_STATES:
            self._state = FINISHED
            for waiter in cond.waiters:
                waiter.add_result(self)

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
            cond.contested = cond.contested or unrun
            if self._state in _DONE_STATES or self._result is not UNSET:
                return False
            if unrun and (self._state != PENDING or self._fn is None):
                return False
            if unrun:
                self._fn = self._args = self._context = None
            count()
            self._end_with(exc, story)
            for waiter in cond.waiters:
                waiter.add_exception(self)
            cond.notify_all()
        self._invoke_callbacks()
        return True

    def _end_with(self, exc: BaseException, story: Story) -> None:
        self._story = story
        self._exception = exc
        self._result = cast("Any", None)
        self._state = FINISHED

    def _end_in_child(self, exc: BaseException, story: Story) -> None:
        """End a future of the parent in a fork's child: no other thread there, no lock to trust."""
        self._fn = self._args = self._context = None
        self._cond = None  # whoever waited or wanted to be called is in the parent
        if self._result is UNSET:  # else the parent's worker was about to tell of it
            self._end_with(exc, story)

    def _invoke_callbacks(self) -> None:
        callbacks = self._condition.callbacks
        if callbacks:
            self._run_callbacks(callbacks)

    def _run_callbacks(self, callbacks: list[Callable[[Any], object]]) -> None:
        """Call each, in order; one that raises keeps none of the others from being called.

        Two threads may be here with the same list: each callback is taken out once.
        """
        fatal: BaseException | None = None
        while callbacks:
            try:
                callback = callbacks.pop(0)
            except IndexError:
                break
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
            cond.contested = True
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
        self._invoke_callbacks()
        return True

    def cancelled(self) -> bool:
        return self._state in _CANCELLED_STATES

    def running(self) -> bool:
        if self._result is not UNSET:
            return False
        return self._state == RUNNING or (self._state == PENDING and self._fn is None)

    def done(self) -> bool:
        return self._has_result() or self._state in _DONE_STATES

    def _has_result(self) -> bool:
        """Whether it ended with a result or an exception; if so, everybody sees it from now on."""
        if self._result is UNSET:
            return False
        cond = self._cond
        if type(cond) is self._condition_type and self._state != FINISHED:
            with cond:
                self._settle_locked(cond)
        return True

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[T]], object]) -> None:
        """Call `fn(self)` when the future is done; at once when it is done already."""
        if self.done() or not (self._add_to_list(fn) or self._add_to_condition(fn)):
            self._call_now(fn)

    def _add_to_list(self, fn: Callable[[concurrent.futures.Future[T]], object]) -> bool:
        """Whether the callback will be, or was, called without a condition."""
        with self._watch_lock():
            callbacks = self._cond
            if callbacks is None:
                self._cond = callbacks = [fn]
            elif type(callbacks) is list:
                callbacks.append(fn)  # pyright: ignore[reportUnknownMemberType]
            else:
                return False
        if self._result is not UNSET:
            self._run_callbacks(callbacks)  # pyright: ignore[reportUnknownArgumentType]
        return True

    def _add_to_condition(self, fn: Callable[[concurrent.futures.Future[T]], object]) -> bool:
        """Whether the callback will be called; false when the future is done."""
        cond = self._condition
        with cond:
            if self.done():
                return False
            if cond.callbacks is None:
                cond.callbacks = []
            cond.callbacks.append(fn)
        return True

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
            if self._result is UNSET or self._cond is not None:
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
        if self._result is UNSET or self._cond is not None:
            self._wait(timeout)
        # As it is: restored, it would lose the traceback of whoever is handling it just now.
        return None if self._exception is None else self._failure().annotated()

    def _failure(self) -> Failure:
        """The failure of a failed task; from now on it is the caller's business."""
        story = cast("Story", self._story)
        return story.read() if type(story) is UnreadFailure else cast("Failure", story)

    def _wait(self, timeout: float | None) -> None:
        """Return when the task has finished."""
        if self._has_result():
            return
        worker = here.worker
        if worker is not None and self._is_of(worker):
            cast("Origin", self._origin).wait(self, timeout)
        else:
            self._wait_plainly(timeout)

    def _wait_plainly(self, timeout: float | None) -> None:
        if timeout is None and self._wait_alone():
            return
        cond = self._condition
        with cond:
            if not self.done():
                cond.wait(timeout)
            if self._state in _CANCELLED_STATES:
                raise concurrent.futures.CancelledError
            if not self._has_result():
                raise concurrent.futures.TimeoutError

    def _wait_alone(self) -> bool:
        """Wait on a bare lock if nothing else waits; whether the task has finished."""
        lock = self._new_lock()
        lock.acquire()
        with self._watch_lock():
            if self._cond is not None:
                return self._has_result()
            self._cond = lock
        if self._result is UNSET:
            lock.acquire()
        return self._has_result()

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
