"""Messages of the webcast protocol to events of `livebot.messages`.

One small function per kind, and the table that names them. Fields a server left out read as empty,
so a sparse message makes a sparse event; numbers nobody has explained yet stay visible
("action-7").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from livebot import messages
from livebot.sources import webcast_pb2 as webcast
from livebot.sources.wire import parse

__all__ = [
    "ENDED",
    "FANSCLUB_ACTIONS",
    "METHODS",
    "SHARE_TARGETS",
    "SOCIAL_ACTIONS",
    "decode",
    "to_event",
]

ENDED = 3  # ControlMessage.action: the broadcast is over
SOCIAL_ACTIONS = {1: "follow", 3: "share"}
FANSCLUB_ACTIONS = {1: "level_up", 2: "join"}
SHARE_TARGETS = {
    "1": "wechat",
    "2": "moments",
    "3": "weibo",
    "4": "qzone",
    "5": "qq",
    "112": "douyin",
}


def decode(message: webcast.Message, received_at: float) -> messages.Event | None:
    """The event in `message`, or None when this bot knows no such method.

    Args:
        message: One of a response's messages.
        received_at: The monotonic instant the frame arrived.

    Raises:
        MalformedFrame: The payload is not what the method says.
    """
    method = METHODS.get(message.method)
    if method is None:
        return None
    payload = parse(method.payload, message.payload)
    return to_event(method, payload, message.msg_id, received_at)


def to_event(method: Method, payload: Any, msg_id: int, received_at: float) -> messages.Event:
    """The event of a payload that is parsed already (relays send it as JSON)."""
    common = payload.common
    head = {
        "id": str(msg_id or common.msg_id),
        "sent_at": common.create_time / 1000 if common.create_time else None,
        "received_at": received_at,
    }
    if method.has_user:
        head["user"] = _user(payload.user)
    return method.build(payload, head)


def _user(user: webcast.User) -> messages.User | None:
    if not user.id and not user.nickname:
        return None
    club = user.fans_club.data
    return messages.User(
        id=str(user.id),
        name=user.nickname or user.desensitized_nickname,
        level=user.pay_grade.level or user.level,
        fan_level=club.level,
        fan_club=club.club_name,
        gender=user.gender,
    )


# -- one builder per kind -----------------------------------------------------------------------

_Head = dict[str, Any]  # the fields every event has


def _chat(payload: webcast.ChatMessage, head: _Head) -> messages.Event:
    return messages.Chat(**head, text=payload.content)


def _emoji(payload: webcast.EmojiChatMessage, head: _Head) -> messages.Event:
    emoji_id = str(payload.emoji_id or "")
    return messages.Emoji(**head, text=payload.default_content, emoji_id=emoji_id)


def _gift(payload: webcast.GiftMessage, head: _Head) -> messages.Event:
    gift = payload.gift
    return messages.Gift(
        **head,
        gift_id=str(payload.gift_id or gift.id),
        name=gift.name,
        diamond_count=gift.diamond_count,
        repeat_count=payload.repeat_count,
        combo_count=payload.combo_count,
        group_count=payload.group_count,
        group_id=str(payload.group_id),
        repeat_end=payload.repeat_end == 1,
        total_count=payload.total_count,
        send_type=payload.send_type,
        combo=gift.combo,
        to_user=_user(payload.to_user),
    )


def _like(payload: webcast.LikeMessage, head: _Head) -> messages.Event:
    return messages.Like(**head, count=payload.count, total=payload.total)


def _member(payload: webcast.MemberMessage, head: _Head) -> messages.Event:
    return messages.Member(**head, viewers=payload.member_count)


def _social(payload: webcast.SocialMessage, head: _Head) -> messages.Event:
    target = payload.share_target
    return messages.Social(
        **head,
        action=SOCIAL_ACTIONS.get(payload.action, f"action-{payload.action}"),
        share_target=SHARE_TARGETS.get(target, target),
        followers=payload.follow_count,
    )


def _fansclub(payload: webcast.FansclubMessage, head: _Head) -> messages.Event:
    action = FANSCLUB_ACTIONS.get(payload.action, f"action-{payload.action}")
    return messages.Fansclub(**head, action=action, text=payload.content)


def _viewers(payload: webcast.RoomUserSeqMessage, head: _Head) -> messages.Event:
    return messages.Stats(
        **head,
        viewers=payload.total,
        total_viewers=payload.total_user,
        text=payload.total_user_str or payload.total_pv_for_anchor,
    )


def _stats(payload: webcast.RoomStatsMessage, head: _Head) -> messages.Event:
    viewers = payload.display_value or payload.total
    text = payload.display_long or payload.display_middle or payload.display_short
    return messages.Stats(**head, viewers=viewers, text=text)


def _rank(payload: webcast.RoomRankMessage, head: _Head) -> messages.Event:
    users = (_user(rank.user) for rank in payload.ranks)
    return messages.Rank(**head, users=tuple(user for user in users if user is not None))


def _room(payload: webcast.RoomMessage, head: _Head) -> messages.Event:
    return messages.Room(**head, text=payload.content, topic=payload.biz_scene)


def _layout(payload: webcast.RoomStreamAdaptationMessage, head: _Head) -> messages.Event:
    return messages.Room(**head, topic=f"layout-{payload.adaptation_type}")


def _control(payload: webcast.ControlMessage, head: _Head) -> messages.Event:
    ended = payload.action == ENDED
    return messages.Control(**head, action=payload.action, ended=ended, text=payload.tips)


class Method(NamedTuple):
    """What a method of the protocol carries, and how an event is built of it."""

    payload: type[Any]
    build: Callable[[Any, _Head], messages.Event]
    has_user: bool


def _method(payload: type[Any], build: Callable[[Any, _Head], messages.Event]) -> Method:
    return Method(payload, build, "user" in payload.DESCRIPTOR.fields_by_name)


METHODS: Mapping[str, Method] = {
    "WebcastChatMessage": _method(webcast.ChatMessage, _chat),
    "WebcastEmojiChatMessage": _method(webcast.EmojiChatMessage, _emoji),
    "WebcastGiftMessage": _method(webcast.GiftMessage, _gift),
    "WebcastLikeMessage": _method(webcast.LikeMessage, _like),
    "WebcastMemberMessage": _method(webcast.MemberMessage, _member),
    "WebcastSocialMessage": _method(webcast.SocialMessage, _social),
    "WebcastFansclubMessage": _method(webcast.FansclubMessage, _fansclub),
    "WebcastRoomUserSeqMessage": _method(webcast.RoomUserSeqMessage, _viewers),
    "WebcastRoomStatsMessage": _method(webcast.RoomStatsMessage, _stats),
    "WebcastRoomRankMessage": _method(webcast.RoomRankMessage, _rank),
    "WebcastRoomMessage": _method(webcast.RoomMessage, _room),
    "WebcastRoomStreamAdaptationMessage": _method(webcast.RoomStreamAdaptationMessage, _layout),
    "WebcastControlMessage": _method(webcast.ControlMessage, _control),
}
"""Every method of the protocol this bot understands."""
