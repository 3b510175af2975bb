"""Watchdog: whom it reports, how often, and what it says."""

from __future__ import annotations

import sys
import threading

import pytest

from threadkit import DynamicThreadPool, RunningTask, Stall, Watchdog
from threadkit._monitor._pool_watch import PoolWatch
from threadkit.testing import SimRuntime, schedules


def report_into(stalls):
    return lambda stall: stalls.append((stall.label, stall.seconds))


@schedules(60)
def test_silence_is_reported_once_with_what_was_being_done(sim):
    stalls = []
    with Watchdog(10.0, on_stall=report_into(stalls), runtime=sim) as watchdog:
        with watchdog.guard("speak") as guard:
            sim.sleep(9.0)
            guard.beat("sentence 2")
            sim.sleep(9.0)
            assert stalls == []
            sim.sleep(50.0)
            assert stalls == [("sentence 2", 10.0)]
            assert watchdog.statistics().stalled == 1
            guard.beat()  # it goes on, and hangs again
            assert watchdog.statistics().recovered == 1
            sim.sleep(11.0)
        assert stalls == [("sentence 2", 10.0), ("sentence 2", 10.0)]
        guard.beat("too late")
        sim.sleep(100.0)
    seen = watchdog.statistics()
    assert (seen.guarded, seen.stalled, seen.stalls, seen.recovered) == (0, 0, 2, 2)


