"""Which tasks of a pool have run too long. Pure but for the look at the pool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

__all__ = ["PoolWatch", "RunningTask", "WatchedPool"]

_CONFIRM = 0.01  # seconds between the two looks that must agree before a task is said to be stuck


class RunningTask(Protocol):
    """What is looked at in a task."""

    @property
    def label(self) -> str | None: ...
    @property
    def worker(self) -> str: ...
    @property
    def ident(self) -> int | None: ...
    @property
    def began_at(self) -> float: ...
    @property
    def seconds(self) -> float: ...


class WatchedPool(Protocol):
    """What is used of a pool."""

    def running(self) -> Iterable[RunningTask]: ...


class Look(NamedTuple):
    """What a look has found."""

    stuck: list[RunningTask]
    recovered: int
    again_in: float


class PoolWatch:
    """The tasks of one pool, each reported once.

    Workers write nothing down for it: the pool is looked at. A task that begins after a look is
    due `stall` seconds after that look at the earliest, so one look each `stall` seconds, and one
    when the oldest task is due, miss none. Two looks must agree, because a worker that takes its
    next task has written down which, but not yet when, for an instant.

    Thread safety: none, its owner's thread looks.
    """

    def __init__(self, pool: WatchedPool, stall: float) -> None:
        self._pool = pool
        self._stall = stall
        self._suspects: set[tuple[int | None, float]] = set()
        self._stuck: set[tuple[int | None, float]] = set()

    @property
    def stuck_count(self) -> int:
        """Tasks reported that had not ended at the last look."""
        return len(self._stuck)

    def runs(self, task: RunningTask) -> bool:
        """Whether it has not ended."""
        key = task.ident, task.began_at
        return any((other.ident, other.began_at) == key for other in self._pool.running())

    def look(self) -> Look:
        """Who is stuck and was not reported, how many of those reported went on, when to look."""
        stuck: list[RunningTask] = []
        suspects: set[tuple[int | None, float]] = set()
        seen: set[tuple[int | None, float]] = set()
        again_in = self._stall
        for task in self._pool.running():
            key = task.ident, task.began_at
            seen.add(key)
            if task.seconds < self._stall:
                again_in = min(again_in, self._stall - task.seconds)
            elif key in self._suspects:
                stuck.append(task)
                self._stuck.add(key)
            elif key not in self._stuck:
                suspects.add(key)
                again_in = min(again_in, _CONFIRM)
        recovered = len(self._stuck - seen)
        self._stuck &= seen
        self._suspects = suspects
        return Look(stuck, recovered, again_in)
