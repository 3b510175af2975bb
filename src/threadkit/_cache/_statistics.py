"""What a cache counts, and why entries leave it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["CacheStatistics", "RemovalCause"]


class RemovalCause(str, enum.Enum):
    """Why an entry is no longer in the cache. Compares equal to its name in lower case."""

    EXPIRED = "expired"
    """Its `ttl` or `idle` ran out."""
    EVICTED = "evicted"
    """It made room for another."""
    REPLACED = "replaced"
    """Its key was put again."""
    DELETED = "deleted"
    """`del`, `pop` or `invalidate_if` asked for it."""
    CLEARED = "cleared"
    """`clear` asked for all."""
    REJECTED = "rejected"
    """It weighs more than the whole cache and never was in it."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class CacheStatistics:
    """What a cache did since it was made.

    With a GIL every count is exact. Without one `hits` and `misses` may miss some that happened at
    the same moment in two threads: no hit takes a lock to be counted.

    Attributes:
        hits: Reads (`get`, `[]`, `load`, `get_many`, ...) that found a live entry.
        misses: Those that did not. `in` and `peek` count as neither.
        loads: Loaders that returned, refreshes included.
        load_failures: Loaders that raised.
        load_time: Seconds spent in loaders, the failed ones included.
        stale_served: Expired values served because their loader failed (`stale_if_error`).
        expired: Entries whose `ttl` or `idle` ran out, counted when they are removed.
        evicted: Entries that made room for others.
        replaced: Values overwritten.
        deleted: Entries removed by `del`, `pop`, `popitem` or `invalidate_if`.
        cleared: Entries removed by `clear`.
        rejected: Values that weigh more than the whole cache.
        listener_errors: Calls of `on_remove` that raised.
        entries: Entries held now; those that expired but were not met yet are among them.
        weight: What they weigh; without a weigher, how many they are.
        maxsize: The most they may weigh.
    """

    hits: int
    misses: int
    loads: int
    load_failures: int
    load_time: float
    stale_served: int
    expired: int
    evicted: int
    replaced: int
    deleted: int
    cleared: int
    rejected: int
    listener_errors: int
    entries: int
    weight: float
    maxsize: float

    @property
    def hit_ratio(self) -> float:
        """Hits over reads; 0 before the first."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else 0.0
