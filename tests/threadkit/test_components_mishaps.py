"""What users and systems get wrong: odd numbers, refused threads, late starts."""

import contextlib
import queue
import signal
import threading
from math import inf, nan

import pytest

from threadkit import (
    Backoff,
    ComponentManager,
    ComponentState,
    Intensity,
    LifecycleError,
    Probe,
    StartupError,
)
from threadkit._components._supervisor import Supervisor
from threadkit.testing import SimRuntime, explore

WAIT = 10


class Part:
    def __init__(self, log=None, name="part"):
        self.log, self.name = [] if log is None else log, name

    def start(self, ctx):
        self.log.append(f"+{self.name}")

    def stop(self, ctx):
        self.log.append(f"-{self.name}")


# -- numbers ----------------------------------------------------------------------------------


def test_durations_without_an_end_are_fine():
    manager = ComponentManager()
    manager.add("part", Part(), start_timeout=inf, stop_timeout=inf, watchdog=inf)
    manager.service("service", lambda ctx: ctx.sleep(inf) or ctx.wait_stopping(inf))
    manager.pool("pool", stop_timeout=inf)
    manager.start(timeout=inf)
    assert manager.wait_ready(timeout=inf)
    assert manager.restart("part", timeout=inf)
    report = manager.stop(timeout=inf)
    assert {part.state for part in report.components} == {ComponentState.STOPPED}


