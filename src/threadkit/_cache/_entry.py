"""What a cache keeps for one key, and the marks every part of the cache reads.

Entries are read without a lock, and in a plain cache overwritten and evicted without one too. What
must happen at once is a method here, written so that nothing can come between: with a GIL the
interpreter switches threads only at calls and at jumps, and these methods check first and then
only load and store. Without a GIL they would need a lock.

* A value comes and goes together with its deadline (`renew`, `take`), so that nobody is served one
  value by the deadline of another.
* Whoever marks an entry dead has removed it, and there can be only one: `take` answers NOTHING to
  all others. Only then does the key leave the dict. A dead entry that is still in the dict is a
  miss to readers; writers wait for the lock.
* Dead entries never come back to life: a key that returns gets a new entry. A reader that already
  passed the deadline finds the old value, or none, and starts again.
* `take` and `kill` free the value at once, since an eviction order may know the entry for long. A
  put without the lock that evicts has the entry off the order, and lets both go together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

__all__ = ["DEAD", "NEVER", "NOTHING", "Entry", "FullEntry", "Limits"]

Limits = tuple[float, "float | None"]
"""The ttl and the idle time of an entry, in seconds."""

DEAD = -math.inf  # the `fresh_until` of an entry that was removed
NEVER = math.inf  # the deadline of an entry that does not expire
NOTHING: Any = object()  # where there is no value, and None would be one


class Entry:
    """A value with its deadlines. Created bare, for speed: the cache fills the slots it needs.

    Attributes:
        value: What `get` returns; may no longer be there once the entry is dead.
        key: The key.
        fresh_until: Until this moment a hit asks nothing more. The deadline, or if there is an
            `idle` limit, which moves the deadline with every hit, a lower bound of it.
        touched_at: When it was last read or written: recency, and the start of `idle`.
        idle: Seconds it may go unread, or None; not set by a put without the lock.
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
        idle: float | None = getattr(self, "idle", None)
        if idle is None or self.fresh_until is DEAD:
            return self.fresh_until
        return min(self.expires_at, self.touched_at + idle)

    def renew(
        self, value: Any, now: float, until: float, idle: float | None, expires_at: float
    ) -> Any:
        """Overwrite the value of a live entry. Returns the old one, or NOTHING if it is dead."""
        if self.fresh_until is not DEAD:
            old = self.value
            self.value = value
            self.touched_at = now
            self.idle = idle
            self.expires_at = expires_at
            self.fresh_until = until
            return old
        return NOTHING

    def take(self, seen: float) -> Any:
        """Kill the entry and return its value; NOTHING if `fresh_until` is not `seen` any more."""
        if self.fresh_until is seen and seen is not DEAD:
            value = self.value
            del self.value
            self.fresh_until = DEAD
            return value
        return NOTHING

    def kill(self) -> Any:
        """`take`, whatever `fresh_until` is; NOTHING only if it is dead."""
        if self.fresh_until is not DEAD:
            value = self.value
            del self.value
            self.fresh_until = DEAD
            return value
        return NOTHING

    def rearm(self, seen: float, until: float) -> bool:
        """Move `fresh_until`. False if it is not `seen` any more, or the entry is dead."""
        if self.fresh_until is seen and seen is not DEAD:
            self.fresh_until = until
            return True
        return False

    def revive(self, value: Any, until: float) -> None:
        """Undo `take`, for an entry whose key cannot be found in the dict (it raises)."""
        self.value = value
        self.fresh_until = until


class FullEntry(Entry):
    """An entry of a cache that weighs, refreshes or evicts by S3-FIFO: with room for all that."""

    __slots__ = ("probation", "seen_at", "tried_at", "weight", "written_at")

    def reweigh(self, value: Any, weight: float) -> float:
        """Let it weigh `weight` if it lives and has `value`. Returns by how much that is more."""
        if self.fresh_until is not DEAD and self.value is value:
            change = weight - self.weight
            self.weight = weight
            return change
        return 0
