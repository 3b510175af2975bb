"""The roster: who works for a crew, and how many may.

Every number about workers is kept here: the limits, what the policy wants, how many stand in for
waiting ones (`lent`). Who is alive is in one of three sets: `workers` count against the limit,
`retiring` ones have been told to go, `abandoned` ones are stuck in a task whose time is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from threadkit._futures import Future
from threadkit._pool._settings import check_limits
from threadkit._pool._statistics import SizeChange
from threadkit._pool._worker import Worker
from threadkit._runtime import Thread

if TYPE_CHECKING:
    from threadkit._pool._crew import Crew

__all__ = ["Roster"]

logger = logging.getLogger("threadkit.pool")


class Roster:
    """Starts the workers of one crew, lets them go, and knows them."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self.min_workers = crew.settings.min_workers
        self.max_workers = crew.settings.max_workers
        self._subscribers: tuple[Callable[[SizeChange], object], ...] = ()
        self.start_anew()

    def start_anew(self) -> None:
        """Begin without workers; in the child of a fork, too, where no lock can be trusted."""
        runtime = self._crew.runtime
        # Guards what follows, and the crew's flags `hungry` and `surplus`. Held for bookkeeping,
        # O(workers) at most; never across user code, callbacks, logging, starting or joining a
        # thread. Re-entrant, for a signal handler may submit in the middle of it.
        self._lock = runtime.rlock()
        # Notified when a worker leaves, is given up or begins to wait for the others: see `gone`.
        self._changed = runtime.condition(self._lock)
        self.wanted = self.min_workers  # how many there may be now; the policy's to change
        self.lent = 0  # extra workers that stand in for waiting ones
        self.workers: set[Worker] = set()
        self.retiring: set[Worker] = set()  # no more of the crew, but not yet gone
        self.abandoned: set[Worker] = set()
        self._passing_on = 0  # workers that went a moment ago, perhaps to be succeeded by others
        self._joining: list[Worker] = []  # workers whose task waits, inside `gone`, for the others
        self._leaving: list[Thread] = []  # threads of those that left
        self._hired = 0  # workers ever made: their names
        self.over = False  # closed, and everybody has left: no task may run any more

    # -- growing ----------------------------------------------------------------------------

    def start_worker(self) -> bool:
        """Start one more worker if there may be one; whether it was started."""
        crew = self._crew
        if not self._may_start():
            return False
        worker = Worker(crew)
        try:
            with self._lock:
                if not self._may_start():
                    return False
                worker.name = worker.thread.name = f"{crew.name}-worker-{self._hired}"
                self._hired += 1
                self.workers.add(worker)
                self._reckon_locked()
            crew.ledger.open(worker.record)
            worker.thread.start()
        except BaseException as exc:
            if worker.birth.claim():  # else it lives, and a signal handler raised this, as Ctrl-C
                stranded = not self._strike_off(worker)
                if isinstance(exc, RuntimeError):
                    self._start_refused(stranded=stranded)
                    return False
            raise
        return True

    def _may_start(self) -> bool:
        crew = self._crew
        if self.over or (crew.closing and not crew.ready()):
            return False
        return len(self.workers) < max(1, self.wanted) + self.lent

    def start_workers(self) -> None:
        """Start as many workers as may be and have something to do."""
        crew = self._crew
        while crew.ready() and not crew.parked and self.start_worker():
            pass

    def _strike_off(self, worker: Worker) -> int:
        """A worker will never live; how many there are without it."""
        self._crew.ledger.close(worker.record)
        with self._lock:
            self.workers.discard(worker)
            self._changed.notify_all()
            self._reckon_locked()
            return len(self.workers)

    def _start_refused(self, *, stranded: bool) -> None:
        """The system refuses: the workers there are go on.

        Where there is no other worker, nobody will do what waits: say so. Another worker whose
        start is under way counts: should that be refused, too, its starter comes here.
        """
        crew = self._crew
        crew.ledger.count("start_refused")
        logger.warning("%s: the system refused to start a worker", crew.name)
        if stranded:
            crew.fail_all(f"{crew.name}: no worker could be started")
        if crew.pauses.waiting:
            crew.pauses.look()

    def sate(self) -> None:
        """Keep submitters from calling `starved`, until `rearm`."""
        with self._lock:
            self._crew.hungry = False

    def rearm(self) -> None:
        """Let submitters call `starved` again."""
        with self._lock:
            self._reckon_locked()

    def _reckon_locked(self) -> None:
        """Set the flags that follow from the numbers."""
        alive = len(self.workers)
        limit = self.wanted + self.lent
        self._crew.surplus = alive > limit
        self._crew.hungry = alive < max(1, limit) or self.wanted < self.max_workers

    # -- the size ---------------------------------------------------------------------------

    def want(self, size: int, reason: str) -> None:
        """Set how many workers there may be, between the limits."""
        with self._lock:
            before = self.wanted
            self.wanted = after = max(self.min_workers, min(size, self.max_workers))
            self._reckon_locked()
            too_many = len(self.workers) - self.wanted - self.lent
        for _ in range(too_many):  # each looks for itself whether to leave
            self._crew.wake_first()
        if before != after:
            self._tell(SizeChange(self._crew.clock(), before, after, reason))
        self.start_workers()

    def resize(self, min_workers: int | None, max_workers: int | None) -> None:
        """Set the limits."""
        with self._lock:
            low = self.min_workers if min_workers is None else min_workers
            high = self.max_workers if max_workers is None else max_workers
            check_limits(low, high)
            self.min_workers, self.max_workers = low, high
        self.want(self.wanted, f"resize({low}, {high})")

    def subscribe(self, callback: Callable[[SizeChange], object]) -> Callable[[], None]:
        """Have `callback` called with every change of size."""
        with self._lock:
            self._subscribers = (*self._subscribers, callback)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(c for c in self._subscribers if c is not callback)

        return unsubscribe

    def _tell(self, change: SizeChange) -> None:
        self._crew.ledger.changes.append(change)
        for callback in self._subscribers:
            try:
                callback(change)
            except Exception:
                logger.exception("%s: a subscriber to size changes failed", self._crew.name)

    # -- leaving ----------------------------------------------------------------------------

    def retires(self, me: Worker) -> bool:
        """Whether this worker, between two tasks, is the one too many."""
        with self._lock:
            least = 1 if self._crew.ready() else 0
            if len(self.workers) <= max(least, self.wanted) + self.lent:
                self._reckon_locked()
                return False
            self.workers.discard(me)
            self.retiring.add(me)
            self._reckon_locked()
        return True

    def left(self, me: Worker) -> None:
        """A worker's last word."""
        crew = self._crew
        crew.ledger.close(me.record)
        with self._lock:
            self.workers.discard(me)
            self.retiring.discard(me)
            self.abandoned.discard(me)
            self._take_back_locked(me)
            self._leaving = [thread for thread in self._leaving if thread.is_alive()]
            self._leaving.append(me.thread)
            self._reckon_locked()
            last = not self.workers
            if last and crew.closing and not len(crew.backlog):
                self.over = True  # what comes from here on is late: it is refused, not served
            self._passing_on += 1
        with self._passed_on():
            if crew.ready():
                # It may have been woken for a task just when it had made up its mind.
                if crew.parked:
                    crew.wake_one()
                elif last:
                    self.start_worker()
        if crew.pauses.waiting:
            crew.pauses.look()
        if last and crew.closing:
            crew.supervisor.wake()

    @contextmanager
    def _passed_on(self) -> Generator[None]:
        """Somebody went, and another one is started for what is queued.

        Until then the crew is not over, although nobody may be in sight: who waits in `gone` would
        declare that it is, and nobody could be started any more.
        """
        try:
            yield
        finally:
            with self._lock:
                self._passing_on -= 1
                self._changed.notify_all()

    def gone(self, me: Worker | None, timeout: float | None) -> list[Thread] | None:
        """Wait for everybody else to leave; threads that are left to be joined, None if in vain.

        A worker does not wait for those that are in here, too: two tasks that each wait for all
        others would wait for each other. Another worker stands in for it meanwhile, for it might
        be the last one, with tasks queued.
        """
        if me is None:
            return self._gone(None, timeout)
        self._joining.append(me)
        try:
            with self.lending(me):
                return self._gone(me, timeout)
        finally:
            self._joining.remove(me)

    def _gone(self, me: Worker | None, timeout: float | None) -> list[Thread] | None:
        with self._changed:
            self._changed.notify_all()  # who else is in here need not wait for this one
            if not self._changed.wait_for(lambda: self._is_gone_locked(me), timeout):
                return None
            self.over = self.over or (self._crew.closing and not self.workers)
            threads, self._leaving = self._leaving, []
        return threads

    def _is_gone_locked(self, me: Worker | None) -> bool:
        return not self._passing_on and not self.others(me)

    def others(self, me: Worker | None) -> set[Worker]:
        """Whom the caller would wait for: those that have not left, but for abandoned ones."""
        alive = self.workers | self.retiring
        return alive if me is None else alive.difference(self._joining, (me,))

    # -- standing in ------------------------------------------------------------------------

    @contextmanager
    def lending(self, worker: Worker) -> Generator[None]:
        """While the worker waits, another one may run beyond the limit."""
        self.lend(worker)
        try:
            yield
        finally:
            with self._lock:
                if worker.lent:  # else it was abandoned meanwhile
                    worker.lent -= 1
                    self.lent -= 1
                    self._reckon_locked()
            self._shrink_later()

    def lend(self, worker: Worker) -> None:
        """Allow one more worker, and start it if there is something to do."""
        crew = self._crew
        with self._lock:
            if not worker.abandoned:  # such a one has been replaced for good
                worker.lent += 1
                self.lent += 1
                self._reckon_locked()
        if crew.ready():
            if crew.parked:
                crew.wake_one()
            else:
                self.start_worker()

    def _take_back_locked(self, worker: Worker) -> None:
        """Whatever was lent for the worker is not needed any more."""
        self.lent -= worker.lent
        worker.lent = 0

    def _shrink_later(self) -> None:
        if self._crew.surplus:  # not at once: the next task may wait, too
            self._crew.supervisor.look_later()

    def replace(self, future: Future[Any]) -> None:
        """Give up the worker that runs this task, if one does, and let another take its place.

        1. Here the worker is marked, then its tasks are looked at once more.
        2. The worker strikes its task off, then looks for the mark (`returns`).

        So a worker that has just ended the task in question is not given up during its next one.
        """
        with self._lock:
            worker = next((w for w in self.workers if future in w.tasks()), None)
            if worker is None:
                return
            worker.abandoned = worker.replaced = True
            if future not in worker.tasks():
                worker.abandoned = False
                return
            self.workers.discard(worker)
            self.abandoned.add(worker)
            self._take_back_locked(worker)
            self._reckon_locked()
            self._passing_on += 1
        with self._passed_on():
            self.start_workers()
        if self._crew.closing:
            self._crew.supervisor.wake()

    def returns(self, me: Worker) -> bool:
        """A worker that was replaced is through with its task; false when it is to leave."""
        with self._lock:
            self._take_back_locked(me)
            me.replaced = False
            self._reckon_locked()
        self._shrink_later()
        return not me.abandoned

    # -- looking ----------------------------------------------------------------------------

    def is_abandoned(self, worker: Worker | None) -> bool:
        """Whether it was given up. Its own flag says so a moment earlier, and may take it back."""
        return worker in self.abandoned

    def running(self) -> list[Future[Any]]:
        """The tasks that have begun and not ended, abandoned ones included."""
        with self._lock:
            everybody = self.workers | self.retiring | self.abandoned
            return list(dict.fromkeys(task for worker in everybody for task in worker.tasks()))
