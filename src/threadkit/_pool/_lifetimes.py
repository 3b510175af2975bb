"""What becomes of pools when the interpreter exits, and when the process forks.

At exit, as with the standard executor, tasks that were submitted are finished, unless a pool was
told otherwise (`at_exit`). Workers are daemon threads, so that "otherwise" is possible: the
interpreter would wait for others. They are joined here, before the interpreter tears anything
down.

After a fork the child has none of the workers. Its copy of a pool starts anew: futures that were
queued or running end with WorkerLost in the child (in the parent they go on), and what the child
submits gets workers of its own. A task that forks and returns in the child ends the child: its
thread is the only one.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from threadkit._futures import fork_lock

if TYPE_CHECKING:
    from threadkit._pool._crew import Crew

__all__ = ["watch"]

_crews: weakref.WeakSet[Crew] = weakref.WeakSet()
_exiting = threading.Event()


def watch(crew: Crew) -> None:
    """Tell this crew about exit and forks."""
    _crews.add(crew)
    if _exiting.is_set():  # nobody would wait for its tasks any more
        crew.ending.begin_exit()


def _at_exit() -> None:
    """Close every pool first, then wait for each: their deadlines run at the same time."""
    _exiting.set()
    crews = list(_crews)
    started = time.monotonic()
    for crew in crews:
        crew.ending.begin_exit()
    for crew in crews:
        crew.ending.finish_exit(time.monotonic() - started)


def _after_in_child() -> None:
    fork_lock.release()
    for crew in list(_crews):
        crew.ending.start_anew()


# The standard executor uses the same hook: it runs before the interpreter joins threads. Where
# there is none, atexit comes after that, which is soon enough for daemon threads.
_register: Callable[..., Any] = getattr(threading, "_register_atexit", atexit.register)
_register(_at_exit)

if hasattr(os, "register_at_fork"):
    # No future may be half published in the child: its worker will not finish the step there.
    os.register_at_fork(
        before=fork_lock.acquire,
        after_in_parent=fork_lock.release,
        after_in_child=_after_in_child,
    )
