"""The policies one by one: handed snapshots, no thread, no clock."""

from __future__ import annotations

import pytest

from threadkit.sizing import (
    POLICIES,
    Adaptive,
    Decision,
    Fixed,
    KeepAlive,
    PoolSnapshot,
    QueueThreshold,
    SizingPolicy,
    policy,
)


def snapshot(now=1.0, interval=0.1, *, workers=2, **fields):
    limits = {"min_workers": 2, "max_workers": 64}
    return PoolSnapshot(now=now, interval=interval, workers=workers, **limits, **fields)


def test_a_name_makes_a_new_policy_each_time():
    assert isinstance(policy("adaptive"), Adaptive)
    assert policy("adaptive") is not policy("adaptive")


def test_an_object_that_decides_is_taken_as_it_is():
    class Mine:
        def decide(self, snapshot):
            return Decision(snapshot.workers, "mine")

    mine = Mine()
    assert policy(mine) is mine


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="no policy is named 'best'") as caught:
        policy("best")
    assert all(name in str(caught.value) for name in POLICIES)


def test_a_class_in_place_of_an_object_is_refused():
    with pytest.raises(TypeError, match=r"not a class: Fixed\(\)"):
        policy(Fixed)


def test_something_that_cannot_decide_is_refused():
    with pytest.raises(TypeError, match="got 3"):
        policy(3)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_named_policy_satisfies_the_protocol(name):
    assert isinstance(policy(name), SizingPolicy)


def test_usable_cores_are_one_under_the_gil():
    assert snapshot(cores=8.0, gil=True).usable_cores == 1.0
    assert snapshot(cores=0.5, gil=True).usable_cores == 0.5
    assert snapshot(cores=8.0, gil=False).usable_cores == 8.0


def test_fixed_means_max_workers_unless_told():
    assert Fixed().decide(snapshot()).size == 64
    assert Fixed(3).decide(snapshot()).size == 3


def test_keep_alive_grows_by_what_no_idle_worker_can_take():
    decision = KeepAlive().decide(snapshot(workers=3, busy=2, queued=5))
    assert decision.size == 7


def test_keep_alive_lets_only_the_expired_go():
    ages = (0.5, 10.0, 12.0)
    assert KeepAlive().decide(snapshot(workers=5, busy=2, idle_ages=ages)).size == 3
    assert KeepAlive(0.4).decide(snapshot(workers=5, busy=2, idle_ages=ages)).size == 2


def test_queue_threshold_waits_for_its_window_then_steps_up_by_two():
    rule = QueueThreshold(window=1.0)
    sizes = [rule.decide(snapshot(now=t, queued=20)).size for t in (0.0, 0.5, 1.0)]
    assert sizes == [2, 2, 4]


def test_queue_threshold_does_not_grow_for_a_queue_that_is_falling():
    rule = QueueThreshold(window=1.0)
    queue = {0.0: 100, 0.5: 80, 1.0: 60}
    assert [rule.decide(snapshot(now=t, queued=q)).size for t, q in queue.items()] == [2, 2, 2]


def test_queue_threshold_averages_over_time_not_over_samples():
    rule = QueueThreshold(window=1.0)
    for step in range(50):  # a burst of decisions within a millisecond
        rule.decide(snapshot(now=step * 2e-5, queued=500))
    rule.decide(snapshot(now=0.001, queued=0))
    assert rule.decide(snapshot(now=1.0, workers=8, queued=0)).size == 7


def test_queue_threshold_steps_down_by_one():
    rule = QueueThreshold(window=1.0)
    rule.decide(snapshot(now=0.0, workers=8))
    assert rule.decide(snapshot(now=1.0, workers=8)).size == 7


def test_adaptive_first_looks_what_the_tasks_do_then_grows_for_those_that_wait():
    rule = Adaptive()
    first = rule.decide(snapshot(interval=0.0001, busy=2, queued=198, process_time=0.0001))
    assert first.size == 2
    assert first.recheck is not None
    later = rule.decide(snapshot(interval=0.003, busy=2, queued=198, process_time=0.0004))
    assert later.size == 200


def test_adaptive_does_not_grow_while_the_cores_are_busy():
    rule = Adaptive()
    rule.decide(snapshot(interval=0.0001, busy=2, queued=198, process_time=0.0001))
    assert rule.decide(snapshot(interval=0.003, busy=2, queued=198, process_time=0.003)).size == 2


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Fixed(0), "size"),
        (lambda: KeepAlive(0), "idle_timeout"),
        (lambda: QueueThreshold(high=0.1), "high"),
        (lambda: QueueThreshold(step_up=0), "step_up"),
        (lambda: Adaptive(probe=float("nan")), "probe"),
    ],
)
def test_a_bad_argument_is_named(make, named):
    with pytest.raises(ValueError, match=f"^{named} must be"):
        make()
