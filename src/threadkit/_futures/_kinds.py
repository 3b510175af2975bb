"""The future as pools make it, for each runtime."""

from __future__ import annotations

import sys
import threading
from typing import Any, ClassVar, TypeVar, cast

from threadkit._futures._future import Future
from threadkit._futures._watch import condition_type
from threadkit._runtime import REAL, Lock, Runtime

__all__ = ["GIL", "fork_lock", "future_type"]

T = TypeVar("T")

GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


class _PoolFuture(Future[T]):
    """A future as a pool makes it: blank, for submit to fill in.

    Its `__init__` is the one of object, in C: the call of one in Python costs as much as the rest
    of a submit.
    """

    __slots__ = ()
    __init__ = object.__init__


class _StripedFuture(_PoolFuture[T]):
    """The future where there is no GIL: its watchers would queue for one lock."""

    __slots__ = ()
    _stripes: ClassVar[tuple[Lock, ...]] = tuple(cast("Lock", threading.RLock()) for _ in range(64))

    def _watch_lock(self) -> Lock:
        return self._stripes[id(self) >> 6 & 63]  # allocations are at least 64 bytes apart


_PoolFuture.__name__ = _StripedFuture.__name__ = "Future"  # what it is to whoever prints it


class _AllWatchLocks:
    """Every watch lock at once: held while the process forks."""

    def __init__(self) -> None:
        self._locks: tuple[Lock, ...] = (
            cast("Lock", Future._watch),  # noqa: SLF001 - of this package
            *_StripedFuture._stripes,  # noqa: SLF001
        )

    def acquire(self) -> None:
        for lock in self._locks:
            lock.acquire()

    def release(self) -> None:
        for lock in reversed(self._locks):
            lock.release()


fork_lock = _AllWatchLocks()


def future_type(runtime: Runtime) -> type[Future[Any]]:
    """The class of the futures of a pool on this runtime: its locks are the runtime's."""
    if runtime is REAL:
        return cast("type[Future[Any]]", _PoolFuture if GIL else _StripedFuture)

    class RuntimeFuture(Future[Any]):
        __slots__ = ()
        _watch = runtime.rlock()
        _new_lock = staticmethod(runtime.lock)
        _condition_type = condition_type(runtime)

    RuntimeFuture.__name__ = "Future"
    return cast("type[Future[Any]]", RuntimeFuture)
