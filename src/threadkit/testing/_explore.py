"""Running one scenario under many schedules."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from threadkit.testing._schedules import Schedule, schedule_named
from threadkit.testing._simruntime import SimRuntime
from threadkit.testing._verdicts import ScheduleFailed

__all__ = ["Exploration", "explore"]

SEED_VARIABLE = "THREADKIT_SIM_SEED"


@dataclass(frozen=True)
class Exploration:
    """What `explore` did.

    Attributes:
        schedules: Runs made, all of which succeeded.
        distinct: Different schedules among them.
        steps: Steps of all runs together.
    """

    schedules: int
    distinct: int
    steps: int


def explore(
    scenario: Callable[[SimRuntime], object],
    seeds: int | Iterable[int] = 200,
    *,
    schedule: str | Schedule = "both",
    **options: Any,
) -> Exploration:
    """Run `scenario(sim)` once for each seed, each time on a `SimRuntime` of its own.

        >>> def scenario(sim):
        ...     lock, count = sim.lock(), [0]
        ...     def add():
        ...         with lock:
        ...             count[0] += 1
        ...     threads = [sim.thread(add) for _ in range(2)]
        ...     for thread in threads:
        ...         thread.start()
        ...     for thread in threads:
        ...         thread.join()
        ...     assert count == [2]
        >>> explore(scenario, seeds=50).schedules
        50

    Set the environment variable THREADKIT_SIM_SEED to run that one seed only.

    Args:
        scenario: Builds what it needs with `runtime=sim`, acts, and asserts. It must depend on
            nothing but the simulator: no real time, randomness or threads.
        seeds: How many (from 0), or which.
        schedule: "uniform", "pct", a schedule, or "both": even seeds uniform, odd ones PCT.
        options: Passed on to `SimRuntime`: preempt, opcodes, max_steps, ...

    Raises:
        ScheduleFailed: For the first seed that fails, with how to replay it; the failure is its
            `__cause__`.
    """
    wanted = range(seeds) if isinstance(seeds, int) else seeds
    if SEED_VARIABLE in os.environ:
        wanted = [int(os.environ[SEED_VARIABLE])]
    rules = [schedule_named(name) for name in ("uniform", "pct")]
    if schedule != "both":
        rules = [schedule_named(schedule)]
    prints: set[int] = set()
    count = steps = 0
    for seed in wanted:
        sim = SimRuntime(seed, schedule=rules[seed % len(rules)], **options)
        _run(scenario, sim, options)
        count += 1
        prints.add(sim.fingerprint)
        steps += sim.steps
    return Exploration(count, len(prints), steps)


def _run(scenario: Callable[[SimRuntime], object], sim: SimRuntime, options: Any) -> None:
    try:
        sim.run(scenario, sim)
    except Exception as exc:
        extra = "".join(f", {key}={value!r}" for key, value in options.items())
        replay = f"SimRuntime({sim.seed}, schedule={sim.schedule!r}{extra})"
        name = getattr(scenario, "__name__", repr(scenario))
        raise ScheduleFailed(
            f"{name} fails under seed {sim.seed}: {type(exc).__name__}: {exc}\n"
            f"replay: sim = {replay}; sim.run({name}, sim)\n"
            f"    or: {SEED_VARIABLE}={sim.seed} in the environment\n"
            f"{sim.report()}",
            seed=sim.seed,
            replay=replay,
        ) from exc
