"""Does a real process keep under a memory ceiling, and get back to its sizes afterwards?

    python -m benchmarks.ceiling [--mode injected | cgroup] [--naive] [--seconds N]

One process fills a cache with sounds of 256 KiB, runs tasks that need 1 MiB each, and holds on to
8 MiB more with every second, for `--seconds`: four times what fits. Then all of it goes, and the
process waits until every size is as before. `injected`
reads the resident memory of the process against a limit of its own. `cgroup` moves the process into
a new control group below its present one, whose limit the kernel enforces, and reads the system as
any program would (Linux with a writable memory controller, version 1 or 2). `--naive` leaves the
governor out; it ends above the ceiling. Prints one JSON object; `benchmarks.governor` runs it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

from threadkit import ComponentManager, Governor, Reading, ResourceMonitor, SystemReadings

MIB = 1 << 20
CEILING = 160 * MIB
SOUND, TASK = MIB // 4, MIB
PERIOD = 0.1  # seconds between two samples
RATE = 40 * MIB  # bytes of sounds a second
LEAK = 8 * MIB  # bytes a second that are no sounds
MEMORY_V1 = "memory.limit_in_bytes"


def own_group() -> Path | None:
    """The folder of this process's memory group; None where there is none to be made in it."""
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        mount = Path("/sys/fs/cgroup", "memory" if controllers else "")
        if controllers in {"", "memory"} and (mount / path[1:] / "cgroup.procs").exists():
            folder = mount / path[1:]
            if controllers or "memory" in (folder / "cgroup.subtree_control").read_text():
                return folder
    return None


@contextlib.contextmanager
def control_group() -> Generator[Path | None]:
    """A new group with the ceiling; None where this process may not make one."""
    parent = own_group() if sys.platform == "linux" else None
    folder = None if parent is None else parent / f"threadkit-ceiling-{os.getpid()}"
    try:
        if folder is not None:
            folder.mkdir()
            name = MEMORY_V1 if (folder / MEMORY_V1).exists() else "memory.max"
            (folder / name).write_text(str(CEILING))
    except OSError:
        folder = None
    try:
        yield folder
    finally:
        if folder is not None:
            folder.rmdir()


class Program:
    """A cache, a pool, and somebody who asks too much of them."""

    def __init__(self, monitor: ResourceMonitor, *, governed: bool) -> None:
        self.monitor = monitor
        self.governor = Governor(monitor)
        self.manager = ComponentManager(
            monitor=monitor, governor=self.governor if governed else None
        )
        self.sounds = self.manager.cache("sounds", maxsize=4 * CEILING, weigher=lambda _, v: len(v))
        self.pool = self.manager.pool("speak", min_workers=1, max_workers=64)
        self.kept: list[bytes] = []
        self.highest = 0.0
        monitor.on_sample(self.look)

    def look(self, _sample: object) -> None:
        """Note the highest use."""
        latest = self.monitor.latest
        if latest is not None and "memory" in latest.readings:
            self.highest = max(self.highest, latest.readings["memory"].ratio or 0.0)

    def load(self, seconds: float) -> None:
        """Ask for more than fits, until the time is up or the ceiling is passed by a third."""
        pause = threading.Event()

        def needy() -> int:
            needed = b"~" * TASK
            pause.wait(0.2)
            return len(needed)

        ends_at = time.monotonic() + seconds
        number = 0
        while time.monotonic() < ends_at and self.highest < 1.33:
            self.sounds.put(number, b"~" * SOUND)
            if number % 8 == 0:
                self.pool.submit(needy)
                self.kept.append(b"~" * (LEAK * 8 * SOUND // RATE))
            number += 1
            pause.wait(SOUND / RATE)

    def run(self, seconds: float) -> dict[str, float]:
        """Load, relief, recovery."""
        with self.manager:
            self.load(seconds)
            size, workers = self.sounds.maxsize, self.pool.statistics().max_workers
            self.sounds.clear()
            self.kept.clear()
            relieved_at = time.monotonic()
            while self.sounds.maxsize < 4 * CEILING or self.pool.statistics().max_workers < 64:
                time.sleep(PERIOD)
                assert time.monotonic() < relieved_at + 60, self.governor.statistics()
            return {
                "highest": 100 * self.highest,
                "cache_under_load": 100 * size / CEILING,
                "workers_under_load": workers,
                "recovery": time.monotonic() - relieved_at,
                "changes": self.governor.statistics().changes,
            }


def watch_own_limit() -> ResourceMonitor:
    """Resident memory of this process against the ceiling."""
    rss = SystemReadings().sources()["rss"]

    def memory() -> Reading:
        reading = rss()
        assert reading is not None
        return Reading(reading.used, CEILING)

    return ResourceMonitor(period=PERIOD, sources={"memory": memory})


def measure(mode: str, *, governed: bool, seconds: float = 6.0) -> dict[str, float] | None:
    """Run it in a process of its own; None where there can be no control group."""
    command = [sys.executable, "-m", "benchmarks.ceiling", "--inside", "--mode", mode]
    command += ["--seconds", str(seconds)] + ([] if governed else ["--naive"])
    # Else freed sounds stay in the allocator's hands, and there is nothing to see.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    with control_group() if mode == "cgroup" else contextlib.nullcontext() as folder:
        if mode == "cgroup" and folder is None:
            return None
        command += [] if folder is None else ["--group", str(folder)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=90, check=True
        )
        found: dict[str, float] = json.loads(done.stdout)
        failures = folder and folder / "memory.failcnt"  # how often the kernel had to step in
        if failures and failures.exists():
            found["hits"] = int(failures.read_text())
        return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=["injected", "cgroup"], default="injected")
    parser.add_argument("--naive", action="store_true")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--group", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        print(
            json.dumps(measure(options.mode, governed=not options.naive, seconds=options.seconds))
        )
        return
    if options.group is not None:
        (options.group / "cgroup.procs").write_text(str(os.getpid()))
    monitor = ResourceMonitor(period=PERIOD) if options.group is not None else watch_own_limit()
    print(json.dumps(Program(monitor, governed=not options.naive).run(options.seconds)))


if __name__ == "__main__":
    main()
