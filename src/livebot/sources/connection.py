"""A WebSocket that comes back: one thread that connects, reads and reconnects until it is stopped.

What is read is given to the feed's own `receive`, which only decodes and enqueues: the same thread
answers the server's pings, and a server cuts a client whose pong is late.

Each connection has a `Keeper` on a second thread, joined before the next attempt begins.

Nothing here polls, and nothing waits where `stop` cannot wake it: pauses wait for the stopping
event, and a read or write that blocks ends when `stop` shuts the socket down. The one exception is
an attempt to reach a host that does not answer, which only its own `connect_timeout` ends; `stop`
leaves such a thread behind to end by itself.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

import websocket

from livebot.sources.dialing import Dial, Socket, dial
from livebot.sources.endpoint import Endpoint
from livebot.sources.keeper import Keeper, Liveness
from livebot.sources.tally import FeedState, Tally
from threadkit import REAL, Runtime

__all__ = ["Backoff", "Connection", "FeedClosed", "FeedOptions", "OnState", "Receive"]

logger = logging.getLogger("livebot.sources")

_STOP_WITHIN = 0.8  # seconds `stop` waits for the threads; only an unanswered connect takes longer
_FINAL_CODES = {1000, 1007, 1008}  # closed on purpose, bad data, against the rules: do not return
_FIRST_PAUSES = {1001: 2.0, 1006: 1.5, 1012: 3.0, 1013: 5.0}  # seconds, by close code
_GOING_AWAY = 1001
_ABNORMAL = 1006  # what RFC 6455 calls a connection that ended without a close frame

Receive = Callable[[bytes, Socket], bool]
"""Takes one data message; False when the broadcast is over and nothing more will come."""


class FeedClosed(Exception):
    """Raised by `receive` when the feed's own protocol asks to close this connection."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next attempt.

    Args:
        first: Seconds after the first failure, where the close code says nothing else.
        most: Seconds at most, jitter included.
        factor: What each failure in a row multiplies the pause by.
        jitter: Share of the pause that is added at random, 0 to 1, so that a restarted server is
            not met by everybody at once.

    Raises:
        ValueError: A number makes no sense.
    """

    first: float = 1.5
    most: float = 60.0
    factor: float = 2.0
    jitter: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.most:
            raise ValueError(f"first must be above 0 and at most {self.most}, not {self.first}")
        if self.factor < 1:
            raise ValueError(f"factor must be 1 or more, not {self.factor}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be from 0 to 1, not {self.jitter}")

    def pause(self, failures: int, *, code: int | None = None, draw: float = 0.0) -> float:
        """Seconds to wait after `failures` in a row (1 or more); `draw` is a number from 0 to 1.

        >>> calm = Backoff(jitter=0)
        >>> [calm.pause(n) for n in (1, 2, 3, 9)], calm.pause(1, code=1013)
        ([1.5, 3.0, 6.0, 60.0], 5.0)
        """
        first = max(self.first, min(_FIRST_PAUSES.get(code or 0, 0.0), self.most))
        grown = first * self.factor ** min(failures - 1, 32)
        return min(grown * (1 + self.jitter * draw), self.most)


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """How a feed looks after its connection.

    Args:
        heartbeat_every: Seconds between two heartbeats, where the feed has one; the platform cuts a
            quiet client after 20 to 30.
        silence: Seconds without a message after which the connection counts as dead; None: what
            suits the feed.
        connect_timeout: Seconds for one attempt to connect.
        backoff: The pauses between attempts.
        seed: Of the jitter.
        dial: Opens one socket; tests hand in their own.
        runtime: Where clock, locks and threads come from.

    Raises:
        ValueError: A duration is not above 0.
    """

    heartbeat_every: float = 10.0
    silence: float | None = None
    connect_timeout: float = 10.0
    backoff: Backoff = Backoff()
    seed: int | None = None
    dial: Dial = dial
    runtime: Runtime = REAL

    def __post_init__(self) -> None:
        for name in ("heartbeat_every", "silence", "connect_timeout"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0 seconds, not {value!r}")


OnState = Callable[[FeedState, str], None]
"""Told each new state and a sentence about it, on the connection's thread."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """How one attempt ended."""

    reason: str
    final: FeedState | None = None
    code: int | None = None
    heard_any: bool = False


