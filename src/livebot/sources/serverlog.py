"""What the simulated server did, for whoever looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from threadkit import Runtime

__all__ = ["ServerLog", "SimulatorStatistics"]

_FAULTS = (
    "cuts",
    "silences",
    "malformed",
    "truncated",
    "bombs",
    "refused",
    "cut_without_heartbeat",
    "cut_without_pong",
    "unsayable",
)


@dataclass(frozen=True, slots=True)
class SimulatorStatistics:
    """What the simulated server did."""

    connections: int
    """Handshakes that were completed."""
    watching: int
    """Connections open now."""
    sent: Mapping[str, int]
    """Events of the room that were sent, each counted once, by kind."""
    repeated: int
    """Messages that were sent again: after a reconnect, or as a fault."""
    responses: int
    acked: int
    heartbeats: int
    protocol_errors: int
    """Frames of a client that were neither a heartbeat nor a right acknowledgement."""
    pongs: int
    slowest_pong: float
    """Seconds from a ping to its pong, at most."""
    faults: Mapping[str, int]
    """Faults that were made, by name."""
    played_out: bool
    """Whether every event was sent."""


class ServerLog:
    """The running count behind `SimulatorStatistics`.

    Thread safety: the server's thread writes, anybody takes snapshots.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.played_out = runtime.event()
        # Guards every field below; held for an addition or a copy.
        self._lock = runtime.lock()
        self._counts: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()
        self._slowest_pong = 0.0

    def count(self, name: str, n: int = 1) -> None:
        """Add to one counter."""
        with self._lock:
            self._counts[name] += n

    def sent(self, kinds: Iterable[str]) -> None:
        """Events of these kinds went out for the first time."""
        with self._lock:
            self._sent.update(kinds)

    def pong(self, seconds: float) -> None:
        """A pong came this long after its ping."""
        with self._lock:
            self._counts["pongs"] += 1
            self._slowest_pong = max(self._slowest_pong, seconds)

    def snapshot(self) -> SimulatorStatistics:
        """The counts as they are now."""
        with self._lock:
            counts = self._counts
            return SimulatorStatistics(
                connections=counts["connections"],
                watching=counts["connections"] - counts["left"],
                sent=dict(self._sent),
                repeated=counts["repeated"],
                responses=counts["responses"],
                acked=counts["acked"],
                heartbeats=counts["heartbeats"],
                protocol_errors=counts["protocol_errors"],
                pongs=counts["pongs"],
                slowest_pong=self._slowest_pong,
                faults={name: counts[name] for name in _FAULTS if counts[name]},
                played_out=self.played_out.is_set(),
            )
