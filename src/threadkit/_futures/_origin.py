"""What a future knows of the pool it came from, and of the thread that asks it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from threadkit._futures._future import Future

__all__ = ["Origin", "here"]


class _Here(threading.local):
    worker: Any = None  # of the class, because a look for what is not there is slow


here = _Here()
"""The calling thread's `worker`, on threads of a pool."""


class Origin(Protocol):
    """Who made a future: its pool, with the options its task was submitted with."""

    @property
    def crew(self) -> object:
        """What it has in common with the workers of the same pool."""
        ...

    @property
    def guarded(self) -> bool:
        """Whether its tasks have deadlines: then their futures have a condition from birth."""
        ...

    def begun(self, future: Future[Any], /) -> bool:
        """Called when a guarded task is to begin; false if it must not."""
        ...

    def cancelled(self, future: Future[Any], /) -> None:
        """Called once, just before anybody can see that the future is cancelled."""
        ...

    def wait(self, future: Future[Any], timeout: float | None, /) -> None:
        """Called on a worker of the same pool, which must not hold up the others by waiting."""
        ...

    def waited_upon(self) -> None:
        """As `wait`, when wait() or as_completed() is about to wait for an unfinished future."""
        ...
