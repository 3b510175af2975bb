"""Watchdog: says who has given no sign of life, what it was doing, and where it stands."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from typing_extensions import Self

from threadkit._errors import report_unraisable
from threadkit._monitor._pool_watch import PoolWatch, WatchedPool
from threadkit._runtime import REAL, Runtime, Thread

__all__ = ["Stall", "Watchdog", "WatchdogStatistics"]

_logger = logging.getLogger("threadkit")


@dataclass(frozen=True)
class Stall:
    """Somebody gave no sign of life for too long."""

    label: str
    """What it said it was doing."""
    thread: str
    """Name of its thread."""
    seconds: float
    """Since its last sign of life."""
    stack: tuple[str, ...] | None
    """Where it stands, outermost call first, as a traceback shows it. None on builds without a
    GIL, where looking at another thread's frames is not safe, and when the thread has ended."""

    def __str__(self) -> str:
        head = f"{self.label} gave no sign of life for {self.seconds:.3g} s in {self.thread}"
        return head if self.stack is None else f"{head}, at\n{''.join(self.stack)}".rstrip()


@dataclass(frozen=True)
class WatchdogStatistics:
    """What a watchdog has seen."""

    running: bool
    """Whether its thread watches."""
    guarded: int
    """Guards in force."""
    pools: tuple[str, ...]
    """Names of the pools it looks at."""
    stalled: int
    """Guards and tasks of pools that are silent still after their report."""
    stalls: int
    """Reports so far."""
    recovered: int
    """How many went on, or ended, after they had been silent too long."""
    callback_errors: int
    """Calls of `on_stall` that raised."""


class Guard:
    """One piece of work under a watchdog's eyes; `beat` is its sign of life."""

    __slots__ = ("_beat", "beat_at", "ident", "label", "thread")

    def __init__(self, label: str, beat: Callable[[Guard, str | None], None]) -> None:
        self.label = label
        self.thread = threading.current_thread().name
        self.ident = threading.get_ident()
        self.beat_at = 0.0
        self._beat = beat

    def beat(self, label: str | None = None) -> None:
        """Say that the work goes on, and with what."""
        self._beat(self, label)


