"""Checks that code under test gives back what it took."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Generator
from pathlib import Path

__all__ = ["no_leaks"]

_DESCRIPTORS = Path("/dev/fd")  # lists the process's own descriptors on Linux, macOS and the BSDs


@contextlib.contextmanager
def no_leaks(*, join_timeout: float = 2.0) -> Generator[None]:
    """Fail if the block leaves threads running or file descriptors open, and name them.

        >>> import threading
        >>> stop = threading.Event()
        >>> try:
        ...     with no_leaks(join_timeout=0.01):
        ...         thread = threading.Thread(target=stop.wait, name="forgotten")
        ...         thread.start()
        ... except AssertionError as exc:
        ...     print(exc)
        ... finally:
        ...     stop.set()
        ...     thread.join()
        threads left running: forgotten

    Only what is new counts. Garbage is collected first, and threads that are about to end are
    given `join_timeout` real seconds. Descriptors are checked where the platform lists them.

    Args:
        join_timeout: Seconds to wait for each thread that is still running.

    Raises:
        AssertionError: Naming the threads, and what the descriptors are open on.
    """
    threads, descriptors = set(threading.enumerate()), _open_descriptors()
    yield
    gc.collect()
    leaks = [
        *_describe("threads left running", _threads_since(threads, join_timeout)),
        *_describe("descriptors left open", _descriptors_since(descriptors)),
    ]
    if leaks:
        raise AssertionError("; ".join(leaks))


def _threads_since(before: set[threading.Thread], join_timeout: float) -> list[str]:
    new = [thread for thread in threading.enumerate() if thread not in before]
    for thread in new:
        thread.join(join_timeout)
    return sorted(thread.name for thread in new if thread.is_alive())


def _open_descriptors() -> dict[int, str]:
    """What each open descriptor leads to; empty where the platform does not tell."""
    found: dict[int, str] = {}
    for entry in list(_DESCRIPTORS.iterdir()) if _DESCRIPTORS.is_dir() else ():
        with contextlib.suppress(OSError):  # the one that listed the folder is closed by now
            os.fstat(int(entry.name))
            found[int(entry.name)] = _target(entry)
    return found


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:  # on some platforms they are devices, not links
        return "of unknown target"


def _descriptors_since(before: dict[int, str]) -> list[str]:
    now = _open_descriptors()
    return sorted(
        f"{descriptor} ({target})"
        for descriptor, target in now.items()
        if before.get(descriptor) != target
    )


def _describe(what: str, names: list[str]) -> list[str]:
    return [f"{what}: {', '.join(names)}"] if names else []
