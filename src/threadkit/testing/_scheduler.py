"""The scheduler: real threads, of which exactly one runs at a time.

Each thread of a run is an `Actor` with a raw lock to sleep on, its baton. Whoever runs holds the
turn; at a *point* (before an operation on a simulated primitive) it may pass the turn on, when it
*parks* (waits for something) it must. The scheduler's own fields are read and written only by the
thread that has the turn, so they need no lock, with or without a GIL.

Time is virtual: when nobody is runnable it jumps to the next deadline. Nobody runnable and no
deadline is a deadlock.

A failed run is aborted: each thread in turn is woken with `Abort` raised where it stands, and is
joined before the next is woken, so that clean-up code never runs in two threads at once either.
"""

from __future__ import annotations

import _thread
import heapq
import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable
from random import Random
from types import FrameType
from typing import NoReturn, Protocol

from threadkit.testing._schedules import Schedule
from threadkit.testing._verdicts import (
    Abort,
    Deadlock,
    ForeignThread,
    SimulationError,
    StepLimit,
    ThreadsLeft,
)

__all__ = ["Actor", "Scheduler", "Waiter"]

_LOG_LENGTH = 200  # last points kept for the report of a failure
_UNWIND_TIMEOUT = 10.0  # real seconds for one thread to unwind
_PATIENCE = 50  # aborts raised before a thread is taken to swallow them


class Thing(Protocol):
    """What an actor can act upon."""

    def label(self) -> str:
        """Name it."""
        ...


class Awaited(Thing, Protocol):
    """What an actor can wait for."""

    def describe(self) -> str:
        """Name it, with its state and owner."""
        ...


class Actor:
    """One thread of a run: the scenario's own ("main") or a simulated thread."""

    __slots__ = (
        "baton",
        "cpu",
        "daemon",
        "dead",
        "frame",
        "ident",
        "joiners",
        "name",
        "priority",
        "thing",
        "thread",
        "thread_ident",
        "verb",
    )

    def __init__(self, ident: int, name: str, thread: threading.Thread, *, daemon: bool) -> None:
        self.ident = ident
        self.name = name
        self.daemon = daemon
        self.thread = thread
        self.thread_ident = 0
        self.baton = _thread.allocate_lock()  # locked: not my turn. Released once to give the turn
        self.baton.acquire()
        self.priority = 0.0
        self.cpu = 0.0  # virtual seconds burnt
        self.dead = False
        self.joiners: deque[Waiter] = deque()
        # What it waits for while it is parked.
        self.verb: str | None = None
        self.thing: Awaited | None = None
        self.frame: FrameType | None = None

    def label(self) -> str:
        return f"thread {self.name!r}"

    describe = label


class Waiter:
    """One wait of one actor."""

    __slots__ = ("actor", "done", "timed_out")

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.done = False
        self.timed_out = False


