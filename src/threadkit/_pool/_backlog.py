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

__all__ = ["Backlog", "LevelBacklog", "PlainBacklog"]


class Backlog(Protocol):
    """What the pool asks of either kind."""

    @property
    def put(self) -> Callable[[Future[Any]], None]: ...
    @property
    def take(self) -> Callable[[], Future[Any]]:
        """The next task; raises IndexError when there is none to be taken."""
        ...

    @property
    def ready(self) -> Callable[[], object]:
        """True when `take` would find a task, which it does not while the backlog is held."""
        ...

    def __len__(self) -> int: ...
    def sizes(self) -> tuple[int, ...]: ...
    def oldest(self) -> Future[Any] | None: ...
    def lowest(self, level: int, /) -> Future[Any] | None: ...
    def discard(self, future: Future[Any], /) -> bool: ...
    def hold(self) -> None: ...
    def let_go(self) -> None: ...


class PlainBacklog:
    """First in, first out: what a pool without levels uses. Its verbs are the deque's own."""

    def __init__(self) -> None:
        tasks: deque[Future[Any]] = deque()
        self._tasks = tasks
        self._held: deque[Future[Any]] = deque()
        self.put = tasks.append
        self.take = tasks.popleft
        self.ready = tasks.__len__

    def __len__(self) -> int:
        return len(self._tasks) + len(self._held)

    def sizes(self) -> tuple[int, ...]:
        return (len(self),)

    def oldest(self) -> Future[Any] | None:
        return _head(self._tasks) or _head(self._held)

    def lowest(self, level: int, /) -> Future[Any] | None:
        del level  # there is one
        return self.oldest()

    def discard(self, future: Future[Any], /) -> bool:
        return _remove(self._tasks, future) or _remove(self._held, future)

    # Workers go on with the deque they know, so a pause empties it: what was there, and what is
    # put meanwhile, waits in another one.

    def hold(self) -> None:
        """From now on nothing is to be taken."""
        self.put = self._held.append
        while (future := _pop(self._tasks)) is not None:
            self._held.append(future)

    def let_go(self) -> None:
        """Give what was held to the workers again, in its order."""
        while (future := _pop(self._held)) is not None:
            self._tasks.append(future)
        self.put = self._tasks.append


class LevelBacklog:
    """FIFO in each level; between levels, waiting makes up for rank.

    A task's rank is when it was submitted plus `ageing` seconds for every level below the first:
    it never changes, so only the heads of the levels compete (linear ageing without a heap).
    """

    def __init__(self, levels: int, ageing: float) -> None:
        self._levels = tuple(deque[Future[Any]]() for _ in range(levels))
        self._ranked = tuple((tasks, level * ageing) for level, tasks in enumerate(self._levels))
        self._holding = False

    def put(self, future: Future[Any]) -> None:
        self._levels[future._origin.level].append(future)  # type: ignore[union-attr]

    def take(self) -> Future[Any]:
        while not self._holding:
            best, best_rank = None, 0.0
            for tasks, handicap in self._ranked:
                try:
                    rank = tasks[0]._submitted_at + handicap
                except IndexError:
                    continue
                if best is None or rank < best_rank:
                    best, best_rank = tasks, rank
            if best is None:
                break
            try:
                return best.popleft()
            except IndexError:
                continue  # another worker was faster
        raise IndexError

    def ready(self) -> bool:
        return not self._holding and any(self._levels)

    def __len__(self) -> int:
        return sum(map(len, self._levels))

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

    def hold(self) -> None:
        self._holding = True

    def let_go(self) -> None:
        self._holding = False


def _head(tasks: deque[Future[Any]]) -> Future[Any] | None:
    try:
        return tasks[0]
    except IndexError:
        return None


def _pop(tasks: deque[Future[Any]]) -> Future[Any] | None:
    try:
        return tasks.popleft()
    except IndexError:
        return None


def _remove(tasks: deque[Future[Any]], future: Future[Any]) -> bool:
    try:
        tasks.remove(future)
    except ValueError:
        return False
    return True
