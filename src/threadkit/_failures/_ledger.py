"""The bookkeeping of an ErrorLog: groups, counts and what each sink is due, behind one lock."""

from __future__ import annotations

import contextlib
import enum
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from threadkit._errors import Severity
from threadkit._failures._delivery import Delivery
from threadkit._failures._failure import Failure
from threadkit._failures._grading import Verdict
from threadkit._failures._groups import FailureGroup, Group, Story
from threadkit._failures._sinks import FailureEvent, SinkStatistics
from threadkit._runtime import Runtime


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


class Entry:
    """A failure on its way into its group, with all that needed user code worked out."""

    __slots__ = ("failure", "fingerprint", "now", "story", "told", "verdict")

    def __init__(
        self,
        failure: Failure,
        fingerprint: str,
        verdict: Verdict,
        story: Story | None,
        *,
        told: bool,
        now: float,
    ) -> None:
        self.failure = failure
        self.fingerprint = fingerprint
        self.verdict = verdict
        self.story = story
        self.told = told
        self.now = now


class Tally(enum.Enum):
    """A failure that is only counted."""

    REPEAT = enum.auto()
    UNRECORDED = enum.auto()


class Ledger:
    """Groups by fingerprint, the one that was quiet longest first, and the sinks.

    Failures enter through the inbox, whose append and popleft are atomic with and without a GIL,
    and whoever has put one in empties it under the lock. A finalizer or signal handler that comes
    in while its own thread is in the middle of the books only adds to the inbox, which that thread
    empties when it leaves. So nothing changes half-done books, and nothing waits for itself.
    """

    def __init__(self, *, max_groups: int, runtime: Runtime) -> None:
        self._max_groups = max_groups
        self._runtime = runtime
        self._get_ident = runtime.get_ident
        self._inbox: deque[Entry | Tally] = deque()
        self._create_lock()
        self._groups: OrderedDict[str, Group] = OrderedDict()
        self.sinks: tuple[Delivery, ...] = ()  # replaced, never changed: read without the lock
        self.closed = False
        self._recorded: dict[Severity, int] = dict.fromkeys(Severity, 0)
        self._tallies: dict[Tally, int] = dict.fromkeys(Tally, 0)
        self._evicted = 0
        self._untold = 0

    def _create_lock(self) -> None:
        # Guards everything below it in the constructor, and the sinks' allowances and counts. Held
        # for bookkeeping, O(sinks); never across user code, logging, joins or starting a thread.
        # Re-entrant, because a finalizer may ask for it anywhere.
        self.lock = self._runtime.rlock()
        self._owner: int | None = None  # the thread that is in the middle of the books

    @contextlib.contextmanager
    def alone(self) -> Generator[None]:
        """Hold the lock, and let failures of this very thread wait in the inbox meanwhile."""
        with self.lock:
            outer, self._owner = self._owner, self._get_ident()
            try:
                yield
            finally:
                self._owner = outer
        self._empty_inbox()

    # -- recording --------------------------------------------------------------------------

    def enter(self, entry: Entry | Tally) -> None:
        """Count a failure and queue it for the sinks that are due to hear of it."""
        self._inbox.append(entry)
        self._empty_inbox()

    def lacks_story(self, fingerprint: str) -> bool:
        """Whether the group has nothing to print yet.

        A racy look: at worst two threads write the story, or the group is evicted meanwhile and
        goes without one until its next failure.
        """
        group = self._groups.get(fingerprint)
        return group is None or group.story is None

    def _empty_inbox(self) -> None:
        me = self._get_ident()
        while self._inbox and self._owner != me:
            # While the interpreter is torn down, whoever holds the lock will never let go.
            if not self.lock.acquire(not sys.is_finalizing()):
                return
            self._owner = me
            try:
                while self._inbox:
                    self._add_locked(self._inbox.popleft())
            finally:
                self._owner = None
                self.lock.release()

    def _add_locked(self, entry: Entry | Tally) -> None:
        if isinstance(entry, Tally):
            self._tallies[entry] += 1
            return
        severity = entry.verdict.severity
        group = self._group_locked(entry)
        group.add(entry.failure, severity, entry.now)
        self._recorded[severity] += 1
        if not entry.told:
            self._untold += 1
        elif not self.closed:
            self._queue_locked(entry, group)

    def _queue_locked(self, entry: Entry, group: Group) -> None:
        severity = entry.verdict.severity
        snapshot: FailureGroup | None = None
        for sink in self.sinks:
            suppressed = sink.allow_locked(entry.fingerprint, severity, entry.now)
            if suppressed is not None:
                snapshot = snapshot or group.snapshot()
                sink.put_locked(FailureEvent(entry.failure, snapshot, severity, suppressed))

    def _group_locked(self, entry: Entry) -> Group:
        group = self._groups.get(entry.fingerprint)
        if group is None:
            group = Group(entry.failure, entry.fingerprint, entry.verdict.retry, entry.now)
            self._groups[entry.fingerprint] = group
            if len(self._groups) > self._max_groups:
                self._evict_locked()
        else:
            self._groups.move_to_end(entry.fingerprint)
        group.story = group.story or entry.story
        return group

    def _evict_locked(self) -> None:
        """Forget the group that was quiet longest; sinks hear of what was suppressed of it."""
        fingerprint, group = self._groups.popitem(last=False)
        self._evicted += 1
        for sink in self.sinks:
            suppressed = sink.forget_locked(fingerprint)
            if suppressed and not self.closed:
                snapshot = group.snapshot()
                sink.put_locked(FailureEvent(None, snapshot, snapshot.severity, suppressed))

    # -- asking -----------------------------------------------------------------------------

    def groups(self, top: int | None, key: Callable[[Group], Any]) -> list[FailureGroup]:
        with self.alone():
            chosen = sorted(self._groups.values(), key=key, reverse=True)[:top]
            return [group.snapshot() for group in chosen]

    def within(self, fingerprint: str, window: float, now: float) -> int:
        """How many failures of a group the last `window` seconds hold; none of an unknown one."""
        with self.alone():
            group = self._groups.get(fingerprint)
            return group.within(window, now) if group is not None else 0

    def is_spiking(self, fingerprint: str, now: float) -> bool:
        with self.alone():
            group = self._groups.get(fingerprint)
            return group is not None and group.is_spiking(now)

    def statistics(self) -> ErrorLogStatistics:
        with self.alone():
            return ErrorLogStatistics(
                recorded=sum(self._recorded.values()),
                by_severity=dict(self._recorded),
                repeats=self._tallies[Tally.REPEAT],
                groups=len(self._groups),
                evicted=self._evicted,
                unrecorded=self._tallies[Tally.UNRECORDED],
                untold=self._untold,
                sinks=tuple(sink.statistics_locked() for sink in self.sinks),
            )

    # -- sinks ------------------------------------------------------------------------------

    def add_sink(self, sink: Delivery) -> bool:
        """Feed a sink from now on, unless the ledger is closed."""
        with self.alone():
            if not self.closed:
                self.sinks = (*self.sinks, sink)
            return not self.closed

    def close(self) -> Iterable[Delivery]:
        """Queue nothing more; the sinks that are to be stopped, none when closed before."""
        with self.alone():
            if self.closed:
                return ()
            self.closed = True
            self._tell_untold_locked()
            return self.sinks

    def pending(self) -> list[Callable[[float | None], bool]]:
        """For each sink but the caller's own: waits until all that was recorded before was told.

        Under the lock, because another thread may have taken a failure of the caller's out of the
        inbox, and be about to hand it to the sinks.
        """
        with self.alone():
            return [sink.pending_locked() for sink in self.sinks if not sink.runs_here()]

    def tell_untold(self) -> None:
        """Queue a closing report for each sink and group with failures suppressed last."""
        with self.alone():
            self._tell_untold_locked()

    def _tell_untold_locked(self) -> None:
        for sink in self.sinks:
            for fingerprint, suppressed in sink.untold_locked():
                group = self._groups.get(fingerprint)
                if group is not None:
                    snapshot = group.snapshot()
                    sink.put_locked(FailureEvent(None, snapshot, snapshot.severity, suppressed))

    def forget_parent(self) -> None:
        """In the child of a fork: the lock may have been held, the sinks' threads are gone."""
        self._create_lock()
        self._inbox.clear()
        for sink in self.sinks:
            sink.reset()
