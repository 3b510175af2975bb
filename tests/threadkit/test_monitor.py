"""ResourceMonitor: forecasts, levels, samples, its thread."""

from __future__ import annotations

import asyncio
import itertools
import random
from math import inf

import pytest

from threadkit import Reading, ResourceLevel, ResourceMonitor
from threadkit._monitor import Forecast, SystemReadings, Watch
from threadkit.testing import SimRuntime

OK, WARN, CRITICAL = ResourceLevel

# -- forecasts ------------------------------------------------------------------------------


def first_alarm(series, seconds=600, limit=100.0, horizon=180.0):
    """The second at which the end was in sight for the third time in a row; None: never."""
    forecast, in_a_row = Forecast(), 0
    for second in range(seconds):
        forecast.add(float(second), series(second))
        in_a_row = in_a_row + 1 if forecast.seconds_left(limit) <= horizon else 0
        if in_a_row == 3:
            return second
    return None


def flat(_seed):
    return lambda second: 60.0


def noise(seed):
    gauss = random.Random(seed).gauss
    return lambda second: gauss(50.0, 2.0)


def spikes(seed):
    rng = random.Random(seed)
    return lambda second: rng.gauss(50.0, 0.5) + (30.0 if rng.random() < 0.05 else 0.0)


def saw_tooth(seed):
    rng = random.Random(seed)
    phase, period = rng.uniform(0, 60), rng.uniform(20, 60)
    return lambda second: 40.0 + 35.0 * ((second + phase) % period) / period + rng.gauss(0, 0.3)


def step(_seed):
    return lambda second: 30.0 if second < 300 else 70.0


@pytest.mark.parametrize("make", [flat, noise, spikes, saw_tooth, step])
def test_what_does_not_grow_raises_no_alarm(make):
    assert [seed for seed in range(15) if first_alarm(make(seed)) is not None] == []


@pytest.mark.parametrize("make", [flat, spikes, saw_tooth])
def test_a_leak_is_seen_whatever_it_is_mixed_with(make):
    for seed in range(10):
        series = make(seed)
        alarm = first_alarm(
            lambda second, series=series: 0.7 * series(second) + 0.5 * max(0, second - 300)
        )
        assert alarm is not None
        assert 300 < alarm < 420, seed


def test_a_forecast_is_the_time_that_is_left():
    forecast = Forecast()
    for second in range(200):
        forecast.add(float(second), 20.0 if second < 150 else 20.0 + (second - 150))
    # 5 points' median lags by two seconds.
    assert forecast.seconds_left(100.0) == pytest.approx(100.0 - 67.0)
    assert forecast.seconds_left(30.0) == 0.0
    assert Forecast().seconds_left(1.0) == inf


def test_nothing_is_foretold_while_a_program_warms_up():
    assert first_alarm(lambda second: min(50.0, 2.0 * second), seconds=60) is None


def test_a_forecast_remembers_two_minutes_only():
    forecast = Forecast()
    for step in range(100_000):
        forecast.add(step * 0.01, 50.0)
    assert len(forecast._points) <= 241


# -- levels ---------------------------------------------------------------------------------


def levels_of(ratios, **marks):
    watch = Watch("slots", **marks)
    for second, ratio in enumerate(ratios):
        watch.update(float(second), Reading(ratio * 100, 100.0))
        yield watch.level


def test_a_level_rises_at_once_and_falls_with_hysteresis():
    ratios = [0.5, 0.79, 0.80, 0.76, 0.92, 0.90, 0.88, 0.86, 0.76, 0.75, 0.74, 0.79, 0.95, 0.1]
    assert list(levels_of(ratios)) == [
        OK, OK, WARN, WARN, CRITICAL, CRITICAL, CRITICAL, WARN, WARN, WARN, OK, OK, CRITICAL, OK,
    ]  # fmt: skip


def test_a_ratio_that_wavers_about_a_mark_changes_the_level_once():
    wavering = [0.5] + [0.81, 0.79] * 50
    levels = list(levels_of(wavering))
    assert sum(a != b for a, b in itertools.pairwise(levels)) == 1


