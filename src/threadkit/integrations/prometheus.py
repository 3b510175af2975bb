"""What a manager and all it owns say of themselves, as metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ImportError as exc:
    raise ImportError(
        "metrics for Prometheus need its client: pip install 'threadkit[prometheus]'"
    ) from exc

from threadkit._cache import CacheStatistics
from threadkit._components import ComponentManager, ComponentReport, ComponentState, ManagerReport
from threadkit._failures import ErrorLog
from threadkit._monitor import GovernorStatistics, ResourceMonitor
from threadkit._pool import Histogram, PoolStatistics
from threadkit._queues import MessageQueue, QueueStatistics

__all__ = ["ManagerCollector"]

# Upper edges in seconds, from a task that hardly waits to one that a person notices.
_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0
)  # fmt: skip


class ManagerCollector(Collector):
    """Every figure of a manager's pools, caches, queues and components, read at each scrape.

    >>> from prometheus_client import CollectorRegistry, generate_latest
    >>> manager = ComponentManager("bot")
    >>> voices = manager.cache("voices", maxsize=10)
    >>> registry = CollectorRegistry()
    >>> registry.register(ManagerCollector(manager))
    >>> _ = voices.get("hello")
    >>> page = generate_latest(registry).decode()
    >>> print([line for line in page.splitlines() if "reads_total{" in line][1])
    threadkit_cache_reads_total{cache="voices",result="miss"} 1.0

    What a group owns is labelled `GROUP/NAME`. Families and their labels are listed in the guide
    on components. A registry takes one collector: further managers join as groups.

    Thread safety: `collect` may be called from any thread.

    Lifetime: reads whatever there is, before the start and after the stop too.

    Args:
        manager: Whose figures to tell.
        queues: Further queues to tell of, under their own names.
        errors: An error log to tell of; None: the manager's.
        monitor: A resource monitor to tell of; None: the manager's.

    Raises:
        ValueError: Two queues have the same name.
        ImportError: On import of this module: prometheus_client is not installed.
    """

    def __init__(
        self,
        manager: ComponentManager,
        *,
        queues: Iterable[MessageQueue[Any]] = (),
        errors: ErrorLog | None = None,
        monitor: ResourceMonitor | None = None,
    ) -> None:
        self._manager = manager
        self._queues: dict[str, MessageQueue[Any]] = {}
        for queue in queues:
            if queue.name in self._queues or queue.name in manager.queues:
                raise ValueError(f"queues must have names of their own, two are {queue.name!r}")
            self._queues[queue.name] = queue
        self._errors = manager.errors if errors is None else errors
        self._monitor = manager.monitor if monitor is None else monitor

    def describe(self) -> Collection[Metric]:
        """Every family without its samples, by which a registry knows a second collector."""
        return _Page().families

    def collect(self) -> Collection[Metric]:
        """Every family with its samples of this moment."""
        page = _Page()
        for path, part in _components_of(self._manager.report()):
            _tell_component(page, path, part)
        for name, pool in self._manager.pools.items():
            _tell_pool(page, name, pool.statistics())
        for name, cache in self._manager.caches.items():
            _tell_cache(page, name, cache.statistics())
        for name, queue in {**self._queues, **self._manager.queues}.items():
            _tell_queue(page, name, queue.statistics())
        if self._errors is not None:
            _tell_errors(page, self._errors)
        if self._monitor is not None:
            _tell_monitor(page, self._monitor)
        if self._manager.governor is not None:
            _tell_governor(page, self._manager.governor.statistics())
        return page.families


@dataclass(frozen=True)
class _Family:
    name: str
    kind: Literal["gauge", "counter", "histogram"]
    text: str
    labels: tuple[str, ...] = ()


_FAMILIES = (
    _Family(
        "component_state", "gauge", "1 for the state a component is in.", ("component", "state")
    ),
    _Family("component_uptime_seconds", "gauge", "Since it became ready.", ("component",)),
    _Family("component_starts", "counter", "Instances there were of a component.", ("component",)),
    _Family("component_restarts", "counter", "Instances that replaced another.", ("component",)),
    _Family("pool_workers", "gauge", "Workers, by what they do.", ("pool", "state")),
    _Family("pool_min_workers", "gauge", "Fewest workers there may be.", ("pool",)),
    _Family("pool_max_workers", "gauge", "Most workers there may be.", ("pool",)),
    _Family("pool_wanted_workers", "gauge", "Workers there may be now.", ("pool",)),
    _Family("pool_queued_tasks", "gauge", "Tasks that wait.", ("pool", "level")),
    _Family("pool_running_tasks", "gauge", "Tasks that have begun and not ended.", ("pool",)),
    _Family("pool_submitted_tasks", "counter", "Tasks accepted.", ("pool",)),
    _Family("pool_rejected_tasks", "counter", "Tasks refused.", ("pool",)),
    _Family("pool_ended_tasks", "counter", "Tasks by what became of them.", ("pool", "outcome")),
    _Family("pool_starts_refused", "counter", "Workers the system refused.", ("pool",)),
    _Family("pool_wait_seconds", "histogram", "From submit to start of a task.", ("pool",)),
    _Family("pool_run_seconds", "histogram", "From start to end of a task.", ("pool",)),
    _Family("cache_entries", "gauge", "Entries held.", ("cache",)),
    _Family("cache_weight", "gauge", "What the entries weigh.", ("cache",)),
    _Family("cache_max_weight", "gauge", "The most they may weigh.", ("cache",)),
    _Family("cache_reads", "counter", "Reads, by what they found.", ("cache", "result")),
    _Family("cache_loads", "counter", "Loads, by how they ended.", ("cache", "result")),
    _Family("cache_load_seconds", "counter", "Spent in loaders.", ("cache",)),
    _Family("cache_stale_served", "counter", "Expired values served after all.", ("cache",)),
    _Family("cache_removed", "counter", "Entries that left, and why.", ("cache", "cause")),
    _Family("cache_rejected", "counter", "Values heavier than the cache.", ("cache",)),
    _Family("queue_waiting", "gauge", "Items inside.", ("queue", "level")),
    _Family("queue_maxsize", "gauge", "Items that may wait; 0: any number.", ("queue",)),
    _Family("queue_oldest_age_seconds", "gauge", "The longest that one has waited.", ("queue",)),
    _Family("queue_blocked", "gauge", "Who waits at an end of it.", ("queue", "end")),
    _Family("queue_puts", "counter", "Items that came in.", ("queue",)),
    _Family("queue_gets", "counter", "Items handed to a consumer.", ("queue",)),
    _Family("queue_dropped", "counter", "Items without a consumer, and why.", ("queue", "reason")),
    _Family("queue_merged", "counter", "Items merged into a waiting one.", ("queue",)),
    _Family("queue_rejected", "counter", "Puts refused for want of room.", ("queue",)),
    _Family("failures", "counter", "Failures recorded, by grade.", ("severity",)),
    _Family("failure_groups", "gauge", "Different failures remembered."),
    _Family("failures_unrecorded", "counter", "Failures that could not be recorded."),
    _Family("failure_events", "counter", "Failures told to a sink or not.", ("sink", "outcome")),
    _Family("resource_used", "gauge", "What is used, in the metric's unit.", ("metric",)),
    _Family("resource_limit", "gauge", "What there is of it.", ("metric",)),
    _Family("resource_level", "gauge", "0 is OK, 1 WARN, 2 CRITICAL.", ("metric",)),
    _Family("monitor_samples", "counter", "Samples taken."),
    _Family("governor_level", "gauge", "0 is OK, 1 WARN, 2 CRITICAL."),
    _Family("governor_frozen", "gauge", "1 while it changes nothing on purpose."),
    _Family("governor_changes", "counter", "Sizes changed."),
    _Family("governor_stale", "counter", "Samples too old to act upon."),
    _Family("monitor_errors", "counter", "Readings and listeners that raised.", ("kind",)),
)

_KINDS = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
}


class _Page:
    """All families, to be filled in one scrape."""

    def __init__(self) -> None:
        self._by_name: dict[str, Any] = {
            family.name: _KINDS[family.kind](
                f"threadkit_{family.name}", family.text, labels=family.labels
            )
            for family in _FAMILIES
        }

    @property
    def families(self) -> Collection[Metric]:
        return self._by_name.values()

    def add(self, family: str, value: float, *labels: str) -> None:
        self._by_name[family].add_metric(labels, value)

    def add_histogram(self, family: str, histogram: Histogram, *labels: str) -> None:
        buckets = [(str(edge), float(histogram.at_most(edge))) for edge in _BUCKETS]
        buckets.append(("+Inf", float(histogram.count)))
        self._by_name[family].add_metric(labels, buckets, sum_value=histogram.total)


def _components_of(
    report: ManagerReport, prefix: str = ""
) -> Iterator[tuple[str, ComponentReport]]:
    """Every component with its path, each group before its members."""
    for part in report.components:
        yield prefix + part.name, part
        if part.group is not None:
            yield from _components_of(part.group, f"{prefix}{part.name}/")


def _tell_component(page: _Page, path: str, part: ComponentReport) -> None:
    for state in ComponentState:
        page.add("component_state", part.state is state, path, state.value)
    page.add("component_uptime_seconds", part.uptime, path)
    page.add("component_starts", part.generation, path)
    page.add("component_restarts", part.restarts, path)


def _tell_pool(page: _Page, name: str, now: PoolStatistics) -> None:
    for state in ("busy", "idle", "abandoned"):
        page.add("pool_workers", getattr(now, state), name, state)
    page.add("pool_min_workers", now.min_workers, name)
    page.add("pool_max_workers", now.max_workers, name)
    page.add("pool_wanted_workers", now.wanted, name)
    for level, queued in enumerate(now.queued):
        page.add("pool_queued_tasks", queued, name, str(level))
    page.add("pool_running_tasks", now.running, name)
    page.add("pool_submitted_tasks", now.submitted, name)
    page.add("pool_rejected_tasks", now.rejected, name)
    outcomes = (
        "completed", "failed", "cancelled", "expired", "timed_out", "dropped", "superseded"
    )  # fmt: skip
    for outcome in outcomes:
        page.add("pool_ended_tasks", getattr(now, outcome), name, outcome)
    page.add("pool_starts_refused", now.starts_refused, name)
    page.add_histogram("pool_wait_seconds", now.wait, name)
    page.add_histogram("pool_run_seconds", now.run, name)


def _tell_cache(page: _Page, name: str, now: CacheStatistics) -> None:
    page.add("cache_entries", now.entries, name)
    page.add("cache_weight", now.weight, name)
    page.add("cache_max_weight", now.maxsize, name)
    page.add("cache_reads", now.hits, name, "hit")
    page.add("cache_reads", now.misses, name, "miss")
    page.add("cache_loads", now.loads, name, "loaded")
    page.add("cache_loads", now.load_failures, name, "failed")
    page.add("cache_load_seconds", now.load_time, name)
    page.add("cache_stale_served", now.stale_served, name)
    for cause in ("expired", "evicted", "replaced", "deleted", "cleared"):
        page.add("cache_removed", getattr(now, cause), name, cause)
    page.add("cache_rejected", now.rejected, name)


def _tell_queue(page: _Page, name: str, now: QueueStatistics) -> None:
    for level, waiting in enumerate(now.waiting_by_level):
        page.add("queue_waiting", waiting, name, str(level))
    page.add("queue_maxsize", now.maxsize, name)
    page.add("queue_oldest_age_seconds", now.oldest_age, name)
    page.add("queue_blocked", now.blocked_gets, name, "get")
    page.add("queue_blocked", now.blocked_puts, name, "put")
    page.add("queue_puts", now.puts, name)
    page.add("queue_gets", now.gets, name)
    for reason, dropped in now.drops.items():
        page.add("queue_dropped", dropped, name, reason)
    page.add("queue_merged", now.merged, name)
    page.add("queue_rejected", now.rejected, name)


def _tell_errors(page: _Page, errors: ErrorLog) -> None:
    now = errors.statistics()
    for severity, count in now.by_severity.items():
        page.add("failures", count, severity.name.lower())
    page.add("failure_groups", now.groups)
    page.add("failures_unrecorded", now.unrecorded)
    for sink in now.sinks:
        for outcome in ("delivered", "failed", "suppressed", "dropped"):
            page.add("failure_events", getattr(sink, outcome), sink.name, outcome)


def _tell_monitor(page: _Page, monitor: ResourceMonitor) -> None:
    now, latest = monitor.statistics(), monitor.latest
    for metric, reading in latest.readings.items() if latest else ():
        page.add("resource_used", reading.used, metric)
        if reading.limit is not None:
            page.add("resource_limit", reading.limit, metric)
    for metric, level in now.levels.items():
        page.add("resource_level", level, metric)
    page.add("monitor_samples", now.samples)
    page.add("monitor_errors", now.read_errors, "read")
    page.add("monitor_errors", now.listener_errors, "listener")


def _tell_governor(page: _Page, now: GovernorStatistics) -> None:
    page.add("governor_level", now.level)
    page.add("governor_frozen", now.frozen is not None)
    page.add("governor_changes", now.changes)
    page.add("governor_stale", now.stale)
