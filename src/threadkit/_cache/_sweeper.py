"""One daemon thread that drops what expired in every cache of the process.

It is never needed for correctness (a read notices what expired), only so that a cache nobody reads
gives its memory back. It holds weak references, sleeps until the next cache is due, and works in
slices, so that a large cache does not keep the others waiting.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import queue
import weakref
from collections.abc import Callable

from threadkit._runtime import REAL, Runtime, SimpleQueue, Thread

__all__ = ["Sweeper", "forget_after_fork", "sweeper_of"]

LONGEST_WAIT = 86_400.0  # seconds; a lock refuses to wait for a deadline in the year 30,000
RETRY = 60.0  # seconds until work that raised is tried again

_log = logging.getLogger("threadkit.cache")


Work = Callable[[], "float | None"]
"""A bound method. It does one slice and returns the seconds until it wants to be called again."""


class Sweeper:
    """A thread that calls methods of caches when they are due, and keeps no cache alive.

    Thread safety: `schedule` may be called from anywhere, a finalizer included: it only puts into
    a queue whose `put` is re-entrant.

    Lifetime: the thread starts with the first `schedule` and lives as long as the process.
    """

    def __init__(self, runtime: Runtime, name: str) -> None:
        self._runtime = runtime
        self._name = name
        self.forget()

    def forget(self) -> None:
        """Begin anew, without a thread: the state of a process that has just forked."""
        self._inbox = self._runtime.simple_queue()
        self._thread: Thread | None = None

    def schedule(self, work: Work, delay: float) -> bool:
        """Have `work` called in `delay` seconds. False if no thread can be started now."""
        if delay == math.inf:
            return True
        self._inbox.put((self._runtime.monotonic() + delay, weakref.WeakMethod(work)))
        if self._thread is None:
            # Two first callers at once start two threads, which then share the inbox: harmless.
            thread = self._runtime.thread(
                _run, name=self._name, args=(self._inbox, self._runtime.monotonic), daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        return True


def _run(inbox: SimpleQueue, clock: Callable[[], float]) -> None:
    order = itertools.count()
    due: list[tuple[float, int, weakref.WeakMethod[Work]]] = []
    while True:
        try:
            at, work = inbox.get(timeout=_wait(due[0][0] - clock()) if due else None)
            heapq.heappush(due, (at, next(order), work))
        except queue.Empty:
            if due[0][0] > clock():
                continue  # it is due after the longest wait
            _, _, work = heapq.heappop(due)
            delay = _do(work)
            if delay < math.inf:
                heapq.heappush(due, (clock() + delay, next(order), work))


def _wait(delay: float) -> float:
    return min(max(0.0, delay), LONGEST_WAIT)


def _do(work: weakref.WeakMethod[Work]) -> float:
    """One slice for a cache that may be gone. In a function, so that no frame keeps the cache.

    A slice runs code of users: clocks, hashes of keys, listeners. Whatever that raises, the other
    caches still want the thread.
    """
    method = work()
    if method is None:
        return math.inf
    try:
        delay = method()
    except BaseException:  # noqa: BLE001 - logged; a listener may raise SystemExit
        _log.exception("sweeping a cache failed; trying again in %g s", RETRY)
        return RETRY
    return math.inf if delay is None else delay


_shared = Sweeper(REAL, "threadkit-shared-sweeper")


def sweeper_of(runtime: Runtime) -> Sweeper:
    """The process's sweeper; a simulated run has sweepers of its own."""
    return _shared if runtime is REAL else Sweeper(runtime, "threadkit-shared-sweeper")


def forget_after_fork() -> None:
    """The process's sweeper is a thread of the parent."""
    _shared.forget()
