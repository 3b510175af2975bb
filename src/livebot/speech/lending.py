"""Engines of one kind, each lent to one caller at a time."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from livebot.speech.engines import Engine, SpeechError
from threadkit import REAL, Runtime

__all__ = ["EngineCounts", "EngineRecord", "Lender"]


class EngineRecord(NamedTuple):
    """What engines with worker processes tell of them; others count nothing.

    Attributes:
        retried: Texts that an engine tried a second time.
        respawned: Worker processes that were started in the place of another.
        killed: Those that were killed because they hung.
        died: Those that ended by themselves.
    """

    retried: int = 0
    respawned: int = 0
    killed: int = 0
    died: int = 0

    def plus(self, engines: Iterable[Engine]) -> EngineRecord:
        """This, and what `engines` did."""
        rows = [self, *map(_told, engines)]
        return EngineRecord(*map(sum, zip(*rows, strict=True)))


def _told(engine: Engine) -> EngineRecord:
    count: Callable[[str], int] = functools.partial(_count, engine)
    return EngineRecord(
        count("retried"), max(0, count("spawned") - 1), count("killed"), count("died")
    )


def _count(engine: Engine, name: str) -> int:
    value: int = getattr(engine, name, 0)
    return value


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """How the engines of one kind are doing.

    Attributes:
        engines: Those that exist now.
        busy: Those that are speaking now.
        record: What all engines did, also those that are gone.
    """

    engines: int
    busy: int
    record: EngineRecord


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
        self._past = EngineRecord()  # of engines that are gone

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
            return EngineCounts(
                len(self._engines),
                len(self._engines) - len(self._idle),
                self._past.plus(self._engines),
            )

    def close(self, *, for_good: bool = True) -> None:
        """End every engine, also those that are lent; others are made, unless it is for good.

        Blocks: while their processes end, a few milliseconds each.
        """
        with self._changed:
            self._closed = for_good
            engines, self._engines, self._idle = self._engines, [], []
            self._past = self._past.plus(engines)
            self._changed.notify_all()
        for engine in engines:
            engine.close()
