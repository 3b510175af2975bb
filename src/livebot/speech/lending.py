"""Engines of one kind, each lent to one caller at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass

from livebot.speech.engines import Engine, SpeechError
from threadkit import REAL, Runtime

__all__ = ["EngineCounts", "Lender"]


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """How the engines of one kind are doing.

    Attributes:
        engines: Those that exist now.
        busy: Those that are speaking now.
        retried: Texts that an engine tried a second time.
        respawned: Worker processes that were started in the place of one that hung or died.
    """

    engines: int
    busy: int
    retried: int
    respawned: int


class Lender:
    """At most `limit` engines of one kind, the most recently used lent first.

    So engines that are not needed stay asleep, and a thread that ends leaves none behind.

    Thread safety: every method may be called from any thread.

    Lifetime: engines are made when they are needed. `close` ends them, also those that are lent.

    Args:
        make: Makes one engine, without starting it.
        limit: How many there may be.
        runtime: Clock and lock.
    """

    def __init__(self, make: Callable[[], Engine], limit: int, *, runtime: Runtime = REAL) -> None:
        first = make()  # starts nothing yet; a text in the cache never starts it
        self.name = first.name
        self._make = make
        self._limit = limit
        self._monotonic = runtime.monotonic
        # Guards all below; bookkeeping only, never held while an engine works, starts or ends.
        # Notified when an engine is given back, or all are closed; borrowers wait.
        self._changed = runtime.condition(runtime.lock())
        self._idle = [first]
        self._engines = [first]
        self._closed = False
        self._retried = 0  # by engines that are gone, as the next
        self._respawned = 0

    @property
    def closed(self) -> bool:
        """Whether it lends nothing any more."""
        return self._closed

    @contextlib.contextmanager
    def lend(self, text: str, deadline: float | None) -> Generator[Engine]:
        """An engine for `text`, free by the monotonic instant `deadline`.

        Raises:
            SpeechError: None was free in time, or it is closed.

        Blocks: until an engine is free.
        """
        engine = self._borrow(text, deadline)
        try:
            yield engine
        finally:
            with self._changed:
                if engine in self._engines:  # else it was ended meanwhile
                    self._idle.append(engine)
                    self._changed.notify()

    def _borrow(self, text: str, deadline: float | None) -> Engine:
        with self._changed:
            while not self._closed and not self._idle and len(self._engines) >= self._limit:
                left = None if deadline is None else deadline - self._monotonic()
                if left is not None and left <= 0:
                    raise SpeechError("busy", text=text, detail=f"all {self._limit} engines")
                self._changed.wait(left)
            if self._closed:
                raise SpeechError("closed", text=text)
            if self._idle:
                return self._idle.pop()
            engine = self._make()  # starts nothing yet, so it may be made under the lock
            self._engines.append(engine)
            return engine

    def counts(self) -> EngineCounts:
        """How its engines are doing."""
        with self._changed:
            retried, respawned = _told(self._engines)
            return EngineCounts(
                len(self._engines),
                len(self._engines) - len(self._idle),
                self._retried + retried,
                self._respawned + respawned,
            )

    def close(self, *, for_good: bool = True) -> None:
        """End every engine, also those that are lent; others are made, unless it is for good.

        Blocks: while their processes end, a few milliseconds each.
        """
        with self._changed:
            self._closed = for_good
            engines, self._engines, self._idle = self._engines, [], []
            retried, respawned = _told(engines)
            self._retried += retried
            self._respawned += respawned
            self._changed.notify_all()
        for engine in engines:
            engine.close()


def _told(engines: list[Engine]) -> tuple[int, int]:
    """Texts tried again, and processes that replaced another; some engines know of neither."""
    retried = sum(getattr(engine, "retried", 0) for engine in engines)
    return retried, sum(max(0, getattr(engine, "spawned", 0) - 1) for engine in engines)
