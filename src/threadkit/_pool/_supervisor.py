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
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from threadkit._futures import GIL, Future
from threadkit._pool._births import Birth
from threadkit._pool._settings import check_seconds
from threadkit._runtime import Lock, Thread
from threadkit.sizing import Decision, PoolSnapshot

if TYPE_CHECKING:
    from threadkit._pool._crew import Crew

logger = logging.getLogger("threadkit.pool")

PURGE_AT = 64  # deadlines kept before the first look for those nobody needs any more
ASK_AGAIN = 0.001  # s between two looks that submits ask for, at least
ASK_AGAIN_MAX = 0.016  # s; what that grows to while looking changes nothing. Arbitrary


class Supervisor:
    """Deadlines and policy of one crew."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._clock = crew.runtime.monotonic
        # Guards the starting of the thread, and is held across it: whoever joins the thread has
        # to know whether there is one.
        self._start_lock = crew.runtime.rlock()
        self._thread: Thread | None = None
        # Parks the thread. Locked, but for the instant between wake() and the thread's waking;
        # only who took the token out of `_armed` may release it. (No event: a signal handler may
        # submit while the main thread is inside wake().)
        self._sleeper = crew.runtime.lock()
        self._sleeper.acquire()
        self._armed: deque[Lock] = deque()
        # Takes the token and releases in one call in C, which no signal can interrupt.
        self._rouse = map(methodcaller("release"), iter(self._armed.pop, None)).__next__
        self._asked = False  # a submit found no parked worker since the last look
        self._look_at: float | None = None  # when the policy wants to look again
        self._looked_at = self._clock()
        self._pause = ASK_AGAIN  # s from a look to the next one that submits ask for
        self._sums = crew.ledger.sums(crew.backlog.__len__)  # as of the last look
        self._process_clock = crew.runtime.process_time
        self._process_time = self._process_clock()
        self._policy_failed = False
        # Serialises looks: a policy keeps state. Held across the policy's decide(), which is user
        # code; nothing but another look waits for it, and it is taken before every other lock. A
        # look from inside decide(), or a signal handler or finalizer in the middle of it, is none.
        self._policy_lock = crew.runtime.rlock()
        self._looking = False
        # Guards the deadlines; held for one heap operation, or a purge. Nothing is locked inside.
        self._lock = crew.runtime.rlock()
        self._deadlines: list[tuple[float, int, Any, Callable[[Future[Any]], None]]] = []
        self._sequence = itertools.count()
        self._purge_at = PURGE_AT

    # -- called from anywhere ---------------------------------------------------------------

    def ask(self) -> bool:
        """Have the policy look soon; false when the system refuses the thread for it."""
        self._asked = True
        self.wake()
        return self._ensure_started()

    def look_later(self) -> None:
        """Have the policy look within a check interval."""
        if self._look_at is None:
            self._look_at = self._clock() + self._crew.settings.check_interval
            self.wake()
            self._ensure_started()

    def join(self, timeout: float | None) -> None:
        """Wait for the thread to end, once the crew has left."""
        with self._start_lock:
            thread = self._thread
        if thread is not None and thread.ident != self._crew.runtime.get_ident():
            thread.join(timeout)

    def schedule(
        self, delay: float, future: Future[Any], action: Callable[[Future[Any]], None]
    ) -> None:
        """Call `action(future)` in `delay` seconds, if the future is still there by then."""
        entry = (self._clock() + delay, next(self._sequence), weakref.ref(future), action)
        if len(self._deadlines) >= self._purge_at:
            self._purge()
        with self._lock:
            heapq.heappush(self._deadlines, entry)
            first = self._deadlines[0] is entry
        self._ensure_started()
        if first:
            self.wake()

    def _purge(self) -> None:
        """Forget the deadlines of tasks that have ended.

        Done when there are twice as many as the last time left: O(1) for each deadline.
        """
        with self._lock:
            # A finalizer may schedule in the middle of this: its entry goes into the new list.
            entries, self._deadlines = self._deadlines, []
            futures = [entry[2]() for entry in entries]  # none is to be collected inside the lock
            self._deadlines += [
                entry
                for entry, future in zip(entries, futures, strict=True)
                if future is not None and not future.done()
            ]
            heapq.heapify(self._deadlines)
            self._purge_at = max(PURGE_AT, 2 * len(self._deadlines))

    def wake(self) -> None:
        """Make the thread look at what is due. Takes no lock anybody waits for."""
        with suppress(IndexError):  # it is awake, and will look before it sleeps
            self._rouse()

    def _ensure_started(self) -> bool:
        if self._thread is not None:
            return True
        with self._start_lock:
            return self._thread is not None or self._start()

    def _start(self) -> bool:
        """Start the thread; false when the system refuses it: who comes next tries again."""
        name, birth = f"{self._crew.name}-supervisor", Birth()
        thread = self._crew.runtime.thread(self._run, name=name, args=(birth,), daemon=True)
        try:
            thread.start()
            self._thread = thread
        except BaseException as exc:
            if not birth.claim():  # it lives: what was raised is a signal handler's, as Ctrl-C
                self._thread = thread
            elif isinstance(exc, RuntimeError):
                return False
            raise
        return True

    # -- its own thread ---------------------------------------------------------------------

    def _run(self, birth: Birth) -> None:
        crew = self._crew
        if not birth.claim():
            return
        while True:
            self._armed.append(self._sleeper)  # from here on no wake() is lost: look only now
            if crew.closing and not crew.roster.workers:
                return
            self._sleep(self._delay())
            try:
                self._fire()
                self._look_if_due()
            except (Exception, SystemExit, KeyboardInterrupt):  # of a policy or a subscriber
                logger.exception("%s: the supervisor goes on after an error", crew.name)

    def _delay(self) -> float | None:
        """Seconds until something is due; None when nothing is."""
        now = self._clock()
        due: list[float] = []
        with self._lock:
            if self._deadlines:
                due.append(self._deadlines[0][0])
        if self._asked:
            due.append(self._looked_at + self._pause)
        if self._look_at is not None:
            due.append(self._look_at)
        return max(0.0, min(due) - now) if due else None

    def _sleep(self, delay: float | None) -> None:
        if delay is None:
            self._sleeper.acquire()
            return
        if not self._sleeper.acquire(True, min(delay, threading.TIMEOUT_MAX)):
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
                self._act(action, future)

    def _act(self, action: Callable[[Future[Any]], None], future: Future[Any]) -> None:
        """Call it. The SystemExit of a done-callback must not end the supervisor."""
        try:
            action(future)
        except BaseException as exc:
            logger.critical(
                "%s: the deadline of %r ended with %r", self._crew.name, future, exc, exc_info=exc
            )

    def _look_if_due(self) -> None:
        now = self._clock()
        asked = self._asked and now >= self._looked_at + self._pause
        timed = self._look_at is not None and now >= self._look_at
        if asked or timed:
            self.look()

    def look(self, queued: int | None = None) -> None:
        """Ask the policy, and do what it says. `queued` stands in for the backlog's length."""
        crew = self._crew
        with self._policy_lock:
            if self._looking:
                return
            self._looking = True
            try:
                now = self._clock()
                asked, self._asked = self._asked, False
                decision = self._decide(now, queued)
            finally:
                self._looking = False
        before = crew.roster.wanted
        crew.roster.want(decision.size, decision.reason)
        self._plan_next_look(now, decision, useless=asked and crew.roster.wanted == before)
        crew.roster.rearm()

    def _decide(self, now: float, queued: int | None) -> Decision:
        """The policy's answer; one that raises leaves the size as it is."""
        snapshot = self.snapshot(now, queued)
        self._looked_at = now
        try:
            return _checked(self._crew.settings.policy.decide(snapshot))
        except Exception as exc:
            if not self._policy_failed:
                self._policy_failed = True
                logger.exception("%s: the sizing policy failed; the size stays", self._crew.name)
            return Decision(self._crew.roster.wanted, f"the policy failed: {exc!r}")

    def _plan_next_look(self, now: float, decision: Decision, *, useless: bool) -> None:
        crew = self._crew
        interval = crew.settings.check_interval
        if len(crew.roster.workers) > crew.roster.min_workers or len(crew.backlog):
            recheck = decision.recheck
            self._look_at = now + (interval if recheck is None else min(recheck, interval))
        else:
            self._look_at = None
        # Under a stream of submits that growing would not help, each look is a waste: look less
        # and less often. And looking must never take more than a tenth of the time.
        pause = min(2 * self._pause, ASK_AGAIN_MAX) if useless else ASK_AGAIN
        self._pause = max(pause, 10 * (self._clock() - now))

    def snapshot(self, now: float, queued: int | None = None) -> PoolSnapshot:
        """The pool as the policy sees it, since the last look."""
        crew = self._crew
        roster = crew.roster
        workers = roster.workers.copy()
        idle = crew.parked.copy()
        busy = workers.difference(idle)
        backlog = len(crew.backlog)
        oldest = crew.backlog.oldest()
        sums, last = crew.ledger.sums(crew.backlog.__len__), self._sums
        # A task that is just changing hands is in no book: arrivals may seem to go back by it.
        arrivals = max(sums.arrivals, last.arrivals)
        process_time = self._process_clock()
        snapshot = PoolSnapshot(
            now=now,
            interval=now - self._looked_at,
            min_workers=roster.min_workers,
            max_workers=roster.max_workers,
            idle_timeout=crew.settings.idle_timeout,
            workers=len(workers),
            busy=len(busy),
            blocked=min(roster.lent, len(busy)),
            queued=backlog if queued is None else queued,
            oldest_wait=max(0.0, now - oldest._submitted_at) if oldest is not None else 0.0,
            arrivals=arrivals - last.arrivals,
            started=sums.started - last.started,
            completions=sums.ended - last.ended,
            wait_time=sums.wait_time - last.wait_time,
            run_time=sums.run_time - last.run_time,
            cpu_time=sums.cpu_time - last.cpu_time,
            process_time=process_time - self._process_time,
            run_ages=tuple(
                max(0.0, now - worker.since) for worker in busy if worker.current is not None
            ),
            idle_ages=tuple(max(0.0, now - worker.since) for worker in idle),
            cores=crew.settings.cores,
            gil=GIL,
        )
        self._sums, self._process_time = sums._replace(arrivals=arrivals), process_time
        return snapshot


def _checked(decision: object) -> Decision:
    if not isinstance(decision, Decision):
        raise TypeError(f"decide() must return a Decision, not {decision!r}")
    if not isinstance(decision.size, int):
        raise TypeError(f"the size of a Decision must be an int, not {decision.size!r}")
    check_seconds("the recheck of a Decision", decision.recheck)
    return decision
