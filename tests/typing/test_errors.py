"""Checked by mypy and pyright, not run."""

from typing_extensions import assert_type

from threadkit import QueueFull, Severity, StartupError


def facts_are_typed(full: QueueFull, startup: StartupError) -> None:
    assert_type(full.maxsize, int)
    assert_type(full.severity, Severity)
    assert_type(startup.failed["audio"], Exception)
