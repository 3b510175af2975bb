"""Douyin's own WebSocket: frames in, events out, acknowledgements and heartbeats back.

The user supplies the address and headers a browser would connect with, or a command that prints
them; this module makes no signatures and fetches no pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from livebot.messages import Control
from livebot.sources import webcast_pb2 as webcast
from livebot.sources.connection import FeedClosed, FeedOptions, OnState
from livebot.sources.decoding import decode
from livebot.sources.dialing import Socket
from livebot.sources.endpoint import Endpoint, with_query
from livebot.sources.feed import Emit, Feed
from livebot.sources.tally import Batch
from livebot.sources.wire import (
    HEARTBEAT,
    MalformedFrame,
    ack,
    cursor_of,
    read_frame,
    read_response,
)

__all__ = ["DouyinSource"]

_ORIGIN = "https://live.douyin.com"

_SILENCE = 45.0  # seconds; the platform sends something every few

# What is left out when more comes than can be decoded: reading must not fall behind, for pings wait
# in the same stream. A busy real room fills the smaller size in two or three seconds.
_BEHIND_BYTES = 64 * 1024
_FAR_BEHIND_BYTES = 256 * 1024
_WORTH_LEAST = frozenset(
    {
        "WebcastLikeMessage",
        "WebcastMemberMessage",
        "WebcastSocialMessage",
        "WebcastRoomUserSeqMessage",
        "WebcastRoomStatsMessage",
        "WebcastRoomRankMessage",
    }
)
_WORTH_LITTLE = _WORTH_LEAST | {"WebcastChatMessage", "WebcastEmojiChatMessage"}
_NONE: frozenset[str] = frozenset()


class DouyinSource(Feed):
    """The events of one live room, over the platform's WebSocket.

    ```
    source = DouyinSource(url, headers={"Cookie": "ttwid=..."}, emit=queue.put_nowait)
    source.start()
    ...
    source.stop()
    ```

    A lost connection is reopened where it stood (the last cursor), a repeated message is left out
    by its id, and what cannot be read is counted and skipped. When more comes than can be decoded,
    likes and entries are shed undecoded, then chats, never gifts. A response is acknowledged once
    its events are handed over, so what is lost with a connection is sent again.

    Thread safety, lifetime and errors: as of `Feed`.

    Args:
        url: The address, or a callable that returns an `Endpoint` and is asked before each attempt.
        headers: Sent with the handshake, when `url` is a string; Origin is the live site's unless
            given.
        emit: Takes each event without blocking.
        on_state: Told each new state and a sentence about it.
        name: Begins log lines and names threads.
        options: How the connection is looked after.
    """

    def __init__(
        self,
        url: str | Callable[[], Endpoint],
        *,
        headers: Mapping[str, str] | None = None,
        emit: Emit,
        on_state: OnState | None = None,
        name: str = "douyin",
        options: FeedOptions = FeedOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(
            url,
            headers=headers,
            emit=emit,
            on_state=on_state,
            name=name,
            heartbeat=HEARTBEAT,
            silence=_SILENCE,
            options=options,
        )
        # Where the feed stood after the last response; touched by the connection's thread alone.
        self._cursor = ""
        self._internal_ext = ""

    def _endpoint(self) -> Endpoint:
        endpoint = super()._endpoint()
        headers = dict(endpoint.headers)
        if not any(name.lower() == "origin" for name in headers):
            headers["Origin"] = _ORIGIN
        url = endpoint.url
        if self._cursor:
            url = with_query(url, cursor=self._cursor, internal_ext=self._internal_ext)
        return Endpoint(url, headers)

    def _receive(self, data: bytes, socket: Socket) -> bool:
        received_at = self._monotonic()
        try:
            frame = read_frame(data)
            if frame.payload_type == "close":
                raise FeedClosed("the server asked to close the connection")
            if frame.payload_type != "msg":
                return True
            response = read_response(frame)
        except MalformedFrame as exc:
            self._tally.malformed(exc)
            return True
        more = self._hand_over(response, received_at, _spared(socket.backlog_bytes))
        self._cursor, self._internal_ext = cursor_of(frame, response)
        if response.need_ack:
            socket.reply(ack(frame, self._internal_ext))
            self._tally.count("acks")
        return more

    def _hand_over(
        self, response: webcast.Response, received_at: float, spared: frozenset[str]
    ) -> bool:
        batch = Batch()
        more = True
        for message in response.messages:
            method = message.method
            batch.received[method] += 1
            if method in spared:
                batch.shed[method] += 1
                continue
            if message.msg_id and not self._is_new(str(message.msg_id), batch):
                continue
            try:
                event = decode(message, received_at)
            except MalformedFrame as exc:
                self._tally.malformed(exc)
                batch.unreadable += 1
                continue
            if event is None:
                batch.unknown[method] += 1
                continue
            self._tally.deliver(event, self._emit, batch)
            more = more and not (isinstance(event, Control) and event.ended)
        self._tally.add(batch)
        return more


def _spared(backlog_bytes: int) -> frozenset[str]:
    """The methods that are not worth decoding now."""
    if backlog_bytes < _BEHIND_BYTES:
        return _NONE
    return _WORTH_LITTLE if backlog_bytes >= _FAR_BEHIND_BYTES else _WORTH_LEAST
