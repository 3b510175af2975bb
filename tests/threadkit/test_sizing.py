"""The policies one by one: handed snapshots, no thread, no clock."""

from __future__ import annotations

import math

import pytest

from threadkit.sizing import (
    POLICIES,
    Adaptive,
    Aimd,
    Clamped,
    Decision,
    Fixed,
    GilAware,
    Gradient,
    HillClimbing,
    KeepAlive,
    LittlesLaw,
    PoolSnapshot,
    QueueDelay,
    QueueThreshold,
    SizingPolicy,
    Stabilised,
    StallAware,
    Vegas,
    Vetoed,
    policy,
)
from threadkit.sizing._contention import Contention
from threadkit.sizing._saturation import Saturation
from threadkit.sizing._trial import Trial


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
    with pytest.raises(TypeError, match="not 3"):
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


def asked(rule, *histories):
    """The sizes a rule answers to snapshots that differ in these fields."""
    return [rule.decide(snapshot(**fields)).size for fields in histories]


BACKLOG = {"busy": 4, "workers": 4, "queued": 40}


def test_queue_delay_grows_only_when_the_target_has_been_exceeded_for_a_while():
    rule = QueueDelay(0.02, patience=0.05)
    late = BACKLOG | {"oldest_wait": 0.04}
    assert asked(rule, late | {"now": 0.0}, late | {"now": 0.04}, late | {"now": 0.06}) == [4, 4, 8]


def test_queue_delay_starts_over_when_the_wait_falls_below_the_target():
    rule = QueueDelay(0.02, patience=0.05)
    late = BACKLOG | {"oldest_wait": 0.04}
    fine = BACKLOG | {"oldest_wait": 0.01}
    times = [late | {"now": 0.0}, fine | {"now": 0.04}, late | {"now": 0.06}]
    assert asked(rule, *times) == [4, 4, 4]


def test_littles_law_multiplies_the_arrival_rate_by_the_run_time():
    rule = LittlesLaw(drain=10.0, headroom=1.0, memory=0.5)
    flow = BACKLOG | {"interval": 5.0, "arrivals": 500, "completions": 500, "run_time": 50.0}
    # 100 a second for 0.1 s keep 10 busy; 40 more at 0.1 s need 0.4 within 10 s.
    assert asked(rule, flow) == [11]


def test_littles_law_says_nothing_before_a_task_has_ended():
    assert asked(LittlesLaw(), BACKLOG) == [4]


def rounds(run_time, size=4):
    """A backlog in which a round of tasks has ended, each after that many seconds."""
    count = max(10, size)
    sizes = {"workers": size, "busy": size, "queued": 40}
    return sizes | {"completions": count, "run_time": count * run_time}


def test_aimd_adds_one_a_round_and_takes_a_tenth_when_tasks_are_slow():
    rule = Aimd(slow=2.0)
    assert asked(rule, rounds(0.1), rounds(0.19, 20), rounds(0.25, 20)) == [5, 21, 18]


def test_vegas_grows_fast_while_nothing_queues_inside_the_dependency():
    # At 20 workers and twice the best run time, 20 * (1 - 1/2) = 10 queue inside: too many.
    assert asked(Vegas(), rounds(0.1), rounds(0.2, 20)) == [10, 19]


def test_gradient_follows_the_long_term_run_time():
    rule = Gradient(tolerance=1.0, headroom=4, smoothing=0.5)
    grown, shrunk = asked(rule, rounds(0.1), rounds(0.4, 40))
    assert grown == 6
    assert shrunk == 32  # half way to 40 * 0.5 + 4, the gradient being limited to a half


def test_limits_do_not_grow_inside_a_round():
    few = BACKLOG | {"completions": 3, "run_time": 0.3}
    assert [asked(make(), few) for make in (Aimd, Vegas, Gradient)] == [[4], [4], [4]]


