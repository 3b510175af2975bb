"""Frames of the webcast protocol: bytes to `Response` and back.

A WebSocket message is a `PushFrame`; its payload is a `Response`, gzipped as a rule, which holds
the room's messages. Everything that comes in is hostile: whatever the bytes are, reading them ends
in a value or in `MalformedFrame`, and inflating stops at a limit.
"""

from __future__ import annotations

import gzip
import zlib
from typing import TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage

from livebot.sources.webcast_pb2 import PushFrame, PushHeader, Response

__all__ = [
    "HEARTBEAT",
    "INFLATED_LIMIT_BYTES",
    "MalformedFrame",
    "ack",
    "cursor_of",
    "inflate",
    "pack",
    "parse",
    "read_frame",
    "read_response",
]

T = TypeVar("T", bound=ProtoMessage)

INFLATED_LIMIT_BYTES = 32 * 1024 * 1024
HEARTBEAT: bytes = PushFrame(payload_type="hb").SerializeToString()
_GZIP_MAGIC = b"\x1f\x8b"


class MalformedFrame(ValueError):
    """Raised when bytes from the feed are not what the protocol says."""


def parse(cls: type[T], data: bytes) -> T:
    """The message of type `cls` that `data` spells.

    Raises:
        MalformedFrame: It does not.
    """
    message = cls()
    try:
        message.ParseFromString(data)
    except DecodeError as exc:
        raise MalformedFrame(f"no {cls.__name__} in {len(data)} bytes: {exc}") from None
    return message


def read_frame(data: bytes) -> PushFrame:
    """The frame in one WebSocket message.

    Raises:
        MalformedFrame: There is none.
    """
    return parse(PushFrame, data)


def read_response(frame: PushFrame, *, limit_bytes: int = INFLATED_LIMIT_BYTES) -> Response:
    """The response a "msg" frame carries. Gzip is told by its first bytes, not by the header.

    Raises:
        MalformedFrame: The gzip stream is broken or inflates past the limit, or what is inside is
            no response.
    """
    payload = frame.payload
    if payload.startswith(_GZIP_MAGIC):
        payload = inflate(payload, limit_bytes=limit_bytes)
    return parse(Response, payload)


def inflate(data: bytes, *, limit_bytes: int = INFLATED_LIMIT_BYTES) -> bytes:
    """What a gzip stream holds, without ever holding more than the limit.

    Raises:
        MalformedFrame: The stream is broken, ends early, or holds more than `limit_bytes`.
    """
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(data, limit_bytes + 1)
    except zlib.error as exc:
        raise MalformedFrame(f"broken gzip of {len(data)} bytes: {exc}") from None
    if len(inflated) > limit_bytes:
        raise MalformedFrame(f"gzip of {len(data)} bytes inflates past {limit_bytes} bytes")
    if not stream.eof:
        raise MalformedFrame(f"gzip of {len(data)} bytes ends early")
    return inflated


def cursor_of(frame: PushFrame, response: Response) -> tuple[str, str]:
    """Where the feed stands: (cursor, internal_ext). The frame's headers win over the response."""
    headers = {header.key: header.value for header in frame.headers}
    return (
        headers.get("im-cursor") or response.cursor,
        headers.get("im-internal_ext") or response.internal_ext,
    )


def ack(frame: PushFrame, internal_ext: str) -> bytes:
    """The answer to a response that wants one."""
    payload = internal_ext.encode()
    return PushFrame(log_id=frame.log_id, payload_type="ack", payload=payload).SerializeToString()


def pack(response: Response, *, log_id: int = 0, compress: bool = True) -> bytes:
    """A "msg" frame around `response`: the server's half of the protocol."""
    payload = response.SerializeToString()
    headers = [PushHeader(key="im-cursor", value=response.cursor)]
    headers.append(PushHeader(key="im-internal_ext", value=response.internal_ext))
    if compress:
        payload = gzip.compress(payload, compresslevel=1, mtime=0)
        headers.append(PushHeader(key="compress_type", value="gzip"))
    frame = PushFrame(
        log_id=log_id,
        headers=headers,
        payload_encoding="pb",
        payload_type="msg",
        payload=payload,
    )
    return frame.SerializeToString()
