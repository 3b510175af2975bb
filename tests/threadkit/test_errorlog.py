"""ErrorLog: what belongs together, how often, how fast, and that nothing is counted twice."""

import concurrent.futures
import pickle
import subprocess
import sys
import textwrap

import pytest

from failing import caught
from threadkit import ErrorLog, Failure, Retry, Severity
from threadkit.testing import ScheduleFailed, SimRuntime, explore

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


def bad_room(number=1):
    raise ValueError(f"no room {number}")


def bad_voice():
    raise ValueError("no such voice")


@pytest.fixture
def errors():
    with ErrorLog() as log:
        yield log


@pytest.fixture
def sim():
    return SimRuntime()


@pytest.fixture
def timed(sim):
    with ErrorLog(runtime=sim) as log:
        yield log


def module(source, name):
    """A module of the application, whose functions have the line numbers of `source`."""
    namespace = {"__name__": name}
    exec(compile(textwrap.dedent(source), f"/app/{name}.py", "exec"), namespace)
    return namespace


class Odd(Exception):
    """A foreign exception whose attributes mean something else, or raise."""

    def __init__(self, task):
        super().__init__("odd")
        self.task = task

    @property
    def component(self):
        raise RuntimeError("not now")


def test_what_a_foreign_exception_says_of_itself_is_taken_only_when_it_is_a_name(errors):
    errors.record(Odd(task=object()))
    (group,) = errors.groups()
    assert (group.component, group.task) == (None, None)
    errors.record(Odd(task="greet"))
    (group,) = errors.groups()
    assert (group.component, group.task, group.count) == (None, "greet", 2)


class TestFingerprint:
    def test_failures_of_one_function_share_it_whatever_they_say(self, errors):
        assert errors.record(caught(bad_room, 1)) == errors.record(caught(bad_room, 2))

    def test_functions_have_their_own(self, errors):
        assert errors.record(caught(bad_room)) != errors.record(caught(bad_voice))

    def test_types_have_their_own(self, errors):
        def fail(cls):
            raise cls("gone")

        assert errors.record(caught(fail, KeyError)) != errors.record(caught(fail, OSError))

    def test_it_does_not_change_when_lines_move(self, errors):
        source = "def feed():\n    raise ValueError('x')\n"
        before, after = module(source, "feeds"), module("\n\n\n" + source, "feeds")
        assert errors.record(caught(before["feed"])) == errors.record(caught(after["feed"]))

    def test_functions_of_the_same_name_in_two_modules_have_their_own(self, errors):
        source = "def feed():\n    raise ValueError('x')\n"
        one, other = module(source, "feeds"), module(source, "sources")
        assert errors.record(caught(one["feed"])) != errors.record(caught(other["feed"]))

    def test_it_does_not_depend_on_the_depth_of_a_recursion(self, errors):
        def descend(depth):
            if depth == 0:
                bad_room()
            descend(depth - 1)

        assert errors.record(caught(descend, 2)) == errors.record(caught(descend, 20))

    def test_it_does_not_depend_on_the_library_below_the_application(self, errors):
        import json

        text, number = caught(json.loads, "{"), caught(json.loads, '{"a": }')
        assert errors.record(text) == errors.record(number)

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("room 17 is full", "room 4 is full", True),
            ("at 0x7f3a is nothing", "at 0x55d2 is nothing", True),
            (
                "no job 1b4e28ba-2fa1-11d2-883f-0016d3cca427",
                "no job 6fa459ea-ee8a-3ca4-894e-db77e160355e",
                True,
            ),
            ("digest 9e107d9d372bb682 differs", "digest e4d909c290d0fb1c differs", True),
            ("took 1.25 s", "took 30 s", True),
            ("room is full", "room is gone", False),
            ("effaced", "decided", False),
        ],
    )
    def test_without_frames_the_message_speaks_without_its_numbers(self, errors, one, other, same):
        prints = {errors.record(ValueError(one)), errors.record(ValueError(other))}
        assert len(prints) == (1 if same else 2)

    def test_causes_tell_failures_apart(self, errors):
        def wrap(cause):
            raise RuntimeError("load failed") from cause

        one, other = caught(wrap, KeyError("k")), caught(wrap, OSError("o"))
        assert errors.record(one) != errors.record(other)

    def test_members_tell_groups_apart(self, errors):
        one, other = (ExceptionGroup("start", [cls("x")]) for cls in (KeyError, OSError))
        assert errors.record(one) != errors.record(other)

    def test_it_is_the_same_in_every_process(self, errors):
        code = (
            "from threadkit import ErrorLog\n"
            "print(ErrorLog().record(ValueError('room 3')))\n"
            "def feed(): raise ValueError('x')\n"
            "try: feed()\n"
            "except ValueError as exc: print(ErrorLog().record(exc))\n"
        )
        runs = {
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
            ).stdout
            for _ in range(2)
        }
        (lines,) = (run.splitlines() for run in runs)
        assert lines[0] == errors.record(ValueError("room 4"))
        assert len(lines) == 2

    def test_it_begins_with_the_type(self, errors):
        assert errors.record(caught(bad_room)).startswith("ValueError-")


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("cannot say")


