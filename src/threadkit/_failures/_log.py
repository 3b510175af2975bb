"""ErrorLog: the one place all failures of a program come to."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import secrets
import sys
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Literal, get_args

from typing_extensions import Self

from threadkit._errors import Severity
from threadkit._failures._delivery import Delivery
from threadkit._failures._failure import Failure
from threadkit._failures._grading import classify
from threadkit._failures._groups import RATE_WINDOW, FailureGroup, Group, Story
from threadkit._failures._hooks import Hooks
from threadkit._failures._ledger import Entry, ErrorLogStatistics, Ledger, Tally
from threadkit._failures._sinks import Sink
from threadkit._runtime import REAL, Runtime

_EXIT_BUDGET = 2.0  # seconds all sinks together may hold up the interpreter's exit

Order = Literal["count", "last_seen", "first_seen", "severity", "rate"]


class ErrorLog:
    """Groups failures by origin, counts them, and tells them to sinks.

    ::

        pool, manager, hooks -> record() -> groups: count, first and last seen, rate, one story
                                         -> per sink: limit -> bounded queue -> thread -> sink

    >>> with ErrorLog() as errors:
    ...     for room in "12", "34":
    ...         try:
    ...             raise ValueError(f"no room {room}")
    ...         except ValueError as exc:
    ...             fingerprint = errors.record(exc, component="source")
    ...     [(group.count, group.message) for group in errors.groups()]
    [(2, 'no room 12')]

    Thread safety: every method may be called from any thread, from a finalizer or a signal
    handler, and while a failure is being recorded. One re-entrant lock guards the groups; it is
    held for bookkeeping, never across user code: messages, tracebacks and verdicts are worked out
    before it is taken, sinks run on threads of their own.

    Lifetime: `close()` stops the sinks' threads and undoes `install()`; a log that is dropped
    stops its threads too. At interpreter exit what waits is delivered within 2 s. In the child of
    a fork, groups are kept and sinks go on with new threads and empty queues.

    Args:
        name: Prefix of the sinks' threads.
        max_groups: How many groups are remembered; beyond that the one that was quiet longest is
            forgotten.
        runtime: Where clock, locks and threads come from.

    Raises:
        ValueError: `max_groups` is less than 1.
    """

    def __init__(
        self, name: str = "errors", *, max_groups: int = 512, runtime: Runtime = REAL
    ) -> None:
        if max_groups < 1:
            raise ValueError(f"max_groups must be at least 1, not {max_groups!r}")
        self.name = name
        self._runtime = runtime
        self._monotonic = runtime.monotonic
        # Marks an exception that this log has seen; random, so that a pickled mark means nothing
        # to the log of another process.
        self._mark = f"_threadkit_recorded_{secrets.token_hex(4)}"
        self._marks = itertools.count()
        self._ledger = Ledger(max_groups=max_groups, runtime=runtime)
        self._hooks = Hooks()
        self._exit_by: float | None = None
        key = next(_keys)
        _logs[key] = weakref.ref(self)
        finalizer = weakref.finalize(self, _let_go, key, self._ledger)
        finalizer.atexit = False  # _deliver_at_exit does better

    # -- recording --------------------------------------------------------------------------

    def record(
        self,
        exc: BaseException | Failure,
        *,
        component: str | None = None,
        task: str | None = None,
    ) -> str:
        """Count a failure and tell it to the sinks.

        The same exception object is counted once, however many parts of the program meet it on
        its way; later calls are counted as repeats. A `Failure` is recorded once its task is
        over: the locals of its frames are let go.

        Args:
            exc: What happened.
            component: Where, when the exception does not say.
            task: To which task, when the exception does not say.

        Returns:
            The fingerprint of its group.

        Raises:
            TypeError: `exc` is no exception and no Failure. Nothing else: a failure that cannot
                be recorded is counted as such.
        """
        if isinstance(exc, Failure):
            failure = exc
        elif isinstance(exc, BaseException):
            failure = Failure(
                exc,
                component=component or _said_by(exc, "component"),
                task=task or _said_by(exc, "task"),
                at=self._runtime.time(),
            )
        else:
            raise TypeError(f"exc must be an exception or a Failure, not {exc!r}")
        try:
            return self._record(failure, over=failure is exc)
        except (Exception, SystemExit):  # noqa: BLE001 - e.g. MemoryError, or what its __str__ raised
            self._ledger.enter(Tally.UNRECORDED)
            return type(failure.exception).__qualname__

    def _record(self, failure: Failure, *, over: bool) -> str:
        ledger = self._ledger
        fingerprint = failure.fingerprint
        if not self._first_time(failure.exception):
            ledger.enter(Tally.REPEAT)
            if over:
                failure.clear_frames()
            return fingerprint
        story = Story(failure) if ledger.lacks_story(fingerprint) else None
        if over:
            failure.clear_frames()
        told = not any(sink.runs_here() for sink in ledger.sinks)
        verdict = classify(failure.exception)
        now = self._monotonic()
        ledger.enter(Entry(failure, fingerprint, verdict, story, told=told, now=now))
        for sink in ledger.sinks:
            sink.ensure_thread()
        if self._exit_by is not None:
            self._deliver_late(told)
        return fingerprint

    def _first_time(self, exc: BaseException) -> bool:
        """Whether this log meets the exception for the first time; it does only once."""
        mark = next(self._marks)
        return bool(exc.__dict__.setdefault(self._mark, mark) == mark)

    # -- asking -----------------------------------------------------------------------------

    def groups(self, top: int | None = None, by: Order = "count") -> list[FailureGroup]:
        """The groups, the one with the most first.

        Args:
            top: How many at most; by default all.
            by: What is most: failures, the latest sighting, the latest first sighting, the worst
                grade, or failures in the last minute.

        Raises:
            ValueError: `by` is none of these, or `top` is negative.
        """
        if top is not None and top < 0:
            raise ValueError(f"top must not be negative, it is {top!r}")
        if by not in get_args(Order):
            raise ValueError(f"by must be one of {', '.join(get_args(Order))}, not {by!r}")
        now = self._monotonic()
        keys: dict[str, Callable[[Group], object]] = {
            "count": lambda group: group.count,
            "last_seen": lambda group: group.last_seen,
            "first_seen": lambda group: group.first_seen,
            "severity": lambda group: (group.severity, group.count),
            "rate": lambda group: group.within(60.0, now),
        }
        return self._ledger.groups(top, keys[by])

    def rate(self, fingerprint: str, window: float = 60.0) -> float:
        """Failures of a group per second, over the last `window` seconds (to within 5 s).

        Zero for a group that is not known.

        Raises:
            ValueError: `window` is not positive, or longer than the 600 s remembered.
        """
        if not 0 < window <= RATE_WINDOW:
            raise ValueError(f"window must be above 0 and at most {RATE_WINDOW:g}, not {window!r}")
        return self._ledger.within(fingerprint, window, self._monotonic()) / window

    def is_spiking(self, fingerprint: str) -> bool:
        """Whether a group fails far more often now than it did before.

        That is: at least ten times in the last 30 s, and more than twice what the ten minutes
        before led to expect, plus three standard deviations. A new group may spike at once.
        """
        return self._ledger.is_spiking(fingerprint, self._monotonic())

    def statistics(self) -> ErrorLogStatistics:
        """What was counted so far."""
        return self._ledger.statistics()

    # -- sinks ------------------------------------------------------------------------------

    def add_sink(
        self,
        sink: Sink,
        *,
        name: str | None = None,
        min_severity: Severity = Severity.INFO,
        limit: int | None = 5,
        per: float = 60.0,
        queue_size: int = 256,
    ) -> None:
        """Tell failures to `sink` from now on, on a thread of its own.

        A sink that raises is counted and called again; one that blocks costs its own events, which
        are counted as dropped, and nothing else. If it has a `close` method, that is called at the
        end, on the same thread. While the interpreter is being torn down no thread runs any more;
        finalizers that fail then are told only to sinks with a true attribute `takes_no_locks`,
        because a lock may be held by a thread that will never let go of it.

        Args:
            sink: Called with a `FailureEvent`.
            name: What statistics call it; by default its function's or class's name.
            min_severity: Failures below this grade are not told.
            limit: Failures of one group told in each `per`; the next one told says how many were
                suppressed. None tells all.
            per: Seconds.
            queue_size: Events that wait for the sink at most.

        Raises:
            RuntimeError: The log is closed.
            ValueError: `limit` or `queue_size` is less than 1, or `per` is not positive.
            TypeError: `sink` is not callable.
        """
        if not callable(sink):
            raise TypeError(f"sink must be callable, {sink!r} is not")
        for argument, value in (("limit", limit), ("queue_size", queue_size)):
            if value is not None and value < 1:
                raise ValueError(f"{argument} must be at least 1, not {value!r}")
        if not per > 0:  # nor is nan
            raise ValueError(f"per must be positive, not {per!r}")
        name = name or str(getattr(sink, "__name__", type(sink).__name__))
        delivery = Delivery(
            sink,
            name=name,
            min_severity=min_severity,
            limit=limit,
            per=per,
            queue_size=queue_size,
            thread_name=f"{self.name}-sink-{name}",
            runtime=self._runtime,
        )
        if not self._ledger.add_sink(delivery):
            raise RuntimeError(f"{self.name} is closed: no sink can be added")

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every sink was told all that was recorded before; whether they were in time.

        False at once for a sink with something to be told for which the system has no thread.

        Blocks: up to `timeout` seconds; called by a sink, it does not wait for that sink.
        """
        deadline = None if timeout is None else self._monotonic() + timeout
        waits = self._ledger.pending()
        told = [wait(self._left(deadline)) for wait in waits]  # one that fails ends no other's wait
        return all(told)

    def close(self, timeout: float | None = 5.0) -> bool:
        """Undo `install`, tell the sinks what waits, and stop their threads.

        Failures recorded later are still counted, but told to nobody. Closing twice is allowed.

        Args:
            timeout: Seconds that all sinks together have; None waits for ever.

        Returns:
            Whether every sink ended in time. One that did not keeps its thread, a daemon; one for
            which the system has no thread has not ended, nor has one by which this is called.

        Blocks: up to `timeout`.
        """
        deadline = None if timeout is None else self._monotonic() + timeout
        self.uninstall()
        for sink in self._ledger.close():
            sink.stop()
            sink.ensure_thread()  # all of them end at the same time
        ended = [sink.join(self._left(deadline)) for sink in self._ledger.sinks]
        return all(ended)

    def _left(self, deadline: float | None) -> float | None:
        return None if deadline is None else max(0.0, deadline - self._monotonic())

    # -- hooks ------------------------------------------------------------------------------

    def install(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Record what nobody catches: in threads, in the main thread, in finalizers, in a loop.

        Chains `threading.excepthook`, `sys.excepthook`, `sys.unraisablehook` and the exception
        handler of `loop`, by default of the running loop if there is one; what was there before is
        called as before. May be called again for further loops.
        """
        if loop is None:
            loop = _running_loop()
        with self._ledger.alone():
            self._hooks.install(self.record, loop)

    def uninstall(self) -> None:
        """Undo `install`, in whatever order others have installed theirs since."""
        with self._ledger.alone():
            self._hooks.uninstall()

    # -- ends -------------------------------------------------------------------------------

    def _deliver_at_exit(self, budget: float) -> None:
        """Wait for the sinks once, and from now on after each failure, all in one budget."""
        self._exit_by = self._monotonic() + budget
        self._ledger.tell_untold()
        self._deliver_late(told=True)

    def _deliver_late(self, told: bool) -> None:
        for sink in self._ledger.sinks:
            if sys.is_finalizing() or not sink.is_running():
                sink.tell_here()
        if told and not sys.is_finalizing():
            self.flush(self._left(self._exit_by))

    def _forget_parent(self) -> None:
        self._ledger.forget_parent()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        figures = self.statistics()
        return f"<ErrorLog {self.name}: {figures.recorded} failures in {figures.groups} groups>"


# Every log there is, for the two moments in which all of them must act. A plain dict, because its
# store, pop and copy are atomic with and without a GIL; a WeakSet may change while it is read.
_logs: dict[int, weakref.ref[ErrorLog]] = {}
_keys = itertools.count()


def _all_logs() -> Iterator[ErrorLog]:
    for reference in _logs.copy().values():
        log = reference()
        if log is not None:
            yield log


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _said_by(exc: BaseException, attribute: str) -> str | None:
    """A name the exception carries; foreign ones may carry anything, or raise when asked."""
    try:
        said = getattr(exc, attribute, None)
    except Exception:  # noqa: BLE001 - user code: a property
        return None
    return said if isinstance(said, str) else None


def _let_go(key: int, ledger: Ledger) -> None:
    _logs.pop(key, None)
    for sink in ledger.sinks:
        sink.stop()


def _deliver_at_exit() -> None:
    leave_by = REAL.monotonic() + _EXIT_BUDGET
    for log in _all_logs():
        log._deliver_at_exit(leave_by - REAL.monotonic())  # noqa: SLF001 - same module


def _forget_parent() -> None:
    for log in _all_logs():
        log._forget_parent()  # noqa: SLF001 - same module


atexit.register(_deliver_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_parent)
