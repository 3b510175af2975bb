"""Running one scenario under many schedules."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from threadkit.testing._schedules import Pct, Schedule, Uniform, schedule_named
from threadkit.testing._simruntime import SimRuntime
from threadkit.testing._verdicts import ScheduleFailed, SimulationError

__all__ = ["Exploration", "explore", "schedules"]

_SEED_VARIABLE = "THREADKIT_SIM_SEED"


@dataclass(frozen=True)
class Exploration:
    """What `explore` did.

    Attributes:
        schedules: Runs made, all of which succeeded.
        distinct: Different schedules among them. When it stays far below `schedules`, further
            seeds will hardly find more.
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
        ScheduleFailed: For the first seed that fails, with how to replay it and whether that was
            seen to fail again; the failure is its `__cause__`.
    """
    rules: list[Schedule] = [Uniform(), Pct()] if schedule == "both" else [schedule_named(schedule)]
    rules = [_measured(rule, scenario, options) for rule in rules]
    prints: set[int] = set()
    count = steps = 0
    for seed in _wanted(seeds):
        sim = SimRuntime(seed, schedule=rules[seed % len(rules)], **options)
        _run(scenario, sim, options)
        count += 1
        prints.add(sim.fingerprint)
        steps += sim.steps
    return Exploration(count, len(prints), steps)


def schedules(
    seeds: int | Iterable[int] = 200, **options: Any
) -> Callable[[Callable[..., object]], Callable[..., None]]:
    """Decorate a test whose first argument is a SimRuntime: it runs under that many seeds.

        >>> @schedules(100)
        ... def test_a_lone_thread_is_never_disturbed(sim):
        ...     assert sim.lock().acquire(timeout=1)
        >>> test_a_lone_thread_is_never_disturbed()

    Further arguments stay what they are for pytest: fixtures and parameters.

    Args:
        seeds: As for `explore`.
        options: As for `explore`.
    """

    def decorate(scenario: Callable[..., object]) -> Callable[..., None]:
        def test(*args: Any, **kwargs: Any) -> None:
            def with_arguments(sim: SimRuntime) -> object:
                return scenario(sim, *args, **kwargs)

            with_arguments.__name__ = scenario.__name__
            explore(with_arguments, seeds, **options)

        for name in ("__name__", "__qualname__", "__module__", "__doc__", "pytestmark"):
            if hasattr(scenario, name):
                setattr(test, name, getattr(scenario, name))
        signature = inspect.signature(scenario)
        _, *others = signature.parameters.values()
        vars(test)["__signature__"] = signature.replace(parameters=others)
        return test

    return decorate


def _wanted(seeds: int | Iterable[int]) -> Iterable[int]:
    if _SEED_VARIABLE in os.environ:
        return [int(os.environ[_SEED_VARIABLE])]
    return range(seeds) if isinstance(seeds, int) else seeds


def _measured(
    rule: Schedule, scenario: Callable[[SimRuntime], object], options: Mapping[str, Any]
) -> Schedule:
    """Give PCT the length of the scenario, from one run that is the same whatever the seeds."""
    if not isinstance(rule, Pct) or rule.steps is not None:
        return rule
    sim = SimRuntime(0, schedule=Uniform(line_gap=1), **options)  # counts each line
    _run(scenario, sim, options)
    return replace(rule, steps=max(sim.choices, 1))


def _run(
    scenario: Callable[[SimRuntime], object], sim: SimRuntime, options: Mapping[str, Any]
) -> None:
    try:
        sim.run(scenario, sim)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # test tools derive their failures from it too
        again = SimRuntime(sim.seed, schedule=sim.schedule, **options)
        raise _failed(scenario, sim, options, exc, replays=_fails(scenario, again)) from exc


def _fails(scenario: Callable[[SimRuntime], object], sim: SimRuntime) -> bool:
    try:
        sim.run(scenario, sim)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - any failure counts
        return True
    return False


def _failed(
    scenario: Callable[[SimRuntime], object],
    sim: SimRuntime,
    options: Mapping[str, Any],
    exc: BaseException,
    *,
    replays: bool,
) -> ScheduleFailed:
    name = getattr(scenario, "__name__", repr(scenario))
    extra = "".join(f", {key}={_spelled(value)}" for key, value in options.items())
    replay = f"SimRuntime({sim.seed}, schedule={sim.schedule!r}{extra})"
    verdict = "was seen to fail again" if replays else "did NOT fail again: not deterministic"
    return ScheduleFailed(
        f"{name} fails under seed {sim.seed}: {type(exc).__name__}: {exc}{_place(exc)}\n"
        f"replay ({verdict}): sim = {replay}; sim.run({name}, sim)\n"
        f"or set {_SEED_VARIABLE}={sim.seed} in the environment\n"
        f"{sim.report()}",
        seed=sim.seed,
        replay=replay,
    )


def _place(exc: BaseException) -> str:
    """Where a failure of the program was raised; the simulator's own tell by themselves."""
    if isinstance(exc, SimulationError) or exc.__traceback__ is None:
        return ""
    code, line = [(frame.f_code, line) for frame, line in traceback.walk_tb(exc.__traceback__)][-1]
    return f" (raised at {code.co_filename}:{line} in {code.co_name})"


def _spelled(value: object) -> str:
    """An option as it may be typed again: functions, classes and modules by their names."""
    if isinstance(value, (list, tuple)):
        items = cast("Iterable[object]", value)
        return f"[{', '.join(_spelled(item) for item in items)}]"
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return name or repr(value)
