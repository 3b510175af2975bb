"""What a cache keeps for one key, and the two marks every part of the cache reads.

An entry is written under the cache's lock and read without it, so the order of writes matters:

* A writer that replaces a value writes `value` first and `fresh_until` last. A reader looks at
  `fresh_until` first and takes `value` last. So a reader never gets the old value by the new
  deadline; it may get the new value by the old deadline, which is a hit a moment early.
* A dead entry (removed from the cache) loses its `value` slot, so that a value is freed at once
  even while a queue of the eviction policy still holds the entry. A reader that already passed
  the deadline then meets an AttributeError and starts again. Dead entries never come back to
  life: a key that returns gets a new entry.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

__all__ = ["DEAD", "NEVER", "Entry", "FullEntry", "Limits"]

Limits = tuple[float, "float | None"]
"""The ttl and the idle time of an entry, in seconds."""

DEAD = -math.inf  # the `fresh_until` of an entry that was removed
NEVER = math.inf  # the deadline of an entry that does not expire


class Entry:
    """A value with its deadlines. Created bare, for speed: the cache fills the slots it needs.

    Attributes:
        value: What `get` returns; no longer there once the entry is dead.
        key: The key.
        fresh_until: Until this moment a hit asks nothing more. The deadline, or if there is an
            `idle` limit, which moves the deadline with every hit, a lower bound of it.
        touched_at: When it was last read or written: recency, and the start of `idle`.
        idle: Seconds it may go unread, or None.
        expires_at: Only with `idle`: the absolute deadline.
        written_at: FullEntry only: when the value was written, for `refresh_after`.
        tried_at: FullEntry only, once a refresh failed: when.
        weight: FullEntry only: what it counts against `maxsize`.
        seen_at: FullEntry only, for S3-FIFO: when the policy last looked at it.
        probation: FullEntry only, for S3-FIFO: whether it is in the small queue.
    """

    if not TYPE_CHECKING:  # the checkers may take every entry for a full one
        __slots__ = ("expires_at", "fresh_until", "idle", "key", "touched_at", "value")

    value: Any
    key: Any
    fresh_until: float
    touched_at: float
    idle: float | None
    expires_at: float
    written_at: float
    tried_at: float
    weight: float
    seen_at: float
    probation: bool

    def deadline(self) -> float:
        """The moment it expires unless it is read or written before."""
        if self.idle is None:
            return self.fresh_until
        return min(self.expires_at, self.touched_at + self.idle)


class FullEntry(Entry):
    """An entry of a cache that weighs, refreshes or evicts by S3-FIFO: with room for all that."""

    __slots__ = ("probation", "seen_at", "tried_at", "weight", "written_at")
