"""The machine under the bot: what runs short, who must shrink for it, and who is stuck."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from threadkit import (
    REAL,
    DynamicThreadPool,
    Governor,
    GovernorEvent,
    ResourceChange,
    ResourceMonitor,
    Runtime,
    TTLCache,
    Watchdog,
)

__all__ = ["Resources"]

logger = logging.getLogger("livebot.resources")

_PERIOD = 2.0  # seconds between two looks at the machine; its forecasts look three minutes ahead
_WATCHED = ("memory", "files", "disk")


class Resources:
    """Looks at memory, open files and disk; near their end, caches shrink and pools stop growing.

    Work that is guarded by `watchdog` and gives no sign of life for `stall` seconds is named in the
    log with the line it stands at.

    Thread safety: every method may be called from any thread.

    Lifetime: a component.

    Args:
        pools: Those that must not grow when memory is short, by name.
        caches: Those that must shrink then.
        stall: Seconds without a sign of life.
        monitor: Reads what is used; None: one for this machine.
        runtime: Where clocks, locks and threads come from.
    """

    def __init__(
        self,
        *,
        pools: Mapping[str, DynamicThreadPool],
        caches: Mapping[str, TTLCache[Any, Any]],
        stall: float,
        monitor: ResourceMonitor | None = None,
        runtime: Runtime = REAL,
    ) -> None:
        self.monitor = monitor or ResourceMonitor(
            period=_PERIOD, name="livebot-monitor", runtime=runtime
        )
        self.watches = {
            metric: self.monitor.watch(metric, on_change=_tell_change) for metric in _WATCHED
        }
        self.governor = Governor(self.monitor, on_event=_tell_resize, runtime=runtime)
        for name, pool in pools.items():
            self.governor.pool(name, pool)
        for name, cache in caches.items():
            self.governor.cache(name, cache)
        self.watchdog = Watchdog(stall, name="livebot-watchdog", runtime=runtime)

    def start(self, ctx: object = None, /) -> None:
        """Look from now on."""
        del ctx
        self.watchdog.start()
        self.governor.start()
        self.monitor.start()

    def stop(self, ctx: object = None, /) -> None:
        """Look no longer; pools and caches get their own sizes back."""
        del ctx
        self.monitor.stop()
        self.governor.stop()
        self.watchdog.stop()


def _tell_change(change: ResourceChange) -> None:
    level = logging.WARNING if change.level > change.previous else logging.INFO
    reading = change.reading
    share = f"{reading.used / reading.limit:.0%}" if reading.limit else f"{reading.used:g}"
    logger.log(level, "%s is %s: %s in use", change.metric, change.level.name, share)


def _tell_resize(event: GovernorEvent) -> None:
    logger.debug("%s %s: %g -> %g (%s)", event.kind, event.name, event.old, event.new, event.reason)
