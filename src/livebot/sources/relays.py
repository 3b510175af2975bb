"""Local relays that people run beside the live room, and which speak JSON over a WebSocket.

- `BarrageGrabSource`: DouyinBarrageGrab, a recorder for Windows that reads the traffic of a browser
  or of the streaming companion. Its gifts are folded into increments already.
- `DouyinLiveSource`: douyinLive, a small server that connects to the platform itself and passes
  its messages on in protobuf's JSON form. Its gifts are raw.

Nothing is ever sent to a relay but WebSocket pongs: the first one takes commands that would close
it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from google.protobuf import json_format

from livebot import messages
from livebot.messages import Control, Event, User
from livebot.sources.connection import FeedOptions, OnState
from livebot.sources.decoding import ENDED, METHODS, SHARE_TARGETS, to_event
from livebot.sources.dialing import Socket
from livebot.sources.endpoint import Endpoint
from livebot.sources.feed import Emit, Feed
from livebot.sources.tally import Batch
from livebot.sources.wire import MalformedFrame

__all__ = ["BarrageGrabSource", "DouyinLiveSource"]

# Seconds. A relay sends nothing while its room is quiet, and says so itself when the room ends.
_QUIET = 300.0


class _RelaySource(Feed):
    """Base of the relays: one JSON object a message."""

    _default_name = "relay"

    def __init__(
        self,
        url: str | Callable[[], Endpoint],
        *,
        headers: Mapping[str, str] | None = None,
        emit: Emit,
        on_state: OnState | None = None,
        name: str | None = None,
        options: FeedOptions = FeedOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(
            url,
            headers=headers,
            emit=emit,
            on_state=on_state,
            name=name or self._default_name,
            silence=_QUIET,
            options=options,
        )

    def _receive(self, data: bytes, socket: Socket) -> bool:
        del socket  # relays want no answer
        batch = Batch()
        try:
            event = self._read(_json_object(data), batch)
        except MalformedFrame as exc:
            self._tally.malformed(exc)
            batch.unreadable += bool(batch.received)  # else it was not even a message
            event = None
        if event is not None and (event.id in ("", "0") or self._is_new(event.id, batch)):
            self._tally.deliver(event, self._emit, batch)
        self._tally.add(batch)
        return not (isinstance(event, Control) and event.ended)

    def _read(self, message: dict[str, Any], batch: Batch) -> Event | None:
        """The event of one message, or None when there is none for this bot.

        Raises:
            MalformedFrame: It is not what the relay's format says.
        """
        raise NotImplementedError


def _json_object(data: bytes | str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise MalformedFrame(f"no JSON in {len(data)} characters: {exc}") from None
    if not isinstance(value, dict):
        raise MalformedFrame(f"a JSON object was expected, not {type(value).__name__}")
    return cast("dict[str, Any]", value)


# -- douyinLive ---------------------------------------------------------------------------------

_OVER = frozenset({"ROOM_ENDED", "ACCOUNT_OFFLINE_NO_ROOM", "ROOM_NOT_FOUND"})


class DouyinLiveSource(_RelaySource):
    """The events of one room, from douyinLive (``ws://127.0.0.1:1088/ws/<room>``).

    Its messages are the platform's own, with names in camel case and 64-bit numbers as strings, so
    they are read as such. Its notices that the room has ended, or does not exist, end the feed.

    Thread safety, lifetime, arguments and errors: as of `Feed`.
    """

    _default_name = "douyinlive"

    def _read(self, message: dict[str, Any], batch: Batch) -> Event | None:
        if message.get("type") == "system":
            return self._notice(message, batch)
        name = message.get("method") or _part(message, "common").get("method")
        if not isinstance(name, str):
            raise MalformedFrame("a message without a method")
        batch.received[name] += 1
        method = METHODS.get(name)
        if method is None:
            batch.unknown[name] += 1
            return None
        payload = method.payload()
        try:
            json_format.ParseDict(message, payload, ignore_unknown_fields=True)
        except (json_format.ParseError, RecursionError) as exc:
            raise MalformedFrame(f"{name}: {exc}") from None
        return to_event(method, payload, payload.common.msg_id, self._monotonic())

    def _notice(self, message: Mapping[str, Any], batch: Batch) -> Event:
        code = str(message.get("code", ""))
        batch.received["system"] += 1
        ended = code in _OVER
        return Control(
            id="0",
            received_at=self._monotonic(),
            action=ENDED if ended else 0,
            ended=ended,
            text=code,
        )


# -- DouyinBarrageGrab --------------------------------------------------------------------------


class BarrageGrabSource(_RelaySource):
    """The events of a room, from DouyinBarrageGrab (``ws://127.0.0.1:8888/``).

    Gifts come with the number they add, which lands in `Gift.increment`.

    Thread safety, lifetime, arguments and errors: as of `Feed`.
    """

    _default_name = "barragegrab"

    def _read(self, message: dict[str, Any], batch: Batch) -> Event | None:
        number = message.get("Type")
        batch.received[f"Type {number}"] += 1
        build = _GRABBED.get(number) if isinstance(number, int) else None
        if build is None:
            batch.unknown[f"Type {number}"] += 1
            return None
        data = message.get("Data")
        if not isinstance(data, str):
            raise MalformedFrame(f"Type {number}: Data must be a string of JSON")
        facts = _json_object(data)
        head = {
            "id": str(facts.get("MsgId") or 0),
            "user": _grabbed_user(_part(facts, "User")),
            "received_at": self._monotonic(),
        }
        try:
            return build(facts, head)
        except (TypeError, ValueError, OverflowError) as exc:
            raise MalformedFrame(f"Type {number}: {exc}") from None


_Facts = Mapping[str, Any]
_Head = dict[str, Any]


_LARGEST = 2**63 - 1  # the platform's own numbers have 64 bits; JSON's have no end


def _int(facts: _Facts, key: str) -> int:
    number = int(facts.get(key) or 0)
    if abs(number) > _LARGEST:
        raise ValueError(f"{key} is beyond 64 bits")
    return number


def _text(facts: _Facts, key: str) -> str:
    return str(facts.get(key) or "")


def _part(facts: _Facts, key: str) -> _Facts:
    part = facts.get(key)
    return cast("dict[str, Any]", part) if isinstance(part, dict) else {}


def _grabbed_user(facts: _Facts) -> User | None:
    if not facts:
        return None
    club = _part(facts, "FansClub")
    try:
        return User(
            id=_text(facts, "Id"),
            name=_text(facts, "Nickname"),
            level=_int(facts, "PayLevel") or _int(facts, "Level"),
            fan_level=_int(club, "Level"),
            fan_club=_text(club, "ClubName"),
            gender=_int(facts, "Gender"),
        )
    except (TypeError, ValueError, OverflowError) as exc:
        raise MalformedFrame(f"User: {exc}") from None


def _gift(facts: _Facts, head: _Head) -> Event:
    return messages.Gift(
        **head,
        gift_id=_text(facts, "GiftId"),
        name=_text(facts, "GiftName"),
        diamond_count=_int(facts, "DiamondCount"),
        repeat_count=_int(facts, "RepeatCount"),
        group_id=_text(facts, "GroupId") or "0",
        combo=bool(facts.get("Combo")),
        to_user=_grabbed_user(_part(facts, "ToUser")),
        increment=_int(facts, "GiftCount"),
    )


def _chat(facts: _Facts, head: _Head) -> Event:
    return messages.Chat(**head, text=_text(facts, "Content"))


def _like(facts: _Facts, head: _Head) -> Event:
    return messages.Like(**head, count=_int(facts, "Count"), total=_int(facts, "Total"))


def _member(facts: _Facts, head: _Head) -> Event:
    return messages.Member(**head, viewers=_int(facts, "CurrentCount"))


def _follow(_: _Facts, head: _Head) -> Event:
    return messages.Social(**head, action="follow")


def _share(facts: _Facts, head: _Head) -> Event:
    target = _text(facts, "ShareType")
    return messages.Social(**head, action="share", share_target=SHARE_TARGETS.get(target, target))


def _stats(facts: _Facts, head: _Head) -> Event:
    return messages.Stats(
        **head,
        viewers=_int(facts, "OnlineUserCount"),
        total_viewers=_int(facts, "TotalUserCount"),
        text=_text(facts, "TotalUserCountStr"),
    )


def _fansclub(facts: _Facts, head: _Head) -> Event:
    action = {1: "level_up", 2: "join"}.get(_int(facts, "Type"), f"action-{facts.get('Type')}")
    return messages.Fansclub(**head, action=action, text=_text(facts, "Content"))


def _ended(facts: _Facts, head: _Head) -> Event:
    return Control(**head, action=ENDED, ended=True, text=_text(facts, "Content"))


_GRABBED: Mapping[int, Callable[[_Facts, _Head], Event]] = {
    1: _chat,
    2: _like,
    3: _member,
    4: _follow,
    5: _gift,
    6: _stats,
    7: _fansclub,
    8: _share,
    9: _ended,
}
