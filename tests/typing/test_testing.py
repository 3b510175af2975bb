"""Types of threadkit.testing. Checked by mypy and pyright, not run."""

from typing_extensions import assert_type

from threadkit import Runtime
from threadkit.testing import Exploration, FakeClock, SimRuntime, explore, no_leaks, schedules


def scenario(sim: SimRuntime) -> int:
    return sim.get_ident()


@schedules(10, schedule="pct", preempt=[scenario, "threadkit._runtime"])
def test_decorated(sim: SimRuntime, word: str) -> None: ...


async def answer() -> str:
    return "yes"


def check() -> None:
    runtime: Runtime = SimRuntime(seed=3)
    sim = SimRuntime()
    assert_type(sim.run(scenario, sim), int)
    assert_type(sim.run_async(answer()), str)
    assert_type(explore(scenario, range(3), max_steps=10), Exploration)
    assert_type(FakeClock()(), float)
    with no_leaks(), sim.substituted("concurrent.futures._base"):
        runtime.sleep(1)
    test_decorated(word="fixture")
