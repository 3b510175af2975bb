"""What a component and its manager may be told about health, restarts and their limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from threadkit._components._context import Context

RestartRule = Literal["transient", "permanent", "temporary"]
Scope = Literal["one", "dependents", "group"]
OnExhausted = Literal["escalate", "stop_group", "give_up"]


class Component(Protocol):
    """What a manager can own: something that starts and stops.

    It may also have `drain(ctx, deadline)`, to finish what it has begun until that monotonic
    instant, and `health() -> Health`.
    """

    def start(self, ctx: Context, /) -> object:
        """Begin to work and return once ready. An exception means it did not start."""
        ...

    def stop(self, ctx: Context, /) -> object:
        """Stop working and give everything back. Called once for each start that succeeded."""
        ...


@dataclass(frozen=True)
class Health:
    """What a component says of itself.

    Attributes:
        ready: Whether those that need it may start. One that is not ready is DEGRADED.
        alive: Whether it can still recover by itself. One that is not is restarted.
        detail: Why not, for people.
    """

    ready: bool = True
    alive: bool = True
    detail: str = ""


@dataclass(frozen=True)
class Probe:
    """How often `health()` is asked, of all that have the same period at one time.

    Args:
        period: Most seconds between an answer and the next question, and until an answer.
        failures: Bad answers in a row after which the component is restarted.

    Raises:
        ValueError: `period` is not positive, or `failures` is less than 1.
    """

    period: float = 5.0
    failures: int = 3

    def __post_init__(self) -> None:
        check_seconds("period", self.period)
        if self.failures < 1:
            raise ValueError(f"failures must be at least 1, not {self.failures!r}")


@dataclass(frozen=True)
class Backoff:
    """How long a component waits for its restart.

    Args:
        initial: Seconds before the first restart.
        longest: Seconds beyond which the wait does not grow.
        factor: By which it grows with each failure in a row.
        jitter: Share of the wait that is drawn at random, so that many do not come at once.
        reset_after: Seconds of running after which the count begins anew.

    Raises:
        ValueError: A duration is negative, `factor` below 1, or `jitter` outside 0 to 1.
    """

    initial: float = 0.1
    longest: float = 30.0
    factor: float = 2.0
    jitter: float = 0.2
    reset_after: float = 60.0

    def __post_init__(self) -> None:
        for name in ("initial", "longest", "reset_after"):
            check_seconds(name, getattr(self, name), zero=True)
        if not self.factor >= 1:
            raise ValueError(f"factor must be at least 1, not {self.factor!r}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be between 0 and 1, not {self.jitter!r}")

    def delay(self, attempt: int, random: Callable[[], float]) -> float:
        """Seconds before restart number `attempt`, from 0."""
        # The exponent is bounded, for a float overflows long before anybody stops counting.
        delay = min(self.longest, self.initial * self.factor ** min(attempt, 64))
        return delay * (1 - self.jitter * random())


@dataclass(frozen=True)
class Intensity:
    """How many restarts a manager puts up with (Erlang/OTP's supervisors call it that).

    Args:
        restarts: How many.
        per: Within so many seconds.

    Raises:
        ValueError: `restarts` is negative or `per` is not positive.
    """

    restarts: int = 3
    per: float = 60.0

    def __post_init__(self) -> None:
        if self.restarts < 0:
            raise ValueError(f"restarts must be 0 or more, not {self.restarts!r}")
        check_seconds("per", self.per)


@dataclass(frozen=True)
class Options:
    """What `ComponentManager.add` was told of a component."""

    start_timeout: float
    stop_timeout: float
    restart: RestartRule
    scope: Scope
    backoff: Backoff
    essential: bool
    watchdog: float | None
    probe: Probe

    def check(self, name: str) -> None:
        """Refuse what makes no sense, naming the component and the argument."""
        for argument in ("start_timeout", "stop_timeout"):
            check_seconds(f"{argument} of {name!r}", getattr(self, argument), zero=True)
        if self.watchdog is not None:
            check_seconds(f"watchdog of {name!r}", self.watchdog)
        for argument, allowed in (("restart", RestartRule), ("scope", Scope)):
            check_choice(f"{argument} of {name!r}", getattr(self, argument), get_args(allowed))


def check_choice(argument: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a word that is not among the allowed ones."""
    if value not in allowed:
        raise ValueError(f"{argument} must be one of {', '.join(allowed)}, not {value!r}")


def check_seconds(argument: str, value: object, *, zero: bool = False) -> None:
    """Refuse what is no duration; nan is none, inf is."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{argument} must be a number of seconds, not {value!r}")
    if not (value >= 0 if zero else value > 0):
        raise ValueError(f"{argument} must be {'0 or more' if zero else 'positive'}, not {value!r}")
