"""Checked by mypy and pyright, not run."""

from typing_extensions import assert_type

from threadkit import Reading, ResourceChange, ResourceLevel, ResourceMonitor


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
