"""The only room that asks what platform this is. Stateless functions."""

from __future__ import annotations

import sys

__all__ = ["signal_wait_slice"]


def signal_wait_slice() -> float | None:
    """Longest time, in seconds, that the main thread may block and still notice a signal.

    None where a blocked lock lets signal handlers run (POSIX). On Windows a Ctrl-C only reaches
    Python between two waits, so a wait there has to end now and then.
    """
    return 0.5 if sys.platform == "win32" else None
