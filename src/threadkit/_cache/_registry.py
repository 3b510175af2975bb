"""Every cache and tier of the process: mended after a fork, and asked whether we are inside one.

User code can run under the lock of a cache: the `__hash__` and `__eq__` of keys, and finalizers,
which the collector runs wherever something is allocated. It may do all that a cache offers, since
the lock is re-entrant, but not wait there for another thread, which may need that lock to go on.
"""

from __future__ import annotations

import logging
import os
import weakref
from typing import Protocol

from threadkit._cache._sweeper import forget_after_fork

__all__ = ["is_inside_one", "register"]

_log = logging.getLogger("threadkit.cache")


class Member(Protocol):
    """A cache or a tier, as seen from here."""

    def _is_held(self) -> bool:
        """Whether the calling thread holds one of its locks."""
        ...

    def _after_fork_in_child(self) -> None:
        """Replace locks that a thread which does not exist here may have held."""
        ...


# By id, since a mapping is not hashable.
_members: weakref.WeakValueDictionary[int, Member] = weakref.WeakValueDictionary()


def register(member: Member) -> None:
    """Have `member` known here for as long as it lives."""
    _members[id(member)] = member


def is_inside_one() -> bool:
    """Whether the caller runs under the lock of some cache or tier, not only of its own.

    A thread that waits inside one cache for a load of another, whose loader uses the first, would
    wait as long. Looks at all of them: only who is about to wait asks.
    """
    for reference in _members.valuerefs():
        member = reference()
        if member is not None and member._is_held():  # noqa: SLF001 - its protocol
            return True
    return False


def _after_fork_in_child() -> None:
    forget_after_fork()  # the members ask for a new one
    for member in list(_members.values()):
        try:
            member._after_fork_in_child()  # noqa: SLF001 - its protocol
        except Exception:  # noqa: BLE001 - the clock or keys of one user are not the others' fault
            _log.exception("mending %r after fork failed", member)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
