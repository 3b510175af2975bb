"""The pools, caches and queues of a manager and of the groups inside it, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from threadkit._cache import TTLCache
from threadkit._pool import DynamicThreadPool
from threadkit._queues import MessageQueue

V = TypeVar("V")


class Registry:
    """What one manager has made, and the registries of its groups.

    Thread safety: written while a manager is built, read from any thread after that.
    """

    def __init__(self) -> None:
        self.own_pools: dict[str, DynamicThreadPool] = {}
        self.own_caches: dict[str, TTLCache[Any, Any]] = {}
        self.own_queues: dict[str, MessageQueue[Any]] = {}
        self.groups: dict[str, Registry] = {}

    @property
    def pools(self) -> Mapping[str, DynamicThreadPool]:
        return self._all(lambda registry: registry.own_pools)

    @property
    def caches(self) -> Mapping[str, TTLCache[Any, Any]]:
        return self._all(lambda registry: registry.own_caches)

    @property
    def queues(self) -> Mapping[str, MessageQueue[Any]]:
        return self._all(lambda registry: registry.own_queues)

    def _all(self, own: Callable[[Registry], dict[str, V]]) -> dict[str, V]:
        found = own(self).copy()
        for name, group in self.groups.items():
            found |= {f"{name}/{key}": value for key, value in group._all(own).items()}  # noqa: SLF001 - same class
        return found

    def close(self) -> None:
        """Let nothing be left open that was never started, or is not to be started again."""
        for pool in self.pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for queue in self.queues.values():
            queue.close()
