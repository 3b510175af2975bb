"""The runtime that tests hand to the code they test."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from types import ModuleType
from typing import Any, TypeVar, cast

from threadkit._runtime import Lock
from threadkit.testing._loop import SimEventLoop
from threadkit.testing._preemption import Preempt, Preemption
from threadkit.testing._primitives import (
    SimCondition,
    SimEvent,
    SimLock,
    SimRLock,
    SimSimpleQueue,
)
from threadkit.testing._scheduler import Scheduler
from threadkit.testing._schedules import Schedule, schedule_named
from threadkit.testing._substitution import substituted
from threadkit.testing._threads import SimThread
from threadkit.testing._verdicts import Abort

__all__ = ["SimRuntime"]

T = TypeVar("T")

_EPOCH = 1_800_000_000.0  # what `time()` says at the start of every run


class SimRuntime:
    """A `Runtime` under which threads run one at a time, in an order drawn from a seed.

    Hand it to the code under test as `runtime=`, and `run` a scenario. Every operation on a lock,
    condition, event, queue, thread or clock may pass the turn to another thread; in the code named
    by `preempt`, every line may. Time is virtual and passes only when all threads wait, so an hour
    takes milliseconds. The same seed gives the same run again.

        >>> sim = SimRuntime(seed=1)
        >>> def scenario():
        ...     done = sim.event()
        ...     sim.thread(lambda: (sim.sleep(3600), done.set())).start()
        ...     done.wait()
        ...     return sim.monotonic()
        >>> sim.run(scenario)
        3600.0

    Thread safety: it is what runs the threads; only they and the caller of `run` may use it.

    Lifetime: `run` may be called again; the clock and the seed's choices go on. Whatever happens,
    no thread of a run outlives it. Outside `run` its primitives work while nothing has to wait.

    Args:
        seed: Any integer.
        schedule: "uniform", "pct", or a `Uniform(...)` or `Pct(...)`.
        preempt: Code to pre-empt between lines: modules, their dotted names, paths of `.py` files,
            classes, functions. A package means all its files.
        opcodes: Pre-empt between bytecodes instead of lines.
        max_steps: Steps (operations, and lines of pre-empted code) after which a run is given up.
        start_failure_ratio: Share of thread starts that fail, drawn from the seed.
        stall_ratio: Chance that at a step the clock jumps to the next deadline although threads
            could run: they are slow, and a timeout overtakes them.
        stall_timeout: Real seconds without a step after which the run is given up, because a
            thread blocks on something that is not simulated.

    Raises:
        ValueError: For an unknown schedule, a ratio outside 0 to 1, a limit that is not positive.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        schedule: str | Schedule = "uniform",
        preempt: Iterable[Preempt] = (),
        opcodes: bool = False,
        max_steps: int = 100_000,
        start_failure_ratio: float = 0.0,
        stall_ratio: float = 0.0,
        stall_timeout: float = 30.0,
    ) -> None:
        _check_ratio("start_failure_ratio", start_failure_ratio)
        _check_ratio("stall_ratio", stall_ratio)
        _check_positive("max_steps", max_steps)
        _check_positive("stall_timeout", stall_timeout)
        self.seed = seed
        self.schedule = schedule_named(schedule)
        self._scheduler = Scheduler(
            seed=seed,
            schedule=self.schedule,
            max_steps=max_steps,
            stall_timeout=stall_timeout,
        )
        self._scheduler.stall_ratio = stall_ratio
        self._preemption = Preemption(self._scheduler, preempt, opcodes=opcodes)
        self._start_failure_ratio = start_failure_ratio
        self._starts_to_fail = 0
        self._time_offset = _EPOCH

    # -- running ----------------------------------------------------------------------------

    def run(self, main: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call `main` as the first thread of a run and return what it returns.

        The run is over when `main` has returned and every thread that is no daemon has ended;
        daemons are then cut off where they stand. Automatic garbage collection is off meanwhile,
        since it would run finalizers at moments that differ between replays.

        Raises:
            Deadlock: Every thread waits and no timer is due.
            ThreadsLeft: `main` has returned and a thread that is no daemon can never end.
            StepLimit: The run took more than `max_steps` steps.
            BaseException: Whatever `main` or one of the threads raised first, with the seed and
                the last steps as notes.
        """
        scheduler = self._scheduler
        scheduler.begin("main")
        result: list[T] = []
        with _collection_paused(), _one_cpu():
            try:
                with self._preemption():
                    result.append(main(*args, **kwargs))
                scheduler.join_all()
            except Abort:
                pass  # another thread, or the scheduler, has noted the failure
            except BaseException as exc:  # noqa: BLE001 - raised again below
                scheduler.fail(exc)
            finally:
                scheduler.unwind()
        if scheduler.failure is not None:
            raise _annotated(scheduler.failure, self.report())
        return result[0]

    @property
    def steps(self) -> int:
        """Steps taken so far: operations, and lines of pre-empted code."""
        return self._scheduler.steps

    @property
    def choices(self) -> int:
        """Of the steps, those at which more than one thread could go on."""
        return self._scheduler.choices

    @property
    def fingerprint(self) -> int:
        """A number of the schedule so far: equal in two runs that took the same turns."""
        return self._scheduler.fingerprint

    def report(self, last: int = 40) -> str:
        """The seed and the last steps: when, who, what."""
        return "\n".join(
            [
                f"seed {self.seed}, {self.schedule!r}, {self.steps} steps; the last of them:",
                *self._scheduler.history(last),
            ]
        )

    # -- faults -----------------------------------------------------------------------------

    def fail_thread_starts(self, count: int = 1) -> None:
        """Let the next `count` thread starts fail with RuntimeError, as when the OS refuses."""
        self._starts_to_fail += count

    def _refuse_start(self) -> bool:
        if self._starts_to_fail > 0:
            self._starts_to_fail -= 1
            return True
        ratio = self._start_failure_ratio
        return ratio > 0 and self._scheduler.random.random() < ratio

    def advance(self, seconds: float) -> None:
        """Jump both clocks forward, as after a suspended laptop; what is due by then fires."""
        if seconds < 0:
            raise ValueError(f"seconds must not be negative, but is {seconds!r}")
        self._scheduler.advance_to(self._scheduler.now + seconds)
        self._scheduler.point("moves the clock", None)

    def shift_time(self, seconds: float) -> None:
        """Set the wall clock forward or back, as NTP may; `monotonic` does not move."""
        self._time_offset += seconds

    def burn(self, seconds: float) -> None:
        """Use CPU for `seconds`: they pass for all; the caller's `thread_time` counts them."""
        me = self._scheduler.current
        self.sleep(seconds)
        self._scheduler.cpu += seconds
        if me is not None:
            me.cpu += seconds

    # -- the runtime ------------------------------------------------------------------------

    def monotonic(self) -> float:
        self._scheduler.point("reads the clock", None)
        return self._scheduler.now

    def time(self) -> float:
        self._scheduler.point("reads the wall clock", None)
        return self._scheduler.now + self._time_offset

    def thread_time(self) -> float:
        me = self._scheduler.current
        return me.cpu if me is not None else 0.0

    def process_time(self) -> float:
        return self._scheduler.cpu

    def sleep(self, seconds: float, /) -> None:
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        scheduler = self._scheduler
        scheduler.point("sleeps", None)
        if seconds == 0:
            scheduler.yielded()
            scheduler.point("slept", None)
        elif scheduler.current is None:
            scheduler.advance_to(scheduler.now + seconds)
        else:
            until = _Instant(scheduler, seconds)
            scheduler.park(scheduler.waiter(), "sleeps until", until, seconds)

    def get_ident(self) -> int:
        me = self._scheduler.current
        return me.ident if me is not None else 0

    def lock(self) -> SimLock:
        return SimLock(self._scheduler)

    def rlock(self) -> SimRLock:
        return SimRLock(self._scheduler)

    def owns(self, lock: Lock, /) -> bool:
        """Whether the thread whose turn it is holds `lock`. No scheduling point."""
        return cast("SimRLock", lock).owned()

    def condition(self, lock: Lock | None = None) -> SimCondition:
        return SimCondition(self._scheduler, lock)

    def event(self) -> SimEvent:
        return SimEvent(self._scheduler)

    def simple_queue(self) -> SimSimpleQueue:
        return SimSimpleQueue(self._scheduler)

    def thread(
        self,
        target: Callable[..., object],
        *,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        daemon: bool | None = None,
    ) -> SimThread:
        self._threads_made = number = self._threads_made + 1
        return SimThread(
            self._scheduler,
            self._preemption,
            self._refuse_start,
            target=target,
            name=name or f"Thread-{number}",  # the standard names count on through the process
            args=args,
            kwargs=kwargs,
            daemon=daemon,
        )

    _threads_made = 0

    # -- beyond the runtime -----------------------------------------------------------------

    def run_async(self, coroutine: Coroutine[Any, Any, T], /) -> T:
        """What `asyncio.run` does, in the calling thread of a run and in its virtual time.

        The loop has timers, tasks and `call_soon_threadsafe`, but no sockets, and a call of
        `run_in_executor` must name an executor of this runtime.

            >>> import asyncio
            >>> sim = SimRuntime()
            >>> sim.run(lambda: sim.run_async(asyncio.sleep(60, "a minute later")))
            'a minute later'
        """
        return SimEventLoop(self).run_to_end(coroutine)

    def substituted(self, *modules: str | ModuleType) -> contextlib.AbstractContextManager[None]:
        """Put modules that know no runtime on this one while the context lasts.

        Their globals `threading`, `time` and `queue` are replaced by ones that use this runtime,
        so it works for code that says `threading.Lock()`, not `from threading import Lock`, and
        only for what is made meanwhile.

            >>> import concurrent.futures
            >>> sim = SimRuntime()
            >>> with sim.substituted("concurrent.futures._base"):
            ...     future = concurrent.futures.Future()
            ...     sim.run(concurrent.futures.wait, [future], timeout=60).done
            set()
        """
        return substituted(self, modules)

    def __repr__(self) -> str:
        return f"<SimRuntime seed={self.seed} {self.schedule!r} at {self._scheduler.now:g} s>"


class _Instant:
    """The end of a sleep, for reports."""

    __slots__ = ("_at",)

    def __init__(self, scheduler: Scheduler, seconds: float) -> None:
        self._at = scheduler.now + seconds

    def label(self) -> str:
        return f"{self._at:g} s"

    describe = label


def _check_ratio(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1, but is {value!r}")


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive, but is {value!r}")


@contextlib.contextmanager
def _collection_paused() -> Generator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _one_cpu() -> Generator[None]:
    """Keep the calling thread, and those it starts, on one CPU where the platform can.

    Only one of them runs at any time, and passing the turn within a CPU takes a quarter of the
    time of waking another one.
    """
    with contextlib.ExitStack() as undo:
        with contextlib.suppress(AttributeError, OSError):  # no such call, or it is forbidden
            allowed = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {sorted(allowed)[os.getpid() % len(allowed)]})
            undo.callback(os.sched_setaffinity, 0, allowed)
        yield


def _annotated(failure: BaseException, report: str) -> BaseException:
    """Add a note; before Python 3.11 as the attribute that pytest prints too."""
    notes = getattr(failure, "__notes__", [])
    vars(failure)["__notes__"] = [*notes, report]
    return failure
