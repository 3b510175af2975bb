"""What happens in a live room, as typed, frozen events.

Every feed (Douyin itself, a relay, a recording, the simulator) speaks these and nothing else, so
the rest of the bot never learns where an event came from. Ids are decimal strings: they are 64 bits
wide, which JSON readers and spreadsheets round.

`to_record` and `from_record` turn an event into a plain dict for JSON lines and back.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast, get_type_hints

__all__ = [
    "KINDS",
    "Chat",
    "Control",
    "Emoji",
    "Event",
    "Fansclub",
    "Gift",
    "Like",
    "Member",
    "Rank",
    "RecentIds",
    "Room",
    "Social",
    "Stats",
    "User",
    "from_record",
    "to_record",
]


# In a room that hides its viewers everybody has the id 111111; without an id at all, 0 or none.
_SHARED_IDS = ("", "0", "111111")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody in the room, as far as the feed says."""

    id: str
    name: str = ""
    level: int = 0
    """The grade a viewer buys by spending, 0 when unknown."""
    fan_level: int = 0
    """The level in this room's fan club, 0 when not a member."""
    fan_club: str = ""
    gender: int = 0
    """0 unknown, 1 male, 2 female."""

    @property
    def identity(self) -> str:
        """What tells viewers apart: the id, with the name in rooms that give all the same id.

        >>> User(id="42", name="a").identity, User(id="111111", name="a").identity
        ('42', '111111 a')
        """
        return f"{self.id} {self.name}" if self.id in _SHARED_IDS else self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events.

    Attributes:
        kind: The name of the kind, as in statistics, settings and recordings.
        speakable: Whether an event of this kind can be answered aloud at all.
    """

    kind: ClassVar[str] = ""
    speakable: ClassVar[bool] = True

    id: str
    """The feed's message id: the same event sent twice carries the same one."""
    user: User | None = None
    sent_at: float | None = None
    """Seconds since the epoch on the server's clock, None when it does not say."""
    received_at: float = 0.0
    """The monotonic clock of this process when the event arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat(Event):
    """A viewer wrote something."""

    kind: ClassVar[str] = "chat"

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Emoji(Event):
    """A viewer sent one big sticker, alone."""

    kind: ClassVar[str] = "emoji"

    text: str = ""
    """What the sticker stands for, such as ``[比心]``."""
    emoji_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gift(Event):
    """One message about a gift; a combo sends several, and the counters are cumulative in it."""

    kind: ClassVar[str] = "gift"

    gift_id: str
    name: str = ""
    diamond_count: int = 0
    """The price of one, in diamonds (ten are about one yuan)."""
    repeat_count: int = 1
    """How many were sent in this combo so far; numbers may be skipped."""
    combo_count: int = 0
    group_count: int = 0
    """The size of one press of the button."""
    group_id: str = "0"
    """Names one combo of one sender and gift; "0" when the gift has none."""
    repeat_end: bool = False
    """Whether this is the combo's closing message: it repeats the total under a new id."""
    total_count: int = 0
    send_type: int = 0
    """4 for a gift that may be comboed, 0 or 1 for a single one."""
    combo: bool = False
    """The gift table's opinion on whether it may be comboed; not reliable."""
    to_user: User | None = None
    increment: int | None = None
    """How many this message adds, from feeds that have folded the combo already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Like(Event):
    """A viewer tapped the screen."""

    kind: ClassVar[str] = "like"

    count: int = 1
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Member(Event):
    """A viewer came in."""

    kind: ClassVar[str] = "member"

    viewers: int = 0
    """How many are in the room, 0 when unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Social(Event):
    """A viewer followed the streamer or shared the room."""

    kind: ClassVar[str] = "social"

    action: str
    """"follow" or "share", or "action-<n>" for a number nobody has explained yet."""
    share_target: str = ""
    """Where to: "wechat", "moments", "weibo", "qzone", "qq", "douyin" or the feed's number."""
    followers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fansclub(Event):
    """A viewer joined the fan club or rose in it."""

    kind: ClassVar[str] = "fansclub"

    action: str
    """"join" or "level_up", or "action-<n>"."""
    text: str = ""
    """The feed's own sentence about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats(Event):
    """How many people watch."""

    kind: ClassVar[str] = "stats"
    speakable: ClassVar[bool] = False

    viewers: int = 0
    total_viewers: int = 0
    """Everybody who came in since the broadcast began, 0 when unknown."""
    text: str = ""
    """The figure as the page shows it, such as ``10万+``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank(Event):
    """The list of the viewers who gave most, best first."""

    kind: ClassVar[str] = "rank"
    speakable: ClassVar[bool] = False

    users: tuple[User, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Room(Event):
    """A notice of the platform, or a change of the picture's layout (without a text)."""

    kind: ClassVar[str] = "room"
    speakable: ClassVar[bool] = False

    text: str = ""
    topic: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control(Event):
    """The broadcast changed its state."""

    kind: ClassVar[str] = "control"
    speakable: ClassVar[bool] = False

    action: int = 0
    ended: bool = False
    """Whether the broadcast is over: no feed will say more about this room."""
    text: str = ""


KINDS: Mapping[str, type[Event]] = {
    cls.kind: cls
    for cls in (Chat, Emoji, Gift, Like, Member, Social, Fansclub, Stats, Rank, Room, Control)
}
"""Every kind of event, by its name."""


# -- identity -----------------------------------------------------------------------------------


class RecentIds:
    """The last `limit` ids, to recognise a message that came before.

    >>> seen = RecentIds(limit=2)
    >>> [seen.add(id) for id in ("1", "2", "1", "3", "2")]
    [True, True, False, True, False]
    >>> seen.add("1")  # forgotten: two others came since
    True

    Thread safety: none of its own; its owner calls it from one thread, or under the owner's lock.

    Args:
        limit: How many ids are remembered; the one that was added longest ago goes first.

    Raises:
        ValueError: `limit` is less than 1.
    """

    def __init__(self, limit: int = 4096) -> None:
        if limit < 1:
            raise ValueError(f"limit must be 1 or more, not {limit!r}")
        self._limit = limit
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, id: str) -> bool:  # noqa: A002 - an id is what it is
        """Remember `id`. False when it was there already."""
        if id in self._ids:
            return False
        self._ids[id] = None
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)
        return True

    def __len__(self) -> int:
        return len(self._ids)


