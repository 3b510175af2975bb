"""The runtime seam: where every blocking class gets its clock, locks and threads from.

A class that blocks, waits or reads a clock takes `runtime=` (default `REAL`, the standard
library) and binds what it needs once, in its constructor. Tests hand it a
`threadkit.testing.SimRuntime` instead, which runs the same code under a seeded scheduler with a
virtual clock. Nothing is ever monkeypatched.

The names here are factories in lower case (`runtime.lock()`), because on `SimRuntime` they are
bound methods, not types.
"""

from __future__ import annotations

import _thread
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar, cast

__all__ = [
    "REAL",
    "Condition",
    "Event",
    "Lock",
    "RealRuntime",
    "Runtime",
    "SimpleQueue",
    "Thread",
]

T = TypeVar("T")


class Lock(Protocol):
    """What is used of a lock, re-entrant or not."""

    def acquire(self, blocking: bool = True, timeout: float = -1, /) -> bool: ...
    def release(self) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(self, *exc_info: object) -> None: ...


class Condition(Protocol):
    """What is used of a `threading.Condition`."""

    def acquire(self, blocking: bool = True, timeout: float = -1, /) -> bool: ...
    def release(self) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(self, *exc_info: object) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T: ...
    def notify(self, n: int = 1) -> None: ...
    def notify_all(self) -> None: ...


class Event(Protocol):
    """What is used of a `threading.Event`."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class SimpleQueue(Protocol):
    """What is used of a `queue.SimpleQueue`: its `put` is safe in a signal handler."""

    def put(self, item: Any, /) -> None: ...
    def get(self, block: bool = True, timeout: float | None = None) -> Any: ...
    def get_nowait(self) -> Any: ...
    def empty(self) -> bool: ...
    def qsize(self) -> int: ...


class Thread(Protocol):
    """What is used of a `threading.Thread`."""

    name: str
    daemon: bool

    @property
    def ident(self) -> int | None: ...
    def start(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...
    def is_alive(self) -> bool: ...


class Runtime(Protocol):
    """Clock, locks and threads. `REAL` is the standard library's; `SimRuntime` is a test's."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def time(self) -> float:
        """Seconds since the epoch, for people and logs only."""
        ...

    def thread_time(self) -> float:
        """CPU seconds used by the calling thread."""
        ...

    def process_time(self) -> float:
        """CPU seconds used by all threads of the process."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Block the calling thread for `seconds`."""
        ...

    def get_ident(self) -> int:
        """A number that names the calling thread while it lives."""
        ...

    def lock(self) -> Lock:
        """A plain mutual-exclusion lock."""
        ...

    def rlock(self) -> Lock:
        """A lock its owner may take again."""
        ...

    def owns(self, lock: Lock, /) -> bool:
        """Whether the calling thread holds `lock`, an rlock."""
        ...

    def condition(self, lock: Lock | None = None) -> Condition:
        """A condition over `lock`, or over an rlock of its own."""
        ...

    def event(self) -> Event:
        """A flag to wait for."""
        ...

    def simple_queue(self) -> SimpleQueue:
        """An unbounded FIFO whose `put` never blocks and is re-entrant."""
        ...

    def thread(
        self,
        target: Callable[..., object],
        *,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        daemon: bool | None = None,
    ) -> Thread:
        """A thread, not yet started. Its `start()` raises RuntimeError when the OS refuses."""
        ...


class RealRuntime:
    """The standard library's clock, locks and threads."""

    # Plain functions, so that a hot path that binds `runtime.monotonic` pays nothing for the seam.
    monotonic = staticmethod(time.monotonic)
    thread_time = staticmethod(time.thread_time)
    process_time = staticmethod(time.process_time)
    sleep = staticmethod(time.sleep)
    time = staticmethod(time.time)
    get_ident = staticmethod(threading.get_ident)
    lock = staticmethod(_thread.allocate_lock)
    rlock = staticmethod(threading.RLock)
    event = staticmethod(threading.Event)
    simple_queue = cast("Callable[[], SimpleQueue]", queue.SimpleQueue)

    def owns(self, lock: Any, /) -> bool:
        """As conditions ask it, for which every RLock can tell."""
        return lock._is_owned()  # type: ignore[no-any-return] # noqa: SLF001

    def condition(self, lock: Any = None) -> threading.Condition:
        """A `threading.Condition`."""
        return threading.Condition(lock)

    def thread(
        self,
        target: Callable[..., object],
        *,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        daemon: bool | None = None,
    ) -> threading.Thread:
        """A `threading.Thread`."""
        return threading.Thread(target=target, name=name, args=args, kwargs=kwargs, daemon=daemon)

    def __repr__(self) -> str:
        return "REAL"


REAL = cast("Runtime", RealRuntime())
