"""How one sink is fed: its limit per group, its bounded queue, its thread."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import deque
from collections.abc import Callable

from threadkit._errors import Severity
from threadkit._failures._sinks import FailureEvent, Sink, SinkStatistics
from threadkit._runtime import Event, Runtime, Thread

logger = logging.getLogger("threadkit.failures")


class _Allowance:
    """What one group has used of a sink's limit."""

    __slots__ = ("since", "suppressed", "told")

    def __init__(self, now: float) -> None:
        self.since = now
        self.told = 0
        self.suppressed = 0


class Delivery:
    """A sink behind a bounded queue and a thread.

    Concurrency: methods ending in `_locked` are called under the log's lock, which guards the
    allowances and the counts of what was suppressed, dropped and accepted; `delivered` and `failed`
    are written by whoever tells the sink, one at a time. The queue is a SimpleQueue, whose put
    neither blocks nor takes a lock that a signal handler or finalizer could meet half-way; its
    bound is exact, because only holders of the log's lock put events. Who waits for something to
    become so is woken by the sink's thread when it did, and by whoever finds that there can be no
    thread: a wait ends in what is so then.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        name: str,
        min_severity: Severity,
        limit: int | None,
        per: float,
        queue_size: int,
        thread_name: str,
        runtime: Runtime,
    ) -> None:
        self.name = name
        self._sink = sink
        self._min_severity = min_severity
        self._limit = limit
        self._per = per
        self._queue_size = queue_size
        self._thread_name = thread_name
        self._runtime = runtime
        self._allowances: dict[str, _Allowance] = {}  # of remembered groups only
        self._suppressed = 0
        self._dropped = 0
        self._delivered = 0
        self._failed = 0
        self.reset()

    def reset(self) -> None:
        """An empty queue and no thread: at first, and in the child after a fork."""
        self._queue = self._runtime.simple_queue()
        self._thread: Thread | None = None
        self._ident: int | None = None
        self._is_telling = False
        self._has_ended = False
        self._accepted = 0
        self._told = 0
        # Who waits for what; its stores, pops and copy are atomic, with and without a GIL.
        self._waits: dict[Event, Callable[[], bool]] = {}
        self._late: deque[FailureEvent] = deque()
        # Whoever pops the token starts the thread. deque.pop is atomic, with and without a GIL;
        # a lock could be met again by a finalizer that runs while the thread is being started.
        self._start_token = deque([True])

    def allow_locked(self, fingerprint: str, severity: Severity, now: float) -> int | None:
        """How many were suppressed before this failure if it may be told, else None."""
        if severity < self._min_severity:
            return None
        if self._limit is None:
            return 0
        allowance = self._allowance_locked(fingerprint, now)
        if now - allowance.since >= self._per:
            allowance.since = now
            allowance.told = 0
        if allowance.told >= self._limit:
            allowance.suppressed += 1
            self._suppressed += 1
            return None
        allowance.told += 1
        suppressed, allowance.suppressed = allowance.suppressed, 0
        return suppressed

    def _allowance_locked(self, fingerprint: str, now: float) -> _Allowance:
        allowance = self._allowances.get(fingerprint)
        if allowance is None:
            allowance = self._allowances[fingerprint] = _Allowance(now)
        return allowance

    def forget_locked(self, fingerprint: str) -> int:
        """Drop a forgotten group's allowance; how many suppressed failures nobody was told of."""
        allowance = self._allowances.pop(fingerprint, None)
        return allowance.suppressed if allowance is not None else 0

    def put_locked(self, event: FailureEvent) -> None:
        if self._queue.qsize() >= self._queue_size:
            self._dropped += 1
            return
        self._accepted += 1
        if sys.is_finalizing():  # a put would hand the event to a thread that is no more
            self._late.append(event)
        else:
            self._queue.put(event)

    def untold_locked(self) -> list[tuple[str, int]]:
        """The groups with suppressed failures nobody was told of yet; they count as told now."""
        untold = [(key, entry.suppressed) for key, entry in self._allowances.items()]
        for entry in self._allowances.values():
            entry.suppressed = 0
        return [(key, suppressed) for key, suppressed in untold if suppressed]

    def ensure_thread(self) -> bool:
        """Start the thread unless somebody has; False: the OS refused, the next call tries again.

        True also where another thread is about to start it. Should that be refused, it lets go
        whoever waits.
        """
        if self._thread is not None:
            return True
        try:
            token = self._start_token.pop()
        except IndexError:
            return True
        self._thread = self._runtime.thread(self._run, name=self._thread_name, daemon=True)
        try:
            self._thread.start()
        except (RuntimeError, MemoryError):
            self._thread = None
            self._start_token.append(token)
            for wait in self._waits.copy():
                wait.set()
            return False
        return True

    def runs_here(self) -> bool:
        """Whether the caller is on this sink's thread."""
        return self._ident == self._runtime.get_ident()

    def is_running(self) -> bool:
        """Whether it has a thread."""
        return self._thread is not None and self._thread.is_alive()

    def pending_locked(self) -> Callable[[float | None], bool]:
        """A function that waits, up to a timeout, until all accepted so far was told."""
        accepted = self._accepted
        return lambda timeout: self._wait_until(lambda: self._told >= accepted, timeout)

    def _wait_until(self, is_so: Callable[[], bool], timeout: float | None) -> bool:
        """Whether it is so within `timeout`. Called by the sink itself, it does not wait."""
        done = self._runtime.event()
        self._waits[done] = is_so
        try:
            may_wait = not self.runs_here() and not is_so() and self.ensure_thread()
            if may_wait and not self._is_dead():
                done.wait(timeout)
            return is_so()
        finally:
            del self._waits[done]

    def _is_dead(self) -> bool:
        """Whether the thread is gone before its end, as a simulated one is after its run."""
        thread = self._thread
        return thread is not None and thread.ident is not None and not thread.is_alive()

    def _tell_waits(self) -> None:
        for wait, is_so in self._waits.copy().items():
            if is_so():
                wait.set()

    def tell_here(self) -> None:
        """Tell on the caller's thread what came when none but the caller's ran any more."""
        if self._is_telling or not getattr(self._sink, "takes_no_locks", False):
            return
        while self._late:
            self._tell(self._late.popleft())
        if self._thread is None:  # some releases start none while the interpreter exits
            for _ in range(self._queue.qsize()):
                item = self._queue.get_nowait()
                if isinstance(item, FailureEvent):
                    self._tell(item)

    def stop(self) -> None:
        """Let the thread end once all that was put before has been delivered."""
        self._queue.put(None)

    def join(self, timeout: float | None) -> bool:
        """Wait until the thread has ended after `stop`; whether it has."""
        if not self._wait_until(lambda: self._has_ended, timeout):
            return False
        if self._thread is not None:
            self._thread.join(timeout)  # all but over
        return True

    def statistics_locked(self) -> SinkStatistics:
        return SinkStatistics(
            name=self.name,
            delivered=self._delivered,
            failed=self._failed,
            suppressed=self._suppressed,
            dropped=self._dropped,
            waiting=self._queue.qsize() + len(self._late),
        )

    def _run(self) -> None:
        self._ident = self._runtime.get_ident()
        get = self._queue.get
        while True:
            event: FailureEvent | None = get()
            if event is None:
                break
            self._tell(event)
            del event  # an idle thread keeps no failure alive
        self._close_sink()
        self._has_ended = True
        self._tell_waits()

    def _tell(self, event: FailureEvent) -> None:
        self._is_telling = True
        try:
            self._sink(event)
        except BaseException:  # noqa: BLE001 - counted, and told once
            self._failed += 1
            if self._failed == 1:
                self._complain(logging.WARNING, "sink %s raised; its failures are counted")
        else:
            self._delivered += 1
        finally:
            self._is_telling = False
            self._told += 1
            if self._waits:
                self._tell_waits()

    def _close_sink(self) -> None:
        close = getattr(self._sink, "close", None)
        if callable(close):
            try:
                close()
            except BaseException:  # noqa: BLE001 - SystemExit too: who waits for the end is told
                self._complain(logging.ERROR, "sink %s raised in close()")

    def _complain(self, level: int, text: str) -> None:
        """Log what the sink raised; the handlers are user code too, and may not end its thread."""
        with contextlib.suppress(Exception):
            logger.log(level, text, self.name, exc_info=True)
