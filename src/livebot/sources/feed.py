"""What every source over a WebSocket has in common: a lifetime, a tally, and one way to deliver."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from livebot.messages import Event, RecentIds
from livebot.sources.connection import Connection, FeedOptions, OnState
from livebot.sources.dialing import Socket
from livebot.sources.endpoint import Endpoint, EndpointCommand
from livebot.sources.keeper import Liveness
from livebot.sources.tally import Batch, FeedState, SourceStatistics, Tally
from threadkit import Context, Health

__all__ = ["Emit", "Feed"]

logger = logging.getLogger("livebot.sources")

Emit = Callable[[Event], object]
"""Takes one event without blocking: the putting end of a queue."""

_REMEMBERED = 4096  # ids; a reconnected server repeats fifteen messages or so


class Feed:
    """Base of the sources: subclasses say what a message means.

    Thread safety: any thread may start and stop it, one at a time, and read its statistics. `emit`
    and `on_state` are called on the feed's own thread, one call at a time; they may call `stop`.

    Lifetime: whoever starts it stops it. It may be started again after a stop; the counts go on.

    Args:
        url: The address, or a callable that returns an `Endpoint` and is asked before each attempt.
        headers: Sent with the handshake, when `url` is a string.
        emit: Takes each event. It must not block: the same thread answers the server's pings. When
            it raises, the event counts as undelivered.
        on_state: Told each new state and a sentence about it.
        name: Begins log lines and names threads.
        heartbeat: The message that keeps the connection, None for none.
        silence: Seconds that mean death, where the options say nothing.
        options: How the connection is looked after.

    Raises:
        ValueError: The URL is no WebSocket's, or headers came with a callable.
    """

    def __init__(
        self,
        url: str | Callable[[], Endpoint],
        *,
        headers: Mapping[str, str] | None = None,
        emit: Emit,
        on_state: OnState | None = None,
        name: str,
        heartbeat: bytes | None = None,
        silence: float,
        options: FeedOptions,
    ) -> None:
        runtime = options.runtime
        if options.silence is not None:
            silence = options.silence
        liveness = Liveness(heartbeat, options.heartbeat_every, silence)
        if callable(url) and headers:
            raise ValueError("headers belong to the Endpoint that the callable url returns")
        self._find = url if callable(url) else _always(Endpoint(url, dict(headers or {})))
        self._emit = emit
        self._name = name
        self._monotonic = runtime.monotonic
        self._tally = Tally(name, runtime=runtime)
        self._seen = RecentIds(_REMEMBERED)  # touched by the connection's thread alone
        self._connection: Connection | None = None
        self._state = FeedState.NEW  # of the latest connection, once it is gone

        def connect(ctx: Context | None) -> Connection:
            return Connection(
                name,
                endpoint=self._endpoint,
                receive=self._receive,
                tally=self._tally,
                liveness=liveness,
                on_state=on_state,
                on_death=None if ctx is None else ctx.fail,
                options=options,
            )

        self._connect = connect

    def start(self, ctx: Context | None = None) -> None:
        """Begin to connect, on a thread of its own.

        Args:
            ctx: A ComponentManager's context, which is told if that thread should die.

        Raises:
            RuntimeError: It runs already.
        """
        if self._connection is not None:
            raise RuntimeError(f"{self._name} was started already")
        connection = self._connect(ctx)
        connection.start()
        self._connection = connection

    def stop(self, ctx: object = None) -> None:
        """End the connection and its threads. Harmless when it does not run.

        Blocks: less than a second, whatever the server does.

        Args:
            ctx: A ComponentManager's context; not needed.
        """
        del ctx
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if isinstance(self._find, EndpointCommand):
            self._find.cancel()
        ended = connection.stop()
        self._state = connection.state if ended else FeedState.STOPPED
        if not ended:
            logger.warning(
                "%s: still calling a host that does not answer; that thread ends by itself",
                self._name,
            )

    def health(self) -> Health:
        """For a manager: ready while connected, alive until its thread has died unasked."""
        connection = self._connection
        state = self.state
        over = state in (FeedState.ENDED, FeedState.REFUSED)
        return Health(
            ready=state is FeedState.CONNECTED,
            alive=over or connection is None or connection.is_alive,
            detail=state.value,
        )

    @property
    def state(self) -> FeedState:
        """What it is doing."""
        connection = self._connection
        return self._state if connection is None else connection.state

    def statistics(self) -> SourceStatistics:
        """What it did since it was made."""
        return self._tally.snapshot(self.state)

    # -- for subclasses, on the connection's thread ----------------------------------------------

    def _endpoint(self) -> Endpoint:
        """Where to connect to this time."""
        return self._find()

    def _receive(self, data: bytes, socket: Socket) -> bool:
        """Take one data message. False when the broadcast is over."""
        raise NotImplementedError

    def _is_new(self, message_id: str, batch: Batch) -> bool:
        """Whether this id comes for the first time; a repeat is counted."""
        new = self._seen.add(message_id)
        batch.duplicates += not new
        return new


def _always(endpoint: Endpoint) -> Callable[[], Endpoint]:
    return lambda: endpoint
