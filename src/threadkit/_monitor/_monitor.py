"""ResourceMonitor: one thread that samples, and tells when a watched resource nears its end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Final, TypeVar

from typing_extensions import Self

from threadkit._errors import report_unraisable
from threadkit._monitor._alarms import AlarmThread
from threadkit._monitor._levels import ResourceChange, ResourceLevel, Watch
from threadkit._monitor._readings import Alarm, Reading, Source, SystemReadings
from threadkit._runtime import REAL, Event, Runtime, Thread

__all__ = ["MonitorStatistics", "ResourceMonitor", "ResourceSample"]

T = TypeVar("T")

_FOUR_DIGITS = 10_000  # a larger amount is written with a prefix

Listener = Callable[[ResourceChange], object]


@dataclass(frozen=True)
class ResourceSample:
    """What was read at one moment. A metric that could not be read is absent."""

    at: float
    """When, on the monitor's clock."""
    readings: Mapping[str, Reading]
    """By metric."""


@dataclass(frozen=True)
class MonitorStatistics:
    """How the monitor itself is doing."""

    name: str
    """The monitor's name."""
    running: bool
    """Whether its thread samples."""
    gil: bool
    """Whether the interpreter runs one thread at a time."""
    samples: int
    """Samples taken."""
    alarms: int | None
    """Of these, how many were taken at once because of an alarm; None: there is no alarm."""
    read_errors: int
    """Readings that raised; they are absent from their sample."""
    listener_errors: int
    """Calls of a listener that raised."""
    sample_seconds: float
    """What a sample took, on average."""
    last_at: float | None
    """When the last sample was taken."""
    levels: Mapping[str, ResourceLevel]
    """Where each watched metric is."""


