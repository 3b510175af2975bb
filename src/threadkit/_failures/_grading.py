"""How bad is it, and is trying again of use: a verdict on any exception, ours or foreign."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import logging
import queue
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from threadkit._errors import Retry, Severity, ThreadkitError

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

logger = logging.getLogger("threadkit.failures")

E = TypeVar("E", bound=BaseException)


@dataclass(frozen=True)
class Verdict:
    """What `classify` says of an exception.

    Attributes:
        severity: How bad it is, and so who must act.
        retry: Whether the same call may be made again.
    """

    severity: Severity
    retry: Retry


Rule = Callable[[Any], "Verdict | None"]


def classify(exc: BaseException) -> Verdict:
    """Grade any exception.

    threadkit's own carry their grade. Foreign ones are looked up along their type's method
    resolution order: first what `register_verdict` was told, then the built-in table (an OSError
    by its errno). A group is as bad as its worst member, and only as safe to retry as its least
    safe one.

    >>> classify(ConnectionRefusedError()).retry
    <Retry.SAFE: 'safe'>
    >>> classify(TypeError("takes 2 positional arguments")).retry
    <Retry.AFTER_FIX: 'after_fix'>

    Thread safety: may be called from any thread, also while another registers a verdict.
    """
    rules = _rules
    for cls in type(exc).__mro__:
        rule = rules.get(cls)
        if rule is not None:
            verdict = rule if isinstance(rule, Verdict) else _ask(rule, exc)
            if verdict is not None:
                return verdict
    return _UNKNOWN


def register_verdict(
    exc_type: type[E], verdict: Verdict | Callable[[E], Verdict | None]
) -> Callable[[], None]:
    """Teach `classify` about a type and its subclasses.

    >>> class QuotaExceeded(Exception): pass
    >>> undo = register_verdict(QuotaExceeded, Verdict(Severity.WARNING, Retry.SAFE))
    >>> classify(QuotaExceeded()).severity
    <Severity.WARNING: 30>
    >>> undo()

    Args:
        exc_type: The exception class. A more derived class that is known wins over it.
        verdict: The grade, or a function of the exception that gives one, or None to leave the
            exception to the base classes' rules.

    Returns:
        A function that forgets this verdict. What was registered for the type before or after it
        stays, in whatever order they are undone; the latest one that is left counts.

    Raises:
        TypeError: `exc_type` is not an exception class, or `verdict` neither of the two.

    Thread safety: may be called from any thread.
    """
    if not (isinstance(exc_type, type) and issubclass(exc_type, BaseException)):
        raise TypeError(f"exc_type must be an exception class, not {exc_type!r}")
    if not (isinstance(verdict, Verdict) or callable(verdict)):
        raise TypeError(f"verdict must be a Verdict or a function giving one, not {verdict!r}")
    registration = _Registration(verdict)
    with _lock:
        _registrations.setdefault(exc_type, []).append(registration)
        _publish_locked()

    def undo() -> None:
        with _lock:
            registered = _registrations.get(exc_type, [])
            if registration in registered:
                registered.remove(registration)
                if not registered:
                    del _registrations[exc_type]  # it may be a class that is to go
                _publish_locked()

    return undo


class _Registration:
    """What `register_verdict` was told once: equal to itself only."""

    __slots__ = ("rule",)

    def __init__(self, rule: Verdict | Rule) -> None:
        self.rule = rule


def _publish_locked() -> None:
    """Make a new table of the latest registrations. Readers hold the table they began with."""
    global _rules  # noqa: PLW0603 - one atomic store is the publication
    told = {cls: stack[-1].rule for cls, stack in _registrations.items()}
    _rules = {**_BUILT_IN, **told}


def _ask(rule: Rule, exc: BaseException) -> Verdict | None:
    """What a rule says; one that raises or talks nonsense says nothing: grading never fails."""
    try:
        verdict: object = rule(exc)
    except Exception:
        logger.exception("the verdict registered for %s raised", type(exc).__qualname__)
        return None
    if verdict is None or isinstance(verdict, Verdict):
        return verdict
    logger.warning(
        "the rule registered for %s gave a %s, no Verdict",
        type(exc).__qualname__,
        type(verdict).__qualname__,
    )
    return None


def _grade_own(exc: ThreadkitError) -> Verdict:
    return Verdict(exc.severity, exc.retry)


def members_of(exc: BaseException) -> tuple[BaseException, ...]:
    """The exceptions of a group; none of any other exception."""
    if not isinstance(exc, BaseExceptionGroup):
        return ()
    return cast("BaseExceptionGroup[BaseException]", exc).exceptions


def _grade_group(group: BaseExceptionGroup[BaseException]) -> Verdict:
    verdicts = [classify(member) for member in members_of(group)]
    return Verdict(
        max(verdict.severity for verdict in verdicts),
        max((verdict.retry for verdict in verdicts), key=_LEAST_SAFE_LAST.index),
    )


def _grade_os_error(exc: OSError) -> Verdict:
    """By errno, whose numbers mean something else on an SSLError."""
    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(exc, ssl.SSLError):
        return _BROKEN if isinstance(exc, ssl.SSLCertVerificationError) else _INTERRUPTED
    return _BY_ERRNO.get(exc.errno or 0, _INTERRUPTED)


def _grade_name_lookup(exc: socket.gaierror) -> Verdict:
    return _TRANSIENT if exc.errno == socket.EAI_AGAIN else _BROKEN


_LEAST_SAFE_LAST = (
    Retry.SAFE,
    Retry.IF_IDEMPOTENT,
    Retry.HIGHER_LEVEL,
    Retry.AFTER_FIX,
    Retry.NEVER,
)

_ON_PURPOSE = Verdict(Severity.INFO, Retry.NEVER)  # somebody wanted it to end
_TRANSIENT = Verdict(Severity.WARNING, Retry.SAFE)  # nothing was done
_INTERRUPTED = Verdict(Severity.WARNING, Retry.IF_IDEMPOTENT)  # something may have been done
_REFUSED = Verdict(Severity.ERROR, Retry.NEVER)  # the same input fails the same way
_BROKEN = Verdict(Severity.ERROR, Retry.AFTER_FIX)  # code, file or configuration is wrong
_STARVED = Verdict(Severity.CRITICAL, Retry.AFTER_FIX)  # the machine or the process is in trouble
_UNKNOWN = Verdict(Severity.CRITICAL, Retry.NEVER)

_BY_ERRNO = {
    getattr(errno, name): verdict
    for verdict, names in {
        _TRANSIENT: "EAGAIN EWOULDBLOCK EINTR EBUSY ECONNREFUSED EHOSTUNREACH ENETUNREACH "
        "EHOSTDOWN ENETDOWN EADDRINUSE ETXTBSY EDEADLK ENOBUFS",
        _INTERRUPTED: "ECONNRESET ECONNABORTED EPIPE ETIMEDOUT ENETRESET ESHUTDOWN ENOTCONN",
        _BROKEN: "EACCES EPERM ENOENT EEXIST EISDIR ENOTDIR ENOTEMPTY EINVAL EBADF ENODEV ENXIO "
        "ENAMETOOLONG ELOOP EXDEV ENOSYS ENOTSUP EADDRNOTAVAIL EAFNOSUPPORT",
        _STARVED: "ENOSPC EDQUOT EMFILE ENFILE ENOMEM EIO EROFS",
    }.items()
    for name in names.split()
    if hasattr(errno, name)  # Windows lacks a few
}

_BUILT_IN: dict[type[BaseException], Verdict | Rule] = {
    ThreadkitError: _grade_own,
    BaseExceptionGroup: _grade_group,
    OSError: _grade_os_error,
    socket.gaierror: _grade_name_lookup,
    ConnectionRefusedError: _TRANSIENT,
    BlockingIOError: _TRANSIENT,
    InterruptedError: _TRANSIENT,
    queue.Full: _TRANSIENT,
    queue.Empty: Verdict(Severity.INFO, Retry.SAFE),
    ConnectionError: _INTERRUPTED,
    TimeoutError: _INTERRUPTED,
    asyncio.TimeoutError: _INTERRUPTED,  # a class of its own before 3.11, as is the next
    concurrent.futures.TimeoutError: _INTERRUPTED,
    EOFError: _INTERRUPTED,
    FileNotFoundError: _BROKEN,
    FileExistsError: _BROKEN,
    PermissionError: _BROKEN,
    IsADirectoryError: _BROKEN,
    NotADirectoryError: _BROKEN,
    ImportError: _BROKEN,
    SyntaxError: _BROKEN,
    NameError: _BROKEN,
    AttributeError: _BROKEN,
    TypeError: _BROKEN,
    AssertionError: _BROKEN,
    NotImplementedError: _BROKEN,
    RecursionError: _REFUSED,
    MemoryError: _STARVED,
    concurrent.futures.BrokenExecutor: _STARVED,
    SystemError: Verdict(Severity.FATAL, Retry.NEVER),
    Warning: Verdict(Severity.WARNING, Retry.NEVER),
    asyncio.CancelledError: _ON_PURPOSE,
    concurrent.futures.CancelledError: _ON_PURPOSE,
    KeyboardInterrupt: _ON_PURPOSE,
    SystemExit: _ON_PURPOSE,
    GeneratorExit: _ON_PURPOSE,
    Exception: _REFUSED,
}

# Guards both below; readers take no lock, for a table is never changed once published.
_lock = threading.Lock()
_registrations: dict[type[BaseException], list[_Registration]] = {}  # the latest is last
_rules = _BUILT_IN
