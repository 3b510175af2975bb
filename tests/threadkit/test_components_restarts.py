"""Restart rules, scopes, intensity, backoff, probes, watchdogs, groups: in virtual time."""

import pytest

from threadkit import (
    Backoff,
    ComponentManager,
    ComponentState,
    ErrorLog,
    Health,
    Intensity,
    LifecycleError,
    Probe,
    RestartsExhausted,
    StartTimeout,
    StartupError,
)
from threadkit.testing import SimRuntime, explore

AT_ONCE = Backoff(0, 0)


class Part:
    def __init__(self, name, log):
        self.name, self.log, self.ctx = name, log, None

    def start(self, ctx):
        self.log.append(f"+{self.name}")
        self.ctx = ctx

    def stop(self, ctx):
        self.log.append(f"-{self.name}")


def simulate(scenario):
    sim = SimRuntime()
    return sim.run(scenario, sim)


def managed(sim, **options):
    """A manager of a <- b <- c, and a d that nobody needs; each part, and the log."""
    manager_options = {
        key: options.pop(key) for key in ("intensity", "on_exhausted", "errors") if key in options
    }
    manager = ComponentManager(runtime=sim, **({"intensity": Intensity(9)} | manager_options))
    log, parts = [], {}
    for name, needs in (("a", []), ("b", ["a"]), ("c", ["b"]), ("d", [])):
        parts[name] = Part(name, log)
        own = {key: value[name] for key, value in options.items() if name in value}
        manager.add(name, parts[name], needs=needs, **({"backoff": AT_ONCE} | own))
    return manager, parts, log


def state(manager, name):
    return next(part.state for part in manager.report().components if part.name == name)


class TestScope:
    @pytest.mark.parametrize(
        ("scope", "expected"),
        [
            ("one", ["-a", "+a"]),
            ("dependents", ["-c", "-b", "-a", "+a", "+b", "+c"]),
            ("group", ["-a", "-b", "-c", "-d", "+a", "+b", "+c", "+d"]),
        ],
    )
    def test_a_restart_takes_along_what_its_scope_says(self, scope, expected):
        def scenario(sim):
            manager, parts, log = managed(sim, scope={"a": scope})
            manager.start()
            del log[:]
            parts["a"].ctx.fail(ValueError("crash"))
            sim.sleep(1)
            assert manager.wait_ready(timeout=10)
            happened = list(log)
            manager.stop()
            return happened

        happened = simulate(scenario)
        if scope == "group":  # d is in nobody's way
            assert sorted(happened) == sorted(expected)
            happened = [step for step in happened if "d" not in step]
            expected = ["-c", "-b", "-a", "+a", "+b", "+c"]
        assert happened == expected

    def test_a_restart_asked_for_counts_no_intensity_and_waits(self):
        def scenario(sim):
            manager, _, log = managed(sim, intensity=Intensity(0), scope={"b": "dependents"})
            manager.start()
            del log[:]
            for _ in range(5):
                assert manager.restart("b", timeout=10)
            assert manager.wait_ready(timeout=10)
            manager.stop()
            assert log[:6] == ["-c", "-b", "+b", "+c", "-c", "-b"]

        simulate(scenario)


class TestRules:
    @pytest.mark.parametrize(
        ("rule", "ending", "final", "restarts"),
        [
            ("transient", "returns", ComponentState.STOPPED, 0),
            ("transient", "raises", ComponentState.RUNNING, 1),
            ("permanent", "returns", ComponentState.RUNNING, 1),
            ("permanent", "raises", ComponentState.RUNNING, 1),
            ("temporary", "returns", ComponentState.STOPPED, 0),
            ("temporary", "raises", ComponentState.FAILED, 0),
        ],
    )
    def test_what_follows_an_end_is_its_rule(self, rule, ending, final, restarts):
        def scenario(sim):
            def work(ctx):
                ctx.sleep(5)
                if ctx.generation == 1 and ending == "raises":
                    raise ValueError("crash")
                if ctx.generation > 1:
                    ctx.wait_stopping()

            manager = ComponentManager(runtime=sim)
            manager.service("work", work, restart=rule, backoff=AT_ONCE)
            manager.start()
            sim.sleep(10)
            (part,) = manager.report().components
            manager.stop()
            assert (part.state, part.restarts) == (final, restarts)
            assert part.error == ("ValueError: crash" if ending == "raises" else None)

        simulate(scenario)

    def test_what_needs_a_service_that_did_its_work_goes_on(self):
        def scenario(sim):
            log = []
            manager = ComponentManager(runtime=sim)
            manager.service("migrate", lambda ctx: log.append("migrated"))
            manager.add("bot", Part("bot", log), needs=["migrate"])
            manager.start()
            sim.sleep(1)
            assert state(manager, "migrate") is ComponentState.STOPPED
            manager.stop()
            assert log == ["migrated", "+bot", "-bot"]

        for _ in range(3):
            simulate(scenario)
        explore(scenario, 60)


