"""Pauses: the pool stands still, is waited for until it does, or takes nothing more.

A pause begins with a flag, and every taker looks at it after it has taken a task:

1. A pause is declared, then a task is put in.
2. A worker takes a task, then looks whether the pool is paused.

So no task submitted after `pause` returned begins before `resume`. Who took a task and finds the
pool paused puts it back in its place: its order and its level hold, and whoever empties or
searches the backlog finds it there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from threadkit._futures import Future
from threadkit._pool._settings import bounded
from threadkit._pool._worker import own_worker
from threadkit._runtime import Event

if TYPE_CHECKING:
    from threadkit._pool._crew import Crew

__all__ = ["Pauses"]


class Pauses:
    """Stops and starts one crew. The flags themselves are the crew's, for its hot paths."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self.start_anew()

    def start_anew(self) -> None:
        """Not paused, and nobody waits."""
        # Guards the putting back of tasks against one another; held for one, calls nothing.
        self._lock = self._crew.runtime.rlock()
        self.waiting: list[Event] = []  # of wait_idle; each is set when the pool is idle

    # -- pausing ----------------------------------------------------------------------------

    def pause(self) -> None:
        """Let no task begin from now on. It means nothing to a pool that closes."""
        self._crew.paused = True

    def puts_back(self, future: Future[Any]) -> bool:
        """Put back a task that was taken when the pool was paused; false if that is over."""
        crew = self._crew
        with self._lock:
            over = crew.closing or not crew.paused
            if over and not crew.ending.cancelling:  # looked at in the opposite order of setting
                return False
            crew.backlog.put_back(future)
        if crew.ending.cancelling:  # and has perhaps been through with the backlog just before
            crew.ending.cancel_queued()
        return True

    def resume(self) -> None:
        """Undo pause() and drain()."""
        self._crew.refusing = self._crew.closing
        self.go_on()

    def go_on(self) -> None:
        """Let tasks begin."""
        crew = self._crew
        crew.paused = False
        for _ in range(min(len(crew.backlog), len(crew.parked))):
            crew.wake_one()
        if crew.ready() and not crew.parked:
            crew.starved()

    # -- waiting for it to be idle ----------------------------------------------------------

    def is_idle(self) -> bool:
        """Nothing queued, nothing running."""
        crew = self._crew
        return not len(crew.backlog) and len(crew.parked) >= len(crew.roster.workers)

    def look(self) -> None:
        """Wake those who wait for the pool to be idle, if it is."""
        if self.is_idle():
            for event in self.waiting.copy():
                event.set()

    def wait_idle(self, timeout: float | None) -> bool:
        """Wait until nothing is queued or running."""
        self._check_caller("wait_idle()")
        timeout = bounded(timeout)
        event = self._crew.runtime.event()
        self.waiting.append(event)
        try:
            return self.is_idle() or event.wait(timeout)
        finally:
            self.waiting.remove(event)

    def _check_caller(self, verb: str) -> None:
        if own_worker(self._crew) is not None:
            raise RuntimeError(
                f"{verb} of {self._crew.name} was called on one of its own workers: "
                "the task would wait for itself to end"
            )

    def drain(self, timeout: float | None) -> bool:
        """Take no more tasks, and wait until those there are have ended.

        A submit that saw the pool open may put its task in after the pool was found idle. So the
        pool is paused then: nobody runs that task, and `came_late` refuses it.
        """
        self._check_caller("drain()")
        crew = self._crew
        timeout = bounded(timeout)
        deadline = None if timeout is None else crew.clock() + timeout
        crew.refusing = True
        crew.intake.give_up_all()
        while self.wait_idle(None if deadline is None else max(0.0, deadline - crew.clock())):
            self.pause()
            if self.is_idle():
                return True
            self.go_on()
        return False
