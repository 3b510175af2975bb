"""Exploring many schedules, and telling of the one that fails."""

from __future__ import annotations

import pytest

from threadkit.testing import (
    Pct,
    ScheduleFailed,
    SimRuntime,
    Uniform,
    explore,
    schedules,
)


def race(sim):
    """Fails when the second thread is first."""
    order = []
    threads = [sim.thread(order.append, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == ["a", "b"]


def test_a_failing_seed_is_named_and_its_replay_fails_the_same_way():
    with pytest.raises(ScheduleFailed, match="was seen to fail again") as caught:
        explore(race, 100)
    sim = eval(caught.value.replay)
    assert isinstance(caught.value.__cause__, AssertionError)
    assert sim.seed == caught.value.seed
    with pytest.raises(AssertionError, match="assert"):
        sim.run(race, sim)


def test_the_replay_spells_out_what_was_pre_empted():
    with pytest.raises(ScheduleFailed) as caught:
        explore(race, 100, preempt=[race, "threadkit._runtime"], max_steps=999)
    assert "preempt=[race, 'threadkit._runtime'], max_steps=999)" in caught.value.replay


def test_a_seed_in_the_environment_is_the_only_one_run(monkeypatch):
    with pytest.raises(ScheduleFailed) as caught:
        explore(race, 100)
    ran = []
    monkeypatch.setenv("THREADKIT_SIM_SEED", str(caught.value.seed))
    with pytest.raises(ScheduleFailed) as again:
        explore(lambda sim: (ran.append(sim.seed), race(sim)), 100)
    assert again.value.seed == caught.value.seed
    assert set(ran) <= {0, caught.value.seed}  # 0 measures the length for PCT


def test_a_failure_that_does_not_repeat_is_said_to_depend_on_something_else():
    calls = []

    def flaky(sim):
        calls.append(sim.seed)
        assert len(calls) != 3

    with pytest.raises(ScheduleFailed, match="did NOT fail again: not deterministic"):
        explore(flaky, 10)


@pytest.mark.parametrize("kind", [SystemExit, pytest.fail.Exception])
def test_a_failure_that_is_no_exception_names_its_seed_too(kind):
    def scenario(sim):
        raise kind("no Exception")

    with pytest.raises(ScheduleFailed, match="fails under seed 0"):
        explore(scenario, 3)


def test_an_interrupt_is_passed_on_as_it_is():
    def scenario(sim):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore(scenario, 3)


@pytest.mark.parametrize("schedule", ["uniform", "pct", "both", Uniform(), Pct(depth=2, steps=9)])
def test_schedules_are_counted_and_most_are_distinct(schedule):
    def busy(sim):
        queue = sim.simple_queue()
        threads = [sim.thread(lambda: (queue.put(1), queue.put(2))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(6):
            queue.get()

    explored = explore(busy, 60, schedule=schedule)
    assert explored.schedules == 60
    assert explored.distinct > 20
    assert explored.steps > 60 * 12


def test_seeds_may_be_listed():
    seen = []
    explore(lambda sim: seen.append(sim.seed), [7, 5, 7], schedule="uniform")
    assert seen == [7, 5, 7]


@pytest.mark.parametrize("word", ["one", "two"])
@schedules(20, schedule="uniform")
def test_a_decorated_test_keeps_its_fixtures_and_parameters(sim, word, tmp_path):
    assert isinstance(sim, SimRuntime)
    assert word in {"one", "two"}
    assert tmp_path.is_dir()


def test_a_decorated_test_that_fails_names_its_seed():
    with pytest.raises(ScheduleFailed, match="race fails under seed"):
        schedules(100)(race)()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"schedule": "random"}, "schedule must be 'uniform', 'pct'"),
        ({"start_failure_ratio": 2}, "start_failure_ratio must be between 0 and 1, but is 2"),
        ({"stall_ratio": -1}, "stall_ratio must be between 0 and 1, but is -1"),
        ({"max_steps": 0}, "max_steps must be positive, but is 0"),
        ({"stall_timeout": 0}, "stall_timeout must be positive, but is 0"),
    ],
)
def test_wrong_options_are_refused_by_name(wrong, said):
    with pytest.raises(ValueError, match=said):
        SimRuntime(**wrong)


def test_a_depth_below_one_is_refused():
    with pytest.raises(ValueError, match="depth must be 1 or more, not 0"):
        Pct(depth=0)


def test_what_cannot_be_pre_empted_is_refused():
    with pytest.raises(TypeError, match="preempt takes modules, dotted names"):
        SimRuntime(preempt=[42])
    with pytest.raises(ValueError, match="has no source file"):
        SimRuntime(preempt=["sys"])
