"""ResourceMonitor: what the process and its machine use, and when that comes to an end.

* `_readings`: one reading, and the system's readings through psutil.
* `_forecast`: when a growing series reaches its limit, if it really grows.
* `_levels`: how bad a reading is, with hysteresis.
* `_monitor`: `ResourceMonitor`, the thread that samples and tells.
"""

from threadkit._monitor._forecast import Forecast
from threadkit._monitor._levels import ResourceChange, ResourceLevel, Watch
from threadkit._monitor._monitor import MonitorStatistics, ResourceMonitor, ResourceSample
from threadkit._monitor._readings import Reading, SystemReadings

__all__ = [
    "Forecast",
    "MonitorStatistics",
    "Reading",
    "ResourceChange",
    "ResourceLevel",
    "ResourceMonitor",
    "ResourceSample",
    "SystemReadings",
    "Watch",
]
