"""Whether a component that runs is well: its probe, and its beat."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from threadkit._components._actor import Actor, where_is
from threadkit._components._context import Context
from threadkit._components._handle import Handle
from threadkit._components._rules import Health
from threadkit._errors import LifecycleError


class Watcher:
    """Asks components for their health now and then, and listens for their beat.

    Everything runs on the actor's thread; a component without probe and watchdog costs no timer.
    """

    def __init__(
        self,
        actor: Actor,
        fail: Callable[[Context, BaseException], None],
        set_readiness: Callable[[Handle, Health], None],
    ) -> None:
        self._actor = actor
        self._fail = fail
        self._set_readiness = set_readiness

    def watch(self, handle: Handle, ctx: Context) -> None:
        """Watch an instance that has just become ready, until it leaves."""
        options = handle.options
        if options.watchdog is not None:
            self._expect_beat(handle, ctx, options.watchdog)
        health = getattr(handle.component, "health", None)
        if callable(health):
            probe = _Probing(handle, ctx, health)
            self._schedule(handle, options.probe.period, self._ask, probe)

    def _schedule(
        self, handle: Handle, delay: float, job: Callable[..., object], *args: Any
    ) -> None:
        handle.timers = [timer for timer in handle.timers if not timer.is_over]
        handle.timers.append(self._actor.after(delay, job, *args))

    def _expect_beat(self, handle: Handle, ctx: Context, watchdog: float) -> None:
        if ctx is not handle.ctx or handle.is_leaving:
            return
        at, label = ctx.last_beat
        left = max(at, handle.ready_at) + watchdog - self._actor.now()
        if left > 0:
            self._schedule(handle, left, self._expect_beat, handle, ctx, watchdog)
            return
        handle.stuck_at = where_is(getattr(handle.component, "ident", None))
        doing = f" while {label!r}" if label else ""
        text = f"{handle.name} gave no sign of life for {watchdog:g} s{doing}"
        self._fail(ctx, LifecycleError(text, component=handle.name, task=label))

    def _ask(self, probe: _Probing) -> None:
        self._actor.call(
            f"health-{probe.handle.name}",
            probe.ask,
            done=partial(self._answered, probe),
            timeout=probe.handle.options.probe.period,
            expired=lambda _call: self._answered(probe, Health(alive=False, detail="no answer")),
        )

    def _answered(
        self, probe: _Probing, answer: object, error: BaseException | None = None
    ) -> None:
        handle, rule = probe.handle, probe.handle.options.probe
        if probe.ctx is not handle.ctx or handle.is_leaving or not handle.state.is_up:
            return
        health = _as_health(answer, error)
        probe.bad_answers = 0 if health.alive else probe.bad_answers + 1
        if probe.bad_answers >= rule.failures:
            text = f"{handle.name} gave {rule.failures} bad answers: {health.detail or 'not alive'}"
            self._fail(probe.ctx, LifecycleError(text, component=handle.name))
            return
        self._set_readiness(handle, health)
        self._schedule(handle, rule.period, self._ask, probe)


class _Probing:
    """The questions put to one instance."""

    def __init__(self, handle: Handle, ctx: Context, ask: Callable[[], object]) -> None:
        self.handle = handle
        self.ctx = ctx
        self.ask = ask
        self.bad_answers = 0  # in a row


def _as_health(answer: object, error: BaseException | None) -> Health:
    if error is not None:
        return Health(ready=False, alive=False, detail=f"{type(error).__name__}: {error}")
    if not isinstance(answer, Health):
        return Health(alive=False, detail=f"health() gave {answer!r}, not a Health")
    return answer
