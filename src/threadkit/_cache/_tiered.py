"""TieredCache: a memory cache before a folder of files."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from threadkit._cache._files import FileTier, FileTierStatistics
from threadkit._cache._registry import register
from threadkit._cache._statistics import CacheStatistics
from threadkit._cache._ttl import TTLCache
from threadkit._errors import StorageFailed
from threadkit._runtime import REAL, Runtime

__all__ = ["TieredCache", "TieredStatistics"]

K = TypeVar("K", bound=str | bytes)

_log = logging.getLogger("threadkit.cache")


@dataclass(frozen=True)
class TieredStatistics:
    """What both tiers did.

    Attributes:
        memory: The memory tier's counts. Its loads include reads of files.
        files: The file tier's counts, or None while the folder cannot be used.
        storage_failures: Writes that the file tier could not do.
    """

    memory: CacheStatistics
    files: FileTierStatistics | None
    storage_failures: int


class TieredCache(Generic[K]):
    """Bytes in memory, and behind it in files that outlive the process.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> def open_cache():
    ...     return TieredCache(TTLCache(maxsize=100), FileTier(folder.name, max_bytes=1_000_000))
    >>> open_cache().load("hello", lambda key: b"audio of " + key.encode())
    b'audio of hello'
    >>> open_cache().get("hello")             # another process, or this one tomorrow
    b'audio of hello'
    >>> folder.cleanup()

    When the disk is full or gone, one error is logged, `statistics()` counts the failures, and
    the memory tier goes on alone; the first write that succeeds again is logged too. A file that
    could be neither replaced nor deleted is not served by this cache any more, and deleted once
    that is possible; another process, or the next one on this folder, may find it before.

    Thread safety: every method from any thread, and several processes on one folder.

    Lifetime: nothing to close.

    Args:
        memory: Holds what is used now. Its `ttl` and `maxsize` say for how long and how much;
            what leaves it stays in the files.
        files: Holds everything within its budget, least recently used out first.
        runtime: Where the lock comes from.
    """

    def __init__(
        self, memory: TTLCache[K, bytes], files: FileTier, *, runtime: Runtime = REAL
    ) -> None:
        self._memory = memory
        self._files = files
        self._runtime = runtime
        # Guards the fields below, and orders the writes of files with what makes them outdated.
        # Held across one write of the file tier, never across loaders or the memory tier.
        self._lock = runtime.rlock()
        self._loading: dict[K, object] = {}  # who may write the file of a key that is loading
        self._outdated: set[K] = set()  # their files could be neither written nor deleted
        self._storage_failures = 0
        self._is_down = False
        register(self)

    def get(self, key: K) -> bytes | None:
        """The value of `key`, or None. Does not wait for a `load` of it.

        Blocks: while a file is read, if it is not in memory.
        """
        return self._memory._fill(key, self._read)  # noqa: SLF001 - of one package

    def load(self, key: K, loader: Callable[[K], bytes], *, timeout: float | None = None) -> bytes:
        """The value of `key` from memory, from its file, or from `loader(key)`, which is kept.

        One loader a key at a time; see `TTLCache.load` for what is raised.

        Blocks: while the loader runs.
        """

        def read_or_load(key: K) -> bytes:
            found = self._read(key)
            if found is not None:
                return found
            token = self._begin(key)
            try:
                value = loader(key)
                self._finish(key, value, token)
            finally:
                self._forget(key, token)
            return value

        return self._memory.load(key, read_or_load, timeout=timeout)

    async def aload(
        self,
        key: K,
        loader: Callable[[K], Awaitable[bytes]] | Callable[[K], bytes],
        *,
        timeout: float | None = None,
    ) -> bytes:
        """`load` for coroutines. Files are read and written on threads of the loop's executor."""

        async def read_or_load(key: K) -> bytes:
            found = await asyncio.to_thread(self._read, key)
            if found is not None:
                return found
            token = self._begin(key)
            try:
                value: Any = loader(key)
                if inspect.isawaitable(value):
                    value = await value
                await asyncio.to_thread(self._finish, key, value, token)
            finally:
                self._forget(key, token)
            return value  # type: ignore[no-any-return]

        return await self._memory.aload(key, read_or_load, timeout=timeout)

    def put(self, key: K, value: bytes) -> None:
        """Keep `value` in both tiers.

        Of two puts of one key at the same moment either may win, in each tier by itself.

        Blocks: while the file is written.
        """
        with self._lock:
            self._loading.pop(key, None)
            self._write_locked(key, value)
        self._memory.put(key, value)

    def delete(self, key: K) -> bool:
        """Remove `key` from both tiers. False if it was in neither.

        Raises:
            StorageFailed: Its file cannot be deleted. It is out of memory all the same, and the
                file is not served any more.
        """
        was_in_files = was_in_memory = False
        try:
            with self._lock:
                self._loading.pop(key, None)
                was_in_files = self._delete_locked(key)
        finally:
            was_in_memory = self._memory.pop(key, None) is not None
        return was_in_memory or was_in_files

    def clear(self) -> None:
        """Empty both tiers. Files of others in the folder stay.

        Raises:
            StorageFailed: Not all files could be deleted; those that are left are still served.
        """
        try:
            with self._lock:
                self._loading.clear()
                self._files.clear()
                self._outdated.clear()
        finally:
            self._memory.clear()

    def __contains__(self, key: K) -> bool:
        return key in self._memory or (key not in self._outdated and key in self._files)

    def statistics(self) -> TieredStatistics:
        """What both tiers did so far."""
        try:
            files = self._files.statistics()
        except StorageFailed:
            files = None
        return TieredStatistics(self._memory.statistics(), files, self._storage_failures)

    # -- loading: a file is written only if nothing made the value outdated meanwhile ------------

    def _begin(self, key: K) -> object:
        token = object()
        with self._lock:
            self._loading[key] = token
        return token

    def _finish(self, key: K, value: bytes, token: object) -> None:
        with self._lock:
            if self._loading.get(key) is token:
                del self._loading[key]
                self._write_locked(key, value)

    def _forget(self, key: K, token: object) -> None:
        """End a load that may have failed: it may write no longer."""
        with self._lock:
            if self._loading.get(key) is token:
                del self._loading[key]

    # -- files, and those of them that are outdated ----------------------------------------------

    def _read(self, key: K) -> bytes | None:
        return None if key in self._outdated else self._files.get(key)

    def _write_locked(self, key: K, value: bytes) -> None:
        try:
            self._files.put(key, value)
        except StorageFailed as exc:
            self._storage_failures += 1
            self._try_to_delete_locked(key)  # never serve what was to be replaced
            if not self._is_down:
                _log.error("%s; going on without files", exc)
            self._is_down = True
            return
        self._outdated.discard(key)
        if self._is_down:
            self._is_down = False
            _log.warning("%s: files can be written again", self._files.name)
        for outdated in list(self._outdated):
            self._try_to_delete_locked(outdated)

    def _delete_locked(self, key: K) -> bool:
        self._outdated.add(key)
        was_there = self._files.delete(key)
        self._outdated.discard(key)
        return was_there

    def _try_to_delete_locked(self, key: K) -> None:
        try:
            self._delete_locked(key)
        except StorageFailed:
            with suppress(OSError):
                if key not in self._files:  # nothing there that could be served
                    self._outdated.discard(key)

    def _is_held(self) -> bool:
        """Whether user code that calls this runs under the lock."""
        return self._runtime.owns(self._lock)

    def _after_fork_in_child(self) -> None:
        """Whoever held the lock or was loading is a thread of the parent."""
        self._lock = self._runtime.rlock()
        self._loading = {}
