"""Where failures are told: the logging module, a file of JSON lines, any callable.

Each sink has a bounded queue and a thread of its own, so that a slow or stuck one delays neither
the thread that failed nor the other sinks; what finds no room is dropped and counted.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadkit._errors import Severity
from threadkit._failures._failure import Failure, notes_of
from threadkit._failures._groups import FailureGroup, message_of


@dataclass(frozen=True)
class FailureEvent:
    """What a sink is called with.

    Attributes:
        failure: What happened; None in the closing report of what was suppressed last.
        group: The failures like it, this one counted.
        severity: How bad it is.
        suppressed: How many of the group this sink was spared since it last heard of it.
    """

    failure: Failure | None
    group: FailureGroup
    severity: Severity
    suppressed: int

    @property
    def message(self) -> str:
        """What the exception says; in a closing report, what the group's first one said."""
        return self.group.message if self.failure is None else message_of(self.failure)

    def summary(self) -> str:
        """One line: where, what, and how many were suppressed."""
        where = " ".join(part for part in (self.group.component, self.group.task) if part)
        text = f"{self.group.exception_type}: {self.message}"
        text = f"{where}: {text}" if where else text
        return f"{text} (suppressed {self.suppressed})" if self.suppressed else text

    def format(self) -> str:
        """The failure's stories as text; the group's first one in a closing report."""
        return (self.failure or self.group).format()


Sink = Callable[[FailureEvent], object]


@dataclass(frozen=True)
class SinkStatistics:
    """Figures of one sink.

    Attributes:
        name: The sink's name.
        delivered: Events it took.
        failed: Events it raised on.
        suppressed: Failures not told because their group had used up its limit.
        dropped: Events lost because its queue was full, or its thread could not run.
        waiting: Events in its queue.
    """

    name: str
    delivered: int
    failed: int
    suppressed: int
    dropped: int
    waiting: int


class LoggingSink:
    """Tells failures to a logger, with their facts as `extra`.

    >>> sink = LoggingSink("bot.failures")

    Thread safety: called by one thread at a time.

    Args:
        name: Name of the logger. FATAL failures are logged as CRITICAL, the worst it knows.
    """

    def __init__(self, name: str = "threadkit.failures") -> None:
        self._logger = logging.getLogger(name)

    def __call__(self, event: FailureEvent) -> None:
        failure = event.failure
        exc_info = None
        text = event.summary()
        if failure is not None:
            exc = failure.annotated()
            exc_info = (type(exc), exc, failure.traceback)
            if sys.version_info < (3, 11):  # its formatters print no notes
                text = "\n".join((text, *notes_of(exc)))
        self._logger.log(
            min(event.severity, logging.CRITICAL),
            "%s",
            text,
            exc_info=exc_info,
            extra=facts_of(event),
        )


_aside = itertools.count()  # tells files put aside in one microsecond apart


class JsonLinesSink:
    """Appends one JSON object a line to a file, and keeps a few full files beside it.

    `failures.jsonl` is the newest; one that is full gets the time of its end as a suffix. Several
    processes may share the file: each appends whole lines, notices when another has put the file
    aside, and gives what it puts aside a name of its own. A line torn by a full disk is left as it
    is, and ended before the next one.

    Thread safety: called by one thread at a time.

    Lifetime: opens the file when first called; its log closes it.

    Args:
        path: The file.
        max_bytes: Size at which it is put aside.
        backups: How many full files are kept.

    Raises:
        ValueError: `max_bytes` or `backups` is less than 1.
    """

    takes_no_locks = True
    """It may be called even while the interpreter is being torn down: see `ErrorLog.add_sink`."""

    def __init__(
        self, path: str | os.PathLike[str], *, max_bytes: int = 10_000_000, backups: int = 3
    ) -> None:
        for name, value in (("max_bytes", max_bytes), ("backups", backups)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        self._path = Path(path)
        self._max_bytes = max_bytes
        self._backups = backups
        self._fd: int | None = None
        self._is_torn = False  # the last line was written in part

    def __call__(self, event: FailureEvent) -> None:
        text = json.dumps(self._object(event), ensure_ascii=False, default=str)
        line = f"{text}\n".encode("utf-8", "backslashreplace")
        fd = self._open_for(len(line))
        if self._is_torn and os.fstat(fd).st_size:
            line = b"\n" + line
        while line:  # one write, unless the disk is about to be full
            written = os.write(fd, line)
            self._is_torn = written < len(line)
            line = line[written:]

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _object(self, event: FailureEvent) -> dict[str, object]:
        group = event.group
        at = event.failure.at if event.failure is not None else group.last_seen
        return {
            "time": dt.datetime.fromtimestamp(at, dt.timezone.utc).isoformat(),
            "severity": event.severity.name,
            "type": group.exception_type,
            "message": event.message,
            **facts_of(event),
            "traceback": event.format(),
        }

    def _open_for(self, size: int) -> int:
        """The file, with room for `size` more bytes or empty."""
        if self._fd is not None and self._was_moved(self._fd):
            self.close()
        if self._fd is None:
            self._fd = self._open()
        written = os.fstat(self._fd).st_size
        if written and written + size > self._max_bytes:
            self.close()
            self._put_aside()
            self._fd = self._open()
        return self._fd

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def _was_moved(self, fd: int) -> bool:
        """Whether another process, or a human, has moved the file away."""
        try:
            return not os.path.samestat(os.fstat(fd), self._path.stat())
        except FileNotFoundError:
            return True

    def _put_aside(self) -> None:
        """Give the full file its own name, and delete the oldest of those beyond `backups`."""
        ended = dt.datetime.now(dt.timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
        aside = f"{self._path.name}.{ended}.{os.getpid()}.{next(_aside)}"
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            self._path.rename(self._path.with_name(aside))
        ours = re.compile(re.escape(self._path.name) + r"\.\d{8}T\d{6}\.\d{6}\.\d+\.\d+")
        full = sorted(file for file in self._path.parent.iterdir() if ours.fullmatch(file.name))
        for oldest in full[: -self._backups]:
            oldest.unlink(missing_ok=True)


def facts_of(event: FailureEvent) -> dict[str, Any]:
    """What machines want to know of an event."""
    failure = event.failure
    return {
        "fingerprint": event.group.fingerprint,
        "retry": event.group.retry.value,
        "component": event.group.component,
        "task": event.group.task,
        "worker": failure.worker if failure is not None else None,
        "attempt": failure.attempt if failure is not None else None,
        "submitted_at": failure.submitted_at if failure is not None else None,
        "count": event.group.count,
        "suppressed": event.suppressed,
    }
