"""What is read from the system in one sample. Whatever a platform does not tell is absent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from threadkit._platform import (
    available_bytes,
    cgroup_cpus,
    cgroup_memory,
    open_file_limit,
    pressure,
    pressure_trigger,
)

__all__ = ["Alarm", "Reading", "Source", "SystemReadings"]


@dataclass(frozen=True)
class Reading:
    """How much of something is used, and of how much."""

    used: float
    """In the metric's unit: bytes, CPUs, threads, file descriptors."""
    limit: float | None = None
    """What there is of it; None: no limit is known."""

    @property
    def ratio(self) -> float | None:
        """`used` over `limit`; None without a limit."""
        return self.used / self.limit if self.limit else None


Source: TypeAlias = "Callable[[], Reading | None]"


class Alarm(Protocol):
    """Says between two samples that one is due at once."""

    def wait(self) -> bool:
        """Wait until it is; False: interrupted, or it will never be again."""
        ...

    def interrupt(self) -> None:
        """End the wait, and all later ones. From any thread."""
        ...

    def close(self) -> None:
        """Nobody waits any more."""
        ...


class SystemReadings:
    """The readings of this process and its machine, through psutil (the extra `monitor`).

    =========== ===================================================== ======================
    metric      used                                                  limit
    =========== ===================================================== ======================
    memory      bytes in use in the tightest control group, or on     that group's limit, or
                the machine                                           the machine's memory
    rss         bytes of this process                                 the same
    cpu         CPUs this process kept busy since the last sample     CPUs it may use
    threads     Python threads alive
    files       open file descriptors                                 the soft limit
    disk        bytes used on the disk of `path`                      its size
    pressure    share of the last 10 s in which a task waited for     1
                memory (Linux)
    =========== ===================================================== ======================

    Thread safety: none; one thread samples.

    Raises:
        RuntimeError: psutil is not installed.
    """

    def __init__(self, path: str = ".") -> None:
        try:
            import psutil  # noqa: PLC0415 - the extra `monitor` brings it
        except ImportError as exc:
            raise RuntimeError(
                "reading the system needs psutil: pip install 'threadkit[monitor]'"
            ) from exc
        self._psutil = psutil
        self._process = psutil.Process()
        self._path = path
        self._machine_bytes = psutil.virtual_memory().total
        self._group = cgroup_memory(self._machine_bytes)
        self._memory_limit = self._group.limit_bytes if self._group else self._machine_bytes
        self._cpus = min(filter(None, (cgroup_cpus(), float(psutil.cpu_count() or 1))))
        self._open_file_limit = open_file_limit()
        self._cpu_seconds, self._cpu_read_at = self._cpu_now()

    def sources(self) -> Mapping[str, Source]:
        """Each metric with the function that reads it."""
        return {
            "memory": self._memory,
            "rss": self._rss,
            "cpu": self._cpu,
            "threads": self._threads,
            "files": self._files,
            "disk": self._disk,
            "pressure": self._pressure,
        }

    def alarm(self) -> Alarm | None:
        """The kernel's pressure trigger; None where there is none."""
        return pressure_trigger(self._group)

    def _memory(self) -> Reading:
        if self._group is not None:
            return Reading(self._group.used_bytes(), self._memory_limit)
        available = available_bytes()
        if available is None:
            available = self._psutil.virtual_memory().available
        return Reading(self._machine_bytes - available, self._machine_bytes)

    def _rss(self) -> Reading:
        return Reading(self._process.memory_info().rss, self._memory_limit)

    def _cpu(self) -> Reading | None:
        before, before_at = self._cpu_seconds, self._cpu_read_at
        self._cpu_seconds, self._cpu_read_at = self._cpu_now()
        elapsed = self._cpu_read_at - before_at
        return Reading((self._cpu_seconds - before) / elapsed, self._cpus) if elapsed else None

    @staticmethod
    def _cpu_now() -> tuple[float, float]:
        return time.process_time(), time.perf_counter()

    @staticmethod
    def _threads() -> Reading:
        return Reading(threading.active_count())

    def _files(self) -> Reading | None:
        num_fds = getattr(self._process, "num_fds", None)  # not on Windows
        return None if num_fds is None else Reading(num_fds(), self._open_file_limit)

    def _disk(self) -> Reading:
        usage = self._psutil.disk_usage(self._path)
        return Reading(usage.used, usage.used + usage.free)

    @staticmethod
    def _pressure() -> Reading | None:
        share = pressure("memory")
        return None if share is None else Reading(share, 1.0)
