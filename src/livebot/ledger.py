"""The ledger: every event that could be spoken is in exactly one place until it has ended."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from livebot.messages import Event
from threadkit import REAL, MessageQueue, Runtime

__all__ = ["Entry", "Ledger", "LedgerStatistics", "Stage"]


class Stage(enum.Enum):
    """Where an event is on its way from the feed to the ear."""

    RECEIVED = "waiting to be looked at"
    PROCESSING = "being looked at, or held until its combo ends"
    TEXT = "waiting to be spoken"
    SPEECH = "being synthesised or played"
    ENDED = "ended"


@dataclass(eq=False)
class Entry:
    """One event that could be spoken, on its way. Only the `Ledger` changes what is below.

    Attributes:
        event: What happened.
        sentences: What is to be said, in order; closed when it is complete or given up.
        stage: Where it is.
    """

    event: Event
    sentences: MessageQueue[str] = field(default_factory=lambda: MessageQueue(levels=1))
    stage: Stage = Stage.RECEIVED
    open: int = 0  # sentences handed to the voice that have not ended
    heard: bool = False  # whether one was heard to its end
    failure: str = ""  # why the first that was not heard was not
    complete: bool = False  # whether no more sentences will come


@dataclass(frozen=True)
class LedgerStatistics:
    """The books at one moment: `received == spoken + pending + sum(dropped.values())`.

    Attributes:
        received: Events that could be spoken.
        spoken: Those of whose sentences at least one was heard to its end.
        dropped: Those that were not, by reason.
        waiting: Those still on their way, by stage.
        other: Events nobody would speak (statistics of the room, for example), by kind.
    """

    received: int
    spoken: int
    dropped: Mapping[str, int]
    waiting: Mapping[str, int]
    other: Mapping[str, int]

    @property
    def pending(self) -> int:
        """Events still on their way."""
        return sum(self.waiting.values())


class Ledger:
    """Counts what becomes of every event.

    Entries are counted where they are, not by subtraction, so that the books can disagree: an
    event lost on the way stays `waiting` for ever, and ending an entry twice raises.

    Thread safety: all methods may be called from any thread.

    Args:
        on_settled: Called, outside the lock, when the last entry on its way has ended.
        runtime: Where the lock comes from.
    """

    def __init__(
        self, *, on_settled: Callable[[], None] = lambda: None, runtime: Runtime = REAL
    ) -> None:
        self._on_settled = on_settled
        # Guards everything below; held for counting only.
        self._lock = runtime.lock()
        self._received = 0
        self._spoken = 0
        self._dropped: Counter[str] = Counter()
        self._waiting: Counter[Stage] = Counter()
        self._other: Counter[str] = Counter()

    def ignore(self, event: Event) -> None:
        """Count an event that is never spoken."""
        with self._lock:
            self._other[event.kind] += 1

    def admit(self, event: Event) -> Entry:
        """Open the entry of an event that could be spoken."""
        with self._lock:
            self._received += 1
            self._waiting[Stage.RECEIVED] += 1
        return Entry(event)

    def move(self, entry: Entry, stage: Stage) -> None:
        """Note that an entry has reached the next stage."""
        with self._lock:
            self._leave_locked(entry, stage)
            self._waiting[stage] += 1

    def begin(self, entry: Entry) -> None:
        """One sentence of an entry is on its way to the ear."""
        with self._lock:
            entry.open += 1

    def end(self, entry: Entry, failure: str = "") -> None:
        """One sentence of an entry was heard to its end, or was not, for the reason given."""
        with self._lock:
            entry.open -= 1
            entry.heard = entry.heard or not failure
            entry.failure = entry.failure or failure
            settled = self._close_locked(entry)
        if settled:
            self._on_settled()

    def complete(self, entry: Entry) -> None:
        """No more sentences of an entry will begin."""
        with self._lock:
            entry.complete = True
            settled = self._close_locked(entry)
        if settled:
            self._on_settled()

    def _close_locked(self, entry: Entry) -> bool:
        """End an entry whose sentences have all ended; whether that was the last one."""
        if entry.open or not entry.complete:
            return False
        self._leave_locked(entry, Stage.ENDED)
        if entry.heard:
            self._spoken += 1
        else:
            self._dropped[entry.failure or "nothing to say"] += 1
        return self._settled_locked()

    def drop(self, entry: Entry, reason: str) -> None:
        """Close an entry: it will not be heard, for this reason."""
        with self._lock:
            self._leave_locked(entry, Stage.ENDED)
            self._dropped[reason] += 1
            settled = self._settled_locked()
        if settled:
            self._on_settled()

    def dropper(self, queue: str) -> Callable[[Entry, str], None]:
        """What a queue of entries has to be told as `on_drop`; `queue` begins the reason."""

        def dropped(entry: Entry, reason: str) -> None:
            entry.sentences.close(drain=False)
            if reason != "closed":  # what a closing queue hands back was pending to the end
                self.drop(entry, f"{queue}: {reason}")

        return dropped

    def _settled_locked(self) -> bool:
        return not any(self._waiting.values())

    def _leave_locked(self, entry: Entry, stage: Stage) -> None:
        if entry.stage is Stage.ENDED:
            raise RuntimeError(f"event {entry.event.id} has ended already")
        self._waiting[entry.stage] -= 1
        entry.stage = stage

    def statistics(self) -> LedgerStatistics:
        """The books now, all counted at the same moment."""
        with self._lock:
            waiting = {stage.value: count for stage, count in self._waiting.items() if count}
            return LedgerStatistics(
                self._received,
                self._spoken,
                dict(self._dropped),
                waiting,
                dict(self._other),
            )