class TestRecord:
    def test_it_counts_by_group_and_keeps_the_first_story(self, errors):
        for number in (1, 2, 3):
            errors.record(caught(bad_room, number), component="source", task=f"t{number}")
        (group,) = errors.groups()
        assert (group.count, group.message) == (3, "no room 1")
        assert (group.component, group.task) == ("source", "t3")
        assert group.exception_type == "builtins.ValueError"
        assert (group.severity, group.retry) == (Severity.ERROR, Retry.NEVER)
        assert "in bad_room" in group.format()

    def test_one_exception_is_counted_once_however_many_parts_record_it(self, errors):
        exc = caught(bad_room)
        assert errors.record(exc) == errors.record(Failure(exc, component="pool"))
        figures = errors.statistics()
        assert (figures.recorded, figures.repeats) == (1, 1)

    def test_two_logs_each_count_it(self, errors):
        exc = caught(bad_room)
        with ErrorLog() as other:
            errors.record(exc)
            other.record(exc)
            assert other.statistics().recorded == errors.statistics().recorded == 1

    def test_a_recorded_exception_pickles(self, errors):
        exc = caught(bad_room)
        errors.record(exc)
        assert str(pickle.loads(pickle.dumps(exc))) == str(exc)

    def test_facts_of_the_exception_say_where_when_nobody_else_does(self, errors):
        from threadkit import TaskTimeout

        errors.record(TaskTimeout(timeout=1, task="say", component="tts"))
        (group,) = errors.groups()
        assert (group.component, group.task) == ("tts", "say")

    def test_the_group_is_as_bad_as_its_worst_member(self, errors):
        def fail(code):
            raise OSError(code, "trouble")

        import errno

        errors.record(caught(fail, errno.EHOSTUNREACH))
        errors.record(caught(fail, errno.ENOSPC))
        errors.record(caught(fail, errno.EHOSTUNREACH))
        (group,) = errors.groups()
        assert (group.count, group.severity) == (3, Severity.CRITICAL)
        assert errors.statistics().by_severity[Severity.WARNING] == 2

    def test_an_exception_that_cannot_say_what_it_is_is_recorded(self, errors):
        errors.record(Unspeakable())
        (group,) = errors.groups()
        assert "Unspeakable" in group.message

    @pytest.mark.parametrize("wrong", [None, "text", ValueError])
    def test_only_exceptions_are_recorded(self, errors, wrong):
        with pytest.raises(TypeError, match="must be an exception or a Failure"):
            errors.record(wrong)

    @pytest.mark.parametrize("junk", [5, "a note", None, [1, 2], object()])
    def test_notes_that_are_no_notes_keep_nothing_from_being_recorded(self, errors, junk):
        exc = caught(bad_room)
        exc.__notes__ = junk
        failure = Failure(exc, site=(bad_room.__code__, 0))
        errors.record(failure)
        (group,) = errors.groups()
        assert "no room 1" in group.format()
        assert "no room 1" in failure.format()
        assert errors.statistics().unrecorded == 0

    def test_an_exception_that_exits_when_it_is_printed_ends_nobody_else(self, errors):
        class Exiting(Exception):
            def __str__(self):
                raise SystemExit

        errors.record(Exiting())
        figures = errors.statistics()
        assert figures.recorded + figures.unrecorded == 1

    def test_what_cannot_be_recorded_is_counted(self, errors, monkeypatch):
        monkeypatch.setattr(
            "threadkit._failures._log.classify", lambda exc: caught(bad_room).missing
        )
        assert errors.record(caught(bad_room)) == "ValueError"
        assert errors.statistics().unrecorded == 1

    def test_a_failure_at_the_recursion_limit_never_hurts_its_recorder(self, errors):
        def descend():
            try:
                descend()
            except RecursionError as exc:
                errors.record(exc)
                raise

        assert type(caught(descend)) is RecursionError
        figures = errors.statistics()
        assert figures.recorded + figures.unrecorded >= 1

    def test_nothing_of_the_failed_call_is_kept_alive(self, errors):
        import gc
        import weakref

        class Big:
            pass

        def work():
            big = Big()
            kept.append(weakref.ref(big))
            bad_room()

        kept = []
        errors.record(caught(work))
        gc.collect()
        assert kept[0]() is None

    def test_its_repr_shows_the_counts(self, errors):
        errors.record(caught(bad_room))
        assert repr(errors) == "<ErrorLog errors: 1 failures in 1 groups>"


