"""An asyncio event loop whose waiting and whose clock are simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from threadkit._runtime import Event

if TYPE_CHECKING:
    from threadkit.testing._simruntime import SimRuntime

__all__ = ["SimEventLoop"]

T = TypeVar("T")


class SimEventLoop(asyncio.BaseEventLoop):
    """An event loop that waits on an event of a `SimRuntime` where others wait for sockets.

    It has timers, tasks, futures and `call_soon_threadsafe`, but no sockets, pipes or signals. The
    base class leaves open what a loop waits with; those hooks, and its own selector, are all that
    is filled in here.
    """

    def __init__(self, runtime: SimRuntime) -> None:
        super().__init__()
        self._monotonic = runtime.monotonic
        self._woken: Event = runtime.event()
        self._selector = self  # the base class calls its select()

    def time(self) -> float:
        return self._monotonic()

    def select(self, timeout: float | None) -> list[Any]:
        """Wait until a timer is due or another thread has scheduled a callback."""
        self._woken.wait(timeout)
        self._woken.clear()
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no sockets to have events."""

    def _write_to_self(self) -> None:
        self._woken.set()

    def run_to_end(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What `asyncio.run` does: run it, cancel the tasks it leaves behind, close the loop."""
        try:
            return self.run_until_complete(coroutine)
        finally:
            try:
                self._end_tasks()
                self.run_until_complete(self.shutdown_asyncgens())
            finally:
                self.close()

    def _end_tasks(self) -> None:
        left = asyncio.all_tasks(self)
        for task in left:
            task.cancel()
        if left:
            self.run_until_complete(asyncio.gather(*left, return_exceptions=True))
