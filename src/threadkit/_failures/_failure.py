"""An exception with its story: what crosses from the thread that failed to those who ask.

A bare exception that several threads raise again and again changes each time: every raise adds
its frames to `__traceback__`, and hangs whatever the raising thread was handling on
`__context__`. A Failure keeps what both were when the task ended, and puts them back.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import traceback as tracebacks
from collections.abc import Iterator
from types import CodeType, FrameType, TracebackType
from typing import NoReturn, Protocol, TypeAlias, cast

from threadkit._errors import Retry, Severity
from threadkit._failures._fingerprints import fingerprint_of
from threadkit._failures._grading import Verdict, classify, members_of
from threadkit._runtime import REAL

# Where tasks come from, innermost caller first: code object, f_lasti, code object, f_lasti, ...
# Flat, because one tuple is all that submit() can afford; a code object holds no locals, so a
# site keeps nothing alive; line numbers are worked out only when somebody looks.
Site: TypeAlias = "tuple[CodeType | int, ...]"

_SUBMITTED = "submitted at "
_MAX_SITES = 8  # notes on one exception: a chain of nested tasks, or one instance raised for ever


def submit_site(depth: int = 1) -> Site:
    """Where the caller's caller stands (`depth` frames above the caller)."""
    frame = sys._getframe(depth + 1)  # noqa: SLF001 - its documented use
    return frame.f_code, frame.f_lasti


def submit_stack(depth: int = 1, limit: int = 8) -> Site:
    """As `submit_site`, and the callers above it: `limit` frames in all, at ten times the cost."""
    frame: FrameType | None = sys._getframe(depth + 1)  # noqa: SLF001
    site: list[CodeType | int] = []
    while frame is not None and len(site) < 2 * limit:
        site += (frame.f_code, frame.f_lasti)
        frame = frame.f_back
    return tuple(site)


class Failure:
    """What became of a task that raised: the exception, and everything known of how.

    >>> import traceback
    >>> def work():
    ...     raise ValueError("no such room")
    >>> try:
    ...     work()
    ... except ValueError as exc:
    ...     failure = Failure(exc, component="pool", task="greet")
    >>> failure
    <Failure of greet in pool: ValueError: no such room>
    >>> for _ in range(2):
    ...     try:
    ...         failure.reraise()
    ...     except ValueError as exc:
    ...         print(len(traceback.extract_tb(exc.__traceback__)))
    4
    4

    Thread safety: immutable but for the exception it holds, which consumers share; each
    `reraise` starts from the saved traceback, so none sees the frames of another for good.

    Lifetime: keeps the frames of the failed call, and so its locals, until `clear_frames`.

    Args:
        exception: What was raised.
        skip: How many of the outermost traceback entries belong to the machinery that ran the
            task. A worker passes 1: its own frame is still running and tells nothing.
        site: Where the task was submitted, from `submit_site`.
        component: Name of the pool or component it ran in.
        task: Label of the task.
        worker: Name of the thread it ran on.
        attempt: Which try this was, from 1.
        at: When it failed, in seconds since the epoch; by default now.
    """

    __slots__ = (
        "_cause",
        "_context",
        "_fingerprint",
        "_is_annotated",
        "_suppress_context",
        "at",
        "attempt",
        "component",
        "exception",
        "site",
        "task",
        "traceback",
        "worker",
    )

    def __init__(
        self,
        exception: BaseException,
        *,
        skip: int = 0,
        site: Site | None = None,
        component: str | None = None,
        task: str | None = None,
        worker: str | None = None,
        attempt: int = 1,
        at: float | None = None,
    ) -> None:
        self.exception = exception
        traceback = exception.__traceback__
        while skip and traceback is not None:
            traceback = traceback.tb_next
            skip -= 1
        self.traceback: TracebackType | None = traceback
        self._cause = exception.__cause__
        self._context = exception.__context__
        self._suppress_context = exception.__suppress_context__
        self.site = site
        self.component = component
        self.task = task
        self.worker = worker
        self.attempt = attempt
        self.at = REAL.time() if at is None else at
        self._fingerprint: str | None = None
        self._is_annotated = False

    @property
    def verdict(self) -> Verdict:
        """How bad it is, and what to do about it."""
        return classify(self.exception)

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return classify(self.exception).severity

    @property
    def retry(self) -> Retry:
        """Whether the same call may be made again."""
        return classify(self.exception).retry

    @property
    def fingerprint(self) -> str:
        """What failures of the same origin have in common; the same in every process."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of(self.exception, self.traceback)
        return self._fingerprint

    @property
    def submitted_at(self) -> str | None:
        """The caller's `FILE:LINE in NAME`, or one such line per frame captured."""
        if not self.site:
            return None
        return ", called at ".join(_place(code, lasti) for code, lasti in _frames_of(self.site))

    def restored(self) -> BaseException:
        """The exception as it was when the task ended, with a note saying where it came from."""
        exc = self.annotated()
        exc.__traceback__ = self.traceback
        self._restore_links()
        return exc

    def annotated(self) -> BaseException:
        """The exception with that note, else as it is: it may be on its way through a thread."""
        self._annotate()
        return self.exception

    def reraise(self) -> NoReturn:
        """Raise the exception as it was when the task ended.

        A thousand calls leave its traceback as long as one does, and what the caller was
        handling meanwhile does not become its context.
        """
        try:
            raise self.restored()
        finally:
            self._restore_links()
            del self  # the traceback holds this frame, and the frame would hold the traceback

    def clear_frames(self) -> None:
        """Drop the locals that the tracebacks keep alive. Only once the task is over."""
        clear_frames(self.exception, self.traceback)

    def format(self) -> str:
        """Both stories as text: the traceback where it failed, and where it was submitted."""
        self._annotate()
        exc = self.exception
        text = "".join(tracebacks.format_exception(type(exc), exc, self.traceback))
        for note in notes_of(exc) if sys.version_info < (3, 11) else ():
            if note not in text:
                text += f"{note}\n"
        return text

    def _annotate(self) -> None:
        """Say where the task was submitted in one PEP 678 note, however often it is asked for."""
        if self._is_annotated:
            return
        self._is_annotated = True
        place = self.submitted_at
        if place is not None:
            _add_note_once(self.exception, _SUBMITTED + place)

    def _restore_links(self) -> None:
        exc = self.exception
        exc.__context__ = self._context
        exc.__cause__ = self._cause  # sets the flag too
        exc.__suppress_context__ = self._suppress_context

    def __repr__(self) -> str:
        where = f" in {self.component}" if self.component else ""
        exc = self.exception
        return f"<Failure of {self.task or 'a task'}{where}: {type(exc).__name__}: {safe_str(exc)}>"