class TestBackoff:
    def test_waits_grow_and_begin_anew_after_a_healthy_spell(self):
        def scenario(sim):
            starts = []

            def work(ctx):
                starts.append(sim.monotonic())
                if len(starts) == 5:
                    ctx.sleep(100)
                raise ValueError("crash")

            manager = ComponentManager(intensity=Intensity(99), runtime=sim)
            rule = Backoff(1, 3, factor=2, jitter=0, reset_after=60)
            manager.service("work", work, backoff=rule)
            manager.start()
            sim.sleep(125)
            manager.stop()
            waits = [after - starts[n] for n, after in enumerate(starts[1:])]
            assert waits[:5] == [1, 2, 3, 3, 101]  # then 1 again, after 100 s of health
            assert waits[5:8] == [2, 3, 3]

        simulate(scenario)

    def test_jitter_takes_away_at_most_its_share(self):
        rule = Backoff(10, 10, jitter=0.5)
        assert rule.delay(0, lambda: 0.0) == 10
        assert rule.delay(99, lambda: 1.0) == 5

    def test_very_many_failures_do_not_overflow(self):
        assert Backoff(0.1, 30, jitter=0).delay(10**6, lambda: 0) == 30


class TestIntensity:
    def crash_often(self, times, pause, **options):
        def scenario(sim):
            errors = ErrorLog(runtime=sim)
            manager, parts, _ = managed(sim, errors=errors, **options)
            manager.start()
            for _ in range(times):
                parts["a"].ctx.fail(ValueError("crash"))
                sim.sleep(pause)
            states = {part.name: part.state for part in manager.report().components}
            over = manager._supervisor.is_over
            manager.stop()
            kinds = {group.exception_type for group in errors.groups()}
            return states, over, "threadkit._errors.RestartsExhausted" in kinds

        return simulate(scenario)

    def test_as_many_as_it_allows_are_restarted(self):
        states, over, exhausted = self.crash_often(3, 1, intensity=Intensity(3, per=60))
        assert set(states.values()) == {ComponentState.RUNNING}
        assert not over
        assert not exhausted

    def test_beyond_its_time_restarts_are_forgotten(self):
        states, _, _ = self.crash_often(9, 25, intensity=Intensity(3, per=60))
        assert set(states.values()) == {ComponentState.RUNNING}

    @pytest.mark.parametrize("rule", ["escalate", "stop_group"])
    def test_one_more_stops_the_manager(self, rule):
        states, over, exhausted = self.crash_often(
            4, 1, intensity=Intensity(3, per=60), on_exhausted=rule
        )
        assert states.pop("a") is ComponentState.FAILED
        assert set(states.values()) == {ComponentState.STOPPED}
        assert over
        assert exhausted

    def test_or_only_gives_up_the_component(self):
        states, over, exhausted = self.crash_often(
            4, 1, intensity=Intensity(3, per=60), on_exhausted="give_up"
        )
        assert states.pop("a") is ComponentState.FAILED
        assert set(states.values()) == {ComponentState.RUNNING}
        assert not over
        assert exhausted

    def test_an_essential_component_takes_the_manager_with_it(self):
        states, over, _ = self.crash_often(
            1, 1, intensity=Intensity(0), on_exhausted="give_up", essential={"a": True}
        )
        assert states["a"] is ComponentState.FAILED
        assert over

    def test_run_ends_with_exit_code_1_and_says_why(self, caplog):
        def scenario(sim):
            manager, parts, log = managed(sim, intensity=Intensity(0))
            manager.service("saboteur", lambda ctx: parts["a"].ctx.fail(OSError()), needs=["c"])
            assert manager.run(signals=()) == 1
            assert log[-1] == "-a"

        simulate(scenario)
        told = caplog.records[-1].getMessage()
        assert told.startswith("app ends with exit code 1: it gave up: a was restarted 0 times")


