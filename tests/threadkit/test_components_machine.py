"""A supervisor turned by hand, call by call, against a model of what each component may do.

No thread runs here: starts and stops are pending calls, which a rule lets succeed, raise, or come
late; the clock stands still until a rule moves it. So Hypothesis chooses every interleaving.
"""

from __future__ import annotations

import logging
import queue
import threading
from itertools import count

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from threadkit import Backoff, ComponentManager, ErrorLog, Intensity, Superseded
from threadkit._components._states import MOVES
from threadkit._components._supervisor import Supervisor

# The picture in the docstring of ComponentState, written down once more by hand.
LEGAL = {
    "new": "starting",
    "starting": "running failed backoff abandoned",
    "running": "degraded draining stopping",
    "degraded": "running draining stopping",
    "draining": "stopping",
    "stopping": "stopped failed backoff abandoned",
    "backoff": "starting stopped",
    "stopped": "starting",
    "failed": "starting",
    "abandoned": "starting backoff",
}
moves_seen = set()


class Flag:
    """An event nobody can wait for: nothing else runs meanwhile."""

    def __init__(self):
        self.is_set = lambda: False

    def set(self):
        self.is_set = lambda: True

    def wait(self, timeout=None):
        return self.is_set()


class Call:
    """A thread that runs when the test says so."""

    def __init__(self, world, target, name, args):
        self.world, self.target, self.name, self.args = world, target, name, args
        self.ident = next(world.idents)

    def start(self):
        self.world.calls.append(self)

    def join(self, timeout=None):
        pass

    def is_alive(self):
        return False

    def run(self):
        self.target(*self.args)


class ByHand:
    """A runtime whose clock and threads are moved by hand."""

    def __init__(self):
        self.now = 0.0
        self.calls = []
        self.idents = count(1)
        self.lock, self.rlock = threading.Lock, threading.RLock
        self.simple_queue, self.event = queue.SimpleQueue, Flag
        self.condition = threading.Condition

    def monotonic(self):
        return self.now

    time = monotonic

    def get_ident(self):
        return 0

    def thread(self, target, *, name="", args=(), daemon=False):
        return Call(self, target, name, args)


class Part:
    """Raises if it is told to, else counts."""

    def __init__(self, drains):
        self.raises = False
        self.contexts, self.started, self.stopped = [], [], []
        if drains:
            self.drain = lambda ctx, deadline: self.maybe_raise()

    def maybe_raise(self):
        if self.raises:
            raise OSError("told to")

    def start(self, ctx):
        self.contexts.append(ctx)
        self.maybe_raise()
        self.started.append(ctx.generation)

    def stop(self, ctx):
        assert ctx.stopping
        self.stopped.append(ctx.generation)
        self.maybe_raise()