class UnreadFailure:
    """Tells a log about a failure if it is dropped before anybody read the failure.

    A future that failed holds one, so that only failed tasks pay for a finalizer.

    >>> from threadkit import ErrorLog
    >>> errors = ErrorLog()
    >>> unread = UnreadFailure(Failure(ValueError("nobody asked")), errors)
    >>> unread.read()
    <Failure of a task: ValueError: nobody asked>
    >>> del unread; errors.statistics().recorded
    0

    Thread safety: `read` is one store.
    """

    __slots__ = ("_errors", "_failure")

    def __init__(self, failure: Failure, errors: Recorder) -> None:
        self._failure = failure
        self._errors: Recorder | None = errors

    def read(self) -> Failure:
        """The failure, which is its reader's business from now on."""
        self._errors = None
        return self._failure

    def __del__(self) -> None:
        errors = self._errors
        if errors is not None:
            errors.record(self._failure)


class Recorder(Protocol):
    """What an UnreadFailure needs of an ErrorLog."""

    def record(self, exc: BaseException | Failure, /) -> str:
        """Count a failure."""
        ...


def safe_str(exc: BaseException) -> str:
    """The exception's message; an exception that cannot say what it is says so."""
    try:
        return str(exc)
    except Exception:  # noqa: BLE001 - user code: its __str__
        return f"<{type(exc).__name__} whose __str__ raised>"


def notes_of(exc: BaseException) -> tuple[str, ...]:
    """The exception's PEP 678 notes; where they are none at all, what Python prints of them."""
    try:
        notes: object = getattr(exc, "__notes__", ())
        if not isinstance(notes, (list, tuple)):
            return (repr(notes),)
        return tuple(map(str, cast("list[object]", notes)))
    except Exception:  # noqa: BLE001 - user code: its __str__, __repr__, a property
        return ()


def clear_frames(exc: BaseException, traceback: TracebackType | None) -> None:
    """Clear the frames of a traceback, and of every exception linked to it."""
    seen: set[int] = set()
    todo: list[tuple[BaseException | None, TracebackType | None]] = [(exc, traceback)]
    while todo:
        linked, entry = todo.pop()
        _clear_entries(entry)
        if linked is None or id(linked) in seen:
            continue
        seen.add(id(linked))
        links = (linked.__cause__, linked.__context__, *members_of(linked))
        todo += [(link, link.__traceback__) for link in links if link is not None]


def _clear_entries(entry: TracebackType | None) -> None:
    while entry is not None:
        frame = entry.tb_frame
        if not frame.f_code.co_flags & _MAY_BE_SUSPENDED:
            with contextlib.suppress(RuntimeError):  # it still runs: the recorder's own caller
                frame.clear()
        entry = entry.tb_next


# Before 3.13 clearing a suspended generator's frame closes the generator, which may be alive and
# in use by whoever caught the exception.
_MAY_BE_SUSPENDED = (
    inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    if sys.version_info < (3, 13)
    else 0
)


def _frames_of(site: Site) -> Iterator[tuple[CodeType, int]]:
    """The code and last instruction of each frame of a site."""
    for code, lasti in zip(site[::2], site[1::2], strict=True):
        assert isinstance(code, CodeType)  # noqa: S101 - the shape of Site
        assert isinstance(lasti, int)  # noqa: S101
        yield code, lasti


# Places already worked out, by identity: code objects of different files may be equal. The code is
# kept, so that its id stays its own. Stores, look-ups and clear are atomic, with and without a GIL.
_places: dict[tuple[int, int], tuple[CodeType, str]] = {}
_MAX_PLACES = 512  # programs submit from few places


def _place(code: CodeType, lasti: int) -> str:
    known = _places.get((id(code), lasti))
    if known is None:
        text = f"{code.co_filename}:{_line_at(code, lasti)} in {_qualified_name(code)}"
        known = code, text
        if len(_places) >= _MAX_PLACES:
            _places.clear()
        _places[id(code), lasti] = known
    return known[1]


def _line_at(code: CodeType, lasti: int) -> int:
    for start, end, line in code.co_lines():
        if start <= lasti < end and line is not None:
            return line
    return code.co_firstlineno


def _qualified_name(code: CodeType) -> str:
    return code.co_qualname if sys.version_info >= (3, 11) else code.co_name


def _add_note_once(exc: BaseException, note: str) -> None:
    try:
        notes = exc.__dict__.setdefault("__notes__", [])
        sites = [known for known in notes if str(known).startswith(_SUBMITTED)]
        if note not in sites and len(sites) < _MAX_SITES:
            notes.append(note)
    except Exception:  # noqa: BLE001 - user code: __notes__ may be anything
        return
