"""What happens to a task whose `ttl` or `timeout` is over. The supervisor says when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from threadkit._errors import TaskStale, TaskTimeout
from threadkit._futures import Future
from threadkit._pool._options import options_of

if TYPE_CHECKING:
    from threadkit._pool._crew import Crew

__all__ = ["Deadlines"]


class Deadlines:
    """Ends the tasks of one crew that waited or ran too long."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def expire(self, future: Future[Any]) -> None:
        """The `ttl` of a task is over: if it has not begun, it never will."""
        ended = True  # so it has when a done-callback raises
        try:
            ended = self._crew.drop(future, self._staleness(future), "expired")
        finally:
            if ended:
                self._crew.remove(future)

    def expire_claimed(self, future: Future[Any]) -> bool:
        """As `expire`, when a worker comes across the task before the supervisor does."""
        stale = self._staleness(future)
        story = options_of(future).story(future, stale)
        return future._fail(stale, story, lambda: self._crew.count("expired"))

    def _staleness(self, future: Future[Any]) -> TaskStale:
        options = options_of(future)
        return TaskStale(
            ttl=options.ttl or 0.0,
            waited=self._crew.clock() - future._submitted_at,
            task=options.label,
            component=self._crew.name,
        )

    def time_out(self, future: Future[Any]) -> None:
        """The `timeout` of a task is over: end its future, and replace its worker."""
        crew, options = self._crew, options_of(future)
        error = TaskTimeout(timeout=options.timeout or 0.0, task=options.label, component=crew.name)
        story = options.story(future, error)
        ended = True  # so it has when a done-callback raises
        try:
            ended = future._fail(error, story, lambda: crew.count("timed_out"))
        finally:
            if ended:
                crew.roster.replace(future)
