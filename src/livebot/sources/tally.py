"""What a source shows of itself: its state and its counts."""

from __future__ import annotations

import enum
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from livebot.messages import Event
from threadkit import REAL, Runtime

__all__ = ["Batch", "FeedState", "SourceStatistics", "Tally"]

logger = logging.getLogger("livebot.sources")

_NAMES_LIMIT = 64  # distinct names counted one by one; a hostile feed could invent any number
_COMPLAIN_EVERY = 10.0  # seconds between two log lines about malformed input


class FeedState(str, enum.Enum):
    """What a source is doing."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    """The connection was lost or refused; the next attempt comes after a pause."""
    ENDED = "ended"
    """The broadcast is over."""
    REFUSED = "refused"
    """The server said not to come back."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class SourceStatistics:
    """What a source did since it was made.

    Every message received has one fate: `received` is the sum of `decoded`, `undelivered`, `shed`,
    `unknown`, `duplicates` and `unreadable`.
    """

    state: FeedState
    frames: int
    """Data messages that came over the socket."""
    bytes_count: int
    """Their size together, as sent."""
    received: Mapping[str, int]
    """Messages inside frames, by method, before any was left out."""
    decoded: Mapping[str, int]
    """Events handed over, by kind."""
    duplicates: int
    """Messages left out because their id came before."""
    malformed: int
    """Frames and messages that could not be read."""
    unreadable: int
    """Of these, the messages that are in `received`."""
    last_malformed: str
    """What was wrong with the latest of them, empty when there was none."""
    unknown: Mapping[str, int]
    """Messages left out because this bot knows no such method."""
    shed: Mapping[str, int]
    """Messages left out undecoded, by method, because the feed was faster than this process."""
    undelivered: int
    """Events that `emit` refused with an exception."""
    acks: int
    heartbeats: int
    connections: int
    """Connections that were opened."""
    reconnects: int
    """Connections that were opened after the first."""


class Batch:
    """What one frame brought, counted without a lock by the thread that reads it."""

    __slots__ = ("decoded", "duplicates", "received", "shed", "unknown", "unreadable")

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.decoded: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.shed: Counter[str] = Counter()
        self.duplicates = 0
        self.unreadable = 0


class Tally:
    """The running count behind `SourceStatistics`.

    Thread safety: the connection's threads count, anybody takes snapshots.

    Args:
        name: Of the source, for log lines.
    """

    def __init__(self, name: str, *, runtime: Runtime = REAL) -> None:
        self._name = name
        self._monotonic = runtime.monotonic
        # Guards every field below; held for a few additions, never across logging.
        self._lock = runtime.lock()
        self._counts: Counter[str] = Counter()
        self._received: Counter[str] = Counter()
        self._decoded: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._shed: Counter[str] = Counter()
        self._last_malformed = ""
        self._unsaid = 0
        self._complain_at = float("-inf")

    def count(self, what: str, n: int = 1) -> None:
        """Add to one of the plain counters, by its name in `SourceStatistics`."""
        with self._lock:
            self._counts[what] += n

    def frame(self, size_bytes: int) -> None:
        """One data message came."""
        with self._lock:
            self._counts["frames"] += 1
            self._counts["bytes_count"] += size_bytes

    def add(self, batch: Batch) -> None:
        """What one frame brought."""
        with self._lock:
            self._counts["duplicates"] += batch.duplicates
            self._counts["unreadable"] += batch.unreadable
            self._decoded.update(batch.decoded)
            self._shed.update(batch.shed)
            for method, n in batch.received.items():
                _bounded(self._received, method, n)
            for method, n in batch.unknown.items():
                _bounded(self._unknown, method, n)

    def malformed(self, problem: Exception) -> None:
        """Something could not be read: count it, and say so in one line, not too often."""
        now = self._monotonic()
        with self._lock:
            self._counts["malformed"] += 1
            self._last_malformed = str(problem)
            silent = now < self._complain_at
            unsaid, self._unsaid = self._unsaid, self._unsaid + 1 if silent else 0
            if not silent:
                self._complain_at = now + _COMPLAIN_EVERY
        if not silent:
            more = f" (and {unsaid} more since the last such line)" if unsaid else ""
            logger.warning("%s: skipped malformed input: %s%s", self._name, problem, more)

    def deliver(self, event: Event, emit: Callable[[Event], object], batch: Batch) -> None:
        """Hand one event of a batch to whoever should take it."""
        try:
            emit(event)
        except Exception as exc:  # noqa: BLE001 - a full or closed queue must not end the source
            self._undelivered(exc)
        else:
            batch.decoded[event.kind] += 1

    def _undelivered(self, problem: Exception) -> None:
        with self._lock:
            self._counts["undelivered"] += 1
            first = self._counts["undelivered"] == 1
        if first:
            logger.warning("%s: an event was not taken: %r", self._name, problem)

    def snapshot(self, state: FeedState) -> SourceStatistics:
        """The counts as they are now."""
        with self._lock:
            counts = self._counts
            return SourceStatistics(
                state=state,
                frames=counts["frames"],
                bytes_count=counts["bytes_count"],
                received=dict(self._received),
                decoded=dict(self._decoded),
                duplicates=counts["duplicates"],
                malformed=counts["malformed"],
                unreadable=counts["unreadable"],
                last_malformed=self._last_malformed,
                unknown=dict(self._unknown),
                shed=dict(self._shed),
                undelivered=counts["undelivered"],
                acks=counts["acks"],
                heartbeats=counts["heartbeats"],
                connections=counts["connections"],
                reconnects=max(0, counts["connections"] - 1),
            )


def _bounded(counter: Counter[str], name: str, n: int) -> None:
    key = name[:80]
    counter[key if key in counter or len(counter) < _NAMES_LIMIT else "(other)"] += n
