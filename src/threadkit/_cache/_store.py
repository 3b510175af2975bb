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
    One path: `_remove_locked` takes the value (see `_entry`), then the key out of the dict, and
    notes key, value and cause; the outermost `_leave` has the announcer tell the listener after
    the lock is released. Values are freed there too.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from threadkit._cache._announcer import CAUSES, Announcer
from threadkit._cache._arguments import a_callable, a_capacity, seconds
from threadkit._cache._clock import strict
from threadkit._cache._entry import DEAD, NEVER, NOTHING, Entry, FullEntry, Limits
from threadkit._cache._lru import LruOrder
from threadkit._cache._odometer import Odometer
from threadkit._cache._registry import register
from threadkit._cache._s3fifo import S3FifoOrder
from threadkit._cache._statistics import RemovalCause
from threadkit._cache._sweeper import sweeper_of
from threadkit._cache._weights import grain_of, in_grains
from threadkit._runtime import Runtime

__all__ = ["DELETED", "EVICTED", "NO_SWAP", "REPLACED", "Store", "limits"]

K = TypeVar("K")
V = TypeVar("V")

SURPLUS_RATIO = 1 / 64  # of maxsize, while a large cache is finding its eviction order
NO_SWAP = math.nan  # no deadline is as late
SWEEP_SLICE = 256  # entries dropped while the lock is held once
SHORTEST_SWEEP, LONGEST_SWEEP = 1.0, 60.0  # seconds between sweeps when the user gave none
SWEEP_RATIO = 0.25  # of the ttl, between those two

EXPIRED, EVICTED, REPLACED, DELETED, CLEARED, REJECTED = range(len(CAUSES))

