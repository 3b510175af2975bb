"""Telling the listener what left a cache: each removal once, and never under the lock."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from threadkit._cache._arguments import a_callable
from threadkit._cache._statistics import RemovalCause
from threadkit._cache._sweeper import Sweeper
from threadkit._runtime import Runtime

__all__ = ["CAUSES", "Announcer"]

K = TypeVar("K")
V = TypeVar("V")

ANNOUNCE_LIMIT = 1000  # removals a listener may cause while it is told; the sweeper tells the rest
CAUSES = tuple(RemovalCause)

_log = logging.getLogger("threadkit.cache")


class Announcer(Generic[K, V]):
    """A queue of removals, told by whichever thread gets to them first.

    Without a listener it holds removed values until the lock is free: `__del__` may use the cache,
    or wait for a thread that does.

    Attributes:
        removed: What was not told yet: key, value, and the position of the cause in `CAUSES`.
            Appended to under the cache's lock.
        errors: How often the listener raised.
    """

    __slots__ = (
        "__weakref__",
        "_get_ident",
        "_listener",
        "_name",
        "_sweeper",
        "_telling",
        "errors",
        "removed",
    )

    def __init__(
        self,
        listener: Callable[[K, V, RemovalCause], object] | None,
        name: str,
        sweeper: Sweeper,
        runtime: Runtime,
    ) -> None:
        self._listener = None if listener is None else a_callable("on_remove", listener)
        self._name = name
        self._sweeper = sweeper
        self._get_ident = runtime.get_ident
        self.removed: deque[tuple[K, V, int]] = deque()
        self.errors = 0
        self._telling: set[int] = set()  # threads

    def announce(self) -> None:
        """Tell what left. Called without the lock.

        A listener that removes entries itself finds them told by the loop that called it.
        """
        removed = self.removed
        if self._listener is None:
            removed.clear()  # frees the values
            return
        me = self._get_ident()
        if me in self._telling:
            return
        self._telling.add(me)
        try:
            for _ in range(len(removed) + ANNOUNCE_LIMIT):
                try:
                    key, value, cause = removed.popleft()
                except IndexError:
                    return
                self._tell(key, value, CAUSES[cause])
        except BaseException:  # a listener that exits or is interrupted: the rest is still told
            if removed:
                self._sweeper.schedule(self.announce, 0)
            raise
        finally:
            self._telling.discard(me)
        self._sweeper.schedule(self.announce, 0)

    def _tell(self, key: K, value: V, cause: RemovalCause) -> None:
        try:
            self._listener(key, value, cause)  # type: ignore[misc]
        except Exception:  # noqa: BLE001 - counted, logged, and none of the caller's business
            self.errors += 1
            _log.exception("%s: on_remove raised for %r (%s)", self._name, key, cause)

    def forget_threads(self) -> None:
        """Whoever was telling does not exist in the child of a fork."""
        self._telling = set()
