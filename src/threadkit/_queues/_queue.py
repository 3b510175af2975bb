"""MessageQueue: what waits in `_store`, who waits in `_waiters`, and the one lock over both."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from math import inf
from types import MappingProxyType, SimpleNamespace
from typing import Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar, cast, get_args

from threadkit._errors import QueueClosed, QueueEmpty, QueueFull
from threadkit._queues._statistics import QueueStatistics
from threadkit._queues._store import NOTHING, DropReason, Entry, Nothing, Overflow, Store
from threadkit._queues._waiters import LoopWaiter, Register, ThreadWaiter, Waiter
from threadkit._runtime import REAL, Runtime

__all__ = ["MessageQueue"]

T = TypeVar("T")
R = TypeVar("R")

_Nothing: TypeAlias = Literal[Nothing.NOTHING]
# The rules that may drop the new item itself, and what they call it.
_REFUSALS: Final[dict[Overflow, DropReason]] = {
    "drop_new": "drop_new",
    "drop_lowest": "drop_lowest",
}
_SAME_KEY: Final = object()  # what _offer_once says when an item with this key waits already


class _Aftermath(NamedTuple, Generic[T]):
    """What is left to do once the lock is released."""

    woken: list[tuple[Waiter, Register]]
    dropped: list[tuple[T, DropReason]]


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
        only method for signal handlers. `merge` and `on_drop` run in the calling thread, outside
        the lock.

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
            before that call returns. What it raises goes to `sys.unraisablehook` and is counted.
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
        self.name: Final = name
        self.overflow: Final[Overflow] = overflow
        self._ttl = inf if ttl is None else _checked_ttl(ttl)
        self._merge = merge
        self._on_drop = on_drop
        self._refusal = _REFUSALS.get(overflow)
        self._level_count = levels
        self._clock = runtime.monotonic
        self._new_lock = runtime.lock
        # Guards every field below it. Held for bookkeeping: O(levels), and where an entry in the
        # middle is cancelled or moved, a bisection and a shift of its level. Never held across
        # merge, on_drop, a wake-up or a wait.
        self._lock = runtime.lock()
        self._limit = _checked_limit(maxsize)
        self._closed = False
        self._merged = 0
        self._rejected = 0
        self._callback_errors = 0
        self._store: Store[T] = Store(
            levels, ageing, runtime.monotonic, keep_drops=on_drop is not None
        )
        # Who waits for an item, for room, for emptiness. One getter is woken by each item, putters
        # by each place that becomes free, joiners by emptiness; all of them by close.
        self._getters: Register = OrderedDict()
        self._putters: Register = OrderedDict()
        self._joiners: Register = OrderedDict()

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
        if timeout is not None:
            _check_timeout(timeout)
        if self._offer(item, priority, ttl, key) is NOTHING:
            attempt = partial(self._offer, item, priority, ttl, key)
            rejects = self.overflow == "reject"
            if rejects or self._block(attempt, self._putters, timeout) is NOTHING:
                raise self._full()

    def put_nowait(
        self, item: T, priority: int = 0, *, ttl: float | None = None, key: Hashable = None
    ) -> None:
        """`put` that raises QueueFull where that would wait."""
        if self._offer(item, priority, ttl, key) is NOTHING:
            raise self._full()

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
        if timeout is not None:
            _check_timeout(timeout)
        if self._offer(item, priority, ttl, key) is NOTHING:
            attempt = partial(self._offer, item, priority, ttl, key)
            rejects = self.overflow == "reject"
            if rejects or await self._suspend(attempt, self._putters, timeout) is NOTHING:
                raise self._full()

    def _offer(
        self,
        item: T,
        priority: int,
        ttl: float | None,
        key: Hashable,
        waiter: Waiter | None = None,
    ) -> object:
        """Put the item. NOTHING: there is no room, and `waiter` waits for some."""
        if not 0 <= priority < self._level_count:
            raise self._no_level("priority", priority)
        lifetime = self._ttl if ttl is None else _checked_ttl(ttl)
        while True:
            result = self._offer_once(item, priority, lifetime, key, waiter)
            if result is not _SAME_KEY:
                return result
            if self._coalesce(item, priority, lifetime, key):
                return None

    def _offer_once(
        self, item: T, level: int, lifetime: float, key: Hashable, waiter: Waiter | None
    ) -> object:
        store = self._store
        getter = after = None
        with self._lock:
            if self._closed:
                raise QueueClosed(component=self.name)
            if key is not None and key in store.by_key:
                return _SAME_KEY
            entered = self._enter_locked(item, level, lifetime, key)
            if entered:
                if self._getters:
                    getter, _ = self._getters.popitem(last=False)
            elif waiter is not None:
                _register(waiter, self._putters)
            if store.dropped:
                after = self._aftermath_locked()
        if getter is not None:
            self._wake(getter, self._getters)
        if after is not None:
            self._act(after)
        return None if entered else NOTHING

    def _enter_locked(self, item: T, level: int, lifetime: float, key: Hashable) -> bool:
        """Put the item into the store, or drop it, as the overflow rule says; False: no room."""
        store, now = self._store, self._clock()
        while store.count >= self._limit:
            if not store.evict(self.overflow, level, now):
                if self._refusal is None:
                    return False
                store.refuse(item, self._refusal)
                return True
        store.push(item, level, now, now + lifetime, key)
        return True

    def _coalesce(self, item: T, level: int, lifetime: float, key: Hashable) -> bool:
        """Merge the item with the waiting one of its key; False when that has left meanwhile."""
        store = self._store
        with self._lock:
            entry = store.by_key.get(key)
            if entry is None:
                return False
            waiting = entry.item
        merged = item if self._merge is None else self._merge(waiting, item)
        with self._lock:
            if self._closed:
                raise QueueClosed(component=self.name)
            if store.by_key.get(key) is not entry or entry.item is not waiting:
                return False
            done = self._update_locked(entry, merged, level, lifetime)
            after = self._aftermath_locked()
        self._act(after)
        return done

    def _update_locked(self, entry: Entry[T], item: T, level: int, lifetime: float) -> bool:
        """Give a waiting entry its new item; False: it was stale, and is dropped instead."""
        store, now = self._store, self._clock()
        if entry.deadline <= now:
            store.drop(entry, "expired")
            return False
        if self._merge is None:
            store.refuse(entry.item, "replaced")
        else:
            self._merged += 1
        store.update(entry, item, level, now + lifetime)
        return True

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
        item = self._take()
        if item is NOTHING:
            item = self._block(self._take, self._getters, timeout)
            if item is NOTHING:
                raise QueueEmpty(component=self.name)
        return item

    def get_nowait(self) -> T:
        """`get` that raises QueueEmpty where that would wait."""
        item = self._take()
        if item is NOTHING:
            raise QueueEmpty(component=self.name)
        return item

    async def aget(self, timeout: float | None = None) -> T:
        """`get` for coroutines. Cancelled while it waits, it has taken nothing.

        It suspends only when the queue is empty, as `asyncio.Queue.get` does.
        """
        if timeout is not None:
            _check_timeout(timeout)
        item = self._take()
        if item is NOTHING:
            item = await self._suspend(self._take, self._getters, timeout)
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
        return self._take_some(n) or [self.get(timeout), *self._take_some(n - 1)]

    def _take(self, waiter: Waiter | None = None) -> T | _Nothing:
        """Take the next item. NOTHING: there is none, and `waiter` waits for one."""
        store = self._store
        after = None
        with self._lock:
            item = store.pop()
            drained = item is NOTHING and self._closed
            if item is NOTHING and waiter is not None and not drained:
                _register(waiter, self._getters)
            if self._putters or self._joiners or store.dropped:
                after = self._aftermath_locked()
        if after is not None:
            self._act(after)
        if drained:
            raise QueueClosed(component=self.name)
        return item

    def _take_some(self, n: int) -> list[T]:
        items: list[T] = []
        with self._lock:
            while len(items) < n:
                item = self._store.pop()
                if item is NOTHING:
                    break
                items.append(item)
            after = self._aftermath_locked()
        self._act(after)
        return items

    # -- what waits -----------------------------------------------------------------------

    def cancel(self, key: Hashable) -> bool:
        """Drop the waiting item with this key; False when none waits."""
        with self._lock:
            entry = self._store.by_key.get(key)
            if entry is not None:
                self._store.drop(entry, "cancelled")
            after = self._aftermath_locked()
        self._act(after)
        return entry is not None

    def reprioritize(self, key: Hashable, level: int) -> bool:
        """Move the waiting item with this key to another level; False when none waits.

        It keeps its age: in the new level it stands where it would had it been put there.

        Raises:
            ValueError: There is no such level.
        """
        if not 0 <= level < self._level_count:
            raise self._no_level("level", level)
        with self._lock:
            entry = self._store.by_key.get(key)
            if entry is not None:
                self._store.move(entry, level)
        return entry is not None

    def resize(self, maxsize: int) -> None:
        """Let `maxsize` items wait from now on; 0: any number.

        What is too much is dropped by the rules "drop_oldest" and "drop_lowest", and stays until
        it is taken with the others.
        """
        limit = _checked_limit(maxsize)
        with self._lock:
            self._limit = limit
            if self.overflow in ("drop_oldest", "drop_lowest"):
                now = self._clock()
                while self._store.count > limit:
                    self._store.evict(self.overflow, 0, now)
            after = self._aftermath_locked()
        self._act(after)

    def close(self, *, drain: bool = True) -> list[T]:
        """Refuse puts from now on; gets drain what is left, then raise QueueClosed.

        May be called again, by several threads at once.

        Args:
            drain: Leave what waits to the consumers. False: drop it, with the reason "closed".

        Returns:
            The items dropped for the close, the next one first.
        """
        with self._lock:
            self._closed = True
            left = [] if drain else self._store.clear()
            after = self._aftermath_locked()
            for register in (self._getters, self._putters):
                after.woken.extend((waiter, register) for waiter in register)
                register.clear()
        self._act(after)
        return left

    def join(self, timeout: float | None = None) -> bool:
        """Wait until nothing waits in the queue: all was taken or dropped. False: it was not.

        Blocks: for at most `timeout` seconds; None: any time.

        Raises:
            ValueError: `timeout` is negative.
        """
        if timeout is not None:
            _check_timeout(timeout)
        return self._block(self._seen_empty, self._joiners, timeout) is not NOTHING

    def _seen_empty(self, waiter: Waiter | None = None) -> _Nothing | None:
        with self._lock:
            if not self._store.count:
                return None
            if waiter is not None:
                _register(waiter, self._joiners)
            return NOTHING

    # -- waiting --------------------------------------------------------------------------

    def _block(
        self,
        attempt: Callable[[Waiter | None], R | _Nothing],
        register: Register,
        timeout: float | None,
    ) -> R | _Nothing:
        """Sleep until `attempt` comes to something; NOTHING after `timeout` seconds."""
        waiter = ThreadWaiter(self._new_lock())
        give_up_at = None if timeout is None else self._clock() + timeout
        while (result := attempt(waiter)) is NOTHING:
            left = None if give_up_at is None else max(0.0, give_up_at - self._clock())
            try:
                woken = waiter.wait(left)
            except BaseException:
                self._pass_on(waiter, register)
                raise
            if not woken:
                return self._last_attempt(attempt, waiter, register)
        return result

    async def _suspend(
        self,
        attempt: Callable[[Waiter | None], R | _Nothing],
        register: Register,
        timeout: float | None,
    ) -> R | _Nothing:
        """`_block` for coroutines."""
        waiter = LoopWaiter()
        give_up_at = None if timeout is None else self._clock() + timeout
        while (result := attempt(waiter)) is NOTHING:
            left = None if give_up_at is None else max(0.0, give_up_at - self._clock())
            try:
                woken = await waiter.wait(left)
            except BaseException:
                self._pass_on(waiter, register)
                raise
            if not woken:
                return self._last_attempt(attempt, waiter, register)
        return result

    def _last_attempt(
        self,
        attempt: Callable[[Waiter | None], R | _Nothing],
        waiter: Waiter,
        register: Register,
    ) -> R | _Nothing:
        """Try once more when the time is up, since the wake-up may have come at the same time."""
        with self._lock:
            register.pop(waiter, None)
        return attempt(None)

    def _pass_on(self, waiter: Waiter, register: Register) -> None:
        """Leave without a result: a wake-up that had come already goes to the next in line."""
        with self._lock:
            was_woken = waiter not in register
            register.pop(waiter, None)
            after = self._aftermath_locked()
            if was_woken and register is self._getters and register and self._store.count:
                after.woken.append((register.popitem(last=False)[0], register))
        self._act(after)

    def _aftermath_locked(self) -> _Aftermath[T]:
        """Whom to wake since there is room or nothing left, and which drops to report."""
        store = self._store
        woken: list[tuple[Waiter, Register]] = []
        while self._putters and len(woken) < self._limit - store.count:
            woken.append((self._putters.popitem(last=False)[0], self._putters))
        if not store.count:
            woken.extend((waiter, self._joiners) for waiter in self._joiners)
            self._joiners.clear()
        dropped = store.dropped
        if dropped:
            store.dropped = []
        return _Aftermath(woken, dropped)

    def _act(self, after: _Aftermath[T]) -> None:
        for waiter, register in after.woken:
            self._wake(waiter, register)
        if after.dropped:
            self._report(after.dropped)

    def _wake(self, waiter: Waiter, register: Register) -> None:
        """Wake a waiter, or the next one in line where its event loop is gone."""
        while not waiter.wake():
            with self._lock:
                if not register:
                    return
                waiter, _ = register.popitem(last=False)

    def _report(self, dropped: list[tuple[T, DropReason]]) -> None:
        on_drop = self._on_drop
        if on_drop is None:
            return
        for item, reason in dropped:
            try:
                on_drop(item, reason)
            except Exception as exc:  # noqa: BLE001 - whatever user code raises must not hurt the call
                with self._lock:
                    self._callback_errors += 1
                _report_unraisable(exc, f"{self.name}: on_drop raised", on_drop)

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
        with self._lock:
            return QueueStatistics(
                name=self.name,
                maxsize=0 if self._limit == sys.maxsize else self._limit,
                closed=self._closed,
                puts=store.puts,
                gets=store.gets,
                drops=MappingProxyType(store.drops.copy()),
                waiting=store.count,
                waiting_by_level=tuple(map(len, store.levels)),
                merged=self._merged,
                rejected=self._rejected,
                oldest_age=self._clock() - store.oldest().entered_at if store.count else 0.0,
                high_water=store.high_water,
                blocked_gets=len(self._getters),
                blocked_puts=len(self._putters),
                callback_errors=self._callback_errors,
            )

    def __repr__(self) -> str:
        seen = self.statistics()
        of = f"/{seen.maxsize}" if seen.maxsize else ""
        state = "closed" if seen.closed else "open"
        return (
            f"<MessageQueue {self.name!r} {state}: {seen.waiting}{of} waiting "
            f"{list(seen.waiting_by_level)}, {seen.blocked_gets} gets and "
            f"{seen.blocked_puts} puts blocked>"
        )

    def _full(self) -> QueueFull:
        with self._lock:
            self._rejected += 1
            maxsize = self._limit
        return QueueFull(component=self.name, maxsize=maxsize)

    def _no_level(self, argument: str, given: int) -> ValueError:
        return ValueError(f"{argument} must be in 0..{self._level_count - 1}, not {given!r}")


def _register(waiter: Waiter, register: Register) -> None:
    register[waiter] = None
    if waiter.returning:
        register.move_to_end(waiter, last=False)
    waiter.returning = True


def _report_unraisable(exc: Exception, message: str, source: object) -> None:
    """Hand an exception that has nowhere to go to where Python reports such ones."""
    unraisable = SimpleNamespace(
        exc_type=type(exc),
        exc_value=exc,
        exc_traceback=exc.__traceback__,
        err_msg=message,
        object=source,
    )
    sys.unraisablehook(cast("sys.UnraisableHookArgs", unraisable))


def _checked_limit(maxsize: int) -> int:
    if maxsize < 0:
        raise ValueError(f"maxsize must be 0 (any number) or more, not {maxsize!r}")
    return maxsize or sys.maxsize


def _checked_ttl(ttl: float) -> float:
    if not ttl > 0:
        raise ValueError(f"ttl must be more than 0 seconds, not {ttl!r}")
    return ttl


def _check_timeout(timeout: float) -> None:
    if not timeout >= 0:
        raise ValueError(f"timeout must be None or at least 0 seconds, not {timeout!r}")