def test_a_forecast_warns_and_its_end_takes_the_warning_back():
    watch = Watch("slots")
    changes = []
    for second in range(400):
        used = 20.0 if second < 100 else min(20.0 + 0.5 * (second - 100), 55.0)
        change = watch.update(float(second), Reading(used, 100.0))
        if change is not None:
            changes.append(change)
    assert [(change.level, change.previous, change.reason) for change in changes] == [
        (WARN, OK, "forecast"),
        (OK, WARN, "forecast"),
    ]
    assert changes[0].seconds_left <= 180.0
    assert changes[0].reading.ratio < 0.5  # long before the ratio would have warned
    assert watch.seconds_left == inf


def test_a_metric_without_a_limit_has_no_level():
    watch = Watch("threads")
    assert watch.update(0.0, Reading(1e9)) is None
    assert watch.level is OK
    assert Reading(1.0).ratio is None


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"warn": 0.5}, "clear, warn and critical must be ratios"),
        ({"critical": 0.7}, "clear, warn and critical must be ratios"),
        ({"clear": 0.0}, "clear, warn and critical must be ratios"),
        ({"horizon": -1.0}, "horizon must be at least 0 seconds, not -1.0"),
        ({"confirm": 0}, "confirm must be at least 1, not 0"),
    ],
)
def test_marks_that_make_no_sense_are_refused(marks, message):
    with pytest.raises(ValueError, match=message):
        Watch("slots", **marks)


# -- samples --------------------------------------------------------------------------------


def fixed(used, limit=100.0):
    return lambda: Reading(used, limit)


def broken():
    raise OSError("gone")


def test_what_cannot_be_read_is_absent_and_counted():
    monitor = ResourceMonitor(
        sources={"good": fixed(1.0), "broken": broken, "not now": lambda: None}
    )
    sample = monitor.sample()
    assert dict(sample.readings) == {"good": Reading(1.0, 100.0)}
    assert monitor.latest is sample
    seen = monitor.statistics()
    assert (seen.samples, seen.read_errors, seen.running) == (1, 1, False)


def test_listeners_hear_of_changes_outside_the_lock():
    used = iter([10.0, 85.0, 95.0, 10.0])
    monitor = ResourceMonitor(sources={"slots": lambda: Reading(next(used), 100.0)})
    heard = []
    monitor.watch("slots", on_change=lambda change: heard.append((change.level, len(heard))))
    monitor.subscribe(lambda change: heard.append(monitor.statistics().levels["slots"]), "slots")
    for _ in range(4):
        monitor.sample()
    assert heard == [(WARN, 0), WARN, (CRITICAL, 2), CRITICAL, (OK, 4), OK]


def test_a_listener_that_raises_silences_nobody(monkeypatch):
    reported, heard = [], []
    monkeypatch.setattr("sys.unraisablehook", reported.append)
    monitor = ResourceMonitor(sources={"slots": fixed(99.0)}, name="eyes")
    monitor.watch("slots", on_change=lambda change: 1 / 0)
    monitor.subscribe(heard.append)
    monitor.sample()
    assert len(heard) == 1
    assert monitor.statistics().listener_errors == 1
    assert reported[0].err_msg == "eyes: a listener raised"


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="period must be more than 0 seconds, not 0"):
        ResourceMonitor(period=0, sources={})
    monitor = ResourceMonitor(sources={"a": fixed(1.0), "b": fixed(1.0)})
    with pytest.raises(ValueError, match="metric must be one of a, b, not 'c'"):
        monitor.watch("c")
    monitor.watch("a")
    with pytest.raises(ValueError, match="metric 'a' is watched already"):
        monitor.watch("a")
    with pytest.raises(ValueError, match="metric 'b' is not watched"):
        monitor.subscribe(print, "b")


def test_a_table_shows_the_last_sample():
    monitor = ResourceMonitor(sources={"bytes": fixed(3 * 2**30, 2**34), "threads": fixed(7, None)})
    monitor.watch("bytes", warn=0.1, clear=0.05)
    assert monitor.table() == "metric  used  limit  ratio  level  left"
    monitor.sample()
    assert monitor.table().splitlines() == [
        "metric   used    limit  ratio  level  left",
        "bytes    3072Mi  16Gi   18.8%  WARN",
        "threads  7",
    ]