def climb(rule, gain):
    """The sizes over one wave, in which the larger size does `gain` times as much."""
    return [
        rule.decide(snapshot(now=0.0, started=1, **BACKLOG)).size,
        rule.decide(snapshot(now=0.2, interval=0.2, started=1, completions=100, **BACKLOG)).size,
        rule.decide(
            snapshot(
                now=0.4,
                interval=0.2,
                started=1,
                completions=int(100 * gain),
                **BACKLOG | {"workers": 5, "busy": 5},
            )
        ).size,
    ]


def test_hill_climbing_tries_more_and_keeps_what_pays():
    assert climb(HillClimbing(), gain=1.2) == [4, 5, 5]
    assert climb(HillClimbing(), gain=1.01) == [4, 5, 4]
    assert climb(HillClimbing(), gain=0.8) == [4, 5, 3]


def test_hill_climbing_does_not_try_more_on_saturated_cores():
    rule = HillClimbing()
    rule.decide(snapshot(now=0.0, started=1, **BACKLOG))
    busy = snapshot(
        now=0.2, interval=0.2, started=1, completions=100, process_time=0.199, **BACKLOG
    )
    assert rule.decide(busy).size == 4


def test_hill_climbing_opens_the_gate_when_no_task_is_taken_up():
    rule = HillClimbing()
    rule.decide(snapshot(now=0.0, started=1, **BACKLOG))
    assert rule.decide(snapshot(now=0.6, interval=0.6, **BACKLOG)).size == 5


def test_stall_aware_replaces_workers_that_are_stuck():
    rule = StallAware(0.06, active=4)
    ages = (0.01, 0.05, 0.07, 0.5)
    decision = rule.decide(snapshot(run_ages=ages, **BACKLOG))
    assert decision.size == 6
    assert decision.recheck == pytest.approx(0.01)


def test_stall_aware_does_not_count_workers_that_said_they_block():
    assert asked(StallAware(active=4), BACKLOG | {"blocked": 3}) == [7]


def test_gil_aware_vetoes_growth_for_tasks_that_hardly_wait():
    hungry = BACKLOG | {"completions": 10, "run_time": 1.0, "interval": 1.0}
    assert asked(GilAware(KeepAlive()), hungry | {"cpu_time": 0.8}) == [4]
    assert asked(GilAware(KeepAlive()), hungry | {"cpu_time": 0.2}) == [44]


def test_gil_aware_vetoes_growth_on_saturated_cores_and_knows_how_many_there_are():
    hungry = BACKLOG | {"completions": 10, "run_time": 10.0, "process_time": 0.95, "interval": 1.0}
    assert asked(GilAware(KeepAlive()), hungry | {"cores": 8.0, "gil": True}) == [4]
    assert asked(GilAware(KeepAlive()), hungry | {"cores": 8.0, "gil": False}) == [44]


def test_clamped_says_that_it_limited():
    decision = Clamped(Fixed(50), 1, 10).decide(snapshot())
    assert decision == Decision(10, "fixed, limited from 50")
    assert Clamped(Fixed(1), 3).decide(snapshot()).size == 3
    assert Clamped(Fixed(5), 3, 10).decide(snapshot()) == Decision(5, "fixed")


class Says:
    """Recommends one size after the other."""

    def __init__(self, *sizes):
        self.sizes = list(sizes)

    def decide(self, snapshot):
        return Decision(self.sizes.pop(0), "as told")


def test_stabilised_grows_at_once_and_shrinks_to_the_window_s_largest():
    rule = Stabilised(Says(9, 3, 5, 3, 3), window=1.0)
    times = [(0.0, 4), (0.5, 9), (0.9, 9), (1.2, 9), (2.0, 5)]
    sizes = [rule.decide(snapshot(now=at, workers=workers)).size for at, workers in times]
    assert sizes == [9, 9, 9, 5, 3]


def test_vetoed_asks_only_about_growth_and_gives_the_objection():
    asked_about = []

    def object_(state):
        asked_about.append(state.workers)
        return "no memory left"

    rule = Vetoed(Says(9, 4, 2), object_)
    assert rule.decide(snapshot(workers=4)) == Decision(4, "vetoed: no memory left")
    assert [rule.decide(snapshot(workers=4)).size for _ in range(2)] == [4, 2]
    assert asked_about == [4]


