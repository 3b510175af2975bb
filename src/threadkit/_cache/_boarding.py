"""Single flight: who loads a key, who waits for it, and how every load lands."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from threadkit._cache._arguments import seconds
from threadkit._cache._entry import NOTHING, Entry, FullEntry
from threadkit._cache._flights import Flight, is_in_the_graph, waiting_for
from threadkit._cache._holding import NO_SWAP
from threadkit._cache._registry import is_inside_one
from threadkit._cache._store import Store
from threadkit._errors import LoadCycle, LoadTimeout
from threadkit._failures import Failure

__all__ = ["UNLIMITED", "Boarding", "Patience"]

K = TypeVar("K")
V = TypeVar("V")

ERRORS_KEPT = 1024  # remembered errors at most; the oldest go first


class Patience(NamedTuple):
    """How long one who waits is willing to, in seconds, and until when."""

    timeout: float | None
    until: float


UNLIMITED = Patience(None, 0.0)


class Boarding(Store[K, V]):
    """A store with a board of what is being loaded for it."""

    __slots__ = (
        "_errors",
        "_flights",
        "_load_failures",
        "_load_time",
        "_loads",
        "_negative_ttl",
        "_refresh_after",
        "_stale_served",
    )

    def __init__(
        self, *args: Any, refresh_after: float | None, negative_ttl: float | None, **kwargs: Any
    ) -> None:
        self._refresh_after = refresh_after
        self._negative_ttl = negative_ttl
        # Guarded by the store's lock.
        self._flights: dict[K, Flight] = {}  # what is being loaded and wanted
        self._errors: dict[K, tuple[Failure, float]] = {}  # remembered until
        self._loads = 0
        self._load_failures = 0
        self._load_time = 0.0
        self._stale_served = 0
        super().__init__(*args, plain=refresh_after is negative_ttl is None, **kwargs)

    # -- boarding: under the lock, everybody finds the value or a flight -------------------

    def _board(
        self, key: K, loop: asyncio.AbstractEventLoop | None = None, *, refresh: bool = True
    ) -> tuple[V, Flight | None, bool]:
        """Look `key` up for a load. Returns value, flight and whether the flight is ours.

        A value without a flight is a hit; with one, a hit that we are to reload; a flight and
        NOTHING is a miss.
        """
        ours: Flight | None = None
        try:
            self._enter()
            try:
                now = self._clock()
                found = self._read_locked(key, now)
                if found is not None:
                    entry, value = found
                    self._hit_locked(entry, now)
                    ours = self._refresh_locked(entry, now, loop) if refresh else None
                    return value, ours, True
                self._misses += 1
                if self._errors:
                    self._raise_remembered_locked(key, now)
                new = Flight(key, loop, self._get_ident())
                flight = self._flights.setdefault(key, new)
                self._swap_from = NO_SWAP
                if flight is not new:
                    flight = self._enter_flight_locked(new)
                if flight is not new:
                    return NOTHING, flight, False
                ours = new
                found = self._read_locked(key, now) if key in self._entries else None
                if found is not None:  # a `put` without the lock was faster
                    self._arrive_locked(new)
                    return found[1], None, True
                return NOTHING, new, True
            finally:
                self._leave()  # calls the listener, which may exit
        except BaseException:
            if ours is not None:
                self._give_up(ours)
            raise

    def _hit_locked(self, entry: Entry, now: float) -> None:
        entry.touched_at = now
        self._hits = self._hits.next

    def _enter_flight_locked(self, new: Flight) -> Flight:
        """The flight of the key: `new`, unless one is under way."""
        while True:
            flight = self._flights.setdefault(new.key, new)
            self._swap_from = NO_SWAP
            if flight is new or not flight.is_lost():
                return flight
            self._land_nothing_locked(flight)

    def _refresh_locked(
        self, entry: Entry, now: float, loop: asyncio.AbstractEventLoop | None
    ) -> Flight | None:
        """A flight to reload a value past `refresh_after`, unless one is under way."""
        if self._refresh_after is None:
            return None
        since = max(entry.written_at, getattr(entry, "tried_at", entry.written_at))
        if now - since < self._refresh_after:
            return None
        flight = Flight(entry.key, loop, self._get_ident(), refreshes=entry)
        return flight if self._enter_flight_locked(flight) is flight else None

    def _raise_remembered_locked(self, key: K, now: float) -> None:
        failure, until = self._errors.get(key, (None, 0.0))
        if failure is not None and now < until:
            failure.reraise()
        self._errors.pop(key, None)

    def _outdate_locked(self, key: K) -> None:
        """What is being loaded for `key` is older than what is being done to it now."""
        flight = self._flights.pop(key, None)
        if flight is not None:
            flight.wanted = False
        self._errors.pop(key, None)

    def _outdate_all_locked(self) -> None:
        flights, self._flights = self._flights, {}
        for flight in list(flights.values()):
            flight.wanted = False
        self._errors = {}

    # -- landing: every flight lands, whatever happens -------------------------------------

    def _land(self, flight: Flight, value: V, started: float) -> None:
        """Keep what was loaded, unless it is outdated, and hand it to all who wait."""
        weight = 1 if self._weigher is None else self._weigh(flight.key, value)
        self._enter()
        try:
            now = self._clock()
            if self._arrive_locked(flight):
                # What lives there now, and is not what we refresh, was put without the lock after
                # the flight left the board: it is newer.
                keep = flight.refreshes is None
                self._store_locked(flight.key, value, self._limits, weight, now, keep=keep)
            self._loads += 1
            self._load_time += now - started
            flight.value = value
            flight.landed = True
            if flight.waiting:
                flight.announce()
        finally:
            self._leave()

    def _land_failed(self, flight: Flight, failure: Failure, started: float | None) -> None:
        """Serve what is there if that is allowed, else hand the error to all who wait.

        `started` is None if it was the clock that failed, before the loader was called.
        """
        with self._held():
            now = self._clock()
            self._load_failures += 1
            self._load_time += 0.0 if started is None else now - started
            flight.failure = failure
            try:
                self._fall_back_locked(flight, now, is_wanted=self._arrive_locked(flight))
            finally:  # even if the hash of the key fails
                flight.landed = True
                flight.announce()

    def _fall_back_locked(self, flight: Flight, now: float, *, is_wanted: bool) -> None:
        """Of a load that failed, take what is there: a live value, or one within its grace."""
        entry = self._entries.get(flight.key)
        value = NOTHING if entry is None else getattr(entry, "value", NOTHING)
        if entry is not None and value is not NOTHING:
            deadline = entry.deadline()
            if deadline > now or (is_wanted and deadline + self._grace > now):
                flight.value, flight.failure = value, None
                self._stale_served += deadline <= now
                if isinstance(entry, FullEntry):
                    entry.tried_at = now  # the next refresh is due a `refresh_after` from now
                return
        if is_wanted and self._negative_ttl is not None and flight.failure is not None:
            self._remember_locked(flight.key, flight.failure, now + self._negative_ttl)

    def _remember_locked(self, key: K, failure: Failure, until: float) -> None:
        self._errors.pop(key, None)
        while len(self._errors) >= ERRORS_KEPT:
            self._errors.pop(next(iter(self._errors)), None)
        self._errors[key] = (failure, until)

    def _arrive_locked(self, flight: Flight) -> bool:
        """Take `flight` off the board. Whether its outcome is still wanted in the cache."""
        found = self._flights.pop(flight.key, None)
        if found is not None and found is not flight:
            self._flights.setdefault(flight.key, found)
        return flight.wanted

    def _give_up(self, flight: Flight) -> None:
        """Land `flight` without an outcome, unless it has one."""
        if not flight.landed:
            flight.abandoned = True  # no call: see Flight
            self._abandon([flight])

    def _abandon(self, flights: list[Flight]) -> None:
        """Land those that have not landed without an outcome: who waits tries again."""
        for flight in flights:
            if not flight.landed:
                with self._held():
                    if not flight.landed:  # by who wants the key next
                        self._land_nothing_locked(flight)

    def _land_nothing_locked(self, flight: Flight) -> None:
        try:
            self._arrive_locked(flight)
        finally:  # even if the hash of the key fails
            flight.wanted = False
            flight.abandoned = flight.landed = True
            flight.announce()

    # -- waiting ---------------------------------------------------------------------------

    def _must_not_wait(self, flight: Flight, loop: asyncio.AbstractEventLoop | None = None) -> bool:
        """Whether a wait for `flight`, in `loop` if it is one, may keep it from landing.

        Raises:
            LoadCycle: It would keep it for sure: its loader runs on this thread.
        """
        if flight.needs(self._get_ident(), loop):
            raise LoadCycle(component=self.name, keys=[flight.key, flight.key])
        return is_inside_one() or is_in_the_graph()

    def _wait(self, flight: Flight, patience: Patience) -> None:
        # A gate of our own, and not an event that all share: a finalizer run by the collector
        # while we hold the lock inside an event would wait for us, if it wants the key too.
        gate = self._runtime.lock()
        gate.acquire()
        landed = gate.release
        with waiting_for(flight, self.name):
            with self._held():
                if flight.landed:
                    return
                flight.call_when_landed_locked(landed)
            try:
                remaining = self._remaining(patience)
                if not gate.acquire(True, -1 if remaining is None else remaining):
                    raise self._ran_out(flight, patience)
            finally:
                self._stop_waiting(flight, landed)

    async def _await(self, flight: Flight, patience: Patience) -> None:
        loop = asyncio.get_running_loop()
        landed = asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop of one who waited is closed
                loop.call_soon_threadsafe(landed.set)

        with waiting_for(flight, self.name):
            with self._held():
                if flight.landed:
                    return
                flight.call_when_landed_locked(tell)
            try:
                await asyncio.wait_for(landed.wait(), self._remaining(patience))
            except asyncio.TimeoutError:
                raise self._ran_out(flight, patience) from None
            finally:
                self._stop_waiting(flight, tell)

    def _stop_waiting(self, flight: Flight, callback: Callable[[], object]) -> None:
        if not flight.landed:
            with self._held():
                if not flight.landed:
                    flight.forget_locked(callback)

    def _patience(self, timeout: float) -> Patience:
        if seconds("timeout", timeout) > threading.TIMEOUT_MAX:
            return UNLIMITED  # no lock can wait for longer
        return Patience(timeout, self._runtime.monotonic() + timeout)

    def _remaining(self, patience: Patience) -> float | None:
        if patience.timeout is None:
            return None
        return max(0.0, patience.until - self._runtime.monotonic())

    def _ran_out(self, flight: Flight, patience: Patience) -> LoadTimeout:
        return LoadTimeout(component=self.name, key=flight.key, timeout=patience.timeout or 0.0)

    # -- counts, fork ----------------------------------------------------------------------

    def _load_counts(self) -> dict[str, Any]:
        return {
            "loads": self._loads,
            "load_failures": self._load_failures,
            "load_time": self._load_time,
            "stale_served": self._stale_served,
        }

    def _after_fork_in_child(self) -> None:
        """Loads in flight belong to threads of the parent."""
        super()._after_fork_in_child()
        self._flights = {}
