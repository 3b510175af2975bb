"""The entries of a cache: reading, writing, expiring, evicting, and telling who listens.

Concurrency
    A hit takes no lock: it is one dict look-up and slot accesses, each atomic. Everything else
    takes `_lock`, an RLock: the collector may run a finalizer inside a critical section, and the
    finalizer may use the cache. For the same reason every change of the dict is one call that
    says what it did (`setdefault`, `pop`, a swap of the whole dict), and all accounting follows
    from the answer: a re-entrant call in between finds a consistent cache.
Expiration
    Checked by every read. `fresh_until` is a lower bound of the true deadline: an entry with an
    `idle` limit is re-armed when a read passes the bound, so that hits do not compute deadlines.
    Writers and the sweeper drop what expired.
Eviction
    The order says who goes (`_lru`, `_s3fifo`). It may need several calls to find out; until
    then the cache holds a surplus of at most `SURPLUS_RATIO`, which `len` and iteration settle
    before anybody sees it.
Removal
    One path: `_remove_locked` notes key, value and cause; the outermost `_leave` tells the
    listener after the lock is released. Values are freed there too, since `__del__` may use the
    cache, or wait for a thread that does.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Generic, TypeVar

from threadkit._cache._arguments import a_callable, a_capacity, seconds
from threadkit._cache._clock import strict
from threadkit._cache._entry import DEAD, NEVER, Entry, FullEntry, Limits
from threadkit._cache._lru import LruOrder
from threadkit._cache._odometer import Odometer
from threadkit._cache._s3fifo import S3FifoOrder
from threadkit._cache._statistics import RemovalCause
from threadkit._cache._sweeper import mend_after_fork, sweeper_of
from threadkit._runtime import Runtime

__all__ = ["DELETED", "EVICTED", "REPLACED", "Store", "limits"]

K = TypeVar("K")
V = TypeVar("V")

SURPLUS_RATIO = 1 / 64  # of maxsize, while a large cache is finding its eviction order
SWEEP_SLICE = 256  # entries dropped while the lock is held once
ANNOUNCE_LIMIT = 1000  # removals a listener may cause while it is told; the sweeper tells the rest
SHORTEST_SWEEP, LONGEST_SWEEP = 1.0, 60.0  # seconds between sweeps when the user gave none
SWEEP_RATIO = 0.25  # of the ttl, between those two

CAUSES = tuple(RemovalCause)
EXPIRED, EVICTED, REPLACED, DELETED, CLEARED, REJECTED = range(len(CAUSES))

POLICIES = ("lru", "s3fifo")

_log = logging.getLogger("threadkit.cache")


def limits(ttl: float | None, idle: float | None) -> Limits:
    """The checked limits of entries; no ttl is an infinite one."""
    return (
        NEVER if ttl is None else seconds("ttl", ttl),
        None if idle is None else seconds("idle", idle),
    )


class Store(Generic[K, V]):
    """A bounded dict whose entries expire. `TTLCache` is its public face."""

    __slots__ = (
        "__weakref__",
        "_announcers",
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
        "_hits",
        "_in_debt",
        "_is_plain",
        "_lifetime",
        "_limits",
        "_listener",
        "_listener_errors",
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
        "_sweep_interval",
        "_sweep_todo",
        "_sweeper",
        "_swept",
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
        self._listener = None if on_remove is None else a_callable("on_remove", on_remove)
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
        self._weight: float = 0  # kept only with a weigher; else it is the number of entries
        self._policy = policy
        self._begin_order()
        self._counts = [0] * len(CAUSES)
        self._listener_errors = 0
        self._earliest = NEVER  # no live entry expires before
        self._removed: deque[tuple[K, V, int]] = deque()  # not told to the listener yet
        self._announcers: set[int] = set()  # threads that are telling

        self._sweeper = sweeper_of(runtime)
        self._swept = False  # whether a sweep is to come
        self._sweep_todo: list[Entry] = []  # the sweeper's alone
        mend_after_fork(self)

    def _set_limits(self, limits: Limits) -> None:
        self._limits = limits
        self._lifetime, idle = limits
        self._is_plain = self._may_be_plain and idle is None  # see `put`

    # -- the lock -----------------------------------------------------------------------------

    def _enter(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def _leave(self) -> None:
        """Release the lock, and tell about removals once it is free."""
        self._depth -= 1
        outermost = not self._depth
        self._lock.release()
        if outermost and self._removed:
            self._announce()

    @contextmanager
    def _held(self) -> Generator[None]:
        """The lock, for code that is not hot."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _announce(self) -> None:
        """Tell the listener what left, each removal once, whichever thread gets to it first.

        A listener that removes entries itself finds them told by the loop that called it.
        """
        if self._listener is None:
            self._removed.clear()  # frees the values
            return
        me = self._get_ident()
        if me in self._announcers:
            return
        self._announcers.add(me)
        try:
            for _ in range(len(self._removed) + ANNOUNCE_LIMIT):
                try:
                    key, value, cause = self._removed.popleft()
                except IndexError:
                    return
                self._tell(key, value, CAUSES[cause])
        finally:
            self._announcers.discard(me)
        self._sweeper.schedule(self._announce, 0)

    def _tell(self, key: K, value: V, cause: RemovalCause) -> None:
        try:
            self._listener(key, value, cause)  # type: ignore[misc]
        except Exception:  # noqa: BLE001 - counted, logged, and none of the caller's business
            self._listener_errors += 1
            _log.exception("%s: on_remove raised for %r (%s)", self.name, key, cause)

    # -- reading ------------------------------------------------------------------------------

    def _find_locked(self, key: K, now: float) -> Entry | None:
        """The live entry of `key`; one that expired is removed."""
        entry = self._entries.get(key)
        if entry is None or entry.fresh_until > now or self._rearm_locked(entry, now):
            return entry
        return None

    def _rearm_locked(self, entry: Entry, now: float) -> bool:
        """Settle an entry whose `fresh_until` has passed: True if it lives on."""
        if entry.fresh_until == DEAD:
            return False
        deadline = entry.deadline()
        if deadline > now:
            entry.fresh_until = deadline
            return True
        if deadline + self._grace <= now:
            self._remove_locked(entry, EXPIRED, now)
        return False

    # -- writing ------------------------------------------------------------------------------

    def _weigh(self, key: K, value: V) -> float:
        """What the user's weigher says, checked. Runs outside the lock."""
        weight = self._weigher(key, value)  # type: ignore[misc]
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise TypeError(f"weigher must return a number, not {weight!r} for key {key!r}")
        if not 0 <= weight < math.inf:
            raise ValueError(f"weigher must return a finite weight >= 0, not {weight!r}")
        return weight

    def _store_locked(self, key: K, value: V, limits: Limits, weight: float, now: float) -> None:
        """Write an entry, whatever is there."""
        while True:
            if self._clear_place_locked(key, value, limits, weight, now):
                return
            self._make_room_locked(weight, now)
            entry = self._entry_class()
            entry.value = value
            entry.key = key
            self._date(entry, limits, now)
            if isinstance(entry, FullEntry):
                entry.weight = weight
                if self._tracker is not None:
                    self._tracker.admit(entry)
            if self._add_locked(entry, weight):
                return

    def _add_locked(self, entry: Entry, weight: float) -> bool:
        """Put a new entry into the dict. False if a re-entrant call got in between: start again.

        An entry belongs to whom `setdefault` or `pop` gave it; that one accounts for it.
        """
        entries, tracker = self._entries, self._tracker
        if self._weigher is not None:
            self._weight += weight
        is_in = entries.setdefault(entry.key, entry) is entry
        if is_in and entries is not self._entries:
            # Cleared meanwhile: with our entry, which then is done with, or before it came.
            if entries.pop(entry.key, None) is not entry:
                return True
            is_in = False
        if not is_in and self._weigher is not None:
            self._weight -= weight
        if is_in and tracker is not None:
            tracker.added(entry)
        return is_in

    def _clear_place_locked(
        self, key: K, value: V, limits: Limits, weight: float, now: float
    ) -> bool:
        """Deal with what is in the way of a new entry. True if nothing is left to be written."""
        while key in self._entries or weight > self._maxsize:
            entry = self._find_locked(key, now)
            if weight > self._maxsize:
                self._reject_locked(key, value, entry, now)
                return True
            if entry is not None:
                if self._overwrite_locked(entry, value, limits, weight, now):
                    return True
                continue
            stale = self._entries.get(key)
            if stale is not None:  # it expired, and was kept for `stale_if_error`
                self._remove_locked(stale, EXPIRED, now)
        return False

    def _reject_locked(self, key: K, value: V, entry: Entry | None, now: float) -> None:
        """Refuse a value heavier than the cache; the value it was to replace is outdated."""
        if entry is not None:
            self._remove_locked(entry, REPLACED, now)
        self._counts[REJECTED] += 1
        self._removed.append((key, value, REJECTED))

    def _date(self, entry: Entry, limits: Limits, now: float) -> None:
        """Set the times of an entry, `fresh_until` last."""
        ttl, entry.idle = limits
        entry.touched_at = now
        if isinstance(entry, FullEntry):
            entry.written_at = now
        deadline = entry.expires_at = now + ttl
        if entry.idle is not None and entry.idle < ttl:
            deadline = now + entry.idle
        if deadline < self._earliest:
            self._expect(deadline, now)
        entry.fresh_until = deadline

    def _expect(self, deadline: float, now: float) -> None:
        """Something expires earlier than all before it."""
        self._earliest = deadline
        if not self._swept:
            self._schedule_sweep(deadline - now)

    def _overwrite_locked(
        self, entry: Entry, value: V, limits: Limits, weight: float, now: float
    ) -> bool:
        """Give a live entry a new value. False if it died meanwhile, by a re-entrant call."""
        old = entry.value
        entry.value = value
        self._date(entry, limits, now)
        entries = self._entries
        if entries.get(entry.key) is not entry or entries is not self._entries:
            return False
        self._counts[REPLACED] += 1
        self._removed.append((entry.key, old, REPLACED))
        if self._weigher is not None and weight != entry.weight:
            change = weight - entry.weight
            entry.weight = weight
            self._weight += change
            if self._tracker is not None:
                self._tracker.reweighed(entry, change)
            self._make_room_locked(0, now, spare=entry)
        return True

    # -- making room --------------------------------------------------------------------------

    def _begin_order(self) -> None:
        """Forget who is next. The orders look at the dict of this moment, not at the cache."""
        self._evict_order: LruOrder | S3FifoOrder
        self._tracker: S3FifoOrder | None = None  # told of every entry that comes or goes
        if self._policy == "lru":
            self._evict_order = self._lru = LruOrder(self._entries.values, self._clock)
        else:
            self._evict_order = self._tracker = S3FifoOrder(self._entries.values)

    def _total(self) -> float:
        return len(self._entries) if self._weigher is None else self._weight

    def _make_room_locked(
        self,
        weight: float,
        now: float,
        *,
        surplus: float = SURPLUS_RATIO,
        spare: Entry | None = None,
    ) -> None:
        """Evict until `weight` more fits, or until the order needs more time to say who goes."""
        while self._entries and self._total() + weight > self._maxsize:
            victim = self._evict_order.victim(spare)
            if victim is not None:
                self._remove_locked(victim, EVICTED, now)
            elif self._total() + weight <= self._maxsize * (1 + surplus):
                self._in_debt = True
                return
        self._in_debt = False

    def _settle(self) -> None:
        """Evict what a search for the order left over."""
        if self._in_debt:
            with self._held():
                self._make_room_locked(0, self._clock(), surplus=0)

    # -- removing -----------------------------------------------------------------------------

    def _remove_locked(self, entry: Entry, cause: int, now: float) -> bool:
        """Take `entry` out and note why: the one way out of the cache. False if it was out.

        An entry that was past its deadline is said to have expired, whoever removes it.
        """
        key, tracker = entry.key, self._tracker
        found = self._entries.pop(key, None)
        if found is not entry:
            if found is not None:  # the key was put again: that is another entry
                self._put_back_locked(found)
            return False
        if entry.fresh_until <= now and entry.deadline() <= now:
            cause = EXPIRED
        value = entry.value
        entry.fresh_until = DEAD
        del entry.value
        if self._weigher is not None:
            self._weight -= entry.weight
        self._counts[cause] += 1
        self._removed.append((key, value, cause))
        if tracker is not None:
            tracker.removed(entry)
        return True

    def _put_back_locked(self, entry: Entry) -> None:
        """Undo the removal of an entry that was not meant; if its key is taken, it is replaced."""
        if self._entries.setdefault(entry.key, entry) is not entry:
            self._removed.append((entry.key, entry.value, REPLACED))
            self._counts[REPLACED] += 1
            if self._weigher is not None:
                self._weight -= entry.weight
            if self._tracker is not None:
                self._tracker.removed(entry)

    def _clear_locked(self, now: float) -> list[tuple[K, V, int]]:
        """Empty the cache at once. Returns what to tell, outside the lock."""
        old, self._entries = self._entries, {}
        self._begin_order()
        self._earliest = NEVER
        told: list[tuple[K, V, int]] = []
        while old:
            try:
                key, entry = old.popitem()  # what somebody else pops is not ours
            except KeyError:
                break
            if self._weigher is not None:
                self._weight -= entry.weight
            cause = EXPIRED if entry.deadline() <= now else CLEARED
            self._counts[cause] += 1
            told.append((key, entry.value, cause))
        told.reverse()
        return told

    # -- expiring -----------------------------------------------------------------------------

    def _live_entries(self) -> list[Entry]:
        """The live entries, in the order their keys came."""
        self._settle()
        return self._living(self._clock())

    def _living(self, now: float) -> list[Entry]:
        with self._held():
            entries = list(self._entries.values())
        return [entry for entry in entries if entry.fresh_until > now or entry.deadline() > now]

    def _live_count(self) -> int:
        self._settle()
        now = self._clock()
        if now < self._earliest:
            return len(self._entries)
        return len(self._living(now))

    def _schedule_sweep(self, lifetime: float) -> None:
        interval = self._interval(lifetime)
        self._swept = interval == math.inf or self._sweeper.schedule(
            self._sweep, lifetime + self._grace + interval
        )

    def _interval(self, lifetime: float) -> float:
        if self._sweep_interval is not None:
            return self._sweep_interval
        return min(max(lifetime * SWEEP_RATIO, SHORTEST_SWEEP), LONGEST_SWEEP)

    def _sweep(self) -> float | None:
        """The sweeper's slice. Returns seconds until the next, None when nothing will expire."""
        now = self._clock()
        if not self._sweep_todo:
            self._begin_sweep()
        batch = self._sweep_todo[-SWEEP_SLICE:]
        del self._sweep_todo[-SWEEP_SLICE:]
        due = [entry for entry in batch if DEAD < entry.fresh_until <= now]
        self._enter()
        try:
            for entry in due:
                self._rearm_locked(entry, now)
        finally:
            self._leave()
        return 0.0 if self._sweep_todo else self._end_sweep(now)

    def _begin_sweep(self) -> None:
        with self._held():
            self._sweep_todo = list(self._entries.values())

    def _end_sweep(self, now: float) -> float | None:
        """Find out what expires next, and when to look again."""
        with self._held():
            left = [entry.fresh_until for entry in self._entries.values()]
            self._earliest = min(left, default=NEVER)
            self._swept = self._earliest < NEVER
        wait = self._earliest - now
        return max(wait, self._interval(wait)) + self._grace if self._swept else None

    def _removal_counts(self) -> dict[str, int]:
        counts = {cause.value: count for cause, count in zip(CAUSES, self._counts, strict=True)}
        counts[RemovalCause.EVICTED.value] += self._evicted_odometer.read(self._evicted)
        counts[RemovalCause.REPLACED.value] += self._replaced
        return counts

    def _put_back(self, entry: Entry) -> None:
        with self._held():
            self._put_back_locked(entry)

    # -- fork ---------------------------------------------------------------------------------

    def _after_fork_in_child(self) -> None:
        """Mend what a thread of the parent, which does not exist here, may have left half done."""
        self._lock = self._runtime.rlock()
        self._depth = 0
        self._announcers = set()
        self._sweep_todo = []
        self._begin_order()
        if self._tracker is not None:
            for entry in self._entries.values():
                self._tracker.admit(entry)
                self._tracker.added(entry)
        if self._weigher is not None:
            self._weight = sum(entry.weight for entry in self._entries.values())
        self._swept = False
        if self._earliest < NEVER:
            self._schedule_sweep(max(0.0, self._earliest - self._clock()))
