"""Loading what is not there: single flight, bulk loads, refresh ahead, remembered errors."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from threadkit._cache._arguments import a_callable, a_mapping
from threadkit._cache._boarding import UNLIMITED, Boarding
from threadkit._cache._entry import NOTHING
from threadkit._cache._flights import Flight, flights_inside, inside, leave_all
from threadkit._failures import Failure

__all__ = ["Loading"]

K = TypeVar("K")
V = TypeVar("V")

AGES = 1e9  # seconds: longer than any loop runs

_log = logging.getLogger("threadkit.cache")


class Loading(Boarding[K, V]):
    """A store that knows how to get what it has not."""

    __slots__ = ()

    # -- one key ---------------------------------------------------------------------------

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

    # -- many keys -------------------------------------------------------------------------

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
        started = None
        try:
            started = self._clock()
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

    # -- flying: the loader, outside the lock ----------------------------------------------

    def _fly(self, flight: Flight, loader: Callable[[K], V]) -> V:
        started = None
        try:
            started = self._clock()
            around = flights_inside.get()
            flights_inside.set((*around, flight))
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
        started = None
        try:
            started = self._clock()
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