POLICIES = ("lru", "s3fifo")


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
        register(self)

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
            self._announcer.announce()

    @contextmanager
    def _held(self) -> Generator[None]:
        """The lock, for code that is not hot."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    # -- reading ------------------------------------------------------------------------------

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

    # -- writing ------------------------------------------------------------------------------

    def _weigh(self, key: K, value: V) -> float:
        """What the user's weigher says, checked. Runs outside the lock."""
        weight = self._weigher(key, value)  # type: ignore[misc]
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise TypeError(f"weigher must return a number, not {weight!r} for key {key!r}")
        if not 0 <= weight <= sys.float_info.max:  # a larger int could not be added to a float
            raise ValueError(f"weigher must return a finite weight >= 0, not {weight!r}")
        return weight if isinstance(weight, int) else float(weight)

    def _store_locked(
        self, key: K, value: V, limits: Limits, weight: float, now: float, *, keep: bool = False
    ) -> Any:
        """Write an entry over whatever is there; with `keep`, unless a live one is there.

        Returns:
            The live value that was kept, or NOTHING.
        """
        while True:
            found = self._read_locked(key, now)
            if found is not None and keep:
                return found[1]
            if weight > self._maxsize:
                self._reject_locked(key, value, now)
                return NOTHING
            if weight.__class__ is float:
                weight = in_grains(weight, self._grain)
            if found is not None:
                done = self._overwrite_locked(found[0], value, limits, weight, now)
            else:
                self._drop_stale_locked(key, now)
                self._make_room_locked(weight, now)
                done = self._add_locked(self._new_entry(key, value, limits, weight, now), weight)
            if done:
                return NOTHING

    def _new_entry(self, key: K, value: V, limits: Limits, weight: float, now: float) -> Entry:
        entry = self._entry_class()
        entry.value = value
        entry.key = key
        entry.touched_at = now
        entry.idle = limits[1]
        entry.expires_at, entry.fresh_until = self._deadlines(limits, now)
        if isinstance(entry, FullEntry):
            entry.written_at = now
            entry.weight = weight
        return entry

    def _add_locked(self, entry: Entry, weight: float) -> bool:
        """Put a new entry into the dict. False if a re-entrant call got in between: start again.

        An entry belongs to whom `setdefault` gave it, until somebody takes its value.
        """
        entries, tracker = self._entries, self._tracker
        if tracker is not None:
            tracker.admit(entry)
        if self._weigher is not None:
            self._weight += weight
        try:
            is_in = entries.setdefault(entry.key, entry) is entry
        except BaseException:
            self._discount_locked(entry, tracker)
            raise
        if is_in and entries is not self._entries:
            # Cleared meanwhile: with our entry, which then is done with, or before it came.
            if entry.kill() is NOTHING:
                return True
            is_in = False
        if not is_in:
            self._discount_locked(entry, tracker)
        if self._total() > self._maxsize:
            self._owe()  # the hash of the key put another after room was made for this
        if is_in and tracker is not None:
            tracker.added(entry)
        return is_in

    def _discount_locked(self, entry: Entry, tracker: S3FifoOrder | None) -> None:
        """Count an entry no longer that is not in any more, or did not get in."""
        if self._weigher is not None:
            self._weight -= entry.weight
        if tracker is not None:
            tracker.removed(entry)

    def _redate_locked(self, entry: Entry, ttl: float, now: float) -> bool:
        """Give an entry new deadlines, as if just read. False if it was removed or written to."""
        seen = entry.fresh_until
        limits = (ttl, getattr(entry, "idle", None))
        expires_at, until = self._deadlines(limits, now)
        if not entry.rearm(seen, until):
            return False
        entry.expires_at = expires_at
        entry.touched_at = now
        return True

    def _drop_stale_locked(self, key: K, now: float) -> None:
        """Clear the place of an entry that expired and was kept, or that somebody just took."""
        stale = self._entries.get(key)
        if stale is None:
            return
        if stale.fresh_until is DEAD:
            self._unlink_locked(stale)
        else:
            self._remove_locked(stale, EXPIRED, now)  # but not if it was put just now

    def _reject_locked(self, key: K, value: V, now: float) -> None:
        """Refuse a value heavier than the cache; the value it was to replace is outdated."""
        entry = self._entries.get(key)
        if entry is not None:
            self._remove_locked(entry, REPLACED, now)
        self._counts[REJECTED] += 1
        self._removed.append((key, value, REJECTED))

    def _deadlines(self, limits: Limits, now: float) -> tuple[float, float]:
        """When an entry written now expires at last, and until when it is fresh."""
        ttl, idle = limits
        expires_at = until = now + ttl
        if idle is not None and idle < ttl:
            until = now + idle
        if until < self._earliest:
            self._expect(until, now)
        return expires_at, until

    def _expect(self, deadline: float, now: float) -> None:
        """Something expires earlier than all before it."""
        self._swap_from = NO_SWAP
        self._earliest = deadline
        self._schedule_sweep(deadline - now)

    def _overwrite_locked(
        self, entry: Entry, value: V, limits: Limits, weight: float, now: float
    ) -> bool:
        """Give a live entry a new value. False if it died meanwhile, by a re-entrant call."""
        expires_at, until = self._deadlines(limits, now)
        old = entry.renew(value, now, until, limits[1], expires_at)
        if old is NOTHING:
            return False
        self._counts[REPLACED] += 1
        self._removed.append((entry.key, old, REPLACED))
        if isinstance(entry, FullEntry):
            entry.written_at = now
            if weight != entry.weight:
                self._reweigh_locked(entry, value, weight)
                self._make_room_locked(0, now, spare=entry)
        return True

    def _reweigh_locked(self, entry: FullEntry, value: V, weight: float) -> None:
        """Count `entry` as `weight` from now on, if it still has `value`."""
        tracker = self._tracker
        if tracker is None:
            change = entry.reweigh(value, weight)
        else:
            change = tracker.reweigh(entry, value, weight)
        self._weight += change  # in a line of its own: else the sum is read before the call

    # -- making room --------------------------------------------------------------------------

    def _begin(self, entries: dict[K, Entry]) -> dict[K, Entry]:
        """Hold these entries, with nobody in mind who is next. Returns those held before.

        The exchange is one without a call inside, like every change here: see the module.
        """
        self._evict_order: LruOrder | S3FifoOrder
        self._tracker: S3FifoOrder | None  # told of every entry that comes or goes
        if self._policy == "lru":
            lru = LruOrder(entries.values, self._clock)
            self._swap_from = NO_SWAP  # from this deadline on a new entry takes the oldest's place
            old, self._entries, self._tracker = self._entries, entries, None
            self._evict_order = self._lru = lru
        else:
            tracker = S3FifoOrder(entries.values)
            self._swap_from = NO_SWAP
            old, self._entries = self._entries, entries
            self._evict_order = self._tracker = tracker
        return old

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

    def _regrain_locked(self) -> None:
        """Count what is there in the grains of a bound that has changed."""
        before, self._grain = self._grain, grain_of(self._maxsize)
        if self._grain <= before or isinstance(self._weight, int):
            return
        for entry in list(self._entries.values()):
            value = getattr(entry, "value", NOTHING)
            if isinstance(entry, FullEntry) and value is not NOTHING:
                self._reweigh_locked(entry, value, in_grains(entry.weight, self._grain))

    def _owe(self) -> None:
        self._in_debt = True
        self._swap_from = NO_SWAP

    def _settle(self) -> None:
        """Evict what a search for the order left over."""
        if self._in_debt:
            with self._held():
                self._make_room_locked(0, self._clock(), surplus=0)

    # -- removing -----------------------------------------------------------------------------

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
            if self._weigher is not None:
                self._weight -= entry.weight
            self._counts[cause] += 1
            told.append((entry.key, value, cause))
        self._removed.extend(reversed(told))

    # -- expiring -----------------------------------------------------------------------------

    def _live_entries(self) -> list[Entry]:
        """The live entries, in the order their keys came."""
        self._settle()
        return self._living(self._clock())

    def _live_items(self) -> list[tuple[K, V]]:
        found = [(entry.key, getattr(entry, "value", NOTHING)) for entry in self._live_entries()]
        return [item for item in found if item[1] is not NOTHING]

    def _living(self, now: float) -> list[Entry]:
        with self._held():
            entries = list(self._entries.values())
        return [entry for entry in entries if entry.fresh_until > now or entry.deadline() > now]

    def _live_count(self) -> int:
        self._settle()
        with self._held():  # which keeps `_earliest` as it is
            now = self._clock()
            if now < self._earliest:
                return len(self._entries)
        return len(self._living(now))

    def _schedule_sweep(self, lifetime: float) -> None:
        """Have the cache swept when something of `lifetime` seconds is due.

        An earlier sweep than the one to come is asked for only if it is worth it; the later one
        is still called then, and finds that it is not the one to come.
        """
        interval = self._interval(lifetime)
        delay = lifetime + self._grace + interval
        at = self._runtime.monotonic() + delay
        is_worth_it = at + min(interval, LONGEST_SWEEP) <= self._sweep_at and at < NEVER
        if is_worth_it and self._sweeper.schedule(self._sweep, delay):
            self._sweep_at = at

    def _interval(self, lifetime: float) -> float:
        if self._sweep_interval is not None:
            return self._sweep_interval
        return min(max(lifetime * SWEEP_RATIO, SHORTEST_SWEEP), LONGEST_SWEEP)

    def _sweep(self) -> float | None:
        """The sweeper's slice. Returns seconds until the next, None when nothing will expire."""
        if self._runtime.monotonic() < self._sweep_at < NEVER:
            return None  # another one is to come
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
            # A put without the lock that comes meanwhile sees NEVER, and waits to lower it.
            self._swap_from = NO_SWAP
            self._earliest = NEVER
            left = [entry.fresh_until for entry in list(self._entries.values())]
            alive = [deadline for deadline in left if deadline is not DEAD]
            self._earliest = min(alive, default=NEVER)
            if self._earliest == NEVER:
                self._sweep_at = NEVER
                return None
            wait = max(self._earliest - now, self._interval(self._earliest - now)) + self._grace
            self._sweep_at = self._runtime.monotonic() + wait
            return wait

    def _removal_counts(self) -> dict[str, int]:
        counts = {cause.value: count for cause, count in zip(CAUSES, self._counts, strict=True)}
        counts[RemovalCause.EVICTED.value] += self._evicted_odometer.read(self._evicted)
        counts[RemovalCause.REPLACED.value] += self._replaced
        return counts

    def _put_back(self, entry: Entry) -> None:
        with self._held():
            self._put_back_locked(entry)

    # -- as a member of the registry ----------------------------------------------------------

    def _is_held(self) -> bool:
        """Whether user code that calls this runs under the lock."""
        return self._runtime.owns(self._lock)

    def _after_fork_in_child(self) -> None:
        """Mend what a thread of the parent, which does not exist here, may have left half done."""
        self._lock = self._runtime.rlock()
        self._depth = 0
        self._in_debt = True  # it may have put an entry, and not evicted one yet
        self._announcer.forget_threads()
        self._sweep_todo = []
        self._sweep_at = NEVER
        for entry in list(self._entries.values()):
            if entry.fresh_until is DEAD:
                self._unlink_locked(entry)
        self._begin(self._entries)
        entries = self._entries.values()
        if self._tracker is not None:
            for entry in entries:
                self._tracker.admit(entry)
                self._tracker.added(entry)
        if self._weigher is not None:
            self._weight = sum(entry.weight for entry in entries)
        self._earliest = min((entry.fresh_until for entry in entries), default=NEVER)
        if self._earliest < NEVER:
            self._schedule_sweep(max(0.0, self._earliest - self._clock()))