class Watchdog:
    """Reports work that gives no sign of life for `stall` seconds, once for each stall.

    >>> watchdog = Watchdog(stall=30.0)
    >>> with watchdog, watchdog.guard("speak") as guard:
    ...     for sentence in ("Hello.", "Welcome."):
    ...         guard.beat(sentence)
    >>> watchdog.statistics().stalls
    0

    The tasks of a pool given to `watch_pool` need no guard: what gives no sign of life is one that
    has run for `stall` seconds.

    A report names the label, the thread and, on builds with a GIL, the line it stands at. Nothing
    is interrupted: a thread cannot be killed.

    Thread safety: all methods from any thread; a guard belongs to the thread that made it, and any
        thread may beat it. `on_stall` runs in the watchdog's thread, outside the lock.

    Lifetime: `start` and `stop` may be repeated; as a context manager it does both. Its thread is a
        daemon and sleeps until somebody can be due: with nothing guarded it does not wake, with
        pools once in `stall` seconds.

    Args:
        stall: Seconds without a sign of life.
        name: What its thread is called.
        on_stall: Called with each report; None: it is logged as a warning of `threadkit`.
        runtime: Clock, locks and threads.

    Raises:
        ValueError: `stall` is not more than 0.
    """

    def __init__(
        self,
        stall: float,
        *,
        name: str = "watchdog",
        on_stall: Callable[[Stall], object] | None = None,
        runtime: Runtime = REAL,
    ) -> None:
        if not stall > 0:
            raise ValueError(f"stall must be more than 0 seconds, not {stall!r}")
        self.stall: Final = stall
        self.name: Final = name
        self._on_stall = on_stall
        self._runtime = runtime
        self._clock = runtime.monotonic
        # Guards what follows; held for bookkeeping. Notified when the thread is to end, and when a
        # guard comes while it sleeps without an end; the thread waits. All guards have the same
        # patience: who was silent longest is due first, and none that comes can be due earlier.
        self._changed = runtime.condition(runtime.lock())
        self._silent: OrderedDict[Guard, None] = OrderedDict()  # silent longest first
        self._stalled: set[Guard] = set()  # reported, and silent still
        self._pools: dict[str, PoolWatch] = {}
        self._look_at: dict[str, float] = {}  # at which pool next, and when
        self._idle = False  # the thread sleeps without an end
        self._stalls = self._recovered = self._callback_errors = 0
        self._thread: Thread | None = None
        self._last_thread: Thread | None = None  # it may not have ended yet
        self._generation = 0  # a thread whose number has passed ends

    # -- those who are watched ------------------------------------------------------------

    @contextmanager
    def guard(self, label: str) -> Generator[Guard]:
        """Watch the calling thread until the block ends."""
        guard = Guard(label, self._beat)
        with self._changed:
            self._expect_locked(guard)
        try:
            yield guard
        finally:
            with self._changed:
                self._silent.pop(guard, None)
                self._forgive_locked(guard)

    def watch_pool(self, name: str, pool: WatchedPool) -> None:
        """Look after the tasks of a `DynamicThreadPool`, named after it where they have no label.

        Raises:
            ValueError: The name is taken.
        """
        with self._changed:
            if name in self._pools:
                raise ValueError(f"a pool named {name!r} is watched already")
            self._pools[name] = PoolWatch(pool, self.stall)
            self._look_at[name] = self._clock()
            self._changed.notify()

    def forget_pool(self, name: str) -> None:
        """Look after it no longer. Unknown names are fine."""
        with self._changed:
            self._pools.pop(name, None)
            self._look_at.pop(name, None)

    def _beat(self, guard: Guard, label: str | None) -> None:
        with self._changed:
            if self._forgive_locked(guard) or guard in self._silent:  # else its block has ended
                guard.label = guard.label if label is None else label
                self._expect_locked(guard)

    def _expect_locked(self, guard: Guard) -> None:
        guard.beat_at = self._clock()
        self._silent[guard] = None
        self._silent.move_to_end(guard)
        if self._idle:
            self._changed.notify()

    def _forgive_locked(self, guard: Guard) -> bool:
        if guard not in self._stalled:
            return False
        self._stalled.remove(guard)
        self._recovered += 1
        return True

    # -- the thread -----------------------------------------------------------------------

    def start(self) -> Self:
        """Watch from now on. Does nothing when it does already."""
        with self._changed:
            if self._thread is None:
                thread = self._runtime.thread(
                    self._run, name=self.name, args=(self._generation,), daemon=True
                )
                thread.start()
                self._thread = thread
        return self

    def stop(self, timeout: float | None = None) -> bool:
        """End the thread; False when `on_stall` holds it for more than `timeout` seconds.

        Guards go on without being watched.
        """
        with self._changed:
            if self._thread is not None:
                self._last_thread, self._thread = self._thread, None
            thread = self._last_thread
            self._generation += 1
            self._changed.notify_all()
        if thread is None or thread.ident == self._runtime.get_ident():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _run(self, generation: int) -> None:
        while (due := self._await_stalls(generation)) is not None:
            guards, pools = due
            for guard in guards:
                self._report(guard)
            for name, pool in pools.items():
                self._look(name, pool)

    def _await_stalls(self, generation: int) -> tuple[list[Guard], dict[str, PoolWatch]] | None:
        """Sleep until there is somebody to report or a pool to look at; None: it is to end."""
        with self._changed:
            while self._generation == generation:
                now, due = self._clock(), list[Guard]()
                while self._silent and self._left_locked(now) <= 0:
                    guard, _ = self._silent.popitem(last=False)
                    self._stalled.add(guard)
                    due.append(guard)
                pools = {name: self._pools[name] for name, at in self._look_at.items() if at <= now}
                if due or pools:
                    return due, pools
                self._idle = not (self._silent or self._pools)
                self._changed.wait(None if self._idle else self._patience_locked(now))
                self._idle = False
        return None

    def _left_locked(self, now: float) -> float:
        return next(iter(self._silent)).beat_at + self.stall - now

    def _patience_locked(self, now: float) -> float:
        """Seconds until the next guard or pool is due; there is one."""
        due_in = [at - now for at in self._look_at.values()]
        if self._silent:
            due_in.append(self._left_locked(now))
        return min(due_in)

    def _look(self, name: str, pool: PoolWatch) -> None:
        stuck, recovered, again_in = pool.look()
        with self._changed:
            self._stalls += len(stuck)
            self._recovered += recovered
            if name in self._look_at:
                self._look_at[name] = self._clock() + again_in
        for task in stuck:
            label = task.label or f"a task of {name}"
            stack = None if task.ident is None else _stack_of(task.ident)
            if not pool.runs(task):
                stack = None  # it has just ended, so this may be of the next one
            self._tell(Stall(label, task.worker, task.seconds, stack))

    def _report(self, guard: Guard) -> None:
        stack = _stack_of(guard.ident)
        with self._changed:
            if guard not in self._stalled:
                return  # it went on in this moment, so the stack may be of something else
            self._stalls += 1
            stall = Stall(guard.label, guard.thread, self._clock() - guard.beat_at, stack)
        self._tell(stall)

    def _tell(self, stall: Stall) -> None:
        if self._on_stall is None:
            _logger.warning("%s", stall)
            return
        try:
            self._on_stall(stall)
        except Exception as exc:  # noqa: BLE001 - the watch goes on
            with self._changed:
                self._callback_errors += 1
            report_unraisable(exc, f"{self.name}: on_stall raised", self._on_stall)

    # -- looking --------------------------------------------------------------------------

    def statistics(self) -> WatchdogStatistics:
        """What it has seen."""
        with self._changed:
            return WatchdogStatistics(
                running=self._thread is not None,
                guarded=len(self._silent) + len(self._stalled),
                pools=tuple(self._pools),
                stalled=len(self._stalled) + sum(pool.stuck_count for pool in self._pools.values()),
                stalls=self._stalls,
                recovered=self._recovered,
                callback_errors=self._callback_errors,
            )


def _stack_of(ident: int) -> tuple[str, ...] | None:
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None
    frame = sys._current_frames().get(ident)  # noqa: SLF001 - its documented use
    return None if frame is None else tuple(traceback.format_stack(frame))
