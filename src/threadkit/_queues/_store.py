"""What waits in a queue, in order: levels, ageing, keys, deadlines and drops.

Plain bookkeeping: no locks, no waiting, no user code. Its owner calls it under one lock.

One FIFO deque per level, sorted by `seq`, because entries are numbered as they come in. An item's
rank is the time it came in plus its level times `ageing`; two ranks never change places, so the
head of each level is that level's best and only heads compete: O(levels), ties in FIFO order, no
heap. An entry in the middle is found by bisecting its level for its `seq`, so nothing dead is left
behind and every count is exact.
"""

from __future__ import annotations

import enum
import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Hashable
from math import inf
from operator import attrgetter
from typing import Any, Final, Generic, Literal, TypeVar

__all__ = ["NOTHING", "REASONS", "DropReason", "Entry", "Nothing", "Overflow", "Store"]

T = TypeVar("T")

Overflow = Literal["block", "reject", "drop_new", "drop_oldest", "drop_lowest"]
DropReason = Literal[
    "expired", "drop_new", "drop_oldest", "drop_lowest", "replaced", "cancelled", "closed"
]
REASONS: Final[tuple[DropReason, ...]] = (
    "expired",
    "drop_new",
    "drop_oldest",
    "drop_lowest",
    "replaced",
    "cancelled",
    "closed",
)


class Nothing(enum.Enum):
    """The type of NOTHING; None is an item like any other."""

    NOTHING = enum.auto()


NOTHING: Final = Nothing.NOTHING

_SEQ: Final[Callable[[Any], int]] = attrgetter("seq")
_GONE: Final = 0  # the seq of an entry that waits no longer; the first one's is 1


class Entry(Generic[T]):
    """One waiting item."""

    __slots__ = ("deadline", "entered_at", "item", "key", "level", "seq")

    def __init__(  # noqa: PLR0917 - keywords would double its cost
        self, seq: int, item: T, level: int, entered_at: float, deadline: float, key: Hashable
    ) -> None:
        self.seq = seq
        self.item = item
        self.level = level
        self.entered_at = entered_at
        self.deadline = deadline  # inf: never stale
        self.key = key  # None: has none


