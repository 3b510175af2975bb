"""Exact least-recently-used order, read from the stamps that hits leave behind.

A hit writes one number, its clock reading, and takes no lock; so nobody keeps the order up to
date. A writer that must evict sorts the stamps it finds and takes victims from that order. What
was recorded is a lower bound of what the stamp is now, so an entry whose stamp has not moved since
is older than everything behind it: the order stays exact for as long as it lasts, and entries
that were touched since are stepped over. One pass serves up to n evictions.

Sorting 100,000 entries in one piece stops every thread for 64 ms. So above two slices the pass is
cut up: the entries are copied in two calls, dealt by stamp into buckets of about a slice each, a
slice a call, and a bucket is sorted when its turn comes. While a pass is being dealt `victim` has
no answer yet and returns None; the cache then holds a surplus of at most one entry a call and asks
again at the next write (see `SURPLUS_RATIO` there). Distribution before sorting is the idea of
sample sort (Frazer and McKellar, 1970).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from operator import attrgetter
from typing import Any

from threadkit._cache._entry import DEAD, Entry

__all__ = ["LruOrder"]

SLICE = 1024  # entries looked at in one call, about 0.2 ms
_SAMPLES = 16  # stamps drawn per bucket to choose where the buckets part

_touched_at = attrgetter("touched_at")


class LruOrder:
    """Names the least recently used entry of `entries`, in slices of bounded work.

    Thread safety: called under the cache's lock, except that `put` may pop from `oldest` without
    it. So `as_of` is written before a new `oldest`, and read after it; a list that was replaced
    is empty, and stays so.

    Attributes:
        as_of: What was not touched since this moment is where the order says it is.
        oldest: The oldest entries, the very oldest last.

    Args:
        entries: The dict of the live entries.
        clock: The cache's clock; read once for a pass in slices.
    """

    __slots__ = ("_buckets", "_clock", "_entries", "_half", "_limits", "_todo", "as_of", "oldest")

    def __init__(self, entries: dict[Any, Entry], clock: Callable[[], float]) -> None:
        self._entries = entries
        self._clock = clock
        self.as_of = DEAD
        self.oldest: list[Entry] = []
        self._buckets: list[list[Entry]] = []  # younger ones by age, the youngest bucket first
        self._limits: list[float] = []
        self._half: list[Entry] = []  # of the entries, while the other is to be copied
        self._todo: list[list[Entry]] = []  # not dealt yet

    def victim(self, spare: Entry | None = None) -> Entry | None:
        """The entry to evict next, or None while the order is being found, or if none is left.

        The caller removes it. `spare` was touched just now, so it is the last in any order.
        """
        while True:
            oldest, as_of = self.oldest, self.as_of
            with suppress(IndexError):
                while True:
                    entry = oldest.pop()
                    if entry.touched_at <= as_of and entry.fresh_until != DEAD:
                        return entry
            if self._buckets and not self._todo:
                if not self._open_bucket():
                    return None
            elif self._advance():
                return None

    def _advance(self) -> bool:
        """Go one step on with finding the order. False if that was all, and found an entry."""
        if self._todo:
            self._deal() if self._buckets else self._plan_buckets()
            return True
        entries = self._entries
        if not self._half and 0 < len(entries) <= 2 * SLICE:
            return not self._sort_all(list(entries.values()))
        # Making an iterator may run the collector, and a finalizer change the dict.
        with suppress(RuntimeError):
            if self._half:
                self._copy_rest()
            else:
                self.as_of = self._clock()
                self._half = list(islice(entries.values(), len(entries) // 2))
        return True

    def _open_bucket(self) -> bool:
        """Sort the next bucket. False if all in it were touched meanwhile."""
        as_of = self.as_of
        bucket = [entry for entry in self._buckets.pop() if entry.touched_at <= as_of]
        self.oldest = _oldest_last(bucket)
        return bool(bucket)

    def _sort_all(self, entries: list[Entry]) -> bool:
        """The pass over a small cache. False if none is alive."""
        if all(entry.fresh_until == DEAD for entry in entries):
            return False  # each is being removed further up the stack, or by a put without the lock
        oldest = _oldest_last(entries)
        self.as_of = oldest[0].touched_at  # whoever reads the clock from now on, reads more
        self.oldest = oldest
        return True

    def _copy_rest(self) -> None:
        """Copy what follows the first half, from the end backwards.

        How much that is, is not known if entries left meanwhile. So a slice more is copied, and
        must reach the last of the first half. An entry that is copied twice does no harm.
        """
        entries, half, self._half = self._entries, self._half, []
        count = len(entries) - len(half) + SLICE
        rest = list(islice(reversed(entries.values()), max(count, 0)))
        if half[-1] in rest[-SLICE - 1 :]:
            self._todo = [rest, half]
        else:
            self._todo = [list(entries.values())]

    def _plan_buckets(self) -> None:
        """Choose stamps that part the entries into buckets of about one slice."""
        total = sum(map(len, self._todo))
        count = total // SLICE + 1
        step = max(1, total // (count * _SAMPLES))
        sample = sorted(entry.touched_at for part in self._todo for entry in part[::step])
        self._limits = sample[_SAMPLES - 1 :: _SAMPLES]
        self._buckets = [[] for _ in range(len(self._limits) + 1)]

    def _deal(self) -> None:
        """Put the next slice into its buckets."""
        limits, buckets, as_of, part = self._limits, self._buckets, self.as_of, self._todo[-1]
        for entry in part[-SLICE:]:
            stamp = entry.touched_at
            if stamp <= as_of:
                buckets[bisect_left(limits, stamp)].append(entry)
        del part[-SLICE:]  # freeing all at the end would take longer than a slice
        if not part:
            self._todo.pop()
        if not self._todo:
            buckets.reverse()


def _oldest_last(entries: list[Entry]) -> list[Entry]:
    entries.sort(key=_touched_at)
    entries.reverse()  # and not reverse=True: of equal stamps the first comes first
    return entries
