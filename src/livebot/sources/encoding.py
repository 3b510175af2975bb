"""Events to messages of the webcast protocol: the inverse of `decoding`, for the simulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from livebot import messages
from livebot.sources import webcast_pb2 as webcast
from livebot.sources.decoding import FANSCLUB_ACTIONS, SHARE_TARGETS, SOCIAL_ACTIONS

__all__ = ["encode"]


def encode(event: messages.Event, *, msg_id: int | None = None) -> webcast.Message:
    """The message that `decode` reads as `event`.

    Args:
        event: Its ids must be decimal strings of at most 64 bits.
        msg_id: Another message id to send it under.

    Raises:
        ValueError: An id is no number, or the kind has no message.
    """
    number = int(event.id) if msg_id is None else msg_id
    encoder = _ENCODERS.get(type(event))
    if encoder is None:
        raise ValueError(f"no message of the protocol carries a {event.kind or type(event)!r}")
    payload = encoder(event)
    method = f"Webcast{payload.DESCRIPTOR.name}"
    payload.common.method = method
    payload.common.msg_id = number
    payload.common.create_time = round(event.sent_at * 1000) if event.sent_at else 0
    if event.user is not None:
        payload.user.CopyFrom(_user(event.user))
    return webcast.Message(method=method, payload=payload.SerializeToString(), msg_id=number)


def _user(user: messages.User) -> webcast.User:
    encoded = webcast.User(id=int(user.id), nickname=user.name, gender=user.gender)
    encoded.pay_grade.level = user.level
    if user.fan_level or user.fan_club:
        encoded.fans_club.data.level = user.fan_level
        encoded.fans_club.data.club_name = user.fan_club
    return encoded


def _number(names: Mapping[int, str], action: str) -> int:
    for number, name in names.items():
        if name == action:
            return number
    return int(action.removeprefix("action-"))


def _chat(event: messages.Chat) -> webcast.ChatMessage:
    return webcast.ChatMessage(content=event.text)


def _emoji(event: messages.Emoji) -> webcast.EmojiChatMessage:
    emoji_id = int(event.emoji_id or 0)
    return webcast.EmojiChatMessage(emoji_id=emoji_id, default_content=event.text)


def _gift(event: messages.Gift) -> webcast.GiftMessage:
    gift = webcast.GiftStruct(
        id=int(event.gift_id),
        name=event.name,
        diamond_count=event.diamond_count,
        combo=event.combo,
    )
    return webcast.GiftMessage(
        gift_id=int(event.gift_id),
        gift=gift,
        repeat_count=event.repeat_count,
        combo_count=event.combo_count,
        group_count=event.group_count,
        group_id=int(event.group_id),
        repeat_end=int(event.repeat_end),
        total_count=event.total_count,
        send_type=event.send_type,
        to_user=None if event.to_user is None else _user(event.to_user),
    )


def _like(event: messages.Like) -> webcast.LikeMessage:
    return webcast.LikeMessage(count=event.count, total=event.total)


def _member(event: messages.Member) -> webcast.MemberMessage:
    return webcast.MemberMessage(member_count=event.viewers)


def _social(event: messages.Social) -> webcast.SocialMessage:
    targets = {name: number for number, name in SHARE_TARGETS.items()}
    return webcast.SocialMessage(
        action=_number(SOCIAL_ACTIONS, event.action),
        share_target=targets.get(event.share_target, event.share_target),
        follow_count=event.followers,
    )


def _fansclub(event: messages.Fansclub) -> webcast.FansclubMessage:
    action = _number(FANSCLUB_ACTIONS, event.action)
    return webcast.FansclubMessage(action=action, content=event.text)


def _stats(event: messages.Stats) -> webcast.RoomUserSeqMessage:
    return webcast.RoomUserSeqMessage(
        total=event.viewers,
        total_user=event.total_viewers,
        total_user_str=event.text,
    )


def _rank(event: messages.Rank) -> webcast.RoomRankMessage:
    ranks = [webcast.RoomRankMessage.RoomRank(user=_user(user)) for user in event.users]
    return webcast.RoomRankMessage(ranks=ranks)


def _room(event: messages.Room) -> webcast.RoomMessage:
    return webcast.RoomMessage(content=event.text, biz_scene=event.topic)


def _control(event: messages.Control) -> webcast.ControlMessage:
    return webcast.ControlMessage(action=event.action, tips=event.text)


_ENCODERS: Mapping[type[messages.Event], Callable[[Any], Any]] = {
    messages.Chat: _chat,
    messages.Emoji: _emoji,
    messages.Gift: _gift,
    messages.Like: _like,
    messages.Member: _member,
    messages.Social: _social,
    messages.Fansclub: _fansclub,
    messages.Stats: _stats,
    messages.Rank: _rank,
    messages.Room: _room,
    messages.Control: _control,
}