class TestGroups:
    def test_the_one_that_was_quiet_longest_is_forgotten(self):
        with ErrorLog(max_groups=2) as errors:
            first = errors.record(ValueError("first"))
            errors.record(ValueError("second"))
            assert errors.record(ValueError("first")) == first
            errors.record(ValueError("third"))
            assert {group.message for group in errors.groups()} == {"first", "third"}
            figures = errors.statistics()
            assert (figures.groups, figures.evicted, figures.recorded) == (2, 1, 4)

    def test_a_flood_of_new_groups_is_bounded(self):
        with ErrorLog(max_groups=10) as errors:
            words = [f"{chr(97 + a)}{chr(97 + b)}" for a in range(20) for b in range(20)]
            for word in words:
                errors.record(ValueError(word))
            figures = errors.statistics()
            assert (figures.groups, figures.evicted, figures.recorded) == (10, 390, 400)

    def test_they_come_in_the_order_asked_for(self, timed, sim):
        def record(message, times, cls=ValueError):
            for _ in range(times):
                timed.record(cls(message))
            sim.advance(100)

        record("often", 3)
        record("bad", 1, MemoryError)
        record("lately", 2)
        assert [g.message for g in timed.groups()] == ["often", "lately", "bad"]
        assert [g.message for g in timed.groups(by="last_seen")] == ["lately", "bad", "often"]
        assert [g.message for g in timed.groups(by="first_seen")] == ["lately", "bad", "often"]
        assert timed.groups(by="severity")[0].message == "bad"
        timed.record(ValueError("fresh"))
        assert timed.groups(by="rate", top=1)[0].message == "fresh"

    def test_they_know_when_they_were_first_and_last_seen(self, timed, sim):
        began = sim.time()
        timed.record(ValueError("x"))
        sim.advance(90)
        timed.record(ValueError("x"))
        (group,) = timed.groups()
        assert (group.first_seen, group.last_seen) == (began, began + 90)

    @pytest.mark.parametrize(
        ("given", "message"),
        [({"by": "size"}, "by must be one of count, "), ({"top": -1}, "top must not be negative")],
    )
    def test_what_makes_no_sense_is_refused(self, errors, given, message):
        with pytest.raises(ValueError, match=message):
            errors.groups(**given)

    def test_a_log_without_groups_is_refused(self):
        with pytest.raises(ValueError, match="max_groups must be at least 1, not 0"):
            ErrorLog(max_groups=0)


def flood(errors, times, message="x"):
    for _ in range(times):
        fingerprint = errors.record(ValueError(message))
    return fingerprint


class TestRate:
    def test_it_counts_the_window_only(self, timed, sim):
        fingerprint = flood(timed, 30)
        sim.advance(30)
        flood(timed, 12)
        assert timed.rate(fingerprint, window=10) == 1.2
        assert timed.rate(fingerprint, window=60) == 0.7
        sim.advance(3600)
        assert timed.rate(fingerprint) == 0

    def test_an_unknown_group_has_none(self, errors):
        assert errors.rate("ValueError-0") == 0
        assert not errors.is_spiking("ValueError-0")

    @pytest.mark.parametrize("window", [0, -1, 601])
    def test_a_window_that_is_not_remembered_is_refused(self, errors, window):
        with pytest.raises(ValueError, match="window must be above 0 and at most 600"):
            errors.rate("x", window)

    def test_a_new_group_spikes_at_once(self, timed):
        assert timed.is_spiking(flood(timed, 10))

    def test_a_few_failures_are_no_spike(self, timed):
        assert not timed.is_spiking(flood(timed, 9))

    def test_a_steady_stream_is_no_spike(self, timed, sim):
        for _ in range(60):
            fingerprint = flood(timed, 10)
            sim.advance(10)
        assert not timed.is_spiking(fingerprint)

    def test_a_steady_stream_that_triples_is_one_until_it_is_over(self, timed, sim):
        for _ in range(60):
            flood(timed, 10)
            sim.advance(10)
        for _ in range(3):
            fingerprint = flood(timed, 30)
            sim.advance(10)
        assert timed.is_spiking(fingerprint)
        for _ in range(4):
            flood(timed, 10)
            sim.advance(10)
        assert not timed.is_spiking(fingerprint)


