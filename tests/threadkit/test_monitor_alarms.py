"""Samples that are due at once: an alarm's, and the Linux kernel's pressure trigger."""

import queue
import threading
from pathlib import Path

import pytest

from threadkit import Reading, ResourceMonitor
from threadkit._monitor._readings import SystemReadings
from threadkit._platform import CgroupMemory, PressureTrigger, pressure_trigger
from threadkit.testing import explore

WAIT = 10


class Alarm:
    """Goes off when the test says so."""

    def __init__(self, sim):
        self.words = sim.simple_queue()
        self.closed = 0

    def wait(self):
        return self.words.get()

    def interrupt(self):
        assert not self.closed
        self.words.put(False)

    def close(self):
        self.closed += 1


def test_an_alarm_has_a_sample_taken_at_once():
    def scenario(sim):
        samples, alarms = [], []

        def open_alarm():
            alarms.append(Alarm(sim))
            return alarms[-1]

        monitor = ResourceMonitor(
            period=100.0,
            sources={"slots": lambda: samples.append(sim.monotonic())},
            alarm=open_alarm,
            runtime=sim,
        )
        assert monitor.statistics().alarms is None
        with monitor:
            sim.sleep(7.0)
            alarms[0].words.put(True)
            sim.sleep(1.0)
            assert samples == [0.0, 7.0]
            assert monitor.statistics().alarms == 1
        assert alarms[0].closed == 1
        with monitor:
            sim.sleep(1.0)
            assert (len(alarms), alarms[1].closed) == (2, 0)
        assert alarms[1].closed == 1

    explore(scenario, 30)


def test_an_alarm_that_ends_by_itself_leaves_the_samples_to_their_turn():
    def scenario(sim):
        alarm = Alarm(sim)
        monitor = ResourceMonitor(sources={}, alarm=lambda: alarm, runtime=sim)
        with monitor:
            alarm.words.put(False)
            sim.sleep(3.5)
            assert alarm.closed == 1
            assert monitor.statistics().samples == 4
        assert alarm.closed == 1

    explore(scenario, 20)


def test_no_alarm_and_no_thread_for_one_are_fine():
    def scenario(sim):
        alarm = Alarm(sim)

        def open_alarm():
            sim.fail_thread_starts()
            return alarm

        for opens in (open_alarm, lambda: None):
            monitor = ResourceMonitor(sources={}, alarm=opens, runtime=sim)
            with monitor:
                sim.sleep(1.5)
                assert monitor.statistics().samples == 2
        assert alarm.closed == 1

    explore(scenario, 10)


def test_a_listener_may_stop_the_monitor_from_the_alarms_thread():
    def scenario(sim):
        alarm = Alarm(sim)
        monitor = ResourceMonitor(
            period=100.0, sources={"slots": lambda: Reading(1)}, alarm=lambda: alarm, runtime=sim
        )
        monitor.start()
        sim.sleep(1.0)
        monitor.on_sample(lambda sample: monitor.stop())
        alarm.words.put(True)
        sim.sleep(1.0)
        assert not monitor.statistics().running
        assert monitor.stop()
        assert alarm.closed == 1

    explore(scenario, 20)


# -- the kernel's -----------------------------------------------------------------------------


def test_the_trigger_is_what_the_kernel_wants_to_hear(tmp_path):
    file = tmp_path / "memory"
    file.touch()
    trigger = pressure_trigger(None, tmp_path)
    assert file.read_bytes() == b"some 150000 2000000\0"
    trigger.close()


def test_the_trigger_of_the_control_group_comes_before_the_machines(tmp_path):
    group = CgroupMemory(1000, tmp_path / "group")
    group.folder.mkdir()
    (tmp_path / "memory").touch()
    pressure_trigger(group, tmp_path).close()
    assert (tmp_path / "memory").read_bytes() != b""  # a group of version 1 has none
    (tmp_path / "memory").write_bytes(b"")
    (group.folder / "memory.pressure").touch()
    pressure_trigger(group, tmp_path).close()
    assert (group.folder / "memory.pressure").read_bytes() == b"some 150000 2000000\0"
    assert (tmp_path / "memory").read_bytes() == b""


def test_without_pressure_files_there_is_no_trigger_and_no_descriptor_is_left(tmp_path):
    before = SystemReadings().sources()["files"]()
    for _ in range(10):
        assert pressure_trigger(None, tmp_path) is None
    if Path("/dev/full").exists():  # it opens, and refuses to be written to
        with pytest.raises(OSError, match="No space left"):
            PressureTrigger(Path("/dev/full"))
    assert SystemReadings().sources()["files"]() == before


def test_the_kernels_trigger_waits_until_it_is_interrupted():
    trigger = pressure_trigger(None)
    if trigger is None:
        pytest.skip("this kernel gives no pressure triggers")
    answers = queue.SimpleQueue()

    def wait():
        while trigger.wait():
            pass  # this machine is really short of memory now
        answers.put("interrupted")

    waiter = threading.Thread(target=wait)
    waiter.start()
    trigger.interrupt()
    assert answers.get(timeout=WAIT) == "interrupted"
    waiter.join(WAIT)
    trigger.close()


def test_a_monitor_of_the_system_arms_it_and_gives_it_back():
    files = SystemReadings().sources()["files"]
    before = files()
    monitor = ResourceMonitor(period=3600)
    armed = pressure_trigger(None)
    with monitor:
        assert (monitor.statistics().alarms is None) == (armed is None)
    if armed is not None:
        armed.close()
    assert files() == before
