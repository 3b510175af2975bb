"""The crew: the workers of one pool, how many there are, and who is woken for what.

The pool object that users hold is only a face: workers know the crew, never the pool, so a pool
nobody refers to any more is collected, and its crew leaves once the backlog is empty.

How a task finds a worker: `submit` puts it into the backlog, then wakes the worker that parked
last (so that surplus workers grow old, and can be told by it). Finding none, and the crew being
`hungry` (it may grow, and nobody has been told yet), it calls `starved`, which starts a worker up
to the wanted number, or asks the supervisor whether to want more.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures._base import PENDING
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from types import CodeType
from typing import Any, NamedTuple

from threadkit._errors import PoolClosed, TaskStale, TaskTimeout, WorkerLost
from threadkit._futures import Future, future_type
from threadkit._pool._backlog import Backlog, LevelBacklog, PlainBacklog
from threadkit._pool._options import TaskOptions, name_of
from threadkit._pool._records import Totals
from threadkit._pool._statistics import PoolStatistics, ShutdownReport, SizeChange
from threadkit._pool._supervisor import Supervisor
from threadkit._pool._worker import Worker, current_worker
from threadkit._runtime import Runtime, Thread
from threadkit.sizing import SizingPolicy

logger = logging.getLogger("threadkit.pool")

CLOSED = "cannot schedule new futures after shutdown"
EXITING = "cannot schedule new futures after interpreter shutdown"
BROKEN = "A thread initializer failed, the thread pool is not usable anymore"


def check_limits(min_workers: int, max_workers: int) -> None:
    """Raise the ValueError that says what is wrong with these limits."""
    if max_workers <= 0:
        raise ValueError("max_workers must be greater than 0")
    if not 0 <= min_workers <= max_workers:
        raise ValueError(
            f"min_workers must be between 0 and max_workers ({max_workers}), not {min_workers}"
        )


class Settings(NamedTuple):
    """What a pool was made with, checked."""

    name: str
    min_workers: int
    max_workers: int
    policy: SizingPolicy
    levels: int
    ageing: float
    check_interval: float
    idle_timeout: float
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    propagate_context: bool
    runtime: Runtime


class Crew:
    """The workers of one pool, and their backlog."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = settings.name
        self.runtime = runtime = settings.runtime
        self.clock = runtime.monotonic
        self.future_type = future_type(runtime)
        self.options = TaskOptions(self)
        self._new_future = self.future_type.__new__
        self._propagate = settings.propagate_context
        self.backlog: Backlog
        if settings.levels == 1:
            self.backlog = PlainBacklog()
        else:
            self.backlog = LevelBacklog(settings.levels, settings.ageing)
        self.put = self.backlog.put
        # Workers that wait for work, the one that parked last at the right end. Whoever pops one
        # is the only one who may wake it, and has to.
        self.parked: deque[Worker] = deque()
        self.idle_waiters: list[Any] = []  # events of wait_idle

        # Guards what follows. Held for bookkeeping, O(workers) at most; never across user code,
        # callbacks, logging, starting or joining a thread. Re-entrant, for a signal handler may
        # submit in the middle of it. Taken before no other lock but the supervisor's.
        self._lock = runtime.rlock()
        self._changed = runtime.condition(self._lock)  # a worker left; shutdown waits for it
        self._leaving: list[Thread] = []  # threads that have left since
        self.min_workers = settings.min_workers
        self.max_workers = settings.max_workers
        self.wanted = settings.min_workers  # how many there may be now; the policy's to change
        self.lent = 0  # extra workers that stand in for waiting ones
        self.workers: set[Worker] = set()
        self.abandoned: set[Worker] = set()
        self._started = 0  # workers ever started: names
        self._gone = Totals()  # what workers wrote down that left
        self.counts: dict[str, int] = {}  # what became of tasks that no worker ran, by reason
        self.removed = 0  # tasks taken out of the backlog by others than workers
        self.starts_refused = 0
        self.changes: deque[SizeChange] = deque(maxlen=64)
        self._subscribers: tuple[Callable[[SizeChange], object], ...] = ()
        self._made_at = self.clock()

        # Flags, read without the lock by hot paths, written under it.
        self.special = settings.levels > 1  # submit must go the long way
        self.hungry = True  # a submit that finds no parked worker is to call starved()
        self.surplus = False  # more workers than wanted: who has nothing to do leaves
        self.closing = False  # no more tasks; workers leave when the backlog is empty
        self.exiting = False  # closed by the interpreter's exit
        self.broken = False  # an initializer failed
        self.supervisor = Supervisor(self)

    # -- submitting -------------------------------------------------------------------------

    def new_future(
        self,
        options: TaskOptions,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        site: tuple[CodeType, int],
    ) -> Future[Any]:
        """A pending future with its task."""
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {fn!r}")
        future = self._new_future(self.future_type)
        future._fn = partial(fn, **kwargs) if kwargs else fn
        future._args = args
        future._state = PENDING
        future._cond = None
        future._context = (copy_context() or None) if self._propagate else None
        future._code, future._lasti = site
        future._origin = options
        future._submitted_at = self.clock()
        return future

    def submit(
        self,
        options: TaskOptions,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        site: tuple[CodeType, int],
    ) -> Future[Any]:
        """Take a task in, with any options."""
        future = self.new_future(options, fn, args, kwargs, site)
        self.admit(future, options)
        return future

    def admit(self, future: Future[Any], options: TaskOptions) -> None:
        """Take a task in, the long way."""
        if self.closing:
            raise self.refusal()
        if options.guarded:
            future._condition  # noqa: B018 - made now, so that a worker looks at it
        self.backlog.put(future)
        if options.ttl is not None:
            self.supervisor.schedule(options.ttl, future, self.expire)
        self.rouse(future)

    def rouse(self, future: Future[Any]) -> None:
        """Find a worker for a task that was put into the backlog."""
        if self.parked:
            self.wake_one()
        elif self.hungry:
            self.starved(future)
        if self.closing:
            self.came_late(future)

    def came_late(self, future: Future[Any]) -> None:
        """A submit saw the crew open, which closed before the task was in: refuse it after all.

        Unless a worker has it already: then it came in time.
        """
        if self.backlog.discard(future):
            future._fn = future._args = future._context = None
            raise self.refusal()

    def refusal(self) -> Exception:
        """Why no task is taken."""
        if self.broken:
            return WorkerLost(BROKEN, component=self.name)
        return PoolClosed(EXITING if self.exiting else CLOSED, component=self.name)

    def wake_one(self) -> None:
        """Wake the worker that parked last, if any is parked."""
        try:
            worker = self.parked.pop()
        except IndexError:
            return
        worker.wake()

    # -- growing ----------------------------------------------------------------------------

    def starved(self, future: Future[Any] | None = None) -> None:
        """There is a task and no parked worker: start one, or ask for a larger number."""
        if self.start_worker():
            return
        with self._lock:
            lost = not self.workers and not self.closing
            self.hungry = False  # until the supervisor has looked
        if lost and future is not None and self.backlog.discard(future):
            self.rearm()
            raise WorkerLost(f"{self.name}: no worker could be started", component=self.name)
        self.supervisor.ask()

    def start_worker(self) -> bool:
        """Start one more worker if there may be one; whether it was started."""
        with self._lock:
            if self.closing and not self.backlog.ready():
                return False
            if len(self.workers) >= max(1, self.wanted) + self.lent:
                return False
            worker = Worker(self, f"{self.name}-worker-{self._started}")
            self._started += 1
            self.workers.add(worker)
            self._reckon_locked()
        try:
            worker.thread.start()
        except RuntimeError:  # the system refuses; the workers there are go on
            self._forget(worker)
            return False
        return True

    def _forget(self, worker: Worker) -> None:
        with self._lock:
            self.workers.discard(worker)
            self.starts_refused += 1
            self._reckon_locked()
        logger.warning("%s: the system refused to start a worker", self.name)

    def rearm(self) -> None:
        """Let submitters call `starved` again."""
        with self._lock:
            self._reckon_locked()

    def _reckon_locked(self) -> None:
        """Set the flags that follow from the numbers."""
        alive = len(self.workers)
        limit = self.wanted + self.lent
        self.surplus = alive > limit
        self.hungry = alive < limit or self.wanted < self.max_workers

    def initialize(self) -> bool:
        """Run the initializer on a new worker; when it fails, the pool is broken."""
        initializer = self.settings.initializer
        if initializer is None:
            return True
        try:
            initializer(*self.settings.initargs)
        except BaseException:
            logger.critical("Exception in initializer:", exc_info=True)
            self._break()
            return False
        return True

    def _break(self) -> None:
        with self._lock:
            self.broken = True
        self.close()
        self.backlog.let_go()
        for future in self.empty_backlog():
            if future._fail_unrun(WorkerLost(BROKEN, component=self.name)):
                self.count("dropped")

    # -- shrinking --------------------------------------------------------------------------

    def want(self, size: int, reason: str) -> None:
        """Set how many workers there may be, between the limits."""
        with self._lock:
            before = self.wanted
            self.wanted = after = max(self.min_workers, min(size, self.max_workers))
            self._reckon_locked()
            too_many = self._surplus_parked_locked()
        for worker in too_many:
            worker.wake()
        if before != after:
            self._tell(SizeChange(self.clock(), before, after, reason))
        while self.backlog.ready() and not self.parked and self.start_worker():
            pass

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
        self.changes.append(change)
        for callback in self._subscribers:
            try:
                callback(change)
            except Exception:
                logger.exception("%s: a subscriber to size changes failed", self.name)

    def _surplus_parked_locked(self) -> list[Worker]:
        """Parked workers that are to leave, oldest first. Each looks for itself whether to."""
        too_many = len(self.workers) - self.wanted - self.lent
        out: list[Worker] = []
        while len(out) < too_many:
            try:
                out.append(self.parked.popleft())
            except IndexError:
                break
        return out

    def retires(self, me: Worker) -> bool:
        """Whether this worker, between two tasks, is the one too many."""
        with self._lock:
            least = 1 if self.backlog.ready() else 0
            if len(self.workers) <= max(least, self.wanted) + self.lent:
                self._reckon_locked()
                return False
            self.workers.discard(me)
            self._reckon_locked()
        return True

    def left(self, me: Worker) -> None:
        """A worker's last word."""
        with self._lock:
            self.workers.discard(me)
            self.abandoned.discard(me)
            self._gone = self._gone + me.record.totals()
            self._reckon_locked()
            self._leaving.append(me.thread)
            self._changed.notify_all()
            last = not self.workers
        if self.closing:
            self.wake_one()  # a wake-up this worker may have taken with it
        elif last and self.backlog.ready():
            self.starved()
        if self.idle_waiters:
            self.tell_if_idle()
        if last and self.closing:
            self.supervisor.wake()

    # -- standing in ------------------------------------------------------------------------

    @contextmanager
    def lending(self, worker: Worker) -> Generator[None]:
        """While the worker waits, another one may run beyond the limit."""
        self.lend(worker)
        try:
            yield
        finally:
            with self._lock:
                worker.lent -= 1
                self.lent -= 1
                self._reckon_locked()

    def lend(self, worker: Worker) -> None:
        """Allow one more worker, and start it if there is something to do."""
        with self._lock:
            worker.lent += 1
            self.lent += 1
            self._reckon_locked()
        if self.backlog.ready():
            if self.parked:
                self.wake_one()
            else:
                self.start_worker()

    def returns(self, me: Worker) -> bool:
        """A worker that was replaced is through with its task; false when it is to leave."""
        with self._lock:
            self.lent -= me.lent
            me.lent = 0
            me.replaced = False
            self._reckon_locked()
            return not me.abandoned

    # -- deadlines --------------------------------------------------------------------------

    def expire(self, future: Future[Any]) -> None:
        """The `ttl` of a task is over: if it has not begun, it never will."""
        options: Any = future._origin
        stale = TaskStale(
            ttl=options.ttl,
            waited=self.clock() - future._submitted_at,
            task=options.label,
            component=self.name,
        )
        if future._fail_unrun(stale):
            self.count("expired")
            self.remove(future)

    def time_out(self, future: Future[Any]) -> None:
        """The `timeout` of a task is over: end its future, and replace its worker."""
        options: Any = future._origin
        error = TaskTimeout(timeout=options.timeout, task=options.label, component=self.name)
        if not future._fail(error):
            return
        self.count("timed_out")
        with self._lock:
            for worker in self.workers:
                if worker.current is future:
                    worker.abandoned = True
                    self.workers.discard(worker)
                    self.abandoned.add(worker)
                    break
            self._reckon_locked()
        if self.backlog.ready() and not self.parked:
            self.start_worker()

    # -- counting and waiting ---------------------------------------------------------------

    def count(self, reason: str) -> None:
        """One more task that no worker ran."""
        with self._lock:
            self.counts[reason] = self.counts.get(reason, 0) + 1

    def totals(self) -> Totals:
        """What all workers wrote down, past and present."""
        with self._lock:
            out = self._gone
            for worker in self.workers | self.abandoned:
                out = out + worker.record.totals()
        return out

    def is_idle(self) -> bool:
        """Nothing queued, nothing running."""
        return not len(self.backlog) and len(self.parked) >= len(self.workers)

    def tell_if_idle(self) -> None:
        """Wake those who wait for the pool to be idle, if it is."""
        if self.is_idle():
            for event in self.idle_waiters.copy():
                event.set()

    def wait_idle(self, timeout: float | None) -> bool:
        """Wait until nothing is queued or running."""
        event = self.runtime.event()
        self.idle_waiters.append(event)
        try:
            return self.is_idle() or event.wait(timeout)
        finally:
            self.idle_waiters.remove(event)

    # -- ending -----------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more tasks; workers leave when the backlog is empty.

        Takes no lock: the garbage collector calls it when the pool is dropped, wherever.
        """
        self.special = True
        self.closing = True
        while self.parked:
            self.wake_one()
        self.supervisor.wake()

    def shutdown(
        self, *, wait: bool, cancel_futures: bool, timeout: float | None
    ) -> ShutdownReport:
        """Close, and wait for what is under way, at most `timeout` seconds."""
        self.close()
        self.backlog.let_go()
        cancelled = self._cancel_queued() if cancel_futures else 0
        if self.backlog.ready() and not self.workers:
            self.start_worker()
        if not wait:
            return self._report(cancelled)
        if not self.join(timeout):
            cancelled += self._cancel_queued()
            self._ask_to_stop()
        return self._report(cancelled)

    def _report(self, cancelled: int) -> ShutdownReport:
        with self._lock:
            tasks = [worker.current for worker in self.workers | self.abandoned]
        running = tuple(name_of(task) for task in tasks if task is not None)
        queued = len(self.backlog)
        return ShutdownReport(
            finished=not queued and not tasks,
            cancelled=cancelled,
            running=running,
            queued=queued,
        )

    def _cancel_queued(self) -> int:
        """Cancel every task that waits; each future ends here, and tells who waits for it."""
        return sum(future.cancel() for future in self.empty_backlog())

    def _ask_to_stop(self) -> None:
        with self._lock:
            tasks = [worker.current for worker in self.workers]
        for task in tasks:
            if task is not None:
                task.cancel()

    def empty_backlog(self) -> list[Future[Any]]:
        """Take out every task that waits."""
        out: list[Future[Any]] = []
        while True:
            try:
                out.append(self.backlog.take())
            except IndexError:
                break
        with self._lock:
            self.removed += len(out)
        return out

    def remove(self, future: Future[Any]) -> bool:
        """Take a task out that ended before it began; false when a worker has it."""
        if not self.backlog.discard(future):
            return False
        with self._lock:
            self.removed += 1
        return True

    def join(self, timeout: float | None) -> bool:
        """Wait for the workers to leave; whether they did."""
        deadline = None if timeout is None else self.clock() + timeout
        me = current_worker()
        with self._changed:
            done = self._changed.wait_for(lambda: not (self.workers - {me}), timeout)
            threads, self._leaving = self._leaving, []
        if self.supervisor.thread is not None:
            threads.append(self.supervisor.thread)
        here = threading.current_thread()
        for thread in threads:
            if done and thread is not here:
                thread.join(None if deadline is None else max(0.0, deadline - self.clock()))
        return done

    # -- looking ----------------------------------------------------------------------------

    def statistics(self) -> PoolStatistics:
        """The pool as of now."""
        with self._lock:
            total = self.totals()
            counts = self.counts.copy()
            queued = self.backlog.sizes()
            alive, parked = len(self.workers), len(self.parked)
            ended = total.runs.count
            dead = self.removed + total.skipped
            return PoolStatistics(
                min_workers=self.min_workers,
                max_workers=self.max_workers,
                wanted=self.wanted,
                alive=alive,
                busy=max(0, alive - parked),
                idle=min(alive, parked),
                lent=self.lent,
                abandoned=len(self.abandoned),
                queued=queued,
                running=total.waits.count - ended - total.late,
                submitted=total.waits.count + sum(queued) + dead,
                completed=ended - total.failed,
                failed=total.failed,
                cancelled=counts.get("cancelled", 0),
                expired=counts.get("expired", 0),
                timed_out=counts.get("timed_out", 0),
                dropped=counts.get("dropped", 0),
                superseded=counts.get("superseded", 0),
                rejected=counts.get("rejected", 0),
                starts_refused=self.starts_refused,
                wait=total.waits,
                run=total.runs,
                cpu_share=min(1.0, total.cpu_time / total.runs.total) if total.runs.total else 0.0,
                throughput=ended / max(1e-9, self.clock() - self._made_at),
                changes=tuple(self.changes),
            )
