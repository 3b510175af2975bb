"""Those who wait at one end of a queue, a thread or a coroutine each.

Whoever takes a waiter out of its queue's register, under the queue's lock, calls its `wake`, once
and after releasing that lock. So a waiter that is no longer in the register has been woken, or is
about to be.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from typing import TypeAlias

from threadkit._runtime import Lock

__all__ = ["LoopWaiter", "Register", "ThreadWaiter", "Waiter"]


class ThreadWaiter:
    """A blocked thread. It holds its own lock, and waits by taking it a second time."""

    __slots__ = ("_lock", "returning")

    def __init__(self, lock: Lock) -> None:
        # Locked: asleep, or not yet waiting. Released, by `wake` only: one wake-up to collect.
        lock.acquire()
        self._lock = lock
        self.returning = False  # it was woken in vain and keeps its turn

    def wait(self, timeout: float | None) -> bool:
        """Sleep until woken (True) or for `timeout` seconds (False)."""
        if timeout is None:
            return self._lock.acquire()
        return self._lock.acquire(True, min(timeout, threading.TIMEOUT_MAX))

    def wake(self, *, from_signal: bool = False) -> bool:
        """Let the thread go on. Always succeeds."""
        del from_signal
        self._lock.release()
        return True


class LoopWaiter:
    """A suspended coroutine of some event loop."""

    __slots__ = ("_future", "_loop", "_thread", "returning")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._future: asyncio.Future[bool] = self._loop.create_future()
        self.returning = False

    async def wait(self, timeout: float | None) -> bool:
        """Suspend until woken (True) or for `timeout` seconds of the loop's clock (False)."""
        timer = None if timeout is None else self._loop.call_later(timeout, self._resolve, False)
        try:
            woken = await self._future
        finally:
            if timer is not None:
                timer.cancel()
        self._future = self._loop.create_future()
        return woken

    def wake(self, *, from_signal: bool = False) -> bool:
        """Let the coroutine go on; False when its event loop is closed.

        A signal handler runs in the loop's thread while the loop sleeps in its selector, so it has
        to wake the loop as another thread does.
        """
        if self._thread == threading.get_ident() and not from_signal:
            if self._loop.is_closed():
                return False
            self._resolve(True)
            return True
        try:
            self._loop.call_soon_threadsafe(self._resolve, True)
        except RuntimeError:
            return False
        return True

    def _resolve(self, woken: bool) -> None:
        if not self._future.done():
            self._future.set_result(woken)


Waiter: TypeAlias = "ThreadWaiter | LoopWaiter"
# An ordered set: first come, first woken, and whoever gives up leaves it in O(1).
Register: TypeAlias = "OrderedDict[Waiter, None]"
