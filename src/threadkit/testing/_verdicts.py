"""How a run under the simulator can fail, and the signal that unwinds its threads."""

from __future__ import annotations

__all__ = [
    "Abort",
    "Deadlock",
    "ForeignThread",
    "ScheduleFailed",
    "SimulationError",
    "StepLimit",
    "ThreadsLeft",
]


class SimulationError(AssertionError):
    """Base of what a simulated run itself finds wrong. Other failures are the program's own."""


class Deadlock(SimulationError):
    """Raised when every thread waits and no timer is due: names who waits for what, and where."""


class ThreadsLeft(Deadlock):
    """Raised when the scenario returned, but a thread that is no daemon waits for ever."""


class StepLimit(SimulationError):
    """Raised when a run took more steps than allowed: threads go round without getting on."""


class ForeignThread(SimulationError):
    """Raised when a thread the simulator did not start uses a simulated lock, queue or clock."""


class ScheduleFailed(SimulationError):
    """Raised by `explore` for a schedule under which the scenario failed.

    The failure itself is the `__cause__`.

    Attributes:
        seed: The seed that fails.
        replay: The expression that makes the same `SimRuntime` again.
    """

    def __init__(self, message: str, *, seed: int, replay: str) -> None:
        super().__init__(message)
        self.seed = seed
        self.replay = replay


class Abort(SystemExit):
    """Unwinds a simulated thread when its run is over.

    A SystemExit, since that is what most code, asyncio's loop among it, takes care to let pass.
    """
