"""ResourceMonitor: what the process and its machine use, and when that comes to an end.

* `_readings`: one reading, and the system's readings through psutil.
* `_forecast`: when a growing series reaches its limit, if it really grows.
* `_alarms`: samples that are due at once.
* `_levels`: how bad a reading is, with hysteresis.
* `_governor`: `Governor`, which changes the sizes of pools and caches.
* `_monitor`: `ResourceMonitor`, the thread that samples and tells.
* `_watchdog`: `Watchdog`, which says who gives no sign of life, and where it stands.
* `_pool_watch`: which tasks of a pool have run too long.
"""

from threadkit._monitor._forecast import Forecast
from threadkit._monitor._governor import (
    Governor,
    GovernorEvent,
    GovernorStatistics,
)
from threadkit._monitor._levels import ResourceChange, ResourceLevel, Watch
from threadkit._monitor._monitor import MonitorStatistics, ResourceMonitor, ResourceSample
from threadkit._monitor._readings import Reading, SystemReadings
from threadkit._monitor._watchdog import Stall, Watchdog, WatchdogStatistics

__all__ = [
    "Forecast",
    "Governor",
    "GovernorEvent",
    "GovernorStatistics",
    "MonitorStatistics",
    "Reading",
    "ResourceChange",
    "ResourceLevel",
    "ResourceMonitor",
    "ResourceSample",
    "Stall",
    "SystemReadings",
    "Watch",
    "Watchdog",
    "WatchdogStatistics",
]
