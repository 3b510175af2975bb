"""The machine under the bot: what runs short, who must shrink for it, and who is stuck."""

from __future__ import annotations

import logging

from threadkit import (
    REAL,
    Governor,
    GovernorEvent,
    ResourceChange,
    ResourceMonitor,
    Runtime,
    Watchdog,
)

__all__ = ["Resources"]

logger = logging.getLogger("livebot.resources")

_PERIOD = 2.0  # seconds between two looks at the machine; its forecasts look three minutes ahead
_WATCHED = ("memory", "files", "disk")


class Resources:
    """Looks at memory, open files and disk; near their end, caches shrink and pools stop growing.

    Work on a pool that gives no sign of life for `stall` seconds is named in the log with the line
    it stands at.

    Lifetime: `governor` and `watchdog` are handed to a `ComponentManager`, which starts and stops
    them and lets them know its pools and caches.

    Args:
        stall: Seconds without a sign of life.
        monitor: Reads what is used; None: one for this machine.
        runtime: Where clocks, locks and threads come from.
    """

    def __init__(
        self, *, stall: float, monitor: ResourceMonitor | None = None, runtime: Runtime = REAL
    ) -> None:
        self.monitor = monitor or ResourceMonitor(
            period=_PERIOD, name="livebot-monitor", runtime=runtime
        )
        self.watches = {
            metric: self.monitor.watch(metric, on_change=_tell_change) for metric in _WATCHED
        }
        self.governor = Governor(self.monitor, on_event=_tell_resize, runtime=runtime)
        self.watchdog = Watchdog(stall, name="livebot-watchdog", runtime=runtime)


def _tell_change(change: ResourceChange) -> None:
    level = logging.WARNING if change.level > change.previous else logging.INFO
    reading = change.reading
    share = f"{reading.used / reading.limit:.0%}" if reading.limit else f"{reading.used:g}"
    logger.log(level, "%s is %s: %s in use", change.metric, change.level.name, share)


def _tell_resize(event: GovernorEvent) -> None:
    logger.debug("%s %s: %g -> %g (%s)", event.kind, event.name, event.old, event.new, event.reason)
