"""What every policy promises, whatever its rule: one suite over all of them, in virtual time."""

from __future__ import annotations

import random

import pytest

from benchmarks.simulator import Machine, Tasks, simulate
from threadkit.sizing import (
    POLICIES,
    Clamped,
    Decision,
    Fixed,
    KeepAlive,
    PoolSnapshot,
    Stabilised,
    Vetoed,
    policy,
)

MAKERS = dict(POLICIES) | {
    "clamped": lambda: Clamped(KeepAlive(), 1, 32),
    "stabilised": lambda: Stabilised(KeepAlive(), 1.0),
    "vetoed": lambda: Vetoed(KeepAlive(), lambda snapshot: None),
}
# Fixed keeps what nobody uses: that is its rule.
ELASTIC = sorted(MAKERS.keys() - {"fixed"})


class Asked:
    """A policy that remembers what it was asked and what it answered."""

    def __init__(self, name):
        self.policy = MAKERS[name]()
        self.log = []

    def decide(self, snapshot):
        decision = self.policy.decide(snapshot)
        self.log.append((snapshot, decision))
        return decision


def evenly(rate, until, *, block, cpu=0.0, horizon=0.0, start=0.0):
    """So many tasks a second, evenly spaced."""
    arrivals = [start + i / rate for i in range(int(rate * (until - start)))]
    return Tasks(arrivals, [cpu] * len(arrivals), [block] * len(arrivals), horizon=horizon)


def history(seed):
    """Snapshots that a pool could have had, of whatever load: seconds, sizes and sums at random."""
    draw, now = random.Random(seed), 0.0
    for _ in range(draw.randrange(1, 30)):
        interval = draw.choice([0.0, 1e-4, 1e-3, 0.01, 0.1, 1.0, 60.0])
        now += interval
        workers = draw.choice([0, 1, 2, 5, 64, 70])
        busy = draw.randint(0, workers)
        queued = draw.choice([0, 0, 1, 10, 500])
        completions = draw.choice([0, 1, 20, 300])
        yield PoolSnapshot(
            now=now,
            interval=interval,
            min_workers=2,
            max_workers=64,
            workers=workers,
            busy=busy,
            blocked=draw.choice([0, busy]),
            queued=queued,
            oldest_wait=draw.choice([0.0, 0.01, 1.0, 100.0]) if queued else 0.0,
            arrivals=draw.choice([0, 1, 500]),
            started=draw.choice([0, 0, 1, 300]),
            completions=completions,
            run_time=completions * draw.choice([0.0, 0.001, 0.1, 10.0]),
            cpu_time=completions * draw.choice([0.0, 0.001]),
            process_time=interval * draw.choice([0.0, 0.5, 1.0, 4.0]),
            run_ages=tuple(draw.choice([0.0, 0.1, 100.0]) for _ in range(busy)),
            idle_ages=tuple(draw.choice([0.0, 9.9, 100.0]) for _ in range(workers - busy)),
            gil=draw.choice([True, False]),
            cores=draw.choice([0.5, 1.0, 2.0, 64.0]),
        )


def walk(name):
    """Every snapshot of a hundred histories, with a rule that has seen those before it."""
    for seed in range(100):
        rule = MAKERS[name]()
        for snapshot in history(seed):
            yield rule, snapshot


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_any_snapshot_gets_a_whole_size_and_a_reason(name):
    for rule, snapshot in walk(name):
        decision = rule.decide(snapshot)
        assert isinstance(decision, Decision)
        assert type(decision.size) is int
        assert decision.size >= 0
        assert decision.reason
        assert decision.recheck is None or decision.recheck > 0


@pytest.mark.parametrize("name", ELASTIC)
def test_no_capacity_grows_that_nobody_uses(name):
    for rule, snapshot in walk(name):
        decision = rule.decide(snapshot)
        if snapshot.queued <= snapshot.idle:
            assert decision.size <= max(snapshot.workers, snapshot.min_workers)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_the_pool_stays_between_its_limits_whatever_is_recommended(name):
    burst = Tasks([0.0] * 300, [0.0] * 300, [0.02] * 300, horizon=8.0)
    outcome = simulate(MAKERS[name](), burst, min_workers=3, max_workers=7, idle_timeout=1.0)
    assert all(size <= 7 for _, size in outcome.sizes)
    assert outcome.sizes[-1][1] >= 3  # threads start when there is work, but three then stay


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_task_is_done_after_a_burst(name):
    burst = Tasks([0.0] * 200, [0.001] * 200, [0.02] * 200)
    outcome = simulate(MAKERS[name](), burst)
    assert len(outcome.sojourns) == 200
    assert min(outcome.sojourns) >= 0.021


@pytest.mark.parametrize("name", ELASTIC)
def test_it_shrinks_to_the_minimum_after_a_burst(name):
    burst = Tasks([0.0] * 200, [0.0] * 200, [0.05] * 200, horizon=40.0)
    outcome = simulate(MAKERS[name](), burst, idle_timeout=1.0)
    assert outcome.sizes[-1][1] == 2