class Connection:
    """The connection of one source, reopened until it is stopped or told not to return.

    Thread safety: `start` and `stop` may come from any thread; `endpoint`, `receive` and `on_state`
    are called on the connection's own.

    Lifetime: its owner starts it once and stops it once; a restarted source makes another.

    Args:
        name: Of the source: begins its log lines and its threads' names.
        endpoint: Asked before each attempt where to connect to; what it raises counts as a failed
            attempt.
        receive: Takes each data message.
        tally: Counts.
        liveness: Heartbeat and the silence that means death.
        on_state: Told each new state.
        on_death: Told what its thread died of, which nobody foresaw.
        options: The rest.
    """

    def __init__(
        self,
        name: str,
        *,
        endpoint: Callable[[], Endpoint],
        receive: Receive,
        tally: Tally,
        liveness: Liveness,
        on_state: OnState | None = None,
        on_death: Callable[[BaseException], object] | None = None,
        options: FeedOptions,
    ) -> None:
        runtime = options.runtime
        self._name = name
        self._endpoint = endpoint
        self._receive = receive
        self._tally = tally
        self._liveness = liveness
        self._on_state = on_state
        self._on_death = on_death
        self._options = options
        self._random = random.Random(options.seed)
        self._runtime = runtime
        self._stopping = runtime.event()
        # Guards _socket, so that `stop` meets either the socket or nobody who will open one: the
        # connecting thread publishes its socket and looks at _stopping under this lock. Held for
        # two assignments.
        self._lock = runtime.lock()
        self._socket: Socket | None = None
        self.state = FeedState.NEW
        self._thread = runtime.thread(self._run, name=f"livebot-{name}", daemon=True)

    def start(self) -> None:
        """Begin to connect, on a thread of its own."""
        self._thread.start()

    def stop(self) -> bool:
        """End it. True when no thread of it is left.

        Blocks: 0.8 s at most, and that long only while a host is called that does not answer.
        """
        with self._lock:
            self._stopping.set()
            opened = self._socket
        if opened is not None:
            opened.abort()
        # A thread that has ended leaves its number to another, which may be the caller's.
        if self._thread.ident == self._runtime.get_ident() and self._thread.is_alive():
            return False
        if self._thread.ident is not None:
            self._thread.join(_STOP_WITHIN)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    # -- on the connection's thread --------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._keep_connected()
        except Exception as exc:
            self._become(FeedState.WAITING, f"failed: {_told(exc)}")
            if self._on_death is None:
                raise
            self._on_death(exc)

    def _keep_connected(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            ending = self._attempt()
            if self._stopping.is_set():
                break
            if ending.final is not None:
                logger.info("%s: %s", self._name, ending.reason)
                self._become(ending.final, ending.reason)
                return
            failures = 1 if ending.heard_any else failures + 1
            self._pause(failures, ending)
        self._become(FeedState.STOPPED, "stopped")

    def _pause(self, failures: int, ending: _Ending) -> None:
        pause = self._options.backoff.pause(failures, code=ending.code, draw=self._random.random())
        line = f"{ending.reason}; next attempt in {pause:.1f} s"
        logger.warning("%s: %s", self._name, line)
        self._become(FeedState.WAITING, line)
        self._stopping.wait(pause)

    def _attempt(self) -> _Ending:
        """Connect, and read until the connection ends. Never raises."""
        where = "the feed"
        try:
            endpoint = self._endpoint()
            where = endpoint.shown
            self._become(FeedState.CONNECTING, where)
            # The keeper ends a silent connection; twice as long is the backstop of a stuck write.
            io_timeout = 2 * self._liveness.silence
            opened = self._options.dial(endpoint, self._options.connect_timeout, io_timeout)
        except websocket.WebSocketBadStatusException as exc:
            return _Ending(
                f"{where} answered HTTP {exc.status_code} instead of opening a WebSocket "
                "(has the address expired?)"
            )
        except Exception as exc:  # noqa: BLE001 - whatever is wrong, the next attempt may be right
            return _Ending(f"cannot reach {where}: {_told(exc)}")
        return self._converse(opened, where)

    def _converse(self, opened: Socket, where: str) -> _Ending:
        keeper = Keeper(
            self._name,
            opened,
            self._liveness,
            tally=self._tally,
            draw=self._random,
            runtime=self._runtime,
        )
        try:
            if not self._publish(opened):
                return _Ending("stopped")
            keeper.start()
            self._tally.count("connections")
            self._become(FeedState.CONNECTED, where)
            return self._read(opened, keeper)
        except Exception as exc:  # noqa: BLE001 - the reason is told, and the next attempt follows
            reason = f"lost {where}: {keeper.verdict or _told(exc)}"
            return _Ending(reason, code=_ABNORMAL, heard_any=keeper.heard_any)
        finally:
            with self._lock:
                self._socket = None
            opened.abort()  # wakes a keeper that is blocked in a send
            keeper.stop()
            opened.shutdown()

    def _publish(self, opened: Socket) -> bool:
        with self._lock:
            self._socket = opened
            return not self._stopping.is_set()

    def _read(self, opened: Socket, keeper: Keeper) -> _Ending:
        while True:
            opcode, data = opened.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return _closed_with(data, keeper.heard_any)
            keeper.heard()
            self._tally.frame(len(data))
            try:
                more = self._receive(data, opened)
            except FeedClosed as exc:
                return _Ending(str(exc), code=_GOING_AWAY, heard_any=True)
            if not more:
                opened.flush()
                return _Ending("the broadcast has ended", final=FeedState.ENDED)

    def _become(self, state: FeedState, sentence: str) -> None:
        self.state = state
        if self._on_state is None:
            return
        try:
            self._on_state(state, sentence)
        except Exception:
            logger.exception("%s: on_state failed", self._name)


def _closed_with(data: bytes, heard_any: bool) -> _Ending:
    code = int.from_bytes(data[:2], "big") or _GOING_AWAY
    said = data[2:].decode("utf-8", "replace")
    reason = f"the server closed the connection with code {code}{f' ({said})' if said else ''}"
    final = FeedState.REFUSED if code in _FINAL_CODES else None
    return _Ending(reason, final=final, code=code, heard_any=heard_any)


def _told(exc: Exception) -> str:
    return f"{str(exc) or type(exc).__name__}".splitlines()[0][:200]
