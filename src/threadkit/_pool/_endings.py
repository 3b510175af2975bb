"""How it ends: closing, shutting down, the interpreter's exit, and the child of a fork.

Closing refuses new tasks and has workers leave once the backlog is empty. Shutting down waits for
them, and the report tells what is left. A task may shut its own pool down: it waits for everybody
but the workers that do the same, and a worker stands in for it meanwhile, so that what is queued
gets done.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from threadkit._errors import WorkerLost
from threadkit._futures import Future
from threadkit._pool._options import name_of, options_of
from threadkit._pool._settings import bounded
from threadkit._pool._statistics import ShutdownReport
from threadkit._pool._worker import current_worker, own_worker

if TYPE_CHECKING:
    from threadkit._pool._crew import Crew

__all__ = ["Ending", "end_each"]

FORKED = "the process forked: this task goes on in the parent"


class Ending:
    """Brings one crew to its end."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self.exiting = False  # closed by the interpreter's exit
        self.cancelling = False  # closed, and nothing that still waits is to be run

    # -- closing ----------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more tasks; workers leave when the backlog is empty.

        Takes no lock: the garbage collector calls it when the pool is dropped, wherever.
        """
        crew = self._crew
        crew.refusing = crew.closing = True
        self._go()

    def _go(self) -> None:
        """Send the workers on: to what is queued, else home."""
        crew = self._crew
        if not self.cancelling:  # else who took a task in the pause finds out, and cancels it
            crew.paused = False
        crew.wake_all()
        crew.intake.give_up_all()
        crew.supervisor.wake()

    def shutdown(
        self, *, wait: bool, cancel_futures: bool, timeout: float | None
    ) -> ShutdownReport:
        """Close, and wait for what is under way, at most `timeout` seconds."""
        crew = self._crew
        cancelled = 0
        try:
            # What waits is cancelled before a parked worker, or one that a pause holds up, is told
            # to go on.
            self.cancelling = self.cancelling or cancel_futures
            crew.refusing = crew.closing = True
            if cancel_futures:
                cancelled = self.cancel_queued()
        finally:
            self._go()
        self._see_to_the_rest()
        gone = wait and self.join(timeout)
        if wait and not gone:
            cancelled += self.cancel_queued()
            self._ask_to_stop()
        return self._report(cancelled, gone=gone)

    def _see_to_the_rest(self) -> None:
        """Have somebody finish the backlog."""
        crew = self._crew
        crew.wake_all()
        if crew.ready() and not crew.roster.workers:
            crew.roster.start_worker()

    def _report(self, cancelled: int, *, gone: bool) -> ShutdownReport:
        crew, roster = self._crew, self._crew.roster
        tasks = roster.running()
        queued = 0 if roster.over else len(crew.backlog)  # what comes now is being refused
        me = own_worker(crew)
        # Who was in the middle of a shutdown, too, may have come out of it since `join`.
        others = roster.abandoned if gone else roster.others(me) | roster.abandoned
        return ShutdownReport(
            finished=not queued and not others - {me},
            cancelled=cancelled,
            running=tuple(sorted(map(name_of, tasks))),
            queued=queued,
        )

    def cancel_queued(self) -> int:
        """Cancel every task that waits; each future ends here, and tells who waits for it."""
        return end_each(self._crew.empty_backlog(), lambda future: future.cancel())

    def _ask_to_stop(self) -> None:
        """Tell the tasks that run; those that ask (`current_task().check()`) will stop."""
        for task in self._crew.roster.running():
            if not task.done():  # else it timed out, and has been told
                task.cancel()

    def join(self, timeout: float | None) -> bool:
        """Wait for the workers to leave; whether they did."""
        crew = self._crew
        timeout = bounded(timeout)
        deadline = None if timeout is None else crew.clock() + timeout

        def left() -> float | None:
            return None if deadline is None else max(0.0, deadline - crew.clock())

        me = own_worker(crew)
        threads = crew.roster.gone(me, timeout)
        if threads is None:
            return False
        here = crew.runtime.get_ident()
        for thread in threads:
            if thread.ident != here:  # a finalizer may call this on a thread that is going
                thread.join(left())
        if me is None:  # else this worker is one more the supervisor waits for
            crew.supervisor.join(left())
        return True

    # -- the interpreter's exit -------------------------------------------------------------

    def begin_exit(self) -> None:
        """The interpreter exits: take no more tasks."""
        self.exiting = True
        self.close()
        if self._crew.settings.at_exit == "abandon":
            self.cancel_queued()
        self._see_to_the_rest()

    def finish_exit(self, elapsed: float) -> None:
        """Wait as long as `at_exit` says; `elapsed` seconds of it are over."""
        rule = self._crew.settings.at_exit
        if rule == "abandon":
            return
        if not self.join(None if rule == "wait" else max(0.0, float(rule) - elapsed)):
            self.cancel_queued()
            self._ask_to_stop()

    # -- forking ----------------------------------------------------------------------------

    def start_anew(self) -> None:
        """In the child of a fork: there are no workers, and what they had is the parent's."""
        crew, me = self._crew, current_worker()
        lost: list[Future[Any]] = []
        with suppress(IndexError):
            while True:
                lost.append(crew.backlog.take())
        for worker in crew.roster.workers | crew.roster.retiring | crew.roster.abandoned:
            worker.abandoned = worker.replaced = True  # for the one whose task forked
            worker.lent = 0
            if worker is not me:
                lost.extend(worker.tasks())
        crew.start_anew()
        if me is not None and me.crew is crew:
            me.record.lock = crew.ledger.lock
        for future in lost:
            error = WorkerLost(FORKED, component=crew.name)
            future._end_in_child(error, options_of(future).story(future, error))


def end_each(futures: list[Future[Any]], end: Callable[[Future[Any]], bool]) -> int:
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