class Store(Generic[T]):
    """The entries of one queue, and the count of every way into it and out of it."""

    def __init__(
        self, levels: int, ageing: float | None, clock: Callable[[], float], *, keep_drops: bool
    ) -> None:
        self.levels: list[deque[Entry[T]]] = [deque() for _ in range(levels)]
        self.by_key: dict[Hashable, Entry[T]] = {}
        self.count = 0
        self.high_water = 0
        self.puts = 0
        self.gets = 0
        self.drops: dict[DropReason, int] = dict.fromkeys(REASONS, 0)
        self.dropped: list[tuple[T, DropReason]] = []  # for the owner to report and empty
        self._keep_drops = keep_drops
        self._clock = clock
        # Seconds each level has to make up for; None: no wait makes up for a level.
        self._handicaps = None if ageing is None else [level * ageing for level in range(levels)]
        # (deadline, ticket, entry) of what can go stale, earliest first. Outdated records are
        # skipped when they come up, and swept out once they outnumber what waits.
        self._deadlines: list[tuple[float, int, Entry[T]]] = []
        self._tickets = 0

    # -- in -------------------------------------------------------------------------------

    def push(self, item: T, level: int, now: float, deadline: float, key: Hashable) -> None:
        """Add an item at the end of its level."""
        self.puts = seq = self.puts + 1
        entry = Entry(seq, item, level, now, deadline, key)
        self.levels[level].append(entry)
        self.count = count = self.count + 1
        if count > self.high_water:  # noqa: PLR1730 - max() is a call on the hot path
            self.high_water = count
        if key is not None:
            self.by_key[key] = entry
        if deadline != inf:
            self._note_deadline(entry)

    def refuse(self, item: T, reason: DropReason) -> None:
        """Count an item that is dropped on its way in."""
        self.puts += 1
        self._record(item, reason)

    def update(self, entry: Entry[T], item: T, level: int, deadline: float) -> None:
        """Give a waiting entry another item and deadline; of two levels the more urgent counts."""
        entry.item = item
        if deadline != entry.deadline:
            entry.deadline = deadline
            if deadline != inf:
                self._note_deadline(entry)
        if level < entry.level:
            self.move(entry, level)

    def move(self, entry: Entry[T], level: int) -> None:
        """Put an entry into another level, at the place its age gives it there."""
        self._remove(entry)
        entry.level = level
        entries = self.levels[level]
        entries.insert(bisect_left(entries, entry.seq, key=_SEQ), entry)

    # -- out ------------------------------------------------------------------------------

    def pop(self) -> T | Literal[Nothing.NOTHING]:
        """Take the next item that is not stale; the stale ones before it are dropped."""
        while self.count:
            entry = self._next_level().popleft()
            item, deadline = entry.item, entry.deadline
            self._forget(entry)
            if deadline == inf or deadline > self._clock():
                self.gets += 1
                return item
            self._record(item, "expired")
        return NOTHING

    def drop(self, entry: Entry[T], reason: DropReason) -> None:
        """Take an entry out from wherever it waits and count it as dropped."""
        item = entry.item
        self._remove(entry)
        self._forget(entry)
        self._record(item, reason)

    def clear(self) -> list[T]:
        """Drop all entries, the next one first; return the items of those that were not stale."""
        items: list[T] = []
        now = self._clock()
        while self.count:
            entry = self._next_level()[0]
            if entry.deadline > now:
                items.append(entry.item)
                self.drop(entry, "closed")
            else:
                self.drop(entry, "expired")
        return items

    def evict(self, rule: Overflow, level: int, now: float) -> bool:
        """Make room for a new item of `level`, from what is stale first; False: by its own drop."""
        entry = self.stale(now)
        if entry is not None:
            self.drop(entry, "expired")
            return True
        if rule == "drop_oldest":
            self.drop(self.oldest(), rule)
            return True
        if rule == "drop_lowest":
            lowest = self._lowest()
            if lowest.level >= level:
                self.drop(lowest, rule)
                return True
        return False

    # -- which one ------------------------------------------------------------------------

    def _next_level(self) -> deque[Entry[T]]:
        """The level whose head is next. There is one."""
        chosen = self.levels[-1]
        if self._handicaps is None:
            for entries in self.levels:
                if entries:
                    return entries
            return chosen
        best = inf
        for entries, handicap in zip(self.levels, self._handicaps, strict=True):
            if entries:
                rank = entries[0].entered_at + handicap
                if rank < best:
                    best = rank
                    chosen = entries
        return chosen

    def oldest(self) -> Entry[T]:
        """The entry that came first. There is one."""
        return min((entries[0] for entries in self.levels if entries), key=_SEQ)

    def _lowest(self) -> Entry[T]:
        """The oldest entry of the least urgent level. There is one."""
        return next(entries[0] for entries in reversed(self.levels) if entries)

    def stale(self, now: float) -> Entry[T] | None:
        """The entry whose deadline passed first, if one has passed."""
        heap = self._deadlines
        while heap:
            deadline, _, entry = heap[0]
            if entry.seq != _GONE and entry.deadline == deadline:
                return entry if deadline <= now else None
            heapq.heappop(heap)
        return None

    # -- bookkeeping ----------------------------------------------------------------------

    def _note_deadline(self, entry: Entry[T]) -> None:
        heap = self._deadlines
        if len(heap) > 2 * self.count + 64:
            heap[:] = [
                record
                for record in heap
                if record[2].seq != _GONE and record[2].deadline == record[0]
            ]
            heapq.heapify(heap)
        self._tickets += 1  # entries are not compared, nor is one of them in twice as equal
        heapq.heappush(heap, (entry.deadline, self._tickets, entry))

    def _remove(self, entry: Entry[T]) -> None:
        entries = self.levels[entry.level]
        del entries[bisect_left(entries, entry.seq, key=_SEQ)]

    def _forget(self, entry: Entry[T]) -> None:
        """Count an entry that was taken from its level as gone, and let go of its item."""
        self.count -= 1
        entry.seq = _GONE
        del entry.item  # a record in the heap of deadlines may keep the entry for a while
        if entry.key is not None:
            del self.by_key[entry.key]

    def _record(self, item: T, reason: DropReason) -> None:
        self.drops[reason] += 1
        if self._keep_drops:
            self.dropped.append((item, reason))
