"""One thread that does all the thinking, and short-lived ones that do what may block.

The actor's thread takes jobs from a queue, one at a time, and sleeps until the next job or timer:
there is nothing to lock between jobs, and nothing wakes without a reason. User code never runs on
it: each call gets a thread of its own and an instant by which it has to be done.
"""

from __future__ import annotations

import logging
import queue
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from threadkit._components._timers import Timer, Timers
from threadkit._runtime import Runtime, Thread

logger = logging.getLogger("threadkit.components")

Job = Callable[[], object]

_TRY_AGAIN = 0.05  # seconds; a thread that ends meanwhile makes room for another


class Call:
    """User code on a thread of its own. It is either done or given up, whichever comes first."""

    def __init__(self, runtime: Runtime) -> None:
        self.begun = runtime.event()
        self.timer: Timer | None = None
        self.ident: int | None = None
        # Whoever pops the token has won. deque.pop is atomic, with and without a GIL.
        self._token = deque([True])

    def claim(self) -> bool:
        """Whether the caller decides what became of it: true once."""
        try:
            return self._token.pop()
        except IndexError:
            return False

    @property
    def is_over(self) -> bool:
        """Whether it is done or given up."""
        return not self._token

    def where(self) -> str | None:
        """`FILE:LINE in NAME` of the line its thread is at, where that can be told."""
        return where_is(self.ident)


class Actor:
    """A thread with a queue of jobs and timers.

    Lifetime: `launch` starts the thread; it ends after the job that calls `finish`, and may be
    launched again.
    """

    def __init__(self, name: str, runtime: Runtime) -> None:
        self.name = name
        self._runtime = runtime
        self._monotonic = runtime.monotonic
        self._inbox = runtime.simple_queue()
        self._timers = Timers()
        self._finished = True
        self._thread: Thread | None = None
        # Some releases start no more threads while the interpreter exits: user code is then called
        # on the actor's own, for whose end the exit does not wait for ever.
        self.is_exiting = False
        # Threads that run user code of this manager: none may wait for its end. Its add, discard
        # and membership test are atomic, with and without a GIL.
        self.idents: set[int] = set()

    def launch(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: The system refuses to start one.
        """
        self._inbox = self._runtime.simple_queue()  # what came too late last time is forgotten
        self._timers = Timers()
        self._finished = False
        self._thread = self._runtime.thread(self._run, name=f"{self.name}-supervisor", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._finished = True
            raise

    def finish(self) -> None:
        """On the actor's thread: end it after this job."""
        self._finished = True

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread after it was finished."""
        thread = self._thread
        if thread is not None and thread.ident != self._runtime.get_ident():
            thread.join(timeout)

    def now(self) -> float:
        """The monotonic clock."""
        return self._monotonic()

    def post(self, job: Callable[..., object], *args: Any) -> None:
        """Have a job done; it may come too late, when the actor has finished."""
        self._inbox.put(partial(job, *args))

    def after(self, delay: float, job: Callable[..., object], *args: Any) -> Timer:
        """On the actor's thread: have a job done in `delay` seconds."""
        return self._timers.add(self._monotonic() + delay, partial(job, *args))

    def call(
        self,
        name: str,
        work: Callable[[], Any],
        *,
        done: Callable[[Any, BaseException | None], object],
        timeout: float,
        expired: Callable[[Call], object],
        late: Callable[[BaseException | None], object] | None = None,
        insist: bool = False,
        post: Callable[..., object] | None = None,
    ) -> Call:
        """On the actor's thread: run user code on a thread of its own.

        Args:
            name: Ends the thread's name.
            work: The user code.
            done: A job with its result or exception, unless it was given up.
            timeout: Seconds until it is given up.
            expired: A job when it is given up.
            late: Called on its thread when it is done after that, with its exception.
            insist: Whether to try again, until it is given up, when the system refuses a thread.
            post: Takes the job with its result or exception, instead of `Actor.post`.
        """
        call = Call(self._runtime)
        deliver = self.post if post is None else post

        def run() -> None:
            call.ident = ident = self._runtime.get_ident()
            self.idents.add(ident)
            call.begun.set()
            result, error = None, None
            try:
                result = work()
            except BaseException as exc:  # noqa: BLE001 - user code; it is handed to the actor
                error = exc
            self.idents.discard(ident)
            if call.claim():
                deliver(self._done, call, done, result, error)
            elif late is not None:
                late(error)

        call.timer = self.after(timeout, self._expire, call, expired)
        self._begin(call, f"{self.name}-{name}", run, done, insist=insist)
        return call

    def _begin(
        self,
        call: Call,
        name: str,
        run: Callable[[], None],
        done: Callable[[Any, BaseException | None], object],
        *,
        insist: bool,
    ) -> None:
        """Start its thread; where the system refuses, try again or let that be its outcome."""
        try:
            self._runtime.thread(run, name=name, daemon=True).start()
        except RuntimeError as exc:
            if self.is_exiting:
                run()
            elif not insist:
                call.claim()
                self.post(self._done, call, done, None, exc)
            elif not call.is_over:
                self.after(_TRY_AGAIN, partial(self._begin, call, name, run, done, insist=True))
            call.begun.set()

    def _done(
        self,
        call: Call,
        done: Callable[[Any, BaseException | None], object],
        result: Any,
        error: BaseException | None,
    ) -> None:
        if call.timer is not None:
            call.timer.cancel()
        done(result, error)

    def _expire(self, call: Call, expired: Callable[[Call], object]) -> None:
        if call.claim():
            expired(call)

    def do_waiting(self) -> None:
        """On the actor's thread: do at once what is queued now."""
        for _ in range(self._inbox.qsize()):
            self._do(self._inbox.get_nowait())

    def do_next(self) -> None:
        """On the actor's thread: wait for a job that is certain to come, and do it."""
        self._do(self._inbox.get())

    def _run(self) -> None:
        while not self._finished:
            try:
                job = self._inbox.get(timeout=self._timers.wait(self._monotonic()))
            except queue.Empty:
                job = None
            if job is not None:
                self._do(job)
            for action in self._timers.due(self._monotonic()):
                self._do(action)
        self.over()

    def over(self) -> None:
        """On the actor's thread, as its last act."""

    def _do(self, job: Job) -> None:
        try:
            job()
        except Exception:  # a defect of ours must not take supervision down with it
            logger.exception("%s: a job of the supervisor failed", self.name)


def where_is(ident: int | None) -> str | None:
    """`FILE:LINE in NAME` of the line a thread is at.

    None on builds without a GIL, where looking at another thread's frames is not safe.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None
    frame = sys._current_frames().get(ident or 0)  # noqa: SLF001 - its documented use
    if frame is None:
        return None
    code = frame.f_code
    return f"{Path(code.co_filename).name}:{frame.f_lineno} in {code.co_name}"
