"""Where tasks wait for a worker: one deque, or one for each level with linear ageing.

Workers take without a lock. A deque's `append`, `popleft` and length are atomic (under the GIL as
single C calls, without it by the deque's own lock), and nothing here needs more: a worker that
finds less than it saw looks again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from threadkit._futures import Future
from threadkit._pool._options import options_of

__all__ = ["Backlog", "LevelBacklog", "PlainBacklog"]


class Backlog(Protocol):
    """What the pool asks of either kind."""

    @property
    def put(self) -> Callable[[Future[Any]], None]: ...
    @property
    def take(self) -> Callable[[], Future[Any]]:
        """The next task; raises IndexError when there is none to be taken."""
        ...

    def __len__(self) -> int: ...
    def door(self, level: int, /) -> Callable[[Future[Any]], None]:
        """`put` for tasks of one level."""
        ...

    def sizes(self) -> tuple[int, ...]: ...
    def oldest(self) -> Future[Any] | None: ...
    def lowest(self, level: int, /) -> Future[Any] | None: ...
    def discard(self, future: Future[Any], /) -> bool: ...
    def put_back(self, future: Future[Any], /) -> None:
        """Return what was just taken to where it was. Not by two at a time."""
        ...


class PlainBacklog:
    """First in, first out: what a pool without levels uses. Its verbs are the deque's own."""

    def __init__(self) -> None:
        tasks: deque[Future[Any]] = deque()
        self._tasks = tasks
        self.put = tasks.append
        self.take = tasks.popleft

    def __len__(self) -> int:
        return len(self._tasks)

    def door(self, level: int, /) -> Callable[[Future[Any]], None]:
        del level  # there is one
        return self.put

    def sizes(self) -> tuple[int, ...]:
        return (len(self),)

    def oldest(self) -> Future[Any] | None:
        return _head(self._tasks)

    def lowest(self, level: int, /) -> Future[Any] | None:
        del level  # there is one
        return self.oldest()

    def discard(self, future: Future[Any], /) -> bool:
        return _remove(self._tasks, future)

    def put_back(self, future: Future[Any], /) -> None:
        _put_back(self._tasks, future)


class LevelBacklog:
    """FIFO in each level; between levels, waiting makes up for rank.

    A task's rank is when it was submitted plus `ageing` seconds for every level below the first:
    it never changes, so only the heads of the levels compete (linear ageing without a heap).
    """

    def __init__(self, levels: int, ageing: float) -> None:
        self._levels = tuple(deque[Future[Any]]() for _ in range(levels))
        self._ranked = tuple((tasks, level * ageing) for level, tasks in enumerate(self._levels))

    def put(self, future: Future[Any]) -> None:
        self._levels[options_of(future).level].append(future)

    def take(self) -> Future[Any]:
        while True:
            best, lead = None, 0.0
            try:
                for tasks, handicap in self._ranked:
                    if tasks and (
                        best is None  # where one level only has tasks, nothing is compared
                        or tasks[0]._submitted_at + handicap < best[0]._submitted_at + lead
                    ):
                        best, lead = tasks, handicap
                if best is not None:
                    return best.popleft()
            except IndexError:
                continue  # another worker was faster
            raise IndexError

    def __len__(self) -> int:
        return sum(map(len, self._levels))

    def door(self, level: int, /) -> Callable[[Future[Any]], None]:
        return self._levels[level].append

    def sizes(self) -> tuple[int, ...]:
        return tuple(map(len, self._levels))

    def oldest(self) -> Future[Any] | None:
        heads = [head for head in map(_head, self._levels) if head is not None]
        return min(heads, key=lambda head: head._submitted_at, default=None)

    def lowest(self, level: int, /) -> Future[Any] | None:
        """The oldest task of the least important level, if that is no more important than this."""
        for tasks in reversed(self._levels[level:]):
            if (head := _head(tasks)) is not None:
                return head
        return None

    def discard(self, future: Future[Any], /) -> bool:
        return any(_remove(tasks, future) for tasks in self._levels)

    def put_back(self, future: Future[Any], /) -> None:
        _put_back(self._levels[options_of(future).level], future)


def _head(tasks: deque[Future[Any]]) -> Future[Any] | None:
    try:
        return tasks[0]
    except IndexError:
        return None


def _remove(tasks: deque[Future[Any]], future: Future[Any]) -> bool:
    try:
        tasks.remove(future)
    except ValueError:
        return False
    return True


def _put_back(tasks: deque[Future[Any]], future: Future[Any]) -> None:
    """To the left, but behind what was submitted earlier and put back by another worker."""
    place = 0
    while place < len(tasks) and tasks[place]._submitted_at < future._submitted_at:
        place += 1
    tasks.insert(place, future)
