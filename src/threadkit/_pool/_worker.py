"""A worker: the loop that runs tasks, and what a task may ask about itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from threadkit._errors import TaskCancelled
from threadkit._failures import Failure, UnreadFailure
from threadkit._failures._failure import clear_frames
from threadkit._futures import Condition, Future, here
from threadkit._pool._births import Birth
from threadkit._pool._records import Record

if TYPE_CHECKING:
    from threadkit._pool._crew import Crew
    from threadkit._pool._options import TaskOptions

__all__ = ["Task", "Worker", "current_task", "current_worker", "own_worker", "run_inside"]

logger = logging.getLogger("threadkit.pool")


class Worker:
    """One thread of a pool."""

    __slots__ = (
        "_lock",
        "abandoned",
        "birth",
        "crew",
        "current",
        "lent",
        "name",
        "outer",
        "record",
        "replaced",
        "since",
        "sleep",
        "thread",
        "wake",
    )

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.name = crew.name  # and a number, once it is hired
        # What the worker parks on. Locked, but for the instant between a waker's release and the
        # worker's waking. Only who took the worker out of `crew.parked` may release it.
        lock = crew.runtime.lock()
        lock.acquire()
        self.sleep = lock.acquire
        self.wake = lock.release
        self.record = Record(crew.runtime, crew.ledger.lock)
        self.current: Future[Any] | None = None  # the innermost
        # Tasks that wait for one that runs in place of their wait, the outermost first.
        self.outer: list[Future[Any] | None] = []
        self.since = crew.clock()  # when the present task began, or the worker was parked
        self.abandoned = False  # written under the crew's lock
        self.lent = 0  # how many extra workers stand in for this one
        self.replaced = False  # perhaps lent or abandoned: ask the crew when the task is over
        self.birth = Birth()
        self.thread = crew.runtime.thread(_live, args=(self,), daemon=True)

    def tasks(self) -> list[Future[Any]]:
        """The tasks that have begun here and not ended, seen from anywhere."""
        return [task for task in (*self.outer, self.current) if task is not None]

    def look_up(self) -> None:
        """Have the loop ask the crew, once the present task is over, whether to go on."""
        self.replaced = True

    def __repr__(self) -> str:
        return f"<Worker {self.name}>"


def current_worker() -> Worker | None:
    """The worker whose thread this is."""
    return getattr(here, "worker", None)


def own_worker(crew: Crew) -> Worker | None:
    """The worker whose thread this is, if it is one of the crew's."""
    worker = current_worker()
    return worker if worker is not None and worker.crew is crew else None


def _live(me: Worker) -> None:
    """A worker thread from its birth to its end."""
    crew = me.crew
    if not me.birth.claim():
        return
    here.worker = me
    # To the interpreter, which would wait for others, a worker is a daemon. To the threads that
    # its tasks start, which inherit this, it is none: they are not cut off at exit. There is no
    # public word for it.
    threading.current_thread()._daemonic = False  # type: ignore[attr-defined]
    me.record.begin()
    try:
        if crew.initialize():
            _work(crew, me)
    except BaseException as exc:
        logger.critical("%s died", me.name, exc_info=exc)
        crew.fail_begun(me.tasks(), f"{me.name} died")
    finally:
        crew.roster.left(me)
        here.worker = None  # last: a finalizer that shuts the pool down must not wait for me


def _work(crew: Crew, me: Worker) -> None:
    """Run tasks until there is no more use for this worker.

    In a context without variables, for tasks whose submitter had set none: entered once, for
    entering it costs as much as what else it takes to call a task. It is left for another one
    after a task that set a variable.
    """
    fold_at: float | None = 0.0
    while fold_at is not None:
        blank = Context()
        fold_at = blank.run(_run_tasks, crew, me, blank, fold_at)


