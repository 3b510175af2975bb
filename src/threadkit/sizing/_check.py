"""Argument checks of the policies: errors that name the argument and what it may be."""

from __future__ import annotations

import math
from typing import TypeVar

Number = TypeVar("Number", int, float)


def at_least(name: str, value: Number, least: float) -> Number:
    """The value, or a ValueError if it is below `least` (or no number)."""
    if not value >= least:
        raise ValueError(f"{name} must be at least {least:g}, not {value!r}")
    return value


def positive(name: str, value: float) -> float:
    """The value, or a ValueError if it is not a finite number above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, not {value!r}")
    return value