def test_no_timeout_at_all_leaves_a_stop_to_the_components_own():
    manager = ComponentManager()
    manager.add("part", Part())
    manager.start()
    assert manager.stop(timeout=None).abandoned == ()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: m.add("a", Part(), start_timeout=nan), "start_timeout of 'a' must be 0 or more"),
        (lambda m: m.add("a", Part(), stop_timeout=nan), "stop_timeout of 'a' must be 0 or more"),
        (lambda m: m.add("a", Part(), stop_timeout="9"), "stop_timeout of 'a' must be a number"),
        (lambda m: m.add("a", Part(), start_timeout=None), "start_timeout of 'a' must be a number"),
        (lambda m: m.add("a", Part(), watchdog=nan), "watchdog of 'a' must be positive"),
        (lambda m: m.add("a", Part(), needs="bc"), "needs of 'a' must be several names.*'bc'"),
        (lambda m: m.add("", Part()), "name must be a text"),
        (lambda m: m.add(None, Part()), "name must be a text"),
        (lambda m: m.service("a", "not a function"), "fn of 'a' must be a function"),
        (lambda _: Probe(nan), "period must be positive"),
        (lambda _: Intensity(3, per=nan), "per must be positive"),
        (lambda _: Backoff(initial=nan), "initial must be 0 or more"),
        (lambda _: Backoff(factor=nan), "factor must be at least 1"),
        (lambda m: m.start(timeout=-1), "timeout must be 0 or more"),
        (lambda m: m.start(timeout=nan), "timeout must be 0 or more"),
        (lambda m: m.run((), grace=-1), "grace must be 0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make, message):
    manager = ComponentManager()
    with pytest.raises((ValueError, TypeError), match=message):
        make(manager)
    assert manager.report().components == ()


# -- groups -----------------------------------------------------------------------------------


def test_a_listener_hears_of_the_members_of_groups_by_their_path():
    heard = queue.SimpleQueue()
    manager = ComponentManager("bot")
    inner = manager.group("audio").group("out")
    inner.add("player", Part())
    manager.subscribe(heard.put)
    with manager:
        pass
    events = []
    while not heard.empty():
        events.append(heard.get())
    moves = [
        (event.manager, event.component, event.before.value, event.after.value)
        for event in events
        if event.component == "audio/out/player"
    ]
    assert moves == [
        ("bot", "audio/out/player", "new", "starting"),
        ("bot", "audio/out/player", "starting", "running"),
        ("bot", "audio/out/player", "running", "stopping"),
        ("bot", "audio/out/player", "stopping", "stopped"),
    ]
    assert tuple(events) == manager.history()


def test_a_manager_is_a_part_of_one_other_at_most_and_never_of_itself():
    inner = ComponentManager("inner")
    ComponentManager("first").add("group", inner)
    second = ComponentManager("second")
    with pytest.raises(ValueError, match="inner is a part of first already"):
        second.add("group", inner)
    assert second.report().components == ()
    for outer in (second, inner):
        with pytest.raises(ValueError, match=r"is a part of|cannot be a part of itself"):
            inner.add("me", outer) if outer is inner else outer.add("me", outer)
    top, middle = ComponentManager("top"), ComponentManager("middle")
    top.add("middle", middle)
    with pytest.raises(ValueError, match="cannot be a part of itself"):
        middle.add("top", top)


def test_a_group_that_started_too_late_is_taken_back_and_may_start_again():
    def scenario(sim):
        log, slow = [], [15, 0]
        manager = ComponentManager(runtime=sim)
        group = manager.group("group", start_timeout=10, backoff=Backoff(30, 30, jitter=0))

        class Slow(Part):
            def start(self, ctx):
                sim.sleep(slow.pop(0))
                super().start(ctx)

        group.add("slow", lambda: Slow(log), start_timeout=60)
        pool = group.pool("pool", max_workers=1)
        manager.service("first", lambda ctx: ctx.wait_stopping())
        with pytest.raises(StartupError, match="group"):
            manager.start()
        sim.sleep(60)
        assert log == ["+part", "-part"]
        slow.append(0)
        manager.start()  # the pool of the group was not shut down by the late stop
        assert pool.submit(pow, 2, 3).result() == 8
        manager.stop()
        assert log == ["+part", "-part"] * 2

    explore(scenario, 10)


def test_what_was_never_started_is_closed_with_the_manager_in_groups_too():
    manager = ComponentManager()
    group = manager.group("group")
    pool, texts = group.pool("pool", max_workers=1), group.queue("texts")
    assert pool.submit(pow, 2, 3).result(WAIT) == 8
    manager.stop()
    assert texts.closed
    with pytest.raises(RuntimeError):
        pool.submit(pow, 2, 3)


# -- restarts ---------------------------------------------------------------------------------


def test_a_restart_asked_for_starts_what_it_needs_too():
    log = []
    manager = ComponentManager()
    manager.add("device", Part(log, "device"))
    manager.add("voice", Part(log, "voice"), needs=["device"])
    manager.add("other", Part(log, "other"))
    manager.start(only=["other"])
    assert manager.restart("voice", timeout=WAIT)
    assert log == ["+other", "+device", "+voice"]
    manager.stop()


# -- threads ----------------------------------------------------------------------------------


def test_a_stop_is_called_even_where_the_system_refuses_threads_for_a_while():
    def scenario(sim):
        log = []
        manager = ComponentManager(runtime=sim)
        manager.add("a", Part(log, "a"))
        manager.add("b", Part(log, "b"), needs=["a"])
        manager.start()
        sim.fail_thread_starts(3)
        report = manager.stop()
        assert log == ["+a", "+b", "-b", "-a"]
        assert {part.state for part in report.components} == {ComponentState.STOPPED}

    explore(scenario, 20)


def test_where_it_refuses_for_good_a_stop_ends_within_its_budget():
    def scenario(sim):
        manager = ComponentManager(runtime=sim)
        manager.add("a", Part())
        manager.start()
        sim.fail_thread_starts(10**6)
        report = manager.stop(timeout=3)
        assert report.abandoned == ("a",)
        assert sim.monotonic() <= 3.001

    explore(scenario, 5)


def test_a_stop_ends_even_if_the_supervisor_has_a_defect(monkeypatch, caplog):
    def scenario(sim):
        manager = ComponentManager(runtime=sim)
        manager.add("part", Part())
        manager.start()
        began = sim.monotonic()
        report = manager.stop(timeout=3)
        assert sim.monotonic() - began <= 8.001
        assert report.components[0].state is ComponentState.STOPPING
        manager._supervisor.post(manager._supervisor.finish)
        manager._supervisor.join()

    def broken(self, handle, state):
        raise AssertionError("a defect")

    monkeypatch.setattr(Supervisor, "went_down", broken)
    explore(scenario, 3)
    assert "a job of the supervisor failed" in caplog.text


def test_a_component_that_stops_its_manager_does_not_wait_for_itself():
    def scenario(sim):
        told = []
        manager = ComponentManager(runtime=sim)

        def work(ctx):
            sim.sleep(1)
            told.append(manager.stop().components[0].state.is_up)
            ctx.wait_stopping()
            told.append("left")

        manager.service("work", work)
        manager.start()
        sim.sleep(2)
        assert manager._supervisor.is_over
        assert told == [True, "left"]
        assert manager.stop().components[0].state is ComponentState.STOPPED
        assert manager._supervisor.idents == set()

    explore(scenario, 30)


def test_a_start_that_fails_leaves_no_thread_behind_for_listeners():
    class Broken(Part):
        def start(self, ctx):
            raise OSError("no device")

    manager, told = ComponentManager("bot"), []
    manager.add("part", Broken())
    manager.subscribe(told.append)
    with pytest.raises(StartupError):
        manager.start()
    assert not [thread for thread in threading.enumerate() if thread.name == "bot-events"]
    assert [event.after.value for event in told] == ["starting", "failed"]


def test_a_listener_that_subscribes_twice_is_told_twice_until_one_is_undone():
    told = []
    manager = ComponentManager()
    manager.add("part", Part())
    undo = manager.subscribe(told.append)
    manager.subscribe(told.append)
    undo()
    with manager:
        pass
    assert len(told) == 4


def test_events_are_told_again_after_a_second_start():
    told = []
    manager = ComponentManager()
    manager.add("part", Part())
    manager.subscribe(told.append)
    for _ in range(2):
        with manager:
            pass
    assert [event.after.value for event in told] == [
        "starting", "running", "stopping", "stopped",
    ] * 2  # fmt: skip


# -- a program's main -------------------------------------------------------------------------


def test_requests_that_came_too_late_do_not_end_the_next_run():
    manager = ComponentManager()
    runs = []

    def work(ctx):
        runs.append(ctx.generation)
        manager.request_stop()
        manager.request_stop()
        if len(runs) == 2:
            second.set()

    second = threading.Event()
    manager.service("work", work, restart="temporary")
    assert manager.run(signals=(), grace=5) == 0
    assert manager.run(signals=(), grace=5) == 0
    assert len(runs) == 2
    assert second.is_set()


def test_the_signal_that_ended_the_program_is_told(caplog):
    manager = ComponentManager()

    def work(ctx):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
        ctx.wait_stopping()

    manager.service("work", work)
    with caplog.at_level("INFO", "threadkit.components"):
        assert manager.run(grace=5) == 0
    assert "SIGTERM: the program is to end" in caplog.messages


def test_handlers_are_put_back_even_if_one_of_the_signals_cannot_be_heeded():
    before = signal.getsignal(signal.SIGTERM)
    manager = ComponentManager()
    with pytest.raises((OSError, ValueError)):
        manager.run(signals=(signal.SIGTERM, signal.SIGKILL))
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_stop_of_another_thread_ends_a_run():
    manager = ComponentManager()
    manager.service("work", lambda ctx: ctx.wait_stopping())
    heard = threading.Event()
    manager.subscribe(lambda event: heard.set() if event.after.value == "running" else None)

    def stop():
        assert heard.wait(WAIT)
        manager.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    assert manager.run(signals=(), grace=5) == 0
    stopper.join(WAIT)


def test_a_failed_group_says_why_at_the_top():
    def scenario(sim):
        manager = ComponentManager(runtime=sim, intensity=Intensity(0))
        group = manager.group("group", intensity=Intensity(0))
        group.service("work", lambda ctx: 1 // 0)
        with contextlib.suppress(StartupError, LifecycleError):
            manager.start()
        sim.sleep(60)
        report = manager.stop()
        assert "RestartsExhausted" in str(report)

    explore(scenario, 20)


def test_a_runtime_of_its_own_is_passed_on_to_everything(request):
    sim = SimRuntime(1)

    def scenario():
        manager = ComponentManager(runtime=sim)
        pool = manager.pool("pool", max_workers=1)
        with manager:
            assert pool.submit(sim.monotonic).result() == sim.monotonic()

    sim.run(scenario)


# -- groups that are stopped ------------------------------------------------------------------


def start_in_vain(manager):
    with contextlib.suppress(LifecycleError):  # it was stopped meanwhile
        manager.start()


def test_a_group_stopped_while_it_starts_stops_what_it_had_started():
    def scenario(sim):
        log, slow = [], Part()
        slow.start = lambda ctx: ctx.wait_stopping() and log.append("slow was told")
        slow.stop = lambda ctx: log.append("-slow")
        manager = ComponentManager(runtime=sim)
        group = manager.group("group")
        group.add("early", Part(log, "early"))
        group.add("slow", slow, needs=["early"])
        starter = sim.thread(start_in_vain, args=(manager,))
        starter.start()
        sim.sleep(1)
        began_at = sim.monotonic()
        report = manager.stop(5)
        assert log == ["+early", "slow was told", "-slow", "-early"]
        assert sim.monotonic() == began_at
        assert not report.failed
        assert not report.abandoned
        starter.join()

    explore(scenario, 30)


@pytest.mark.parametrize("stage", ["start", "stop"])
def test_members_of_a_group_are_asked_within_the_outer_budget(stage):
    def scenario(sim):
        asked_at, slow, early = [], Part(), Part()
        early.stop = lambda ctx: asked_at.append(sim.monotonic())
        setattr(slow, stage, lambda ctx: sim.sleep(1000))
        manager = ComponentManager(runtime=sim)
        group = manager.group("group", start_timeout=5000, stop_timeout=5000)
        group.add("early", early)
        group.add("slow", slow, needs=["early"], start_timeout=5000, stop_timeout=5000)
        starter = sim.thread(start_in_vain, args=(manager,))
        starter.start()
        sim.sleep(1)
        began_at = sim.monotonic()
        report = manager.stop(5)
        assert sim.monotonic() - began_at <= 5
        assert "group/slow" in report.abandoned
        sim.sleep(1)
        assert len(asked_at) == 1
        assert asked_at[0] - began_at < 5
        starter.join()

    explore(scenario, 30)


def test_a_start_that_failed_has_failed_though_a_signal_comes_while_it_is_taken_back():
    def scenario(sim):
        manager = ComponentManager(runtime=sim)
        slow, bad = Part(), Part()
        slow.stop = lambda ctx: manager.request_stop() or sim.sleep(2)
        bad.start = lambda ctx: 1 // 0
        manager.add("slow", slow)
        manager.add("bad", bad, needs=["slow"])
        with pytest.raises(StartupError, match="bad"):
            manager.run(signals=())

    explore(scenario, 10)
