"""The supervisor: which component starts, stops or starts again next, and why.

Everything is decided by one rule, `_reconcile`, from two facts about each component: the state it
is in, and whether it is wanted. Starting sets what is wanted, stopping unsets it, a restart lets
it bounce; whatever happens to a component, its neighbours are reconciled. All of it runs on the
actor's thread.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from threadkit._components._actor import Actor, Call
from threadkit._components._context import Context
from threadkit._components._events import ComponentEvent, EventFeed
from threadkit._components._graph import closure, dependents_of
from threadkit._components._handle import Handle
from threadkit._components._rules import Health, Intensity, OnExhausted
from threadkit._components._states import ComponentState as State
from threadkit._components._watching import Watcher
from threadkit._errors import (
    LifecycleError,
    RestartsExhausted,
    StartTimeout,
    StopTimeout,
    Superseded,
)
from threadkit._failures import ErrorLog
from threadkit._runtime import REAL, Runtime

GROUP_GRACE = 30.0  # seconds a group that gives up may take to stop
logger = logging.getLogger("threadkit.components")

_BEGIN = 1.0  # seconds to wait for a thread to begin at the end of the budget; far above need


# Those with a thread, for the interpreter's exit. Its add, discard and copy are atomic, with and
# without a GIL.
running: set[Supervisor] = set()


class StartRound:
    """One start of a whole manager. Written by the supervisor, read once it has ended."""

    def __init__(self, wanted: Iterable[str]) -> None:
        self.pending = set(wanted)
        self.failed: dict[str, Exception] = {}
        self.was_stopped = False

    @property
    def has_ended(self) -> bool:
        """Whether everything is ready. A round that failed ends with its supervisor."""
        return not (self.pending or self.failed)


class Supervisor(Actor):
    """Keeps components in the state that is wanted of them.

    Thread safety: `begin_start`, `begin_stop`, `post_*` and the readers may be called from any
    thread; everything else runs on the actor's thread.
    """

    def __init__(
        self,
        name: str,
        *,
        intensity: Intensity,
        on_exhausted: OnExhausted,
        errors: ErrorLog | None,
        feed: EventFeed,
        runtime: Runtime,
    ) -> None:
        super().__init__(name, runtime)
        self._intensity = intensity
        self._on_exhausted = on_exhausted
        self._errors = errors
        self._feed = feed
        self._time = runtime.time
        # The same draws in every replay of a simulated run.
        self._random = random.Random(None if runtime is REAL else 0).random
        # Notified after every move; waited on by wait_until. Its lock guards the handles' states
        # for readers who want several of them at one moment; held for one assignment.
        self.changed = runtime.condition(runtime.lock())
        self.handles: dict[str, Handle] = {}
        self.order: list[str] = []  # each after all it needs
        self._dependents: Mapping[str, tuple[str, ...]] = {}
        self._round: StartRound | None = None  # until all of it are ready
        self._is_leaving = False  # stopping, or rolling back
        self._up_count = 0
        self._budget_ends_at: float | None = None
        self._final = True
        self._restarts_at: deque[float] = deque()
        self.escalate: Callable[[BaseException], None] | None = None
        self.on_over: Callable[[], None] | None = None
        self.failure: BaseException | None = None
        self.is_over = True
        self._watcher = Watcher(self, self._said_failed, self._set_readiness)

    # -- from any thread --------------------------------------------------------------------

    def begin_start(
        self, order: list[str], wanted: Iterable[str], timeout: float | None
    ) -> StartRound:
        """Launch the thread and start `wanted`, each as soon as all it needs are ready.

        Raises:
            RuntimeError: The system refuses to start a thread.
        """
        self.order = order
        self._dependents = dependents_of({name: self.handles[name].needs for name in order})
        self._restarts_at.clear()
        self.failure = None
        self._budget_ends_at = None
        self._is_leaving = False
        round_ = self._round = StartRound(wanted)
        self.is_over = False
        try:
            self.launch()
        except RuntimeError:
            self.is_over = True
            raise
        if self._runtime is REAL:
            running.add(self)
        self.post(self._start_all, round_, timeout)
        return round_

    def begin_stop(self, timeout: float, *, final: bool) -> None:
        """Stop everything within `timeout`, or sooner when it is being stopped already."""
        self.post(self._stop_all, self._monotonic() + timeout, final)

    def begin_restart(self, name: str) -> None:
        """Stop a component and its scope, and start them again."""
        self.post(self._restart, self.handles[name], 0.0, "asked for")

    def post_ready(self, ctx: Context, /) -> None:
        self.post(self._said_ready, ctx)

    def post_failure(self, ctx: Context, exc: BaseException, /) -> None:
        self.post(self._said_failed, ctx, exc)

    def post_end(self, ctx: Context, /) -> None:
        self.post(self._said_failed, ctx, None)

    def generation_of(self, name: str, /) -> int:
        return self.handles[name].generation

    def wait_until(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until `condition` holds, or no thread is left that could make it hold."""
        with self.changed:
            self.changed.wait_for(lambda: condition() or self.is_over, timeout)
            return condition()

    # -- starting and stopping it all --------------------------------------------------------

    def _start_all(self, round_: StartRound, timeout: float | None) -> None:
        for handle in self.handles.values():
            handle.want(handle.name in round_.pending)
        if timeout is not None:
            self.after(timeout, self._start_all_timed_out, round_, timeout)
        self._reconcile_all(self.order)
        self._check_started()

    def _start_all_timed_out(self, round_: StartRound, timeout: float) -> None:
        if round_ is self._round:
            for name in sorted(round_.pending):
                round_.failed.setdefault(name, StartTimeout(component=name, timeout=timeout))
            self._leave()

    def _check_started(self) -> None:
        round_ = self._round
        if round_ is not None and round_.has_ended:
            self._round = None
            with self.changed:
                self.changed.notify_all()

    def _stop_all(self, deadline: float, final: bool) -> None:
        if not self._is_leaving:
            self._final = final
        if self._budget_ends_at is None or deadline < self._budget_ends_at:
            self._budget_ends_at = deadline
            self.after(deadline - self._monotonic(), self._budget_spent, deadline)
        if self._round is not None:
            self._round.was_stopped = True
        self._leave()

    def _leave(self) -> None:
        """Let everything go down, and then the supervisor."""
        self._is_leaving = True
        for handle in self.handles.values():
            handle.is_wanted = False
        self._reconcile_all(reversed(self.order))
        self._check_down()

    def _budget_spent(self, deadline: float) -> None:
        """Ask whoever was not asked yet to stop, in order but without waiting; then leave."""
        if deadline != self._budget_ends_at or self._up_count == 0:
            return
        for name in reversed(self.order):
            handle = self.handles[name]
            if handle.state in {State.RUNNING, State.DEGRADED, State.DRAINING}:
                self._stop_now(handle).begun.wait(_BEGIN)
        self.do_waiting()
        for name in reversed(self.order):
            handle = self.handles[name]
            while handle.state is State.STARTING and not handle.give_call_up():
                self.do_next()  # its start has just returned: it is stopped after all
            if handle.state is State.DRAINING:
                self._stop_now(handle).begun.wait(_BEGIN)
            if handle.state.is_up:
                self._abandon(handle, handle.call)

    def _check_down(self) -> None:
        """Be over once nothing is up, if that is what was wanted."""
        if self._is_leaving and self._up_count == 0:
            self.finish()

    def over(self) -> None:
        self._round = None
        running.discard(self)
        with self.changed:
            self.is_over = True
            self.changed.notify_all()
        if self.on_over is not None:
            self.on_over()

    # -- the rule ---------------------------------------------------------------------------

    def _reconcile_all(self, names: Iterable[str]) -> None:
        for name in names:
            self._reconcile(self.handles[name])

    def _reconcile(self, handle: Handle) -> None:
        """Bring a component one step nearer to what is wanted, if its neighbours let it."""
        state = handle.state
        if state in {State.RUNNING, State.DEGRADED}:
            if handle.is_leaving and not self._is_in_use(handle):
                self._begin_stopping(handle)
        elif state is State.STARTING:
            if handle.is_leaving and handle.ctx is not None:
                handle.asked_at = self._monotonic()
                handle.ctx.ask_to_stop(self._stop_by(handle), final=not handle.is_wanted)
        elif not state.is_up:
            if handle.is_wanted:
                if handle.delay == 0 and self._has_what_it_needs(handle):
                    self._begin_starting(handle)
            elif state is State.BACKOFF:
                handle.cancel_timers()
                self._move(handle, State.STOPPED, "not wanted any more")

    def _is_in_use(self, handle: Handle) -> bool:
        """Whether somebody who has to leave first has not left yet."""
        users = (self.handles[name] for name in self._dependents[handle.name])
        return any(user.is_leaving and user.state.is_up for user in users)

    def _has_what_it_needs(self, handle: Handle) -> bool:
        return all(self.handles[name].is_ready for name in handle.needs)

    def _stop_by(self, handle: Handle) -> float:
        stop_by = self._monotonic() + handle.options.stop_timeout
        return stop_by if self._budget_ends_at is None else min(stop_by, self._budget_ends_at)

    def _move(self, handle: Handle, state: State, reason: str = "") -> None:
        with self.changed:
            before = handle.move(state)
            self._up_count += state.is_up - before.is_up
            self.changed.notify_all()
        self._feed.publish(
            ComponentEvent(
                self._time(), self.name, handle.name, handle.generation, before, state, reason
            )
        )

    # -- starting ---------------------------------------------------------------------------

    def _begin_starting(self, handle: Handle) -> None:
        handle.is_bouncing = handle.has_ended = False
        handle.crash = handle.stuck_at = None
        handle.generation += 1
        ctx = handle.ctx = Context(handle.name, handle.generation, self, self._runtime)
        self._move(handle, State.STARTING)
        made: list[Any] = []

        def start() -> None:
            made.append(handle.make())
            if handle.ctx is ctx:
                handle.component = made[0]
            made[0].start(ctx)

        handle.call = self.call(
            f"start-{handle.name}",
            start,
            done=partial(self._start_done, handle, ctx),
            timeout=handle.options.start_timeout,
            expired=partial(self._start_timed_out, handle, ctx),
            late=lambda error: self._started_late(ctx, made, error),
        )

    def _start_done(
        self, handle: Handle, ctx: Context, _result: object, error: BaseException | None
    ) -> None:
        if ctx is not handle.ctx:
            return
        if error is not None:
            if handle.state is State.STARTING:
                self._start_failed(handle, error)
            else:
                self._said_failed(ctx, error)
        elif handle.state is State.STARTING:
            self._became_ready(handle)

    def _said_ready(self, ctx: Context) -> None:
        handle = self.handles[ctx.name]
        if ctx is handle.ctx and handle.state is State.STARTING:
            if handle.call is not None and handle.call.timer is not None:
                handle.call.timer.cancel()  # it may take as long as it likes to return
            self._became_ready(handle)

    def _became_ready(self, handle: Handle) -> None:
        ctx = handle.ctx
        assert ctx is not None  # noqa: S101 - it is up
        handle.ready_at = self._monotonic()
        self._move(handle, State.RUNNING)
        if handle.crash is not None:
            self._said_failed(ctx, handle.crash)
            return
        self._watcher.watch(handle, ctx)
        if self._round is not None and not handle.is_leaving:
            self._round.pending.discard(handle.name)
        self._reconcile(handle)
        self._reconcile_all(self._dependents[handle.name])
        self._check_started()

    def _start_timed_out(self, handle: Handle, ctx: Context, call: Call) -> None:
        if ctx is handle.ctx and handle.state is State.STARTING:
            handle.stuck_at = call.where()
            timeout = handle.options.start_timeout
            self._start_failed(handle, StartTimeout(component=handle.name, timeout=timeout))

    def _started_late(self, ctx: Context, made: list[Any], error: BaseException | None) -> None:
        """On the thread of a start that was given up: what started all the same is stopped."""
        if error is not None:
            if not isinstance(error, Superseded):
                self._record(ctx.name, error)
            return
        try:
            made[0].stop(ctx)
        except BaseException as exc:  # noqa: BLE001 - user code, and nobody waits for it
            self._record(ctx.name, exc)

    def _start_failed(self, handle: Handle, error: BaseException) -> None:
        assert handle.ctx is not None  # noqa: S101 - it was starting
        handle.ctx.supersede()
        self._note(handle, error)
        round_ = self._round
        if round_ is not None and handle.name in round_.pending:
            self._move(handle, State.FAILED, str(handle.error))
            self._fail_start(handle, error)
        elif not handle.is_wanted:
            self._move(handle, State.FAILED, str(handle.error))
        else:
            self._failed_again(handle)
        self._reconcile_all(handle.needs)
        self._check_down()

    def _fail_start(self, handle: Handle, error: BaseException) -> None:
        if self._round is not None:
            self._round.failed[handle.name] = _as_exception(handle.name, error)
            self._leave()

    def _failed_again(self, handle: Handle) -> None:
        """A restart did not succeed: one more, unless there were too many."""
        exhausted = self._count_restart(handle)
        if exhausted is None:
            self._back_off(handle, self._delay(handle), str(handle.error))
            return
        self._move(handle, State.FAILED, str(exhausted))
        self._exhaust(handle, exhausted)

    # -- failing ----------------------------------------------------------------------------

    def _said_failed(self, ctx: Context, exc: BaseException | None) -> None:
        """An instance cannot go on, or with None, has come to its end."""
        handle = self.handles[ctx.name]
        if ctx is not handle.ctx or not handle.state.is_up:
            return
        if handle.state is State.STARTING:
            handle.crash = exc or _Ended()
            return
        if isinstance(exc, _Ended):
            exc = None
        if exc is not None:
            self._note(handle, exc)
        if handle.is_leaving:
            self._reconcile(handle)
        else:
            self._decide(handle, exc)

    def _decide(self, handle: Handle, exc: BaseException | None) -> None:
        """Restart it, give it up, or let it end, by its rule."""
        rule = handle.options.restart
        if exc is None and rule != "permanent":
            handle.has_ended = True
            handle.is_wanted = False
            self._reconcile(handle)
        elif rule == "temporary":
            self._give_up(handle, exc or LifecycleError(f"{handle.name} ended"))
        elif (exhausted := self._count_restart(handle)) is not None:
            self._exhaust(handle, exhausted)
        else:
            self._restart(handle, self._delay(handle), "it ended" if exc is None else handle.error)

    def _restart(self, handle: Handle, delay: float, reason: str | None) -> None:
        """Let a component bounce, and with it whom its scope names."""
        if self._is_leaving:
            return
        if not handle.is_wanted:  # it had ended or was given up: somebody wants it again
            handle.want(True)
        handle.delay = delay
        names = {
            "one": {handle.name},
            "dependents": closure([handle.name], self._dependents),
            "group": set(self.order),
        }[handle.options.scope]
        for name in names:
            member = self.handles[name]
            if member.is_wanted and member.state.is_up:
                member.is_bouncing = True
                if member.state is State.RUNNING:
                    self._move(member, State.DEGRADED, f"restart of {handle.name}: {reason}")
        self._reconcile_all(name for name in reversed(self.order) if name in names)

    def _count_restart(self, handle: Handle) -> RestartsExhausted | None:
        """Count one; the exception if it is one too many."""
        now = self._monotonic()
        while self._restarts_at and self._restarts_at[0] <= now - self._intensity.per:
            self._restarts_at.popleft()
        if len(self._restarts_at) >= self._intensity.restarts:
            return RestartsExhausted(
                component=handle.name,
                restarts=len(self._restarts_at),
                per=self._intensity.per,
            )
        self._restarts_at.append(now)
        return None

    def _delay(self, handle: Handle) -> float:
        backoff = handle.options.backoff
        if handle.ready_at and self._monotonic() - handle.ready_at >= backoff.reset_after:
            handle.attempt = 0
        handle.attempt += 1
        return backoff.delay(handle.attempt - 1, self._random)

    def _exhaust(self, handle: Handle, exhausted: RestartsExhausted) -> None:
        if self._on_exhausted == "give_up":
            self._give_up(handle, exhausted)
        else:
            self._note(handle, exhausted)
            handle.is_given_up = True
            self._fail_start(handle, exhausted)
            self._fail_group(exhausted)

    def _give_up(self, handle: Handle, exc: BaseException) -> None:
        """Let a component go down for good; with an essential one goes the group."""
        self._note(handle, exc)
        handle.is_wanted = False
        handle.is_given_up = True
        if handle.state is State.RUNNING:
            self._move(handle, State.DEGRADED, f"given up: {handle.error}")
        self._reconcile(handle)
        if self._round is not None:
            self._fail_start(handle, exc)
        elif handle.options.essential:
            self._fail_group(exc)

    def _fail_group(self, exc: BaseException) -> None:
        """The whole group stops; whoever it is a part of is told."""
        self.failure = exc
        if self._on_exhausted != "stop_group" and self.escalate is not None:
            self.escalate(exc)
        deadline = self._monotonic() + GROUP_GRACE
        self._stop_all(deadline, final=self.escalate is None)

    def _note(self, handle: Handle, exc: BaseException) -> None:
        handle.error = f"{type(exc).__name__}: {exc}"
        self._record(handle.name, exc)

    def _record(self, component: str, exc: BaseException) -> None:
        if self._errors is not None:
            self._errors.record(exc, component=component)
        else:
            logger.error("%s: %s failed", self.name, component, exc_info=exc)

    # -- stopping ---------------------------------------------------------------------------

    def _begin_stopping(self, handle: Handle) -> None:
        drain = getattr(handle.component, "drain", None)
        if handle.is_wanted or drain is None:  # what failed has nothing to finish
            self._stop_now(handle)
            return
        # Half of its time for what it has begun, the other half for stopping.
        half = max(0.0, self._stop_by(handle) - self._monotonic()) / 2
        self._move(handle, State.DRAINING)
        ctx, deadline = handle.ctx, self._monotonic() + half
        self.call(
            f"drain-{handle.name}",
            lambda: drain(ctx, deadline),
            done=partial(self._drained, handle, ctx),
            timeout=half,
            expired=lambda _call: self._drained(handle, ctx, None, None),
        )

    def _drained(
        self, handle: Handle, ctx: Context | None, _result: object, error: BaseException | None
    ) -> None:
        if error is not None:
            self._note(handle, error)
        if ctx is handle.ctx and handle.state is State.DRAINING:
            self._stop_now(handle)

    def _stop_now(self, handle: Handle) -> Call:
        ctx, component = handle.ctx, handle.component
        assert ctx is not None  # noqa: S101 - it is up
        assert component is not None  # noqa: S101
        handle.cancel_timers()
        self._move(handle, State.STOPPING)
        handle.asked_at = self._monotonic()
        stop_by = self._stop_by(handle)
        ctx.ask_to_stop(stop_by, final=self._final and not handle.is_wanted)
        handle.call = self.call(
            f"stop-{handle.name}",
            lambda: component.stop(ctx),
            done=partial(self._stop_done, handle, ctx),
            timeout=max(0.0, stop_by - self._monotonic()),
            expired=partial(self._stop_timed_out, handle, ctx),
            late=partial(self._stopped_late, handle),
        )
        return handle.call

    def _stopped_late(self, handle: Handle, error: BaseException | None) -> None:
        """On the thread of a stop that was given up."""
        if error is not None:
            self._record(handle.name, error)

    def _stop_done(
        self, handle: Handle, ctx: Context, _result: object, error: BaseException | None
    ) -> None:
        if ctx is not handle.ctx or handle.state is not State.STOPPING:
            return
        if error is not None:
            self._note(handle, error)
        self._went_down(handle, State.STOPPED if error is None else State.FAILED)

    def _stop_timed_out(self, handle: Handle, ctx: Context, call: Call) -> None:
        if ctx is handle.ctx and handle.state is State.STOPPING:
            self._abandon(handle, call)

    def _abandon(self, handle: Handle, call: Call | None) -> None:
        handle.stuck_at = call.where() if call is not None else None
        waited = round(self._monotonic() - handle.asked_at, 3)
        self._note(handle, StopTimeout(component=self.name, laggards=[handle.name], timeout=waited))
        self._went_down(handle, State.ABANDONED)

    def _went_down(self, handle: Handle, state: State) -> None:
        """Its instance is gone, or out of reach: on to its end, or to the next instance."""
        assert handle.ctx is not None  # noqa: S101 - it was up
        handle.ctx.supersede()
        handle.cancel_timers()
        if handle.is_wanted:
            if state is State.ABANDONED:
                self._move(handle, state, str(handle.error))
            self._back_off(handle, handle.delay, "restart")
        else:
            failed = handle.is_given_up and state is State.STOPPED
            final = State.FAILED if failed else state
            self._move(handle, final, str(handle.error) if final is not State.STOPPED else "")
        self._reconcile_all(handle.needs)
        self._reconcile(handle)
        if handle.has_ended:
            if self._round is not None:
                self._round.pending.discard(handle.name)
                self._check_started()
            self._reconcile_all(self._dependents[handle.name])
        self._check_down()

    def _back_off(self, handle: Handle, delay: float, reason: str) -> None:
        handle.is_bouncing = False
        handle.restarts += 1
        handle.delay = delay
        self._move(handle, State.BACKOFF, reason)
        if delay:
            handle.timers.append(self.after(delay, self._retry, handle))

    def _retry(self, handle: Handle) -> None:
        handle.delay = 0.0
        self._reconcile(handle)

    def _set_readiness(self, handle: Handle, health: Health) -> None:
        if handle.state is State.RUNNING and not health.ready:
            self._move(handle, State.DEGRADED, health.detail)
        elif handle.state is State.DEGRADED and health.ready:
            self._move(handle, State.RUNNING, health.detail)
            self._reconcile_all(self._dependents[handle.name])


class _Ended(Exception):
    """Stands for the end of a service that came before its start had returned."""


def _as_exception(name: str, error: BaseException) -> Exception:
    """What an ExceptionGroup takes."""
    if isinstance(error, Exception):
        return error
    wrapped = LifecycleError(f"{name} raised {type(error).__name__}: {error}", component=name)
    wrapped.__cause__ = error
    return wrapped
