"""Those who wait at one end of a queue: threads and coroutines, in one line.

Three rules keep wake-ups from being lost.

1. Whoever takes a waiter out of its line wakes it, once. Taking out is one `deque.popleft` or
   `deque.remove`, of which two never get the same waiter, so it needs no lock.
2. What is waited for is there before a waiter is taken out for it. A waiter looks, and stands in
   line if it found nothing, under the queue's lock, in one go.
3. Whoever leaves without success and is no longer in line has been woken, or is about to be: it
   looks once more (its time was up) or takes out the next one (it was cancelled). By 2 that one,
   and whoever is just about to stand in line, finds what there is.

So nobody needs the queue's lock to leave. A coroutine that is thrown away leaves in a finalizer,
which runs in the middle of any thread, also of one that holds that lock.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Literal, TypeAlias, TypeVar

from threadkit._queues._store import NOTHING, Nothing
from threadkit._runtime import Lock, Runtime

__all__ = ["Attempt", "Line", "Waiter"]

R = TypeVar("R")
# Does the work and returns its result, or NOTHING: not possible yet, and the waiter is in line.
Attempt: TypeAlias = "Callable[[Waiter | None], R | Literal[Nothing.NOTHING]]"


class ThreadWaiter:
    """A blocked thread. It waits by taking its own lock a second time."""

    __slots__ = ("_lock", "look_at", "returning")

    def __init__(self, lock: Lock) -> None:
        # Locked: no wake-up has come. Released, by `wake` only: there is one to collect.
        lock.acquire()
        self._lock = lock
        self.returning = False  # it was woken in vain and keeps its turn
        self.look_at = inf  # when it looks again without being woken

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

    __slots__ = ("_future", "_is_woken", "_loop", "_thread", "look_at", "returning")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self._is_woken = False  # also where its timer resolved the future just before
        self.returning = False
        self.look_at = inf

    async def wait(self, timeout: float | None) -> bool:
        """Suspend until woken (True) or for `timeout` seconds of the loop's clock (False)."""
        timer = None if timeout is None else self._loop.call_later(timeout, self._resolve, False)
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()
        self._future = self._loop.create_future()
        woken, self._is_woken = self._is_woken, False
        return woken

    def wake(self, *, in_handler: bool = False) -> bool:
        """Let the coroutine go on; False when its event loop is closed.

        A signal handler or finalizer may run in the loop's own thread when that has looked for
        callbacks already and is about to sleep, so it has to wake the loop as another thread would.
        """
        if self._loop.is_closed():
            return False
        if not in_handler and self._thread == threading.get_ident() and self._runs_here():
            self._resolve(True)
            return True
        try:
            self._loop.call_soon_threadsafe(self._resolve, True)
        except RuntimeError:  # closed since
            return False
        return True

    def _runs_here(self) -> bool:
        """Whether this thread runs the loop; it may go on in another than it began in."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _resolve(self, woken: bool) -> None:
        self._is_woken = self._is_woken or woken
        if not self._future.done():
            self._future.set_result(None)


Waiter: TypeAlias = "ThreadWaiter | LoopWaiter"


class Line:
    """Those who wait for one and the same thing; first come, first woken.

    Args:
        look: Called, without the lock, by a waiter whose `look_at` has come while it stands in
            line: to make happen what it waits for, and to set the next `look_at`.
        runtime: Clock and locks.
    """

    def __init__(self, look: Callable[[Waiter], None], runtime: Runtime) -> None:
        # Waiters enter it under the queue's lock, and are taken out by anybody at any time.
        # Giving up is O(n), in C: those whose time is up stand in front, as a rule.
        self.waiting: deque[Waiter] = deque()
        self._look = look
        self._clock = runtime.monotonic
        self._new_lock = runtime.lock

    def enter_locked(self, waiter: Waiter) -> None:
        """Stand in line: at the end, or in front after a wake-up in vain."""
        if waiter.returning:
            self.waiting.appendleft(waiter)
        else:
            waiter.returning = True
            self.waiting.append(waiter)

    def next(self) -> Waiter | None:
        """Take out who is first, for `wake`. Atomic: needs no lock."""
        try:
            return self.waiting.popleft()
        except IndexError:
            return None

    def all(self) -> list[Waiter]:
        """Take out everybody, for `wake`."""
        return list(iter(self.next, None))

    def first_looks_at(self) -> float:
        """When the first in line will look again by itself; before all times if there is none."""
        try:
            return self.waiting[0].look_at
        except IndexError:
            return -inf

    def wake(self, waiter: Waiter, *, in_handler: bool = False) -> None:
        """Wake a waiter that was taken out, or the next one where its event loop is gone."""
        if not waiter.wake(in_handler=in_handler):
            self.wake_next(in_handler=in_handler)

    def wake_next(self, *, in_handler: bool = False) -> None:
        """Wake the first in line who can be woken."""
        while (waiter := self.next()) is not None and not waiter.wake(in_handler=in_handler):
            pass

    def recall(self, waiter: Waiter) -> None:
        """Take out one that may stand anywhere, and wake it to look again."""
        if self._leave(waiter):  # else somebody else wakes it
            waiter.wake()

    def block(self, attempt: Attempt[R], timeout: float | None) -> R | Literal[Nothing.NOTHING]:
        """Repeat `attempt` at each wake-up until it succeeds; NOTHING after `timeout` seconds."""
        if timeout == 0:
            return attempt(None)
        waiter = ThreadWaiter(self._new_lock())
        give_up_at = self._give_up_at(timeout)
        try:
            while (result := attempt(waiter)) is NOTHING:
                while not waiter.wait(self._patience(waiter, give_up_at)):
                    if give_up_at <= waiter.look_at:
                        return self._last_attempt(attempt, waiter)
                    self._look(waiter)
        except BaseException:
            self._give_up(waiter)
            raise
        return result

    async def suspend(
        self, attempt: Attempt[R], timeout: float | None
    ) -> R | Literal[Nothing.NOTHING]:
        """`block` for coroutines."""
        if timeout == 0:
            return attempt(None)
        waiter = LoopWaiter()
        give_up_at = self._give_up_at(timeout)
        try:
            while (result := attempt(waiter)) is NOTHING:
                while not await waiter.wait(self._patience(waiter, give_up_at)):
                    if give_up_at <= waiter.look_at:
                        return self._last_attempt(attempt, waiter)
                    self._look(waiter)
        except BaseException:
            self._give_up(waiter)
            raise
        return result

    def _give_up_at(self, timeout: float | None) -> float:
        return inf if timeout is None else self._clock() + timeout

    def _patience(self, waiter: Waiter, give_up_at: float) -> float | None:
        """Seconds until a waiter that nobody wakes gives up, or looks again."""
        until = waiter.look_at
        if give_up_at < until:  # noqa: PLR1730 - min() is a call on the way of every wait
            until = give_up_at
        return None if until == inf else max(0.0, until - self._clock())

    def _last_attempt(self, attempt: Attempt[R], waiter: Waiter) -> R | Literal[Nothing.NOTHING]:
        """The time is up; a wake-up may have come in the same moment, so look once more."""
        self._leave(waiter)
        return attempt(None)

    def _give_up(self, waiter: Waiter) -> None:
        """Leave without success; a wake-up that has come, and a watch that was kept, go on.

        May run in a finalizer, at any point of the thread it runs on.
        """
        if not self._leave(waiter) or waiter.look_at < inf:
            self.wake_next(in_handler=True)

    def _leave(self, waiter: Waiter) -> bool:
        """Take a waiter out for good; False: somebody did, and wakes it."""
        try:
            self.waiting.remove(waiter)
        except ValueError:
            return False
        return True
