"""Loading what is not there: single flight, bulk loads, refresh ahead, remembered errors."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

from threadkit._cache._arguments import a_callable, a_mapping, seconds
from threadkit._cache._entry import NOTHING, Entry, FullEntry
from threadkit._cache._flights import (
    Flight,
    flights_inside,
    inside,
    is_in_the_graph,
    leave_all,
    waiting_for,
)
from threadkit._cache._registry import is_inside_one
from threadkit._cache._store import NO_SWAP, Store
from threadkit._errors import LoadCycle, LoadTimeout
from threadkit._failures import Failure

__all__ = ["Loading"]

K = TypeVar("K")
V = TypeVar("V")

ERRORS_KEPT = 1024  # remembered errors at most; the oldest go first

AGES = 1e9  # seconds: longer than any loop runs

_log = logging.getLogger("threadkit.cache")


class Patience(NamedTuple):
    """How long one who waits is willing to, in seconds, and until when."""

    timeout: float | None
    until: float


UNLIMITED = Patience(None, 0.0)


class Loading(Store[K, V]):
    """A store that knows how to get what it has not."""

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

    # -- one key ------------------------------------------------------------------------------

    def load(self, key: K, loader: Callable[[K], V], *, timeout: float | None = None) -> V:
        """The value of `key`; if it is not there, what `loader(key)` returns, which is kept.

        Of all who ask at the same time one runs its loader; the others wait for it and get its
        value, or its error. An error is not kept, unless the cache has a `negative_ttl`.

        Blocks: while the loader runs, here or in another thread.

        Args:
            key: Hashable.
            loader: Called with the key.
            timeout: Seconds to wait for another caller's loader. It goes on without us. The own
                loader is not timed.

        Raises:
            LoadTimeout: Another caller's loader took longer than `timeout`.
            LoadCycle: The load would wait for itself, directly or through other loads.
            Exception: What the loader raised.
        """
        value = self._fresh(key)
        return self._load(key, loader, timeout) if value is NOTHING else cast("V", value)

    def _fresh(self, key: K) -> Any:
        """The value of `key`, or NOTHING if it has to be loaded or reloaded. Takes no lock."""
        entry = self._entries.get(key)
        if entry is None:
            return NOTHING
        now = self._clock(*())
        if entry.fresh_until > now and (
            self._refresh_after is None or now - entry.written_at < self._refresh_after
        ):
            entry.touched_at = now
            self._hits = self._hits.next
            try:
                return entry.value
            except AttributeError:  # removed this moment: see _entry
                pass
        return NOTHING

    def _load(self, key: K, loader: Callable[[K], V], timeout: float | None) -> V:
        a_callable("loader", loader)
        patience = UNLIMITED if timeout is None else self._patience(timeout)
        while True:
            value, flight, ours = self._board(key)
            if flight is None:
                return value
            if value is not NOTHING:
                self._reload_in_thread(flight, loader)
                return value
            if ours:
                return self._fly(flight, loader)
            if self._must_not_wait(flight):
                return self._fly(flight.apart(self.name), loader)
            self._wait(flight, patience)
            if not flight.abandoned:
                return cast("V", flight.outcome())

    def _fill(self, key: K, read: Callable[[K], V | None]) -> V | None:
        """The value of `key`, from `read(key)` if it is not here; waits for nobody's load."""
        ours: Flight | None = None
        try:
            with self._held():
                now = self._clock()
                found = self._read_locked(key, now)
                if found is not None:
                    self._hit_locked(found[0], now)
                    return found[1]
                self._misses += 1
                flight = Flight(key, thread=self._get_ident())
                if self._enter_flight_locked(flight) is flight:
                    ours = flight
                    found = self._read_locked(key, now)
                    if found is not None:  # a `put` without the lock was faster
                        return found[1]
            if ours is None:
                return read(key)  # whoever loads it keeps it
            with inside(ours):
                value = read(key)
            if value is not None:
                self._land(ours, value, now)
            return value
        finally:
            if ours is not None:
                self._give_up(ours)

    def _hit_locked(self, entry: Entry, now: float) -> None:
        entry.touched_at = now
        self._hits = self._hits.next

    async def aload(
        self,
        key: K,
        loader: Callable[[K], Awaitable[V]] | Callable[[K], V],
        *,
        timeout: float | None = None,
    ) -> V:
        """`load` for coroutines: `loader(key)` may be awaitable. Shares flights with `load`.

        If the task that runs the loader is cancelled, one of those who wait runs its own.
        """
        fresh = self._fresh(key)
        if fresh is not NOTHING:
            return cast("V", fresh)
        a_callable("loader", loader)
        patience = UNLIMITED if timeout is None else self._patience(timeout)
        loop = asyncio.get_running_loop()
        while True:
            value, flight, ours = self._board(key, loop)
            if flight is None:
                return value
            if value is not NOTHING:
                self._reload_in_task(flight, loader)
                return value
            if ours:
                return await self._afly(flight, loader)
            if self._must_not_wait(flight, loop):
                return await self._afly(flight.apart(self.name), loader)
            await self._await(flight, patience)
            if not flight.abandoned:
                return cast("V", flight.outcome())

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

    # -- many keys ----------------------------------------------------------------------------

    def load_many(
        self,
        keys: Iterable[K],
        bulk_loader: Callable[[list[K]], Mapping[K, V]],
        *,
        timeout: float | None = None,
    ) -> dict[K, V]:
        """The values of `keys`; those not there come from one call of `bulk_loader(missing)`.

        A key that somebody else is loading is waited for, not loaded again. A key that the
        bulk loader leaves out of its answer is left out of ours.

        Blocks: while loaders run.

        Args:
            keys: Hashable each.
            bulk_loader: Called with the list of missing keys, returns a mapping.
            timeout: Seconds to wait for other callers' loaders, together.

        Raises:
            LoadTimeout, LoadCycle, Exception: As `load`.
        """
        a_callable("bulk_loader", bulk_loader)
        patience = UNLIMITED if timeout is None else self._patience(timeout)
        result: dict[K, V] = {}
        wanted: list[K] = list(dict.fromkeys(keys))
        while wanted:
            ours, theirs = self._board_many(wanted, result)
            ours, theirs = self._part(ours, theirs)
            if ours:
                self._fly_many(ours, bulk_loader, result)
            wanted = []
            for flight in theirs:
                self._wait(flight, patience)
                if flight.abandoned:
                    wanted.append(flight.key)
                else:
                    result[flight.key] = flight.outcome()
        return result

    def _board_many(self, keys: list[K], result: dict[K, V]) -> tuple[list[Flight], list[Flight]]:
        """Sort `keys` into what is there (`result`), what we load and what others load."""
        ours: list[Flight] = []
        theirs: list[Flight] = []
        try:
            for key in keys:
                value, flight, is_ours = self._board(key, refresh=False)
                if flight is None:
                    result[key] = value
                else:
                    (ours if is_ours else theirs).append(flight)
        except BaseException:
            self._abandon(ours)  # a remembered error, or a key that cannot be hashed
            raise
        return ours, theirs

    def _part(self, ours: list[Flight], theirs: list[Flight]) -> tuple[list[Flight], list[Flight]]:
        """What we load, and what we wait for: nothing, where we must not wait."""
        try:
            may_wait = [flight for flight in theirs if not self._must_not_wait(flight)]
            if len(may_wait) == len(theirs):
                return ours, theirs
            return [*ours, *(flight.apart(self.name) for flight in theirs)], []
        except BaseException:
            self._abandon(ours)  # it is a cycle
            raise

    def _fly_many(
        self,
        flights: list[Flight],
        bulk_loader: Callable[[list[K]], Mapping[K, V]],
        result: dict[K, V],
    ) -> None:
        started = self._clock()
        try:
            with inside(*flights):
                loaded = a_mapping(bulk_loader([flight.key for flight in flights]))
            for flight in flights:
                if flight.key in loaded:
                    result[flight.key] = loaded[flight.key]
                    self._land(flight, loaded[flight.key], started)
                    started = self._clock()  # the time of the one call is counted once
        except Exception as exc:  # noqa: BLE001 - all who wait get it
            failure = Failure(exc, skip=1, component=self.name)
            for flight in flights:
                if not flight.landed:
                    self._land_failed(flight, failure, started)
            for flight in flights:  # some may have an old value to fall back on
                result[flight.key] = flight.outcome()
        finally:
            for flight in flights:
                flight.abandoned = not flight.landed
            self._abandon(flights)

    # -- boarding: under the lock, everybody finds the value or a flight ------------------------

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
                found = self._read_locked(key, now)
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

    # -- flying: the loader, outside the lock ---------------------------------------------------

    def _fly(self, flight: Flight, loader: Callable[[K], V]) -> V:
        started = self._clock()
        around = flights_inside.get()
        flights_inside.set((*around, flight))
        try:
            try:
                value = loader(flight.key)
            finally:
                flights_inside.set(around)
            self._land(flight, value, started)
        except Exception as exc:  # noqa: BLE001 - all who wait get it
            self._land_failed(flight, Failure(exc, skip=1, component=self.name), started)
        finally:
            if not flight.landed:
                flight.abandoned = True  # no call: see Flight
                self._abandon([flight])
        return cast("V", flight.value if flight.failure is None else flight.outcome())

    async def _afly(self, flight: Flight, loader: Callable[[K], Any]) -> V:
        started = self._clock()
        try:
            with inside(flight):
                value = loader(flight.key)
                if inspect.isawaitable(value):
                    value = await value
            self._land(flight, value, started)
        except Exception as exc:  # noqa: BLE001 - all who wait get it
            self._land_failed(flight, Failure(exc, skip=1, component=self.name), started)
        finally:
            if not flight.landed:
                flight.abandoned = True  # no call: see Flight
                self._abandon([flight])
        return cast("V", flight.outcome())

    def _reload_in_thread(self, flight: Flight, loader: Callable[[K], V]) -> None:
        thread = self._runtime.thread(
            self._reload, name=f"{self.name}-refresh", args=(flight, loader), daemon=True
        )
        try:
            thread.start()
        except RuntimeError as exc:  # no more threads: the value is still good, try at a next hit
            self._abandon([flight])
            _log.warning("%s: cannot refresh %r: %s", self.name, flight.key, exc)

    def _reload(self, flight: Flight, loader: Callable[[K], V]) -> None:
        leave_all()
        try:
            self._fly(flight, loader)
        except Exception as exc:  # noqa: BLE001 - nobody waits; the old value is still served
            _log.warning("%s: refreshing %r failed: %r", self.name, flight.key, exc)

    def _reload_in_task(self, flight: Flight, loader: Callable[[K], Any]) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._areload(flight, loader))
        # A loop holds its tasks weakly. A timer of the loop holds ours for as long as the loop
        # is open; of a loop that was closed before the task ended, the collector ends the task.
        holder = loop.call_later(AGES, task.cancel)
        task.add_done_callback(lambda _task: holder.cancel())

    async def _areload(self, flight: Flight, loader: Callable[[K], Any]) -> None:
        leave_all()
        try:
            await self._afly(flight, loader)
        except Exception as exc:  # noqa: BLE001 - nobody waits; the old value is still served
            _log.warning("%s: refreshing %r failed: %r", self.name, flight.key, exc)

    # -- landing: every flight lands, whatever happens ------------------------------------------

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

    def _land_failed(self, flight: Flight, failure: Failure, started: float) -> None:
        """Serve what is there if that is allowed, else hand the error to all who wait."""
        with self._held():
            now = self._clock()
            self._load_failures += 1
            self._load_time += now - started
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

    # -- waiting ------------------------------------------------------------------------------

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

    def _stop_waiting(self, flight: Flight, callback: Callable[[], object]) -> None:
        if not flight.landed:
            with self._held():
                if not flight.landed:
                    flight.forget_locked(callback)

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
