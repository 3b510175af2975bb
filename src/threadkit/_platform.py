"""The only room that asks what platform this is. Stateless functions."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "CgroupMemory",
    "PressureTrigger",
    "available_bytes",
    "cgroup_cpus",
    "cgroup_memory",
    "open_file_limit",
    "pressure",
    "pressure_trigger",
    "signal_wait_slice",
]


def signal_wait_slice() -> float | None:
    """Longest time, in seconds, that the main thread may block and still notice a signal.

    None where a blocked lock lets signal handlers run (POSIX). On Windows a Ctrl-C only reaches
    Python between two waits, so a wait there has to end now and then.
    """
    return 0.5 if sys.platform == "win32" else None


# -- control groups -------------------------------------------------------------------------

_NO_LIMIT_BYTES = 1 << 60  # version 1 says "none" with the largest multiple of a page in 63 bits


class CgroupMemory(NamedTuple):
    """The control group that binds a process's memory."""

    limit_bytes: int
    folder: Path

    def used_bytes(self) -> int:
        """What its processes use, without the file cache that the kernel gives back first."""
        name, inactive = "memory.current", "inactive_file"
        if not (self.folder / name).exists():
            name, inactive = "memory.usage_in_bytes", "total_inactive_file"
        used = int((self.folder / name).read_text())
        return max(0, used - _field(self.folder / "memory.stat", inactive))


def cgroup_memory(machine_bytes: int, proc: Path = Path("/proc/self")) -> CgroupMemory | None:
    """The tightest memory limit over this process's control groups and all their ancestors.

    Versions 1 and 2, and both at once. None where no limit is below the machine's memory.
    """
    found = [
        CgroupMemory(limit, folder)
        for folder in _cgroup_folders("memory", proc)
        for limit in (_limit_bytes(folder),)
        if limit is not None and limit < min(machine_bytes, _NO_LIMIT_BYTES)
    ]
    return min(found, default=None)


def cgroup_cpus(proc: Path = Path("/proc/self")) -> float | None:
    """How many CPUs' worth of time this process's control groups allow; None: no limit."""
    quotas = [
        quota
        for folder in _cgroup_folders("cpu", proc)
        for quota in (_cpu_quota(folder),)
        if quota is not None
    ]
    return min(quotas, default=None)


def _cgroup_folders(controller: str, proc: Path) -> Iterator[Path]:
    """The folders of this process's groups for a controller, each followed by its ancestors."""
    mounts = list(_cgroup_mounts(proc / "mountinfo"))
    for line in _lines(proc / "cgroup"):
        _, controllers, path = line.split(":", 2)
        for is_v2, options, root, mount_point in mounts:
            fits = not controllers if is_v2 else controller in controllers.split(",")
            if fits and (is_v2 or controller in options):
                yield from _upwards(mount_point, _below(root, path))


def _cgroup_mounts(mountinfo: Path) -> Iterator[tuple[bool, list[str], str, Path]]:
    """Version 2 or not, controllers, root inside the hierarchy, mount point."""
    for line in _lines(mountinfo):
        mount, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            _, _, _, root, mount_point, *_ = mount.split(" ")
            yield kind == "cgroup2", options.split(","), root, Path(mount_point)


def _below(root: str, path: str) -> str:
    """A group's path as seen from a mount of `root`: containers mount their own group only."""
    root = root.rstrip("/")
    return path.removeprefix(root) if path == root or path.startswith(root + "/") else ""


def _upwards(mount_point: Path, path: str) -> Iterator[Path]:
    folder = mount_point / path.lstrip("/")
    while folder != mount_point:
        yield folder
        folder = folder.parent
    yield mount_point


def _limit_bytes(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _text(folder / name)
        if text is not None and text != "max":
            return int(text)
    return None


def _cpu_quota(folder: Path) -> float | None:
    text = _text(folder / "cpu.max")
    if text is None:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        text = f"{quota} {period}"
    quota, _, period = text.partition(" ")
    if not quota.isdigit() or not (period or "").isdigit():
        return None  # "max", "-1", or no such files
    return int(quota) / int(period)


# -- pressure and other limits --------------------------------------------------------------


def pressure(resource: str, folder: Path = Path("/proc/pressure")) -> float | None:
    """Share of the last ten seconds in which some task waited for `resource`, 0 to 1.

    `resource` is "memory", "cpu" or "io". Linux's pressure stall information; None without it.
    """
    for line in _lines(folder / resource):
        if line.startswith("some avg10="):
            return float(line.split(" ")[1].removeprefix("avg10=")) / 100
    return None


class PressureTrigger:
    """The kernel's word, as soon as it happens, that tasks have waited for memory.

    Thread safety: one thread waits; `interrupt` may be called from any, before `close`.

    Args:
        file: Of pressure stall information; of version 2 control groups, each has its own.
        stall_us: Microseconds of waiting, summed within the window, that are worth a word.
        window_us: Microseconds; the word comes once in so many at most. Without privileges the
            kernel takes multiples of two seconds only.

    Raises:
        OSError: The kernel has no such thing, or not for us.
    """

    def __init__(self, file: Path, stall_us: int = 150_000, window_us: int = 2_000_000) -> None:
        with contextlib.ExitStack() as undo:
            self._trigger = os.open(file, os.O_RDWR | getattr(os, "O_NONBLOCK", 0))
            undo.callback(os.close, self._trigger)
            os.write(self._trigger, b"some %d %d\0" % (stall_us, window_us))
            self._reader, self._writer = os.pipe()
            undo.pop_all()

    def wait(self) -> bool:
        """Wait for the word; False: interrupted, or there will be none any more."""
        poll = select.poll()
        poll.register(self._trigger, select.POLLPRI)
        poll.register(self._reader, select.POLLIN)
        return poll.poll() == [(self._trigger, select.POLLPRI)]

    def interrupt(self) -> None:
        """End the wait, and all later ones."""
        os.write(self._writer, b"x")

    def close(self) -> None:
        """Give it back to the kernel; nobody waits any more."""
        for descriptor in (self._trigger, self._reader, self._writer):
            os.close(descriptor)


def pressure_trigger(
    group: CgroupMemory | None, folder: Path = Path("/proc/pressure")
) -> PressureTrigger | None:
    """That of the control group that binds, else the machine's; None where neither is to be had."""
    if not hasattr(select, "poll"):
        return None
    files = [] if group is None else [group.folder / "memory.pressure"]
    for file in (*files, folder / "memory"):
        with contextlib.suppress(OSError):
            return PressureTrigger(file)
    return None


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Memory that programs can still have without swapping; None where Linux does not tell.

    psutil knows it everywhere, but works out ten other figures for it.
    """
    try:
        with meminfo.open() as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def open_file_limit() -> int | None:
    """How many file descriptors this process may have open; None: no limit is known."""
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 - POSIX only

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


# -- files of the kernel --------------------------------------------------------------------


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:  # no such controller, or not for us to read
        return None


def _lines(path: Path) -> list[str]:
    return (_text(path) or "").splitlines()


def _field(path: Path, name: str) -> int:
    for line in _lines(path):
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
