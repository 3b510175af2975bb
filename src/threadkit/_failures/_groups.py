"""What is remembered of failures that look alike: counts, times, rates and one story."""

from __future__ import annotations

import math
import traceback as tracebacks
from collections import deque
from dataclasses import dataclass, field

from threadkit._errors import Retry, Severity
from threadkit._failures._failure import Failure, notes_of, safe_str

_BUCKET = 5.0  # seconds; the grain of every rate
_BUCKETS = 120  # ten minutes are remembered
RATE_WINDOW = _BUCKET * _BUCKETS

_SPIKE_WINDOW = 30.0  # seconds
_SPIKE_MINIMUM = 10  # failures in that window below which nothing is called a spike


@dataclass(frozen=True)
class FailureGroup:
    """Failures of one fingerprint, at the moment of asking.

    Attributes:
        fingerprint: What they have in common.
        exception_type: Qualified name of the exception's class.
        message: What the first of them said.
        severity: The worst grade among them.
        retry: The advice for the first of them.
        count: How many there were.
        first_seen: When the first was recorded, in seconds since the epoch.
        last_seen: When the latest was.
        component: Where the latest happened.
        task: Label of the task the latest happened to.
    """

    fingerprint: str
    exception_type: str
    message: str
    severity: Severity
    retry: Retry
    count: int
    first_seen: float
    last_seen: float
    component: str | None
    task: str | None
    _story: Story | None = field(repr=False, compare=False)

    def format(self) -> str:
        """The first occurrence as text, as `Failure.format` would print it."""
        if self._story is None:
            return f"{self.exception_type}: {self.message}\n"
        return self._story.format()


class Story:
    """What a failure prints, detached from exception and frames so that neither is kept alive.

    Source lines are read only when it is printed.
    """

    __slots__ = ("_notes", "_report", "message")

    def __init__(self, failure: Failure) -> None:
        exc = failure.annotated()
        self.message = message_of(failure)
        self._report = tracebacks.TracebackException(
            type(exc), exc, failure.traceback, lookup_lines=False, compact=True
        )
        self._notes = notes_of(exc)

    def format(self) -> str:
        text = "".join(self._report.format())
        return text + "".join(f"{note}\n" for note in self._notes if note not in text)


class Group:
    """The live counterpart of a FailureGroup. Guarded by its log's lock."""

    __slots__ = (
        "buckets",
        "component",
        "count",
        "exception_type",
        "fingerprint",
        "first_at",
        "first_seen",
        "last_seen",
        "retry",
        "severity",
        "story",
        "task",
    )

    def __init__(self, failure: Failure, fingerprint: str, retry: Retry, now: float) -> None:
        cls = type(failure.exception)
        self.fingerprint = fingerprint
        self.exception_type = f"{cls.__module__}.{cls.__qualname__}"
        self.severity = Severity.INFO
        self.retry = retry
        self.count = 0
        self.first_seen = self.last_seen = failure.at
        self.first_at = now
        self.component = failure.component
        self.task = failure.task
        self.story: Story | None = None
        # [bucket number, count] of the buckets in which anything happened, oldest first.
        self.buckets: deque[list[int]] = deque(maxlen=_BUCKETS)

    def add(self, failure: Failure, severity: Severity, now: float) -> None:
        self.count += 1
        self.last_seen = failure.at
        self.component = failure.component
        self.task = failure.task
        self.severity = max(self.severity, severity)
        number = int(now / _BUCKET)
        if self.buckets and self.buckets[-1][0] == number:
            self.buckets[-1][1] += 1
        else:
            self.buckets.append([number, 1])

    def within(self, window: float, now: float) -> int:
        """How many were recorded in the last `window` seconds, the oldest bucket whole."""
        oldest = int((now - window) / _BUCKET)
        return sum(count for number, count in self.buckets if number >= oldest)

    def is_spiking(self, now: float) -> bool:
        """Whether the last 30 s hold far more than the ten minutes before them led to expect.

        Far more is twice the expectation plus three standard deviations of a Poisson process.
        """
        recent = self.within(_SPIKE_WINDOW, now)
        history = min(now - self.first_at, RATE_WINDOW) - _SPIKE_WINDOW
        before = self.within(RATE_WINDOW, now) - recent
        expected = before * _SPIKE_WINDOW / max(history, _SPIKE_WINDOW)
        return recent >= _SPIKE_MINIMUM and recent > 2 * expected + 3 * math.sqrt(expected)

    def snapshot(self) -> FailureGroup:
        return FailureGroup(
            fingerprint=self.fingerprint,
            exception_type=self.exception_type,
            message=self.story.message if self.story is not None else "",
            severity=self.severity,
            retry=self.retry,
            count=self.count,
            first_seen=self.first_seen,
            last_seen=self.last_seen,
            component=self.component,
            task=self.task,
            _story=self.story,
        )


def message_of(failure: Failure) -> str:
    """What the exception says, cut to a length fit for a table."""
    return safe_str(failure.exception)[:500]
