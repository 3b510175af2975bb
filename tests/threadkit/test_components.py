import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from threadkit import ComponentManager, ComponentState, DependencyCycle, StartupError


class Part:
    """Writes down what happens to it; `start` and `stop` may be told to fail or to hang."""

    def __init__(self, name, log, *, start_error=None, stop_error=None, hang=None):
        self.name, self.log = name, log
        self.start_error, self.stop_error, self.hang = start_error, stop_error, hang

    def start(self, ctx):
        self.log.append(f"+{self.name}")
        if self.start_error:
            raise self.start_error

    def stop(self, ctx):
        self.log.append(f"-{self.name}")
        if self.hang:
            self.hang.wait(30)
        if self.stop_error:
            raise self.stop_error


def add(manager, log, name, needs=(), **options):
    stop_timeout = options.pop("stop_timeout", 10)
    part = Part(name, log, **options)
    return manager.add(name, part, needs=needs, stop_timeout=stop_timeout)


def states(report):
    return {part.name: part.state for part in report.components}


def test_parts_start_after_what_they_need_and_stop_before_it():
    log, manager = [], ComponentManager()
    add(manager, log, "bot", ["voice", "feed"])
    add(manager, log, "feed")
    add(manager, log, "voice", ["audio"])
    add(manager, log, "audio")
    with manager:
        assert sorted(log) == ["+audio", "+bot", "+feed", "+voice"]
        assert log[-1] == "+bot"
        assert log.index("+audio") < log.index("+voice")
    assert log[4] == "-bot"
    assert log.index("-voice") < log.index("-audio")


def test_a_part_that_does_not_start_rolls_back_what_had():
    log, manager = [], ComponentManager("app")
    add(manager, log, "a")
    add(manager, log, "b", ["a"], start_error=OSError("no device"))
    add(manager, log, "c", ["b"])
    with pytest.raises(StartupError, match="app did not start: b: no device") as caught:
        manager.start()
    assert log == ["+a", "+b", "-a"]
    assert list(caught.value.failed) == ["b"]
    assert states(manager.report()) == {
        "a": ComponentState.STOPPED,
        "b": ComponentState.FAILED,
        "c": ComponentState.NEW,
    }


def test_a_part_that_fails_to_stop_does_not_keep_the_others_from_it():
    log, manager = [], ComponentManager()
    add(manager, log, "a")
    add(manager, log, "b", ["a"], stop_error=ValueError("stuck"))
    manager.start()
    report = manager.stop()
    assert log[2:] == ["-b", "-a"]
    assert states(report) == {"a": ComponentState.STOPPED, "b": ComponentState.FAILED}
    assert "b: failed" in str(report)
    assert "ValueError: stuck" in str(report)


def test_a_part_that_hangs_is_abandoned_and_named():
    log, manager, gate = [], ComponentManager(), threading.Event()
    add(manager, log, "a")
    add(manager, log, "b", ["a"], hang=gate, stop_timeout=0.05)
    manager.start()
    report = manager.stop()
    gate.set()
    assert report.abandoned == ("b",)
    assert log[2:] == ["-b", "-a"]


def test_when_the_budget_is_spent_the_rest_are_still_asked_to_stop():
    log, manager, gate = [], ComponentManager(), threading.Event()
    for name, needs in (("a", []), ("b", ["a"]), ("c", ["b"])):
        add(manager, log, name, needs, hang=gate)
    manager.start()
    report = manager.stop(timeout=0.05)
    assert sorted(log[3:]) == ["-a", "-b", "-c"]
    assert report.abandoned == ("a", "b", "c")
    gate.set()


def test_a_circle_of_needs_is_refused_with_its_members():
    manager = ComponentManager("app")
    add(manager, [], "a", ["b"])
    add(manager, [], "b", ["c"])
    add(manager, [], "c", ["b"])
    with pytest.raises(DependencyCycle, match="b -> c -> b") as caught:
        manager.start()
    assert caught.value.cycle == ("b", "c", "b")


def test_bad_calls_are_refused_and_named():
    manager = ComponentManager("app")
    add(manager, [], "a", ["nobody"])
    with pytest.raises(ValueError, match="'a' needs 'nobody', which is unknown"):
        manager.start()
    with pytest.raises(ValueError, match="has a component named 'a' already"):
        add(manager, [], "a")
    with pytest.raises(TypeError, match="'x' has no start"):
        manager.add("x", object())
    with pytest.raises(ValueError, match="stop_timeout of 'y' must be 0 or more, not -1"):
        add(manager, [], "y", stop_timeout=-1)


def test_nothing_is_added_to_a_running_manager_and_it_starts_once():
    manager = ComponentManager("app")
    with manager:
        with pytest.raises(RuntimeError, match="app was started: add 'late' before"):
            add(manager, [], "late")
        with pytest.raises(RuntimeError, match="started already"):
            manager.start()


def test_a_pool_of_the_manager_works_and_is_shut_down():
    manager = ComponentManager()
    pool = manager.pool("workers", max_workers=2)
    with manager:
        assert pool.submit(pow, 2, 5).result(10) == 32
    with pytest.raises(RuntimeError, match="cannot schedule new futures"):
        pool.submit(pow, 2, 5)


def test_run_ends_on_request_and_stops_everything():
    log, manager = [], ComponentManager()
    add(manager, log, "a")
    manager.request_stop()
    assert manager.run(signals=()) == 0
    assert log == ["+a", "-a"]


PROGRAM = """
    import sys, threading
    from threadkit import ComponentManager

    class Part:
        def start(self, ctx):
            print("ready", flush=True)
        def stop(self, ctx):
            print("stopping", flush=True)
            {hang}

    manager = ComponentManager()
    manager.add("part", Part(), stop_timeout=60)
    sys.exit(manager.run(grace=60))
"""


def start_program(hang=""):
    source = textwrap.dedent(PROGRAM).format(hang=hang)
    return subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_real_process_in_order(number):
    with start_program() as program:
        assert program.stdout.readline() == "ready\n"
        os.kill(program.pid, number)
        assert program.stdout.read() == "stopping\n"
        assert program.wait(30) == 0


def test_a_second_signal_leaves_at_once():
    with start_program(hang="threading.Event().wait()") as program:
        assert program.stdout.readline() == "ready\n"
        os.kill(program.pid, signal.SIGTERM)
        assert program.stdout.readline() == "stopping\n"
        os.kill(program.pid, signal.SIGTERM)
        assert program.wait(30) == 1