class TestConcurrency:
    def test_every_failure_is_counted_whatever_the_schedule(self):
        def scenario(sim):
            errors = ErrorLog(max_groups=2, runtime=sim)
            told = []
            errors.add_sink(told.append, limit=None)

            def record(name):
                for _ in range(2):
                    errors.record(ValueError(name))

            threads = [sim.thread(record, args=(name,)) for name in ("a", "a", "b")]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert {g.message: g.count for g in errors.groups()} == {"a": 4, "b": 2}
            assert errors.close(None)
            assert len(told) == errors.statistics().recorded == 6

        explore(scenario, 150, preempt=["threadkit._failures._ledger"])

    def test_the_schedules_above_would_find_a_missing_lock(self):
        class NoLock:
            def acquire(self, blocking=True):
                return True

            def release(self):
                pass

            def __enter__(self):
                return True

            def __exit__(self, *exc_info):
                return None

        def scenario(sim):
            errors = ErrorLog(runtime=sim)
            errors._ledger.lock = NoLock()

            def record():
                errors.record(ValueError("a"))

            threads = [sim.thread(record) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert errors.statistics().recorded == 2
            assert errors.groups()[0].count == 2

        with pytest.raises(ScheduleFailed) as failed:
            explore(
                scenario,
                150,
                preempt=["threadkit._failures._ledger", "threadkit._failures._groups"],
            )
        assert type(failed.value.__cause__) is AssertionError

    def test_real_threads_lose_nothing_either(self, errors):
        def record(number):
            for _ in range(200):
                errors.record(caught(bad_room, number))

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(record, range(4)))
        assert errors.groups()[0].count == 800


class TestReentrancy:
    def test_a_failure_met_while_recording_is_recorded_too(self, errors, monkeypatch):
        """Stands for a finalizer that fails while its thread is in the middle of the groups."""
        from threadkit._failures._groups import Group

        add = Group.add

        def add_and_fail(group, failure, severity, now):
            if str(failure.exception) == "outer":
                errors.record(ValueError("inner"))
                assert len(errors.groups()) == 1  # the inner one waits its turn
            add(group, failure, severity, now)

        monkeypatch.setattr(Group, "add", add_and_fail)
        errors.record(ValueError("outer"))
        assert {g.message for g in errors.groups()} == {"outer", "inner"}
        assert errors.statistics().recorded == 2

    def test_an_exception_that_records_another_while_it_is_printed(self, errors):
        class Chatty(Exception):
            def __str__(self):
                errors.record(KeyError("from __str__"))
                return "chatty"

        errors.record(Chatty())
        assert {g.exception_type for g in errors.groups()} >= {"builtins.KeyError"}
        assert errors.statistics().unrecorded == 0

    def test_finalizers_that_fail_while_recording_deadlock_nothing(self, errors, monkeypatch):
        import gc

        seen = []
        monkeypatch.setattr(sys, "unraisablehook", seen.append)

        class Dying:
            def __init__(self):
                self.me = self

            def __del__(self):
                raise OSError("died badly")

        errors.install()
        thresholds = gc.get_threshold()
        gc.set_threshold(5)
        try:
            for _ in range(300):
                Dying()
                errors.record(caught(bad_room))
            gc.collect()
        finally:
            gc.set_threshold(*thresholds)
            errors.uninstall()
        counts = {g.exception_type: g.count for g in errors.groups()}
        assert counts == {"builtins.ValueError": 300, "builtins.OSError": 300}
        assert len(seen) == 300

    @pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
    def test_a_signal_handler_may_record(self, errors, monkeypatch):
        import signal

        from threadkit._failures._groups import Group

        add = Group.add

        def add_and_signal(group, failure, severity, now):
            signal.raise_signal(signal.SIGUSR1)
            add(group, failure, severity, now)

        previous = signal.signal(
            signal.SIGUSR1, lambda *_: str(errors.record(OSError("signal"))) and unpatch()
        )

        def unpatch():
            monkeypatch.setattr(Group, "add", add)

        monkeypatch.setattr(Group, "add", add_and_signal)
        try:
            errors.record(ValueError("outer"))
        finally:
            signal.signal(signal.SIGUSR1, previous)
        assert errors.statistics().recorded == 2
