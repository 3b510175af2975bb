"""How entries come in, and what time does to them.

Expiration
    Checked by every read. `fresh_until` is a lower bound of the true deadline: an entry with an
    `idle` limit is re-armed when a read passes the bound, so that hits do not compute deadlines.
    Writers and the sweeper drop what expired.
"""

from __future__ import annotations

import sys
from typing import Any, TypeVar

from threadkit._cache._entry import DEAD, NEVER, NOTHING, Entry, FullEntry, Limits
from threadkit._cache._holding import EXPIRED, NO_SWAP, REJECTED, REPLACED, Holding
from threadkit._cache._registry import register
from threadkit._cache._weights import in_grains

__all__ = ["Store"]

K = TypeVar("K")
V = TypeVar("V")

SWEEP_SLICE = 256  # entries dropped while the lock is held once
SHORTEST_SWEEP, LONGEST_SWEEP = 1.0, 60.0  # seconds between sweeps when the user gave none
SWEEP_RATIO = 0.25  # of the ttl, between those two


class Store(Holding[K, V]):
    """A bounded dict whose entries expire. `TTLCache` is its public face."""

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        register(self)

    # -- writing ---------------------------------------------------------------------------

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
            is_there = key in self._entries
            found = self._read_locked(key, now) if is_there else None
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
                if is_there:
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

    # -- what is alive ---------------------------------------------------------------------

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

    # -- sweeping --------------------------------------------------------------------------

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

    # -- fork ------------------------------------------------------------------------------

    def _after_fork_in_child(self) -> None:
        """Mend what a thread of the parent, which does not exist here, may have left half done."""
        self._owe()  # it may have put an entry, and not evicted one yet
        self._announcer.forget_threads()
        self._sweep_todo = []
        self._sweep_at = NEVER
        if not self._is_held():  # else a key's `__hash__` or a finalizer forked: no other was in
            self._lock = self._runtime.rlock()
            self._depth = 0
            self._recount()
        entries = self._entries.values()
        self._earliest = min(
            (entry.fresh_until for entry in entries if entry.fresh_until is not DEAD),
            default=NEVER,
        )
        if self._earliest < NEVER:
            self._schedule_sweep(max(0.0, self._earliest - self._clock()))

    def _recount(self) -> None:
        """Drop what was half removed, and find out anew what is there."""
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
