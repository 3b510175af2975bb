"""What a cache holds: counted against its bound, read, evicted and removed, under one lock.

Concurrency
    A hit takes no lock: it is one dict look-up and slot accesses, each atomic. Everything else
    takes `_lock`, an RLock: the collector may run a finalizer inside a critical section, and the
    finalizer may use the cache. For the same reason every change of the dict is one call that
    says what it did (`setdefault`, `pop`, a swap of the whole dict), and all accounting follows
    from the answer: a re-entrant call in between finds a consistent cache.
Eviction
    The order says who goes (`_lru`, `_s3fifo`). It may need several calls to find out; until
    then the cache holds a surplus of at most `SURPLUS_RATIO`, which `len` and iteration settle
    before anybody sees it.
Removal
    One path: `_remove_locked` takes the value (see `_entry`), then the key out of the dict, and
    notes key, value and cause; the outermost `_leave` has the announcer tell the listener after
    the lock is released. Values are freed there too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from threadkit._cache._announcer import CAUSES, Announcer
from threadkit._cache._arguments import a_callable, a_capacity, seconds
from threadkit._cache._clock import strict
from threadkit._cache._entry import DEAD, NEVER, NOTHING, Entry, FullEntry, Limits
from threadkit._cache._lru import LruOrder
from threadkit._cache._odometer import Odometer
from threadkit._cache._s3fifo import S3FifoOrder
from threadkit._cache._statistics import RemovalCause
from threadkit._cache._sweeper import sweeper_of
from threadkit._cache._weights import grain_of, in_grains
from threadkit._runtime import Runtime

__all__ = [
    "DELETED",
    "EVICTED",
    "EXPIRED",
    "NO_SWAP",
    "REJECTED",
    "REPLACED",
    "Holding",
    "limits",
]

K = TypeVar("K")
V = TypeVar("V")

SURPLUS_RATIO = 1 / 64  # of maxsize, while a large cache is finding its eviction order
NO_SWAP = math.nan  # no deadline is as late

EXPIRED, EVICTED, REPLACED, DELETED, CLEARED, REJECTED = range(len(CAUSES))

POLICIES = ("lru", "s3fifo")


def limits(ttl: float | None, idle: float | None) -> Limits:
    """The checked limits of entries; no ttl is an infinite one."""
    return (
        NEVER if ttl is None else seconds("ttl", ttl),
        None if idle is None else seconds("idle", idle),
    )


class Holding(Generic[K, V]):
    """Entries within a bound, the lock that guards them, and the one way out."""

    __slots__ = (
        "__weakref__",
        "_announcer",
        "_clock",
        "_counts",
        "_depth",
        "_earliest",
        "_entries",
        "_entry_class",
        "_evict_order",
        "_evicted",
        "_evicted_odometer",
        "_get_ident",
        "_grace",
        "_grain",
        "_hits",
        "_in_debt",
        "_is_plain",
        "_lifetime",
        "_limits",
        "_lock",
        "_lru",
        "_maxsize",
        "_may_be_plain",
        "_misses",
        "_odometer",
        "_policy",
        "_removed",
        "_replaced",
        "_runtime",
        "_swap_from",
        "_sweep_at",
        "_sweep_interval",
        "_sweep_todo",
        "_sweeper",
        "_tracker",
        "_weigher",
        "_weight",
        "name",
    )

    def __init__(
        self,
        maxsize: float,
        ttl: float | None,
        *,
        idle: float | None,
        weigher: Callable[[K, V], float] | None,
        policy: str,
        sweep_interval: float | None,
        on_remove: Callable[[K, V, RemovalCause], object] | None,
        grace: float,
        plain: bool,
        clock: Callable[[], float] | None,
        name: str,
        runtime: Runtime,
    ) -> None:
        self._maxsize = a_capacity("maxsize", maxsize)
        self._may_be_plain = plain and weigher is None and on_remove is None and policy == "lru"
        self._entry_class = Entry if plain and weigher is None and policy == "lru" else FullEntry
        self._set_limits(limits(ttl, idle))
        self._weigher = None if weigher is None else a_callable("weigher", weigher)
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, not {policy!r}")
        self._sweep_interval = (
            None if sweep_interval is None else seconds("sweep_interval", sweep_interval)
        )
        self._grace = grace
        self.name = name
        self._runtime = runtime
        self._clock = strict(runtime.monotonic if clock is None else a_callable("clock", clock))
        self._get_ident = runtime.get_ident
        self._sweeper = sweeper_of(runtime)
        self._announcer = Announcer[K, V](on_remove, name, self._sweeper, runtime)

        # What readers, and puts of a plain cache, touch without the lock.
        self._entries: dict[K, Entry] = {}
        self._odometer = Odometer()
        self._hits = self._odometer.start
        self._misses: int = 0
        self._evicted_odometer = Odometer()
        self._evicted = self._evicted_odometer.start  # by puts without the lock
        self._replaced = 0  # by puts without the lock

        # Guards everything below, and every change of `_entries` but those `put` explains. Held
        # for bookkeeping; an eviction may sort a slice. Never held across loaders, weighers,
        # listeners, predicates, finalizers of values, waits or logging. `__hash__` and `__eq__`
        # of keys do run inside, as a dict calls them: hence, too, an RLock.
        self._lock = runtime.rlock()
        self._depth = 0  # how often the owner holds the lock
        self._in_debt = False  # whether a search for the order left a surplus
        self._grain = grain_of(self._maxsize)
        self._weight: float = 0  # kept only with a weigher; else it is the number of entries
        self._policy = policy
        self._begin(self._entries)
        self._counts = [0] * len(CAUSES)
        self._earliest = NEVER  # no live entry expires before
        self._removed = self._announcer.removed  # not told to the listener yet
        self._sweep_at = NEVER  # on the runtime's clock: when the next sweep is to come
        self._sweep_todo: list[Entry] = []  # the sweeper's alone

    def _set_limits(self, limits: Limits) -> None:
        self._limits = limits
        self._lifetime, idle = limits
        self._is_plain = self._may_be_plain and idle is None  # see `put`

    # -- the lock --------------------------------------------------------------------------

    def _enter(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def _leave(self) -> None:
        """Release the lock, and tell about removals once it is free."""
        self._depth -= 1
        outermost = not self._depth
        self._lock.release()
        if outermost and self._removed:
            self._announcer.announce()

    @contextmanager
    def _held(self) -> Generator[None]:
        """The lock, for code that is not hot."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _is_held(self) -> bool:
        """Whether user code that calls this runs under the lock."""
        return self._runtime.owns(self._lock)

    # -- reading ---------------------------------------------------------------------------

    def _read_locked(self, key: K, now: float) -> tuple[Entry, V] | None:
        """The live entry of `key` and its value; one that expired is removed."""
        while True:
            entry = self._entries.get(key)
            if entry is None or not (entry.fresh_until > now or self._rearm_locked(entry, now)):
                return None
            try:
                return entry, entry.value
            except AttributeError:  # a finalizer removed it just now: look again
                continue

    def _rearm_locked(self, entry: Entry, now: float) -> bool:
        """Settle an entry whose `fresh_until` has passed: True if it lives on."""
        seen = entry.fresh_until
        if seen is not DEAD:
            deadline = entry.deadline()
            if deadline > now:
                entry.rearm(seen, deadline)
            elif deadline + self._grace <= now:
                self._remove_locked(entry, EXPIRED, now)
        return entry.fresh_until > now

    # -- counting --------------------------------------------------------------------------

    def _begin(self, entries: dict[K, Entry]) -> dict[K, Entry]:
        """Hold these entries, with nobody in mind who is next. Returns those held before.

        The exchange is one without a call inside, like every change here: see the module.
        """
        self._evict_order: LruOrder | S3FifoOrder
        self._tracker: S3FifoOrder | None  # told of every entry that comes or goes
        if self._policy == "lru":
            lru = LruOrder(entries, self._clock)
            self._swap_from = NO_SWAP  # from this deadline on a new entry takes the oldest's place
            old, self._entries, self._tracker = self._entries, entries, None
            self._evict_order = self._lru = lru
        else:
            tracker = S3FifoOrder(entries)
            self._swap_from = NO_SWAP
            old, self._entries = self._entries, entries
            self._evict_order = self._tracker = tracker
        return old

    def _total(self) -> float:
        return len(self._entries) if self._weigher is None else self._weight

    def _discount_locked(self, entry: Entry, tracker: S3FifoOrder | None) -> None:
        """Count an entry no longer that is not in any more, or did not get in."""
        if self._weigher is not None:
            self._weight -= entry.weight
        if tracker is not None:
            tracker.removed(entry)

    def _reweigh_locked(self, entry: FullEntry, value: V, weight: float) -> None:
        """Count `entry` as `weight` from now on, if it still has `value`."""
        tracker = self._tracker
        if tracker is None:
            change = entry.reweigh(value, weight)
        else:
            change = tracker.reweigh(entry, value, weight)
        self._weight += change  # in a line of its own: else the sum is read before the call

    def _regrain_locked(self) -> None:
        """Count what is there in the grains of a bound that has changed."""
        before, self._grain = self._grain, grain_of(self._maxsize)
        if self._grain <= before or isinstance(self._weight, int):
            return
        for entry in list(self._entries.values()):
            value = getattr(entry, "value", NOTHING)
            if isinstance(entry, FullEntry) and value is not NOTHING:
                self._reweigh_locked(entry, value, in_grains(entry.weight, self._grain))

    def _removal_counts(self) -> dict[str, int]:
        counts = {cause.value: count for cause, count in zip(CAUSES, self._counts, strict=True)}
        counts[RemovalCause.EVICTED.value] += self._evicted_odometer.read(self._evicted)
        counts[RemovalCause.REPLACED.value] += self._replaced
        return counts

    # -- making room -----------------------------------------------------------------------

    def _make_room_locked(
        self,
        weight: float,
        now: float,
        *,
        surplus: float = SURPLUS_RATIO,
        spare: Entry | None = None,
    ) -> None:
        """Evict until `weight` more fits, or until the order needs more time to say who goes.

        A call turns a bounded number of times: what is over the bound may be dead entries, whose
        keys only leave when we return to who removes them; and a key may put another whenever it
        is evicted.
        """
        self._owe()  # and stays so if a key of a victim raises
        turns = 2 * len(self._entries) + 8  # each finds one, or is a slice of a search
        while self._entries and self._total() + weight > self._maxsize:
            turns -= 1
            if turns < 0:
                return
            victim = self._evict_order.victim(spare)
            if victim is not None:
                self._remove_locked(victim, EVICTED, now)
            elif self._total() + weight <= self._maxsize * (1 + surplus):
                return
        self._in_debt = False

    def _owe(self) -> None:
        self._in_debt = True
        self._swap_from = NO_SWAP

    def _settle(self) -> None:
        """Evict what a search for the order left over."""
        if self._in_debt:
            with self._held():
                self._make_room_locked(0, self._clock(), surplus=0)

    # -- removing --------------------------------------------------------------------------

    def _remove_locked(self, entry: Entry, cause: int, now: float, only: Any = NOTHING) -> Any:
        """Take `entry` out and note why: the one way out of the cache.

        An entry that was past its deadline is said to have expired, whoever removes it; and one
        that is not does not go with the cause `EXPIRED`.

        Returns:
            The value; NOTHING if somebody else took it, or wrote to it just now, or if it is not
            the value `only`.
        """
        seen = entry.fresh_until
        if seen <= now and entry.deadline() <= now:
            cause = EXPIRED
        elif cause == EXPIRED:
            return NOTHING
        if only is not NOTHING and getattr(entry, "value", NOTHING) is not only:
            return NOTHING
        tracker = self._tracker
        value = entry.take(seen)
        if value is NOTHING:
            return NOTHING
        try:
            self._unlink_locked(entry)
        except BaseException:
            entry.revive(value, seen)
            raise
        self._discount_locked(entry, tracker)
        self._counts[cause] += 1
        self._removed.append((entry.key, value, cause))
        return value

    def _unlink_locked(self, entry: Entry) -> None:
        """Take a dead entry's key out of the dict, unless another entry has it already."""
        self._swap_from = NO_SWAP
        found = self._entries.pop(entry.key, None)
        if found is not None and found is not entry:
            self._put_back_locked(found)

    def _put_back_locked(self, entry: Entry) -> None:
        """Undo the removal of an entry that was not meant; if its key is taken, it is replaced."""
        if self._entries.setdefault(entry.key, entry) is not entry:
            tracker = self._tracker
            value = entry.kill()
            if value is NOTHING:
                return
            self._removed.append((entry.key, value, REPLACED))
            self._counts[REPLACED] += 1
            self._discount_locked(entry, tracker)

    def _clear_locked(self, now: float) -> None:
        """Empty the cache at once."""
        # The deadline first: a put without the lock looks at it after it entered the dict.
        self._earliest = NEVER
        old = self._begin({})
        told: list[tuple[K, V, int]] = []
        while old:
            try:
                _key, entry = old.popitem()  # what somebody else pops is not ours
            except KeyError:
                break
            cause = EXPIRED if entry.deadline() <= now else CLEARED
            value = entry.kill()
            if value is NOTHING:
                continue
            self._discount_locked(entry, None)  # the order that tracked it is gone
            self._counts[cause] += 1
            told.append((entry.key, value, cause))
        self._removed.extend(reversed(told))