class ResourceMonitor:
    """Reads what the process and its machine use, and tells when a resource nears its end.

    >>> used = iter([50.0, 85.0, 95.0, 60.0])
    >>> monitor = ResourceMonitor(sources={"slots": lambda: Reading(next(used), 100.0)})
    >>> changes = []
    >>> watch = monitor.watch("slots", on_change=changes.append)
    >>> for _ in range(4):
    ...     _ = monitor.sample()
    >>> [(change.previous.name, change.level.name) for change in changes]
    [('OK', 'WARN'), ('WARN', 'CRITICAL'), ('CRITICAL', 'OK')]

    Where the Linux kernel allows, it says at once when tasks have waited for memory (pressure stall
    information): then a sample is taken without waiting for its turn.

    `start` makes a thread that takes a sample each `period` seconds; `sample` takes one now.
    Without `sources` it reads the system: see `SystemReadings` for the metrics. Besides, there is
    `lag`, how many seconds late the sampling thread woke, and a `lag:NAME` for each event loop
    given to `watch_loop`.

    Thread safety: all methods from any thread. Listeners run in the thread that samples, one after
        the other, outside the lock.

    Lifetime: `start` and `stop` may be repeated; as a context manager it does both. Its thread is a
        daemon, and ends with `stop`.

    Args:
        period: Seconds between two samples.
        name: What statistics and the thread call it.
        sources: What to read: functions by metric, each returning a `Reading`, or None where there
            is none at the moment. None: the system.
        alarm: Called at each start; returns what is waited for besides, or None. By default the
            kernel's pressure trigger, where the system is read.
        runtime: Clock, locks and threads.

    Raises:
        ValueError: `period` is not more than 0.
        RuntimeError: The system is to be read, and psutil is missing (the extra `monitor`).
    """

    def __init__(
        self,
        *,
        period: float = 1.0,
        name: str = "monitor",
        sources: Mapping[str, Source] | None = None,
        alarm: Callable[[], Alarm | None] | None = None,
        runtime: Runtime = REAL,
    ) -> None:
        if not period > 0:
            raise ValueError(f"period must be more than 0 seconds, not {period!r}")
        self.name: Final = name
        self.period: Final = period
        self._runtime = runtime
        self._clock = runtime.monotonic
        # Held while a sample is taken and judged, so that each sees its readings in order. Never
        # while a listener runs. Taken before `_lock`.
        self._sampling = runtime.lock()
        if sources is None:
            system = SystemReadings()
            sources, alarm = system.sources(), alarm or system.alarm
        self._sources = dict(sources)
        # Guards what follows. Held for bookkeeping, never while anything is read.
        self._lock = runtime.lock()
        self._watches: dict[str, tuple[Watch, list[Listener]]] = {}
        self._loops: dict[str, _LoopLag] = {}
        self._sample_listeners: list[Callable[[ResourceSample], object]] = []
        self._latest: ResourceSample | None = None
        self._samples = self._read_errors = self._listener_errors = 0
        self._sample_seconds = 0.0
        self._thread: Thread | None = None
        self._last_thread: Thread | None = None  # it may not have ended yet
        self._stopping = runtime.event()
        self._open_alarm = alarm
        self._alarm_thread: AlarmThread | None = None
        self._alarms: int | None = None

    # -- what is watched ------------------------------------------------------------------

    def watch(
        self,
        metric: str,
        *,
        warn: float = 0.80,
        critical: float = 0.92,
        clear: float = 0.75,
        horizon: float = 180.0,
        confirm: int = 3,
        on_change: Listener | None = None,
    ) -> Watch:
        """Follow the level of a metric from now on.

        The ratio raises it to WARN and CRITICAL at once. It falls from CRITICAL to WARN below
        `critical - (warn - clear)`, and to OK below `clear`. A forecast raises it to WARN too.

        Args:
            metric: Its name. A metric without a limit has no level.
            warn: Ratio of use to limit.
            critical: The same.
            clear: The same.
            horizon: Seconds: an end nearer than this, at the present rate of growth, is a warning.
            confirm: How often in a row it has to be so.
            on_change: Called with each change of level.

        Raises:
            ValueError: The metric is unknown or watched already, or a mark makes no sense.
        """
        watch = Watch(
            metric, warn=warn, critical=critical, clear=clear, horizon=horizon, confirm=confirm
        )
        with self._lock:
            if metric not in self._sources:
                known = ", ".join(sorted(self._sources))
                raise ValueError(f"metric must be one of {known}, not {metric!r}")
            if metric in self._watches:
                raise ValueError(f"metric {metric!r} is watched already; use subscribe")
            self._watches[metric] = (watch, [] if on_change is None else [on_change])
        return watch

    def subscribe(self, listener: Listener, *metrics: str) -> None:
        """Call `listener` with the changes of these watched metrics, or of all of them.

        Raises:
            ValueError: A metric is not watched.
        """
        with self._lock:
            for metric in metrics or tuple(self._watches):
                if metric not in self._watches:
                    raise ValueError(f"metric {metric!r} is not watched")
                self._watches[metric][1].append(listener)

    def on_sample(self, listener: Callable[[ResourceSample], object]) -> None:
        """Call `listener` with each sample, after the changes it made were told."""
        with self._lock:
            self._sample_listeners.append(listener)

    def off_sample(self, listener: Callable[[ResourceSample], object]) -> None:
        """Call it no longer. Does nothing for one that is not called."""
        with self._lock:
            if listener in self._sample_listeners:
                self._sample_listeners.remove(listener)

    def watch_loop(self, loop: asyncio.AbstractEventLoop, name: str = "loop") -> None:
        """Read `lag:NAME` from now on: how many seconds a callback waits in this event loop."""
        with self._lock:
            self._loops[f"lag:{name}"] = _LoopLag(loop, self._clock)

    # -- sampling -------------------------------------------------------------------------

    def sample(self) -> ResourceSample:
        """Read everything now, and tell the listeners what has changed."""
        return self._sample(late=None)

    def _sample(self, late: float | None) -> ResourceSample:
        with self._sampling:
            began_at = self._clock()
            with self._lock:
                sources: list[tuple[str, Source]] = [*self._sources.items(), *self._loops.items()]
            readings, errors = _read(sources)
            if late is not None:
                readings["lag"] = Reading(late)
            sample = ResourceSample(began_at, MappingProxyType(readings))
            due = self._take_in(sample, errors)
            with self._lock:
                followers = self._sample_listeners.copy()
        for change, listeners in due:
            for listener in listeners:
                self._tell(listener, change)
        for follower in followers:
            self._tell(follower, sample)
        return sample

    def _take_in(
        self, sample: ResourceSample, errors: int
    ) -> list[tuple[ResourceChange, list[Listener]]]:
        due: list[tuple[ResourceChange, list[Listener]]] = []
        with self._lock:
            self._latest = sample
            self._samples += 1
            self._read_errors += errors
            for metric, (watch, listeners) in self._watches.items():
                reading = sample.readings.get(metric)
                change = None if reading is None else watch.update(sample.at, reading)
                if change is not None:
                    due.append((change, listeners.copy()))
            self._sample_seconds += self._clock() - sample.at
        return due

    def _tell(self, listener: Callable[[T], object], news: T) -> None:
        try:
            listener(news)
        except Exception as exc:  # noqa: BLE001 - one listener must not silence the others
            with self._lock:
                self._listener_errors += 1
            report_unraisable(exc, f"{self.name}: a listener raised", listener)

    # -- the thread -----------------------------------------------------------------------

    def start(self) -> Self:
        """Take a sample each `period` seconds from now on. Does nothing when it does already."""
        with self._lock:
            if self._thread is None:
                self._stopping = self._runtime.event()
                self._thread = self._runtime.thread(
                    self._run, name=f"{self.name}-sampler", args=(self._stopping,), daemon=True
                )
                try:
                    self._thread.start()
                except RuntimeError:  # the system has no thread to give
                    self._thread = None
                    raise
                self._start_alarm_locked()
        return self

    def _start_alarm_locked(self) -> None:
        alarm = None if self._open_alarm is None else self._open_alarm()
        if alarm is None:
            return
        self._alarms = self._alarms or 0
        # Without a thread for it, samples are taken when it is their turn.
        with contextlib.suppress(RuntimeError):
            self._alarm_thread = AlarmThread(
                f"{self.name}-alarm", alarm, self._sample_at_once, self._runtime
            )

    def _sample_at_once(self) -> None:
        with self._lock:
            self._alarms = (self._alarms or 0) + 1
        self.sample()

    def stop(self, timeout: float | None = None) -> bool:
        """End the thread; False when a reading or a listener holds it for more than `timeout` s."""
        with self._lock:
            if self._thread is not None:
                self._last_thread, self._thread = self._thread, None
            thread, alarm_thread = self._last_thread, self._alarm_thread
            self._stopping.set()
        if alarm_thread is not None:
            alarm_thread.stop()
        me = self._runtime.get_ident()
        ended = True
        if thread is not None and thread.ident != me:
            thread.join(timeout)
            ended = not thread.is_alive()
        if alarm_thread is not None and alarm_thread.ident != me:
            ended = alarm_thread.join(timeout) and ended
        return ended

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _run(self, stopping: Event) -> None:
        due_at = self._clock()
        while not stopping.is_set():
            began_at = self._clock()
            self._sample(max(0.0, began_at - due_at))
            due_at = max(began_at + self.period, self._clock())
            stopping.wait(max(0.0, due_at - self._clock()))

    # -- looking --------------------------------------------------------------------------

    @property
    def latest(self) -> ResourceSample | None:
        """The last sample; None before the first."""
        with self._lock:
            return self._latest

    def statistics(self) -> MonitorStatistics:
        """How the monitor itself is doing."""
        with self._lock:
            return MonitorStatistics(
                name=self.name,
                running=self._thread is not None,
                gil=getattr(sys, "_is_gil_enabled", lambda: True)(),
                samples=self._samples,
                alarms=self._alarms,
                read_errors=self._read_errors,
                listener_errors=self._listener_errors,
                sample_seconds=self._sample_seconds / max(1, self._samples),
                last_at=self._latest.at if self._latest else None,
                levels=MappingProxyType(
                    {metric: watch.level for metric, (watch, _) in self._watches.items()}
                ),
            )

    def table(self) -> str:
        """The last sample for people: a line for each metric."""
        with self._lock:
            latest = self._latest
            watches = {metric: watch for metric, (watch, _) in self._watches.items()}
        rows: list[tuple[str, ...]] = [("metric", "used", "limit", "ratio", "level", "left")]
        for metric, reading in latest.readings.items() if latest else ():
            rows.append(_row(metric, reading, watches.get(metric)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )


class _LoopLag:
    """How long a callback waits in an event loop, measured by one that is always on its way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._sent_at: float | None = None  # of the callback on its way
        self._last: float | None = None

    def __call__(self) -> Reading | None:
        sent_at = self._sent_at
        if sent_at is not None:
            return Reading(max(self._clock() - sent_at, self._last or 0.0))
        self._sent_at = self._clock()
        try:
            self._loop.call_soon_threadsafe(self._arrive)
        except RuntimeError:  # the loop is closed
            self._sent_at = None
            return None
        return None if self._last is None else Reading(self._last)

    def _arrive(self) -> None:
        sent_at, self._sent_at = self._sent_at, None
        if sent_at is not None:
            self._last = self._clock() - sent_at


def _read(sources: list[tuple[str, Source]]) -> tuple[dict[str, Reading], int]:
    """What each source says, and how many raised."""
    readings: dict[str, Reading] = {}
    errors = 0
    for metric, source in sources:
        try:
            reading = source()
        except Exception:  # noqa: BLE001 - what cannot be read is absent, and counted
            errors += 1
        else:
            if reading is not None:
                readings[metric] = reading
    return readings, errors


def _row(metric: str, reading: Reading, watch: Watch | None) -> tuple[str, ...]:
    ratio = reading.ratio
    left = inf if watch is None else watch.seconds_left
    return (
        metric,
        _amount(reading.used),
        "" if reading.limit is None else _amount(reading.limit),
        "" if ratio is None else f"{ratio:.1%}",
        "" if watch is None else watch.level.name,
        "" if left == inf else f"{left:.0f} s",
    )


def _amount(value: float) -> str:
    """A number of at most four digits, with a prefix of powers of 1024 where it is large."""
    for prefix in ("", "Ki", "Mi", "Gi"):
        if abs(value) < _FOUR_DIGITS:
            return f"{value:.4g}{prefix}"
        value /= 1024
    return f"{value:.4g}Ti"