class TestHealth:
    def test_one_that_is_not_ready_is_degraded_and_holds_up_who_needs_it(self):
        def scenario(sim):
            health = [Health()]

            class Asked(Part):
                def health(self):
                    return health[0]

            log = []
            manager = ComponentManager(runtime=sim)
            manager.add("asked", Asked("asked", log), probe=Probe(period=1))
            manager.add("user", Part("user", log), needs=["asked"])
            manager.start()
            health[0] = Health(ready=False, detail="warming up")
            sim.sleep(2)
            assert state(manager, "asked") is ComponentState.DEGRADED
            assert not manager.wait_ready("asked", timeout=1)
            assert not manager.restart("user", timeout=3)
            assert state(manager, "user") is ComponentState.BACKOFF
            health[0] = Health()
            assert manager.wait_ready("asked", "user", timeout=3)
            manager.stop()
            assert log.count("+asked") == 1  # not ready is no reason for a restart

        simulate(scenario)

    @pytest.mark.parametrize("answer", ["raises", "dead", "hangs", "nonsense"])
    def test_one_that_is_not_alive_several_times_in_a_row_is_restarted(self, answer):
        def scenario(sim):
            class Asked(Part):
                answers = iter([Health(), answer, Health(), answer, answer])

                def health(self):
                    told = next(self.answers, Health())
                    if told == "raises":
                        raise OSError("no answer")
                    if told == "hangs":
                        sim.sleep(1000)
                    return Health(alive=False, detail="dead") if told == "dead" else told

            log = []
            manager = ComponentManager(runtime=sim)
            manager.add("asked", Asked("asked", log), probe=Probe(1, failures=2), backoff=AT_ONCE)
            manager.start()
            sim.sleep(60)
            (part,) = manager.report().components
            manager.stop()
            assert part.restarts == 1
            assert "gave 2 bad answers" in part.error

        simulate(scenario)

    def test_fifty_wake_an_idle_manager_less_than_once_a_second(self):
        def scenario(sim):
            class Well(Part):
                asked = 0

                def start(self, ctx):
                    sim.sleep(0.07 * int(self.name))  # so that each is ready at its own time

                def health(self):
                    type(self).asked += 1
                    return Health()

            manager = ComponentManager(runtime=sim)
            for number in range(50):
                manager.add(str(number), Well(str(number), []))
            manager.start()
            actor = manager._supervisor
            sleeps, inbox = [], actor._inbox

            class Counting:
                put, qsize = inbox.put, inbox.qsize

                def get(self, timeout=None):
                    if not inbox.qsize():
                        sleeps.append(timeout)
                    return inbox.get(timeout=timeout)

            actor._inbox = Counting()
            sim.sleep(101)
            assert Well.asked >= 50 * 19
            assert len(sleeps) < 101
            manager.stop()

        simulate(scenario)

    def test_one_that_hangs_holds_up_no_other_answer(self):
        def scenario(sim):
            class Hangs(Part):
                def health(self):
                    sim.sleep(1000)

            class Warms(Part):
                def health(self):
                    return Health(ready=False)

            manager = ComponentManager(runtime=sim)
            for name, kind in (("hangs", Hangs), ("warms", Warms)):
                manager.add(name, kind(name, []), probe=Probe(period=10, failures=2))
            manager.start()
            sim.sleep(12)
            assert state(manager, "warms") is ComponentState.DEGRADED
            assert state(manager, "hangs") is ComponentState.RUNNING
            sim.sleep(30)
            assert next(p for p in manager.report().components if p.name == "hangs").restarts == 1
            manager.stop()

        simulate(scenario)

    def test_one_that_gives_no_sign_of_life_is_restarted_and_said_to_be_at_what(self):
        def scenario(sim):
            errors = ErrorLog(runtime=sim)

            def work(ctx):
                for number in range(10):
                    ctx.beat(f"message {number}")
                    ctx.sleep(2)
                if ctx.generation == 1:
                    sim.sleep(50)  # stuck
                ctx.wait_stopping()

            manager = ComponentManager(errors=errors, runtime=sim)
            manager.service("work", work, watchdog=5, stop_timeout=1, backoff=AT_ONCE)
            manager.start()
            sim.sleep(25)
            (part,) = manager.report().components
            assert part.generation == 2
            assert part.doing == "message 0"
            (failure,) = [g for g in errors.groups() if g.message.startswith("work gave no sign")]
            assert failure.message == "work gave no sign of life for 5 s while 'message 9'"
            manager.stop()
            sim.sleep(60)

        simulate(scenario)


