"""Checked by mypy and pyright, not run."""

from typing_extensions import assert_type

from threadkit import (
    DynamicThreadPool,
    Governor,
    Reading,
    ResourceChange,
    ResourceLevel,
    ResourceMonitor,
    TTLCache,
)


def readings_are_typed(monitor: ResourceMonitor) -> None:
    assert_type(monitor.sample().readings["rss"].ratio, float | None)
    assert_type(monitor.statistics().levels["rss"], ResourceLevel)
    monitor.watch("rss", on_change=heard)
    monitor.watch("rss", on_change=print)
    with ResourceMonitor(sources={"slots": lambda: Reading(1.0)}) as running:
        assert_type(running, ResourceMonitor)


def heard(change: ResourceChange) -> None:
    assert_type(change.level, ResourceLevel)
    assert_type(change.seconds_left, float)


def pools_and_caches_can_be_governed(
    governor: Governor, pool: DynamicThreadPool, cache: TTLCache[str, int]
) -> None:
    governor.pool("work", pool)
    governor.cache("answers", cache)
    assert_type(governor.statistics().events[0].old, float)
