"""A manager with a monitor, a governor and a watchdog: when they begin, act and end."""

import threading
from math import inf

import pytest

from threadkit import (
    ComponentManager,
    Governor,
    Reading,
    ResourceMonitor,
    StartupError,
    TTLCache,
    Watchdog,
)
from threadkit.testing import explore

WAIT = 10


class Memory:
    """A monitor whose memory the test sets."""

    def __init__(self, runtime=None, period=1.0):
        self.ratio = 0.5
        options = {} if runtime is None else {"runtime": runtime}
        self.monitor = ResourceMonitor(
            period=period, sources={"memory": lambda: Reading(self.ratio, 1.0)}, **options
        )


def fill(cache, count):
    for number in range(count):
        cache.put(number, None)


class Part:
    def start(self, ctx):
        pass

    def stop(self, ctx):
        pass


def test_the_monitor_runs_while_the_manager_does():
    memory = Memory()
    manager = ComponentManager(monitor=memory.monitor)
    assert manager.monitor is memory.monitor
    for _ in range(2):
        with manager:
            assert memory.monitor.statistics().running
        assert not memory.monitor.statistics().running


def test_one_that_ran_before_runs_on():
    memory = Memory()
    with memory.monitor:
        with ComponentManager(governor=Governor(memory.monitor)) as manager:
            assert manager.monitor is memory.monitor
        assert memory.monitor.statistics().running


def test_short_memory_shrinks_the_managers_caches_and_those_of_groups_and_holds_its_pools():
    memory = Memory()
    governor = Governor(memory.monitor)
    manager = ComponentManager(governor=governor)
    group = manager.group("voice")
    answers, sounds = manager.cache("answers", maxsize=1000), group.cache("sounds", maxsize=100)
    unbounded = manager.cache("unbounded", maxsize=inf)
    pool = manager.pool("work", min_workers=1, max_workers=8)
    fill(answers, 1000)
    fill(sounds, 100)
    with manager:
        assert governor.names == {"answers", "voice/sounds", "work"}
        memory.ratio = 0.95
        memory.monitor.sample()
        assert (answers.maxsize, sounds.maxsize) == (900, 90)
        assert pool.statistics().max_workers == 1  # nothing runs, so nothing may start but that
        memory.ratio = 0.5
        for _ in range(3):
            memory.monitor.sample()
        assert (answers.maxsize, sounds.maxsize) == (1000, 100)
        assert pool.statistics().max_workers == 8
        memory.ratio = 0.95
        memory.monitor.sample()
    assert (answers.maxsize, sounds.maxsize, unbounded.maxsize) == (1000, 100, inf)
    assert pool.statistics().max_workers == 8
    assert governor.names == frozenset()


def test_what_was_registered_by_hand_keeps_its_floor_and_its_registration():
    memory = Memory()
    governor = Governor(memory.monitor)
    manager = ComponentManager(governor=governor)
    answers = manager.cache("answers", maxsize=1000)
    governor.cache("answers", answers, floor=0.95)
    other = TTLCache(maxsize=100)
    governor.cache("other", other)
    fill(answers, 1000)
    fill(other, 100)
    with manager:
        memory.ratio = 0.95
        memory.monitor.sample()
        assert (answers.maxsize, other.maxsize) == (950, 90)
    assert governor.names == {"answers", "other"}


def test_sizes_stay_as_they_are_while_the_manager_starts_and_stops():
    def scenario(sim):
        memory = Memory(sim)
        memory.ratio = 0.95
        sizes = {}
        governor = Governor(memory.monitor, runtime=sim)
        manager = ComponentManager(governor=governor, runtime=sim)
        answers = manager.cache("answers", maxsize=1000)

        class Slow(Part):
            def start(self, ctx):
                sim.sleep(5)
                sizes["starting"] = answers.maxsize, governor.statistics().frozen

            def stop(self, ctx):
                before = answers.maxsize
                sim.sleep(5)
                sizes["stopping"] = answers.maxsize - before, governor.statistics().frozen

        manager.add("slow", Slow())
        manager.start()
        sim.sleep(5)
        assert answers.maxsize < 1000
        manager.stop()
        assert sizes == {"starting": (1000, "app is starting"), "stopping": (0, "app is stopping")}
        assert governor.statistics().frozen is None
        assert answers.maxsize == 1000

    explore(scenario, 20)


def test_a_start_that_fails_ends_them_too():
    class Broken(Part):
        def start(self, ctx):
            raise OSError("no device")

    memory, watchdog = Memory(), Watchdog(60)
    governor = Governor(memory.monitor)
    manager = ComponentManager(governor=governor, watchdog=watchdog)
    manager.cache("answers", maxsize=10)
    manager.pool("work", max_workers=1)
    manager.add("broken", Broken())
    with pytest.raises(StartupError):
        manager.start()
    assert not memory.monitor.statistics().running
    assert governor.names == frozenset()
    assert governor.statistics().frozen is None
    assert (watchdog.statistics().running, watchdog.statistics().pools) == (False, ())
    manager.stop()


def test_a_refused_thread_leaves_nothing_begun():
    def scenario(sim):
        memory = Memory(sim)
        governor = Governor(memory.monitor, runtime=sim)
        manager = ComponentManager(governor=governor, runtime=sim)
        manager.cache("answers", maxsize=10)
        sim.fail_thread_starts()
        with pytest.raises(RuntimeError):
            manager.start()
        assert governor.names == frozenset()
        manager.start()
        assert governor.names == {"answers"}
        manager.stop()

    explore(scenario, 5)


def test_a_manager_that_ends_by_itself_ends_the_monitor():
    memory = Memory()
    ended = threading.Event()
    manager = ComponentManager(monitor=memory.monitor)
    manager.service("once", lambda ctx: 1 // 0, restart="temporary", essential=True)
    manager.subscribe(lambda event: ended.set() if event.after.value == "failed" else None)
    manager._begin_start()
    assert ended.wait(WAIT)
    manager._supervisor.join(WAIT)
    assert not memory.monitor.statistics().running
    manager.stop()


def test_the_watchdog_names_a_stuck_task_of_the_managers_pools_and_its_stack():
    stalls, reported, gate = [], threading.Event(), threading.Event()

    def tell(stall):
        stalls.append(stall)
        reported.set()

    def stand_still_here():
        gate.wait(30)

    watchdog = Watchdog(0.05, on_stall=tell)
    manager = ComponentManager(watchdog=watchdog)
    pool = manager.group("voice").pool("speakers", max_workers=2)
    with manager:
        assert watchdog.statistics().pools == ("voice/speakers",)
        stuck = pool.with_options(label="say hello").submit(stand_still_here)
        assert reported.wait(WAIT)
        gate.set()
        stuck.result(WAIT)
    (stall,) = stalls
    assert (stall.label, stall.thread.startswith("speakers-worker-")) == ("say hello", True)
    assert stall.stack is None or "stand_still_here" in "".join(stall.stack)
    assert not watchdog.statistics().running


def test_a_governor_of_another_monitor_is_refused():
    with pytest.raises(ValueError, match="governor must go by the samples of monitor"):
        ComponentManager(monitor=Memory().monitor, governor=Governor(Memory().monitor))