class TestStart:
    def test_every_cause_is_told(self):
        def scenario(sim):
            def fail_later(ctx):
                sim.sleep(1)
                raise OSError("no model")

            manager = ComponentManager("app", runtime=sim)
            for name in ("tts", "llm"):
                manager.service(name, fail_later, says_ready=True)
            with pytest.raises(StartupError, match="no model") as caught:
                manager.start()
            assert set(caught.value.failed) == {"tts", "llm"}
            assert len(caught.value.exceptions) == 2

        simulate(scenario)

    def test_one_that_hangs_fails_in_time_and_is_stopped_when_it_comes_back(self):
        def scenario(sim):
            class Slow(Part):
                def start(self, ctx):
                    sim.sleep(30)
                    super().start(ctx)

            log = []
            manager = ComponentManager(runtime=sim)
            manager.add("slow", Slow("slow", log), start_timeout=10)
            manager.add("quick", Part("quick", log))
            with pytest.raises(StartupError) as caught:
                manager.start()
            assert type(caught.value.failed["slow"]) is StartTimeout
            assert sim.monotonic() == 10
            assert log == ["+quick", "-quick"]
            sim.sleep(30)
            assert log[2:] == ["+slow", "-slow"]

        simulate(scenario)

    def test_all_together_may_be_given_a_time(self):
        def scenario(sim):
            manager = ComponentManager(runtime=sim)
            manager.service("never", lambda ctx: ctx.wait_stopping(), says_ready=True)
            with pytest.raises(StartupError, match="never was not ready within 2 s"):
                manager.start(timeout=2)

        simulate(scenario)

    def test_independent_ones_start_beside_one_another(self):
        def scenario(sim):
            manager = ComponentManager(runtime=sim)
            for number in range(20):
                manager.service(
                    f"s{number}",
                    lambda ctx: sim.sleep(1) or ctx.ready() or ctx.wait_stopping(),
                    says_ready=True,
                )
            manager.start()
            assert sim.monotonic() == 1
            manager.stop()

        simulate(scenario)

    def test_only_some_may_be_started_with_what_they_need(self):
        def scenario(sim):
            manager, _, log = managed(sim)
            manager.start(only=["b"])
            assert log == ["+a", "+b"]
            with pytest.raises(ValueError, match="app has no component named 'x'"):
                manager.wait_ready("x")
            manager.stop()
            assert log[2:] == ["-b", "-a"]
            manager.start()  # and everything later
            assert len(log) == 8
            manager.stop()

        simulate(scenario)

    def test_one_stopped_by_another_thread_meanwhile_says_so(self):
        def scenario(sim):
            manager = ComponentManager(runtime=sim)
            manager.service("slow", lambda ctx: ctx.wait_stopping(), says_ready=True)
            stopper = sim.thread(lambda: sim.sleep(1) or manager.stop())
            stopper.start()
            with pytest.raises(LifecycleError, match="was stopped while it started"):
                manager.start()
            stopper.join()

        simulate(scenario)


class TestGroups:
    def test_a_group_is_a_component_with_components(self):
        def scenario(sim):
            log = []
            manager = ComponentManager("app", runtime=sim)
            audio = manager.group("audio")
            audio.add("player", Part("player", log), needs=["device"])
            audio.add("device", Part("device", log))
            manager.add("bot", Part("bot", log), needs=["audio"])
            manager.start()
            assert log == ["+device", "+player", "+bot"]
            assert "player: running" in str(manager.report())
            manager.stop()
            assert log[3:] == ["-bot", "-player", "-device"]

        explore(scenario, 40)

    def test_a_group_that_gives_up_is_restarted_by_its_rule_in_the_outer_manager(self):
        def scenario(sim):
            errors = ErrorLog(runtime=sim)
            log = []
            manager = ComponentManager("app", errors=errors, runtime=sim)
            group = manager.group("audio", intensity=Intensity(1, per=60), backoff=AT_ONCE)
            part = Part("device", log)
            group.add("device", part, backoff=AT_ONCE)
            pool = group.pool("workers", max_workers=1)
            manager.start()
            for _ in range(2):
                part.ctx.fail(ValueError("crash"))
                sim.sleep(1)
            assert manager.wait_ready("audio", timeout=10)
            (report,) = manager.report().components
            assert (report.generation, report.restarts) == (2, 1)
            assert report.group.components[0].state is ComponentState.RUNNING
            assert log == ["+device", "-device", "+device", "-device", "+device"]
            assert pool.submit(pow, 2, 3).result(5) == 8  # pools outlive a restart of the group
            manager.stop()
            with pytest.raises(RuntimeError, match="cannot schedule new futures"):
                pool.submit(pow, 2, 3)

        simulate(scenario)

    def test_failure_goes_up_to_the_top(self):
        def scenario(sim):
            manager = ComponentManager("app", intensity=Intensity(0), runtime=sim)
            inner = manager.group("a", intensity=Intensity(0)).group("b", intensity=Intensity(0))
            inner.service("work", lambda ctx: sim.sleep(1) or 1 / 0)
            assert manager.run(signals=()) == 1
            assert isinstance(manager._supervisor.failure, RestartsExhausted)

        simulate(scenario)
