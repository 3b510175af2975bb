"""Starting a thread while a signal may interrupt the start."""

from __future__ import annotations

__all__ = ["Birth"]


class Birth:
    """Whether a thread came to life, for whoever is interrupted while starting it.

    An exception out of `Thread.start` may be a signal handler's, as Ctrl-C: then nobody can tell
    whether there will be a thread. So the thread claims its birth first of all, and the starter
    claims it after an exception: who comes second must not go on, as the thread must not run, and
    the starter must not write it off.
    """

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token = [None]

    def claim(self) -> bool:
        """Whether the caller is the first to claim it. Atomic: one call in C."""
        try:
            self._token.pop()
        except IndexError:
            return False
        return True
