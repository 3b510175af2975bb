"""The pool and its policy; what it is made with, and what it tells."""

from __future__ import annotations

import threading

import pytest

from threadkit import DynamicThreadPool, Histogram
from threadkit.sizing import Decision
from threadkit.testing import SimRuntime

WAIT = 10


class Scripted:
    """A policy that wants what it is told, and remembers what it was shown."""

    def __init__(self, *sizes):
        self.sizes = list(sizes)
        self.seen = []

    def decide(self, snapshot):
        self.seen.append(snapshot)
        size = self.sizes.pop(0) if len(self.sizes) > 1 else self.sizes[0]
        return Decision(size, f"wanted {size}")


def simulated(scenario, seed=1):
    sim = SimRuntime(seed=seed)
    return sim.run(scenario, sim)


def test_the_policy_is_asked_when_a_task_finds_no_worker_and_the_pool_does_as_it_says():
    def scenario(sim):
        policy = Scripted(4)
        with DynamicThreadPool(1, 8, policy=policy, runtime=sim) as pool:
            for future in [pool.submit(sim.sleep, 1.0) for _ in range(8)]:
                future.result()
            changes = pool.statistics().changes
        return sim.monotonic(), [(c.before, c.after, c.reason) for c in changes]

    ended_at, changes = simulated(scenario)
    assert changes == [(1, 4, "wanted 4")]
    assert ended_at == pytest.approx(2.0, abs=0.1)  # virtual: 8 tasks of 1 s on 4 workers


def test_a_pool_at_rest_asks_nobody_anything():
    def scenario(sim):
        policy = Scripted(3, 1)
        with DynamicThreadPool(1, 8, policy=policy, runtime=sim) as pool:
            for future in [pool.submit(sim.sleep, 1.0) for _ in range(8)]:
                future.result()
            sim.sleep(100.0)
            assert pool.statistics().alive == 1
            asked = len(policy.seen)
            sim.sleep(100_000.0)
            return len(policy.seen) - asked

    assert simulated(scenario) == 0


def test_the_policy_sees_what_happened_since_it_looked_last():
    def scenario(sim):
        policy = Scripted(2)
        with DynamicThreadPool(1, 2, policy=policy, check_interval=1.0, runtime=sim) as pool:
            for future in [pool.submit(sim.sleep, 0.5) for _ in range(10)]:
                future.result()
            pool.check_and_adjust()
        return policy.seen

    seen = simulated(scenario)
    assert sum(snapshot.arrivals for snapshot in seen) == 10
    assert sum(snapshot.started for snapshot in seen) == 10
    assert sum(snapshot.completions for snapshot in seen) == 10
    assert sum(snapshot.run_time for snapshot in seen) == pytest.approx(5.0, abs=0.01)
    assert any(snapshot.oldest_wait > 0 for snapshot in seen)
    assert any(age > 0 for snapshot in seen for age in snapshot.run_ages)


def test_a_policy_that_raises_leaves_the_size_and_is_reported_once(caplog):
    class Broken:
        def decide(self, snapshot):
            raise ZeroDivisionError

    def scenario(sim):
        with DynamicThreadPool(1, 8, policy=Broken(), runtime=sim) as pool:
            for future in [pool.submit(sim.sleep, 1.0) for _ in range(4)]:
                future.result()
            pool.check_and_adjust()
            return pool.statistics().wanted

    assert simulated(scenario) == 1
    assert caplog.text.count("the sizing policy failed") == 1


def test_a_subscriber_that_raises_hurts_nobody(caplog):
    with DynamicThreadPool(1, 8) as pool:
        seen = []
        pool.subscribe(lambda change: 1 / 0)
        unsubscribe = pool.subscribe(seen.append)
        pool.adjust_pool_size(3)
        unsubscribe()
        pool.adjust_pool_size(5)
        assert [(change.before, change.after) for change in seen] == [(1, 3)]
    assert "a subscriber to size changes failed" in caplog.text


def test_check_and_adjust_tells_the_policy_the_queue_size_it_is_given():
    policy = Scripted(2)
    with DynamicThreadPool(1, 8, policy=policy) as pool:
        assert pool.check_and_adjust(queue_size=1234) == 2
    assert policy.seen[-1].queued == 1234


def test_the_last_parked_worker_is_the_first_woken():
    def scenario(sim):
        with DynamicThreadPool(4, 4, runtime=sim) as pool:
            barrier = [pool.submit(sim.sleep, 1.0) for _ in range(4)]
            for future in barrier:
                future.result()
            used = set()
            for _ in range(20):
                sim.sleep(1.0)  # until all are parked
                used.add(pool.submit(sim.get_ident).result())
            return used

    assert len(simulated(scenario)) == 1


