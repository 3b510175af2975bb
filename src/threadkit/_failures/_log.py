"""ErrorLog: the one place all failures of a program come to."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import secrets
import sys
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from typing_extensions import Self

from threadkit._errors import Severity
from threadkit._failures._delivery import Delivery
from threadkit._failures._failure import Failure
from threadkit._failures._grading import Verdict, classify
from threadkit._failures._groups import RATE_WINDOW, FailureGroup, Group, Story, message_of
from threadkit._failures._hooks import Hooks
from threadkit._failures._sinks import FailureEvent, Sink, SinkStatistics
from threadkit._runtime import REAL, Runtime

_EXIT_BUDGET = 2.0  # seconds the sinks may hold up the interpreter's exit, all in all


@dataclass(frozen=True)
class ErrorLogStatistics:
    """Figures of an ErrorLog.

    Attributes:
        recorded: Failures counted in groups.
        by_severity: The same by grade.
        repeats: Failures that were not counted again, because another part of the program had
            recorded the same exception object before.
        groups: Groups remembered.
        evicted: Groups forgotten to make room for newer ones.
        unrecorded: Failures that could not be recorded because recording itself failed.
        untold: Failures raised by a sink's own thread: counted in groups, told to no sink.
        sinks: Figures of each sink.
    """

    recorded: int
    by_severity: Mapping[Severity, int]
    repeats: int
    groups: int
    evicted: int
    unrecorded: int
    untold: int
    sinks: tuple[SinkStatistics, ...]


@dataclass(frozen=True)
class _Entry:
    """A failure on its way into its group, with all that needed user code to be worked out."""

    failure: Failure
    fingerprint: str
    verdict: Verdict
    message: str
    story: Story | None
    told: bool
    now: float


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

    Thread safety: every method may be called from any thread, from a finalizer, and while a
    failure is being recorded. One re-entrant lock guards the groups; it is held for bookkeeping,
    never across user code: messages, tracebacks and verdicts are worked out before it is taken,
    sinks run on threads of their own.

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
        self._max_groups = max_groups
        self._runtime = runtime
        self._monotonic = runtime.monotonic
        self._get_ident = runtime.get_ident
        # Marks an exception that this log has seen; random, so that a pickled mark means nothing
        # to the log of another process.
        self._mark = f"_threadkit_recorded_{secrets.token_hex(4)}"
        self._marks = itertools.count()
        self._hooks = Hooks()
        self._sinks: list[Delivery] = []
        self._exit_by: float | None = None
        self._closed = False
        # Failures enter by this door, whose append and popleft are atomic with and without a GIL,
        # so that one raised by a finalizer while its thread is in the middle of the groups waits
        # until that thread leaves them.
        self._inbox: deque[_Entry] = deque()
        self._create_lock()
        self._groups: OrderedDict[str, Group] = OrderedDict()
        self._recorded: dict[Severity, int] = dict.fromkeys(Severity, 0)
        self._repeats = 0
        self._evicted = 0
        self._unrecorded = 0
        self._untold = 0
        self._finalizer = weakref.finalize(self, _stop_all, self._sinks)
        self._finalizer.atexit = False  # _deliver_at_exit does better
        _logs.add(self)

    def _create_lock(self) -> None:
        # Guards everything below it in the constructor, and the sinks' allowances and counts. Held
        # for bookkeeping, O(sinks); never across user code, logging, joins or starting a thread.
        # Re-entrant, because a finalizer may come in anywhere; _owner, the thread that is emptying
        # the inbox, keeps it out of half-done bookkeeping.
        self._lock = self._runtime.rlock()
        self._owner: int | None = None

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
                component=component or getattr(exc, "component", None),
                task=task or getattr(exc, "task", None),
                at=self._runtime.time(),
            )
        else:
            raise TypeError(f"exc must be an exception or a Failure, not {exc!r}")
        try:
            return self._record(failure, over=failure is exc)
        except Exception:  # noqa: BLE001 - e.g. RecursionError, MemoryError: nobody to tell
            self._count_unrecorded()
            return type(failure.exception).__qualname__

    def _record(self, failure: Failure, *, over: bool) -> str:
        fingerprint = failure.fingerprint
        if not self._first_time(failure.exception):
            with self._lock:
                self._repeats += 1
            return fingerprint
        # A racy look: at worst two threads write the story, or the group is evicted meanwhile
        # and goes without one until its next failure.
        group = self._groups.get(fingerprint)
        story = Story(failure) if group is None or group.story is None else None
        message = message_of(failure) if story is not None else ""
        if over:
            failure.clear_frames()
        told = not any(sink.runs_here() for sink in self._sinks)
        self._inbox.append(
            _Entry(
                failure,
                fingerprint,
                classify(failure.exception),
                message,
                story,
                told,
                self._monotonic(),
            )
        )
        self._empty_inbox()
        self._after_recording(told)
        return fingerprint

    def _first_time(self, exc: BaseException) -> bool:
        """Whether this log meets the exception for the first time; it does only once."""
        mark = next(self._marks)
        return bool(exc.__dict__.setdefault(self._mark, mark) == mark)

    def _empty_inbox(self) -> None:
        """Bring what waits into the groups, unless this thread is at it further up its stack."""
        me = self._get_ident()
        while self._inbox and self._owner != me:
            with self._lock:
                self._owner = me
                try:
                    while self._inbox:
                        self._add_locked(self._inbox.popleft())
                except IndexError:
                    pass  # a fork's child had its inbox emptied meanwhile
                finally:
                    self._owner = None

    def _add_locked(self, entry: _Entry) -> None:
        severity = entry.verdict.severity
        group = self._group_locked(entry)
        group.add(entry.failure, severity, entry.now)
        self._recorded[severity] += 1
        if not entry.told:
            self._untold += 1
            return
        snapshot: FailureGroup | None = None
        for sink in self._sinks:
            suppressed = sink.allow_locked(entry.fingerprint, severity, entry.now)
            if suppressed is not None:
                snapshot = snapshot or group.snapshot()
                sink.put_locked(FailureEvent(entry.failure, snapshot, severity, suppressed))

    def _group_locked(self, entry: _Entry) -> Group:
        group = self._groups.get(entry.fingerprint)
        if group is None:
            group = Group(entry.failure, entry.fingerprint, entry.now)
            group.retry = entry.verdict.retry
            self._groups[entry.fingerprint] = group
            if len(self._groups) > self._max_groups:
                self._groups.popitem(last=False)
                self._evicted += 1
        else:
            self._groups.move_to_end(entry.fingerprint)
        if group.story is None and entry.story is not None:
            group.story = entry.story
            group.message = entry.message
        return group

    def _after_recording(self, told: bool) -> None:
        for sink in self._sinks:
            sink.ensure_thread()
        if self._exit_by is not None and told and not sys.is_finalizing():
            self.flush(max(0.0, self._exit_by - self._monotonic()))

    def _count_unrecorded(self) -> None:
        with self._lock:
            self._unrecorded += 1

    # -- asking -----------------------------------------------------------------------------

    def groups(
        self,
        top: int | None = None,
        by: Literal["count", "last_seen", "first_seen", "severity", "rate"] = "count",
    ) -> list[FailureGroup]:
        """The groups, the one with the most first.

        Args:
            top: How many at most; by default all.
            by: What is most: failures, the latest sighting, the latest first sighting, the worst
                grade, or failures in the last minute.

        Raises:
            ValueError: `by` is none of these, or `top` is negative.
        """
        now = self._monotonic()
        keys: dict[str, Callable[[Group], tuple[float, ...]]] = {
            "count": lambda group: (group.count,),
            "last_seen": lambda group: (group.last_seen,),
            "first_seen": lambda group: (group.first_seen,),
            "severity": lambda group: (group.severity, group.count),
            "rate": lambda group: (group.within(60.0, now),),
        }
        if by not in keys:
            raise ValueError(f"by must be one of {', '.join(keys)}, not {by!r}")
        if top is not None and top < 0:
            raise ValueError(f"top must not be negative, it is {top!r}")
        self._empty_inbox()
        with self._lock:
            chosen = sorted(self._groups.values(), key=keys[by], reverse=True)[:top]
            return [group.snapshot() for group in chosen]

    def rate(self, fingerprint: str, window: float = 60.0) -> float:
        """Failures of a group per second, over the last `window` seconds (to within 5 s).

        Zero for a group that is not known.

        Raises:
            ValueError: `window` is not positive, or longer than the 600 s remembered.
        """
        if not 0 < window <= RATE_WINDOW:
            raise ValueError(f"window must be above 0 and at most {RATE_WINDOW:g}, not {window!r}")
        with self._lock:
            group = self._groups.get(fingerprint)
            return group.within(window, self._monotonic()) / window if group is not None else 0.0

    def is_spiking(self, fingerprint: str) -> bool:
        """Whether a group fails far more often now than it did before.

        That is: at least ten times in the last 30 s, and more than twice what the ten minutes
        before led to expect, plus three standard deviations. A new group may spike at once.
        """
        with self._lock:
            group = self._groups.get(fingerprint)
            return group is not None and group.is_spiking(self._monotonic())

    def statistics(self) -> ErrorLogStatistics:
        """What was counted so far."""
        self._empty_inbox()
        with self._lock:
            return ErrorLogStatistics(
                recorded=sum(self._recorded.values()),
                by_severity=dict(self._recorded),
                repeats=self._repeats,
                groups=len(self._groups),
                evicted=self._evicted,
                unrecorded=self._unrecorded,
                untold=self._untold,
                sinks=tuple(sink.statistics_locked() for sink in self._sinks),
            )

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
        end, on the same thread.

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
        if per <= 0:
            raise ValueError(f"per must be positive, not {per!r}")
        name = name or str(getattr(sink, "__name__", type(sink).__name__))
        delivery = Delivery(
            sink,
            name=name,
            min_severity=min_severity,
            limit=limit,
            per=per,
            queue_size=queue_size,
            max_groups=self._max_groups,
            thread_name=f"{self.name}-sink-{name}",
            runtime=self._runtime,
        )
        with self._lock:
            if self._closed:
                raise RuntimeError(f"{self.name} is closed: no sink can be added")
            self._sinks.append(delivery)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every sink was told all that was recorded before; whether they were in time.

        Blocks: up to `timeout` seconds; called by a sink, it does not wait for that sink.
        """
        deadline = None if timeout is None else self._monotonic() + timeout
        self._empty_inbox()
        markers = [sink.mark() for sink in list(self._sinks) if sink.is_running_elsewhere()]
        return all(marker.wait(self._left(deadline)) for marker in markers)

    def close(self, timeout: float | None = 5.0) -> bool:
        """Undo `install`, tell the sinks what waits, and stop their threads.

        Failures recorded later are still counted, but told to nobody. Closing twice is allowed.

        Args:
            timeout: Seconds that all sinks together have; None waits for ever.

        Returns:
            Whether every sink ended in time. One that did not keeps its thread, a daemon.

        Blocks: up to `timeout`.
        """
        deadline = None if timeout is None else self._monotonic() + timeout
        self.uninstall()
        self._empty_inbox()
        with self._lock:
            already, self._closed = self._closed, True
            if not already:
                self._tell_untold_locked()
        for sink in [] if already else list(self._sinks):
            sink.ensure_thread()
            sink.stop()
        return all(sink.join(self._left(deadline)) for sink in self._sinks)

    def _tell_untold_locked(self) -> None:
        """Give each sink its closing reports."""
        for sink in self._sinks:
            for fingerprint, suppressed in sink.untold_locked():
                group = self._groups.get(fingerprint)
                if group is not None:
                    event = FailureEvent(None, group.snapshot(), group.severity, suppressed)
                    sink.put_locked(event)

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
        with self._lock:
            self._hooks.install(self.record, loop)

    def uninstall(self) -> None:
        """Undo `install`, in whatever order others have installed theirs since."""
        with self._lock:
            self._hooks.uninstall()

    # -- ends -------------------------------------------------------------------------------

    def _deliver_at_exit(self, deadline: float) -> None:
        with self._lock:
            if not self._closed:
                self._tell_untold_locked()
        self._exit_by = deadline
        self.flush(max(0.0, deadline - self._monotonic()))

    def _forget_parent(self) -> None:
        """In the child of a fork: its lock may have been held, its sinks' threads are gone."""
        self._create_lock()
        self._inbox.clear()
        for sink in self._sinks:
            sink.reset()

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
        recorded = sum(self._recorded.values())
        return f"<ErrorLog {self.name}: {recorded} failures in {len(self._groups)} groups>"


_logs: weakref.WeakSet[ErrorLog] = weakref.WeakSet()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _stop_all(sinks: Iterable[Delivery]) -> None:
    for sink in sinks:
        sink.stop()


def _deliver_at_exit() -> None:
    for log in list(_logs):
        log._deliver_at_exit(log._monotonic() + _EXIT_BUDGET)  # noqa: SLF001 - same module


def _forget_parent() -> None:
    for log in list(_logs):
        log._forget_parent()  # noqa: SLF001 - same module


atexit.register(_deliver_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_parent)
