"""The simulator against what queueing theory knows, and against its own promises."""

from __future__ import annotations

import math
import random

import pytest

from benchmarks.simulator import Machine, Tasks, simulate
from threadkit.sizing import Decision, Fixed

FREE = Machine(overhead=0.0, start_cost=0.0, submit_cost=0.0)


def mean(values):
    return sum(values) / len(values)


def poisson(rate, count, draw):
    now, out = 0.0, []
    for _ in range(count):
        now += draw.expovariate(rate)
        out.append(now)
    return out


def waiting(arrivals, block, **fields):
    return Tasks(arrivals, [0.0] * len(arrivals), list(block), **fields)


def computing(arrivals, cpu):
    return Tasks(arrivals, list(cpu), [0.0] * len(arrivals))


def erlang_c(workers, busy):
    """The chance that a task has to wait, in an M/M/c queue (Erlang 1917)."""
    terms = [busy**k / math.factorial(k) for k in range(workers)]
    last = busy**workers / math.factorial(workers) * workers / (workers - busy)
    return last / (sum(terms) + last)


@pytest.mark.parametrize(("workers", "busy"), [(1, 0.5), (3, 2.0), (8, 6.0)])
def test_waits_agree_with_erlang(workers, busy):
    draw, count = random.Random(7), 60_000
    arrivals = poisson(busy / 0.02, count, draw)
    tasks = waiting(arrivals, [draw.expovariate(1 / 0.02) for _ in range(count)])
    outcome = simulate(Fixed(workers), tasks, min_workers=1, machine=FREE)
    expected = erlang_c(workers, busy) * 0.02 / (workers - busy)
    assert mean(outcome.waits) == pytest.approx(expected, rel=0.1)


def test_computing_tasks_share_one_core_as_in_processor_sharing():
    # Round robin with short turns is processor sharing: the mean sojourn is s / (1 - load).
    draw, count = random.Random(3), 20_000
    tasks = computing(poisson(50, count, draw), [0.01] * count)
    machine = Machine(overhead=0.0, start_cost=0.0, submit_cost=0.0, quantum=0.0005)
    outcome = simulate(Fixed(64), tasks, min_workers=64, machine=machine)
    assert mean(outcome.sojourns) == pytest.approx(0.01 / (1 - 0.5), rel=0.1)


def test_without_a_gil_as_many_compute_at_once_as_there_are_cores():
    tasks = computing([0.0] * 40, [0.01] * 40)
    spans = {
        cores: simulate(
            Fixed(8),
            tasks,
            machine=Machine(cores=cores, gil=False, overhead=0.0, start_cost=0.0),
        ).makespan
        for cores in (1, 2, 4)
    }
    assert spans == pytest.approx({1: 0.4, 2: 0.2, 4: 0.1})


def test_a_dependency_sees_the_calls_in_flight():
    seen = []

    def dependency(now, in_flight):
        seen.append((round(now, 3), in_flight))
        return 2.0

    tasks = waiting([0.0, 0.0, 0.0], [0.01] * 3, dependency=dependency)
    outcome = simulate(Fixed(2), tasks, machine=FREE)
    assert seen == [(0.0, 1), (0.0, 2), (0.02, 2)]
    assert outcome.makespan == pytest.approx(0.04)


def test_thread_seconds_are_kept_until_the_horizon():
    outcome = simulate(Fixed(4), waiting([0.0] * 4, [0.5] * 4, horizon=10.0), machine=FREE)
    assert outcome.thread_seconds == pytest.approx(40.0, rel=0.01)


def test_threads_start_one_after_the_other_and_only_for_tasks():
    machine = Machine(overhead=0.0, start_cost=0.01)
    outcome = simulate(Fixed(8), waiting([0.0] * 3, [1.0] * 3), machine=machine)
    assert [size for _, size in outcome.sizes] == [1, 2, 3]
    assert outcome.waits == pytest.approx([0.01, 0.02, 0.03])


def test_a_busy_worker_that_is_one_too_many_leaves_when_its_task_ends():
    class Halves:
        def decide(self, snapshot):
            return Decision(8 if snapshot.now < 0.05 else 4, "told")

    outcome = simulate(Halves(), waiting([0.0] * 16, [0.2] * 16), machine=FREE)
    assert [size for at, size in outcome.sizes if 0.1 < at < 0.3] == [7, 6, 5, 4]


def test_what_the_policy_is_told_adds_up():
    told = []

    class Sums:
        def decide(self, snapshot):
            told.append(snapshot)
            return Decision(3, "told")

    draw = random.Random(1)
    arrivals = poisson(60, 500, draw)
    tasks = Tasks(arrivals, [0.002] * 500, [0.02] * 500, horizon=arrivals[-1] + 2)
    outcome = simulate(Sums(), tasks, min_workers=1, machine=FREE)
    assert sum(s.arrivals for s in told) == sum(s.completions for s in told) == 500
    assert sum(s.wait_time for s in told) == pytest.approx(sum(outcome.waits))
    assert sum(s.run_time for s in told) == pytest.approx(
        sum(outcome.sojourns) - sum(outcome.waits)
    )
    assert sum(s.process_time for s in told) == pytest.approx(1.0)
    assert all(len(s.run_ages) == s.busy and len(s.idle_ages) <= s.idle for s in told)
