"""Deterministic tests of threaded code: for threadkit's own parts, and for yours.

* `SimRuntime`: threads run one at a time in an order drawn from a seed, with a virtual clock.
* `explore`: one scenario under many seeds; the seed that fails is named and replays exactly.
* `Uniform`, `Pct`: the schedules.
* `FakeClock`: for classes that take only a clock.
* `no_leaks`: threads and file descriptors are given back.
"""

from threadkit.testing._clock import FakeClock
from threadkit.testing._explore import Exploration, explore, schedules
from threadkit.testing._leaks import no_leaks
from threadkit.testing._schedules import Pct, Uniform
from threadkit.testing._simruntime import SimRuntime
from threadkit.testing._verdicts import (
    Deadlock,
    ForeignThread,
    ScheduleFailed,
    SimulationError,
    StepLimit,
    ThreadsLeft,
)

__all__ = [
    "Deadlock",
    "Exploration",
    "FakeClock",
    "ForeignThread",
    "Pct",
    "ScheduleFailed",
    "SimRuntime",
    "SimulationError",
    "StepLimit",
    "ThreadsLeft",
    "Uniform",
    "explore",
    "no_leaks",
    "schedules",
]