# -- Adaptive -------------------------------------------------------------------------------


BURST = {"busy": 2, "queued": 198}


def test_adaptive_looks_what_the_tasks_do_then_grows_for_those_that_wait():
    rule = Adaptive()
    first = rule.decide(snapshot(now=0.0, interval=0.0, **BURST))
    assert first.size == 2
    assert first.recheck == 0.003
    later = snapshot(now=0.003, interval=0.003, process_time=0.0004, **BURST)
    assert rule.decide(later).size == 200


def test_adaptive_does_not_grow_while_the_cores_are_busy():
    rule = Adaptive()
    rule.decide(snapshot(now=0.0, interval=0.0, **BURST))
    later = snapshot(now=0.003, interval=0.003, process_time=0.003, **BURST)
    assert rule.decide(later).size == 2


def test_adaptive_bears_a_wait_that_is_short_beside_the_run_time():
    rule = Adaptive(patience=0.25)
    known = {"completions": 100, "run_time": 10.0, "interval": 0.3, "busy": 8, "workers": 8}
    rule.decide(snapshot(now=1.0, **known))
    one = {"workers": 8, "busy": 8, "queued": 1, "interval": 0.01}
    assert rule.decide(snapshot(now=1.01, oldest_wait=0.01, **one)).size == 8
    assert rule.decide(snapshot(now=1.03, oldest_wait=0.03, **one)).size == 9


def test_adaptive_replaces_workers_that_said_they_block_even_on_busy_cores():
    rule = Adaptive()
    busy = {"workers": 4, "busy": 4, "blocked": 3, "queued": 9, "process_time": 0.1}
    decision = rule.decide(snapshot(interval=0.1, cores=2.0, **busy))
    assert decision == Decision(5, "3 workers said they wait")


def test_adaptive_feeds_the_starved_even_on_busy_cores():
    rule = Adaptive()
    stuck = {"interval": 0.1, "process_time": 0.1, **BURST}
    sizes = [
        rule.decide(snapshot(now=1 + i / 10, started=int(not i), **stuck)).size for i in range(6)
    ]
    assert sizes == [2, 2, 2, 2, 2, 3]


def test_adaptive_shrinks_to_what_the_window_used_but_not_for_a_worker_or_two():
    ages = {"workers": 12, "busy": 9, "idle_timeout": 10.0}
    assert Adaptive().decide(snapshot(idle_ages=(11.0, 10.5, 10.2), **ages)).size == 9
    assert Adaptive().decide(snapshot(idle_ages=(11.0, 1.0, 0.2), **ages)).size == 12
    assert Adaptive().decide(snapshot(idle_ages=(41.0, 1.0, 0.2), **ages)).size == 11


def test_adaptive_does_not_take_back_a_shrink_because_busy_workers_cannot_leave_yet():
    rule = Adaptive()
    rule.decide(snapshot(workers=12, busy=8, idle_ages=(11.0,) * 4))
    late = rule.decide(snapshot(now=1.1, workers=10, busy=10))
    assert late.size == 8


def contended(rule, windows, slope=0.02 / 64):
    """Let it see a service whose calls take longer the more of them are in flight."""
    for i in range(windows):
        flight = 1 + i % 5
        run_time = 0.02 + slope * flight**2
        seen = {"completions": 10, "run_time": 0.2 * flight, "workers": 8, "busy": flight}
        seen["completions"] = round(seen["run_time"] / run_time)
        rule.decide(snapshot(now=i * 0.2, interval=0.2, **seen))


def test_adaptive_does_not_grow_beyond_where_more_calls_slow_one_another_down():
    rule = Adaptive()
    contended(rule, 30)
    burst = {"workers": 8, "busy": 8, "queued": 60, "interval": 0.01}
    decision = rule.decide(snapshot(now=6.1, oldest_wait=0.1, **burst))
    assert decision.size == 8
    assert decision.reason == "more than 8 at once slow one another down"


def test_adaptive_grows_for_the_same_burst_without_that_experience():
    rule = Adaptive()
    contended(rule, 30, slope=0.0)
    burst = {"workers": 8, "busy": 8, "queued": 60, "interval": 0.01}
    assert rule.decide(snapshot(now=6.1, oldest_wait=0.1, **burst)).size == 66


