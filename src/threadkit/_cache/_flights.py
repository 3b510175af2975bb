"""Single flight: of all who want a key that is not there, one loads it and the others wait.

A flight is one run of one loader. Who waits for whom is a graph over flights, not threads: a
context variable names the flights the caller is inside of, and follows the loader into tasks and
into pools that copy the context. A wait that would close a circle raises `LoadCycle` instead.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

from threadkit._cache._entry import Entry
from threadkit._errors import LoadCycle
from threadkit._failures import Failure
from threadkit._runtime import REAL

__all__ = ["Flight", "flights_inside", "inside", "is_in_the_graph", "leave_all", "waiting_for"]

# The flights whose loaders the caller runs in, the innermost last.
flights_inside: contextvars.ContextVar[tuple[Flight, ...]] = contextvars.ContextVar(
    "threadkit_cache_loads", default=()
)

# Guards `waits_for` of every flight of the process. Held to walk or change the graph, never
# across a wait or user code. Re-entrant, since the collector may run a finalizer that loads.
_graph = REAL.rlock()


class Flight:
    """One load. The cache's lock guards it until `landed`, after which it does not change.

    Attributes:
        key: What is loaded.
        landed: Whether the outcome is known.
        abandoned: Whether it lands without one (its loader was interrupted, or a bulk loader
            left the key out): those who wait try again themselves. Set before it landed, and by
            a mere assignment: at the limit of recursion, where no call succeeds, whoever wants
            the key next lands it.
        value: What the loader returned.
        failure: What the loader raised, or None.
        wanted: False once a clear, delete or put made the outcome outdated: it still goes to
            those who wait, but not into the cache.
        refreshes: The entry whose value it is to replace, for a refresh ahead.
        instead_of: The flight of another thread in whose place this one flies, off the board.
        waits_for: Flights this one cannot land without.
        waiting: What to call when it has landed.
    """

    __slots__ = (
        "_loop",
        "_thread",
        "abandoned",
        "failure",
        "instead_of",
        "key",
        "landed",
        "refreshes",
        "value",
        "waiting",
        "waits_for",
        "wanted",
    )

    def __init__(
        self,
        key: Any,
        loop: asyncio.AbstractEventLoop | None = None,
        thread: int | None = None,
        *,
        refreshes: Entry | None = None,
    ) -> None:
        self.key = key
        self.refreshes = refreshes
        self._loop = loop  # runs the loader; None for a loader that runs in a thread of its own
        self._thread = thread  # that boarded it, or of the loop
        self.landed = False
        self.abandoned = False
        self.value: Any = None
        self.failure: Failure | None = None
        self.wanted = True
        self.instead_of: Flight | None = None
        # Constants, since few flights need more: making two containers would cost a load 5 %.
        self.waits_for: frozenset[Flight] = frozenset()
        self.waiting: tuple[Callable[[], object], ...] = ()

    def is_lost(self) -> bool:
        """Whether nobody is going to land it: it was given up, or its event loop was closed."""
        return self.abandoned or (self._loop is not None and self._loop.is_closed())

    def needs(self, thread: int, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Whether its loader runs on `thread`, which then must not wait for it, except in `loop`.

        Not that of a refresh without a loop, which has a thread of its own. A finalizer or a key's
        `__hash__` may ask for a flight of its own thread before the loader was called.
        """
        is_its_own = self._loop is not None or self.refreshes is None
        is_in_loop = loop is not None and self._loop is loop
        return self._thread == thread and is_its_own and not is_in_loop and not self.landed

    def apart(self, cache: str) -> Flight:
        """A flight of the caller's own for the same key, which is not on the board.

        Raises:
            LoadCycle: The caller is inside of one already.
        """
        if any(step.instead_of is self for step in flights_inside.get()):
            raise LoadCycle(component=cache, keys=[self.key, self.key])
        flight = Flight(self.key)
        flight.instead_of = self
        flight.wanted = False
        return flight

    def call_when_landed_locked(self, callback: Callable[[], object]) -> None:
        """Have `callback` called once, by the thread that lands the flight, under the lock."""
        self.waiting = (*self.waiting, callback)

    def forget_locked(self, callback: Callable[[], object]) -> None:
        """Do not call `callback`: who waited has gone."""
        self.waiting = tuple(other for other in self.waiting if other != callback)

    def announce(self) -> None:
        """Wake everyone who waits. Called once, after `landed` was set."""
        for callback in self.waiting:
            callback()

    def outcome(self) -> Any:
        """The loaded value. Raises what the loader raised."""
        if self.failure is not None:
            self.failure.reraise()
        return self.value


def is_in_the_graph() -> bool:
    """Whether the caller is a finalizer that the collector runs while the graph is locked."""
    return REAL.owns(_graph)


def leave_all() -> None:
    """Begin a run of its own: who started us does not wait for us."""
    flights_inside.set(())


class inside:  # noqa: N801 - used as a function; a generator would cost a load a microsecond
    """A context in which a loader runs: what the body waits for, `flights` wait for."""

    __slots__ = ("_flights", "_token")

    def __init__(self, *flights: Flight) -> None:
        self._flights = flights

    def __enter__(self) -> None:
        self._token = flights_inside.set(flights_inside.get() + self._flights)

    def __exit__(self, *exc_info: object) -> None:
        with suppress(ValueError):  # the collector ends a coroutine in whatever context it runs
            flights_inside.reset(self._token)


@contextmanager
def waiting_for(flight: Flight, cache: str) -> Generator[None]:
    """Wait for `flight` in the body.

    Raises:
        LoadCycle: `flight` cannot land before the body ends.
    """
    waiting = flights_inside.get()
    with _graph:
        chain = _path(flight, set(waiting))
        if chain is not None:
            raise LoadCycle(component=cache, keys=[step.key for step in chain])
        added = [step for step in waiting if flight not in step.waits_for]
        for step in added:
            step.waits_for |= {flight}
    try:
        yield
    finally:
        with _graph:
            for step in added:
                step.waits_for -= {flight}


def _path(start: Flight, goals: set[Flight]) -> list[Flight] | None:
    """How `start` leads to one of `goals`, closing at the flight it began with; or None."""
    if not goals:
        return None
    paths = [[start]]
    seen = {start}
    while paths:
        path = paths.pop()
        if path[-1] in goals:
            return [path[-1], *path]
        for step in path[-1].waits_for - seen:
            seen.add(step)
            paths.append([*path, step])
    return None


def _after_fork_in_child() -> None:
    """A thread of the parent may have held the lock."""
    global _graph  # noqa: PLW0603 - a lock cannot be released by a thread that is not its owner
    _graph = REAL.rlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
