"""Random graphs, misfortunes and schedules: the manager keeps its promises in all of them."""

import logging
import random

import pytest

from threadkit import (
    Backoff,
    ComponentManager,
    ComponentState,
    Health,
    Intensity,
    LifecycleError,
    Probe,
    StartupError,
)
from threadkit._components._states import MOVES
from threadkit._components._supervisor import GROUP_GRACE
from threadkit.testing import ScheduleFailed, explore


class Part:
    """Does what its fate says, and writes down what happens to it."""

    def __init__(self, name, fate, world):
        self.name, self.fate, self.world = name, fate, world

    def note(self, what):
        self.world.log.append((what, self.name))

    def start(self, ctx):
        self.note("start")
        self.world.ctx[self.name] = ctx
        begun = self.world.starts[self.name] = self.world.starts.get(self.name, 0) + 1
        if self.fate == "fails to start" or (self.fate == "fails to restart" and begun > 1):
            raise OSError("no device")
        if self.fate == "hangs in start":
            self.world.gate.wait()
        if self.fate == "starts late":
            self.world.sim.sleep(15)
        if self.fate == "slow":
            self.world.sim.sleep(3)
        if self.fate == "crashes at once":
            ctx.fail(ValueError("crash"))
        self.note("started")

    def stop(self, ctx):
        self.note("stop")
        assert ctx.stopping
        if self.fate == "hangs in stop":
            self.world.gate.wait()
        if self.fate == "fails to stop":
            raise OSError("busy")
        if self.fate == "slow":
            self.world.sim.sleep(3)
        self.note("stopped")


class Drained(Part):
    def drain(self, ctx, deadline):
        self.note("drain")
        if self.fate == "hangs in drain":
            self.world.gate.wait()

    def health(self):
        return Health(alive=self.fate != "unwell")


FATES = (
    ["well"] * 12
    + ["slow"] * 3
    + ["hangs in stop", "fails to stop", "hangs in drain", "unwell", "crashes at once"]
    + ["fails to restart"]
)
CRASHES = ["crashes at once", "unwell", "fails to restart"]
BAD_STARTS = ["fails to start", "hangs in start", "starts late"]


class World:
    """A random manager, and what happened in it."""

    def __init__(self, sim, seed, bad_starts):
        draw = random.Random(seed)
        self.sim, self.log, self.ctx, self.starts = sim, [], {}, {}
        self.gate = sim.event()
        self.crashed = set()
        self.draw = draw
        self.manager = ComponentManager(
            "world",
            intensity=Intensity(draw.choice([0, 2, 5]), per=60),
            on_exhausted=draw.choice(["escalate", "stop_group", "give_up"]),
            runtime=sim,
        )
        self.names = [
            f"p{number}" for number in range(draw.randint(1, 30 if seed % 10 == 0 else 8))
        ]
        self.needs, self.fates = {}, {}
        for number, name in enumerate(self.names):
            needs = draw.sample(self.names[:number], min(number, draw.choice([0, 0, 1, 1, 2, 3])))
            fates = FATES + (BAD_STARTS if bad_starts else [])
            self.needs[name], self.fates[name] = needs, draw.choice(fates)
            self.manager.add(
                name,
                draw.choice([Part, Drained])(name, self.fates[name], self),
                needs=needs,
                start_timeout=10,
                stop_timeout=10,
                restart=draw.choice(["transient", "permanent", "temporary"]),
                scope=draw.choice(["one", "dependents", "group"]),
                backoff=Backoff(0.5, 4),
                probe=Probe(1, 2),
            )

    def crash_somebody(self):
        ctx = self.ctx.get(self.draw.choice(self.names))
        if ctx is not None:
            self.crashed.add(ctx.name)
            ctx.fail(ValueError("crash"))

    def live(self):
        """Crashes and restarts for a while."""
        for _ in range(self.draw.randint(0, 4)):
            self.sim.sleep(self.draw.choice([0.1, 1, 5]))
            if self.draw.random() < 0.3:
                name = self.draw.choice(self.names)
                try:
                    self.manager.restart(name, timeout=0)
                except RuntimeError:
                    assert self.manager._supervisor.is_over
            else:
                self.crash_somebody()

    def check_history(self):
        """Every move was legal, and every start had what it needs."""
        states = dict.fromkeys(self.names, ComponentState.NEW)
        for event in self.manager.history():
            assert states[event.component] is event.before
            assert event.after in MOVES[event.before]
            states[event.component] = event.after
            if event.after is ComponentState.STARTING:
                for need in self.needs[event.component]:
                    assert states[need] is ComponentState.RUNNING, (event, need)
            if event.after in {ComponentState.DRAINING, ComponentState.STOPPING}:
                self.check_users(event, states)
        assert all(not state.is_up for state in states.values()), states

    def check_users(self, event, states):
        """Nobody who is well is stopped while somebody who needs it is up, but out of budget."""
        if self.budget_spent or event.before is not ComponentState.RUNNING:
            return
        if any(
            later.component == event.component and later.generation > event.generation
            for later in self.manager.history()
        ):
            return  # it comes back: its users may go on
        for user, needs in self.needs.items():
            assert event.component not in needs or not states[user].is_up, (event, user)

    def check_stops(self):
        """Whatever started was asked to stop, once for each start, late ones too."""
        self.gate.set()
        self.sim.sleep(100)  # whoever hung or was late comes back now
        for name in self.names:
            started = self.log.count(("started", name))
            assert self.log.count(("stop", name)) == started, (name, self.fates[name], self.log)

    budget_spent = False


