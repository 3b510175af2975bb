"""Everything there is to see of a running bot at one moment: for the page, the API, the overlay.

A view is built at most ten times a second, however many ask for it, out of copies that each part
hands out under its own short lock. Whoever draws it draws it elsewhere.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from livebot.history import FeedChange, PoolChange
from livebot.ledger import LedgerStatistics, Passage
from livebot.messages import Chat, Emoji, Event, Fansclub, Gift, Like, Social
from livebot.playback import PlayerStatistics
from livebot.replies import ModelStatistics
from livebot.sources import SourceStatistics
from livebot.speech import SpeechStatistics
from threadkit import Histogram, ManagerReport, QueueStatistics

__all__ = [
    "NAME_LIMIT",
    "CacheView",
    "ErrorView",
    "EventView",
    "PoolView",
    "ResourceView",
    "Snapshot",
    "SpeakingView",
    "StageView",
    "View",
    "event_view",
    "plain",
    "shown",
]

NAME_LIMIT = 32  # characters of a name that are shown
_TEXT_LIMIT = 200
# What turns the direction of writing: a name could make the words after it read as others.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

# Controls, ends of lines, and halves of a character (surrogates), which no answer can be written
# with: a relay that cuts names in the middle of an emoji sends them.
_BREAKING = frozenset({"Cc", "Cs", "Zl", "Zp"})


def shown(text: str, limit: int = _TEXT_LIMIT) -> str:
    r"""Words of the room as they may be shown as text: one line, cut, nothing that turns the rest.

    >>> shown("abc\u202edef\n" + "x" * 10, limit=9)
    'abcdef x…'
    """
    line = "".join(
        " " if unicodedata.category(character) in _BREAKING else character
        for character in text[: 4 * limit]
        if character not in _TURNING
    )
    line = " ".join(line.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


@dataclass(frozen=True, slots=True)
class EventView:
    """One event, and what became of it so far. Instants are seconds since the epoch.

    Attributes:
        number: Counts the events that could be spoken, from 1.
        version: Counts all changes of such events; the larger, the later this one changed.
        kind: What happened, such as "chat".
        user: The viewer's name, cut.
        user_id: The viewer's id.
        text: The viewer's words, or what was given; cut.
        count: How many gifts or likes; 0 where it makes no sense.
        stage: Where it is: "received", "processing", "text", "speech" or "ended".
        fate: "spoken", or why it was dropped; empty until it has ended.
        said: What was handed to the voice so far.
        priority: Its rank in the text queue, 0 is the most urgent; None until it has one.
        at: When it was received.
        since: When it reached each stage it has been at.
    """

    number: int
    version: int
    kind: str
    user: str
    user_id: str
    text: str
    count: int
    stage: str
    fate: str
    said: str
    priority: int | None
    at: float
    since: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SpeakingView:
    """The sentence that is heard.

    Attributes:
        number: Of the event it answers.
        user: Whose event that is.
        kind: What that was.
        text: The sentence.
        since: When its first sample was heard, in seconds since the epoch.
    """

    number: int
    user: str
    kind: str
    text: str
    since: float


@dataclass(frozen=True, slots=True)
class StageView:
    """Seconds that the events of the last minute spent at a stage before they went on from it.

    Attributes:
        stage: Its name, as in `EventView.stage`.
        count: How many went on.
        p50: Their median; None where none did.
        p95: Their 95th percentile.
    """

    stage: str
    count: int
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool: its name, how many workers it may have and has, and what they do."""

    name: str
    min_workers: int
    max_workers: int
    wanted: int
    alive: int
    busy: int
    queued: int
    completed: int
    failed: int
    run_p50: float
    run_p95: float