def test_workers_bear_the_pools_name():
    with DynamicThreadPool(max_workers=1, thread_name_prefix="voice") as pool:
        assert pool.submit(lambda: threading.current_thread().name).result(WAIT) == "voice-worker-0"
        assert "voice: 1 workers (wants 1)" in repr(pool)
    assert "closed" in repr(pool)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": -1}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": "four"}, TypeError, "max_workers must be an int"),
        ({"max_workers": 2, "min_workers": 3}, ValueError, r"between 0 and max_workers \(2\)"),
        ({"min_workers": -1}, ValueError, "min_workers must be between"),
        ({"policy": "psychic"}, ValueError, "adaptive"),
        ({"queue_limit": 0}, ValueError, "queue_limit must be 1 or more"),
        ({"overflow": "explode"}, ValueError, "'drop_lowest'"),
        ({"overflow_timeout": -1}, ValueError, "overflow_timeout must be 0 or more"),
        ({"levels": 0}, ValueError, "levels must be 1 or more"),
        ({"ageing": float("nan")}, ValueError, "ageing must be"),
        ({"check_interval": 0}, ValueError, "check_interval must be more than 0"),
        ({"idle_timeout": -0.1}, ValueError, "idle_timeout must be 0 or more"),
        ({"initializer": 5}, TypeError, "initializer must be a callable"),
        ({"at_exit": "explode"}, ValueError, "'wait', 'abandon' or seconds"),
        ({"at_exit": -1}, ValueError, "at_exit must be 0 or more"),
    ],
)
def test_a_bad_argument_is_named_with_what_is_allowed(arguments, error, says):
    with pytest.raises(error, match=says):
        DynamicThreadPool(**arguments)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda pool: pool.submit(5), TypeError, "fn must be callable, not 5"),
        (lambda pool: pool.with_options(timeout=-1), ValueError, "timeout must be 0 or more"),
        (lambda pool: pool.with_options(ttl="soon"), TypeError, "ttl must be seconds"),
        (lambda pool: pool.resize(max_workers=0), ValueError, "max_workers must be greater"),
        (lambda pool: pool.resize(min_workers=9, max_workers=8), ValueError, "min_workers must be"),
        (lambda pool: pool.adjust_pool_size(-1), ValueError, "n must be 0 or more"),
        (lambda pool: pool.shutdown(timeout=-1), ValueError, "timeout must be 0 or more"),
        (lambda pool: pool.wait_idle(-1), ValueError, "timeout must be 0 or more"),
        (lambda pool: pool.drain(-1), ValueError, "timeout must be 0 or more"),
    ],
)
def test_a_bad_call_is_told_what_is_allowed(call, error, says):
    with DynamicThreadPool(max_workers=8) as pool, pytest.raises(error, match=says):
        call(pool)


def test_histograms_keep_exact_counts_and_quantiles_to_a_few_percent():
    histogram = Histogram.of([0.001] * 90 + [0.1] * 9 + [2.0])
    assert histogram.count == 100
    assert histogram.total == pytest.approx(0.09 + 0.9 + 2.0)
    assert histogram.p50 == pytest.approx(0.001, rel=0.04)
    assert histogram.p95 == pytest.approx(0.1, rel=0.04)
    assert histogram.quantile(1.0) == histogram.max == 2.0
    assert (histogram + Histogram()).p99 == histogram.p99
    assert Histogram().p50 == 0.0
    with pytest.raises(ValueError, match="share must be between 0 and 1"):
        histogram.quantile(1.5)


def test_quantiles_survive_the_sampling_of_large_batches():
    def scenario(sim):
        with DynamicThreadPool(1, 1, runtime=sim) as pool:
            # Bursts within one fold: every tenth task takes a hundred times as long.
            for n in range(5000):
                pool.submit(sim.sleep, 1e-4 if n % 10 == 0 else 1e-6)
            pool.wait_idle()
            return pool.statistics()

    statistics = simulated(scenario)
    assert statistics.run.count == statistics.wait.count == 5000
    assert statistics.run.p50 == pytest.approx(1e-6, rel=0.05)
    assert statistics.run.p99 == pytest.approx(1e-4, rel=0.05)
    assert statistics.run.total == pytest.approx(500 * 1e-4 + 4500 * 1e-6, rel=1e-6)
