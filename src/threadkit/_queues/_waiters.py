"""Those who wait at one end of a queue: threads and coroutines, in one line.

One rule keeps wake-ups from being lost. Whoever takes a waiter out of its line, under the lock,
wakes it, once and after releasing the lock. So a waiter that is no longer in its line has been
woken or is about to be, and one that gives up can tell: still in line, it just leaves; no longer in
line, it tries once more (its time was up) or passes the wake-up on (it was cancelled).
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

from threadkit._queues._store import NOTHING, Nothing
from threadkit._runtime import Lock, Runtime

__all__ = ["Line", "Waiter"]

R = TypeVar("R")
# Does the work and returns its result, or NOTHING: not possible yet, and the waiter is in line.
Attempt: TypeAlias = "Callable[[Waiter | None], R | Literal[Nothing.NOTHING]]"


class ThreadWaiter:
    """A blocked thread. It waits by taking its own lock a second time."""

    __slots__ = ("_lock", "returning")

    def __init__(self, lock: Lock) -> None:
        # Locked: no wake-up has come. Released, by `wake` only: there is one to collect.
        lock.acquire()
        self._lock = lock
        self.returning = False  # it was woken in vain and keeps its turn

    def wait(self, timeout: float | None) -> bool:
        """Sleep until woken (True) or for `timeout` seconds (False)."""
        if timeout is None:
            return self._lock.acquire()
        return self._lock.acquire(True, min(timeout, threading.TIMEOUT_MAX))

    def wake(self, *, in_handler: bool = False) -> bool:
        """Let the thread go on. Always succeeds."""
        del in_handler
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

    def wake(self, *, in_handler: bool = False) -> bool:
        """Let the coroutine go on; False when its event loop is closed.

        A signal handler runs in the loop's own thread while the loop sleeps in its selector, so it
        has to wake the loop as another thread would.
        """
        if self._loop.is_closed():
            return False
        if self._thread == threading.get_ident() and not in_handler:
            self._resolve(True)
            return True
        try:
            self._loop.call_soon_threadsafe(self._resolve, True)
        except RuntimeError:  # closed since
            return False
        return True

    def _resolve(self, woken: bool) -> None:
        if not self._future.done():
            self._future.set_result(woken)


Waiter: TypeAlias = "ThreadWaiter | LoopWaiter"


class Line:
    """Those who wait for one and the same thing; first come, first woken.

    Args:
        lock: The queue's; it guards `waiting`, which only methods ending in `_locked` touch.
        pass_on: Called without the lock when a waiter leaves because it was cancelled; True: after
            a wake-up had come that somebody else can use.
        runtime: Clock and locks.
    """

    def __init__(self, lock: Lock, pass_on: Callable[[bool], None], runtime: Runtime) -> None:
        self.waiting: OrderedDict[Waiter, None] = OrderedDict()  # giving up takes O(1)
        self._lock = lock
        self._pass_on = pass_on
        self._clock = runtime.monotonic
        self._new_lock = runtime.lock

    def enter_locked(self, waiter: Waiter) -> None:
        """Stand in line: at the end, or in front after a wake-up in vain."""
        self.waiting[waiter] = None
        if waiter.returning:
            self.waiting.move_to_end(waiter, last=False)
        waiter.returning = True

    def next_locked(self) -> Waiter:
        """Take out who is first, for `wake`. There is one."""
        return self.waiting.popitem(last=False)[0]

    def all_locked(self) -> list[Waiter]:
        """Take out everybody, for `wake`."""
        waiters = list(self.waiting)
        self.waiting.clear()
        return waiters

    def wake(self, waiter: Waiter, *, in_handler: bool = False) -> None:
        """Wake a waiter that was taken out, or the next one where its event loop is gone."""
        while not waiter.wake(in_handler=in_handler):
            with self._lock:
                if not self.waiting:
                    return
                waiter = self.next_locked()

    def block(self, attempt: Attempt[R], timeout: float | None) -> R | Literal[Nothing.NOTHING]:
        """Repeat `attempt` at each wake-up until it succeeds; NOTHING after `timeout` seconds."""
        if timeout == 0:
            return attempt(None)
        waiter = ThreadWaiter(self._new_lock())
        give_up_at = self._give_up_at(timeout)
        while (result := attempt(waiter)) is NOTHING:
            try:
                woken = waiter.wait(self._left(give_up_at))
            except BaseException:
                self._give_up(waiter)
                raise
            if not woken:
                return self._last_attempt(attempt, waiter)
        return result

    async def suspend(
        self, attempt: Attempt[R], timeout: float | None
    ) -> R | Literal[Nothing.NOTHING]:
        """`block` for coroutines."""
        if timeout == 0:
            return attempt(None)
        waiter = LoopWaiter()
        give_up_at = self._give_up_at(timeout)
        while (result := attempt(waiter)) is NOTHING:
            try:
                woken = await waiter.wait(self._left(give_up_at))
            except BaseException:
                self._give_up(waiter)
                raise
            if not woken:
                return self._last_attempt(attempt, waiter)
        return result

    def _give_up_at(self, timeout: float | None) -> float | None:
        return None if timeout is None else self._clock() + timeout

    def _left(self, give_up_at: float | None) -> float | None:
        return None if give_up_at is None else max(0.0, give_up_at - self._clock())

    def _last_attempt(self, attempt: Attempt[R], waiter: Waiter) -> R | Literal[Nothing.NOTHING]:
        """The time is up; a wake-up may have come in the same moment, so look once more."""
        with self._lock:
            self.waiting.pop(waiter, None)
        return attempt(None)

    def _give_up(self, waiter: Waiter) -> None:
        with self._lock:
            was_woken = waiter not in self.waiting
            self.waiting.pop(waiter, None)
        self._pass_on(was_woken)
