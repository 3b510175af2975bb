"""What people see on a terminal: a live table while the bot works, and a summary at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from livebot.playback import PlayerStatistics
from livebot.sources import SimulatorStatistics, SourceStatistics
from livebot.view import Snapshot
from threadkit import Histogram

__all__ = ["Picture", "recorded", "simulated", "spoken", "summary", "table"]

_REFRESH = 4  # pictures a second


def summary(snapshot: Snapshot, *, sent: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The closing account as plain data, the same that `--json` writes.

    `received == spoken + pending + sum(dropped.values())` counts the events that can be spoken;
    `other` counts the rest by kind, and `decoded` is both together.
    """
    ledger, player, speech = snapshot.ledger, snapshot.player, snapshot.speech
    return {
        "seconds": round(snapshot.seconds, 3),
        "sent": sum(sent.values()) if sent else None,
        "decoded": ledger.received + sum(ledger.other.values()),
        "received": ledger.received,
        "spoken": ledger.spoken,
        "pending": ledger.pending,
        "dropped": dict(sorted(ledger.dropped.items())),
        "other": dict(sorted(ledger.other.items())),
        "delay_seconds": _percentiles(player.delay),
        "cache": {"hits": speech.cached, "misses": speech.synthesized},
        "audio": {
            "sink": player.sink,
            "seconds": round(player.seconds, 3),
            "path": None if player.path is None else str(player.path),
        },
        "model": None if snapshot.model is None else dataclasses.asdict(snapshot.model),
        "feed": _feed(snapshot.source),
    }


class Picture:
    """A component that shows what goes on, where somebody is looking.

    Args:
        draw: Says what to show now, on a thread of its own.
        console: Where to draw; nothing is drawn when it is not a terminal.
    """

    def __init__(self, draw: Callable[[], RenderableType], console: Console) -> None:
        self._draw = draw
        self._console = console
        self._live: Live | None = None

    def start(self, ctx: object, /) -> None:
        self._live = Live(
            get_renderable=self._draw,
            console=self._console,
            refresh_per_second=_REFRESH,
            auto_refresh=self._console.is_terminal,
            transient=True,
        )
        self._live.start()

    def stop(self, ctx: object, /) -> None:
        if self._live is not None:
            self._live.stop()


def table(snapshot: Snapshot) -> RenderableType:
    """What became of the room so far."""
    ledger, player = snapshot.ledger, snapshot.player
    figures = Table("in", "waiting", "spoken", "dropped", "delay p50", "delay p95", "sound", "feed")
    figures.add_row(
        str(ledger.received),
        str(ledger.pending),
        str(ledger.spoken),
        str(sum(ledger.dropped.values())),
        *(_seconds(value) for value in _percentiles(player.delay).values()),
        f"{player.seconds:.0f} s",
        snapshot.source.state.value,
    )
    sink = Text(f"sound goes to: {player.sink}", style="dim")
    shed = sum(snapshot.source.shed.values())
    drops = {**ledger.dropped, **({"feed: faster than this machine": shed} if shed else {})}
    return Group(figures, _drops(drops), sink)


def recorded(source: SourceStatistics) -> RenderableType:
    """How a recording goes."""
    figures = Table("events", "reconnects", "malformed", "feed")
    figures.add_row(
        str(sum(source.decoded.values())),
        str(source.reconnects),
        str(source.malformed),
        source.state.value,
    )
    return figures


def simulated(room: SimulatorStatistics) -> RenderableType:
    """How a simulated room goes."""
    figures = Table("watching", "connections", "sent", "repeated", "faults", "room")
    figures.add_row(
        str(room.watching),
        str(room.connections),
        str(sum(room.sent.values())),
        str(room.repeated),
        str(sum(room.faults.values())),
        "over" if room.played_out else "live",
    )
    return figures


def spoken(player: PlayerStatistics, whole: int) -> RenderableType:
    """How far the sentences have come of which there are `whole`."""
    done = player.played + player.failed
    return Text(f"{min(done + 1, whole)} of {whole}: {player.speaking or '...'}")


def _drops(dropped: Mapping[str, int]) -> RenderableType:
    if not dropped:
        return Text("nothing dropped", style="dim")
    table = Table("dropped because", "events", box=None, pad_edge=False)
    for reason, count in sorted(dropped.items(), key=lambda item: -item[1]):
        table.add_row(Text(reason), str(count))
    return table


def _feed(source: SourceStatistics) -> dict[str, Any]:
    """`messages` is the sum of what follows it, up to `unreadable`."""
    return {
        "state": source.state.value,
        "messages": sum(source.received.values()),
        "decoded": sum(source.decoded.values()),
        "undelivered": source.undelivered,
        "shed": dict(sorted(source.shed.items())),
        "unknown": dict(sorted(source.unknown.items())),
        "duplicates": source.duplicates,
        "unreadable": source.unreadable,
        "malformed": source.malformed,
        "reconnects": source.reconnects,
    }


def _percentiles(delay: Histogram) -> dict[str, float | None]:
    return {
        "p50": delay.p50 if delay.count else None,
        "p95": delay.p95 if delay.count else None,
    }


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
