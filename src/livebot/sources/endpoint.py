"""Where a feed is reached: an address with headers, fixed or printed by the user's own command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

__all__ = ["Endpoint", "with_query"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to connect to.

    Args:
        url: Begins with ws:// or wss://.
        headers: Sent with the handshake: Cookie, User-Agent, Origin and so on.

    Raises:
        ValueError: The URL is none of a WebSocket, or a header holds a line break.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("ws", "wss") or not urlsplit(self.url).hostname:
            raise ValueError(f"url must begin with ws:// or wss:// and a host, not {self.shown!r}")
        for name, value in self.headers.items():
            if any(mark in name + value for mark in "\r\n\0"):
                raise ValueError(f"header {name!r} must be one line")

    @property
    def shown(self) -> str:
        """The address without its query and user part, which may hold secrets: for logs."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def with_query(url: str, **values: str) -> str:
    """`url` with these query parameters set; every other byte stays, for it may be signed.

    >>> with_query("ws://h/p?a=1&cursor=&b=%20", cursor="d-1", internal_ext="x|y")
    'ws://h/p?a=1&cursor=d-1&b=%20&internal_ext=x%7Cy'
    """
    address, _, query = url.partition("?")
    left = dict(values)
    pairs: list[str] = []
    for pair in query.split("&") if query else ():
        name = pair.partition("=")[0]
        pairs.append(f"{name}={quote(left.pop(name), safe='')}" if name in left else pair)
    pairs += [f"{name}={quote(value, safe='')}" for name, value in left.items()]
    return f"{address}?{'&'.join(pairs)}"
