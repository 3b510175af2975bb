"""MessageQueue: what waits in `_store`, who waits in `_waiters`, and the one lock over both."""

from __future__ import annotations

import queue
import sys
from collections.abc import Callable, Hashable
from functools import partial
from math import inf
from operator import index
from types import MappingProxyType
from typing import Final, Generic, Literal, TypeAlias, TypeVar, get_args

from threadkit._errors import QueueClosed, QueueEmpty, QueueFull, report_unraisable
from threadkit._queues._statistics import QueueStatistics
from threadkit._queues._store import NOTHING, DropReason, Entry, Nothing, Overflow, Store
from threadkit._queues._waiters import Line, Waiter
from threadkit._runtime import REAL, Lock, Runtime

__all__ = ["MessageQueue"]

T = TypeVar("T")

_Nothing: TypeAlias = Literal[Nothing.NOTHING]

# The rules that may drop the new item itself, and what they call it.
_REFUSALS: Final[dict[Overflow, DropReason]] = {
    "drop_new": "drop_new",
    "drop_lowest": "drop_lowest",
}


# What is left to do once the lock is released: whom to wake, and which drops to report.
_Aftermath: TypeAlias = "tuple[list[tuple[Line, Waiter]], list[tuple[T, DropReason]]]"


class _Section(Generic[T]):
    """The lock of a queue, with what has become due done right after it is released."""

    def __init__(
        self,
        lock: Lock,
        settle_locked: Callable[[], _Aftermath[T] | None],
        act: Callable[[_Aftermath[T] | None], None],
    ) -> None:
        self._lock = lock
        self._settle_locked = settle_locked
        self._act = act

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        try:
            after = self._settle_locked()
        finally:
            self._lock.release()
        self._act(after)


