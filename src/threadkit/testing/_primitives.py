"""Locks, conditions, events and queues that belong to a scheduler.

Each behaves as its standard namesake, down to the errors of wrong use, and is a scheduling point
before it acts (`release`: after it acted). Where the standard one leaves an order open, the seed
decides: which contender gets a freed lock, which waiter `notify` wakes.

A thread that was told to wake has no right to anything yet: it contends again, so that another may
overtake it, as with the real ones.
"""

from __future__ import annotations

import _queue
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from threadkit._runtime import Lock
from threadkit.testing._scheduler import Actor, Scheduler, Waiter

__all__ = ["SimCondition", "SimEvent", "SimLock", "SimRLock", "SimSimpleQueue"]

T = TypeVar("T")


class _Simulated:
    """Something of one scheduler, named in reports by where it was made."""

    __slots__ = ("_made_at", "_made_in", "_scheduler")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        frame = sys._getframe(2)  # noqa: SLF001 - documented for CPython
        while frame.f_back and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
            frame = frame.f_back
        self._made_in = frame.f_code.co_filename
        self._made_at = frame.f_lineno

    def label(self) -> str:
        kind = type(self).__name__.removeprefix("Sim").lower()
        return f"{kind} made at {self._made_in.rpartition('/')[2]}:{self._made_at}"

    def describe(self) -> str:
        return self.label() + self._state()

    def _state(self) -> str:
        return ""

    def __repr__(self) -> str:
        return f"<{self.describe()}>"


_PACKAGE = __name__.rpartition(".")[0]


class _Mutex(_Simulated):
    """What the two locks share: one owner, and contenders who all try again when it is freed."""

    __slots__ = ("_contenders", "_depth", "_owner")

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self._owner: Actor | None = None
        self._depth = 0
        self._contenders: deque[Waiter] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if timeout != -1:
            _check_timeout(blocking, timeout)
        scheduler = self._scheduler
        scheduler.point("acquires", self)
        me = scheduler.current
        if self._depth == 0:
            self._owner = me
            self._depth = 1
            return True
        if self._reenters(me):
            self._depth += 1
            return True
        if not blocking:
            scheduler.yielded()
            return False
        return self._contend(1, timeout)

    __enter__ = acquire

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def _reenters(self, me: Actor | None) -> bool:
        return False

    def _contend(self, depth: int, timeout: float) -> bool:
        """Wait until the lock is free and take it `depth` times."""
        scheduler = self._scheduler
        deadline = scheduler.now + timeout
        while self._depth:
            waiter = scheduler.waiter()
            self._contenders.append(waiter)
            left = None if timeout < 0 else max(deadline - scheduler.now, 0.0)
            if not scheduler.park(waiter, "waits for", self, left) and self._depth:
                self._contenders.remove(waiter)
                return False
        self._owner = scheduler.current
        self._depth = depth
        return True

    def release(self) -> None:
        if self._scheduler.aborting:
            self._scheduler.abort()
        self._check_release()
        self._depth -= 1
        if self._depth == 0:
            self._owner = None
            if self._contenders:
                self._scheduler.wake_all(self._contenders)
        self._scheduler.point("released", self)

    def _check_release(self) -> None:
        if self._depth == 0:
            raise RuntimeError("release unlocked lock")

    def locked(self) -> bool:
        self._scheduler.point("looks at", self)
        return self._depth > 0

    def owned(self) -> bool:
        """Whether the calling thread holds it."""
        return self._depth > 0 and self._owner is self._scheduler.current

    def release_all(self) -> int:
        """Free it whatever its depth, without a scheduling point; return the depth."""
        depth, self._depth, self._owner = self._depth, 0, None
        self._scheduler.wake_all(self._contenders)
        return depth

    def acquire_again(self, depth: int) -> None:
        """Take it back `depth` times after `release_all`."""
        self._contend(depth, -1)

    def _state(self) -> str:
        if self._depth == 0:
            return " (free)"
        return f" (held by {self._owner.name if self._owner else 'nobody of the run'})"


class SimLock(_Mutex):
    """A `threading.Lock` of a `SimRuntime`."""

    __slots__ = ()


class SimRLock(_Mutex):
    """A `threading.RLock` of a `SimRuntime`."""

    __slots__ = ()

    def _reenters(self, me: Actor | None) -> bool:
        return self._owner is me

    def _check_release(self) -> None:
        if not self.owned():
            raise RuntimeError("cannot release un-acquired lock")


