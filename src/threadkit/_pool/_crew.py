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
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures._base import PENDING
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from types import CodeType
from typing import Any

from threadkit._errors import PoolClosed, TaskStale, TaskTimeout, WorkerLost
from threadkit._futures import UNSET, Future, future_type
from threadkit._pool._backlog import Backlog, LevelBacklog, PlainBacklog
from threadkit._pool._intake import Intake
from threadkit._pool._ledger import Ledger
from threadkit._pool._options import TaskOptions, name_of, options_of
from threadkit._pool._records import Record
from threadkit._pool._settings import Settings, bounded, check_limits
from threadkit._pool._statistics import ShutdownReport, SizeChange
from threadkit._pool._supervisor import Supervisor
from threadkit._pool._worker import Worker, current_worker, run_here
from threadkit._runtime import Event, Lock, Thread

__all__ = ["Crew"]

logger = logging.getLogger("threadkit.pool")

CLOSED = "cannot schedule new futures after shutdown"
EXITING = "cannot schedule new futures after interpreter shutdown"
DRAINING = "cannot schedule new futures while the pool is being drained"
BROKEN = "A thread initializer failed, the thread pool is not usable anymore"
FORKED = "the process forked: this task goes on in the parent"


class Crew:
    """The workers of one pool, and their backlog."""

    __slots__ = (
        "__weakref__",
        "_changed",
        "_hired",
        "_holding",
        "_leaving",
        "_lock",
        "_subscribers",
        "abandoned",
        "backlog",
        "broken",
        "clock",
        "closing",
        "exiting",
        "future_type",
        "hungry",
        "idle_waiters",
        "intake",
        "ledger",
        "lent",
        "max_workers",
        "min_workers",
        "name",
        "options",
        "over",
        "parked",
        "paused",
        "refusing",
        "retiring",
        "runtime",
        "settings",
        "supervisor",
        "surplus",
        "take",
        "wanted",
        "workers",
    )

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = settings.name
        self.runtime = runtime = settings.runtime
        self.clock = runtime.monotonic
        self.future_type = future_type(runtime)
        self.options = TaskOptions(self)
        self.min_workers = settings.min_workers
        self.max_workers = settings.max_workers
        self.ledger = Ledger(runtime)
        self.closing = False  # no more tasks; workers leave when the backlog is empty
        self.broken = False  # an initializer failed
        self._subscribers: tuple[Callable[[SizeChange], object], ...] = ()
        # Kept through a fork: submitters and workers hold its methods.
        self.backlog: Backlog
        if settings.levels == 1:
            self.backlog = PlainBacklog()
        else:
            self.backlog = LevelBacklog(settings.levels, settings.ageing)
        self.take = self.backlog.take if settings.queue_limit is None else self._take_bounded
        self.intake = Intake(self)
        self._start_empty()

    def _start_empty(self) -> None:
        """Everything that a fork's child has to have of its own."""
        runtime = self.runtime
        # Workers that wait for work, the one that parked last at the right end. Whoever pops one
        # is the only one who may wake it, and has to.
        self.parked: deque[Worker] = deque()
        # Workers that took a task and found the pool paused, with what each waits on. As with
        # `parked`, whoever pops one has to release it.
        self._holding: deque[tuple[Future[Any], Lock]] = deque()
        self.idle_waiters: list[Event] = []  # of wait_idle; each is set when the pool is idle

        # Guards what follows. Held for bookkeeping, O(workers) at most; never across user code,
        # callbacks, logging, starting or joining a thread. Re-entrant, for a signal handler may
        # submit in the middle of it.
        self._lock = runtime.rlock()
        self._changed = runtime.condition(self._lock)  # a worker left; shutdown waits for it
        self._leaving: list[Thread] = []  # threads of those that left
        self.wanted = self.min_workers  # how many there may be now; the policy's to change
        self.lent = 0  # extra workers that stand in for waiting ones
        self.workers: set[Worker] = set()
        self.retiring: set[Worker] = set()  # no more of the crew, but not yet gone
        self.abandoned: set[Worker] = set()
        self._hired = 0  # workers ever made: their names

        # Flags, read without the lock by hot paths, written under it.
        self.hungry = True  # a submit that finds no parked worker is to call starved()
        self.surplus = False  # more workers than wanted: who has nothing to do leaves
        self.paused = False  # no task may begin
        self.over = False  # shutdown has returned: no task may run any more
        self.refusing = self.closing  # no task is taken: closed, or being drained
        self.exiting = False  # closed by the interpreter's exit

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
        future = self.future_type()
        future._fn = partial(fn, **kwargs) if kwargs else fn
        future._args = args
        future._result = UNSET
        future._state = PENDING
        future._cond = None
        future._context = (copy_context() or None) if self.settings.propagate_context else None
        future._code, future._lasti = site
        future._origin = options
        future._submitted_at = self.clock()
        if options.guarded:
            future._condition  # noqa: B018 - made now, so that a worker looks at it
        return future

    def submit(
        self,
        options: TaskOptions,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        site: tuple[CodeType, int],
    ) -> Future[Any]:
        """Take a task in, whatever its options."""
        future = self.new_future(options, fn, args, kwargs, site)
        self.admit(future, options)
        return future

    def admit(self, future: Future[Any], options: TaskOptions) -> None:
        """Take a new task in."""
        self.intake.put(future, options)
        self.taken_in(future, options)

    def taken_in(self, future: Future[Any], options: TaskOptions) -> None:
        """See to a task that was put into the backlog."""
        if options.ttl is not None:
            self.supervisor.schedule(options.ttl, future, self.expire)
        self.rouse(future)

    def run_in_caller(self, future: Future[Any]) -> None:
        """Run a task that finds no room on the thread that submits it."""
        record = Record(self.runtime)
        self.ledger.open(record)
        try:
            run_here(future, record, self.clock)
        finally:
            self.ledger.close(record)

    def rouse(self, future: Future[Any]) -> None:
        """Find a worker for a task that was put into the backlog."""
        if self.parked:
            self.wake_one()
        elif self.hungry:
            self.starved(future)
        if self.refusing:
            self.came_late(future)

    def came_late(self, future: Future[Any]) -> None:
        """A submit saw the crew open, which closed before the task was in: refuse it after all.

        Unless a worker has it already: then it came in time.
        """
        if future.cancel():
            self.remove(future)
            raise self.refusal()

    def refusal(self) -> Exception:
        """Why no task is taken."""
        if self.broken:
            return WorkerLost(BROKEN, component=self.name)
        if not self.closing:
            return PoolClosed(DRAINING, component=self.name)
        return PoolClosed(EXITING if self.exiting else CLOSED, component=self.name)

    def wake_one(self) -> None:
        """Wake the worker that parked last, if any is parked."""
        try:
            worker = self.parked.pop()
        except IndexError:
            return
        worker.wake()

    def remove(self, future: Future[Any]) -> bool:
        """Take a task out of the backlog; false when it is not there: a worker has it."""
        if not self.backlog.discard(future):
            return False
        self.ledger.removed(1)
        self.intake.give_room()
        return True

    def _take_bounded(self) -> Future[Any]:
        future = self.backlog.take()
        if self.intake.blocked:
            self.intake.give_room()
        return future

    def ready(self) -> bool:
        """Whether there is a task that may begin. A pause ends where closing begins."""
        return len(self.backlog) > 0 and (self.closing or not self.paused)

    def queued(self) -> tuple[int, ...]:
        """How many tasks wait, by level."""
        sizes = list(self.backlog.sizes())
        for future, _ in self._holding.copy():
            sizes[options_of(future).level] += 1
        return tuple(sizes)

    # -- growing ----------------------------------------------------------------------------

    def starved(self, future: Future[Any] | None = None) -> None:
        """There is a task and no parked worker: start one, or ask for a larger number.

        Raises:
            WorkerLost: There is no worker, and none can be started.
        """
        if self.start_worker():
            return
        if future is not None and type(future._exception) is WorkerLost:
            raise future._failure().restored()
        with self._lock:
            self.hungry = False  # until the supervisor has looked
        if self.wanted >= self.max_workers or not self.supervisor.ask():
            self.rearm()
            # Who came while `hungry` was off left it to us: where nobody works, try for them.
            if not self.workers and self.ready():
                self.start_worker()

    def start_worker(self) -> bool:
        """Start one more worker if there may be one; whether it was started."""
        with self._lock:
            if self.over or (self.closing and not self.ready()):
                return False
            if len(self.workers) >= max(1, self.wanted) + self.lent:
                return False
            worker = Worker(self, f"{self.name}-worker-{self._hired}")
            self._hired += 1
            self.workers.add(worker)
            self._reckon_locked()
        self.ledger.open(worker.record)
        try:
            worker.thread.start()
        except RuntimeError:  # the system refuses; the workers there are go on
            self._start_refused(worker)
            return False
        return True

    def start_workers(self) -> None:
        """Start as many workers as may be and have something to do."""
        while self.ready() and not self.parked and self.start_worker():
            pass

    def _start_refused(self, worker: Worker) -> None:
        """The system refuses. Where there is no other worker, nobody will do what waits: say so.

        Another worker whose start is under way counts: should that be refused, too, its starter
        comes here.
        """
        self.ledger.close(worker.record)
        self.ledger.count("start_refused")
        with self._lock:
            self.workers.discard(worker)
            self._changed.notify_all()
            self._reckon_locked()
            stranded = not self.workers
        logger.warning("%s: the system refused to start a worker", self.name)
        if stranded:
            self._fail_all(f"{self.name}: no worker could be started")
        if self.idle_waiters:
            self.tell_if_idle()

    def _fail_all(self, why: str) -> None:
        def fail(future: Future[Any]) -> bool:
            return self.drop(future, WorkerLost(why, component=self.name), "dropped")

        _end_each(self.empty_backlog(), fail)

    def rearm(self) -> None:
        """Let submitters call `starved` again."""
        with self._lock:
            self._reckon_locked()

    def _reckon_locked(self) -> None:
        """Set the flags that follow from the numbers."""
        alive = len(self.workers)
        limit = self.wanted + self.lent
        self.surplus = alive > limit
        self.hungry = alive < max(1, limit) or self.wanted < self.max_workers

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
        """Nobody can work: end every task that waits."""
        self.broken = True
        self.close()
        self._fail_all(BROKEN)

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
        self.ledger.changes.append(change)
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
            least = 1 if self.ready() else 0
            if len(self.workers) <= max(least, self.wanted) + self.lent:
                self._reckon_locked()
                return False
            self.workers.discard(me)
            self.retiring.add(me)
            self._reckon_locked()
        return True

    def left(self, me: Worker) -> None:
        """A worker's last word."""
        self.ledger.close(me.record)
        with self._lock:
            self.workers.discard(me)
            self.retiring.discard(me)
            self.abandoned.discard(me)
            self._leaving = [thread for thread in self._leaving if thread.is_alive()]
            self._leaving.append(me.thread)
            self._reckon_locked()
            self._changed.notify_all()
            last = not self.workers
        if self.ready():
            # It may have been woken for a task just when it had made up its mind.
            if self.parked:
                self.wake_one()
            elif last:
                self.start_worker()
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
            if self.surplus:  # not at once: the next task may wait, too
                self.supervisor.look_later()

    def lend(self, worker: Worker) -> None:
        """Allow one more worker, and start it if there is something to do."""
        with self._lock:
            worker.lent += 1
            self.lent += 1
            self._reckon_locked()
        if self.ready():
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
        if self.surplus:
            self.supervisor.look_later()
        return not me.abandoned

    # -- deadlines --------------------------------------------------------------------------

    def expire(self, future: Future[Any]) -> None:
        """The `ttl` of a task is over: if it has not begun, it never will."""
        ended = True  # so it has when a done-callback raises
        try:
            ended = self.drop(future, self._staleness(future), "expired")
        finally:
            if ended:
                self.remove(future)

    def expire_claimed(self, future: Future[Any]) -> bool:
        """As `expire`, when a worker comes across the task before the supervisor does."""
        stale = self._staleness(future)
        story = options_of(future).story(future, stale)
        return future._fail(stale, story, lambda: self.count("expired"))

    def _staleness(self, future: Future[Any]) -> TaskStale:
        options = options_of(future)
        return TaskStale(
            ttl=options.ttl or 0.0,
            waited=self.clock() - future._submitted_at,
            task=options.label,
            component=self.name,
        )

    def time_out(self, future: Future[Any]) -> None:
        """The `timeout` of a task is over: end its future, and replace its worker."""
        options = options_of(future)
        error = TaskTimeout(timeout=options.timeout or 0.0, task=options.label, component=self.name)
        story = options.story(future, error)
        ended = True  # so it has when a done-callback raises
        try:
            ended = future._fail(error, story, lambda: self.count("timed_out"))
        finally:
            if ended:
                self._replace_worker_of(future)

    def _replace_worker_of(self, future: Future[Any]) -> None:
        with self._lock:
            for worker in self.workers:
                if worker.current is future:
                    worker.abandoned = worker.replaced = True
                    self.workers.discard(worker)
                    self.abandoned.add(worker)
                    break
            self._reckon_locked()
        self.start_workers()

    def drop(self, future: Future[Any], exc: BaseException, reason: str) -> bool:
        """End a task that has not begun, if nobody ended it before."""
        story = options_of(future).story(future, exc)
        return future._fail(exc, story, lambda: self.count(reason), unrun=True)

    # -- counting and waiting ---------------------------------------------------------------

    def count(self, reason: str) -> None:
        """One more task that ended without a worker, or was refused."""
        self.ledger.count(reason)

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
        timeout = bounded(timeout)
        event = self.runtime.event()
        self.idle_waiters.append(event)
        try:
            return self.is_idle() or event.wait(timeout)
        finally:
            self.idle_waiters.remove(event)

    # -- pausing and draining ---------------------------------------------------------------

    def pause(self) -> None:
        """Let no task begin from now on.

        1. A pause is declared, then a task is put in.
        2. A worker takes a task, then looks whether the pool is paused.

        So no task submitted after `pause` returned begins before `resume`. The worker keeps the
        task it took (`hold`): put back, it might be overtaken, or overtake another.
        """
        self.paused = True

    def hold(self, future: Future[Any]) -> None:
        """A worker has taken a task just when the pool was paused: wait with it."""
        gate = self.runtime.lock()
        gate.acquire()
        self._holding.append((future, gate))
        if self.closing or not self.paused:
            self._open_gates()
        gate.acquire()

    def _open_gates(self) -> None:
        while self._holding:
            try:
                _, gate = self._holding.popleft()
            except IndexError:
                return
            gate.release()

    def resume(self) -> None:
        """Undo pause() and drain()."""
        self.refusing = self.closing
        self.go_on()

    def go_on(self) -> None:
        """Let tasks begin."""
        self.paused = False
        self._open_gates()
        for _ in range(min(len(self.backlog), len(self.parked))):
            self.wake_one()
        if self.ready() and not self.parked:
            self.starved()

    def drain(self, timeout: float | None) -> bool:
        """Take no more tasks, and wait until those there are have ended.

        A submit that saw the pool open may put its task in after the pool was found idle. So the
        pool is paused then: nobody runs that task, and `came_late` refuses it.
        """
        timeout = bounded(timeout)
        deadline = None if timeout is None else self.clock() + timeout
        self.refusing = True
        self.intake.give_up_all()
        while self.wait_idle(None if deadline is None else max(0.0, deadline - self.clock())):
            self.paused = True
            if self.is_idle():
                return True
            self.go_on()
        return False

    # -- ending -----------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more tasks; workers leave when the backlog is empty.

        Takes no lock: the garbage collector calls it when the pool is dropped, wherever.
        """
        self.refusing = self.closing = True
        self._open_gates()
        while self.parked:
            self.wake_one()
        self.intake.give_up_all()
        self.supervisor.wake()

    def shutdown(
        self, *, wait: bool, cancel_futures: bool, timeout: float | None
    ) -> ShutdownReport:
        """Close, and wait for what is under way, at most `timeout` seconds."""
        self.close()
        cancelled = self._cancel_queued() if cancel_futures else 0
        self._see_to_the_rest()
        if wait and not self.join(timeout):
            cancelled += self._cancel_queued()
            self._ask_to_stop()
        return self._report(cancelled)

    def _see_to_the_rest(self) -> None:
        """Have somebody finish the backlog."""
        while self.parked:
            self.wake_one()
        if self.ready() and not self.workers:
            self.start_worker()

    def _report(self, cancelled: int) -> ShutdownReport:
        with self._lock:
            everybody = self.workers | self.abandoned
            tasks = [worker.current for worker in everybody]
        queued = 0 if self.over else len(self.backlog)  # what comes now is being refused
        running = tuple(sorted(name_of(task) for task in tasks if task is not None))
        return ShutdownReport(
            finished=not queued and not everybody - {current_worker()},
            cancelled=cancelled,
            running=running,
            queued=queued,
        )

    def _cancel_queued(self) -> int:
        """Cancel every task that waits; each future ends here, and tells who waits for it."""
        return _end_each(self.empty_backlog(), lambda future: future.cancel())

    def _ask_to_stop(self) -> None:
        """Tell the tasks that run; those that ask (`current_task().check()`) will stop."""
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
        self.ledger.removed(len(out))
        self.intake.give_up_all()  # there is room for as many
        return out

    def join(self, timeout: float | None) -> bool:
        """Wait for the workers to leave; whether they did."""
        timeout = bounded(timeout)
        deadline = None if timeout is None else self.clock() + timeout
        me = current_worker()

        def left() -> float | None:
            return None if deadline is None else max(0.0, deadline - self.clock())

        with self._changed:
            done = self._changed.wait_for(
                lambda: not (self.workers | self.retiring) - {me}, timeout
            )
            self.over = self.over or (done and self.closing)
            threads, self._leaving = self._leaving, []
        if done:
            for thread in threads:
                thread.join(left())
            if me is None:  # else this worker is one more the supervisor waits for
                self.supervisor.join(left())
        return done

    def begin_exit(self) -> None:
        """The interpreter exits: take no more tasks."""
        self.exiting = True
        self.close()
        if self.settings.at_exit == "abandon":
            self._cancel_queued()
        self._see_to_the_rest()

    def finish_exit(self, elapsed: float) -> None:
        """Wait as long as `at_exit` says; `elapsed` seconds of it are over."""
        rule = self.settings.at_exit
        if rule == "abandon":
            return
        if not self.join(None if rule == "wait" else max(0.0, float(rule) - elapsed)):
            self._cancel_queued()
            self._ask_to_stop()

    # -- forking ----------------------------------------------------------------------------

    def start_anew(self) -> None:
        """In the child of a fork: there are no workers, and what they had is the parent's."""
        lost = self.empty_backlog_unlocked()
        for worker in self.workers | self.abandoned:
            worker.abandoned = worker.replaced = True  # for the one whose task forked
            if worker.current is not None and worker is not current_worker():
                lost.append(worker.current)
        self.ledger = Ledger(self.runtime)
        self.intake.start_anew()
        self._start_empty()
        for future in lost:
            error = WorkerLost(FORKED, component=self.name)
            future._end_in_child(error, options_of(future).story(future, error))

    def empty_backlog_unlocked(self) -> list[Future[Any]]:
        """As `empty_backlog`, where every lock may be held by a thread that is no more."""
        out: list[Future[Any]] = []
        while True:
            try:
                out.append(self.backlog.take())
            except IndexError:
                return out


def _end_each(futures: list[Future[Any]], end: Callable[[Future[Any]], bool]) -> int:
    """End every one, whatever their done-callbacks raise; how many were ended.

    Raises:
        BaseException: The last of what a callback raised that is no Exception.
    """
    ended, fatal = 0, None
    for future in futures:
        try:
            ended += end(future)
        except BaseException as exc:  # noqa: BLE001 - raised again below
            ended, fatal = ended + 1, exc
    if fatal is not None:
        raise fatal
    return ended
