"""Policies by name, for `DynamicThreadPool(policy=...)` and command lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from threadkit.sizing._adaptive import Adaptive
from threadkit.sizing._combinators import GilAware
from threadkit.sizing._demand import LittlesLaw, QueueDelay
from threadkit.sizing._hill import HillClimbing
from threadkit.sizing._limits import Aimd, Gradient, Vegas
from threadkit.sizing._simple import Fixed, KeepAlive, QueueThreshold
from threadkit.sizing._snapshot import SizingPolicy
from threadkit.sizing._stall import StallAware

__all__ = ["POLICIES", "policy"]

POLICIES: Mapping[str, Callable[[], SizingPolicy]] = {
    "adaptive": Adaptive,
    "aimd": Aimd,
    "fixed": Fixed,
    "gil_aware": lambda: GilAware(KeepAlive()),
    "gradient": Gradient,
    "hill_climbing": HillClimbing,
    "keep_alive": KeepAlive,
    "littles_law": LittlesLaw,
    "queue_delay": QueueDelay,
    "queue_threshold": QueueThreshold,
    "stall_aware": StallAware,
    "vegas": Vegas,
}
"""Every policy that has a name, with the arguments it has by default."""


def policy(name_or_object: str | SizingPolicy) -> SizingPolicy:
    """The policy of that name, new and with its defaults; an object is given back as it is.

    >>> policy("keep_alive")
    KeepAlive(idle_timeout=None)

    Args:
        name_or_object: A key of `POLICIES`, or anything with a `decide(snapshot)` method.

    Raises:
        ValueError: No policy has that name.
        TypeError: It is neither a name nor an object that decides.
    """
    if isinstance(name_or_object, str):
        if name_or_object not in POLICIES:
            allowed = ", ".join(sorted(POLICIES))
            raise ValueError(f"no policy is named {name_or_object!r}; there are: {allowed}")
        return POLICIES[name_or_object]()
    if isinstance(name_or_object, type):
        raise TypeError(f"policy must be an object, not a class: {name_or_object.__name__}()")
    if not isinstance(name_or_object, SizingPolicy):
        raise TypeError(
            f"policy must be a name ({', '.join(sorted(POLICIES))}) or an object with "
            f"decide(snapshot), not {name_or_object!r}"
        )
    return name_or_object
