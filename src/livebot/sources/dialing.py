"""One WebSocket, opened with `websocket-client` and limited in what it will take."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
from collections.abc import Callable
from typing import Protocol, cast

import websocket

from livebot.sources.endpoint import Endpoint

__all__ = ["MESSAGE_LIMIT_BYTES", "Dial", "Socket", "dial"]

MESSAGE_LIMIT_BYTES = 16 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_BUFFER_BYTES = 64 * 1024


class Socket(Protocol):
    """What a feed uses of an open WebSocket."""

    @property
    def backlog_bytes(self) -> int:
        """How much had piled up when the socket was last read: how far the reader is behind."""
        ...

    def recv_data(self) -> tuple[int, bytes]:
        """The next data or close message; pings are answered on the way."""
        ...

    def reply(self, payload: bytes, /) -> None:
        """Send one binary message before the next wait for data. Only the reading thread may."""
        ...

    def flush(self) -> None:
        """Send what was replied. Only the reading thread may."""
        ...

    def send_binary(self, payload: bytes, /) -> object:
        """Send one binary message at once. Any thread may."""
        ...

    def abort(self) -> None:
        """Wake every thread that reads or writes, for good. Any thread may, at any time."""
        ...

    def shutdown(self) -> None:
        """Give the descriptor back."""
        ...


Dial = Callable[[Endpoint, float, float], Socket]
"""Opens a WebSocket: endpoint, seconds to connect, seconds a read or write may wait."""


class _LimitedFrames(websocket.frame_buffer):
    """Refuses a frame by its announced length, before its bytes are read into memory."""

    def recv_length(self) -> None:
        super().recv_length()
        _check(self.length or 0)


class _LimitedMessage(websocket.continuous_frame):
    """Refuses a fragmented message that grows past the limit."""

    def add(self, frame: websocket.ABNF) -> None:
        super().add(frame)
        _check(len(self.cont_data[1]) if self.cont_data else 0)


def _check(size_bytes: int) -> None:
    if size_bytes > MESSAGE_LIMIT_BYTES:
        raise websocket.WebSocketPayloadException(
            f"a message of {size_bytes} bytes is over the limit of {MESSAGE_LIMIT_BYTES}"
        )


class _OpenSocket:
    """`Socket` over `websocket-client`, with few system calls.

    Each system call gives the interpreter's lock away, and beside busy threads it takes
    milliseconds to come back; the client alone would read a frame in four pieces or more. So what
    has come is read in one piece, and the replies to it leave in one piece before the next read.
    """

    def __init__(self, client: websocket.WebSocket) -> None:
        self._client = client
        self._raw = client.sock  # the client forgets its socket; abort must still find it
        self._read: Callable[[int], bytes] = client.frame_buffer.recv
        self._data: bytes = b""
        self._start = 0
        self._replies: list[bytes] = []
        self._masks = b""
        self.backlog_bytes = 0
        client.frame_buffer = _LimitedFrames(self._piece, skip_utf8_validation=True)
        client.cont_frame = _LimitedMessage(fire_cont_frame=False, skip_utf8_validation=True)
        self.recv_data = cast("Callable[[], tuple[int, bytes]]", client.recv_data)  # pyright: ignore[reportUnknownMemberType]
        self.send_binary = client.send_binary
        self._readable = selectors.DefaultSelector()
        if self._raw is not None:
            self._readable.register(self._raw, selectors.EVENT_READ)

    def reply(self, payload: bytes) -> None:
        frame = websocket.ABNF.create_frame(payload, websocket.ABNF.OPCODE_BINARY)
        frame.get_mask_key = self._mask
        self._replies.append(frame.format())

    def _mask(self, size_bytes: int) -> bytes:
        """Bytes to mask a frame with, drawn a thousand frames ahead: drawing is a system call."""
        if len(self._masks) < size_bytes:
            self._masks = os.urandom(4096)
        mask, self._masks = self._masks[:size_bytes], self._masks[size_bytes:]
        return mask

    def _piece(self, size_bytes: int) -> bytes:
        if self._start == len(self._data):
            self.flush()
            self._data, self._start = self._read_all(), 0
            self.backlog_bytes = len(self._data)
        piece = self._data[self._start : self._start + size_bytes]
        self._start += len(piece)
        return piece

    def _read_all(self) -> bytes:
        """Wait for data; then all that has come, up to the limit."""
        data = piece = self._read(_READ_BYTES)
        # A TLS socket reads one record at a time, however small; a plain one its whole buffer, so
        # a small piece was all there was, and to look for more would chase a server that writes.
        least = 1 if isinstance(self._raw, ssl.SSLSocket) else _BUFFER_BYTES
        with contextlib.suppress(Exception):  # the next read fails in the same way
            while len(piece) >= least and len(data) < _READ_BYTES and self._readable.select(0):
                piece = self._read(_READ_BYTES - len(data))
                data += piece
        return data

    def flush(self) -> None:
        if self._replies and self._raw is not None:
            data = b"".join(self._replies)
            self._replies.clear()
            with self._client.lock:  # of every sender of this client
                self._raw.sendall(data)

    def abort(self) -> None:
        # The plain socket's shutdown, also under TLS: SSLSocket's own would drop the session while
        # another thread reads, and that thread would take ciphertext for frames. No close frame:
        # the platform does not answer one, and sending it could block.
        try:
            if self._raw is not None:
                socket.socket.shutdown(self._raw, socket.SHUT_RDWR)
        except OSError:
            pass  # closed already

    def shutdown(self) -> None:
        self._readable.close()
        self._client.shutdown()  # type: ignore[no-untyped-call]


def dial(endpoint: Endpoint, connect_timeout: float, io_timeout: float) -> Socket:
    """Open a WebSocket.

    Blocks: `connect_timeout` seconds for each step (reach the host, TLS, handshake).

    Args:
        endpoint: Where to. An Origin among its headers replaces the one made of the URL.
        connect_timeout: Seconds.
        io_timeout: Seconds a read or write may wait afterwards.

    Raises:
        WebSocketException: The handshake failed.
        OSError: The host cannot be reached.
    """
    client = websocket.WebSocket(enable_multithread=True)
    headers = dict(endpoint.headers)
    named = {name.lower(): name for name in headers}
    origin = headers.pop(named["origin"]) if "origin" in named else None
    client.connect(  # type: ignore[no-untyped-call]
        endpoint.url, header=headers, origin=origin, timeout=connect_timeout
    )
    client.settimeout(io_timeout)
    return _OpenSocket(client)
