"""What can go wrong with a real feed, on command or by itself, from a seed."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache

from livebot.sources.webcast_pb2 import PushFrame

__all__ = ["Faults", "bomb"]

_BOMB_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of a simulated feed. Times are seconds of the room, so they scale with its speed.

    Args:
        cut_every: Seconds between two cuts of every connection.
        cut_code: Close with this code instead of a bare cut.
        silence_every: Seconds between two half-dead silences: the connection stays open, says
            nothing more and answers nothing, until the client leaves it.
        repeat: Share of the messages that are sent twice.
        malformed: Share of the responses before which rubbish is sent.
        truncated: Share of the responses before which their own first three quarters are sent.
        bombs: Share of the responses before which a gzip bomb is sent.
        read_bytes_per_second: How fast the server reads, None for as fast as it can.
        refused: How many connections are answered with HTTP 503 before the first is taken.

    Raises:
        ValueError: A share is not from 0 to 1, or a duration not above 0.
    """

    cut_every: float | None = None
    cut_code: int | None = None
    silence_every: float | None = None
    repeat: float = 0.0
    malformed: float = 0.0
    truncated: float = 0.0
    bombs: float = 0.0
    read_bytes_per_second: float | None = None
    refused: int = 0

    def __post_init__(self) -> None:
        for name in ("repeat", "malformed", "truncated", "bombs"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a share from 0 to 1, not {getattr(self, name)}")
        for name in ("cut_every", "silence_every", "read_bytes_per_second"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0 or None, not {value}")


@cache
def bomb() -> bytes:
    """A frame of a few kilobytes that inflates to 64 MiB."""
    zeros = gzip.compress(bytes(_BOMB_BYTES), compresslevel=9, mtime=0)
    return PushFrame(log_id=1, payload_type="msg", payload=zeros).SerializeToString()
