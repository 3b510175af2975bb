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
from typing import Any

__all__ = ["DEAD", "NEVER", "Entry"]

DEAD = -math.inf  # the `fresh_until` of an entry that was removed
NEVER = math.inf  # the deadline of an entry that does not expire


class Entry:
    """A value with its deadlines. Created bare, for speed: the cache fills every slot.

    Attributes:
        value: What `get` returns; no longer there once the entry is dead.
        fresh_until: Until this moment a hit asks nothing more. Never later than the true
            deadline, which an `idle` limit moves with every hit.
        touched_at: When it was last read or written: recency, and the start of `idle`.
        key: The key.
        written_at: When the value was written.
        expires_at: The absolute deadline.
        idle: Seconds it may go unread, or None.
        weight: What it counts against `maxsize`.
        seen_at: S3-FIFO only: when the policy last looked at it.
        probation: S3-FIFO only: whether it is in the small queue.
    """

    __slots__ = (
        "expires_at",
        "fresh_until",
        "idle",
        "key",
        "probation",
        "seen_at",
        "touched_at",
        "value",
        "weight",
        "written_at",
    )

    value: Any
    fresh_until: float
    touched_at: float
    key: Any
    written_at: float
    expires_at: float
    idle: float | None
    weight: float
    seen_at: float
    probation: bool

    def deadline(self) -> float:
        """The moment it expires unless it is read or written before."""
        if self.idle is None:
            return self.expires_at
        return min(self.expires_at, self.touched_at + self.idle)
