"""The ledger: every event that could be spoken is in exactly one place until it has ended."""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from livebot.messages import Event
from threadkit import REAL, MessageQueue, Runtime

__all__ = ["Entry", "Ledger", "LedgerStatistics", "Passage", "Stage", "Stay"]

_RECENT = 200  # entries remembered, whatever became of them
_STAYS = 512  # durations remembered for each stage


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
        number: Counts the entries of one ledger, from 1.
        stage: Where it is.
        version, since, priority, said, fate: As of `Passage`.
    """

    event: Event
    number: int = 0
    version: int = 0
    stage: Stage = Stage.RECEIVED
    since: dict[Stage, float] = field(default_factory=dict[Stage, float])
    priority: int | None = None
    said: str = ""
    fate: str = ""
    open: int = 0  # sentences handed to the voice that have not ended
    heard: bool = False  # whether one was heard to its end
    failure: str = ""  # why the first that was not heard was not
    complete: bool = False  # whether no more sentences will come
    _sentences: MessageQueue[str] | None = None

    @property
    def sentences(self) -> MessageQueue[str]:
        """What is to be said, in order; closed when it is complete or given up.

        Made when it is first asked for, because in a flood most entries end before. Whoever answers
        an entry asks first, before it hands it on, so no two threads do at the same time.
        """
        if self._sentences is None:
            self._sentences = MessageQueue(levels=1)
        return self._sentences

    def give_up(self) -> None:
        """Close its sentences, if any were begun: nobody will listen."""
        if self._sentences is not None:
            self._sentences.close(drain=False)


@dataclass(frozen=True, slots=True)
class Passage:
    """How far one event has come, at one moment.

    Attributes:
        number: Counts the events of one ledger, from 1.
        version: Counts the changes of all its entries; grows with each change of this one.
        event: What happened.
        stage: Where it is.
        since: When it reached each stage it has been at, on the monotonic clock.
        priority: Its rank in the text queue, 0 is the most urgent; None until it has one.
        said: What was handed to the voice so far.
        fate: What became of it: "spoken", or why it was dropped; empty until it has ended.
    """

    number: int
    version: int
    event: Event
    stage: Stage
    since: Mapping[Stage, float]
    priority: int | None
    said: str
    fate: str


def _passage(entry: Entry) -> Passage:
    return Passage(
        entry.number,
        entry.version,
        entry.event,
        entry.stage,
        dict(entry.since),
        entry.priority,
        entry.said,
        entry.fate,
    )


Stay = tuple[float, float]  # when an entry went on from a stage, and how long it was there


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
        runtime: Where clock and lock come from.
    """

    def __init__(
        self, *, on_settled: Callable[[], None] = lambda: None, runtime: Runtime = REAL
    ) -> None:
        self._on_settled = on_settled
        self._monotonic = runtime.monotonic
        # Guards everything below and in the entries; held for counting and small copies only.
        self._lock = runtime.lock()
        self._received = 0
        self._spoken = 0
        self._dropped: Counter[str] = Counter()
        self._waiting: Counter[Stage] = Counter()
        self._other: Counter[str] = Counter()
        self._changes = 0
        self._recent: deque[Entry] = deque(maxlen=_RECENT)
        self._queued: dict[int, Entry] = {}  # those that wait to be spoken, by number
        self._stays: dict[Stage, deque[Stay]] = {stage: deque(maxlen=_STAYS) for stage in Stage}

    def ignore(self, event: Event) -> None:
        """Count an event that is never spoken."""
        with self._lock:
            self._other[event.kind] += 1

    def admit(self, event: Event) -> Entry:
        """Open the entry of an event that could be spoken."""
        with self._lock:
            self._received += 1
            self._waiting[Stage.RECEIVED] += 1
            entry = Entry(event, self._received)
            entry.since[Stage.RECEIVED] = self._monotonic()
            self._touch_locked(entry)
            self._recent.append(entry)
        return entry

    def move(self, entry: Entry, stage: Stage, priority: int | None = None) -> None:
        """Note that an entry has reached the next stage, and its priority from there on."""
        with self._lock:
            self._leave_locked(entry, stage, moves_on=True)
            self._waiting[stage] += 1
            if priority is not None:
                entry.priority = priority
            if stage is Stage.TEXT:
                self._queued[entry.number] = entry

    def begin(self, entry: Entry, sentence: str = "") -> None:
        """One sentence of an entry is on its way to the ear."""
        with self._lock:
            entry.open += 1
            entry.said += sentence
            self._touch_locked(entry)

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
        self._leave_locked(entry, Stage.ENDED, moves_on=entry.heard)
        if entry.heard:
            entry.fate = "spoken"
            self._spoken += 1
        else:
            entry.fate = entry.failure or "nothing to say"
            self._dropped[entry.fate] += 1
        return self._settled_locked()

    def drop(self, entry: Entry, reason: str) -> None:
        """Close an entry: it will not be heard, for this reason."""
        with self._lock:
            self._leave_locked(entry, Stage.ENDED, moves_on=False)
            entry.fate = reason
            self._dropped[reason] += 1
            settled = self._settled_locked()
        if settled:
            self._on_settled()

    def dropper(self, queue: str) -> Callable[[Entry, str], None]:
        """What a queue of entries has to be told as `on_drop`; `queue` begins the reason."""

        def dropped(entry: Entry, reason: str) -> None:
            entry.give_up()
            if reason != "closed":  # what a closing queue hands back was pending to the end
                self.drop(entry, f"{queue}: {reason}")

        return dropped

    def _settled_locked(self) -> bool:
        return not any(self._waiting.values())

    def _touch_locked(self, entry: Entry) -> None:
        self._changes += 1
        entry.version = self._changes

    def _leave_locked(self, entry: Entry, stage: Stage, *, moves_on: bool) -> None:
        if entry.stage is Stage.ENDED:
            raise RuntimeError(f"event {entry.event.id} has ended already")
        self._waiting[entry.stage] -= 1
        now = self._monotonic()
        if moves_on:
            self._stays[entry.stage].append((now, now - entry.since[entry.stage]))
        self._queued.pop(entry.number, None)
        self._touch_locked(entry)
        entry.since[stage] = now
        entry.stage = stage

    def recent(self) -> list[Passage]:
        """The latest entries, the oldest first."""
        with self._lock:
            return [_passage(entry) for entry in self._recent]

    def queued(self) -> list[Passage]:
        """The entries that wait to be spoken, the oldest first."""
        with self._lock:
            return [_passage(entry) for entry in self._queued.values()]

    def stays(self) -> dict[Stage, list[Stay]]:
        """When the latest entries went on from each stage, and the seconds they had spent there.

        Those that were dropped there are not among them.
        """
        with self._lock:
            return {stage: list(stays) for stage, stays in self._stays.items() if stays}

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