@dataclass(frozen=True, slots=True)
class CacheView:
    """The cache of audio.

    Attributes:
        hits: Sentences that came from it.
        misses: Sentences an engine had to speak.
        entries: Sentences in memory.
        weight: Their bytes.
        maxsize: The most bytes there may be.
    """

    hits: int
    misses: int
    entries: int
    weight: float
    maxsize: float

    @property
    def hit_ratio(self) -> float | None:
        """Hits over both; None before the first sentence."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None


@dataclass(frozen=True, slots=True)
class ErrorView:
    """Failures that look alike. `story` is the first of them with its traceback."""

    fingerprint: str
    type: str
    message: str
    severity: str
    count: int
    first_seen: float
    last_seen: float
    component: str
    task: str
    story: str


@dataclass(frozen=True, slots=True)
class ResourceView:
    """One metric of the process or its machine.

    Attributes:
        metric: Its name.
        used: How much of it is in use.
        limit: How much there is; None where no limit is known.
        level: "ok", "warn" or "critical"; empty where nobody watches it.
        seconds_left: Until its limit at the present rate; None when no end is in sight.
    """

    metric: str
    used: float
    limit: float | None
    level: str
    seconds_left: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the parts of a bot say of themselves at one moment.

    Attributes:
        seconds: Since the bot was made.
        ledger: The books.
        source: What the feed did.
        player: What the player did, and how its controls stand.
        speech: What synthesis did.
        model: What the language model did; None without one.
    """

    seconds: float
    ledger: LedgerStatistics
    source: SourceStatistics
    player: PlayerStatistics
    speech: SpeechStatistics
    model: ModelStatistics | None


@dataclass(frozen=True, slots=True, kw_only=True)
class View(Snapshot):
    """All there is to see at one moment, the snapshot included.

    Attributes:
        run: Another one for each bot: numbers and versions begin again with it.
        at: When, in seconds since the epoch.
        events: The latest events that could be spoken, the oldest first.
        queued: Those that wait to be spoken, the next one first.
        speaking: What is heard now.
        rate: Words a minute that are spoken now.
        calm_rate: The same while little waits, as it was set.
        feed: The latest states of the connection, the oldest first.
        stages: Seconds by stage.
        queues: The two queues.
        pools: The pools.
        pool_changes: The latest changes of their sizes, the oldest first.
        cache: The cache of audio.
        errors: Groups of failures, the latest first.
        components: What the manager says of its components.
        resources: The metrics of the last sample.
        templates: Which kinds of events are answered by templates: kind to whether it is.
        blocked: Viewers who are ignored, by id or name.
    """

    run: str
    at: float
    events: tuple[EventView, ...]
    queued: tuple[EventView, ...]
    speaking: SpeakingView | None
    rate: int
    calm_rate: int
    feed: tuple[FeedChange, ...]
    stages: tuple[StageView, ...]
    queues: tuple[QueueStatistics, ...]
    pools: tuple[PoolView, ...]
    pool_changes: tuple[PoolChange, ...]
    cache: CacheView
    errors: tuple[ErrorView, ...]
    components: ManagerReport
    resources: tuple[ResourceView, ...]
    templates: Mapping[str, bool]
    blocked: tuple[str, ...]


def event_view(passage: Passage, epoch: float) -> EventView:
    """A passage as it may be shown; `epoch` is what to add to the monotonic clock."""
    event = passage.event
    user = event.user
    return EventView(
        number=passage.number,
        version=passage.version,
        kind=event.action if isinstance(event, Social) else event.kind,
        user=shown(user.name, NAME_LIMIT) if user else "",
        user_id=shown(user.id, NAME_LIMIT) if user else "",
        text=shown(_text(event)),
        count=_count(event),
        stage=passage.stage.name.lower(),
        fate=passage.fate,
        said=shown(passage.said),
        priority=passage.priority,
        at=epoch + event.received_at,
        since={stage.name.lower(): epoch + at for stage, at in passage.since.items()},
    )


def _text(event: Event) -> str:
    match event:
        case Chat() | Emoji() | Fansclub():
            return event.text
        case Gift():
            return event.name
        case _:
            return str(getattr(event, "text", ""))


def _count(event: Event) -> int:
    match event:
        case Gift():
            return event.repeat_count
        case Like():
            return event.count
        case _:
            return 0


def plain(value: Any) -> Any:
    """`value` as dicts, lists, strings and numbers that JSON can say; what is not finite is None.

    >>> plain(CacheView(1, 3, 1, 2.5, math.inf))
    {'hits': 1, 'misses': 3, 'entries': 1, 'weight': 2.5, 'maxsize': None}
    """
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, ManagerReport):
        return plain(value.as_dict())
    if isinstance(value, Histogram):
        names = ("count", "p50", "p95", "max")
        return {name: getattr(value, name) for name in names}
    return _plain_container(value)


def _plain_container(value: Any) -> Any:
    if issubclass(type(value), Mapping):  # isinstance would make its contents unknown to pyright
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in cast("Sequence[Any]", value)]
    return dict(_fields(value))


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(value):
        if not field.name.startswith("_"):
            yield field.name, plain(getattr(value, field.name))