class SimCondition(_Simulated):
    """A `threading.Condition` of a `SimRuntime`.

    `notify` wakes waiters drawn from the seed. As with the real one, a waiter whose timeout has
    just passed may still be chosen, and then that notification is lost.
    """

    __slots__ = ("_lock", "_waiters", "acquire", "release")

    def __init__(self, scheduler: Scheduler, lock: Lock | None = None) -> None:
        super().__init__(scheduler)
        if lock is None:
            lock = SimRLock(scheduler)
        if not isinstance(lock, _Mutex):
            raise TypeError(f"lock must be a lock or rlock of this SimRuntime, not {lock!r}")
        self._lock = lock
        self._waiters: list[Waiter] = []
        self.acquire = lock.acquire
        self.release = lock.release

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        scheduler = self._scheduler
        scheduler.point("begins to wait for", self)
        if not self._lock.owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        waiter = scheduler.waiter()
        self._waiters.append(waiter)
        depth = self._lock.release_all()
        left = None if timeout is None else max(timeout, 0.0)
        notified = scheduler.park(waiter, "waits for", self, left)
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        self._lock.acquire_again(depth)
        return notified

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        deadline = None if timeout is None else self._scheduler.now + timeout
        result = predicate()
        while not result:
            left = None if deadline is None else deadline - self._scheduler.now
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        scheduler = self._scheduler
        scheduler.point("notifies", self)
        if not self._lock.owned():
            raise RuntimeError("cannot notify on un-acquired lock")
        for _ in range(min(n, len(self._waiters))):
            chosen = int(scheduler.random.random() * len(self._waiters))
            scheduler.wake(self._waiters.pop(chosen))

    def notify_all(self) -> None:
        self.notify(len(self._waiters))

    def _state(self) -> str:
        return f" over {self._lock.describe()}"


class SimEvent(_Simulated):
    """A `threading.Event` of a `SimRuntime`."""

    __slots__ = ("_flag", "_waiters")

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self._flag = False
        self._waiters: deque[Waiter] = deque()

    def is_set(self) -> bool:
        self._scheduler.point("looks at", self)
        return self._flag

    def set(self) -> None:
        self._scheduler.point("sets", self)
        self._flag = True
        self._scheduler.wake_all(self._waiters)

    def clear(self) -> None:
        self._scheduler.point("clears", self)
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        scheduler = self._scheduler
        scheduler.point("looks at", self)
        if self._flag:
            return True
        waiter = scheduler.waiter()
        self._waiters.append(waiter)
        left = None if timeout is None else max(timeout, 0.0)
        in_time = scheduler.park(waiter, "waits for", self, left)
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        return in_time  # as the real one: False after the timeout, even if it is set by now

    def _state(self) -> str:
        return " (set)" if self._flag else " (not set)"


class SimSimpleQueue(_Simulated):
    """A `queue.SimpleQueue` of a `SimRuntime`."""

    __slots__ = ("_items", "_waiters")

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self._items: deque[Any] = deque()
        self._waiters: deque[Waiter] = deque()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self._scheduler.point("puts into", self)
        self._items.append(item)
        self._scheduler.wake_all(self._waiters)

    def put_nowait(self, item: Any) -> None:
        self.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        scheduler = self._scheduler
        scheduler.point("gets from", self)
        if not self._items and block:
            self._await_item(timeout)
        if not self._items:
            scheduler.yielded()
            raise _queue.Empty
        return self._items.popleft()

    def _await_item(self, timeout: float | None) -> None:
        scheduler = self._scheduler
        deadline = None if timeout is None else scheduler.now + timeout
        while not self._items:
            waiter = scheduler.waiter()
            self._waiters.append(waiter)
            left = None if deadline is None else max(deadline - scheduler.now, 0.0)
            if not scheduler.park(waiter, "waits for an item of", self, left):
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                return

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def empty(self) -> bool:
        self._scheduler.point("looks at", self)
        return not self._items

    def qsize(self) -> int:
        self._scheduler.point("looks at", self)
        return len(self._items)

    def _state(self) -> str:
        return f" ({len(self._items)} items)"


def _check_timeout(blocking: bool, timeout: float) -> None:
    if not blocking:
        raise ValueError("can't specify a timeout for a non-blocking call")
    if timeout < 0:
        raise ValueError("timeout value must be a non-negative number")
    if timeout > threading.TIMEOUT_MAX:
        raise OverflowError("timeout value is too large")
