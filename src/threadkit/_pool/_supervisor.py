"""The supervisor: one thread per pool for deadlines and for the sizing policy.

It is started when there is first something to do, and sleeps until something is due: a task's
deadline, a submit that found no worker, the next look of the policy. The policy looks while there
is something to observe (more workers than the minimum, or a backlog), so a pool at rest wakes
nobody.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from threadkit._futures import GIL, Future
from threadkit._runtime import Thread
from threadkit.sizing import Decision, PoolSnapshot

if TYPE_CHECKING:
    from threadkit._pool._crew import Crew

logger = logging.getLogger("threadkit.pool")

ASK_AGAIN = 0.001  # s between two looks that submits ask for


class Supervisor:
    """Deadlines and policy of one crew."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._clock = crew.runtime.monotonic
        self.thread: Thread | None = None
        # Parks the thread. Locked, but for the instant between wake() and the thread's waking;
        # only who took the token out of `_armed` may release it. (No event: a signal handler may
        # submit while the main thread is inside wake().)
        self._sleeper = crew.runtime.lock()
        self._sleeper.acquire()
        self._armed: deque[None] = deque()
        self._asked = False  # a submit found no parked worker since the last look
        self._look_at: float | None = None  # when the policy wants to look again
        self._looked_at = self._clock()
        # Guards the deadlines; held for one heap operation. Nothing is locked inside it.
        self._lock = crew.runtime.rlock()
        self._deadlines: list[tuple[float, int, Any, Callable[[Future[Any]], None]]] = []
        self._sequence = itertools.count()

    # -- called from anywhere ---------------------------------------------------------------

    def ask(self) -> None:
        """Have the policy look soon."""
        self._asked = True
        self._ensure_started()
        self.wake()

    def schedule(
        self, delay: float, future: Future[Any], action: Callable[[Future[Any]], None]
    ) -> None:
        """Call `action(future)` in `delay` seconds, if the future is still there by then."""
        entry = (self._clock() + delay, next(self._sequence), weakref.ref(future), action)
        with self._lock:
            heapq.heappush(self._deadlines, entry)
            first = self._deadlines[0] is entry
        self._ensure_started()
        if first:
            self.wake()

    def wake(self) -> None:
        """Make the thread look at what is due. Takes no lock anybody waits for."""
        try:
            self._armed.pop()
        except IndexError:
            return  # it is awake, and will look before it sleeps
        self._sleeper.release()

    def _ensure_started(self) -> None:
        with self._lock:
            if self.thread is not None:
                return
            thread = self._crew.runtime.thread(
                self._run, name=f"{self._crew.name}-supervisor", daemon=True
            )
            self.thread = thread
        try:
            thread.start()
        except RuntimeError:  # the system refuses; the next one who asks tries again
            self.thread = None

    # -- its own thread ---------------------------------------------------------------------

    def _run(self) -> None:
        crew = self._crew
        while not (crew.closing and not crew.workers):
            self._armed.append(None)
            self._sleep(self._delay())
            try:
                self._fire()
                self._look_if_due()
            except Exception:
                logger.exception("%s: the supervisor goes on after an error", crew.name)

    def _delay(self) -> float | None:
        """Seconds until something is due; None when nothing is."""
        now = self._clock()
        due: list[float] = []
        with self._lock:
            if self._deadlines:
                due.append(self._deadlines[0][0])
        if self._asked:
            due.append(self._looked_at + ASK_AGAIN)
        if self._look_at is not None:
            due.append(self._look_at)
        return max(0.0, min(due) - now) if due else None

    def _sleep(self, delay: float | None) -> None:
        if delay is None:
            self._sleeper.acquire()
            return
        if not self._sleeper.acquire(True, delay):
            try:
                self._armed.pop()
            except IndexError:  # a waker took the token just now: its release is due
                self._sleeper.acquire()

    def _fire(self) -> None:
        now = self._clock()
        while True:
            with self._lock:
                if not self._deadlines or self._deadlines[0][0] > now:
                    return
                _, _, ref, action = heapq.heappop(self._deadlines)
            future = ref()
            if future is not None and not future.done():
                action(future)

    def _look_if_due(self) -> None:
        now = self._clock()
        asked = self._asked and now >= self._looked_at + ASK_AGAIN
        timed = self._look_at is not None and now >= self._look_at
        if asked or timed:
            self.look(now)

    def look(self, now: float) -> Decision:
        """Ask the policy, and do what it says."""
        crew = self._crew
        self._asked = False
        decision = crew.settings.policy.decide(self.snapshot(now))
        self._looked_at = now
        crew.want(decision.size, decision.reason)
        crew.rearm()
        busy = len(crew.workers) > crew.min_workers or len(crew.backlog) > 0
        pause = min(decision.recheck or crew.settings.check_interval, crew.settings.check_interval)
        self._look_at = now + pause if busy else None
        return decision

    def snapshot(self, now: float) -> PoolSnapshot:
        """The pool as the policy sees it."""
        crew = self._crew
        workers = len(crew.workers)
        parked = [now - worker.since for worker in crew.parked.copy()]
        return PoolSnapshot(
            now=now,
            interval=now - self._looked_at,
            min_workers=crew.min_workers,
            max_workers=crew.max_workers,
            workers=workers,
            busy=max(0, workers - len(parked)),
            queued=len(crew.backlog),
            idle_ages=tuple(parked),
            gil=GIL,
        )
