"""The crew: a pool's innermost room, where its tasks and its workers meet.

The pool object that users hold is only a face: workers know the crew, never the pool, so a pool
nobody refers to any more is collected, and its crew leaves once the backlog is empty.

How a task finds a worker: `submit` puts it into the backlog, then wakes the worker that parked
last (so that surplus workers grow old, and can be told by it). Finding none, and the crew being
`hungry` (it may grow, and nobody has been told yet), it calls `starved`, which starts a worker up
to the wanted number, or asks the supervisor whether to want more.

The rooms around it each know the crew: `roster` (how many workers), `pauses`, `deadlines`,
`ending`, `intake`, `supervisor`, `ledger`. What hot paths look at stays here.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures._base import PENDING
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from operator import methodcaller
from types import CodeType
from typing import Any

from threadkit._errors import PoolClosed, WorkerLost
from threadkit._futures import UNSET, Future, future_type
from threadkit._pool._backlog import Backlog, LevelBacklog, PlainBacklog
from threadkit._pool._deadlines import Deadlines
from threadkit._pool._endings import Ending, end_each
from threadkit._pool._intake import Intake
from threadkit._pool._ledger import Ledger
from threadkit._pool._options import TaskOptions, options_of
from threadkit._pool._pauses import Pauses
from threadkit._pool._records import Record
from threadkit._pool._roster import Roster
from threadkit._pool._settings import Settings
from threadkit._pool._supervisor import Supervisor
from threadkit._pool._worker import Worker, run_inside

__all__ = ["Crew"]

logger = logging.getLogger("threadkit.pool")

CLOSED = "cannot schedule new futures after shutdown"
EXITING = "cannot schedule new futures after interpreter shutdown"
DRAINING = "cannot schedule new futures while the pool is being drained"
BROKEN = "A thread initializer failed, the thread pool is not usable anymore"


class Crew:
    """The workers of one pool, and their backlog."""

    __slots__ = (
        "__weakref__",
        "_wake_first",
        "_wake_last",
        "backlog",
        "broken",
        "clock",
        "closing",
        "deadlines",
        "ending",
        "future_type",
        "hungry",
        "intake",
        "ledger",
        "name",
        "options",
        "parked",
        "paused",
        "pauses",
        "refusing",
        "roster",
        "runtime",
        "settings",
        "supervisor",
        "surplus",
        "take",
    )

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = settings.name
        self.runtime = runtime = settings.runtime
        self.clock = runtime.monotonic
        self.future_type = future_type(runtime)
        self.options = TaskOptions(self)
        self.ledger = Ledger(runtime)
        self.closing = False  # no more tasks; workers leave when the backlog is empty
        self.broken = False  # an initializer failed
        # Kept through a fork: submitters and workers hold its methods.
        self.backlog: Backlog
        if settings.levels == 1:
            self.backlog = PlainBacklog()
        else:
            self.backlog = LevelBacklog(settings.levels, settings.ageing)
        self.intake = Intake(self)
        self.deadlines = Deadlines(self)
        self.ending = Ending(self)
        self.pauses = Pauses(self)
        self.roster = Roster(self)
        self.take = self.intake.way_out()
        self._start_empty()

    def _start_empty(self) -> None:
        """Begin without workers. They are started when there is something to do."""
        # Workers that wait for work, the one that parked last at the right end. Whoever pops one
        # is the only one who may wake it, and has to.
        self.parked: deque[Worker] = deque()
        # Popped and woken in one call in C, which no signal can interrupt: one that is popped and
        # not woken, because Ctrl-C came in between, would sleep for ever.
        wake = methodcaller("wake")
        self._wake_last = map(wake, iter(self.parked.pop, None)).__next__
        self._wake_first = map(wake, iter(self.parked.popleft, None)).__next__
        # Flags, read without a lock by hot paths.
        self.hungry = True  # a submit that finds no parked worker is to call starved()
        self.surplus = False  # more workers than wanted: who has nothing to do leaves
        self.paused = False  # no task may begin
        self.refusing = self.closing  # no task is taken: closed, or being drained
        self.supervisor = Supervisor(self)

    def start_anew(self) -> None:
        """Have everything that a fork's child has to have of its own: no lock can be trusted."""
        self.ledger = Ledger(self.runtime)
        self.intake.start_anew()
        self.pauses.start_anew()
        self.roster.start_anew()
        self._start_empty()

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
            self.supervisor.schedule(options.ttl, future, self.deadlines.expire)
        self.rouse(future)

    def run_in_caller(self, future: Future[Any]) -> None:
        """Run a task that finds no room on the thread that submits it."""
        record = Record(self.runtime, self.ledger.lock)
        self.ledger.open(record)
        try:
            run_inside(future, record, self.clock)
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
        return PoolClosed(EXITING if self.ending.exiting else CLOSED, component=self.name)

    def wake_one(self) -> None:
        """Wake the worker that parked last, if there is one, and a task for it may begin."""
        # Whoever ends a pause wakes as many as there are tasks.
        if self.closing or not self.paused:
            self.wake_last()

    def wake_last(self) -> None:
        """Wake the worker that parked last, if any is parked."""
        try:  # noqa: SIM105 - suppress() costs twice the rest
            self._wake_last()
        except IndexError:
            pass

    def wake_first(self) -> None:
        """Wake the worker that parked first, if any is parked."""
        with suppress(IndexError):
            self._wake_first()

    def wake_all(self) -> None:
        """Wake everybody who is parked."""
        while self.parked:
            self.wake_last()

    def remove(self, future: Future[Any]) -> bool:
        """Take a task out of the backlog; false when it is not there: a worker has it."""
        if not self.backlog.discard(future):
            return False
        self.ledger.removed(1)
        self.intake.give_room()
        if self.pauses.waiting:  # no worker may come by to see it: the pool may be paused
            self.pauses.look()
        return True

    def ready(self) -> bool:
        """Whether there is a task that may begin. A pause ends where closing begins."""
        return len(self.backlog) > 0 and (self.closing or not self.paused)

    def drop(self, future: Future[Any], exc: BaseException, reason: str) -> bool:
        """End a task that has not begun, if nobody ended it before."""
        story = options_of(future).story(future, exc)
        return future._fail(exc, story, lambda: self.count(reason), unrun=True)

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
        if self.pauses.waiting:
            self.pauses.look()
        return out

    def fail_all(self, why: str) -> None:
        """End every task that waits: nobody will run it."""

        def fail(future: Future[Any]) -> bool:
            return self.drop(future, WorkerLost(why, component=self.name), "dropped")

        end_each(self.empty_backlog(), fail)

    def fail_begun(self, futures: list[Future[Any]], why: str) -> None:
        """End tasks that a worker has taken, and will not bring to their end."""

        def count() -> None:
            self.ledger.removed(1)
            self.count("dropped")

        def fail(future: Future[Any]) -> bool:
            error = WorkerLost(why, component=self.name)
            return future._fail(error, options_of(future).story(future, error), count)

        end_each(futures, fail)

    def count(self, reason: str) -> None:
        """One more task that ended without a worker, or was refused."""
        self.ledger.count(reason)

    # -- growing ----------------------------------------------------------------------------

    def starved(self, future: Future[Any] | None = None) -> None:
        """There is a task and no parked worker: start one, or ask for a larger number.

        Raises:
            WorkerLost: There is no worker, and none can be started.
        """
        roster = self.roster
        if roster.start_worker():
            return
        if future is not None and type(future._exception) is WorkerLost:
            raise future._failure().restored()
        roster.sate()  # until the supervisor has looked
        if roster.wanted >= roster.max_workers or not self.supervisor.ask():
            roster.rearm()
            # Who came while `hungry` was off left it to us: where nobody works, try for them.
            if not roster.workers and self.ready():
                roster.start_worker()

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
        self.ending.close()
        self.fail_all(BROKEN)