def _run_tasks(  # noqa: C901, PLR0912, PLR0915 - see below
    crew: Crew, me: Worker, blank: Context, fold_at: float
) -> float | None:
    """Run tasks while the present context is blank; when to fold, or None if the worker leaves.

    Long, because the calls it would take to make it short cost as much as the rest of it. The
    steps: take a task, claim it, run it, publish its result, write down its times.
    """
    take = crew.take
    clock = crew.clock
    record = me.record
    waits, runs = record.waits, record.runs
    now = clock()
    while True:
        try:
            future = take()
        except IndexError:
            if not _rest(crew, me, now):
                return None
            now = clock()
            continue
        if crew.paused and crew.pauses.puts_back(future):
            del future
            if not _rest(crew, me, now):
                return None
            now = clock()
            continue
        me.current = future  # before the claim, which may start the clock of a timeout
        fn = future._fn
        future._fn = None
        if future._cond is not None and not future._claim():
            record.skipped += 1
            future = fn = me.current = None  # type: ignore[assignment]
            continue
        submitted_at = future._submitted_at
        if submitted_at > now:  # else the task began when the last one ended: a clock reading less
            now = clock()
        args = future._args
        context = future._context
        future._args = future._context = None
        me.since = now
        waits.append(now - submitted_at)
        try:
            value = fn(*args) if context is None else context.run(fn, *args)  # type: ignore[misc]
        except BaseException as exc:  # noqa: BLE001 - it is the task's result
            started, now = now, clock()
            if not _fail(future, exc, record, now - started):
                me.look_up()
                fold_at = now
        else:
            started, now = now, clock()
            if future._cond is None:
                runs.append(now - started)
                future._result = value
                if future._cond is not None:  # somebody came in between
                    _tell(future)  # type: ignore[unreachable]
            elif not _finish(future, value, record, now - started):
                me.look_up()
                fold_at = now
        # Until the next task comes, nothing of this one may stay alive here.
        future = fn = args = context = value = me.current = None  # type: ignore[assignment]
        if now >= fold_at:
            fold_at = record.fold(now)
            if _leaves(crew, me):
                return None
        if blank:
            return fold_at


def _rest(crew: Crew, me: Worker, now: float) -> bool:
    """Park until somebody has use for this worker; false when it is to leave.

    No wake-up is lost:

    1. A submitter puts its task into the backlog, then looks for a parked worker.
    2. A worker parks, then looks at the backlog.

    One of the two sees the other. A worker that sees a task does not take itself out again, it
    wakes the last one parked, which may be itself.
    """
    if crew.closing and not crew.ready():
        return False
    if _leaves(crew, me):
        return False
    me.since = now
    crew.parked.append(me)
    if crew.ready() or crew.surplus or crew.closing:
        crew.wake_last()
    if crew.pauses.waiting:
        crew.pauses.look()
    me.sleep()
    return True


def _leaves(crew: Crew, me: Worker) -> bool:
    """Whether this worker, between two tasks, is one too many or has been replaced."""
    if crew.surplus and crew.roster.retires(me):
        return True
    return me.replaced and not crew.roster.returns(me)


def _finish(future: Future[Any], value: Any, record: Record, seconds: float) -> bool:
    """Publish a result to somebody who waits; false when the task had timed out."""
    try:
        in_time = future._finish(value, record.runs, seconds)
    except BaseException as exc:
        logger.critical("a done-callback of %r ended with %r", future, exc, exc_info=exc)
        return True
    if not in_time:
        record.late += 1
    return in_time


def _tell(future: Future[Any]) -> None:
    """As `_finish`, when the result is published already."""
    try:
        future._tell()
    except BaseException as exc:
        logger.critical("a done-callback of %r ended with %r", future, exc, exc_info=exc)


def _fail(future: Future[Any], exc: BaseException, record: Record, seconds: float) -> bool:
    """As `_finish`, with an exception. Called by the function that ran the task and caught it."""
    try:
        in_time = future._fail(exc, _story_of(future, exc), partial(record.note_failure, seconds))
    except BaseException as fatal:
        logger.critical("a done-callback of %r ended with %r", future, fatal, exc_info=fatal)
        return True
    if not in_time:
        record.late += 1
    return in_time