@pytest.mark.parametrize("name", sorted(MAKERS.keys() - {"stall_aware", "queue_threshold"}))
def test_it_converges_on_a_steady_load(name):
    # 100 a second for 50 ms keep 5 busy.
    outcome = simulate(MAKERS[name](), evenly(100, 20, block=0.05), idle_timeout=1.0)
    late = [size for at, size in outcome.sizes if at > 15] or [outcome.sizes[-1][1]]
    assert max(late) - min(late) <= 2
    assert min(late) >= 5
    assert max(outcome.waits[-200:]) < 0.05


def test_queue_threshold_swings_around_the_size_a_steady_load_needs():
    # No queue means "too many" to it, so it always comes back down: the rule cannot settle.
    outcome = simulate(policy("queue_threshold"), evenly(100, 20, block=0.05), idle_timeout=1.0)
    late = [size for at, size in outcome.sizes if at > 15]
    assert set(late) == {4, 5, 6}


def test_stall_aware_converges_once_tasks_are_longer_than_its_stall_time():
    rule = policy("stall_aware")
    outcome = simulate(rule, evenly(20, 20, block=0.25), idle_timeout=1.0)
    assert outcome.sizes[-1][1] in range(5, 9)


@pytest.mark.parametrize("name", ["adaptive", "gil_aware", "hill_climbing"])
def test_those_that_look_at_the_cpu_do_not_grow_for_tasks_that_compute(name):
    # 180 a second of 10 ms are 1.8 times what one interpreter can compute.
    outcome = simulate(MAKERS[name](), evenly(180, 3, block=0.0, cpu=0.01))
    assert max(size for _, size in outcome.sizes) <= 4


@pytest.mark.parametrize("name", ["adaptive", "gil_aware"])
def test_without_a_gil_they_grow_to_what_the_cores_can_do(name):
    machine = Machine(cores=8, gil=False)
    outcome = simulate(MAKERS[name](), evenly(600, 3, block=0.0, cpu=0.01), machine=machine)
    assert max(size for _, size in outcome.sizes) >= 6


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_two_objects_of_a_policy_share_nothing(name):
    tasks = evenly(100, 5, block=0.05)
    first = simulate(policy(name), tasks)
    simulate(policy(name), evenly(300, 2, block=0.2))
    assert simulate(policy(name), tasks).sizes == first.sizes


# -- the default, in virtual time -----------------------------------------------------------


def mean(values):
    return sum(values) / len(values)


def crowded(in_flight_best, rate, until, *, burst):
    """A service that is best at so many calls in flight, and a burst at the very start."""
    flow = evenly(rate, until, block=0.02)
    arrivals = [0.0] * burst + list(flow.arrivals)
    return Tasks(
        arrivals,
        [0.0] * len(arrivals),
        [0.02] * len(arrivals),
        dependency=lambda _now, in_flight: 1 + (in_flight / in_flight_best) ** 2,
    )


def test_adaptive_finds_back_to_the_best_size_after_it_crowded_a_service_it_did_not_know():
    tasks = crowded(8, 120, 15, burst=60)
    outcome = simulate(policy("adaptive"), tasks)
    assert max(size for _, size in outcome.sizes) > 60  # it could not know
    assert max(outcome.sojourns[-100:]) < 0.1
    assert mean(outcome.sojourns) < mean(simulate(policy("keep_alive"), tasks).sojourns) / 3


def test_adaptive_grows_on_busy_cores_for_tasks_that_mostly_wait():
    # 85 a second of 10 ms CPU and 40 ms wait: 4.25 busy, and 0.85 of the interpreter.
    outcome = simulate(policy("adaptive"), evenly(85, 20, block=0.04, cpu=0.01))
    assert max(outcome.waits[-200:]) < 0.1


def test_adaptive_takes_workers_away_from_tasks_that_compute_after_a_burst_that_waited():
    waiting = [0.0] * 200
    computing = [1.0] * 1600
    tasks = Tasks(waiting + computing, [0.0] * 200 + [0.005] * 1600, [0.05] * 200 + [0.0] * 1600)
    outcome = simulate(policy("adaptive"), tasks)
    assert max(size for _, size in outcome.sizes) == 64
    assert outcome.sizes[-1][1] <= 32


def test_adaptive_stays_within_a_tenth_of_the_best_fixed_size_on_a_flapping_load():
    arrivals = [second + i / 300 for second in range(0, 12, 2) for i in range(300)]
    tasks = Tasks(arrivals, [0.0] * len(arrivals), [0.04] * len(arrivals))
    best = min(mean(simulate(Fixed(n), tasks).sojourns) for n in (8, 12, 16, 24, 64))
    outcome = simulate(policy("adaptive"), tasks)
    assert mean(outcome.sojourns) <= 1.1 * best


# -- the suite itself -----------------------------------------------------------------------


def test_the_suite_catches_a_policy_that_grows_for_nobody(monkeypatch):
    class Eager:
        def decide(self, snapshot):
            return Decision(snapshot.workers + 1, "more")

    monkeypatch.setitem(MAKERS, "eager", Eager)
    with pytest.raises(AssertionError):
        test_no_capacity_grows_that_nobody_uses("eager")


def test_the_suite_catches_a_policy_without_a_reason(monkeypatch):
    monkeypatch.setitem(MAKERS, "mute", lambda: Fixed(3))
    monkeypatch.setattr(Fixed, "decide", lambda self, snapshot: Decision(3, ""))
    with pytest.raises(AssertionError):
        test_any_snapshot_gets_a_whole_size_and_a_reason("mute")
