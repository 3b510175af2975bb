"""What a pool is made with, and the checks of it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from threadkit._failures import ErrorLog
from threadkit._runtime import Runtime
from threadkit.sizing import SizingPolicy

__all__ = [
    "AtExit",
    "Overflow",
    "Settings",
    "bounded",
    "check_limits",
    "check_priority",
    "check_seconds",
    "check_settings",
]

Overflow = Literal["block", "reject", "drop_oldest", "drop_lowest", "caller_runs"]
AtExit: TypeAlias = "Literal['wait', 'abandon'] | float"


class Settings(NamedTuple):
    """What a pool is made with."""

    name: str
    min_workers: int
    max_workers: int
    policy: SizingPolicy
    queue_limit: int | None
    overflow: Overflow
    overflow_timeout: float | None
    levels: int
    ageing: float
    check_interval: float
    idle_timeout: float
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    errors: ErrorLog | None
    propagate_context: bool
    at_exit: AtExit
    cores: float
    runtime: Runtime


def check_settings(settings: Settings) -> None:
    """Raise the error that says what is wrong, and what would be right."""
    check_limits(settings.min_workers, settings.max_workers)
    check_seconds("ageing", settings.ageing, needed=True)
    check_seconds("check_interval", settings.check_interval, positive=True, needed=True)
    check_seconds("idle_timeout", settings.idle_timeout, needed=True)
    check_seconds("overflow_timeout", settings.overflow_timeout)
    if settings.levels < 1:
        raise ValueError(f"levels must be 1 or more, not {settings.levels}")
    if settings.queue_limit is not None and settings.queue_limit < 1:
        raise ValueError(f"queue_limit must be 1 or more, or None, not {settings.queue_limit}")
    if settings.overflow not in get_args(Overflow):
        allowed = ", ".join(map(repr, get_args(Overflow)))
        raise ValueError(f"overflow must be one of {allowed}, not {settings.overflow!r}")
    if settings.initializer is not None and not callable(settings.initializer):
        raise TypeError("initializer must be a callable")
    if isinstance(settings.at_exit, str):
        if settings.at_exit not in ("wait", "abandon"):
            raise ValueError(
                f"at_exit must be 'wait', 'abandon' or seconds, not {settings.at_exit!r}"
            )
    else:
        check_seconds("at_exit", settings.at_exit, needed=True)


def check_limits(min_workers: int, max_workers: int) -> None:
    """Raise the error that says what is wrong with these limits."""
    for name, value in (("min_workers", min_workers), ("max_workers", max_workers)):
        if not isinstance(value, int):
            raise TypeError(f"{name} must be an int, not {value!r}")
    if max_workers <= 0:
        raise ValueError("max_workers must be greater than 0")
    if not 0 <= min_workers <= max_workers:
        raise ValueError(
            f"min_workers must be between 0 and max_workers ({max_workers}), not {min_workers}"
        )


def bounded(timeout: float | None) -> float | None:
    """The timeout, but None (no end) for one that is longer than a lock can wait."""
    return None if timeout is None or timeout > threading.TIMEOUT_MAX else timeout


def check_seconds(
    name: str, value: float | None, *, positive: bool = False, needed: bool = False
) -> None:
    """Raise the error that says what is wrong with this duration.

    None is one that never ends, unless a number is `needed`.
    """
    if value is None and not needed:
        return
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be seconds, not {value!r}")
    if math.isnan(value) or value < 0 or (positive and value == 0):
        least = "more than 0" if positive else "0 or more"
        raise ValueError(f"{name} must be {least} seconds, not {value!r}")


def check_priority(priority: int, levels: int) -> None:
    """Raise the ValueError that says which levels there are."""
    if not 0 <= priority < levels:
        raise ValueError(
            f"priority must be between 0 and {levels - 1} (levels={levels}), not {priority!r}"
        )