def _story_of(future: Future[Any], exc: BaseException) -> Failure | UnreadFailure:
    """What the future keeps of an exception: no running frame, and no locals of the task."""
    options = cast("TaskOptions", future._origin)
    # The first entry is the worker's frame: it is still running, and tells nothing.
    exc.__traceback__ = exc.__traceback__ and exc.__traceback__.tb_next
    worker = current_worker()
    story = options.story(future, exc, worker=None if worker is None else worker.name)
    clear_frames(exc, exc.__traceback__)
    return story


def run_inside(future: Future[Any], record: Record, clock: Callable[[], float]) -> None:
    """Run a task on the calling thread, as a worker would.

    In the middle of another task (whose worker waits for this one, or finds no room for it), or
    on a thread that belongs to no pool. There Ctrl-C ends the task and goes on to the caller.
    """
    fn = future._fn
    future._fn = None
    with _innermost(future):  # before the claim, which may start the clock of a timeout
        if future._cond is not None and not future._claim():
            record.skipped += 1
            return
        args, context = future._args, future._context
        future._args = future._context = None
        started = clock()
        record.waits.append(started - future._submitted_at)
        try:
            value = (Context() if context is None else context).run(fn, *args)  # type: ignore[arg-type, misc]
        except BaseException as exc:
            in_time = _fail(future, exc, record, clock() - started)
            if isinstance(exc, KeyboardInterrupt) and current_worker() is None:
                raise
        else:
            in_time = _finish(future, value, record, clock() - started)
    worker = current_worker()
    if worker is not None and not in_time:
        worker.look_up()


@contextmanager
def _innermost(future: Future[Any]) -> Generator[None]:
    """Meanwhile, this is the task that runs on the calling thread, and others are around it."""
    worker = current_worker()
    outer = getattr(here, "task", None)
    if worker is None:
        here.task = future
    else:  # at every step each task is in one place at least, for those who look from elsewhere
        worker.outer.append(worker.current)
        worker.current = future
    try:
        yield
    finally:
        if worker is None:
            here.task = outer
        else:
            worker.current = worker.outer[-1]
            worker.outer.pop()


# -- what a task may ask about itself -------------------------------------------------------


class Task:
    """The task that is running on this thread, as it sees itself. See `current_task`."""

    __slots__ = ("_future",)

    def __init__(self, future: Future[Any] | None) -> None:
        self._future = future

    def __repr__(self) -> str:
        return f"<Task {self.label}>" if self._future is not None else "<Task: none>"

    @property
    def label(self) -> str | None:
        """The label it was submitted with; None outside a pool, or without one."""
        origin: Any = self._future and self._future._origin
        return None if origin is None else origin.label

    @property
    def stop_requested(self) -> bool:
        """Whether the task was cancelled while it ran, or ran longer than its timeout."""
        return self._reason() is not None

    def check(self) -> None:
        """Return if the task is to go on.

        Raises:
            TaskTimeout: It has run longer than its timeout; its result is discarded.
            TaskCancelled: `cancel()` was called while it ran, or the pool is shutting down.
        """
        reason = self._reason()
        if reason is not None:
            raise reason

    def _reason(self) -> BaseException | None:
        future = self._future
        cond = None if future is None else future._cond
        if future is None or not isinstance(cond, Condition):
            return None
        if future._exception is not None:
            return future._exception
        if cond.cancel_requested:
            return TaskCancelled(f"{self.label or 'the task'} was cancelled", task=self.label)
        return None


def current_task() -> Task:
    """The task that runs on the calling thread; outside a pool, one that is never stopped.

    >>> from threadkit import DynamicThreadPool, current_task
    >>> def patient():
    ...     current_task().check()  # raises when somebody wants the task to stop
    ...     return "went on"
    >>> with DynamicThreadPool() as pool:
    ...     pool.submit(patient).result()
    'went on'
    >>> patient()
    'went on'

    Thread safety: each thread gets its own.
    """
    worker = current_worker()
    return Task(getattr(here, "task", None) if worker is None else worker.current)


def blocking(crew: Crew) -> AbstractContextManager[None]:
    """Say that the calling task waits: another worker stands in meanwhile."""
    worker = own_worker(crew)
    return nullcontext() if worker is None else crew.roster.lending(worker)