@pytest.mark.parametrize(("busy", "saturated"), [(10, False), (30, None)])
def test_busy_cores_are_not_saturated_while_they_could_feed_many_more_such_tasks(busy, saturated):
    judge = Saturation(limit=0.7, probe=0.003)
    # 50 tasks of 200 ms, of which 8 ms on a core: one core could feed 25.
    work = {"completions": 50, "run_time": 10.0, "cpu_time": 0.4, "process_time": 0.45}
    seen = snapshot(interval=0.5, workers=busy, busy=busy, queued=99, **work)
    judge.observe(seen)
    assert judge.verdict(seen, few=False) is saturated


def test_a_process_that_uses_more_than_one_core_is_not_held_to_one_by_the_gil():
    judge = Saturation(limit=0.7, probe=0.003)
    seen = snapshot(interval=0.2, workers=2, busy=2, queued=9, process_time=0.4, cores=8.0)
    judge.observe(seen)
    assert judge.verdict(seen, few=False) is None
    later = snapshot(interval=0.003, workers=2, busy=2, queued=9, process_time=0.006, cores=8.0)
    judge.observe(later)
    assert judge.verdict(later, few=False) is False


def test_contention_forgets_when_the_service_itself_has_changed():
    seen = Contention()
    for i in range(40):
        slow = 10 if i >= 20 else 1  # the calls take longer, and so more are in flight
        flight = (1 + i % 3) * slow
        run_time, count = 0.02 * slow, 10 + 10 * (i % 3)
        seen.observe(
            snapshot(
                interval=count * run_time / flight, completions=count, run_time=count * run_time
            )
        )
    assert seen.peak() == math.inf


def tried(trial, run_times):
    """The gain a trial finds when tasks take so long at each size, and those begun before 1 s."""
    gain, left = None, 0
    while gain is None:
        if left > 0:
            left, took = left - 5, 1.0
        else:
            took = run_times[trial.size]
        size = trial.size
        gain = trial.observe(snapshot(interval=0.1, completions=5, run_time=5 * took))
        left = size if trial.size != size else left
    return gain


def test_a_trial_compares_throughputs_and_leaves_out_tasks_begun_before():
    gain = tried(Trial(10, 15, settled=True), {10: 0.10, 15: 0.125})
    assert gain == pytest.approx(1.2)
    assert not Trial(10, 15).won(1.2)
    assert Trial(10, 15).won(1.26)


def test_a_trial_at_the_start_of_a_burst_leaves_out_what_the_base_size_had_begun():
    trial = Trial(10, 15)
    for took in (9.0, 9.0):
        assert trial.observe(snapshot(completions=5, run_time=5 * took)) is None
    assert tried(trial, {10: 0.10, 15: 0.15}) == pytest.approx(1.0)


def test_a_trial_of_fewer_is_won_when_as_much_gets_done():
    assert Trial(64, 32).won(0.95)
    assert not Trial(64, 32).won(0.8)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Fixed(0), "size"),
        (lambda: KeepAlive(0), "idle_timeout"),
        (lambda: QueueThreshold(high=0.1), "high"),
        (lambda: QueueThreshold(step_up=0), "step_up"),
        (lambda: Adaptive(probe=float("nan")), "probe"),
        (lambda: Adaptive(patience=-1), "patience"),
        (lambda: QueueDelay(0), "target"),
        (lambda: LittlesLaw(drain=0), "drain"),
        (lambda: Aimd(backoff=1.0), "backoff"),
        (lambda: Gradient(tolerance=0.5), "tolerance"),
        (lambda: HillClimbing(period=-1), "period"),
        (lambda: StallAware(active=0), "active"),
        (lambda: Clamped(Fixed(), 5, 3), "most"),
        (lambda: Stabilised(Fixed(), 0), "window"),
    ],
)
def test_a_bad_argument_is_named(make, named):
    with pytest.raises(ValueError, match=f"^{named} must be"):
        make()
