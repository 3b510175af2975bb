"""The stop of one instance: drained, stopped, and abandoned when it is not done in time."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from threadkit._components._actor import Actor, Call
from threadkit._components._context import Context
from threadkit._components._handle import Handle
from threadkit._components._journal import Journal
from threadkit._components._states import ComponentState as State
from threadkit._errors import StopTimeout


class StopRules(Protocol):
    """Who says how long a stop may take and whether it is for good, and is told of its end."""

    @property
    def is_final(self) -> bool: ...
    def stop_by(self, handle: Handle, /) -> float: ...
    def went_down(self, handle: Handle, state: State, /) -> None: ...


class Stopping:
    """Calls `drain` and `stop` of components. All but late ends runs on the actor's thread."""

    def __init__(self, actor: Actor, journal: Journal, rules: StopRules) -> None:
        self._actor = actor
        self._journal = journal
        self._rules = rules

    def begin(self, handle: Handle) -> None:
        """Let an instance drain, if it can and is well, then stop it."""
        drain = getattr(handle.component, "drain", None)
        if handle.is_wanted or drain is None:  # what failed has nothing to finish
            self.stop_now(handle)
            return
        # Half of its time for what it has begun, the other half for stopping.
        now = self._actor.now()
        half = max(0.0, self._rules.stop_by(handle) - now) / 2
        self._journal.move(handle, State.DRAINING)
        ctx, deadline = handle.ctx, now + half
        self._actor.call(
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
            self._journal.note(handle, error)
        if ctx is handle.ctx and handle.state is State.DRAINING:
            self.stop_now(handle)

    def stop_now(self, handle: Handle) -> Call:
        """Ask an instance to stop; the call of its `stop`."""
        ctx, component = handle.ctx, handle.component
        assert ctx is not None  # noqa: S101 - it is up
        assert component is not None  # noqa: S101
        handle.cancel_timers()
        self._journal.move(handle, State.STOPPING)
        handle.asked_at = self._actor.now()
        stop_by = self._rules.stop_by(handle)
        ctx.ask_to_stop(stop_by, final=self._rules.is_final and not handle.is_wanted)
        handle.call = self._actor.call(
            f"stop-{handle.name}",
            lambda: component.stop(ctx),
            done=partial(self._done, handle, ctx),
            timeout=max(0.0, stop_by - self._actor.now()),
            expired=partial(self._timed_out, handle, ctx),
            late=partial(self._came_late, handle),
            insist=True,
        )
        return handle.call

    def _came_late(self, handle: Handle, error: BaseException | None) -> None:
        """On the thread of a stop that was given up."""
        if error is not None:
            self._journal.record(handle.name, error)

    def _done(
        self, handle: Handle, ctx: Context, _result: object, error: BaseException | None
    ) -> None:
        if ctx is not handle.ctx or handle.state is not State.STOPPING:
            return
        if error is not None:
            self._journal.note(handle, error)
        self._rules.went_down(handle, State.STOPPED if error is None else State.FAILED)

    def _timed_out(self, handle: Handle, ctx: Context, call: Call) -> None:
        if ctx is handle.ctx and handle.state is State.STOPPING:
            self.abandon(handle, call)

    def abandon(self, handle: Handle, call: Call | None) -> None:
        """Give an instance up that did not stop in time."""
        handle.stuck_at = call.where() if call is not None else None
        waited = round(self._actor.now() - handle.asked_at, 3)
        name = self._journal.name
        self._journal.note(
            handle, StopTimeout(component=name, laggards=[handle.name], timeout=waited)
        )
        self._rules.went_down(handle, State.ABANDONED)
