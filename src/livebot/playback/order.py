"""Which sound comes next: strictly by sequence number, then by priority among the ready.

A sequence number's turn comes when every earlier one has arrived or failed. Pure bookkeeping: no
lock, no clock, no thread.
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

__all__ = ["PlayOrder"]

T = TypeVar("T")


class PlayOrder(Generic[T]):
    """Items that come in any order, handed out in the right one.

        >>> order = PlayOrder[str](first_seq=0)
        >>> order.put(1, "world", priority=0), order.pop()
        (True, None)
        >>> order.put(0, "hello", priority=0), order.pop(), order.pop()
        (True, 'hello', 'world')

    Thread safety: none; the player guards it.
    """

    def __init__(self, first_seq: int = 0) -> None:
        self._next = first_seq
        self._early: dict[int, tuple[T | None, int]] = {}  # arrived before their turn
        self._ready: list[tuple[int, int, T]] = []  # a heap of (priority, seq, item)

    def __len__(self) -> int:
        """How many items wait, ready or early."""
        return len(self._ready) + sum(item is not None for item, _ in self._early.values())

    @property
    def gap(self) -> int | None:
        """The sequence number that holds others up, None when none does."""
        return self._next if self._early else None

    def put(self, seq: int, item: T | None, *, priority: int) -> bool:
        """Take in `item`, or the news that `seq` failed (None); False if its turn is over."""
        if seq < self._next or seq in self._early:
            return False
        self._early[seq] = (item, priority)
        self._advance()
        return True

    def pop(self) -> T | None:
        """The next item whose turn has come: lowest priority number first, then in sequence."""
        return heapq.heappop(self._ready)[2] if self._ready else None

    def peek_priority(self) -> int | None:
        """The priority of what `pop` would give."""
        return self._ready[0][0] if self._ready else None

    def skip_gap(self) -> int:
        """Stop waiting for what holds others up; how many numbers were given up."""
        if not self._early:
            return 0
        given_up = min(self._early) - self._next
        self._next += given_up
        self._advance()
        return given_up

    def clear(self) -> list[T]:
        """Give back all items that wait; their numbers count as past."""
        items = [item for _, _, item in sorted(self._ready, key=lambda entry: entry[:2])]
        items += [item for _, (item, _) in sorted(self._early.items()) if item is not None]
        self._ready.clear()
        # The numbers that are still to come keep their turn, so nothing that arrives later is lost.
        for seq, (_, priority) in list(self._early.items()):
            self._early[seq] = (None, priority)
        return items

    def _advance(self) -> None:
        while self._next in self._early:
            item, priority = self._early.pop(self._next)
            if item is not None:
                heapq.heappush(self._ready, (priority, self._next, item))
            self._next += 1
