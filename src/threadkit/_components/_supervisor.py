"""The supervisor: which component starts, stops or starts again next, and why.

Everything is decided by one rule, `_reconcile`, from two facts about each component: the state it
is in, and whether it is wanted. Starting sets what is wanted, stopping unsets it, a restart lets
it bounce; whatever happens to a component, its neighbours are reconciled. All of it runs on the
actor's thread.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping

from threadkit._components._actor import Actor
from threadkit._components._context import Context
from threadkit._components._graph import closure, dependents_of
from threadkit._components._handle import Handle
from threadkit._components._journal import Journal
from threadkit._components._resources import Resources
from threadkit._components._restarts import Restarts
from threadkit._components._rules import Health, Intensity, OnExhausted
from threadkit._components._starting import Starting
from threadkit._components._states import ComponentState as State
from threadkit._components._stopping import Stopping
from threadkit._components._watching import Watcher
from threadkit._errors import LifecycleError, RestartsExhausted, StartTimeout
from threadkit._runtime import REAL, Runtime

GROUP_GRACE = 30.0  # seconds a group that gives up may take to stop
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
        journal: Journal,
        resources: Resources,
        runtime: Runtime,
    ) -> None:
        super().__init__(name, runtime)
        self._on_exhausted = on_exhausted
        self._journal = journal
        self._resources = resources
        # The same draws in every replay of a simulated run.
        draw = random.Random(None if runtime is REAL else 0).random
        self._restarts = Restarts(intensity, runtime.monotonic, draw)
        self._starting = Starting(self, journal, self, self, runtime)
        self._stopping = Stopping(self, journal, self)
        self.handles: dict[str, Handle] = {}
        self.order: list[str] = []  # each after all it needs
        self._dependents: Mapping[str, tuple[str, ...]] = {}
        self._round: StartRound | None = None  # until all of it are ready
        self._is_leaving = False  # stopping, or rolling back
        self._budget_ends_at: float | None = None
        self.is_final = True  # what is stopped is stopped for good
        self.escalate: Callable[[BaseException], None] | None = None
        self.on_over: Callable[[], None] | None = None
        self.failure: BaseException | None = None
        self.is_over = True
        self._watcher = Watcher(self, self.said_failed, self._set_readiness)

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
        self._restarts.forget()
        self._watcher.forget()
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
        self.post(self._starting.said_ready, ctx, self.handles[ctx.name])

    def post_failure(self, ctx: Context, exc: BaseException, /) -> None:
        self.post(self.said_failed, ctx, exc)

    def post_end(self, ctx: Context, /) -> None:
        self.post(self.said_failed, ctx, None)

    def generation_of(self, name: str, /) -> int:
        return self.handles[name].generation

    def wait_until(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until `condition` holds, or no thread is left that could make it hold."""
        self._journal.wait_until(lambda: condition() or self.is_over, timeout)
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
            self._resources.ready()
            self._journal.tell_waiters()

    def _stop_all(self, deadline: float, final: bool) -> None:
        if not self._is_leaving:
            self.is_final = final
        if self._budget_ends_at is None or deadline < self._budget_ends_at:
            self._budget_ends_at = deadline
            self.after(deadline - self._monotonic(), self._budget_spent, deadline)
        if self._round is not None and not self._round.failed:
            self._round.was_stopped = True
        self._leave()

    def _leave(self) -> None:
        """Let everything go down, and then the supervisor."""
        self._is_leaving = True
        self._resources.leave()
        for handle in self.handles.values():
            handle.is_wanted = False
        self._reconcile_all(reversed(self.order))
        self._check_down()

    def _budget_spent(self, deadline: float) -> None:
        """Ask whoever was not asked yet to stop, in order but without waiting; then leave."""
        if deadline != self._budget_ends_at or self._journal.up_count == 0:
            return
        for name in reversed(self.order):
            handle = self.handles[name]
            if handle.state in {State.RUNNING, State.DEGRADED, State.DRAINING}:
                self._stopping.stop_now(handle).begun.wait(_BEGIN)
        self.do_waiting()
        for name in reversed(self.order):
            handle = self.handles[name]
            while handle.state is State.STARTING and not handle.give_call_up():
                self.do_next()  # its start has just returned: it is stopped after all
            if handle.state is State.DRAINING:
                self._stopping.stop_now(handle).begun.wait(_BEGIN)
            if handle.state.is_up:
                self._stopping.abandon(handle, handle.call)

    def _check_down(self) -> None:
        """Be over once nothing is up, if that is what was wanted."""
        if self._is_leaving and self._journal.up_count == 0:
            self.finish()

    def over(self) -> None:
        self._round = None
        running.discard(self)
        self._resources.over()
        self.is_over = True
        self._journal.tell_waiters()
        on_over = self.on_over  # another thread may take it back
        if on_over is not None:
            on_over()

    # -- the rule ---------------------------------------------------------------------------

    def _reconcile_all(self, names: Iterable[str]) -> None:
        for name in names:
            self._reconcile(self.handles[name])

    def _reconcile(self, handle: Handle) -> None:
        """Bring a component one step nearer to what is wanted, if its neighbours let it."""
        state = handle.state
        if state in {State.RUNNING, State.DEGRADED}:
            if handle.is_leaving and not self._is_in_use(handle):
                self._stopping.begin(handle)
        elif state is State.STARTING:
            if handle.is_leaving and handle.ctx is not None:
                handle.asked_at = self._monotonic()
                handle.ctx.ask_to_stop(self.stop_by(handle), final=not handle.is_wanted)
        elif not state.is_up:
            if handle.is_wanted:
                if handle.delay == 0 and self._has_what_it_needs(handle):
                    self._starting.begin(handle)
            elif state is State.BACKOFF:
                handle.cancel_timers()
                self._journal.move(handle, State.STOPPED, "not wanted any more")

    def _is_in_use(self, handle: Handle) -> bool:
        """Whether somebody who has to leave first has not left yet."""
        users = (self.handles[name] for name in self._dependents[handle.name])
        return any(user.is_leaving and user.state.is_up for user in users)

    def _has_what_it_needs(self, handle: Handle) -> bool:
        return all(self.handles[name].is_ready for name in handle.needs)

    def stop_by(self, handle: Handle) -> float:
        stop_by = self._monotonic() + handle.options.stop_timeout
        return stop_by if self._budget_ends_at is None else min(stop_by, self._budget_ends_at)

    # -- starting ---------------------------------------------------------------------------

    def became_ready(self, handle: Handle) -> None:
        ctx = handle.ctx
        assert ctx is not None  # noqa: S101 - it is up
        handle.ready_at = self._monotonic()
        self._journal.move(handle, State.RUNNING)
        if handle.crash is not None:
            self.said_failed(ctx, handle.crash)
            return
        self._watcher.watch(handle, ctx)
        if self._round is not None and not handle.is_leaving:
            self._round.pending.discard(handle.name)
        self._reconcile(handle)
        self._reconcile_all(self._dependents[handle.name])
        self._check_started()

    def start_failed(self, handle: Handle, error: BaseException) -> None:
        assert handle.ctx is not None  # noqa: S101 - it was starting
        handle.ctx.supersede()
        self._journal.note(handle, error)
        round_ = self._round
        if round_ is not None and handle.name in round_.pending:
            self._journal.move(handle, State.FAILED, str(handle.error))
            self._fail_start(handle, error)
        elif not handle.is_wanted:
            self._journal.move(handle, State.FAILED, str(handle.error))
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
        exhausted = self._restarts.count(handle)
        if exhausted is None:
            self._back_off(handle, self._restarts.delay(handle), str(handle.error))
            return
        self._journal.move(handle, State.FAILED, str(exhausted))
        self._exhaust(handle, exhausted)

    # -- failing ----------------------------------------------------------------------------

    def said_failed(self, ctx: Context, exc: BaseException | None) -> None:
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
            self._journal.note(handle, exc)
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
        elif (exhausted := self._restarts.count(handle)) is not None:
            self._exhaust(handle, exhausted)
        else:
            self._restart(
                handle, self._restarts.delay(handle), "it ended" if exc is None else handle.error
            )

    def _restart(self, handle: Handle, delay: float, reason: str | None) -> None:
        """Let a component bounce, and with it whom its scope names."""
        if self._is_leaving:
            return
        if not handle.is_wanted:  # it had ended or was given up: somebody wants it again
            self._want_with_needs(handle)
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
                    self._journal.move(
                        member, State.DEGRADED, f"restart of {handle.name}: {reason}"
                    )
        self._reconcile_all(name for name in reversed(self.order) if name in names)

    def _want_with_needs(self, handle: Handle) -> None:
        handle.want(True)
        for name in handle.needs:
            need = self.handles[name]
            if not need.is_wanted and not need.has_ended:
                self._want_with_needs(need)
                self._reconcile(need)

    def _exhaust(self, handle: Handle, exhausted: RestartsExhausted) -> None:
        if self._on_exhausted == "give_up":
            self._give_up(handle, exhausted)
        else:
            self._journal.note(handle, exhausted)
            handle.is_given_up = True
            self._fail_start(handle, exhausted)
            self._fail_group(exhausted)

    def _give_up(self, handle: Handle, exc: BaseException) -> None:
        """Let a component go down for good; with an essential one goes the group."""
        self._journal.note(handle, exc)
        handle.is_wanted = False
        handle.is_given_up = True
        if handle.state is State.RUNNING:
            self._journal.move(handle, State.DEGRADED, f"given up: {handle.error}")
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

    # -- going down -------------------------------------------------------------------------

    def went_down(self, handle: Handle, state: State) -> None:
        """Its instance is gone, or out of reach: on to its end, or to the next instance."""
        assert handle.ctx is not None  # noqa: S101 - it was up
        handle.ctx.supersede()
        handle.cancel_timers()
        if handle.is_wanted:
            if state is State.ABANDONED:
                self._journal.move(handle, state, str(handle.error))
            self._back_off(handle, handle.delay, "restart")
        else:
            failed = handle.is_given_up and state is State.STOPPED
            final = State.FAILED if failed else state
            self._journal.move(
                handle, final, str(handle.error) if final is not State.STOPPED else ""
            )
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
        self._journal.move(handle, State.BACKOFF, reason)
        if delay:
            handle.timers.append(self.after(delay, self._retry, handle))

    def _retry(self, handle: Handle) -> None:
        handle.delay = 0.0
        self._reconcile(handle)

    def _set_readiness(self, handle: Handle, health: Health) -> None:
        if handle.state is State.RUNNING and not health.ready:
            self._journal.move(handle, State.DEGRADED, health.detail)
        elif handle.state is State.DEGRADED and health.ready:
            self._journal.move(handle, State.RUNNING, health.detail)
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
