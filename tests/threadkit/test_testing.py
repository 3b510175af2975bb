"""SimRuntime: who runs, what time it is, how a run ends."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import sys
import threading

import pytest

from threadkit.testing import (
    Deadlock,
    ForeignThread,
    ScheduleFailed,
    SimRuntime,
    SimulationError,
    StepLimit,
    ThreadsLeft,
    explore,
)


def bump(count):
    value = count[0]
    count[0] = value + 1


def two_bumps(sim):
    count = [0]
    threads = [sim.thread(bump, args=(count,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count == [2]


def test_an_unlocked_increment_is_caught_by_line_preemption():
    with pytest.raises(ScheduleFailed) as caught:
        explore(two_bumps, 100, preempt=[bump])
    sim = SimRuntime(caught.value.seed, schedule="uniform", preempt=[bump])
    assert "replay (was seen to fail again): sim = SimRuntime(2, " in str(caught.value)
    assert sim.seed == caught.value.seed


def test_the_same_seed_takes_the_same_turns():
    def prints():
        sims = [SimRuntime(seed) for seed in range(20)]
        for sim in sims:
            sim.run(two_bumps, sim)
        return [sim.fingerprint for sim in sims]

    first = prints()
    assert first == prints()
    assert len(set(first)) > 5


def test_a_deadlock_names_who_waits_for_what_and_who_holds_it():
    sim = SimRuntime()

    def keep_then_take(kept, wanted, ready, other_ready):
        with kept:
            ready.set()
            other_ready.wait()
            with wanted:
                pass

    def scenario():
        one, two = sim.lock(), sim.lock()
        ready, other_ready = sim.event(), sim.event()
        sim.thread(keep_then_take, name="ann", args=(one, two, ready, other_ready)).start()
        sim.thread(keep_then_take, name="bob", args=(two, one, other_ready, ready)).start()

    with pytest.raises(AssertionError, match=r"ann waits for lock made at .*held by bob") as caught:
        sim.run(scenario)
    assert "bob waits for lock" in str(caught.value)
    assert "in keep_then_take" in str(caught.value)
    assert "seed 0" in "".join(caught.value.__notes__)


def test_an_hour_passes_when_everybody_waits():
    sim = SimRuntime()

    def scenario():
        sim.sleep(3600)
        return sim.event().wait(timeout=5), sim.monotonic()

    assert sim.run(scenario) == (False, 3605.0)


def test_waiting_for_ever_alone_is_a_deadlock():
    sim = SimRuntime()
    with pytest.raises(Deadlock, match=r"main waits for event made at test_testing.py"):
        sim.run(lambda: sim.event().wait())


def test_an_error_in_a_thread_fails_the_run_and_no_thread_is_left():
    sim = SimRuntime()
    before = threading.active_count()

    def scenario():
        sim.thread(sim.event().wait).start()
        sim.thread(lambda: 1 / 0).start()
        sim.event().wait()

    with pytest.raises(ZeroDivisionError):
        sim.run(scenario)
    assert threading.active_count() == before


def test_system_exit_ends_a_thread_in_silence():
    sim = SimRuntime()

    def scenario():
        thread = sim.thread(sys.exit)
        thread.start()
        thread.join()
        return thread.is_alive()

    assert sim.run(scenario) is False


def test_main_is_followed_by_the_threads_it_leaves_running():
    sim = SimRuntime()
    done = []
    sim.run(lambda: sim.thread(lambda: (sim.sleep(60), done.append(sim.monotonic()))).start())
    assert done == [60]


def test_a_thread_that_can_never_end_is_reported_when_main_has_returned():
    sim = SimRuntime()
    with pytest.raises(ThreadsLeft, match=r"Thread-1 waits for event made at .*\(not set\), at "):
        sim.run(lambda: sim.thread(sim.event().wait).start())


def test_daemons_are_cut_off_quietly():
    sim = SimRuntime()
    ended = []

    def serve():
        try:
            while True:
                sim.sleep(1)
        finally:
            ended.append(sim.monotonic)

    def scenario():
        sim.thread(serve, daemon=True).start()
        sim.thread(sim.event().wait, daemon=True).start()
        sim.sleep(10)
        return "served"

    before = threading.active_count()
    assert sim.run(scenario) == "served"
    assert len(ended) == 1
    assert threading.active_count() == before


def test_threads_that_go_round_for_ever_hit_the_step_limit():
    sim = SimRuntime(max_steps=500)
    lock = sim.lock()

    def spin():
        while not lock.acquire(blocking=False):
            pass

    def scenario():
        lock.acquire()
        sim.thread(spin, name="spinner").start()
        sim.event().wait()

    with pytest.raises(StepLimit, match="no end after 500 steps") as caught:
        sim.run(scenario)
    assert "spinner can run" in str(caught.value)


@pytest.mark.parametrize("schedule", ["uniform", "pct"])
def test_a_thread_that_tries_again_at_once_lets_the_others_on(schedule):
    def scenario(sim):
        lock = sim.lock()
        held = sim.event()

        def hold():
            with lock:
                held.set()
                sim.sleep(0)

        def spin():
            held.wait()
            while not lock.acquire(blocking=False):
                pass

        for target in (spin, hold):
            sim.thread(target).start()

    assert explore(scenario, 200, schedule=schedule, max_steps=2_000).schedules == 200


def test_lines_without_operations_count_as_steps_too():
    flag = []

    def spin():
        while not flag:
            pass

    sim = SimRuntime(max_steps=2_000, preempt=[spin])
    with pytest.raises(StepLimit):
        sim.run(spin)


def test_a_thread_that_swallows_its_abortion_is_ended_all_the_same():
    sim = SimRuntime()
    before = threading.active_count()

    def stubborn(event):
        while True:
            with contextlib.suppress(BaseException):
                event.wait()

    def scenario():
        sim.thread(stubborn, args=(sim.event(),)).start()
        sim.sleep(1)
        raise KeyError("the failure that counts")

    with pytest.raises(KeyError, match="the failure that counts"):
        sim.run(scenario)
    assert threading.active_count() == before


def test_a_thread_from_outside_may_not_touch_a_simulated_primitive():
    sim = SimRuntime()

    def scenario():
        caught = []
        lock = sim.lock()

        def outside():
            try:
                lock.acquire()
            except ForeignThread as exc:
                caught.append(str(exc))

        real = threading.Thread(target=outside, name="outsider")
        real.start()
        real.join(5)
        return caught

    assert "'outsider' was not started by this SimRuntime" in sim.run(scenario)[0]


def test_blocking_on_something_real_is_reported_instead_of_hanging():
    sim = SimRuntime(stall_timeout=0.05)
    real = threading.Event()

    def scenario():
        sim.thread(real.wait, args=(0.5,), name="culprit").start()
        sim.event().wait()

    with pytest.raises(SimulationError, match="'culprit' has the turn and did nothing"):
        sim.run(scenario)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals to threads are POSIX")
def test_an_interrupt_ends_the_run_and_its_threads():
    # The signal may come just before main waits; then it is noticed when that wait is renewed.
    sim = SimRuntime(stall_timeout=0.2, max_steps=10**9)
    before = threading.active_count()
    main = threading.main_thread().ident

    def interrupt():
        signal.pthread_kill(main, signal.SIGINT)
        while True:
            sim.sleep(0)

    def scenario():
        sim.thread(interrupt).start()
        sim.event().wait()

    # A job in the background is started with the signal ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            sim.run(scenario)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert threading.active_count() == before


def test_after_a_failure_the_same_runtime_runs_again():
    sim = SimRuntime()
    with pytest.raises(Deadlock):
        sim.run(lambda: sim.event().wait())
    assert sim.run(lambda: "again") == "again"


def test_a_run_inside_a_run_is_refused():
    sim = SimRuntime()
    with pytest.raises(RuntimeError, match="running already"):
        sim.run(lambda: sim.run(lambda: None))


def test_outside_a_run_nothing_waits():
    sim = SimRuntime()
    lock, event = sim.lock(), sim.event()
    with lock:
        sim.sleep(2)
        assert sim.monotonic() == 2
        with pytest.raises(RuntimeError, match=r"only be done inside SimRuntime.run"):
            lock.acquire()
    with pytest.raises(RuntimeError, match=r"only be done inside SimRuntime.run"):
        event.wait()
    with pytest.raises(RuntimeError, match=r"only be started inside SimRuntime.run"):
        sim.thread(event.wait).start()


def test_thread_starts_fail_on_command_and_at_random():
    sim = SimRuntime(seed=5, start_failure_ratio=0.5)

    def scenario():
        sim.fail_thread_starts(2)
        return [attempt() for _ in range(40)]

    def attempt():
        thread = sim.thread(lambda: None)
        try:
            thread.start()
        except RuntimeError as exc:
            return str(exc), thread.ident
        return "started"

    started = sim.run(scenario)
    refused = ("can't start new thread", None)
    assert started[:2] == [refused, refused]
    assert set(started) == {refused, "started"}
    assert 8 <= started.count("started") <= 32


def test_clocks_jump_on_command():
    sim = SimRuntime()

    def scenario():
        woken = []
        thread = sim.thread(lambda: (sim.sleep(100), woken.append(sim.monotonic())))
        thread.start()
        sim.sleep(1)
        wall = sim.time()
        sim.advance(500)
        thread.join()
        sim.shift_time(-3600)
        return woken, sim.monotonic(), sim.time() - wall

    assert sim.run(scenario) == ([501], 501, 500 - 3600)
    with pytest.raises(ValueError, match="seconds must not be negative"):
        sim.advance(-1)


def test_burnt_cpu_is_the_own_of_each_thread():
    sim = SimRuntime()

    def scenario():
        seen = []
        thread = sim.thread(lambda: (sim.burn(2), sim.sleep(5), seen.append(sim.thread_time())))
        thread.start()
        thread.join()
        sim.burn(1)
        return seen, sim.thread_time(), sim.process_time(), sim.monotonic()

    assert sim.run(scenario) == ([2], 1, 3, 8)


def slow_finish(sim):
    """A result that is there long before the timeout, unless its thread is slow."""
    done = sim.event()
    sim.thread(done.set).start()
    assert done.wait(timeout=1000)


def test_stalls_let_a_timeout_overtake_a_thread_that_could_run():
    assert explore(slow_finish, 100).schedules == 100
    with pytest.raises(ScheduleFailed):
        explore(slow_finish, 100, stall_ratio=0.1)


def wide_open(box):
    box.append(box[-1] + 1)
    box.append(box[-1] + 1)


def one_line_race(sim):
    box = [0]
    threads = [sim.thread(wide_open, args=(box,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert box == [0, 1, 2, 3, 4]


def test_a_race_within_a_line_is_seen_by_opcode_preemption_only():
    assert explore(one_line_race, 100, preempt=[wide_open]).schedules == 100
    with pytest.raises(ScheduleFailed):
        explore(one_line_race, 300, preempt=[wide_open], opcodes=True)


class Counter:
    """Races in a property and in a static method."""

    def __init__(self):
        self.value = 0

    @property
    def next(self):
        value = self.value
        self.value = value + 1
        return self.value

    @staticmethod
    def add(box):
        value = box[0]
        box[0] = value + 1


@pytest.mark.parametrize("choice", [__file__, Counter], ids=["file", "class"])
def test_code_is_chosen_by_file_module_or_class(choice):
    def scenario(sim):
        counter, box = Counter(), [0]
        threads = [sim.thread(lambda: (counter.next, Counter.add(box))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (counter.value, box) == (2, [2])

    with pytest.raises(ScheduleFailed):
        explore(scenario, 200, preempt=[choice])
    assert explore(scenario, 200, preempt=["threadkit._runtime"]).schedules == 200


def test_the_trace_function_of_the_caller_is_given_back():
    seen = []

    def trace(frame, event, arg):
        seen.append(event)

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        SimRuntime(preempt=[bump]).run(bump, [0])
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)


def test_garbage_collection_is_paused_during_a_run_only():
    assert gc.isenabled()
    assert SimRuntime().run(gc.isenabled) is False
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the platform pins no threads")
def test_a_run_keeps_to_one_cpu_and_gives_the_others_back():
    before = os.sched_getaffinity(0)
    assert len(SimRuntime().run(os.sched_getaffinity, 0)) == 1
    assert os.sched_getaffinity(0) == before


def test_a_run_goes_on_where_cpus_cannot_be_chosen(monkeypatch):
    def refuse(pid, cpus):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    assert SimRuntime().run(lambda: "ran") == "ran"
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert SimRuntime().run(lambda: "ran") == "ran"


def test_reprs_tell_the_state():
    sim = SimRuntime(seed=4)
    lock = sim.lock()
    assert repr(sim) == "<SimRuntime seed=4 Uniform(line_gap=None) at 0 s>"
    assert re.fullmatch(r"<lock made at test_testing.py:\d+ \(free\)>", repr(lock))
    assert re.fullmatch(r"<condition .* over rlock .* \(free\)>", repr(sim.condition()))
    assert re.fullmatch(r"<simplequeue .* \(0 items\)>", repr(sim.simple_queue()))
    assert repr(sim.thread(bump, name="t")) == "<SimThread 't' initial>"


def test_a_condition_takes_locks_of_the_simulator_only():
    with pytest.raises(TypeError, match="lock must be a lock or rlock of this SimRuntime"):
        SimRuntime().condition(threading.Lock())
