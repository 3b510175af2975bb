"""A local live room that speaks the platform's protocol: the demo's feed and the tests' peer."""

from __future__ import annotations

import random
from collections.abc import Iterable

from livebot.messages import Event
from livebot.sources.faults import Faults
from livebot.sources.room_server import RoomServer
from livebot.sources.serverlog import ServerLog, SimulatorStatistics
from livebot.sources.timeline import Played, Timeline
from threadkit import REAL, Runtime

__all__ = ["Simulator", "SimulatorStatistics"]


class Simulator:
    """A simulated live room on a local port.

    ```
    simulator = Simulator(read_recording(shipped_room()), speed=4.0)
    url = simulator.start()
    ...
    simulator.stop()
    ```

    The room's clock starts with the first viewer. A viewer that returns with its cursor goes on
    where it was and gets the last fifteen messages again. After the last event the broadcast ends
    with a control message.

    Thread safety: any thread may call anything.

    Lifetime: whoever starts it stops it; once.

    Args:
        events: What happens: (seconds, event) pairs, or a `Timeline`.
        speed: How many seconds of the room pass in one of ours.
        host: Address to listen on.
        port: 0 for any free one.
        seed: Of the faults.
        faults: What goes wrong by itself.
        loop: Begin again after the last event, instead of ending.

    Raises:
        ValueError: `speed` is not above 0, or there are no events.
    """

    def __init__(
        self,
        events: Iterable[tuple[float, Event]] | Timeline,
        *,
        speed: float = 1.0,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int | None = None,
        faults: Faults | None = None,
        loop: bool = False,
        runtime: Runtime = REAL,
    ) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be above 0, not {speed}")
        timeline = (
            events if isinstance(events, Timeline) else Played(events, rounds=None if loop else 1)
        )
        self._address = (host, port)
        self._log = ServerLog(runtime)
        self._server = RoomServer(
            timeline,
            speed=speed,
            faults=faults or Faults(),
            draw=random.Random(seed),
            log=self._log,
            runtime=runtime,
        )

    def start(self, ctx: object = None) -> str:
        """Open the room. Returns the address to connect to.

        Args:
            ctx: A ComponentManager's context; not needed.

        Raises:
            OSError: The port is taken.
        """
        del ctx
        self._server.start(self._address)
        return self.url

    @property
    def url(self) -> str:
        """The address to connect to, once started."""
        host, port = self._server.address
        return (
            f"ws://{host}:{port}/webcast/im/push/v2/?room_id=1&compress=gzip&cursor=&internal_ext="
        )

    def stop(self, ctx: object = None) -> None:
        """Close the room and every connection. Harmless when it was stopped before.

        Args:
            ctx: A ComponentManager's context; not needed.
        """
        del ctx
        self._server.stop()

    def statistics(self) -> SimulatorStatistics:
        """What it did so far."""
        return self._log.snapshot()

    def wait_played_out(self, timeout: float | None = None) -> bool:
        """Wait until every event was sent. False when `timeout` seconds passed first."""
        return self._log.played_out.wait(timeout)

    def cut(self, code: int | None = None) -> None:
        """Drop every connection: with a reset, or with a close frame of this code."""
        self._server.command(lambda server: server.cut_all(code))

    def go_silent(self) -> None:
        """Leave every connection open, and say and answer nothing on it any more."""
        self._server.command(lambda server: server.silence_all())

    def send(self, data: bytes) -> None:
        """Send these bytes to every viewer as one binary message."""
        self._server.command(lambda server: server.send_all(data))
