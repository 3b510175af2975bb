"""The protocol between the two ends of a queue: one lock, three lines of waiters, one inbox."""

from __future__ import annotations

import queue
import sys
from collections.abc import Callable, Hashable
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from threadkit._errors import QueueClosed, QueueFull, report_unraisable
from threadkit._queues._store import NOTHING, DropReason, Entry, Nothing, Overflow, Store
from threadkit._queues._waiters import Line, Waiter
from threadkit._runtime import Lock, Runtime

__all__ = ["Exchange", "is_index"]

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


class Exchange(Generic[T]):
    """The steps of a MessageQueue, each whole under the lock, for its methods to put together.

    `_put_now` and `_take` are the short way of an item in and out. Where they come to nothing, a
    line repeats an attempt, `_offer` or `_take`, until it succeeds. `name`, `levels` and the rest
    of what a MessageQueue is given are checked there.
    """

    def __init__(
        self,
        *,
        levels: int,
        name: str,
        maxsize: int,
        overflow: Overflow,
        ageing: float | None,
        merge: Callable[[T, T], T] | None,
        on_drop: Callable[[T, DropReason], object] | None,
        runtime: Runtime,
    ) -> None:
        self.name: Final = name
        self.levels: Final = levels
        self.overflow: Final[Overflow] = overflow
        self._merge = merge
        self._on_drop = on_drop
        self._clock = runtime.monotonic
        # Guards every field below it, to the blank line, but for the lines, whose waiters leave
        # without it. Held for bookkeeping: O(levels), and where an entry in the middle is merged,
        # cancelled or moved, a bisection and a shift of its level. Never held across merge,
        # on_drop, a finalizer of an item, a wake-up or a wait; keys are hashed and compared under
        # it. `_put_now` and `_take` take it by `acquire` and `try`, at half the cost of `with`:
        # an exception that a signal handler raises exactly between the two lines would leave it
        # taken, as it would in queue.Queue, whose conditions are entered by a Python function.
        self._lock = runtime.lock()
        self._section = _Section(self._lock, self._settle_locked, self._act)
        self._maxsize = maxsize
        self._limit = maxsize or sys.maxsize  # less than 0 once closed: nothing fits any more
        self._closed = False
        self._merged = 0
        self._rejected = 0
        self._callback_errors = 0
        self._store: Store[T] = Store(levels, ageing, runtime.monotonic)
        # Who waits for an item, for room, for emptiness. Each item that comes wakes one getter,
        # each place that becomes free one putter, emptiness every joiner, and close everybody. The
        # first putter also keeps watch for the first item to go stale.
        self._getters = Line(self._expire, runtime)
        self._putters = Line(self._expire, runtime)
        self._joiners = Line(self._expire, runtime)
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

    def _put_now(self, item: T, level: int, lifetime: float, key: Hashable) -> bool:
        """Put the item if there is room, and nothing to merge it with; False: see `_offer`."""
        lock, store, getter = self._lock, self._store, None
        lock.acquire()
        try:
            is_in = store.count < self._limit and (key is None or key not in store.by_key)
            if is_in:
                store.push(item, level, lifetime, key)
                if self._waiting_getters:
                    getter = self._getters.next()
        except TypeError:
            if not is_index(level):
                raise self._no_level("priority", level) from None
            raise  # it was the key
        finally:
            lock.release()
        if getter is not None and not getter.wake():
            self._getters.wake_next()
        return is_in

    def _offer(
        self,
        item: T,
        level: int,
        lifetime: float,
        key: Hashable,
        waiter: Waiter | None = None,
        *,
        guard: Callable[[], None] | None = None,
    ) -> _Nothing | None:
        """Put, merge or drop the item. NOTHING: there is no room, and `waiter` stands in line.

        `guard` is called in the same breath, under the lock, and may refuse by raising.
        """
        while True:
            with self._section:
                self._refuse_if_closed()
                if guard is not None:
                    guard()
                waiting = None if key is None else self._store.by_key.get(key)
                if waiting is None:
                    is_in = self._enter_locked(item, level, lifetime, key)
                    if not is_in and waiter is not None:
                        waiter.look_at = self._store.next_deadline()
                        self._putters.enter_locked(waiter)
                    self._keep_watch_locked()
                    return None if is_in else NOTHING
            if self._coalesce(waiting, item, level, lifetime, guard):
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
        self._wake_next_locked(self._getters)

    def _coalesce(
        self,
        waiting: Entry[T],
        item: T,
        level: int,
        lifetime: float,
        guard: Callable[[], None] | None,
    ) -> bool:
        """Merge an item with the waiting one of its key; False: that has left or changed since."""
        _, old, _, _, deadline, key, old_level = waiting
        merged = item if self._merge is None else self._merge(old, item)
        store = self._store
        with self._section:
            self._refuse_if_closed()
            if guard is not None:
                guard()
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
            self._keep_watch_locked()
            return True

    def _admit_signalled(self, *, in_handler: bool = False) -> None:
        """Take in what signal handlers put, unless another holds the lock: then that one will."""
        while not self._inbox.empty() and self._lock.acquire(False):
            try:
                self._empty_inbox_locked()
                self._keep_watch_locked()
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

    def _take(self, waiter: Waiter | None = None) -> T | _Nothing:
        """Take the next item. NOTHING: there is none, and `waiter` stands in line."""
        lock, store, after, is_over = self._lock, self._store, None, False
        lock.acquire()
        try:
            item = store.pop()
            if item is NOTHING:
                is_over = self._closed
                if waiter is not None and not is_over:
                    self._getters.enter_locked(waiter)
            if self._waiting_putters or self._waiting_joiners or store.dropped:
                after = self._settle_locked()
        finally:
            lock.release()
        if after is not None or self._signalled:
            self._act(after)
        if is_over:
            raise QueueClosed(component=self.name)
        return item

    def _take_some(self, n: int) -> list[T]:
        items: list[T] = []
        with self._section:
            while len(items) < n and (item := self._store.pop()) is not NOTHING:
                items.append(item)
        return items

    # -- between the ends -----------------------------------------------------------------

    def _settle_locked(self) -> _Aftermath[T] | None:
        """Whom to wake for room or emptiness, and which drops to report, if any."""
        store = self._store
        room = self._limit - store.count
        while room > 0 and self._wake_next_locked(self._putters):
            room -= 1
        if self._waiting_joiners and not store.count:
            self._wake_all_locked(self._joiners)
        woken, dropped = self._woken, store.dropped
        if not woken and not dropped:
            return None
        self._woken, store.dropped = [], []
        return woken, dropped

    def _wake_next_locked(self, line: Line) -> bool:
        """Wake the first in line at the end of the section; False: there is none."""
        waiter = line.next()
        if waiter is None:
            return False
        self._woken.append((line, waiter))
        return True

    def _wake_all_locked(self, line: Line) -> None:
        self._woken.extend((line, waiter) for waiter in line.all())

    def _keep_watch_locked(self) -> None:
        """See to it that a put that waits for room notices when an item goes stale.

        Each looks again when the item that was the first to go stale as it stood in line does.
        Where the first in line would come too late for what came in since, it is woken to look
        now. Nobody else has to be: who stands behind it gets its turn by an attempt of the one
        before, and that ends here.
        """
        if self._waiting_putters and self._putters.first_looks_at() > self._store.next_deadline():
            self._wake_next_locked(self._putters)

    def _expire(self, waiter: Waiter) -> None:
        """Drop what is stale for one who waits for room; the first in line are woken for it."""
        with self._section:
            self._store.expire()
            waiter.look_at = self._store.next_deadline()

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

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise QueueClosed(component=self.name)

    def _full(self) -> QueueFull:
        with self._section:
            self._rejected += 1
            return QueueFull(component=self.name, maxsize=self._maxsize)

    def _no_level(self, argument: str, given: object) -> TypeError | ValueError:
        kind = ValueError if is_index(given) else TypeError
        return kind(f"{argument} must be an int in 0..{self.levels - 1}, not {given!r}")


def is_index(given: object) -> bool:
    """Whether it is an int, or as good as one."""
    return hasattr(type(given), "__index__")
