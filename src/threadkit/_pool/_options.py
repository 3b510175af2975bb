"""What a task was submitted with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from threadkit._failures import Failure, UnreadFailure
from threadkit._futures import Future
from threadkit._pool._worker import Worker, current_worker, run_inside

if TYPE_CHECKING:
    from threadkit._pool._crew import Crew

__all__ = ["TaskOptions"]

MAX_DEPTH = 32  # waits that run their task in place, one inside the other: six frames each


class TaskOptions:
    """The options of a task, shared by all tasks of one view of the pool."""

    __slots__ = ("crew", "guarded", "key", "label", "level", "timeout", "ttl")

    def __init__(
        self,
        crew: Crew,
        *,
        level: int = 0,
        timeout: float | None = None,
        ttl: float | None = None,
        label: str | None = None,
        key: object = None,
    ) -> None:
        self.crew = crew
        self.level = level
        self.timeout = timeout
        self.ttl = ttl
        self.label = label
        self.key = key
        # Such a task can end in more ways than by its worker: it is claimed under its condition.
        self.guarded = timeout is not None or ttl is not None or key is not None

    def __repr__(self) -> str:
        shown = ("level", "timeout", "ttl", "label", "key")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)

    def story(
        self, future: Future[Any], exc: BaseException, *, worker: str | None = None, skip: int = 0
    ) -> Failure | UnreadFailure:
        """The exception with where it came from; one that nobody reads comes to the error log."""
        code = future._code
        crew = self.crew
        failure = Failure(
            exc,
            skip=skip,
            site=None if code is None else (code, future._lasti),
            component=crew.name,
            task=self.label,
            worker=worker,
            at=crew.runtime.time(),
        )
        errors = crew.settings.errors
        return failure if errors is None else UnreadFailure(failure, errors)

    def begun(self, future: Future[Any], /) -> bool:
        """Start the clock of a task with a timeout; false for one that waited too long to run."""
        crew = self.crew
        if self.ttl is not None and crew.clock() - future._submitted_at > self.ttl:
            return not crew.deadlines.expire_claimed(future)
        if self.timeout is not None:
            crew.supervisor.schedule(self.timeout, future, crew.deadlines.time_out)
        return True

    def cancelled(self, future: Future[Any], /) -> None:
        """Count the future's cancellation; in a bounded queue it gives its place back at once."""
        self.crew.count("cancelled")
        if self.crew.settings.queue_limit is not None:
            self.crew.remove(future)

    def wait(self, future: Future[Any], timeout: float | None, /) -> None:
        """A worker of this pool waits for a task of this pool."""
        worker = cast("Worker", current_worker())
        waits_to_the_end = timeout is None and self.timeout is None
        if waits_to_the_end and len(worker.outer) < MAX_DEPTH and self._run_in_place(future):
            future._wait_plainly(None)
            return
        with self.crew.roster.lending(worker):
            future._wait_plainly(timeout)

    def _run_in_place(self, future: Future[Any]) -> bool:
        """Run a task that still waits; whether it has begun, here or elsewhere."""
        crew = self.crew
        if not crew.backlog.discard(future):
            return future._fn is None  # else a worker has it in hand, and may put it back
        if crew.paused and crew.pauses.puts_back(future):
            return False
        crew.intake.give_room()
        run_inside(future, cast("Worker", current_worker()).record, crew.clock)
        return True

    def waited_upon(self) -> None:
        """Somebody calls wait() or as_completed(); a worker of the pool is replaced meanwhile."""
        worker = cast("Worker", current_worker())
        if not worker.lent:
            self.crew.roster.lend(worker)
            worker.look_up()


def options_of(future: Future[Any]) -> TaskOptions:
    """What the task of a pool's future was submitted with."""
    return cast("TaskOptions", future._origin)


def name_of(future: Future[Any]) -> str:
    """What to call a task among people: its label, else where it was submitted."""
    options = options_of(future)
    if options.label is not None:
        return options.label
    code = future._code
    return "a task" if code is None else f"a task of {code.co_name}"
