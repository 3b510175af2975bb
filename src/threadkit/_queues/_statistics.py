"""What a queue tells about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from threadkit._queues._store import DropReason

__all__ = ["QueueStatistics"]


@dataclass(frozen=True)
class QueueStatistics:
    """One consistent look at a queue: `puts == gets + dropped + waiting`, always and exactly."""

    name: str
    """The queue's name."""
    maxsize: int
    """How many items may wait; 0: any number."""
    closed: bool
    """Whether puts are refused."""
    puts: int
    """Items that came in, those that a rule dropped at the door included."""
    gets: int
    """Items handed to a consumer."""
    drops: Mapping[DropReason, int]
    """Items that left without a consumer, by reason."""
    waiting: int
    """Items inside. What is stale counts until somebody comes across it."""
    waiting_by_level: tuple[int, ...]
    """The same, for each level."""
    merged: int
    """Items merged into a waiting one of the same key. They are not among `puts`."""
    rejected: int
    """Puts that ended in QueueFull, at once or after their timeout. They are not among `puts`."""
    oldest_age: float
    """Seconds the longest waiting item has waited; 0.0 when nothing waits."""
    high_water: int
    """The most items that ever waited at once."""
    blocked_gets: int
    """Threads and coroutines that wait for an item."""
    blocked_puts: int
    """Threads and coroutines that wait for room."""
    callback_errors: int
    """Calls of `on_drop` that raised."""

    @property
    def dropped(self) -> int:
        """Items that left without a consumer, for any reason."""
        return sum(self.drops.values())
