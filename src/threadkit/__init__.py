"""threadkit: the concurrency toolkit for long-running Python programs built of threads.

The rooms, from the bottom up; everything public is imported from here:

* `_errors`: what can go wrong, graded by who must act.
* `_runtime`: the seam to clock, locks and threads; tests run on `threadkit.testing.SimRuntime`.
* `_failures`: exceptions with their story, grades for any of them, the log they all come to.
* `_queues`: `MessageQueue`, between threads and coroutines, whose every drop is counted.
* `_cache`: TTLCache, which reads without a lock and loads a key once; a tier of files behind it.
* `threadkit.sizing` (imported by its own name): how many workers a pool should have.
* `_futures`: the light Future that pools hand out.
* `_pool`: DynamicThreadPool, the executor whose number of threads follows the work.
* `_platform`: the only room that asks what platform this is.
* `_components`: ComponentManager, which starts parts in order and stops them in reverse.
* `testing` (public, imported by itself): deterministic tests of threaded code, ours and yours.
"""

from threadkit._cache import (
    CacheStatistics,
    FileTier,
    FileTierStatistics,
    RemovalCause,
    TieredCache,
    TieredStatistics,
    TTLCache,
    cached,
)
from threadkit._components import (
    Component,
    ComponentManager,
    ComponentReport,
    ComponentState,
    Context,
    Handle,
    ManagerReport,
)
from threadkit._errors import (
    CacheError,
    DependencyCycle,
    Exhausted,
    LifecycleError,
    LoadCycle,
    LoadFailed,
    LoadTimeout,
    NearExhaustion,
    PoolClosed,
    PoolError,
    QueueClosed,
    QueueEmpty,
    QueueError,
    QueueFull,
    Rejected,
    ResourceError,
    RestartsExhausted,
    Retry,
    Severity,
    StartupError,
    StopTimeout,
    StorageFailed,
    Superseded,
    TaskCancelled,
    TaskError,
    TaskStale,
    TaskTimeout,
    ThreadkitError,
    WorkerLost,
)
from threadkit._failures import (
    ErrorLog,
    ErrorLogStatistics,
    Failure,
    FailureEvent,
    FailureGroup,
    JsonLinesSink,
    LoggingSink,
    SinkStatistics,
    Verdict,
    classify,
    register_verdict,
)
from threadkit._futures import Future
from threadkit._pool import (
    DynamicThreadPool,
    Histogram,
    PoolStatistics,
    PoolView,
    ShutdownReport,
    SizeChange,
    Task,
    current_task,
)
from threadkit._queues import DropReason, MessageQueue, Overflow, QueueStatistics
from threadkit._runtime import REAL, Runtime

__version__ = "0.1.0"

__all__ = [
    "REAL",
    "CacheError",
    "CacheStatistics",
    "Component",
    "ComponentManager",
    "ComponentReport",
    "ComponentState",
    "Context",
    "DependencyCycle",
    "DropReason",
    "DynamicThreadPool",
    "ErrorLog",
    "ErrorLogStatistics",
    "Exhausted",
    "Failure",
    "FailureEvent",
    "FailureGroup",
    "FileTier",
    "FileTierStatistics",
    "Future",
    "Handle",
    "Histogram",
    "JsonLinesSink",
    "LifecycleError",
    "LoadCycle",
    "LoadFailed",
    "LoadTimeout",
    "LoggingSink",
    "ManagerReport",
    "MessageQueue",
    "NearExhaustion",
    "Overflow",
    "PoolClosed",
    "PoolError",
    "PoolStatistics",
    "PoolView",
    "QueueClosed",
    "QueueEmpty",
    "QueueError",
    "QueueFull",
    "QueueStatistics",
    "Rejected",
    "RemovalCause",
    "ResourceError",
    "RestartsExhausted",
    "Retry",
    "Runtime",
    "Severity",
    "ShutdownReport",
    "SinkStatistics",
    "SizeChange",
    "StartupError",
    "StopTimeout",
    "StorageFailed",
    "Superseded",
    "TTLCache",
    "Task",
    "TaskCancelled",
    "TaskError",
    "TaskStale",
    "TaskTimeout",
    "ThreadkitError",
    "TieredCache",
    "TieredStatistics",
    "Verdict",
    "WorkerLost",
    "cached",
    "classify",
    "current_task",
    "register_verdict",
]