def start(world):
    """Whether it started; when not, somebody who could not is named."""
    failed = []
    try:
        world.manager.start()
    except StartupError as error:
        failed = [world.fates[name] for name in error.failed]
    except LifecycleError:
        failed = ["fails to restart"]  # it gave up while it started
    assert set(failed) & {*BAD_STARTS, *CRASHES} or not failed
    return not failed


@pytest.fixture
def no_defects(caplog):
    caplog.set_level(logging.ERROR, "threadkit.components")
    yield
    assert "a job of the supervisor failed" not in caplog.text


def scenario_of(bad_starts, budget):
    def scenario(sim):
        world = World(sim, sim.seed, bad_starts)
        if start(world):
            world.live()
        began = sim.monotonic()
        report = world.manager.stop(timeout=budget)
        assert sim.monotonic() - began <= budget + 0.001
        world.budget_spent = sim.monotonic() - began >= budget - 0.001
        world.check_history()
        check_report(world, report)
        world.check_stops()

    return scenario


@pytest.mark.parametrize("bad_starts", [False, True], ids=["starts well", "starts badly"])
@pytest.mark.parametrize("budget", [200.0, 2.0, 0.0])
def test_whatever_happens_it_stops_in_order_within_the_budget(bad_starts, budget, no_defects):
    explore(scenario_of(bad_starts, budget), 60)


def check_report(world, report):
    told = {part.name: part.state for part in report.components}
    assert set(told) == set(world.names)
    assert not any(state.is_up for state in told.values())
    for part in report.components:
        if part.state in {ComponentState.ABANDONED, ComponentState.FAILED}:
            assert part.error
        assert (part.state is ComponentState.ABANDONED) == (part.name in report.abandoned)


def scenario_of_a_program(grace):
    """`run` in the main thread, and signals and requests whenever they like to come."""

    def scenario(sim):
        world = World(sim, sim.seed, bad_starts=sim.seed % 2 == 0)
        manager, draw, came = world.manager, world.draw, []

        def signal_somebody():
            for _ in range(draw.choice([1, 1, 2, 3])):
                sim.sleep(draw.choice([0, 0, 0.1, 1, 5, 12]))
                if draw.random() < 0.3:
                    world.crash_somebody()
                if draw.random() < 0.3:
                    came.append(("request", sim.monotonic()))
                    manager.request_stop()
                else:
                    came.append(("signal", sim.monotonic()))
                    manager._requests._on_signal(15, None)  # what the handler does

        shooter = sim.thread(signal_somebody)
        shooter.start()
        try:
            code = manager.run(signals=(), grace=grace)
        except StartupError as error:
            code, failed = None, {*error.failed}
            bad = {name for name, fate in world.fates.items() if fate in BAD_STARTS + CRASHES}
            assert failed & (bad | world.crashed)
        left_at, came_by_then = sim.monotonic(), came.copy()
        report = manager.report()
        asked_at = came_by_then[0][1] if came_by_then else left_at
        assert left_at - asked_at <= max(grace, GROUP_GRACE) + 0.001
        # A signal after the first request spends the budget at once.
        hurried = "signal" in [kind for kind, _ in came_by_then[1:]]
        spent = left_at - asked_at >= grace - 0.001 or left_at >= GROUP_GRACE - 0.001
        world.budget_spent = hurried or spent
        world.check_history()
        check_report(world, report)
        if code == 0:
            assert came_by_then
            assert not report.abandoned
        shooter.join()
        world.check_stops()

    return scenario


@pytest.mark.parametrize("grace", [200.0, 2.0])
def test_whatever_happens_and_whenever_signals_come_it_leaves_in_order(grace, no_defects):
    explore(scenario_of_a_program(grace), 120)


def test_the_scenarios_would_find_a_stop_in_the_wrong_order(monkeypatch):
    from threadkit._components._supervisor import Supervisor

    monkeypatch.setattr(Supervisor, "_is_in_use", lambda supervisor, handle: False)
    with pytest.raises(ScheduleFailed):
        explore(scenario_of(False, 200.0), 60)


def test_the_scenarios_would_find_a_late_start_that_is_forgotten(monkeypatch):
    from threadkit._components._starting import Starting

    monkeypatch.setattr(Starting, "_came_late", lambda *args: None)
    with pytest.raises(ScheduleFailed):
        explore(scenario_of(True, 200.0), 60)
