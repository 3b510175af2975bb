"""TTLCache: the mapping people see."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, MutableMapping, ValuesView
from operator import attrgetter
from typing import Any, Literal, TypeVar, cast, overload

from threadkit._cache._arguments import a_callable, a_capacity, a_count, seconds
from threadkit._cache._entry import DEAD, NEVER, NOTHING, Entry, Limits
from threadkit._cache._holding import DELETED, EVICTED, limits
from threadkit._cache._loading import Loading
from threadkit._cache._statistics import CacheStatistics, RemovalCause
from threadkit._cache._views import LiveItems, LiveValues
from threadkit._runtime import REAL, Runtime

__all__ = ["TTLCache"]

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

_touched_at = attrgetter("touched_at")


class TTLCache(Loading[K, V], MutableMapping[K, V]):
    """A thread-safe, bounded mapping: evicts the least recently used, forgets after `ttl`.

    >>> cache = TTLCache[str, str](maxsize=2, ttl=60)
    >>> cache["a"] = "apple"
    >>> cache.put("b", "banana", ttl=5)
    >>> cache.get("a")                      # now "b" is the least recently used
    'apple'
    >>> cache["c"] = "cherry"
    >>> sorted(cache), cache.get("b")
    (['a', 'c'], None)
    >>> cache.load("d", str.upper)          # one loader a key, however many threads ask
    'D'
    >>> cache.statistics().evicted
    2

    A hit takes no lock: threads that read do not wait for one another, nor for writers.

    Thread safety: every method may be called from any thread, and from a loader, weigher,
    listener, key's `__eq__` or `__hash__`, or a finalizer: user code never runs under the lock,
    except the `__eq__` and `__hash__` of keys, and the lock is re-entrant.

    Lifetime: nothing to close. A dropped cache is collected at once; the daemon thread that drops
    expired entries is shared by all caches and holds weak references only. After `fork` the child
    has a cache of its own with the same entries; loads in flight stay the parent's.

    Args:
        maxsize: The most entries, or the most weight if there is a `weigher`; `math.inf` for no
            bound. Above about 2,000 entries a put may leave up to 1/64 more for the next few puts
            to evict, so that none has to sort all entries at once; `len` never shows them.
        ttl: Seconds an entry lives after it was written; None or `math.inf` for ever.
        idle: Seconds an entry lives after it was last read or written.
        weigher: Called with key and value, returns what the entry weighs (0 or more).
            Sums are exact: a float is rounded down by at most 1e-14 of `maxsize`.
        policy: `"lru"`, exact, or `"s3fifo"`, which resists scans and one-hit wonders better.
        sweep_interval: Seconds between looks for expired entries; by default a quarter of the
            ttl, at least 1 and at most 60; `math.inf` for no sweeping.
        on_remove: Called with key, value and a `RemovalCause` after an entry left, once, outside
            the lock, by the thread that removed it. What it raises is logged and counted.
        refresh_after: Seconds after which `load` serves a value and reloads it in the background.
        stale_if_error: Seconds past its expiry that a value may be served by `load` if the
            loader fails.
        negative_ttl: Seconds a loader's error is remembered; by default it is not.
        clock: A clock in seconds; one that is set back stands still until it has caught up. By
            default the runtime's.
        name: For errors and logs.
        runtime: Where locks, threads and the clock come from.

    Raises:
        TypeError, ValueError: An argument of the wrong kind, or not positive; says which.
    """

    __slots__ = ()

    def __init__(
        self,
        maxsize: float,
        ttl: float | None = None,
        *,
        idle: float | None = None,
        weigher: Callable[[K, V], float] | None = None,
        policy: Literal["lru", "s3fifo"] = "lru",
        sweep_interval: float | None = None,
        on_remove: Callable[[K, V, RemovalCause], object] | None = None,
        refresh_after: float | None = None,
        stale_if_error: float | None = None,
        negative_ttl: float | None = None,
        clock: Callable[[], float] | None = None,
        name: str = "cache",
        runtime: Runtime = REAL,
    ) -> None:
        super().__init__(
            maxsize,
            ttl,
            idle=idle,
            weigher=weigher,
            policy=policy,
            sweep_interval=sweep_interval,
            on_remove=on_remove,
            grace=0.0 if stale_if_error is None else seconds("stale_if_error", stale_if_error),
            refresh_after=None
            if refresh_after is None
            else seconds("refresh_after", refresh_after),
            negative_ttl=None if negative_ttl is None else seconds("negative_ttl", negative_ttl),
            clock=clock,
            name=name,
            runtime=runtime,
        )

    # -- reading ------------------------------------------------------------------------------

    @overload
    def get(self, key: K, default: None = None) -> V | None: ...
    @overload
    def get(self, key: K, default: V) -> V: ...
    @overload
    def get(self, key: K, default: T) -> V | T: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The value of `key`, or `default`."""
        try:
            entry = self._entries[key]
        except KeyError:
            self._misses += 1
            return default
        now = self._clock(*())  # the star saves time: decision 0035
        if entry.fresh_until > now:
            entry.touched_at = now
            self._hits = self._hits.next
            try:
                return entry.value
            except AttributeError:  # removed this moment: see _entry
                pass
        return self._get_settled(key, now, default)

    def _get_settled(self, key: K, now: float, default: Any) -> Any:
        """`get` for an entry that is past `fresh_until`."""
        with self._held():
            found = self._read_locked(key, now)
            if found is None:
                self._misses += 1
                return default
            self._hit_locked(found[0], now)
            return found[1]

    def __getitem__(self, key: K) -> V:
        value = self.get(key, NOTHING)
        if value is NOTHING:
            raise KeyError(key)
        return cast("V", value)

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """The values of those `keys` that are there."""
        found: list[tuple[K, Any]] = [(key, self.get(key, NOTHING)) for key in keys]
        return {key: value for key, value in found if value is not NOTHING}

    def peek(self, key: K, default: T | None = None) -> V | T | None:
        """The value of `key` without counting as a read: no recency, no statistics."""
        now = self._clock()
        while True:
            entry = self._entries.get(key)
            if entry is None or entry.deadline() <= now:
                return default
            try:
                return cast("V", entry.value)
            except AttributeError:  # removed this moment: look again
                continue

    def __contains__(self, key: object) -> bool:
        return self.peek(cast("K", key), NOTHING) is not NOTHING

    def expires_at(self, key: K) -> float | None:
        """When the entry will expire unless it is read, on the cache's clock; None if not there.

        `math.inf` for an entry that does not expire.
        """
        entry = self._entries.get(key)
        if entry is None:
            return None
        deadline = entry.deadline()
        return deadline if deadline > self._clock() else None

    def __len__(self) -> int:
        """The live entries: counted at once unless some may have expired, else one by one."""
        return self._live_count()

    def __iter__(self) -> Iterator[K]:
        """The keys that are live now, in the order they came; changes do not disturb it."""
        return iter([entry.key for entry in self._live_entries()])

    def items(self) -> ItemsView[K, V]:
        """The live keys and values. Iterating sees those of this moment, and is no read."""
        return LiveItems(self)

    def values(self) -> ValuesView[V]:
        """The live values. Iterating sees those of this moment, and is no read."""
        return LiveValues(self)

    def coldest(self, n: int = 1) -> list[K]:
        """The `n` least recently used live keys, the very least first."""
        a_count("n", n)
        return [entry.key for entry in sorted(self._live_entries(), key=_touched_at)[:n]]

    def hottest(self, n: int = 1) -> list[K]:
        """The `n` most recently used live keys, the very most first."""
        a_count("n", n)
        recent = sorted(self._live_entries(), key=_touched_at, reverse=True)
        return [entry.key for entry in recent[:n]]

    # -- writing ------------------------------------------------------------------------------

    def put(  # noqa: C901, PLR0912 - see below
        self, key: K, value: V, *, ttl: float | None = None, idle: float | None = None
    ) -> None:
        """Keep `value` for `key`.

        A load of the key that is under way will not overwrite it.

        Args:
            key: Hashable.
            value: Anything. One that weighs more than `maxsize` is refused with the cause
                `rejected`, and the old value of the key goes too.
            ttl: Seconds it lives; by default the cache's. `math.inf` for ever.
            idle: Seconds it lives unread; by default the cache's.
        """
        if ttl is not None or idle is not None or not self._is_plain:
            self._put(key, value, ttl, idle)
            return
        # A plain cache takes a put without the lock. In one piece, because each call saved is a
        # tenth of a put. What it relies on:
        # 1. `setdefault` is one call: it puts the entry in, or finds one. What it finds is
        #    overwritten if it lives (`renew`), else it is left to `_put`.
        # 2. A load enters its flight, then looks for an entry once more; we enter the entry, then
        #    look for flights once more. So one of the two sees the other.
        # 3. From the deadline `_swap_from` on, the cache is full and nothing special is on: so
        #    each that comes has the oldest go. `_finish_put` says so, under the lock; who makes
        #    room, loads, or expects something to expire earlier takes it back.
        # 4. A victim is ours once we marked it dead (see `_entry`).
        # What does not fit is left to `_put` and `_finish_put`, under the lock. Puts that meet may
        # each make room for the other, and evict one more than was needed.
        entry = Entry()
        entry.value = value
        entry.key = key
        entry.touched_at = now = self._clock(*())
        entry.fresh_until = deadline = now + self._lifetime
        entries = self._entries
        found = entries.setdefault(key, entry)
        victim: Entry | None = None
        until = DEAD
        if found is not entry:
            if found.fresh_until <= now or (
                found.renew(value, now, deadline, None, deadline) is NOTHING
            ):
                self._put(key, value, None, None)
                return
            self._replaced += 1
            if not self._flights and deadline >= self._earliest:
                return
        elif entries is not self._entries:
            if entry.kill() is not NOTHING:  # entered what `clear` had just taken away
                self._put(key, value, None, None)
            return
        elif deadline >= self._swap_from:
            order = self._lru
            oldest, as_of = order.oldest, order.as_of
            try:
                victim = oldest.pop()
                while victim.touched_at > as_of:
                    victim = oldest.pop()
            except IndexError:
                victim = None
            else:
                until, victim.fresh_until = victim.fresh_until, DEAD
                if until > now:  # else it expired, or somebody else marked it
                    try:
                        popped = entries.pop(victim.key, None)
                    except BaseException:
                        victim.fresh_until = until
                        self._owe()
                        raise
                    self._evicted = self._evicted.next
                    if popped is victim:
                        return  # and the value is freed
                    if popped is not None and popped.kill() is not NOTHING:
                        # Put while we took the key out. It goes too: put back, it might survive a
                        # delete or a clear that came since.
                        self._evicted = self._evicted.next
                    victim = None
        elif not self._flights and deadline >= self._earliest and len(entries) <= self._maxsize:
            return
        self._finish_put(found, now, victim, until)

    def _put(self, key: K, value: V, ttl: float | None, idle: float | None) -> None:
        """`put` under the lock, for every case."""
        own = self._limits if ttl is None and idle is None else self._own_limits(ttl, idle)
        weight = 1 if self._weigher is None else self._weigh(key, value)
        self._enter()
        try:
            if self._flights or self._errors:
                self._outdate_locked(key)
            self._store_locked(key, value, own, weight, self._clock())
        finally:
            self._leave()

    def _finish_put(self, entry: Entry, now: float, victim: Entry | None, until: float) -> None:
        """Do what a put without the lock could not, for an entry that is in already.

        `victim` was marked dead to be evicted, but had expired by then, at `until`.
        """
        with self._held():
            self._outdate_locked(entry.key)
            if DEAD < entry.fresh_until < self._earliest:  # it may be gone already
                self._expect(entry.fresh_until, now)
            if victim is not None:
                victim.fresh_until = until
                self._remove_locked(victim, EVICTED, now)
            self._make_room_locked(0, now)
            if not (self._in_debt or self._flights) and len(self._entries) >= self._maxsize:
                self._swap_from = self._earliest

    def _own_limits(self, ttl: float | None, idle: float | None) -> Limits:
        """The limits of one entry: what is not given is the cache's."""
        usual_ttl, usual_idle = self._limits
        given = limits(ttl, idle)
        return (usual_ttl if ttl is None else given[0], usual_idle if idle is None else given[1])

    def __setitem__(self, key: K, value: V) -> None:
        self.put(key, value)

    def setdefault(self, key: K, default: Any = None) -> Any:
        """The value of `key`, which becomes `default` if it was not there."""
        found = self.get(key, NOTHING)
        if found is not NOTHING:
            return found
        weight = 1 if self._weigher is None else self._weigh(key, default)
        with self._held():
            now = self._clock()
            if self._read_locked(key, now) is None:
                self._outdate_locked(key)
            found = self._store_locked(key, default, self._limits, weight, now, keep=True)
        return default if found is NOTHING else found

    def touch(self, key: K, ttl: float | None = None) -> bool:
        """Give a live entry a new `ttl` from now (by default the cache's), as if just read."""
        lifetime, _ = self._own_limits(ttl, None)
        with self._held():
            now = self._clock()
            while True:
                found = self._read_locked(key, now)
                if found is None:
                    return False
                if self._redate_locked(found[0], lifetime, now):
                    return True

    # -- removing -----------------------------------------------------------------------------

    @overload
    def pop(self, key: K) -> V: ...
    @overload
    def pop(self, key: K, default: V) -> V: ...
    @overload
    def pop(self, key: K, default: T) -> V | T: ...
    def pop(self, key: K, default: Any = NOTHING) -> Any:
        """Remove `key` and return its value, or `default`; without one, KeyError."""
        value = self._pop(key)
        if value is not NOTHING:
            return value
        if default is NOTHING:
            raise KeyError(key)
        return default

    def _pop(self, key: K) -> Any:
        """Remove `key` and return its value, or NOTHING."""
        with self._held():
            now = self._clock()
            self._outdate_locked(key)
            while True:
                found = self._read_locked(key, now)
                if found is None:
                    self._drop_stale_locked(key, now)  # `load` shall not fall back on it either
                    return NOTHING
                value = self._remove_locked(found[0], DELETED, now)
                if value is not NOTHING:
                    return value

    def __delitem__(self, key: K) -> None:
        self.pop(key)

    def popitem(self) -> tuple[K, V]:
        """Remove and return the least recently used entry; KeyError if there is none."""
        while True:
            coldest = self.coldest()
            if not coldest:
                raise KeyError(f"{self.name} is empty")
            value = self._pop(coldest[0])
            if value is not NOTHING:
                return coldest[0], value

    def clear(self) -> None:
        """Remove everything. What is being loaded now will not be kept."""
        with self._held():
            self._outdate_all_locked()
            self._clear_locked(self._clock())

    def invalidate_if(self, predicate: Callable[[K, V], bool]) -> int:
        """Remove the entries for which `predicate(key, value)` is true.

        Expired ones that are kept for `stale_if_error` are asked about too. What is being loaded
        now will not be kept, since it cannot be asked about yet; what is put meanwhile is.

        Returns:
            How many were removed.
        """
        a_callable("predicate", predicate)
        with self._held():
            self._outdate_all_locked()
            entries = list(self._entries.values())
        now = self._clock()
        held = [
            (entry, getattr(entry, "value", NOTHING))
            for entry in entries
            if entry.deadline() + self._grace > now
        ]
        chosen = [
            (entry, value)
            for entry, value in held
            if value is not NOTHING and predicate(entry.key, value)
        ]
        with self._held():
            removed = [self._remove_locked(entry, DELETED, now, value) for entry, value in chosen]
        return sum(value is not NOTHING for value in removed)

    # -- settings -----------------------------------------------------------------------------

    @property
    def maxsize(self) -> float:
        """The most entries, or the most weight."""
        return self._maxsize

    @property
    def currsize(self) -> float:
        """What the entries weigh now; without a weigher, how many there are."""
        self._settle()
        return self._total()

    @property
    def ttl(self) -> float | None:
        """Seconds an entry lives after it was written; None for ever."""
        return None if self._limits[0] == NEVER else self._limits[0]

    @property
    def idle(self) -> float | None:
        """Seconds an entry lives after it was last read."""
        return self._limits[1]

    def resize(self, maxsize: float) -> None:
        """Change the bound. Evicts at once what no longer fits."""
        with self._held():
            self._maxsize = a_capacity("maxsize", maxsize)
            self._make_room_locked(0, self._clock(), surplus=0)
            self._regrain_locked()

    def set_ttl(self, ttl: float | None, *, idle: float | None = None) -> None:
        """Change how long entries written from now on live. Those that are there keep theirs."""
        with self._held():
            self._set_limits(limits(ttl, idle))

    def statistics(self) -> CacheStatistics:
        """What the cache did so far."""
        self._settle()
        with self._held():
            return CacheStatistics(
                hits=self._odometer.read(self._hits),
                misses=self._misses,
                entries=len(self._entries),
                weight=self._total(),
                maxsize=self._maxsize,
                listener_errors=self._announcer.errors,
                **self._load_counts(),
                **self._removal_counts(),
            )

    def __repr__(self) -> str:
        return (
            f"<TTLCache {self.name!r}: {self._total():g} of {self._maxsize:g}, "
            f"ttl={self.ttl}, policy={self._policy!r}>"
        )
