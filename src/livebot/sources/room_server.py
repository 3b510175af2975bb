"""The server of a simulated room: one thread that accepts, reads, writes, plays and misbehaves.

One thread does everything, so no state of it needs a lock; what others want done is put to it as a
command. The WebSocket protocol is `websockets`' own, its layer without input and output: a server
that is meant to misbehave must decide itself what reaches the wire.
"""

from __future__ import annotations

import contextlib
import logging
import random
import selectors
import socket
from collections.abc import Callable, Iterator
from typing import cast

from livebot.messages import Event
from livebot.sources import webcast_pb2 as webcast
from livebot.sources.encoding import encode
from livebot.sources.faults import Faults, bomb
from livebot.sources.serverlog import ServerLog
from livebot.sources.timeline import Timeline
from livebot.sources.viewer import Viewer
from threadkit import Runtime

logger = logging.getLogger("livebot.sources")

__all__ = ["RoomServer"]

_REPEATED = 15  # messages from before the cursor that a returning viewer gets again
_BATCH = 200  # messages in one response at most
_BEAT = 0.005  # seconds between two responses to one viewer at least
_PING_EVERY = 5.0  # seconds
_PONG_WITHIN = 21.0  # seconds; the platform drops a client that does not answer as fast
_HEARTBEAT_WITHIN = 30.0  # seconds; the platform cuts a client it does not hear from


