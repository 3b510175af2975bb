"""The start of one instance: on a thread of its own, given up in time, taken back when late."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from threadkit._components._actor import Actor, Call
from threadkit._components._context import Context, Superior
from threadkit._components._handle import Handle
from threadkit._components._journal import Journal
from threadkit._components._rules import Component
from threadkit._components._states import ComponentState as State
from threadkit._errors import StartTimeout, Superseded
from threadkit._runtime import Runtime


class StartOutcome(Protocol):
    """Who is told what became of a start."""

    def became_ready(self, handle: Handle, /) -> None: ...
    def start_failed(self, handle: Handle, error: BaseException, /) -> None: ...
    def said_failed(self, ctx: Context, exc: BaseException | None, /) -> None: ...


class Starting:
    """Calls `start` of components. Everything but late ends runs on the actor's thread."""

    def __init__(
        self, actor: Actor, journal: Journal, superior: Superior, outcome: StartOutcome,
        runtime: Runtime,
    ) -> None:  # fmt: skip
        self._actor = actor
        self._journal = journal
        self._superior = superior
        self._outcome = outcome
        self._runtime = runtime

    def begin(self, handle: Handle) -> None:
        """Make the next instance and have it start."""
        handle.is_bouncing = handle.has_ended = False
        handle.crash = handle.stuck_at = None
        handle.generation += 1
        ctx = handle.ctx = Context(handle.name, handle.generation, self._superior, self._runtime)
        self._journal.move(handle, State.STARTING)
        made: list[Component] = []

        def start() -> None:
            made.append(handle.make())
            if handle.ctx is ctx:
                handle.component = made[0]
            made[0].start(ctx)

        handle.call = self._actor.call(
            f"start-{handle.name}",
            start,
            done=partial(self._done, handle, ctx),
            timeout=handle.options.start_timeout,
            expired=partial(self._timed_out, handle, ctx),
            late=lambda error: self._came_late(handle, ctx, made, error),
        )

    def _done(
        self, handle: Handle, ctx: Context, _result: object, error: BaseException | None
    ) -> None:
        if ctx is not handle.ctx:
            return
        if error is not None:
            if handle.state is State.STARTING:
                self._outcome.start_failed(handle, error)
            else:
                self._outcome.said_failed(ctx, error)
        elif handle.state is State.STARTING:
            self._outcome.became_ready(handle)

    def said_ready(self, ctx: Context, handle: Handle) -> None:
        """An instance is ready before its start has returned."""
        if ctx is handle.ctx and handle.state is State.STARTING:
            if handle.call is not None and handle.call.timer is not None:
                handle.call.timer.cancel()  # it may take as long as it likes to return
            self._outcome.became_ready(handle)

    def _timed_out(self, handle: Handle, ctx: Context, call: Call) -> None:
        if ctx is handle.ctx and handle.state is State.STARTING:
            handle.stuck_at = call.where()
            timeout = handle.options.start_timeout
            self._outcome.start_failed(handle, StartTimeout(component=handle.name, timeout=timeout))

    def _came_late(
        self, handle: Handle, ctx: Context, made: list[Component], error: BaseException | None
    ) -> None:
        """On the thread of a start that was given up: what started all the same is stopped."""
        if error is not None:
            if not isinstance(error, Superseded):
                self._journal.record(ctx.name, error)
            return
        # Not for good: its successor may be at work with the same pools.
        ctx.ask_to_stop(self._runtime.monotonic() + handle.options.stop_timeout, final=False)
        try:
            made[0].stop(ctx)
        except BaseException as exc:  # noqa: BLE001 - user code, and nobody waits for it
            self._journal.record(ctx.name, exc)
