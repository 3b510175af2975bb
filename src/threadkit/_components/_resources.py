"""The monitor, governor and watchdog of a manager: begun before its parts, ended after them."""

from __future__ import annotations

from math import inf

from threadkit._components._registry import Registry
from threadkit._monitor import Governor, ResourceMonitor, Watchdog


class Resources:
    """What watches over a manager's pools and caches, which are handed over at each start.

    Thread safety: `begin` and `end` belong on the thread that starts or stops the manager, for the
    governor calls the subscribers of pools; `ready`, `leave` and `over` never block.
    """

    def __init__(
        self,
        name: str,
        registry: Registry,
        *,
        monitor: ResourceMonitor | None,
        governor: Governor | None,
        watchdog: Watchdog | None,
    ) -> None:
        if governor is not None and monitor not in (None, governor.monitor):
            raise ValueError("governor must go by the samples of monitor, not by another's")
        self.monitor = monitor if governor is None else governor.monitor
        self.governor = governor
        self.watchdog = watchdog
        self._registry = registry
        self._starting, self._stopping = f"{name} is starting", f"{name} is stopping"
        self._has_monitor = self._has_watchdog = False  # it was begun here, so it ends here
        self._governed: list[str] = []
        self._watched: list[str] = []

    def begin(self) -> None:
        """Watch from now on; sizes stay as they are until all is ready.

        Raises:
            RuntimeError: The system refuses a thread.
        """
        if self.governor is not None:
            self.governor.freeze(self._starting)
            self._hand_over(self.governor)
            self.governor.start()
        if self.watchdog is not None:
            for name, pool in self._registry.pools.items():
                self.watchdog.watch_pool(name, pool)
                self._watched.append(name)
            self._has_watchdog = not self.watchdog.statistics().running
            self.watchdog.start()
        if self.monitor is not None:
            self._has_monitor = not self.monitor.statistics().running
            self.monitor.start()

    def _hand_over(self, governor: Governor) -> None:
        """What its owner has registered by hand, with a floor of its own, stays as it is."""
        by_hand = governor.names
        for name, pool in self._registry.pools.items():
            if name not in by_hand:
                governor.pool(name, pool)
                self._governed.append(name)
        for name, cache in self._registry.caches.items():
            if name not in by_hand and cache.maxsize != inf:
                governor.cache(name, cache)
                self._governed.append(name)

    def ready(self) -> None:
        """All parts are ready: sizes may change."""
        if self.governor is not None:
            self.governor.thaw(self._starting)

    def leave(self) -> None:
        """The parts are being stopped: sizes stay as they are."""
        if self.governor is not None:
            self.governor.freeze(self._stopping)

    def over(self) -> None:
        """The parts have stopped; perhaps nobody calls `end`."""
        if self.monitor is not None and self._has_monitor:
            self.monitor.stop(timeout=0)
        if self.watchdog is not None and self._has_watchdog:
            self.watchdog.stop(timeout=0)

    def end(self, timeout: float) -> None:
        """Give everything its own size back, and end the threads that were begun here.

        Blocks: at most `timeout` seconds for each thread that a listener of the user's holds.
        """
        if self.governor is not None:
            self.governor.stop()
            self.governor.thaw(self._starting)
            self.governor.thaw(self._stopping)
            governed, self._governed = self._governed, []
            for name in governed:
                self.governor.forget(name)
        if self.watchdog is not None:
            watched, self._watched = self._watched, []
            for name in watched:
                self.watchdog.forget_pool(name)
            if self._has_watchdog:
                self.watchdog.stop(timeout)
        if self.monitor is not None and self._has_monitor:
            self.monitor.stop(timeout)
        self._has_monitor = self._has_watchdog = False
