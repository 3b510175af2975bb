"""One client of the simulated server: its socket, its WebSocket session, its place in the room."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import struct
from collections import OrderedDict, deque
from urllib.parse import parse_qs, urlsplit

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from livebot.sources import webcast_pb2 as webcast
from livebot.sources.serverlog import ServerLog
from livebot.sources.wire import MalformedFrame, pack, read_frame

__all__ = ["Viewer"]

_quiet = logging.getLogger("livebot.sources.simulator")
_quiet.setLevel(logging.WARNING)  # the library tells each connection at INFO

_MESSAGE_LIMIT_BYTES = 1024 * 1024
_CHUNK = 65536  # bytes read at once
_OUT_LIMIT_BYTES = 4 * 1024 * 1024  # waiting to be written; a slower client gets nothing new
_UNACKED_LIMIT = 1000  # responses whose acknowledgement is still expected


class Viewer:
    """The server's side of one connection. Belongs to the simulator's thread alone.

    Args:
        sock: Accepted, not blocking.
        now: The monotonic instant it was accepted.
        refuse: Whether to answer the handshake with HTTP 503.
        log: Counts.
    """

    def __init__(self, sock: socket.socket, *, now: float, refuse: bool, log: ServerLog) -> None:
        self.sock = sock
        self.position: int | None = None
        """Number of the next event to send, None before the handshake."""
        self.resume_from: int | None = None
        """The place its cursor named, when it came with one."""
        self.gone = False
        self.mute = False
        """Half-dead: the connection stays open, nothing is sent or answered any more."""
        self.heard_at = now  # its last heartbeat
        self.sent_at = float("-inf")
        self.ping_at = now
        """When the next ping is due."""
        self.pinged_at: float | None = None
        """When the ping was sent that is not answered yet."""
        self.watched = 0
        """What the selector watches its socket for."""
        self.read_again_at = 0.0
        self.open = False
        """Whether the handshake is done."""
        self._refuse = refuse
        self._log = log
        self._protocol = ServerProtocol(max_size=_MESSAGE_LIMIT_BYTES, logger=_quiet)
        self._out: deque[memoryview] = deque()
        self._out_bytes = 0
        self._unacked: OrderedDict[int, bytes] = OrderedDict()
        self._log_id = 0

    # -- reading ---------------------------------------------------------------------------------

    def read(self, now: float, *, limit_bytes: int = _CHUNK) -> int:
        """Take what came. Returns its size; sets `gone` when the client left."""
        try:
            data = self.sock.recv(limit_bytes)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self.gone = True
            return 0
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._shake_hands(event)
            elif isinstance(event, Frame):
                self._take(event, now)
        self._flush_protocol()
        if self._protocol.handshake_exc is not None:
            self.gone = True  # it speaks something else, or was refused: what was written is sent
        return len(data)

    def _shake_hands(self, request: Request) -> None:
        if self._refuse:
            self._protocol.send_response(self._protocol.reject(503, "the room is not open yet\n"))
            return
        self._protocol.send_response(self._protocol.accept(request))
        if self._protocol.state is not State.OPEN:
            return
        query = parse_qs(urlsplit(request.path).query)
        place = re.search(r"fh-(\d+)", query.get("cursor", [""])[0])
        self.resume_from = int(place[1]) if place else None
        self.open = True

    def _take(self, frame: Frame, now: float) -> None:
        if frame.opcode is Opcode.PONG and self.pinged_at is not None:
            self._log.pong(now - self.pinged_at)
            self.pinged_at = None
        elif frame.opcode is Opcode.BINARY:
            self._take_frame(bytes(frame.data), now)

    def _take_frame(self, data: bytes, now: float) -> None:
        try:
            frame = read_frame(data)
        except MalformedFrame:
            self._log.count("protocol_errors")
            return
        if frame.payload_type == "hb":
            self.heard_at = now
            self._log.count("heartbeats")
        elif frame.payload_type == "ack":
            right = self._unacked.pop(frame.log_id, None) == frame.payload
            self._log.count("acked" if right else "protocol_errors")
        else:
            self._log.count("protocol_errors")

    # -- writing ---------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether more should be sent: the client takes what it got."""
        return self._out_bytes < _OUT_LIMIT_BYTES

    @property
    def wants_to_write(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._out) and not self.mute

    def frame(self, response: webcast.Response) -> bytes:
        """The frame of a response, whose acknowledgement is expected from now on."""
        self._log_id += 1
        frame = pack(response, log_id=self._log_id)
        self._unacked[self._log_id] = response.internal_ext.encode()
        if len(self._unacked) > _UNACKED_LIMIT:
            self._unacked.popitem(last=False)
        return frame

    def send(self, data: bytes) -> None:
        """Send one binary message, whatever it holds."""
        if self.open and self._protocol.state is State.OPEN:
            self._protocol.send_binary(data)
            self._flush_protocol()

    def ping(self, now: float) -> None:
        """Ask for a pong."""
        if self._protocol.state is State.OPEN and not self.mute:
            self.pinged_at = now
            self._protocol.send_ping(struct.pack("!d", now))
            self._flush_protocol()

    def close(self, code: int) -> None:
        """Send a close frame."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code)
            self._flush_protocol()

    def write(self) -> None:
        """Write what the socket takes now."""
        while self._out and not self.mute:
            try:
                sent = self.sock.send(self._out[0])
            except BlockingIOError:
                return
            except OSError:
                self.gone = True
                return
            self._out_bytes -= sent
            if sent < len(self._out[0]):
                self._out[0] = self._out[0][sent:]
                return
            self._out.popleft()

    def cut(self) -> None:
        """Drop the connection with a reset, as a broken network does."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.gone = True

    def _flush_protocol(self) -> None:
        for data in self._protocol.data_to_send():
            if data and not self.mute:
                self._out.append(memoryview(data))
                self._out_bytes += len(data)
        if not self.mute:
            self.write()
        if self._protocol.state is State.CLOSED:
            self.gone = True