class Supervision(RuleBasedStateMachine):
    @initialize(data=st.data(), size=st.integers(1, 5), exhausted=st.sampled_from(
        ["escalate", "stop_group", "give_up"]))  # fmt: skip
    def build(self, data, size, exhausted):
        self.world = ByHand()
        self.errors = ErrorLog()
        self.manager = ComponentManager(
            intensity=Intensity(data.draw(st.integers(0, 3)), per=60.0),
            on_exhausted=exhausted,
            errors=self.errors,
            runtime=self.world,
        )
        self.parts, self.needs = {}, {}
        for number in range(size):
            name = f"p{number}"
            self.needs[name] = data.draw(st.lists(st.sampled_from(list(self.parts)), unique=True)
                                         if self.parts else st.just([]))  # fmt: skip
            self.parts[name] = Part(data.draw(st.booleans()))
            self.manager.add(
                name,
                self.parts[name],
                needs=self.needs[name],
                start_timeout=10.0,
                stop_timeout=10.0,
                restart=data.draw(st.sampled_from(["transient", "permanent", "temporary"])),
                scope=data.draw(st.sampled_from(["one", "dependents", "group"])),
                essential=data.draw(st.booleans()),
                backoff=Backoff(1.0, 4.0, jitter=0.0),
            )
        self.supervisor: Supervisor = self.manager._supervisor
        self.told = 0
        self.states = dict.fromkeys(self.parts, "new")
        self.stop_by = None
        self.turn()

    # -- the crank ----------------------------------------------------------------------------

    def turn(self):
        """Do what the supervisor's own thread would do now."""
        supervisor = self.supervisor
        # Its thread is among the calls; it is this function instead.
        self.world.calls = [call for call in self.world.calls if "supervisor" not in call.name]
        while not supervisor.is_over:
            jobs = supervisor._inbox
            if not jobs.empty():
                supervisor._do(jobs.get())
            elif due := supervisor._timers.due(self.world.now):
                for action in due:
                    supervisor._do(action)
            elif supervisor._finished:
                supervisor.over()
            else:
                break
            if supervisor._finished:
                supervisor.over()
        self.check_events()

    def check_events(self):
        """Every move is legal, and its neighbours allow it."""
        history = self.manager.history()[self.told :]
        self.told += len(history)
        for event in history:
            before, after, name = event.before.value, event.after.value, event.component
            assert self.states[name] == before
            assert after in LEGAL[before].split(), (name, before, after)
            moves_seen.add((before, after))
            self.states[name] = after
            if after == "starting":
                for need in self.needs[name]:
                    handle = self.supervisor.handles[need]
                    assert self.states[need] == "running" or handle.has_ended, (name, need)
            spent = self.stop_by is not None and self.world.now >= self.stop_by
            handle = self.supervisor.handles[name]
            # Its work is done, or it is to come back: its users go on.
            users_go_on = handle.has_ended or handle.is_wanted
            leaves = (before, after) in {("running", "stopping"), ("running", "draining")}
            if leaves and not users_go_on and not spent:
                for user, needs in self.needs.items():
                    up = self.states[user] in {
                        "starting", "running", "degraded", "draining", "stopping",
                    }  # fmt: skip
                    assert name not in needs or not up, (name, user)

    # -- what may happen ----------------------------------------------------------------------

    @property
    def is_on(self):
        return not self.supervisor.is_over

    @precondition(lambda self: not self.is_on)
    @rule()
    def start(self):
        self.stop_by = None
        self.manager._begin_start()
        self.turn()

    @precondition(lambda self: self.is_on)
    @rule(timeout=st.sampled_from([0.0, 5.0, 30.0, 30.0]))
    def ask_to_stop(self, timeout):
        asked = self.world.now + timeout
        self.stop_by = asked if self.stop_by is None else min(asked, self.stop_by)
        self.supervisor.begin_stop(timeout, final=False)
        self.turn()

    @precondition(lambda self: self.world.calls)
    @rule(data=st.data(), raises=st.sampled_from([False, False, False, True]))
    def let_a_call_run(self, data, raises):
        call = self.world.calls.pop(data.draw(st.integers(0, len(self.world.calls) - 1)))
        for part in self.parts.values():
            part.raises = raises
        call.run()
        self.turn()

    @precondition(lambda self: self.world.calls)
    @rule()
    def let_the_next_call_succeed(self):
        for part in self.parts.values():
            part.raises = False
        self.world.calls.pop(0).run()
        self.turn()

    @precondition(lambda self: any(part.contexts for part in self.parts.values()))
    @rule(data=st.data(), what=st.sampled_from(["fail", "end", "ready"]))
    def an_instance_speaks_up(self, data, what):
        """An old one too, which must change nothing."""
        contexts = [ctx for part in self.parts.values() for ctx in part.contexts]
        ctx = data.draw(st.sampled_from(contexts))
        before = self.told
        if what == "fail":
            ctx.fail(ValueError("crash"))
        else:
            getattr(ctx, what)()
        self.turn()
        if ctx is not self.supervisor.handles[ctx.name].ctx:
            assert self.told == before

    @precondition(lambda self: self.is_on)
    @rule(data=st.data())
    def restart(self, data):
        self.supervisor.begin_restart(data.draw(st.sampled_from(list(self.parts))))
        self.turn()

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 10.0, 61.0]))
    def time_passes(self, seconds):
        """In steps, so that timers of different times do not come at once."""
        for _ in range(int(2 * seconds)):
            self.world.now += 0.5
            self.turn()

    # -- what always holds --------------------------------------------------------------------

    @invariant()
    def only_the_present_instance_gets_through(self):
        for name, part in getattr(self, "parts", {}).items():
            handle = self.supervisor.handles[name]
            up = handle.state.is_up
            for ctx in part.contexts:
                if ctx is handle.ctx and up:
                    ctx.check()
                else:
                    with pytest.raises(Superseded):
                        ctx.check()

    @invariant()
    def nothing_is_stopped_that_did_not_start_or_twice(self):
        for part in getattr(self, "parts", {}).values():
            assert len(part.stopped) == len(set(part.stopped))
            # One that said it was ready, or was given up, may be stopped before start returned.

    @invariant()
    def when_it_is_over_nothing_is_up(self):
        if hasattr(self, "parts") and not self.is_on:
            assert not any(handle.state.is_up for handle in self.supervisor.handles.values())

    @invariant()
    def the_states_are_those_that_were_told(self):
        if hasattr(self, "parts"):
            handles = self.supervisor.handles.values()
            assert {handle.name: handle.state.value for handle in handles} == self.states

    def teardown(self):
        """It ends within its budget, whatever hangs; then all that started was asked to stop."""
        if not hasattr(self, "parts"):
            return
        try:
            if self.is_on:
                self.ask_to_stop(5.0)
                self.time_passes(5.0)
                assert self.supervisor.is_over
            while self.world.calls:
                self.let_the_next_call_succeed()
            for part in self.parts.values():
                assert set(part.started) <= set(part.stopped), (part.started, part.stopped)
        finally:
            self.supervisor.is_over = True  # after a failure too, nobody is to be warned of it
            self.errors.close()


@pytest.fixture
def no_defects(caplog):
    caplog.set_level(logging.ERROR, "threadkit.components")
    yield
    assert "a job of the supervisor failed" not in caplog.text


PACE = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_no_component_takes_an_illegal_step(no_defects):
    moves_seen.clear()
    run_state_machine_as_test(Supervision, settings=PACE)
    allowed = {(before, after) for before, afters in LEGAL.items() for after in afters.split()}
    rare = {("backoff", "stopped"), ("abandoned", "backoff"), ("starting", "backoff")}
    rare |= {("degraded", "draining"), ("degraded", "running"), ("stopping", "failed")}
    assert allowed - moves_seen <= rare


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("_has_what_it_needs", lambda supervisor, handle: True),
        ("_is_in_use", lambda supervisor, handle: False),
        ("start_failed", lambda supervisor, handle, error: supervisor.became_ready(handle)),
    ],
)
def test_the_machine_finds_faults_planted_in_the_supervisor(monkeypatch, method, fault):
    monkeypatch.setattr(Supervisor, method, fault)
    quick = settings(PACE, max_examples=300, database=None, phases=[Phase.generate])
    with pytest.raises((AssertionError, Superseded)):
        run_state_machine_as_test(Supervision, settings=quick)


def test_the_model_and_the_supervisor_know_the_same_moves():
    assert {state.value: {move.value for move in moves} for state, moves in MOVES.items()} == {
        before: set(afters.split()) for before, afters in LEGAL.items()
    }