@schedules(60, preempt=["threadkit._monitor._watchdog"])
def test_each_silent_thread_is_reported_and_nobody_else(sim):
    stalls = []
    watchdog = Watchdog(5.0, on_stall=report_into(stalls), runtime=sim).start()

    def work(name, seconds):
        sim.sleep(1.0 if name == "late" else 0.0)
        with watchdog.guard(name):
            sim.sleep(seconds)

    jobs = {"quick": 4.0, "stuck": 7.0, "late": 7.0}
    threads = [sim.thread(work, args=job) for job in jobs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    watchdog.stop()
    assert sorted(stalls) == [("late", 5.0), ("stuck", 5.0)]


@schedules(60)
def test_a_task_of_a_pool_that_runs_too_long_is_reported_once(sim):
    stalls = []
    with (
        DynamicThreadPool(min_workers=1, max_workers=3, runtime=sim) as pool,
        Watchdog(10.0, on_stall=report_into(stalls), runtime=sim) as watchdog,
    ):
        watchdog.watch_pool("work", pool)
        sim.sleep(33.0)  # in the middle between two looks
        slow = pool.with_options(label="slow").submit(sim.sleep, 25.0)
        pool.submit(sim.sleep, 9.0)
        sim.sleep(24.0)
        assert [label for label, _ in stalls] == ["slow"]
        assert 10.0 <= stalls[0][1] < 10.1
        assert watchdog.statistics().stalled == 1
        slow.result()
        sim.sleep(20.0)
        seen = watchdog.statistics()
        assert (seen.stalls, seen.stalled, seen.recovered) == (1, 0, 1)
        assert seen.pools == ("work",)
        watchdog.forget_pool("work")
        pool.submit(sim.sleep, 30.0).result()
        assert watchdog.statistics().stalls == 1


def test_a_worker_that_just_takes_its_task_is_not_taken_for_a_stuck_one():
    """Between two of a worker's lines its new task is seen with the time of its last one."""
    seen = [RunningTask("old time", "w", 1, 0.0, 50.0)], [RunningTask("own time", "w", 1, 50.0, 0)]
    looks = iter(seen)

    class Pool:
        def running(self):
            return next(looks)

    watch = PoolWatch(Pool(), 10.0)
    first = watch.look()
    assert (first.stuck, first.again_in < 1) == ([], True)
    assert watch.look() == ([], 0, 10.0)


def test_the_stack_of_a_task_that_ended_meanwhile_is_not_told():
    task = RunningTask("gone", "w", threading.get_ident(), 0.0, 50.0)
    seen = iter([[task], [task], []])

    class Pool:
        def running(self):
            return next(seen)

    watch = PoolWatch(Pool(), 10.0)
    watch.look()
    assert watch.look().stuck == [task]
    assert not watch.runs(task)


def test_a_task_without_a_label_is_named_after_its_pool():
    stalls, reported, gate = [], threading.Event(), threading.Event()

    def tell(stall):
        stalls.append(str(stall))
        reported.set()

    with DynamicThreadPool(max_workers=1) as pool, Watchdog(0.05, on_stall=tell) as watchdog:
        watchdog.watch_pool("work", pool)
        pool.submit(gate.wait, 30)
        assert reported.wait(10)
        gate.set()
    assert stalls[0].startswith("a task of work gave no sign of life")


def test_two_pools_of_one_name_are_refused():
    watchdog = Watchdog(1.0)
    with DynamicThreadPool(max_workers=1) as pool:
        watchdog.watch_pool("work", pool)
        with pytest.raises(ValueError, match="'work' is watched already"):
            watchdog.watch_pool("work", pool)


def test_a_pool_costs_one_look_each_stall_seconds():
    sim = SimRuntime(1)
    looks = []

    class Pool:
        def running(self):
            looks.append(sim.monotonic())
            return ()

    def main():
        with Watchdog(30.0, runtime=sim) as watchdog:
            watchdog.watch_pool("work", Pool())
            sim.sleep(3600.0)

    sim.run(main)
    assert len(looks) == 121


def test_with_nothing_to_watch_it_does_not_wake():
    def scenario(sim):
        with Watchdog(1.0, runtime=sim) as watchdog:
            sim.sleep(3600.0)
            before = sim.steps
            sim.sleep(3600.0)
            assert sim.steps - before < 5
            for _ in range(100):  # a guard that is gone wakes it once a stall at most
                with watchdog.guard("short"):
                    sim.sleep(0.001)

    sim = SimRuntime()
    sim.run(scenario, sim)


def test_a_report_names_the_line_it_stands_at():
    reports, reported, gate = [], threading.Event(), threading.Event()

    def on_stall(stall):
        reports.append(stall)
        reported.set()

    def get_stuck_here():
        gate.wait(30)

    def work():
        with watchdog.guard("the task"):
            get_stuck_here()

    with Watchdog(0.01, on_stall=on_stall) as watchdog:
        thread = threading.Thread(target=work, name="worker-7")
        thread.start()
        assert reported.wait(30)
        gate.set()
        thread.join(30)
    (stall, *_) = reports
    assert (stall.label, stall.thread) == ("the task", "worker-7")
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        assert stall.stack is not None
        assert any("in get_stuck_here" in line for line in stall.stack)
        assert "gate.wait(30)" in str(stall)
    assert str(stall).startswith("the task gave no sign of life for ")


def test_without_a_callback_it_is_logged(caplog):
    def scenario(sim):
        with Watchdog(1.0, runtime=sim) as watchdog, watchdog.guard("the task"):
            sim.sleep(2.0)

    sim = SimRuntime()
    sim.run(scenario, sim)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "the task gave no sign of life for 1 s in" in record.message


def test_a_callback_that_raises_does_not_end_the_watch(monkeypatch):
    reported = []
    monkeypatch.setattr("sys.unraisablehook", reported.append)

    def scenario(sim):
        with Watchdog(1.0, on_stall=lambda stall: 1 / 0, runtime=sim) as watchdog:
            for _ in range(2):
                with watchdog.guard("the task"):
                    sim.sleep(2.0)
        assert watchdog.statistics().callback_errors == 2

    sim = SimRuntime()
    sim.run(scenario, sim)
    assert [report.err_msg for report in reported] == ["watchdog: on_stall raised"] * 2


def test_a_callback_may_stop_the_watchdog_and_it_may_start_again():
    def scenario(sim):
        stalls = []

        def on_stall(stall):
            stalls.append(stall.label)
            watchdog.stop()

        watchdog = Watchdog(1.0, on_stall=on_stall, runtime=sim).start()
        with watchdog.guard("first"), watchdog.guard("second"):
            sim.sleep(5.0)
            assert stalls[:1] == ["first"]
            watchdog.stop()
            stalls.clear()
            watchdog.start()
            with watchdog.guard("third"):
                sim.sleep(5.0)
        watchdog.stop()
        assert stalls == ["third"]

    for seed in range(20):
        sim = SimRuntime(seed=seed)
        sim.run(scenario, sim)


def test_a_stall_without_a_stack_is_one_line():
    assert str(Stall("a", "t", 1.5, None)) == "a gave no sign of life for 1.5 s in t"


def test_no_patience_is_refused():
    with pytest.raises(ValueError, match="stall must be more than 0 seconds, not 0"):
        Watchdog(0)
