"""What waits in a queue, in order: levels, ageing, keys, deadlines and drops.

Plain bookkeeping: no locks, no waiting, no user code. Its owner calls it under one lock.

One FIFO deque per level, sorted by the entries' numbers, because entries are numbered as they come
in. An item's rank is the time it came in plus its level times `ageing`; two ranks never change
places, so the head of each level is that level's best and only heads compete: O(levels), ties in
FIFO order, no heap. An entry in the middle is found by bisecting its level for its number, so
nothing dead is left behind and every count is exact.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Hashable
from math import inf
from typing import Any, Final, Generic, Literal, TypeVar

__all__ = ["NOTHING", "DropReason", "Entry", "Nothing", "Overflow", "Store"]

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

# One waiting item: number, item, rank, when it came in, deadline (inf: never stale), key (None: has
# none), level. A tuple, because one is made for every put and a class with slots costs four times
# as much; what changes an entry puts another in its place. Numbers are unique and come first, so
# comparing entries compares numbers.
Entry = tuple[int, T, float, float, float, Hashable, int]

_CENTURY: Final = 100 * 365 * 86400.0  # seconds; without ageing no wait makes up for a level


class Store(Generic[T]):
    """The entries of one queue, and the count of every way into it and out of it."""

    __slots__ = (
        "_clock",
        "_deadlines",
        "_handicaps",
        "_noted",
        "by_key",
        "count",
        "dropped",
        "drops",
        "gets",
        "high_water",
        "levels",
        "puts",
    )

    def __init__(self, levels: int, ageing: float | None, clock: Callable[[], float]) -> None:
        self.levels: list[deque[Entry[T]]] = [deque() for _ in range(levels)]
        self.by_key: dict[Hashable, Entry[T]] = {}
        self.count = 0
        self.high_water = 0
        self.puts = 0  # numbers the entries too
        self.gets = 0
        self.drops: dict[DropReason, int] = dict.fromkeys(REASONS, 0)
        # For the owner to report and empty: also so that no item's finalizer runs under its lock.
        self.dropped: list[tuple[T, DropReason]] = []
        self._clock = clock
        # Seconds of waiting that an item of each level has to make up for.
        ageing = _CENTURY if ageing is None else ageing
        self._handicaps = [level * ageing for level in range(levels)]
        # (deadline, number, level), earliest first, for finding what is stale in a full queue.
        # Entries are noted when the queue is found full, so a queue that keeps up pays nothing.
        # A record whose entry has left, or changed, is skipped when it comes up.
        self._deadlines: list[tuple[float, int, int]] = []
        self._noted = 0  # the entries up to this number are noted

    # -- in -------------------------------------------------------------------------------

    def push(self, item: T, level: int, lifetime: float, key: Hashable) -> None:
        """Add an item at the end of its level."""
        number = self.puts + 1
        clock = self._clock  # calling it as an attribute costs 20 ns more on 3.11
        now = clock()
        entry = (number, item, now + self._handicaps[level], now, now + lifetime, key, level)
        self.levels[level].append(entry)
        self.puts = number  # a bad level or lifetime has raised by now
        self.count = count = self.count + 1
        if count > self.high_water:  # noqa: PLR1730 - max() is a call on the hot path
            self.high_water = count
        if key is not None:
            self.by_key[key] = entry

    def refuse(self, item: T, reason: DropReason) -> None:
        """Count an item that is dropped on its way in."""
        self.puts += 1
        self._record(item, reason)

    def update(self, entry: Entry[T], item: T, level: int, deadline: float) -> None:
        """Give a waiting entry another item, level and deadline; it keeps its age."""
        number, _, _, entered_at, _, key, _ = entry
        rank = entered_at + self._handicaps[level]
        self._remove(entry)
        updated = (number, item, rank, entered_at, deadline, key, level)
        entries = self.levels[level]
        entries.insert(bisect_left(entries, updated), updated)
        if key is not None:
            self.by_key[key] = updated
        if deadline != inf and number <= self._noted:
            heapq.heappush(self._deadlines, (deadline, number, level))
            if len(self._deadlines) > 2 * self.count + 64:
                self._note_deadlines()

    # -- out ------------------------------------------------------------------------------

    def pop(self) -> T | Literal[Nothing.NOTHING]:
        """Take the next item that is not stale; the stale ones before it are dropped."""
        clock = self._clock
        while self.count:
            best = inf
            chosen = self.levels[0]
            for entries in self.levels:
                if entries:
                    rank = entries[0][2]
                    if rank < best:
                        best = rank
                        chosen = entries
            _, item, _, _, deadline, key, _ = chosen.popleft()
            self.count -= 1
            if key is not None:
                del self.by_key[key]
            if deadline == inf or deadline > clock():
                self.gets += 1
                return item
            self._record(item, "expired")
        return NOTHING

    def drop(self, entry: Entry[T], reason: DropReason) -> None:
        """Take an entry out from wherever it waits and count it as dropped."""
        self._remove(entry)
        _, item, _, _, _, key, _ = entry
        self.count -= 1
        if key is not None:
            del self.by_key[key]
        self._record(item, reason)

    def clear(self) -> list[T]:
        """Drop all entries, the next one first; return the items of those that were not stale."""
        items: list[T] = []
        now = self._clock()
        for entry in sorted(itertools.chain(*self.levels), key=_rank_level_number):
            _, item, _, _, deadline, _, _ = entry
            if deadline > now:
                items.append(item)
                self.drop(entry, "closed")
            else:
                self.drop(entry, "expired")
        return items

    def evict(self, rule: Overflow, level: int) -> bool:
        """Drop one entry in favour of a new item of `level`, a stale one first; False: none."""
        entry = self._stale(self._clock())
        if entry is not None:
            self.drop(entry, "expired")
            return True
        if rule == "drop_oldest":
            self.drop(self.oldest(), rule)
            return True
        if rule == "drop_lowest":
            entry = self._lowest()
            if entry[-1] >= level:
                self.drop(entry, rule)
                return True
        return False

    def expire(self) -> None:
        """Drop every entry that is stale."""
        now = self._clock()
        while (entry := self._stale(now)) is not None:
            self.drop(entry, "expired")

    def next_deadline(self) -> float:
        """When the next entry goes stale, or a little before; inf: none will.

        Before, where the record of one that has left is still in the heap: taking those out one by
        one would cost each blocked put more than looking once too often.
        """
        self._note_deadlines()
        return self._deadlines[0][0] if self._deadlines else inf

    # -- which one ------------------------------------------------------------------------

    def oldest(self) -> Entry[T]:
        """The entry that came first. There is one."""
        return min(entries[0] for entries in self.levels if entries)

    def _lowest(self) -> Entry[T]:
        """The oldest entry of the least urgent level. There is one."""
        return next(entries[0] for entries in reversed(self.levels) if entries)

    def _stale(self, now: float) -> Entry[T] | None:
        """The entry whose deadline passed first, if one has passed."""
        self._note_deadlines()
        heap = self._deadlines
        while heap and heap[0][0] <= now:
            deadline, number, level = heap[0]
            entries = self.levels[level]
            index = bisect_left(entries, (number,))
            if index < len(entries):
                entry = entries[index]
                if entry[0] == number and entry[4] == deadline:
                    return entry
            heapq.heappop(heap)
        return None

    def _note_deadlines(self) -> None:
        """Take the entries that came since the last time into the heap of deadlines."""
        heap = self._deadlines
        if len(heap) > 2 * self.count + 64:  # most of it has left: begin again from what is there
            heap.clear()
            self._noted = 0
        if self._noted == self.puts:
            return
        for level, entries in enumerate(self.levels):
            for number, _, _, _, deadline, _, _ in reversed(entries):
                if number <= self._noted:
                    break
                if deadline != inf:
                    heapq.heappush(heap, (deadline, number, level))
        self._noted = self.puts

    # -- bookkeeping ----------------------------------------------------------------------

    def _remove(self, entry: Entry[T]) -> None:
        """Take an entry out of its level: O(1) at the head, a bisection and a shift elsewhere."""
        entries = self.levels[entry[-1]]
        del entries[bisect_left(entries, (entry[0],))]

    def _record(self, item: T, reason: DropReason) -> None:
        self.drops[reason] += 1
        self.dropped.append((item, reason))


def _rank_level_number(entry: Entry[Any]) -> tuple[float, int, int]:
    """What `pop` goes by: the best rank, of equal ones the more urgent level, there the first."""
    number, _, rank, _, _, _, level = entry
    return rank, level, number