class Scheduler:
    """The turn, the clock and the end of one `SimRuntime`."""

    def __init__(
        self, *, seed: int, schedule: Schedule, max_steps: int, stall_timeout: float
    ) -> None:
        self.random = Random(seed)
        self.chooser = schedule.begin(self.random)
        self.now = 0.0
        self.cpu = 0.0  # virtual seconds burnt by all threads
        self.steps = 0
        self.choices = 0  # of the steps, those at which more than one thread could go on
        self.fingerprint = 0
        self.actors: list[Actor] = []
        self.runnable: list[Actor] = []  # includes the current one
        self.current: Actor | None = None
        self.failure: BaseException | None = None
        self.aborting = False
        self.log: deque[tuple[float, str, str, Thing | None]] = deque(maxlen=_LOG_LENGTH)
        self.stall_ratio = 0.0
        self._max_steps = max_steps
        self._stall_timeout = stall_timeout
        self._timers: list[tuple[float, int, Waiter]] = []
        self._ticket = itertools.count()
        self._main: Actor | None = None
        self._main_returned = False
        self._unwinding = False  # main has taken over and joins the others
        self._aborts = 0

    # -- steps ------------------------------------------------------------------------------

    def point(self, verb: str, thing: Thing | None) -> None:
        """Let any runnable thread go on before the caller does `verb` to `thing`."""
        me = self.current
        if me is None:
            return  # outside a run: one thread, nothing to schedule
        # Written out, for it is most of what a run does; traced code pays for every call in it.
        if self.aborting or _thread.get_ident() != me.thread_ident:
            self._refuse(me)
        self.log.append((self.now, me.name, verb, thing))
        self.steps += 1
        if self.steps > self._max_steps:
            self._give_up()
        if len(self.runnable) > 1:
            self.choices += 1
        if self.stall_ratio and self.random.random() < self.stall_ratio:
            self._advance()
        chosen = self.chooser.choose(self.runnable, me)
        if chosen is not me:
            self._switch(me, chosen)

    def preempted(self, lines: int) -> Actor | None:
        """Decide who goes on after `lines` lines of pre-empted code; None: the caller itself."""
        me = self.current
        if me is None:
            return None
        if self.aborting or _thread.get_ident() != me.thread_ident:
            self._refuse(me)
        self.steps += lines
        if self.steps > self._max_steps:
            self._give_up()
        if len(self.runnable) > 1:
            self.choices += lines
        chosen = self.chooser.preempt(self.runnable, me, lines)
        return None if chosen is me else chosen

    def pass_turn(self, chosen: Actor, place: Thing) -> None:
        """Let `chosen` go on in the middle of the caller's code."""
        me = self.waiter().actor
        self.log.append((self.now, me.name, "is pre-empted", place))
        self._switch(me, chosen)

    def yielded(self) -> None:
        """Tell that the caller found something taken and may try again at once."""
        if self.current is not None:
            self.chooser.yielded(self.current)

    def _refuse(self, me: Actor) -> NoReturn:
        if self.aborting:
            self.abort()
        raise ForeignThread(
            f"{threading.current_thread().name!r} was not started by this SimRuntime and used "
            f"one of its primitives while {me.name!r} ran"
        )

    def _give_up(self) -> NoReturn:
        self.fail(self._with_waits(StepLimit, f"no end after {self._max_steps} steps"))
        raise Abort

    # -- waiting ----------------------------------------------------------------------------

    def waiter(self) -> Waiter:
        """A wait of the caller, to be put where the other side finds it before `park`."""
        me = self.current
        if me is None:
            raise RuntimeError("this would block: it can only be done inside SimRuntime.run")
        return Waiter(me)

    def park(self, waiter: Waiter, verb: str, thing: Awaited, timeout: float | None) -> bool:
        """Wait until woken (True) or until `timeout` seconds have passed (False)."""
        me = waiter.actor
        if self.aborting or _thread.get_ident() != me.thread_ident:
            self._refuse(me)
        if timeout is not None:
            if timeout > threading.TIMEOUT_MAX:
                raise OverflowError("timeout value is too large")
            heapq.heappush(self._timers, (self.now + timeout, next(self._ticket), waiter))
        me.verb, me.thing, me.frame = verb, thing, sys._getframe(1)  # noqa: SLF001
        self.log.append((self.now, me.name, verb, thing))
        self.runnable.remove(me)
        self._switch(me, self._next(me))
        me.verb = me.thing = me.frame = None
        return not waiter.timed_out

    def wake(self, waiter: Waiter, *, timed_out: bool = False) -> None:
        """Make a waiting thread runnable, once."""
        if not waiter.done:
            waiter.done = True
            waiter.timed_out = timed_out
            self.runnable.append(waiter.actor)

    def wake_all(self, waiters: deque[Waiter]) -> None:
        while waiters:
            self.wake(waiters.popleft())

    def advance_to(self, instant: float) -> None:
        """Move the clock and let every deadline that has passed fire."""
        self.now = max(self.now, instant)
        while self._timers and self._timers[0][0] <= self.now:
            self.wake(heapq.heappop(self._timers)[2], timed_out=True)

    def _advance(self) -> bool:
        """Jump to the next deadline; False if there is none."""
        timers = self._timers
        while timers and timers[0][2].done:
            heapq.heappop(timers)
        if timers:
            self.advance_to(timers[0][0])
        return bool(timers) or bool(self.runnable)

    # -- passing the turn -------------------------------------------------------------------

    def _next(self, me: Actor | None) -> Actor:
        while not self.runnable:
            if not self._advance():
                self.fail(self._deadlock())
                raise Abort
        return self.chooser.choose(self.runnable, me)

    def _switch(self, me: Actor, chosen: Actor) -> None:
        if chosen is not me:
            self._give_turn(chosen)
            self._await_turn(me)
        if self.aborting:
            raise Abort

    def _give_turn(self, actor: Actor) -> None:
        self.fingerprint = hash((self.fingerprint, actor.ident, self.steps))
        self.current = actor
        actor.baton.release()

    def _await_turn(self, me: Actor) -> None:
        try:
            seen = -1
            while not me.baton.acquire(True, self._stall_timeout):
                self._check_moved(seen)
                seen = self.steps
        except BaseException as exc:
            # A KeyboardInterrupt, or a stall: the thread that has the turn aborts at its next
            # point and then wakes main. The interrupt may come when the turn has just come too.
            self.fail(exc)
            if me is self._main and self.current is not me:
                me.baton.acquire(True, _UNWIND_TIMEOUT)
            raise Abort from exc

    def _check_moved(self, seen: int) -> None:
        if seen != self.steps:
            return
        name = self.current.name if self.current else "?"
        raise SimulationError(
            f"{name!r} has the turn and did nothing the simulator knows of for "
            f"{self._stall_timeout:g} real seconds: it blocks on something outside, or loops"
        )

    # -- beginning and end ------------------------------------------------------------------

    def begin(self, name: str) -> None:
        """Make the calling thread the main one of a run."""
        if self.current is not None:
            raise RuntimeError("this SimRuntime is running already")
        self.failure = None
        main = self.spawn(name, threading.current_thread(), daemon=True)
        main.thread_ident = _thread.get_ident()
        self.current = self._main = main
        self._main_returned = False

    def spawn(self, name: str, thread: threading.Thread, *, daemon: bool) -> Actor:
        """Register a thread, runnable from now on."""
        actor = Actor(len(self.actors) + 1, name, thread, daemon=daemon)
        self.actors.append(actor)
        self.runnable.append(actor)
        self.chooser.spawned(actor)
        return actor

    def body(self, actor: Actor, run: Callable[[], object]) -> None:
        """What a simulated thread does: wait for its turn, run, pass the turn on."""
        actor.thread_ident = _thread.get_ident()
        actor.baton.acquire()
        try:
            if not self.aborting:
                run()
        except SystemExit:
            pass  # as a real thread's, or an Abort
        except BaseException as exc:  # noqa: BLE001 - `run` raises it
            self.fail(exc)
        finally:
            self._leave(actor)

    def _leave(self, actor: Actor) -> None:
        actor.dead = True
        if actor in self.runnable:
            self.runnable.remove(actor)
        self.wake_all(actor.joiners)
        try:
            if not self.aborting:
                self._give_turn(self._next(None))
                return
        except Abort:
            pass  # a deadlock was found
        if self._main is not None and not self._unwinding:
            self._main.baton.release()

    def join_all(self) -> None:
        """Let the threads that are no daemons go on to their end, as the interpreter does."""
        self._main_returned = True
        for actor in self.actors:
            while not (actor.dead or actor.daemon):
                waiter = self.waiter()
                actor.joiners.append(waiter)
                self.park(waiter, "waits at the end of the run for", actor, None)

    def abort(self) -> NoReturn:
        """Unwind the calling thread of a run that is over."""
        self._aborts += 1
        if self._aborts % _PATIENCE == 0:
            _insist()
        raise Abort

    def fail(self, failure: BaseException) -> None:
        """Abort the run; the first failure is the one reported."""
        if not self.aborting:
            self.failure = failure
            self.aborting = True

    def unwind(self) -> None:
        """End every thread that is left, one after another, and forget the run."""
        self.aborting = self._unwinding = True
        stuck: list[str] = []
        for actor in self.actors:
            if actor is self._main:
                continue
            if not actor.dead:
                self.current = actor
                actor.baton.release()
            threading.Thread.join(actor.thread, _UNWIND_TIMEOUT)
            if threading.Thread.is_alive(actor.thread):
                stuck.append(actor.name)
        self._unwinding = False
        self.aborting = False
        self.current = self._main = None
        self.actors.clear()
        self.runnable.clear()
        self._timers.clear()
        if stuck:
            raise SimulationError(f"threads that will not end: {stuck}") from self.failure

    # -- reports ----------------------------------------------------------------------------

    def _deadlock(self) -> SimulationError:
        if self._main_returned:
            return self._with_waits(ThreadsLeft, "the scenario has returned, but threads are left")
        return self._with_waits(Deadlock, "every thread waits and no timer is due")

    def _with_waits(self, kind: type[SimulationError], headline: str) -> SimulationError:
        lines = [_wait_of(actor) for actor in self.actors if not actor.dead]
        return kind("\n  ".join([f"{headline} (at {self.now:g} s)", *lines]))

    def history(self, last: int) -> list[str]:
        """The last points, one line each."""
        entries = list(self.log)[-last:]
        return [
            f"{at:10.4f}  {name:<16} {verb} {thing.label() if thing else ''}".rstrip()
            for at, name, verb, thing in entries
        ]


def _insist() -> None:
    """Abort the calling thread once more at the next line it runs, even in an except clause.

    For loops that catch everything and go on: the line after the catch is outside its reach.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    while frame is not None and not _is_ours(frame, "body", "run"):
        if not _is_ours(frame):
            frame.f_trace = _abort_line
        frame = frame.f_back
    sys.settrace(_abort_line)


def _abort_line(_frame: FrameType, event: str, _arg: object) -> None:
    if event == "line":
        raise Abort


def _is_ours(frame: FrameType, *names: str) -> bool:
    """Whether a frame runs a function of this package (with one of those names)."""
    if names and frame.f_code.co_name not in names:
        return False
    return str(frame.f_globals.get("__name__", "")).startswith(__name__.rpartition(".")[0])


def _wait_of(actor: Actor) -> str:
    if actor.thing is None:
        return f"{actor.name} can run"
    return f"{actor.name} {actor.verb} {actor.thing.describe()}{_place_of(actor.frame)}"


def _place_of(frame: FrameType | None) -> str:
    """Where the code under test stands: the innermost frame outside this package."""
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
    if frame is None:
        return ""
    code = frame.f_code
    return f", at {code.co_filename}:{frame.f_lineno} in {code.co_name}"