# -- records ------------------------------------------------------------------------------------

_NOT_RECORDED = frozenset({"received_at"})  # means nothing outside the process that measured it


def to_record(event: Event) -> dict[str, Any]:
    """A plain dict of what `event` says, fit for `json.dumps`; defaults are left out.

    >>> to_record(Chat(id="7", user=User(id="1", name="小鱼"), text="晚上好"))
    {'kind': 'chat', 'id': '7', 'user': {'id': '1', 'name': '小鱼'}, 'text': '晚上好'}
    """
    return {"kind": event.kind, **_plain(event)}


def from_record(record: Mapping[str, Any], *, received_at: float = 0.0) -> Event:
    """The event a record describes. Keys it does not know are ignored, for records of later days.

    Args:
        record: What `to_record` made.
        received_at: The monotonic instant to stamp the event with.

    Raises:
        ValueError: The kind is unknown, a required field is missing or one has the wrong type.
    """
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    event: Event = _build(KINDS[kind], record, kind)
    return dataclasses.replace(event, received_at=received_at) if received_at else event


def _plain(value: Any) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if item == field.default or field.name in _NOT_RECORDED:
            continue
        if isinstance(item, User):
            item = _plain(item)
        elif isinstance(item, tuple):
            item = [_plain(user) for user in cast("tuple[User, ...]", item)]
        record[field.name] = item
    return record


def _build(cls: type[Any], record: Mapping[str, Any], where: str) -> Any:
    fields = dataclasses.fields(cls)
    missing = [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in record]
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} missing")
    hints = _HINTS[cls]
    return cls(
        **{
            field.name: _checked(hints[field.name], record[field.name], f"{where}.{field.name}")
            for field in fields
            if field.name in record and field.name not in _NOT_RECORDED
        }
    )


def _checked(hint: Any, value: Any, where: str) -> Any:
    if hint in (User, User | None):
        if value is None and hint != User:
            return None
        if isinstance(value, Mapping):
            return _build(User, cast("Mapping[str, Any]", value), where)
    elif hint == tuple[User, ...]:
        if isinstance(value, list):
            return tuple(_checked(User, item, where) for item in _items(value))
    elif _fits(hint, value):
        return value
    raise ValueError(f"{where} must be {_spelled(hint)}, not {value!r}")


def _items(value: Any) -> list[Any]:
    return list(value)


def _fits(hint: Any, value: Any) -> bool:
    if isinstance(value, bool):  # an int too, for isinstance; nobody means that in a record
        return hint is bool
    if hint == float | None:
        return value is None or isinstance(value, (int, float))
    return isinstance(value, hint)


def _spelled(hint: Any) -> str:
    names = {User: "an object", User | None: "an object or null", tuple[User, ...]: "a list"}
    return names.get(hint) or str(getattr(hint, "__name__", hint))


_RECORDED: tuple[type[Any], ...] = (User, *KINDS.values())
_HINTS: dict[type[Any], dict[str, Any]] = {cls: get_type_hints(cls) for cls in _RECORDED}
