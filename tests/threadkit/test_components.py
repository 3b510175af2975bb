import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from threadkit import (
    Backoff,
    ComponentManager,
    ComponentState,
    DependencyCycle,
    ErrorLog,
    Intensity,
    Probe,
    StartupError,
)
from threadkit._components._graph import plan_order
from threadkit._runtime import RealRuntime
from threadkit.testing import SimRuntime


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


def test_run_says_in_one_line_who_did_not_stop_though_the_error_log_is_closed(caplog):
    def scenario(sim):
        errors = ErrorLog(runtime=sim)
        manager = ComponentManager(errors=errors, runtime=sim)
        manager.service("errors", lambda ctx: ctx.wait_stopping() and errors.close())
        group = manager.group("inner")
        group.service("stubborn", lambda ctx: sim.sleep(60))
        manager.service("end", lambda ctx: manager.request_stop(), needs=["inner"])
        assert manager.run(signals=(), grace=5) == 1

    sim = SimRuntime()
    sim.run(scenario, sim)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("app ends with exit code 1: not stopped in time: ")
    assert "inner/stubborn is abandoned" in line


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


def start_program(hang="", source=PROGRAM, **pipes):
    source = textwrap.dedent(source).format(hang=hang)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **pipes}
    return subprocess.Popen([sys.executable, "-c", source], **pipes, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_real_process_in_order(number):
    with start_program() as program:
        assert program.stdout.readline() == "ready\n"
        os.kill(program.pid, number)
        assert program.stdout.read() == "stopping\n"
        assert program.wait(30) == 0


def test_a_second_signal_leaves_at_once():
    with start_program(hang="threading.Event().wait()", stderr=subprocess.PIPE) as program:
        assert program.stdout.readline() == "ready\n"
        os.kill(program.pid, signal.SIGTERM)
        assert program.stdout.readline() == "stopping\n"
        os.kill(program.pid, signal.SIGTERM)
        assert program.wait(30) == 1
        why = "app ends with exit code 1: told twice to end, it did not wait: part is stopping\n"
        assert program.stderr.readline() == why


TOLD_ELSEWHERE = """
    import signal, sys, threading
    from threadkit import ComponentManager

    def tell(ctx):
        sys.stdin.readline()
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        ctx.wait_stopping(60)

    manager = ComponentManager()
    manager.service("teller", tell, stop_timeout=60)
    sys.exit(manager.run())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_that_does_not_interrupt_the_wait_is_noticed():
    """Another thread is given it: to the main thread it is as if it came just before the wait."""
    with start_program(source=TOLD_ELSEWHERE) as program:
        try:
            program.communicate("now\n", timeout=30)
        finally:
            program.kill()
        assert program.returncode == 0


HAMMERED = """
    import faulthandler, os, signal, sys, threading, time
    from threadkit import ComponentManager

    class Part:
        def start(self, ctx):
            self.timer = threading.Thread(target=self.beat, args=(ctx,))
            self.timer.start()
        def beat(self, ctx):
            while not ctx.stopping:
                ctx.beat("working")
                ctx.sleep(0.0001)
        def stop(self, ctx):
            self.timer.join()

    rounds = 0
    def shoot():
        for number in range({signals}):
            os.kill(os.getpid(), signal.SIGINT if number % 2 else signal.SIGTERM)
            if number % 50 == 0:
                time.sleep(0.0005)
        done.set()
        while not left.wait(0.01):  # the last signals may have come between two runs
            manager.request_stop()

    faulthandler.dump_traceback_later(40)  # a deadlock says where
    done, left = threading.Event(), threading.Event()
    manager = ComponentManager()
    guard = lambda *_: None
    signal.signal(signal.SIGINT, guard)
    signal.signal(signal.SIGTERM, guard)
    threading.Thread(target=shoot).start()
    while not done.is_set():
        manager = ComponentManager()
        for number in range(5):
            manager.add(f"part{{number}}", Part(), needs=[f"part{{number - 1}}"] if number else [])
        manager.run(grace=10)
        rounds += 1
    left.set()
    print(rounds)
"""


def test_thousands_of_signals_never_deadlock_a_real_process():
    source = textwrap.dedent(HAMMERED).format(signals=3000)
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) > 1
    assert "Traceback" not in done.stderr  # only that the second signal abandoned something


def run_program(source):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_a_manager_that_nobody_stopped_is_stopped_at_exit():
    done = run_program("""
        from threadkit import ComponentManager
        class Part:
            def start(self, ctx): print("started")
            def stop(self, ctx): print("stopped")
        manager = ComponentManager()
        manager.add("part", Part())
        manager.service("service", lambda ctx: ctx.wait_stopping())
        manager.start()
    """)
    assert done.stdout == "started\nstopped\n"
    assert done.stderr == ""


def test_a_manager_that_is_dropped_while_running_warns_and_stops():
    log, managers = [], [ComponentManager("dropped")]
    add(managers[0], log, "a")
    managers[0].start()
    supervisor = managers[0]._supervisor
    with pytest.warns(ResourceWarning, match=r"dropped was dropped while running: stop\(\) it"):
        managers.clear()
    assert supervisor.wait_until(lambda: False, 10) is False
    assert log == ["+a", "-a"]


def test_a_factory_makes_each_instance():
    made = []

    class Fresh(Part):
        def __init__(self):
            super().__init__("fresh", [])
            made.append(self)

    manager = ComponentManager()
    manager.add("fresh", Fresh)
    with manager:
        assert manager.restart("fresh", timeout=10)
    assert len(made) == 2
    assert made[0].log == made[1].log == ["+fresh", "-fresh"]


def test_a_factory_that_makes_no_component_fails_the_start():
    manager = ComponentManager()
    manager.add("odd", dict)
    with pytest.raises(StartupError, match=r"'odd' has no start\(ctx\)"):
        manager.start()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start_timeout": -1}, "start_timeout of 'a' must be 0 or more, not -1"),
        ({"stop_timeout": -1}, "stop_timeout of 'a' must be 0 or more, not -1"),
        ({"watchdog": 0}, "watchdog of 'a' must be positive, not 0"),
        ({"restart": "never"}, "restart of 'a' must be one of transient, permanent, temporary"),
        ({"scope": "all"}, "scope of 'a' must be one of one, dependents, group, not 'all'"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        ComponentManager().add("a", Part("a", []), **given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Intensity(-1), "restarts must be 0 or more, not -1"),
        (lambda: Intensity(1, per=0), "per must be positive, not 0"),
        (lambda: Backoff(-1), "initial must be 0 or more, not -1"),
        (lambda: Backoff(factor=0.5), r"factor must be at least 1, not 0\.5"),
        (lambda: Backoff(jitter=2), "jitter must be between 0 and 1, not 2"),
        (lambda: Probe(0), "period must be positive, not 0"),
        (lambda: Probe(failures=0), "failures must be at least 1, not 0"),
        (lambda: ComponentManager(on_exhausted="cry"), "on_exhausted must be one of escalate"),
    ],
)
def test_rules_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class TestLooking:
    @pytest.fixture
    def manager(self):
        manager = ComponentManager("app")
        audio = manager.group("audio")
        audio.add("device", Part("device", []))
        manager.pool("workers", needs=["audio"], max_workers=2)
        manager.cache("voices", maxsize=10)
        add(manager, [], "bot", ["workers", "voices"])
        with manager:
            yield manager

    def test_the_report_is_a_tree(self, manager):
        text = str(manager.report())
        lines = [line.split(":")[0] for line in text.splitlines()]
        assert lines == ["app", "  audio", "    device", "  workers", "  voices", "  bot"]
        assert "needs workers, voices" in text
        assert "workers 0 busy 0 queued 0" in text
        assert "entries 0" in text

    def test_or_a_dict_that_json_takes(self, manager):
        told = json.loads(json.dumps(manager.report().as_dict()))
        audio, workers, voices, bot = told["components"]
        assert audio["group"]["components"][0]["name"] == "device"
        assert workers["figures"]["queued"] == 0
        assert voices["state"] == "running"
        assert bot["needs"] == ["workers", "voices"]

    def test_or_a_graph(self, manager):
        lines = manager.report().as_mermaid().splitlines()
        assert lines[0] == "graph TD"
        assert '  subgraph n0["audio<br>running"]' in lines
        assert '  n0_0["device<br>running"]:::running' in lines
        assert "  n3 --> n1" in lines

    def test_pools_and_caches_are_registered_those_of_groups_too(self):
        manager = ComponentManager()
        group = manager.group("g")
        pools = {"a": manager.pool("a", max_workers=1), "g/b": group.pool("b", max_workers=1)}
        caches = {"g/c": group.cache("c", maxsize=1)}
        assert manager.pools == pools
        assert manager.caches == caches
        manager.stop()

    def test_a_queue_is_closed_once_all_that_need_it_have_stopped(self):
        manager = ComponentManager()
        queue = manager.group("g").queue("texts", maxsize=3)
        assert manager.queues == {"g/texts": queue}
        taken = []

        def take(ctx):
            ctx.wait_stopping()
            queue.put("a last one")  # it is open still
            taken.append(queue.get())
            queue.put("left over")

        manager.service("taker", take, needs=["g"])
        with manager:
            assert "waiting 0" in str(manager.report())
        assert taken == ["a last one"]
        assert queue.closed
        assert queue.get() == "left over"

    def test_an_abandoned_one_is_named_with_the_line_it_is_at(self):
        gate = threading.Event()
        manager = ComponentManager()
        group = manager.group("g", stop_timeout=10)
        add(group, [], "stuck", hang=gate, stop_timeout=0.05)
        manager.start()
        report = manager.stop()
        gate.set()
        assert report.abandoned == ("g/stuck",)
        inner = report.components[0].group.components[0]
        assert "did not stop within" in inner.error
        assert "threading.py" in inner.stuck_at

    def test_its_repr_shows_the_counts(self, manager):
        assert repr(manager) == "<ComponentManager app: 4 running>"


class TestEvents:
    def test_listeners_hear_of_every_move_in_order(self):
        heard = []
        manager = ComponentManager("app")
        add(manager, [], "a")
        manager.subscribe(heard.append)
        with manager:
            pass
        moves = [(event.before.value, event.after.value) for event in heard]
        assert moves == [
            ("new", "starting"),
            ("starting", "running"),
            ("running", "stopping"),
            ("stopping", "stopped"),
        ]
        assert str(heard[1]) == "app: a starting -> running"
        assert manager.history() == tuple(heard)

    def test_one_that_raises_hurts_nobody_and_one_that_left_hears_nothing(self, caplog):
        heard, gone = [], []
        manager = ComponentManager("app")
        add(manager, [], "a")
        manager.subscribe(lambda event: 1 / 0)
        manager.subscribe(gone.append)()
        manager.subscribe(heard.append)
        with manager:
            pass
        assert len(heard) == 4
        assert gone == []
        assert manager._feed.losses() == (0, 4)
        assert "a listener raised" in caplog.text

    def test_one_that_blocks_holds_up_nobody_else(self):
        gate = threading.Event()
        log, manager = [], ComponentManager("app")
        add(manager, log, "a")
        manager.subscribe(lambda event: gate.wait(30))
        manager.start()
        assert manager.restart("a", timeout=10)
        gate.set()
        manager.stop()
        assert log == ["+a", "-a"] * 2

    def test_what_cannot_listen_is_refused(self):
        with pytest.raises(TypeError, match="listener must be callable"):
            ComponentManager().subscribe("me")


def test_an_idle_manager_sleeps_until_something_happens():
    """Nothing is due: the one thread of its own waits without a timeout."""
    waits = []

    class Counting(queue.SimpleQueue):
        def get(self, block=True, timeout=None):
            waits.append(timeout)
            return super().get(block, timeout)

    class Runtime(RealRuntime):
        simple_queue = Counting

    manager = ComponentManager(runtime=Runtime())
    for number in range(50):
        add(manager, [], f"p{number}")
    manager.start()
    assert manager.wait_ready(timeout=10)
    while waits[-1] is not None:
        threading.Event().wait(0.001)  # the last jobs are being done
    manager.stop()


def test_an_idle_hour_of_fifty_components_wakes_the_manager_not_once():
    """Services, pools, caches, queues and parts. Each wake-up of a thread is a step of its own."""
    sim = SimRuntime(1)

    def hour():
        manager = ComponentManager(runtime=sim)
        for number in range(47):
            if number % 2:
                manager.service(f"s{number}", lambda ctx: ctx.wait_stopping())
            else:
                add(manager, [], f"p{number}")
        manager.pool("pool", max_workers=2)
        manager.cache("cache", maxsize=10)
        manager.queue("queue")
        manager.start()
        sim.sleep(1.0)
        before = sim.steps
        assert before > 50
        sim.sleep(3600.0)
        assert sim.steps - before <= 2  # of the thread that asks
        manager.stop()

    sim.run(hour)


def test_a_thousand_components_start_and_stop():
    manager = ComponentManager()
    log = []
    for number in range(1000):
        needs = {f"p{(number - 1) // 2}"} if number else set()
        add(manager, log, f"p{number}", needs)
    with manager:
        assert len(log) == 1000
    assert len(log) == 2000


def test_a_chain_longer_than_the_interpreters_stack_is_ordered():
    names = [f"p{number}" for number in range(5000)]
    needs = {name: (names[number - 1],) if number else () for number, name in enumerate(names)}
    assert plan_order("app", dict(reversed(needs.items()))) == names
