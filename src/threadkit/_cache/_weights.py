"""Weights whose sums are exact, however often they are added and taken away.

Floats are rounded when they are added, and a total that goes up and down for months drifts away
from what is there: a cache then evicts too early, or keeps too much, and is not at 0 when it is
empty. But sums of multiples of one power of two are exact while they fit the 53 bits of a float. So
a float counts as whole grains, rounded down, of less than 1e-14 of the bound each, which leaves
room for totals of 32 times the bound. Whole numbers count as they are.
"""

from __future__ import annotations

import math

__all__ = ["grain_of", "in_grains"]

_BITS = 48  # of the bound, in grains; a float has 53
_UNBOUNDED = 2.0**28  # taken for the bound of what has none: grains of 4e-9, exact up to 8 billion


def grain_of(bound: float) -> float:
    """The grain, a power of two, of weights that are summed up to `bound`.

    >>> grain_of(1.0) == 2**-47, grain_of(10**9) == 2**-18
    (True, True)
    """
    _, exponent = math.frexp(_UNBOUNDED if bound == math.inf else bound)
    return math.ldexp(1.0, exponent - _BITS)  # 0 near the smallest floats, which add up exactly


def in_grains(weight: float, grain: float) -> float:
    """`weight` as whole grains, or if grains are more than 1, as a whole number.

    >>> in_grains(0.7, 0.25), in_grains(3, 0.25), in_grains(3.7, 16.0)
    (0.5, 3, 3)
    """
    if isinstance(weight, int) or not grain:
        return weight
    return int(weight) if grain >= 1 else weight - math.fmod(weight, grain)
