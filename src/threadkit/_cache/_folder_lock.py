"""A lock between processes, in a file, that a killed process cannot keep.

The file also counts changes: who takes the lock sees at once whether another process changed the
folder since. Both `flock` and Windows' byte locks are dropped by the kernel when their holder dies.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined, unused-ignore]

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined, unused-ignore]
else:

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


__all__ = ["Turn", "folder_lock"]

_COUNTER = struct.Struct(">Q")  # from the second byte on: Windows locks the first, for all


class Turn:
    """The holder's view of the lock file.

    Attributes:
        changes: How often any process changed the folder, from a random beginning, so that a
            lock file somebody deleted does not come back with a number that was seen before.
        is_shared: Whether a finalizer made changes in the middle of the holder's: then the holder
            no longer knows what is in the folder.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.is_shared = False
        os.lseek(descriptor, 1, os.SEEK_SET)
        counter = os.read(descriptor, _COUNTER.size)
        if len(counter) == _COUNTER.size:
            (self.changes,) = _COUNTER.unpack(counter)
        else:
            self.changes = random.getrandbits(62)

    def will_change(self) -> None:
        """Note a change, before it is made: if we are killed half-way, it is noted all the same."""
        self.changes += 1
        os.lseek(self.descriptor, 1, os.SEEK_SET)
        os.write(self.descriptor, _COUNTER.pack(self.changes))


@contextmanager
def folder_lock(path: Path) -> Generator[Turn]:
    """Hold the lock in `path`, which is created.

    The file is opened anew each time, so that two threads exclude each other as two processes do.

    Blocks: while another process or thread holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(descriptor)
        try:
            yield Turn(descriptor)
        finally:
            # Said explicitly: a child forked meanwhile has a copy of the descriptor, which would
            # keep the lock for as long as the child lives.
            with suppress(OSError):
                _unlock(descriptor)
    finally:
        os.close(descriptor)
