"""The condition of a future, made when somebody watches it, at a fraction of the standard's cost.

It is the lock itself, so that entering it is one call in C, and its waiters are raw locks.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from threadkit._runtime import Lock, Runtime

__all__ = ["Condition", "RealCondition", "condition_type"]

# In the fields of the subclasses, for a lock in C has no room for them here. Whoever makes a
# condition fills them in: an `__init__` in Python would cost as much as the rest of it.
_FIELDS = ("callbacks", "cancel_requested", "contested", "locks", "waiters")


class Condition:
    """What `Future`, `wait()` and `as_completed()` use of a condition."""

    if not TYPE_CHECKING:
        __slots__ = ()
    else:
        locks: list[Lock] | None  # of those in wait()
        waiters: list[Any]  # of the standard wait() and as_completed()
        callbacks: list[Callable[[Any], object]] | None
        contested: bool  # somebody wanted to end the task before it began
        cancel_requested: bool
        _new_lock: Callable[..., Any]

        acquire: Callable[..., bool]
        release: Callable[[], None]

        def __enter__(self) -> bool:
            return True

        def __exit__(self, *exc_info: object) -> None: ...

    def wait(self, timeout: float | None = None) -> bool:
        """Release, sleep until the future is done or `timeout` seconds passed, take it again."""
        lock: Lock = self._new_lock()
        lock.acquire()
        if self.locks is None:
            self.locks = []
        self.locks.append(lock)
        self.release()
        try:
            if timeout is None:
                return lock.acquire()
            return lock.acquire(True, max(0.0, min(timeout, threading.TIMEOUT_MAX)))
        finally:
            self.acquire()
            with suppress(ValueError):
                (self.locks or []).remove(lock)

    def notify_all(self) -> None:
        """Wake every waiter."""
        locks, self.locks = self.locks, None
        for lock in locks or ():
            lock.release()

    def notify(self, n: int = 1) -> None:
        """Wake every waiter: what they wait for is the same, and happens once."""
        del n
        self.notify_all()


_RLock: Any = _thread.RLock  # Any, because stubs call it final, which it is not


class RealCondition(Condition, _RLock):  # type: ignore[misc]
    """A condition that is a lock of the standard library, so that its methods are C."""

    __slots__ = _FIELDS
    _new_lock = staticmethod(_thread.allocate_lock)


def condition_type(runtime: Runtime) -> type[Condition]:
    """The conditions of futures on this runtime."""

    class RuntimeCondition(Condition):
        __slots__ = (*_FIELDS, "acquire", "release")
        _new_lock = staticmethod(runtime.lock)

        def __init__(self) -> None:
            lock = runtime.rlock()
            self.acquire = lock.acquire
            self.release = lock.release

        def __enter__(self) -> bool:
            return self.acquire()

        def __exit__(self, *exc_info: object) -> None:
            self.release()

    return RuntimeCondition
