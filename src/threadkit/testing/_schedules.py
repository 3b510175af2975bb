"""Who runs next: the rules a run may be scheduled by.

A schedule is a frozen value, so that it can be printed and used again; `begin` makes the small
mutable `Chooser` that lives for one run.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from random import Random
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from threadkit.testing._scheduler import Actor

__all__ = ["Chooser", "Pct", "Schedule", "Uniform", "schedule_named"]

_priority = attrgetter("priority")
_LINE_GAPS = (1, 4, 16, 64)  # mean lines between pre-emptions; a run draws one of them
_CHECK_EVERY = 256  # lines after which a chooser is asked again at the latest


class Chooser(Protocol):
    """What decides during one run."""

    def choose(self, runnable: list[Actor], me: Actor | None) -> Actor:
        """The thread to run after a step of `me` (None: `me` has ended)."""
        ...

    def preempt(self, runnable: list[Actor], me: Actor, lines: int) -> Actor:
        """The thread to run after `me` has run `lines` further lines."""
        ...

    def lines(self) -> int:
        """After how many lines to call `preempt`."""
        ...

    def spawned(self, actor: Actor) -> None:
        """A thread is new."""
        ...

    def yielded(self, actor: Actor) -> None:
        """A thread found something taken and may try again at once: let others go first."""
        ...


class Schedule(Protocol):
    """A rule to schedule runs by: `Uniform` or `Pct`."""

    def begin(self, random: Random) -> Chooser:
        """Begin a run with its own source of randomness."""
        ...


@dataclass(frozen=True)
class Uniform:
    """At every step each runnable thread is as likely as any other.

    Args:
        line_gap: Lines of the pre-empted code that run, on average, between two pre-emptions.
            None: each run draws it, so that a series of seeds mixes dense with rare ones.
    """

    line_gap: int | None = None

    def begin(self, random: Random) -> Chooser:
        return _UniformChooser(random, self.line_gap or random.choice(_LINE_GAPS))


class _UniformChooser:
    def __init__(self, random: Random, line_gap: int) -> None:
        self._random = random.random
        self._exponential = random.expovariate
        self._line_rate = 1 / line_gap

    def choose(self, runnable: list[Actor], me: Actor | None) -> Actor:
        return runnable[int(self._random() * len(runnable))]

    def preempt(self, runnable: list[Actor], me: Actor, lines: int) -> Actor:
        return self.choose(runnable, me)

    def lines(self) -> int:
        return min(1 + int(self._exponential(self._line_rate)), _CHECK_EVERY)

    def spawned(self, actor: Actor) -> None:
        """All threads are alike."""

    def yielded(self, actor: Actor) -> None:
        """All threads are alike."""


@dataclass(frozen=True)
class Pct:
    """Probabilistic concurrency testing: random priorities, lowered at a few random steps.

    The runnable thread of highest priority runs alone, until one of `depth - 1` change points
    makes it the lowest. A bug that needs `depth` ordering constraints is found by each run with a
    probability of at least `1 / (threads * steps ** (depth - 1))`, however unlikely it is under
    fair choices. Source: Burckhardt, Kothari, Musuvathi, Nagarakatte: "A randomized scheduler
    with probabilistic guarantees of finding bugs", ASPLOS 2010.

    Args:
        depth: Ordering constraints of the bugs looked for, 1 or more. More than needed costs
            little, fewer find nothing.
        steps: Steps with a choice (more than one thread can run) that a run is expected to take,
            over which the change points are spread. None: each run draws a power of two; `explore`
            measures it.
    """

    depth: int = 5
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth must be 1 or more, not {self.depth!r}")

    def begin(self, random: Random) -> Chooser:
        steps = self.steps or 2 ** random.randint(4, 12)
        changes = sorted(random.randint(1, steps) for _ in range(self.depth - 1))
        return _PctChooser(random, changes)


class _PctChooser:
    def __init__(self, random: Random, changes: list[int]) -> None:
        self._random = random.random
        self._step = 0
        # Ends with a step that never comes. The priority a change point gives is drawn, as in the
        # paper: below every initial one, in no order with those of other change points.
        self._changes = [*reversed(changes)]
        self._lowest = 0.0

    def choose(self, runnable: list[Actor], me: Actor | None) -> Actor:
        return self.preempt(runnable, me, 1)

    def preempt(self, runnable: list[Actor], me: Actor | None, lines: int) -> Actor:
        if len(runnable) == 1:
            return runnable[0]  # no choice, no step
        self._step += lines
        while self._changes and self._changes[-1] <= self._step:
            self._changes.pop()
            if me is not None:
                me.priority = -self._random()
        return max(runnable, key=_priority)

    def lines(self) -> int:
        if not self._changes:
            return _CHECK_EVERY
        return min(self._changes[-1] - self._step, _CHECK_EVERY)

    def spawned(self, actor: Actor) -> None:
        actor.priority = self._random()

    def yielded(self, actor: Actor) -> None:
        self._lowest -= 1.0
        actor.priority = self._lowest


def schedule_named(schedule: str | Schedule) -> Schedule:
    """The schedule of that name, or the schedule itself."""
    if not isinstance(schedule, str):
        return schedule
    if schedule == "uniform":
        return Uniform()
    if schedule == "pct":
        return Pct()
    raise ValueError(f"schedule must be 'uniform', 'pct', Uniform(...) or Pct(...): {schedule!r}")
