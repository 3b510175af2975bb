"""The checks every argument of a cache goes through."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["a_callable", "a_capacity", "a_count", "a_mapping", "seconds"]


def _number(name: str, given: Any, wanted: str) -> float:
    if isinstance(given, bool) or not isinstance(given, numbers.Real):
        raise TypeError(f"{name} must be {wanted}, not {given!r}")
    if given <= 0 or given != given:  # noqa: PLR0124 - NaN is not itself
        raise ValueError(f"{name} must be {wanted}, not {given!r}")
    try:
        float(given)
    except OverflowError:
        return math.inf  # more than any clock or memory can count
    return given  # type: ignore[return-value]


def seconds(name: str, given: float) -> float:
    """A positive duration; infinity is one."""
    return float(_number(name, given, "a positive number of seconds (math.inf for ever)"))


def a_capacity(name: str, given: float) -> float:
    """A positive size; infinity is one."""
    return _number(name, given, "a positive number (math.inf for no bound)")


def a_count(name: str, given: int) -> int:
    """A whole number, zero or more."""
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{name} must be a whole number, not {given!r}")
    if given < 0:
        raise ValueError(f"{name} must be 0 or more, not {given!r}")
    return given


def a_callable(name: str, given: Any) -> Callable[..., Any]:
    """Something that can be called."""
    if not callable(given):
        raise TypeError(f"{name} must be callable, not {given!r}")
    return given  # type: ignore[no-any-return]


def a_mapping(given: Any) -> Mapping[Any, Any]:
    """What a bulk loader returned."""
    is_mapping = isinstance(given, Mapping)
    if not is_mapping:
        raise TypeError(f"bulk_loader must return a mapping, not {given!r}")
    return given  # type: ignore[no-any-return]
