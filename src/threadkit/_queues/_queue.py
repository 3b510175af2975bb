"""MessageQueue: what users call, in terms of the steps of an `Exchange`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from functools import partial
from math import inf
from types import MappingProxyType
from typing import Literal, TypeVar, get_args

from threadkit._errors import QueueEmpty
from threadkit._queues._exchange import Exchange, is_index
from threadkit._queues._statistics import QueueStatistics
from threadkit._queues._store import NOTHING, DropReason, Nothing, Overflow
from threadkit._queues._waiters import Attempt, Waiter
from threadkit._runtime import REAL, Runtime

__all__ = ["MessageQueue"]

T = TypeVar("T")


class MessageQueue(Exchange[T]):
    """A bounded queue of levels between threads and coroutines, for items that go stale.

    ::

        put, aput --> level 0  [ | | ] --+
                      level 1  [ | ]   --+--> get, aget, get_batch
                      level 2  [ | | ] --+
                                 |
                                 +--> on_drop(item, reason), counted by reason

    >>> queue = MessageQueue(levels=2, maxsize=100, overflow="drop_oldest")
    >>> queue.put("a comment", 1)
    >>> queue.put("a gift", 0)
    >>> queue.get(), queue.get()
    ('a gift', 'a comment')

    Level 0 is the most urgent. Within a level first come is first served. With `ageing`, an item of
    level n is served as if it had come n x ageing seconds later, so no level starves.

    `overflow` says what becomes of an item that finds the queue full: "block" waits for room,
    "reject" raises QueueFull, "drop_new" drops the item itself, "drop_oldest" the one that waits
    longest, and "drop_lowest" the oldest of the least urgent level, or the item itself where its
    own level is lower still. All but the first two drop what is stale before anything else, and
    "block" and "reject" too take the room of what is stale.

    Nothing vanishes in silence: an item that leaves without a consumer is counted by reason and
    handed to `on_drop`.

    Thread safety:
        Any number of threads and event loops may use both ends at once. `put_from_signal` is the
        only method for signal handlers and finalizers. `merge` and `on_drop` run in the calling
        thread, outside the lock.

    Lifetime:
        Holds no thread and needs no closing. `close` ends it for both ends; there is no reopening.

    Args:
        levels: How many levels there are.
        name: What errors and statistics call it.
        maxsize: How many items may wait; 0: any number.
        overflow: What happens to an item that finds the queue full.
        ageing: Seconds of waiting that make up for one level; None: no wait does.
        ttl: Seconds after which a waiting item is stale, unless its put has its own; None: never.
        merge: `merge(waiting, new)` returns the item that takes the place of the waiting one with
            the same key. It must change neither: it is called again when the waiting one was taken
            meanwhile. None: the new item replaces the waiting one.
        on_drop: Called with each dropped item and the reason, by the thread whose call dropped it,
            before that call returns. What it raises, SystemExit included, goes to
            `sys.unraisablehook` and is counted. A KeyboardInterrupt ends the call instead, as it
            would anywhere else in it: what a get had taken is counted among `gets` and lost.
        runtime: Clock and locks.

    Raises:
        TypeError: `levels` or `maxsize` is no int.
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        levels: int = 4,
        *,
        name: str = "queue",
        maxsize: int = 0,
        overflow: Overflow = "block",
        ageing: float | None = None,
        ttl: float | None = None,
        merge: Callable[[T, T], T] | None = None,
        on_drop: Callable[[T, DropReason], object] | None = None,
        runtime: Runtime = REAL,
    ) -> None:
        if not is_index(levels):
            raise TypeError(f"levels must be an int, not {levels!r}")
        if levels < 1:
            raise ValueError(f"levels must be at least 1, not {levels!r}")
        if overflow not in get_args(Overflow):
            allowed = ", ".join(get_args(Overflow))
            raise ValueError(f"overflow must be one of {allowed}, not {overflow!r}")
        if ageing is not None and not 0 <= ageing < inf:
            raise ValueError(f"ageing must be None or at least 0 seconds, not {ageing!r}")
        if ageing is not None and not levels * ageing < inf:
            raise ValueError(f"levels * ageing must be finite, not {levels!r} * {ageing!r}")
        super().__init__(
            levels=levels,
            name=name,
            maxsize=_checked_maxsize(maxsize),
            overflow=overflow,
            ageing=ageing,
            merge=merge,
            on_drop=on_drop,
            runtime=runtime,
        )
        self._lifetime = inf if ttl is None else _checked_ttl(ttl)

    # -- putting --------------------------------------------------------------------------

    def put(
        self,
        item: T,
        priority: int = 0,
        *,
        ttl: float | None = None,
        key: Hashable = None,
        timeout: float | None = None,
    ) -> None:
        """Add an item; with overflow "block", wait for room.

        Blocks: with overflow "block", while the queue is full, for at most `timeout` seconds.

        Args:
            item: Anything, None included.
            priority: Its level; 0 is the most urgent.
            ttl: Seconds until it is stale; None: the queue's own.
            key: By which it can be cancelled, moved, and merged with the next item of the same key.
                The merged item keeps the place of the older and the ttl of the newer one, in the
                more urgent level of the two.
            timeout: Seconds to wait for room; None: any time.

        Raises:
            QueueFull: There was no room.
            QueueClosed: The queue was closed, before or during the wait.
            TypeError: `priority` is no int, or a duration is no number.
            ValueError: `priority` names no level, or a duration is out of its range.
        """
        try:
            is_level = 0 <= priority < self.levels
        except TypeError:
            is_level = False
        if not is_level:
            raise self._no_level("priority", priority)
        lifetime = self._lifetime if ttl is None else _checked_ttl(ttl)
        if timeout is not None:
            _check_timeout(timeout)
        if not self._put_now(item, priority, lifetime, key):
            self._check_level("priority", priority)
            self._put_patiently(partial(self._offer, item, priority, lifetime, key), timeout)

    def put_nowait(
        self, item: T, priority: int = 0, *, ttl: float | None = None, key: Hashable = None
    ) -> None:
        """`put` that raises QueueFull where that would wait."""
        self.put(item, priority, ttl=ttl, key=key, timeout=0)

    async def aput(
        self,
        item: T,
        priority: int = 0,
        *,
        ttl: float | None = None,
        key: Hashable = None,
        timeout: float | None = None,
    ) -> None:
        """`put` for coroutines. Cancelled while it waits, it has put nothing."""
        lifetime = self._check_put(priority, ttl, timeout)
        if not self._put_now(item, priority, lifetime, key):
            await self._aput_patiently(partial(self._offer, item, priority, lifetime, key), timeout)

    def put_from_signal(self, item: T, priority: int = 0, *, ttl: float | None = None) -> None:
        """`put` for signal handlers and finalizers, where every other method may deadlock.

        Never blocks, and never raises for the state of the queue: with overflow "block" or
        "reject" the item enters a full queue all the same, and a closed queue drops it. What is
        dropped is reported to `on_drop` by the next call of another method, outside the handler.

        Raises:
            ValueError: `priority` names no level, or `ttl` is out of its range.
        """
        lifetime = self._check_put(priority, ttl, None)
        self._signalled = True
        self._inbox.put((item, priority, lifetime))
        self._admit_signalled(in_handler=True)

    def _put_patiently(self, attempt: Attempt[None], timeout: float | None) -> None:
        """Repeat `attempt` until it succeeds, or raise QueueFull."""
        if self._putters.block(attempt, self._patience(timeout)) is NOTHING:
            raise self._full()

    async def _aput_patiently(self, attempt: Attempt[None], timeout: float | None) -> None:
        """`_put_patiently` for coroutines."""
        if await self._putters.suspend(attempt, self._patience(timeout)) is NOTHING:
            raise self._full()

    def _patience(self, timeout: float | None) -> float | None:
        """Seconds a put that finds no room waits for some."""
        return 0 if self.overflow == "reject" else timeout

    # -- getting --------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> T:
        """Take the next item.

        Blocks: while the queue is empty, for at most `timeout` seconds.

        Args:
            timeout: Seconds to wait for an item; None: any time.

        Raises:
            QueueEmpty: No item came.
            QueueClosed: The queue is closed and nothing is left in it.
            ValueError: `timeout` is negative.
        """
        if timeout is not None:
            _check_timeout(timeout)
        item = self._take() if self._store.count else NOTHING  # a racy look; `block` makes sure
        if item is NOTHING:
            item = self._getters.block(self._take, timeout)
            if item is NOTHING:
                raise QueueEmpty(component=self.name)
        return item

    def get_nowait(self) -> T:
        """`get` that raises QueueEmpty where that would wait."""
        return self.get(timeout=0)

    async def aget(self, timeout: float | None = None) -> T:
        """`get` for coroutines. Cancelled while it waits, it has taken nothing.

        It suspends only when the queue is empty, as `asyncio.Queue.get` does.
        """
        if timeout is not None:
            _check_timeout(timeout)
        item = self._take() if self._store.count else NOTHING  # a racy look; `suspend` makes sure
        if item is NOTHING:
            item = await self._getters.suspend(self._take, timeout)
            if item is NOTHING:
                raise QueueEmpty(component=self.name)
        return item

    def get_batch(self, n: int, timeout: float | None = None) -> list[T]:
        """Take up to `n` items that are there, at least one; wait only for the first.

        Blocks: while the queue is empty, for at most `timeout` seconds.

        Args:
            n: The most items to take.
            timeout: Seconds to wait for the first item; None: any time.

        Raises:
            QueueEmpty: No item came.
            QueueClosed: The queue is closed and nothing is left in it.
            TypeError: `n` is no int.
            ValueError: `n` is less than 1, or `timeout` is negative.
        """
        if not is_index(n):
            raise TypeError(f"n must be an int, not {n!r}")
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n!r}")
        if timeout is not None:
            _check_timeout(timeout)
        return self._take_some(n) or [self.get(timeout), *self._take_some(n - 1)]

    # -- what waits -----------------------------------------------------------------------

    def cancel(self, key: Hashable) -> bool:
        """Drop the waiting item with this key; False when none waits."""
        with self._section:
            entry = self._store.by_key.get(key)
            if entry is not None:
                self._store.drop(entry, "cancelled")
            return entry is not None

    def reprioritize(self, key: Hashable, level: int) -> bool:
        """Move the waiting item with this key to another level; False when none waits.

        It keeps its age: in the new level it stands where it would had it been put there.

        Raises:
            ValueError: There is no such level.
        """
        self._check_level("level", level)
        with self._section:
            entry = self._store.by_key.get(key)
            if entry is not None:
                _, item, _, _, deadline, _, _ = entry
                self._store.update(entry, item, level, deadline)
            return entry is not None

    def resize(self, maxsize: int) -> None:
        """Let `maxsize` items wait from now on; 0: any number.

        What is too much is dropped by the rules "drop_oldest" and "drop_lowest"; with the others
        it stays until it is taken.
        """
        _checked_maxsize(maxsize)
        with self._section:
            self._maxsize = maxsize
            if self._closed:
                return
            self._limit = maxsize or sys.maxsize
            if self.overflow in ("drop_oldest", "drop_lowest"):
                while self._store.count > self._limit:
                    self._store.evict(self.overflow, 0)

    def close(self, *, drain: bool = True) -> list[T]:
        """Refuse puts from now on; gets drain what is left, then raise QueueClosed.

        May be called again, and by several threads at once.

        Args:
            drain: Leave what waits to the consumers. False: drop it, with the reason "closed".

        Returns:
            The items dropped for the close, the next one first.
        """
        with self._section:
            self._closed = True
            self._limit = -1
            self._wake_all_locked(self._getters)
            self._wake_all_locked(self._putters)
            return [] if drain else self._store.clear()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the queue is empty, all of it taken or dropped; False: it was not in time.

        Blocks: for at most `timeout` seconds; None: any time.

        Raises:
            ValueError: `timeout` is negative.
        """
        if timeout is not None:
            _check_timeout(timeout)
        return self._joiners.block(self._see_empty, timeout) is not NOTHING

    def _see_empty(self, waiter: Waiter | None = None) -> Literal[Nothing.NOTHING] | None:
        with self._section:
            if not self._store.count:
                return None
            if waiter is not None:
                self._joiners.enter_locked(waiter)
            return NOTHING

    # -- looking --------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether puts are refused."""
        return self._closed

    def __len__(self) -> int:
        return self._store.count

    def statistics(self) -> QueueStatistics:
        """One consistent look at the counts."""
        store = self._store
        with self._section:
            return QueueStatistics(
                name=self.name,
                maxsize=self._maxsize,
                closed=self._closed,
                puts=store.puts,
                gets=store.gets,
                drops=MappingProxyType(store.drops.copy()),
                waiting=store.count,
                waiting_by_level=tuple(map(len, store.levels)),
                merged=self._merged,
                rejected=self._rejected,
                oldest_age=self._clock() - store.oldest()[3] if store.count else 0.0,
                high_water=store.high_water,
                blocked_gets=len(self._getters.waiting),
                blocked_puts=len(self._putters.waiting),
                callback_errors=self._callback_errors,
            )

    def __repr__(self) -> str:
        seen = self.statistics()
        bound = f"/{seen.maxsize}" if seen.maxsize else ""
        state = "closed" if seen.closed else "open"
        return (
            f"<MessageQueue {self.name!r} {state}: {seen.waiting}{bound} waiting "
            f"{list(seen.waiting_by_level)}, {seen.blocked_gets} gets and "
            f"{seen.blocked_puts} puts blocked>"
        )

    # -- refusals -------------------------------------------------------------------------

    def _check_put(self, priority: int, ttl: float | None, timeout: float | None) -> float:
        """Refuse bad arguments of a put; return the item's seconds to live."""
        self._check_level("priority", priority)
        if timeout is not None:
            _check_timeout(timeout)
        return self._lifetime if ttl is None else _checked_ttl(ttl)

    def _check_level(self, argument: str, given: int) -> None:
        if not is_index(given) or not 0 <= given < self.levels:
            raise self._no_level(argument, given)


def _checked_maxsize(maxsize: int) -> int:
    if not is_index(maxsize):
        raise TypeError(f"maxsize must be an int, not {maxsize!r}")
    if maxsize < 0:
        raise ValueError(f"maxsize must be 0 (any number) or more, not {maxsize!r}")
    return maxsize


def _checked_ttl(ttl: float) -> float:
    try:
        seconds = 0.0 + ttl  # a Decimal is a number too, but not one that a clock can add
    except TypeError:
        raise TypeError(f"ttl must be a number of seconds, not {ttl!r}") from None
    if not seconds > 0:
        raise ValueError(f"ttl must be more than 0 seconds, not {ttl!r}")
    return seconds


def _check_timeout(timeout: float) -> None:
    try:
        is_wait = timeout >= 0
    except TypeError:
        raise TypeError(f"timeout must be None or a number of seconds, not {timeout!r}") from None
    if not is_wait:
        raise ValueError(f"timeout must be None or at least 0 seconds, not {timeout!r}")
