"""Where events come from: Douyin's own protocol, local relays, recordings, a simulated room.

- `DouyinSource`: the platform's WebSocket, given its address (`Endpoint`, `EndpointCommand`).
- `BarrageGrabSource`, `DouyinLiveSource`: relays on the streamer's own machine.
- `Simulator`: a local server that speaks the same protocol, with `Faults` on command; it plays a
  recording (`Played`) or a made-up `Crowd`.
- `read_recording`, `Recorder`, `ReplaySource`: rooms as JSON lines.
"""

from __future__ import annotations

from collections.abc import Mapping

from livebot.sources.connection import Backoff, FeedOptions
from livebot.sources.douyin import DouyinSource
from livebot.sources.endpoint import Endpoint, EndpointCommand
from livebot.sources.faults import Faults
from livebot.sources.generator import Crowd
from livebot.sources.recording import Recorder, busy_room, read_recording, shipped_room
from livebot.sources.relays import BarrageGrabSource, DouyinLiveSource
from livebot.sources.replay import ReplaySource
from livebot.sources.serverlog import SimulatorStatistics
from livebot.sources.simulator import Simulator
from livebot.sources.tally import FeedState, SourceStatistics
from livebot.sources.timeline import Played

SOURCES: Mapping[str, type[DouyinSource | BarrageGrabSource | DouyinLiveSource]] = {
    "douyin": DouyinSource,
    "barrage_grab": BarrageGrabSource,
    "douyin_live": DouyinLiveSource,
}
"""What reads a room, by its kind in the settings."""

__all__ = [
    "SOURCES",
    "Backoff",
    "BarrageGrabSource",
    "Crowd",
    "DouyinLiveSource",
    "DouyinSource",
    "Endpoint",
    "EndpointCommand",
    "Faults",
    "FeedOptions",
    "FeedState",
    "Played",
    "Recorder",
    "ReplaySource",
    "Simulator",
    "SimulatorStatistics",
    "SourceStatistics",
    "busy_room",
    "read_recording",
    "shipped_room",
]