class MessageQueue(Generic[T]):
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
        if levels < 1:
            raise ValueError(f"levels must be at least 1, not {levels!r}")
        if overflow not in get_args(Overflow):
            allowed = ", ".join(get_args(Overflow))
            raise ValueError(f"overflow must be one of {allowed}, not {overflow!r}")
        if ageing is not None and not 0 <= ageing < inf:
            raise ValueError(f"ageing must be None or at least 0 seconds, not {ageing!r}")
        if ageing is not None and not levels * ageing < inf:
            raise ValueError(f"levels * ageing must be finite, not {levels!r} * {ageing!r}")
        self.name: Final = name
        self.levels: Final = levels
        self.overflow: Final[Overflow] = overflow
        self._lifetime = inf if ttl is None else _checked_ttl(ttl)
        self._merge = merge
        self._on_drop = on_drop
        self._clock = runtime.monotonic
        # Guards every field below it, to the blank line. Held for bookkeeping: O(levels), and where
        # an entry in the middle is merged, cancelled or moved, a bisection and a shift of its
        # level. Never held across merge, on_drop, a finalizer of an item, a wake-up or a wait; keys
        # are hashed and compared under it. `_put_now` and `_get_now` take it by
        # `acquire` and `try`, at half the cost of `with`: an exception that a signal handler raises
        # exactly between the two lines would leave it taken, as it would in queue.Queue, whose
        # conditions are entered by a Python function.
        self._lock = runtime.lock()
        self._section = _Section(self._lock, self._settle_locked, self._act)
        self._maxsize = _checked_maxsize(maxsize)
        self._limit = maxsize or sys.maxsize  # less than 0 once closed: nothing fits any more
        self._closed = False
        self._merged = 0
        self._rejected = 0
        self._callback_errors = 0
        self._store: Store[T] = Store(levels, ageing, runtime.monotonic)
        # Who waits for an item, for room, for emptiness. Each item that comes wakes one getter,
        # each place that becomes free one putter, emptiness every joiner, and close everybody.
        self._getters = Line(self._lock, self._pass_on_item, runtime)
        self._putters = Line(self._lock, self._pass_on_room, runtime)
        self._joiners = Line(self._lock, self._pass_on_room, runtime)
        self._waiting_getters = self._getters.waiting
        self._waiting_putters = self._putters.waiting
        self._waiting_joiners = self._joiners.waiting
        self._woken: list[tuple[Line, Waiter]] = []  # to be woken at the end of the section

        # What signal handlers put. They cannot wait for the lock, which the very thread they
        # interrupt may hold: whoever holds it looks here after releasing it. Only `put` does not,
        # since a get that it wakes, or that comes, does. The flag is set before the first item
        # comes in and never cleared; it spares everybody else the look.
        self._signalled = False
        self._inbox = runtime.simple_queue()

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
            ValueError: `priority` names no level, or a duration is out of its range.
        """
        if not 0 <= priority < self.levels:
            raise self._no_level("priority", priority)
        lifetime = self._lifetime if ttl is None else _checked_ttl(ttl)
        if timeout is not None:
            _check_timeout(timeout)
        if not self._put_now(item, priority, lifetime, key):
            attempt = partial(self._offer, item, index(priority), lifetime, key)
            if self._putters.block(attempt, self._patience(timeout)) is NOTHING:
                raise self._full()

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
            attempt = partial(self._offer, item, index(priority), lifetime, key)
            if await self._putters.suspend(attempt, self._patience(timeout)) is NOTHING:
                raise self._full()

    def put_from_signal(self, item: T, priority: int = 0, *, ttl: float | None = None) -> None:
        """`put` for signal handlers and finalizers, where every other method may deadlock.

        Never blocks, and never raises for the state of the queue: with overflow "block" or
        "reject" the item enters a full queue all the same, and a closed queue drops it. What is
        dropped is reported to `on_drop` by the next call of another method, outside the handler.

        Raises:
            ValueError: `priority` names no level, or `ttl` is out of its range.
        """
        lifetime = self._check_put(priority, ttl, None)
        priority = index(priority)
        self._signalled = True
        self._inbox.put((item, priority, lifetime))
        self._admit_signalled(in_handler=True)

    def _put_now(self, item: T, level: int, lifetime: float, key: Hashable) -> bool:
        """Put the item if there is room, and nothing to merge it with; False: see `_offer`."""
        lock, store, getter = self._lock, self._store, None
        lock.acquire()
        try:
            is_in = store.count < self._limit and (key is None or key not in store.by_key)
            if is_in:
                store.push(item, level, lifetime, key)
                if self._waiting_getters:
                    getter = self._getters.next_locked()
        finally:
            lock.release()
        if getter is not None:
            self._getters.wake(getter)
        return is_in

    def _patience(self, timeout: float | None) -> float | None:
        """Seconds a put that finds no room waits for some."""
        return 0 if self.overflow == "reject" else timeout

    def _offer(
        self,
        item: T,
        level: int,
        lifetime: float,
        key: Hashable,
        waiter: Waiter | None = None,
    ) -> _Nothing | None:
        """Put, merge or drop the item. NOTHING: there is no room, and `waiter` stands in line."""
        while True:
            with self._section:
                self._refuse_if_closed()
                waiting = None if key is None else self._store.by_key.get(key)
                if waiting is None:
                    if self._enter_locked(item, level, lifetime, key):
                        return None
                    if waiter is not None:
                        self._putters.enter_locked(waiter)
                    return NOTHING
            if self._coalesce(waiting, item, level, lifetime):
                return None

    def _enter_locked(self, item: T, level: int, lifetime: float, key: Hashable) -> bool:
        """Take the item in, or drop it, as the overflow rule says; False: there is no room."""
        while self._store.count >= self._limit:
            if not self._store.evict(self.overflow, level):
                if self.overflow not in _REFUSALS:
                    return False
                self._store.refuse(item, _REFUSALS[self.overflow])
                return True
        self._push_locked(item, level, lifetime, key)
        return True

    def _push_locked(self, item: T, level: int, lifetime: float, key: Hashable) -> None:
        self._store.push(item, level, lifetime, key)
        if self._getters.waiting:
            self._woken.append((self._getters, self._getters.next_locked()))

    def _coalesce(self, waiting: Entry[T], item: T, level: int, lifetime: float) -> bool:
        """Merge an item with the waiting one of its key; False: that has left or changed since."""
        _, old, _, _, deadline, key, old_level = waiting
        merged = item if self._merge is None else self._merge(old, item)
        store = self._store
        with self._section:
            self._refuse_if_closed()
            if store.by_key.get(key) is not waiting:
                return False
            now = self._clock()
            if deadline <= now:
                store.drop(waiting, "expired")
                return False
            if self._merge is None:
                store.refuse(old, "replaced")
            else:
                self._merged += 1
            store.update(waiting, merged, min(level, old_level), now + lifetime)
            return True

    def _admit_signalled(self, *, in_handler: bool = False) -> None:
        """Take in what signal handlers put, unless another holds the lock: then that one will."""
        while not self._inbox.empty() and self._lock.acquire(False):
            try:
                self._empty_inbox_locked()
                woken, self._woken = self._woken, []
            finally:
                self._lock.release()
            for line, waiter in woken:
                line.wake(waiter, in_handler=in_handler)

    def _empty_inbox_locked(self) -> None:
        while True:
            try:
                item, level, lifetime = self._inbox.get_nowait()
            except queue.Empty:
                return
            if self._closed:
                self._store.refuse(item, "closed")
            elif not self._enter_locked(item, level, lifetime, None):
                self._push_locked(item, level, lifetime, None)

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
        item = self._get_now()
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
        item = self._get_now()
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
            ValueError: `n` is less than 1, or `timeout` is negative.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n!r}")
        if timeout is not None:
            _check_timeout(timeout)
        return self._take_some(n) or [self.get(timeout), *self._take_some(n - 1)]

    def _get_now(self) -> T | _Nothing:
        """Take the next item; NOTHING: see `_take`."""
        lock, store, after = self._lock, self._store, None
        lock.acquire()
        try:
            item = store.pop()
            if self._waiting_putters or self._waiting_joiners or store.dropped:
                after = self._settle_locked()
        finally:
            lock.release()
        if after is not None or self._signalled:
            self._act(after)
        return item

    def _take(self, waiter: Waiter | None = None) -> T | _Nothing:
        """Take the next item. NOTHING: there is none, and `waiter` stands in line."""
        with self._section:
            item = self._store.pop()
            if item is NOTHING:
                self._refuse_if_closed()
                if waiter is not None:
                    self._getters.enter_locked(waiter)
            return item

    def _take_some(self, n: int) -> list[T]:
        items: list[T] = []
        with self._section:
            while len(items) < n and (item := self._store.pop()) is not NOTHING:
                items.append(item)
        return items

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
        if not 0 <= level < self.levels:
            raise self._no_level("level", level)
        level = index(level)
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
            for line in (self._getters, self._putters):
                self._woken.extend((line, waiter) for waiter in line.all_locked())
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

    def _see_empty(self, waiter: Waiter | None = None) -> _Nothing | None:
        with self._section:
            if not self._store.count:
                return None
            if waiter is not None:
                self._joiners.enter_locked(waiter)
            return NOTHING

    # -- between the ends -----------------------------------------------------------------

    def _settle_locked(self) -> _Aftermath[T] | None:
        """Whom to wake for room or emptiness, and which drops to report, if any."""
        store, woken = self._store, self._woken
        room = self._limit - store.count
        while self._putters.waiting and room > 0:
            woken.append((self._putters, self._putters.next_locked()))
            room -= 1
        if self._joiners.waiting and not store.count:
            woken.extend((self._joiners, waiter) for waiter in self._joiners.all_locked())
        dropped = store.dropped
        if not woken and not dropped:
            return None
        self._woken, store.dropped = [], []
        return woken, dropped

    def _act(self, after: _Aftermath[T] | None) -> None:
        if after is not None:
            woken, dropped = after
            for line, waiter in woken:
                line.wake(waiter)
            for item, reason in dropped:
                self._report(item, reason)
        if self._signalled:
            self._admit_signalled()

    def _report(self, item: T, reason: DropReason) -> None:
        if self._on_drop is None:
            return
        try:
            self._on_drop(item, reason)
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - the call did its work
            with self._section:
                self._callback_errors += 1
            report_unraisable(exc, f"{self.name}: on_drop raised", self._on_drop)

    def _pass_on_item(self, was_woken: bool) -> None:
        """A getter was cancelled: the item it was woken for is for the next in line."""
        with self._section:
            if was_woken and self._store.count and self._getters.waiting:
                self._woken.append((self._getters, self._getters.next_locked()))

    def _pass_on_room(self, was_woken: bool) -> None:
        """A putter was cancelled: the room it was woken for is for the next in line."""
        if was_woken:
            with self._section:
                pass

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
        if not 0 <= priority < self.levels:
            raise self._no_level("priority", priority)
        if timeout is not None:
            _check_timeout(timeout)
        return self._lifetime if ttl is None else _checked_ttl(ttl)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise QueueClosed(component=self.name)

    def _full(self) -> QueueFull:
        with self._section:
            self._rejected += 1
            return QueueFull(component=self.name, maxsize=self._maxsize)

    def _no_level(self, argument: str, given: int) -> ValueError:
        return ValueError(f"{argument} must be in 0..{self.levels - 1}, not {given!r}")


def _checked_maxsize(maxsize: int) -> int:
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
    if not timeout >= 0:
        raise ValueError(f"timeout must be None or at least 0 seconds, not {timeout!r}")
