"""SimRuntime: who runs, what time it is, how a run ends."""

from __future__ import annotations

import threading

import pytest

from threadkit.testing import Deadlock, ScheduleFailed, SimRuntime, explore


def bump(count):
    value = count[0]
    count[0] = value + 1


def two_bumps(sim):
    count = [0]
    threads = [sim.thread(bump, args=(count,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count == [2]


def test_an_unlocked_increment_is_caught_by_line_preemption():
    with pytest.raises(ScheduleFailed) as caught:
        explore(two_bumps, 100, preempt=[bump])
    sim = SimRuntime(caught.value.seed, schedule="uniform", preempt=[bump])
    assert "replay (was seen to fail again): sim = SimRuntime(2, " in str(caught.value)
    assert sim.seed == caught.value.seed


def test_the_same_seed_takes_the_same_turns():
    def prints():
        sims = [SimRuntime(seed) for seed in range(20)]
        for sim in sims:
            sim.run(two_bumps, sim)
        return [sim.fingerprint for sim in sims]

    first = prints()
    assert first == prints()
    assert len(set(first)) > 5


def test_a_deadlock_names_who_waits_for_what_and_who_holds_it():
    sim = SimRuntime()

    def keep_then_take(kept, wanted, ready, other_ready):
        with kept:
            ready.set()
            other_ready.wait()
            with wanted:
                pass

    def scenario():
        one, two = sim.lock(), sim.lock()
        ready, other_ready = sim.event(), sim.event()
        sim.thread(keep_then_take, name="ann", args=(one, two, ready, other_ready)).start()
        sim.thread(keep_then_take, name="bob", args=(two, one, other_ready, ready)).start()

    with pytest.raises(AssertionError, match=r"ann waits for lock made at .*held by bob") as caught:
        sim.run(scenario)
    assert "bob waits for lock" in str(caught.value)
    assert "in keep_then_take" in str(caught.value)
    assert "seed 0" in "".join(caught.value.__notes__)


def test_an_hour_passes_when_everybody_waits():
    sim = SimRuntime()

    def scenario():
        sim.sleep(3600)
        return sim.event().wait(timeout=5), sim.monotonic()

    assert sim.run(scenario) == (False, 3605.0)


def test_waiting_for_ever_alone_is_a_deadlock():
    sim = SimRuntime()
    with pytest.raises(Deadlock, match=r"main waits for event made at test_testing.py"):
        sim.run(lambda: sim.event().wait())


def test_an_error_in_a_thread_fails_the_run_and_no_thread_is_left():
    sim = SimRuntime()
    before = threading.active_count()

    def scenario():
        sim.thread(sim.event().wait).start()
        sim.thread(lambda: 1 / 0).start()
        sim.event().wait()

    with pytest.raises(ZeroDivisionError):
        sim.run(scenario)
    assert threading.active_count() == before