def test_the_system_is_read():
    readings = ResourceMonitor().sample().readings
    assert {"memory", "rss", "cpu", "threads", "disk"} <= set(readings)
    assert 0 < readings["rss"].used < readings["rss"].limit
    assert 0 < readings["memory"].ratio < 1
    assert readings["threads"].used >= 1
    assert readings["cpu"].used >= 0


def test_without_psutil_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psutil", None)
    with pytest.raises(RuntimeError, match=r"pip install 'threadkit\[monitor\]'"):
        SystemReadings()


# -- the thread -----------------------------------------------------------------------------


def test_it_samples_each_period_until_it_is_stopped():
    def scenario(sim):
        times = []
        monitor = ResourceMonitor(
            period=2.0, sources={"slots": lambda: times.append(sim.monotonic())}, runtime=sim
        )
        monitor.start()
        assert monitor.start() is monitor  # does nothing the second time
        sim.sleep(9.0)
        assert monitor.statistics().running
        assert monitor.stop(timeout=60.0)
        assert monitor.stop()
        sim.sleep(10.0)
        assert times == [0.0, 2.0, 4.0, 6.0, 8.0]
        with monitor:
            sim.sleep(1.0)
        assert len(times) == 6
        assert not monitor.statistics().running

    for seed in range(20):
        sim = SimRuntime(seed=seed)
        sim.run(scenario, sim)


def test_lag_is_how_late_a_sample_came_and_missed_ones_are_not_made_up_for():
    def scenario(sim):
        samples = []
        monitor = ResourceMonitor(
            period=2.0, sources={"slots": lambda: samples.append(sim.monotonic())}, runtime=sim
        )
        monitor.start()
        sim.sleep(1.0)
        sim.advance(4.0)  # the machine was busy elsewhere: it is 5.0, the sample was due at 2.0
        sim.sleep(1.0)
        assert monitor.latest.readings["lag"] == Reading(3.0)
        sim.sleep(2.0)
        assert monitor.latest.readings["lag"] == Reading(0.0)
        monitor.stop()
        assert samples == [0.0, 5.0, 7.0]

    sim = SimRuntime()
    sim.run(scenario, sim)


def test_a_listener_may_stop_the_monitor():
    def scenario(sim):
        monitor = ResourceMonitor(sources={"slots": fixed(99.0)}, runtime=sim)
        stopped = []
        monitor.watch("slots", on_change=lambda _: stopped.append(monitor.stop()))
        monitor.start()
        sim.sleep(5.0)
        assert stopped == [True]
        assert monitor.statistics().samples == 1

    for seed in range(20):
        sim = SimRuntime(seed=seed)
        sim.run(scenario, sim)


def test_a_thread_that_cannot_be_had_leaves_it_stopped():
    def scenario(sim):
        monitor = ResourceMonitor(sources={}, runtime=sim)
        sim.fail_thread_starts(1)
        with pytest.raises(RuntimeError):
            monitor.start()
        assert not monitor.statistics().running
        with monitor:
            assert monitor.statistics().running

    sim = SimRuntime()
    sim.run(scenario, sim)


def test_the_lag_of_an_event_loop_is_read():
    async def main():
        monitor = ResourceMonitor(sources={})
        monitor.watch_loop(asyncio.get_running_loop(), "main")
        assert "lag:main" not in monitor.sample().readings  # the callback is on its way
        held_up = monitor.sample().readings["lag:main"].used
        assert held_up >= 0  # it still is: the loop has been busy with us
        await asyncio.sleep(0)
        monitor.sample()
        await asyncio.sleep(0)
        assert monitor.sample().readings["lag:main"].used >= 0
        return monitor

    monitor = asyncio.run(main())
    monitor.sample()
    assert monitor.statistics().read_errors == 0  # a closed loop is absent, not an error
