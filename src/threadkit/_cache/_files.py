"""FileTier: bytes in files, for caches that should outlive the process.

A file holds one entry: a header with lengths and a checksum, the key, the value. It is written
under a temporary name and renamed, so that a reader sees all of it or none; the checksum covers
what a rename cannot promise after a power cut. Nothing is ever unpickled.

Processes share a folder. Reading takes no lock. Writing takes the folder's lock file, and counts
up the change number in it: as long as only one process writes, it knows the sizes of all files
without looking.

What is not ours is not touched: a file with another name or another beginning is left alone and
reported by `statistics()`.

Names of entries are joined as strings. A `Path` interns each part of its name, and Python 3.12
never lets go of an interned string: every key that was ever looked up would stay in memory.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import struct
from collections.abc import Container, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from threadkit._cache._arguments import a_capacity
from threadkit._cache._folder_lock import Turn, folder_lock
from threadkit._cache._registry import register
from threadkit._errors import StorageFailed
from threadkit._runtime import REAL, Runtime

__all__ = ["FileTier", "FileTierStatistics"]

MAGIC = b"tkfile1\n"
HEADER = struct.Struct(">8s16sIQ")  # magic, checksum, length of the key, length of the value
SUFFIX = ".tkc"
TEMPORARY = ".tmp"
LOCK = ".tkc-lock"
TRIM_RATIO = 0.9  # of the budget is left after trimming, so that not every put trims

_NAME = re.compile(rf"[0-9a-f]{{32}}{re.escape(SUFFIX)}")
_TEMPORARY_NAME = re.compile(_NAME.pattern + re.escape(TEMPORARY))

_log = logging.getLogger("threadkit.cache")


@dataclass(frozen=True)
class FileTierStatistics:
    """What a file tier did since it was made, and what is in its folder.

    Attributes:
        hits: Reads that found a whole entry.
        misses: Reads that did not.
        writes: Entries written.
        evicted: Entries removed to keep the budget.
        rejected: Values larger than the whole budget.
        torn: Entries with a wrong checksum: removed, never served.
        unreadable: Reads the operating system refused; the file was left alone.
        foreign: Names in the folder that are not ours. They are left alone and not counted.
        entries: Entries in the folder, all processes' together, when it was last looked at.
        bytes: Their size.
        max_bytes: The budget.
    """

    hits: int
    misses: int
    writes: int
    evicted: int
    rejected: int
    torn: int
    unreadable: int
    foreign: tuple[str, ...]
    entries: int
    bytes: int
    max_bytes: float


class FileTier:
    """A folder of checked, atomically written entries within a byte budget.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> tier = FileTier(folder.name, max_bytes=1_000_000)
    >>> tier.put("greeting", b"hello")
    True
    >>> tier.get("greeting"), tier.get("parting")
    (b'hello', None)
    >>> folder.cleanup()

    The least recently read or written entries go first when the budget is reached.

    Thread safety: all methods, from any thread and from several processes on one folder.

    Lifetime: nothing to close. A process killed at any moment leaves whole entries, and at most
    one temporary file, which the next writer removes.

    Args:
        directory: Created if it is not there. Others' files in it are left alone.
        max_bytes: The most the files may take together; `math.inf` for no bound.
        name: For errors and logs.
        runtime: Where the lock and the clock come from.

    Raises:
        StorageFailed: The directory cannot be made.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        max_bytes: float,
        name: str = "files",
        runtime: Runtime = REAL,
    ) -> None:
        self._max_bytes = a_capacity("max_bytes", max_bytes)
        self._directory = Path(directory)
        self._folder = os.fspath(self._directory)
        self.name = name
        self._runtime = runtime
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise self._failed(exc) from exc

        # Guards the fields below, which describe the folder as of `_changes`; taken before the
        # folder's lock. Held across the file operations of one write, which it is there to
        # order, never across user code. Re-entrant for finalizers run inside.
        self._lock = runtime.rlock()
        self._held: Turn | None = None
        self._is_turning = False  # also while the folder's lock is just taken or left
        self._changes = -1  # nothing is known yet
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._foreign: tuple[str, ...] = ()

        # Guards the counts alone, so that reads do not wait for a write. Never held for more.
        self._counting = runtime.rlock()
        self._counts: dict[str, int] = dict.fromkeys(
            ("hits", "misses", "writes", "evicted", "rejected", "torn", "unreadable"), 0
        )
        register(self)

    # -- reading ------------------------------------------------------------------------------

    def get(self, key: str | bytes) -> bytes | None:
        """The value of `key`, or None. Takes no lock.

        Blocks: while the file is read.
        """
        value = self._read(key)
        self._count("misses" if value is None else "hits")
        return value

    def _read(self, key: str | bytes) -> bytes | None:
        name, label = _name_of(key)
        path = self._at(name)
        try:
            data = _read_file(path)
        except FileNotFoundError:
            return None
        except OSError as exc:
            self._count("unreadable")
            _log.warning("%s: cannot read %s: %s", self.name, path, exc)
            return None
        value = _unpack(data, label)
        if value is not None:
            with contextlib.suppress(OSError):
                os.utime(path)  # recency; somebody may have evicted it meanwhile
        elif MAGIC.startswith(data[: len(MAGIC)]):
            self._remove_torn(name, label)
        return value

    def __contains__(self, key: str | bytes) -> bool:
        """Whether there is a file for `key`; whether it is whole, only `get` finds out."""
        return os.path.isfile(self._at(_name_of(key)[0]))

    def _at(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _remove_torn(self, name: str, label: bytes) -> None:
        """Remove an entry of ours whose checksum is wrong, unless it was replaced meanwhile."""
        self._count("torn")
        _log.warning("%s: %s is torn: removing it", self.name, name)
        with contextlib.suppress(OSError), self._turn() as turn:
            if _unpack(_read_file(self._at(name)), label) is None:
                self._unlink_locked(name, turn)

    # -- writing ------------------------------------------------------------------------------

    def put(self, key: str | bytes, value: bytes | bytearray | memoryview) -> bool:
        """Keep `value` for `key`. False if it is larger than the whole budget.

        Blocks: while the file is written, and while another process writes.

        Raises:
            StorageFailed: The disk is full, read-only or gone. What was there before is intact.
            TypeError: `key` is not str or bytes, or `value` is not bytes.
        """
        name, label = _name_of(key)
        data = _pack(label, bytes(memoryview(value)))
        with self._turn() as turn:
            if len(data) > self._max_bytes:
                self._unlink_locked(name, turn)  # never keep serving what was to be replaced
                self._count("rejected")
                return False
            if name in self._foreign:
                raise FileExistsError(
                    errno.EEXIST, "a file of another program is in the way", self._at(name)
                )
            self._trim_locked(len(data), turn)
            self._write_locked(name, data, turn)
        return True

    def delete(self, key: str | bytes) -> bool:
        """Remove `key`. False if it was not there."""
        name, _ = _name_of(key)
        with self._turn() as turn:
            return self._unlink_locked(name, turn)

    def clear(self) -> None:
        """Remove all entries, and nothing else."""
        with self._turn() as turn:
            for name in list(self._sizes):
                self._unlink_locked(name, turn)

    def statistics(self) -> FileTierStatistics:
        """What the tier did so far. Looks at the folder if another process changed it."""
        with self._turn():
            return FileTierStatistics(
                entries=len(self._sizes),
                bytes=self._bytes,
                max_bytes=self._max_bytes,
                foreign=self._foreign,
                **self._counts,
            )

    # -- the folder, under both locks ------------------------------------------------------------

    @contextmanager
    def _turn(self) -> Generator[Turn]:
        """The folder's lock, with our picture of the folder up to date.

        Raises:
            StorageFailed: The folder cannot be used; or a finalizer wants a turn while its thread
                is just taking or leaving the lock, and would wait for itself.
        """
        with self._lock:
            if self._held is not None:  # a finalizer runs inside our own turn
                self._held.is_shared = True
                yield self._held
                return
            if self._is_turning:
                raise self._failed(OSError(errno.EDEADLK, "this thread is just taking its lock"))
            self._is_turning = True
            try:
                with folder_lock(self._directory / LOCK) as turn:
                    self._held = turn
                    try:
                        if turn.changes != self._changes:
                            self._look_locked(turn)
                        yield turn
                        self._changes = -1 if turn.is_shared else turn.changes
                    finally:
                        self._held = None
            except OSError as exc:
                self._changes = -1
                raise exc if isinstance(exc, StorageFailed) else self._failed(exc) from exc
            finally:
                self._is_turning = False

    def _look_locked(self, turn: Turn) -> None:
        """See what is in the folder, and clean up after writers that were killed."""
        known, self._sizes = self._sizes, {}
        foreign: list[str] = []
        with os.scandir(self._directory) as found:
            for item in found:
                if _TEMPORARY_NAME.fullmatch(item.name):
                    # Its writer held the lock that we hold now: it is dead.
                    turn.will_change()
                    _remove_file(item.path)
                elif item.name != LOCK:
                    if _is_ours(item, known):
                        self._sizes[item.name] = item.stat().st_size
                    else:
                        foreign.append(item.name)
        self._foreign = tuple(sorted(foreign))
        self._bytes = sum(self._sizes.values())

    def _write_locked(self, name: str, data: bytes, turn: Turn) -> None:
        turn.will_change()
        temporary = self._at(f"{name}{TEMPORARY}")
        try:
            _write_file(temporary, data)
            _replace_file(temporary, self._at(name))
        except BaseException:
            with contextlib.suppress(OSError):
                _remove_file(temporary)
            raise
        self._bytes += len(data) - self._sizes.get(name, 0)
        self._sizes[name] = len(data)
        self._count("writes")

    def _unlink_locked(self, name: str, turn: Turn) -> bool:
        if name not in self._sizes:
            return False
        turn.will_change()
        _remove_file(self._at(name))
        self._bytes -= self._sizes.pop(name, 0)
        return True

    def _trim_locked(self, room: int, turn: Turn) -> None:
        """Remove the longest unread until `room` more bytes fit into the budget."""
        if self._bytes + room <= self._max_bytes:
            return
        for name in sorted(self._sizes, key=self._read_at):
            if self._bytes + room <= self._max_bytes * TRIM_RATIO:
                return
            self._unlink_locked(name, turn)
            self._count("evicted")

    def _read_at(self, name: str) -> int:
        try:
            return os.stat(self._at(name)).st_mtime_ns
        except OSError:
            return 0

    # -- reporting ------------------------------------------------------------------------------

    def _count(self, what: str) -> None:
        with self._counting:
            self._counts[what] += 1

    def _failed(self, exc: OSError) -> StorageFailed:
        return StorageFailed(
            component=self.name,
            path=str(exc.filename or self._directory),
            cause=exc.strerror or str(exc),
        )

    def _is_held(self) -> bool:
        """Whether a finalizer that calls this runs under one of the locks."""
        return self._runtime.owns(self._lock) or self._runtime.owns(self._counting)

    def _after_fork_in_child(self) -> None:
        """A thread of the parent may have held the locks, and the descriptor of the lock file."""
        if self._held is not None:
            os.close(self._held.descriptor)
            self._held = None
        self._is_turning = False
        self._lock, self._counting = self._runtime.rlock(), self._runtime.rlock()
        self._changes = -1


# -- one file, named by a string --------------------------------------------------------------


def _read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write_file(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _replace_file(path: str, target: str) -> None:
    os.replace(path, target)


def _remove_file(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


# -- the file format --------------------------------------------------------------------------


def _name_of(key: str | bytes) -> tuple[str, bytes]:
    """The file name of `key`, and how the key is written into the file."""
    if isinstance(key, str):
        label = b"s" + key.encode("utf-8", "surrogatepass")
    elif isinstance(key, bytes):
        label = b"b" + key
    else:
        raise TypeError(f"key must be str or bytes, which every process reads alike, not {key!r}")
    return hashlib.blake2b(label, digest_size=16).hexdigest() + SUFFIX, label


def _checksum(label: bytes, value: bytes) -> bytes:
    digest = hashlib.blake2b(value, digest_size=16)
    digest.update(label)
    return digest.digest()


def _pack(label: bytes, value: bytes) -> bytes:
    return HEADER.pack(MAGIC, _checksum(label, value), len(label), len(value)) + label + value


def _unpack(data: bytes, label: bytes) -> bytes | None:
    """The value in `data` if it is whole and belongs to `label`."""
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        return None
    _, checksum, key_length, value_length = HEADER.unpack_from(data)
    start = HEADER.size + key_length
    value = data[start:]
    whole = len(value) == value_length and data[HEADER.size : start] == label
    return value if whole and _checksum(label, value) == checksum else None


def _is_ours(item: os.DirEntry[str], known: Container[str]) -> bool:
    """Whether a file has our name and our beginning. What could not be read is not ours."""
    if item.name in known:
        return True
    if not _NAME.fullmatch(item.name) or not item.is_file(follow_symlinks=False):
        return False
    try:
        with open(item.path, "rb") as file:
            return MAGIC.startswith(file.read(len(MAGIC)))  # after a power cut it may be short
    except OSError:
        return False
