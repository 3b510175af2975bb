"""Whether a component that runs is well: its probe, and its beat."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from threadkit._components._actor import Actor, where_is
from threadkit._components._context import Context
from threadkit._components._handle import Handle
from threadkit._components._rules import Health
from threadkit._errors import LifecycleError

_TOGETHER = 0.1  # of a period is how long answers wait for one another


class Watcher:
    """Asks components for their health now and then, and listens for their beat.

    Everything runs on the actor's thread; a component without probe and watchdog costs no timer.
    Probes of the same period are asked together, and their answers are looked at together: however
    many there are, they wake the actor twice in a period.
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
        self._next: dict[float, list[_Probing]] = {}  # who is asked when a period is over

    def forget(self) -> None:
        """Before the actor is launched: its timers are gone."""
        self._next = {}

    def watch(self, handle: Handle, ctx: Context) -> None:
        """Watch an instance that has just become ready, until it leaves."""
        options = handle.options
        if options.watchdog is not None:
            self._expect_beat(handle, ctx, options.watchdog)
        health = getattr(handle.component, "health", None)
        if callable(health):
            self._ask_later(_Probing(handle, ctx, health))

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

    def _ask_later(self, probe: _Probing) -> None:
        period = probe.handle.options.probe.period
        if period not in self._next:
            self._next[period] = []
            self._actor.after(period, self._ask_all, period)
        self._next[period].append(probe)

    def _ask_all(self, period: float) -> None:
        probes = [probe for probe in self._next.pop(period) if probe.is_current]
        if not probes:
            return
        answers = _Answers(self._actor, len(probes), wait=_TOGETHER * period)
        for probe in probes:
            self._ask(probe, answers)

    def _ask(self, probe: _Probing, answers: _Answers) -> None:
        self._actor.call(
            f"health-{probe.handle.name}",
            probe.ask,
            done=partial(self._answered, probe),
            timeout=probe.handle.options.probe.period,
            expired=lambda _call: self._answered(probe, Health(alive=False, detail="no answer")),
            post=answers.post,
        )

    def _answered(
        self, probe: _Probing, answer: object, error: BaseException | None = None
    ) -> None:
        handle, rule = probe.handle, probe.handle.options.probe
        if not probe.is_current:
            return
        health = _as_health(answer, error)
        probe.bad_answers = 0 if health.alive else probe.bad_answers + 1
        if probe.bad_answers >= rule.failures:
            text = f"{handle.name} gave {rule.failures} bad answers: {health.detail or 'not alive'}"
            self._fail(probe.ctx, LifecycleError(text, component=handle.name))
            return
        self._set_readiness(handle, health)
        self._ask_later(probe)


class _Probing:
    """The questions put to one instance."""

    def __init__(self, handle: Handle, ctx: Context, ask: Callable[[], object]) -> None:
        self.handle = handle
        self.ctx = ctx
        self.ask = ask
        self.bad_answers = 0  # in a row

    @property
    def is_current(self) -> bool:
        """Whether its instance is up and stays so."""
        handle = self.handle
        return self.ctx is handle.ctx and handle.state.is_up and not handle.is_leaving


class _Answers:
    """Those of probes that were asked together.

    The last one wakes the actor. Should one take its time, the others are handed over without it.
    """

    def __init__(self, actor: Actor, count: int, *, wait: float) -> None:
        self._actor = actor
        self._timer = actor.after(wait, self.hand_over)
        self._jobs: deque[Callable[[], object]] = deque()
        # Who finds none is the last. append, pop and popleft are atomic, with and without a GIL.
        self._missing = deque(range(count - 1))
        self._are_due = False

    def post(self, job: Callable[..., object], *args: Any) -> None:
        """On the thread of any of them."""
        self._jobs.append(partial(job, *args))
        try:
            self._missing.pop()
        except IndexError:
            self._are_due = True
        if self._are_due:
            self._actor.post(self.hand_over)

    def hand_over(self) -> None:
        """On the actor's thread: look at those there are; further ones come by themselves."""
        self._are_due = True
        self._timer.cancel()
        while self._jobs:
            self._actor.post(self._jobs.popleft())


def _as_health(answer: object, error: BaseException | None) -> Health:
    if error is not None:
        return Health(ready=False, alive=False, detail=f"{type(error).__name__}: {error}")
    if not isinstance(answer, Health):
        return Health(alive=False, detail=f"health() gave {answer!r}, not a Health")
    return answer