class RoomServer:
    """Plays a timeline to whoever connects.

    Thread safety: `start`, `stop` and `command` may come from any thread, everything else happens
    on the server's own.

    Lifetime: started once, stopped once.
    """

    def __init__(
        self,
        timeline: Timeline,
        *,
        speed: float,
        faults: Faults,
        draw: random.Random,
        log: ServerLog,
        runtime: Runtime,
    ) -> None:
        self._timeline = timeline
        self._speed = speed
        self._faults = faults
        self._random = draw
        self._log = log
        self._monotonic = runtime.monotonic
        self._time = runtime.time
        self._commands = runtime.simple_queue()
        self._selector = selectors.DefaultSelector()
        self._viewers: list[Viewer] = []
        self._refusals = faults.refused
        self._sent_up_to = 0
        self._started_at: float | None = None
        self._cut_at = faults.cut_every
        self._silence_at = faults.silence_every
        self._again: list[webcast.Message] = []
        self._stopping = False
        self._listener: socket.socket | None = None
        self._wake: socket.socket | None = None
        self._woken: socket.socket | None = None
        self._address: tuple[str, int] | None = None
        self._thread = runtime.thread(self._run, name="livebot-simulator", daemon=True)

    def start(self, address: tuple[str, int]) -> None:
        """Listen."""
        self._listener = socket.create_server(address, backlog=64)
        self._address = self._listener.getsockname()[:2]
        self._wake, self._woken = socket.socketpair()
        for sock in (self._listener, self._woken):
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, once started."""
        if self._address is None:
            raise RuntimeError("the simulator has not been started")
        return self._address

    def stop(self) -> None:
        """Drop everybody and end the thread."""
        if self._thread.ident is not None:
            self.command(RoomServer._leave)
            self._thread.join()

    def command(self, action: Callable[[RoomServer], object]) -> None:
        """Have `action` done on the server's thread. Forgotten once the server has ended."""
        self._commands.put(action)
        if self._wake is not None:
            with contextlib.suppress(OSError):
                self._wake.send(b"!")

    def _leave(self) -> None:
        self._stopping = True

    def _run(self) -> None:
        try:
            while not self._stopping:
                now = self._monotonic()
                self._play(now)
                self._look_after(now)
                self._sweep(now)
                for key, mask in self._selector.select(self._sleep(self._monotonic())):
                    self._serve(key, mask)
        finally:
            self._close()

    def _serve(self, key: selectors.SelectorKey, mask: int) -> None:
        now = self._monotonic()
        viewer = cast("Viewer | None", key.data)
        if key.fileobj is self._woken:
            self._obey()
        elif viewer is None:
            self._welcome(now)
        else:
            if mask & selectors.EVENT_WRITE:
                viewer.write()
            if mask & selectors.EVENT_READ:
                self._read(viewer, now)

    def _obey(self) -> None:
        if self._woken is not None:
            self._woken.recv(4096)
        while not self._commands.empty():
            self._commands.get_nowait()(self)

    def _welcome(self, now: float) -> None:
        if self._listener is None:
            return
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # it left before it was greeted
        sock.setblocking(False)
        refuse, self._refusals = self._refusals > 0, max(0, self._refusals - 1)
        if refuse:
            self._log.count("refused")
        viewer = Viewer(sock, now=now, refuse=refuse, log=self._log)
        self._viewers.append(viewer)

    def _read(self, viewer: Viewer, now: float) -> None:
        was_open = viewer.open
        rate = self._faults.read_bytes_per_second
        if rate is None:
            viewer.read(now)
        else:
            size = viewer.read(now, limit_bytes=max(1, int(rate * 0.05)) if was_open else 65536)
            viewer.read_again_at = now + size / rate if was_open else now
        if viewer.open and not was_open:
            self._seat(viewer, now)

    def _seat(self, viewer: Viewer, now: float) -> None:
        self._log.count("connections")
        if self._started_at is None:
            self._started_at = now
        place = viewer.resume_from
        if place is None or place > self._sent_up_to:
            place = self._timeline.due(self._room_time(now))
        viewer.position = max(0, place - _REPEATED)

    def _room_time(self, now: float) -> float:
        return 0.0 if self._started_at is None else (now - self._started_at) * self._speed

    def _play(self, now: float) -> None:
        due = self._timeline.due(self._room_time(now)) if self._started_at is not None else 0
        for viewer in self._viewers:
            if viewer.position is None or viewer.mute or not viewer.has_room:
                continue
            count = min(_BATCH, due - viewer.position)
            if count > 0 and now >= viewer.sent_at + _BEAT:
                viewer.sent_at = now
                self._respond(viewer, range(viewer.position, viewer.position + count))
                viewer.position += count

    def _respond(self, viewer: Viewer, numbers: range) -> None:
        events = [self._timeline.event(number) for number in numbers]
        fresh = events[max(0, self._sent_up_to - numbers.start) :]
        self._sent_up_to = max(self._sent_up_to, numbers.stop)
        encoded = [message for event in events if (message := self._encoded(event)) is not None]
        repeats, self._again = self._again, []
        if self._faults.repeat:
            self._again = [m for m in encoded if self._random.random() < self._faults.repeat]
        milliseconds = int(self._time() * 1000)
        response = webcast.Response(
            messages=encoded + repeats,
            cursor=f"d-1_u-1_fh-{numbers.stop}_t-{milliseconds}_r-1",
            internal_ext=f"internal_src:sim|wss_push_room_id:1|seq:{numbers.stop}",
            now=milliseconds,
            need_ack=True,
        )
        self._log.sent(event.kind for event in fresh)
        self._log.count("responses")
        self._log.count("repeated", len(events) - len(fresh) + len(repeats))
        frame = viewer.frame(response)
        self._disturb(viewer, frame)
        viewer.send(frame)
        if self._timeline.at(self._sent_up_to) == float("inf"):
            self._log.played_out.set()

    def _encoded(self, event: Event) -> webcast.Message | None:
        """The event as the protocol says it; None for one whose numbers or texts it cannot hold."""
        try:
            return encode(event)
        except (ValueError, TypeError) as exc:
            self._log.count("unsayable")
            logger.warning("event %s cannot be said in the protocol: %s", event.id, exc)
            return None

    # -- faults ----------------------------------------------------------------------------------

    def _disturb(self, viewer: Viewer, frame: bytes) -> None:
        if self._random.random() < self._faults.malformed:
            self._log.count("malformed")
            viewer.send(b"\x07" + self._random.randbytes(40))  # no field has wire type 7
        if self._random.random() < self._faults.truncated:
            self._log.count("truncated")
            viewer.send(frame[: -(len(frame) // 4)])  # inside the payload, which comes last
        if self._random.random() < self._faults.bombs:
            self._log.count("bombs")
            viewer.send(bomb())

    def cut_all(self, code: int | None) -> None:
        """Drop every connection."""
        self._log.count("cuts")
        for viewer in self._viewers:
            if not viewer.open:
                continue
            if code is None:
                viewer.cut()
            else:
                viewer.close(code)

    def silence_all(self) -> None:
        """Make every connection half-dead."""
        self._log.count("silences")
        for viewer in self._viewers:
            viewer.mute = True

    def send_all(self, data: bytes) -> None:
        """Send one binary message to every viewer."""
        for viewer in self._viewers:
            viewer.send(data)

    def _look_after(self, now: float) -> None:
        t = self._room_time(now)
        if self._cut_at is not None and t >= self._cut_at:
            self.cut_all(self._faults.cut_code)
            self._cut_at = t + (self._faults.cut_every or 0.0)
        if self._silence_at is not None and t >= self._silence_at:
            self.silence_all()
            self._silence_at = t + (self._faults.silence_every or 0.0)
        for viewer in self._viewers:
            if not viewer.open or viewer.mute:
                continue
            if now >= viewer.heard_at + _HEARTBEAT_WITHIN:
                self._log.count("cut_without_heartbeat")
                viewer.cut()
            elif viewer.pinged_at is not None and now >= viewer.pinged_at + _PONG_WITHIN:
                self._log.count("cut_without_pong")
                viewer.cut()
            elif viewer.pinged_at is None and now >= viewer.ping_at:
                viewer.ping_at = now + _PING_EVERY
                viewer.ping(now)

    # -- between turns ---------------------------------------------------------------------------

    def _sweep(self, now: float) -> None:
        for viewer in self._viewers:
            if viewer.gone:
                if viewer.open:
                    self._log.count("left")
                if viewer.watched:
                    self._selector.unregister(viewer.sock)
                viewer.sock.close()
            else:
                self._watch(viewer, now)
        self._viewers = [viewer for viewer in self._viewers if not viewer.gone]

    def _watch(self, viewer: Viewer, now: float) -> None:
        mask = selectors.EVENT_READ if now >= viewer.read_again_at else 0
        if viewer.wants_to_write:
            mask |= selectors.EVENT_WRITE
        if mask == viewer.watched:
            return
        if viewer.watched:
            self._selector.unregister(viewer.sock)
        if mask:
            self._selector.register(viewer.sock, mask, viewer)
        viewer.watched = mask

    def _sleep(self, now: float) -> float | None:
        """Seconds until something is due that no socket tells, None for never."""
        due_at = [at for viewer in self._viewers for at in self._due_at(viewer)]
        if self._started_at is not None and due_at:
            faults = [t for t in (self._cut_at, self._silence_at) if t is not None]
            due_at += [self._started_at + t / self._speed for t in faults]
        return max(0.0, min(due_at) - now) if due_at else None

    def _due_at(self, viewer: Viewer) -> Iterator[float]:
        if not viewer.watched & selectors.EVENT_READ:
            yield viewer.read_again_at
        if viewer.position is None or viewer.mute or self._started_at is None:
            return
        yield viewer.heard_at + _HEARTBEAT_WITHIN
        unanswered = viewer.pinged_at
        yield viewer.ping_at if unanswered is None else unanswered + _PONG_WITHIN
        happens = self._timeline.at(viewer.position)
        if viewer.has_room and happens < float("inf"):
            yield max(self._started_at + happens / self._speed, viewer.sent_at + _BEAT)

    def _close(self) -> None:
        for viewer in self._viewers:
            viewer.sock.close()
        self._viewers.clear()
        self._selector.close()
        for sock in (self._listener, self._wake, self._woken):
            if sock is not None:
                sock.close()
