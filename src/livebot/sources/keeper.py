"""What keeps one connection alive: its heartbeat, and its end when it is dead without saying so."""

from __future__ import annotations

import random
from dataclasses import dataclass

from livebot.sources.dialing import Socket
from livebot.sources.tally import Tally
from threadkit import REAL, Runtime

__all__ = ["Keeper", "Liveness"]


@dataclass(frozen=True, slots=True)
class Liveness:
    """How a feed is kept alive.

    Args:
        heartbeat: The binary message to send, None for none.
        every: Seconds between two of them; up to a fifth is added at random.
        silence: Seconds without a data message after which the connection counts as dead.

    Raises:
        ValueError: A duration is not above 0.
    """

    heartbeat: bytes | None = None
    every: float = 10.0
    silence: float = 45.0

    def __post_init__(self) -> None:
        for name in ("every", "silence"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0 seconds, not {getattr(self, name)}")


class Keeper:
    """One thread beside one connection: heartbeat and watchdog.

    Thread safety: the reading thread calls `heard`; its owner starts and stops it once.

    Lifetime: of its connection. `stop` joins the thread, so abort the socket first: a send may be
    blocked in it.
    """

    def __init__(
        self,
        name: str,
        opened: Socket,
        liveness: Liveness,
        *,
        tally: Tally,
        draw: random.Random,
        runtime: Runtime = REAL,
    ) -> None:
        self._socket = opened
        self._liveness = liveness
        self._tally = tally
        self._random = draw
        self._monotonic = runtime.monotonic
        self._over = runtime.event()
        self._thread = runtime.thread(self._run, name=f"livebot-{name}-keeper", daemon=True)
        # Written by the reading thread, read by the keeper's: one float, replaced whole. A stale
        # reading only makes the keeper look once more.
        self._heard_at = self._monotonic()
        self.heard_any = False
        self.verdict = ""
        """Why the keeper ended the connection, empty when it did not."""

    def start(self) -> None:
        """Begin to beat and to watch."""
        self._thread.start()

    def heard(self) -> None:
        """A data message came."""
        self._heard_at = self._monotonic()
        self.heard_any = True

    def stop(self) -> None:
        """End the thread and wait for it. Harmless when it never started."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        beat_at = self._next_beat_at()
        while True:
            now = self._monotonic()
            dead_at = self._heard_at + self._liveness.silence
            if now >= dead_at:
                self._end(f"nothing came for {self._liveness.silence:g} s")
                return
            if now >= beat_at:
                if not self._beat():
                    return
                beat_at = self._next_beat_at()
            if self._over.wait(min(beat_at, dead_at) - now):
                return

    def _next_beat_at(self) -> float:
        if self._liveness.heartbeat is None:
            return float("inf")
        return self._monotonic() + self._liveness.every * (1 + 0.2 * self._random.random())

    def _beat(self) -> bool:
        try:
            self._socket.send_binary(self._liveness.heartbeat or b"")
        except Exception as exc:  # noqa: BLE001 - whatever it is, the connection is of no more use
            self._end(f"the heartbeat could not be sent: {exc}")
            return False
        self._tally.count("heartbeats")
        return True

    def _end(self, verdict: str) -> None:
        if (
            not self._over.is_set()
        ):  # a socket that failed because its owner closed it proves nothing
            self.verdict = verdict
        self._socket.abort()
