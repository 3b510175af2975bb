"""Sinks: told in order, within limits, and never a burden to whoever records."""

import concurrent.futures
import errno
import gc
import json
import logging
import math
import os
import subprocess
import sys
import threading
import weakref

import pytest

from failing import caught
from threadkit import ErrorLog, Failure, JsonLinesSink, LoggingSink, Severity, TaskTimeout
from threadkit.testing import SimRuntime, explore

TIMEOUT = 10


def bad_room(number=1):
    raise ValueError(f"no room {number}")


@pytest.fixture
def errors():
    with ErrorLog() as log:
        yield log


def sink_figures(errors, index=0):
    return errors.statistics().sinks[index]


def accounted(figures):
    return (
        figures.delivered + figures.failed + figures.suppressed + figures.dropped + figures.waiting
    )


class TestDelivery:
    def test_a_sink_hears_of_failures_in_order(self, errors):
        told = []
        errors.add_sink(told.append, limit=None)
        for number in range(100):
            errors.record(caught(bad_room, number))
        assert errors.flush(TIMEOUT)
        assert [event.message for event in told] == [f"no room {n}" for n in range(100)]
        assert [event.group.count for event in told] == list(range(1, 101))

    def test_the_story_of_the_failure_comes_with_it(self, errors):
        told = []
        errors.add_sink(told.append)
        errors.record(Failure(caught(bad_room), component="pool", task="t", worker="pool-worker-1"))
        assert errors.flush(TIMEOUT)
        (event,) = told
        assert event.failure.worker == "pool-worker-1"
        assert event.severity is Severity.ERROR
        assert event.summary() == "pool t: builtins.ValueError: no room 1"
        assert "in bad_room" in event.format()

    def test_it_runs_on_a_thread_of_its_own_with_a_name(self):
        names = []
        with ErrorLog("app") as errors:
            errors.add_sink(lambda event: names.append(threading.current_thread().name), name="x")
            errors.record(caught(bad_room))
        assert names == ["app-sink-x"]

    def test_what_is_below_its_grade_is_not_told(self, errors):
        told = []
        errors.add_sink(told.append, min_severity=Severity.ERROR)
        errors.record(TaskTimeout(timeout=1))
        errors.record(BlockingIOError())
        assert errors.flush(TIMEOUT)
        assert [event.group.exception_type for event in told] == ["threadkit._errors.TaskTimeout"]

    def test_no_thread_is_started_before_there_is_something_to_tell(self):
        before = threading.active_count()
        with ErrorLog() as errors:
            errors.add_sink(lambda event: None)
            assert threading.active_count() == before

    def test_what_it_was_told_is_not_kept_alive(self, errors):
        class Mine(Exception):
            pass

        heard = threading.Event()
        errors.add_sink(lambda event: heard.set())
        exc = caught(lambda: (_ for _ in ()).throw(Mine()))
        reference = weakref.ref(exc)
        errors.record(exc)
        del exc
        assert errors.flush(TIMEOUT)
        gc.collect()
        assert reference() is None

    def test_its_name_is_its_functions_or_its_classes(self, errors):
        errors.add_sink(LoggingSink("x"))
        errors.add_sink(print)
        assert [sink.name for sink in errors.statistics().sinks] == ["LoggingSink", "print"]

    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            ({"limit": 0}, ValueError, "limit must be at least 1, not 0"),
            ({"queue_size": 0}, ValueError, "queue_size must be at least 1, not 0"),
            ({"per": 0.0}, ValueError, r"per must be positive, not 0\.0"),
            ({"per": math.nan}, ValueError, "per must be positive, not nan"),
            ({"sink": "file.txt"}, TypeError, "sink must be callable, 'file.txt' is not"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, errors, given, error, message):
        with pytest.raises(error, match=message):
            errors.add_sink(**({"sink": print} | given))


class TestLimit:
    def run(self, scenario):
        sim = SimRuntime()

        def in_simulation():
            told = []
            with ErrorLog(runtime=sim) as errors:
                scenario(sim, errors, told)
            return told

        return sim.run(in_simulation)

    def test_beyond_it_failures_are_suppressed_and_the_next_one_says_how_many(self):
        def scenario(sim, errors, told):
            errors.add_sink(told.append, limit=2, per=60)
            for _ in range(5):
                errors.record(ValueError("x"))
            sim.advance(59)
            errors.record(ValueError("x"))
            sim.advance(1)
            errors.record(ValueError("x"))
            figures = sink_figures(errors)
            assert (figures.suppressed, accounted(figures)) == (4, 7)

        told = self.run(scenario)
        assert [event.suppressed for event in told] == [0, 0, 4]
        assert told[2].summary() == "builtins.ValueError: x (suppressed 4)"

    def test_each_group_has_its_own(self):
        def scenario(sim, errors, told):
            errors.add_sink(told.append, limit=1)
            for _ in range(100):
                errors.record(ValueError("flood"))
            errors.record(ValueError("rare"))

        told = self.run(scenario)
        assert [event.message for event in told[:2]] == ["flood", "rare"]

    def test_it_lasts_as_long_as_the_group_and_what_was_suppressed_is_told_then(self):
        told = []
        with ErrorLog(max_groups=2) as errors:
            errors.add_sink(
                lambda event: told.append((event.group.exception_type[9:], event.suppressed)),
                limit=1,
                per=3600,
            )
            for error in (KeyError, KeyError, OSError, KeyError, TypeError, KeyError):
                errors.record(error("x"))
            assert errors.flush(TIMEOUT)
            assert told == [("KeyError", 0), ("OSError", 0), ("TypeError", 0)]
            errors.record(OSError("x"))  # TypeError is forgotten, of which nothing was suppressed
            errors.record(ValueError("x"))  # KeyError is
            assert errors.flush(TIMEOUT)
            assert told[3:] == [("OSError", 0), ("KeyError", 3), ("ValueError", 0)]
        assert len(told) == 6

    def test_what_was_suppressed_last_is_told_at_the_end(self):
        def scenario(sim, errors, told):
            errors.add_sink(told.append, limit=1)
            for _ in range(4):
                errors.record(ValueError("x"))

        first, closing = self.run(scenario)
        assert first.suppressed == 0
        assert closing.failure is None
        assert closing.summary() == "builtins.ValueError: x (suppressed 3)"
        assert closing.format() == first.group.format()

    def test_none_tells_all(self):
        def scenario(sim, errors, told):
            errors.add_sink(told.append, limit=None)
            for _ in range(100):
                errors.record(ValueError("x"))

        assert len(self.run(scenario)) == 100


class TestBadSinks:
    def test_one_that_blocks_for_ever_costs_its_own_counted_drops_only(self, errors):
        gate, entered, told = threading.Event(), threading.Event(), []

        def block(event):
            entered.set()
            assert gate.wait(TIMEOUT)

        errors.add_sink(block, limit=None, queue_size=10)
        errors.add_sink(told.append, limit=None, queue_size=2000)
        errors.record(caught(bad_room))
        assert entered.wait(TIMEOUT)
        for number in range(999):
            errors.record(caught(bad_room, number))
        stuck = sink_figures(errors)
        assert (stuck.waiting, stuck.dropped) == (10, 989)
        assert errors.groups()[0].count == 1000
        gate.set()
        assert errors.flush(TIMEOUT)
        assert len(told) == sink_figures(errors, 1).delivered == 1000
        assert sink_figures(errors).delivered == 11

    def test_closing_does_not_wait_for_it_beyond_the_timeout(self):
        gate = threading.Event()
        errors = ErrorLog()
        errors.add_sink(lambda event: gate.wait(TIMEOUT))
        errors.record(caught(bad_room))
        assert not errors.close(timeout=0.01)
        gate.set()
        assert errors.close(TIMEOUT)

    def test_flushing_after_the_close_that_gave_up_waits_for_its_end(self):
        gate = threading.Event()
        told = []
        errors = ErrorLog()
        errors.add_sink(lambda event: told.append(gate.wait(TIMEOUT)))
        errors.record(caught(bad_room))
        assert not errors.close(timeout=0)
        assert not errors.flush(0)
        gate.set()
        assert errors.flush(TIMEOUT)
        assert told == [True]

    def test_one_that_closes_the_log_is_told_it_has_not_ended(self):
        closed = []
        errors = ErrorLog()
        errors.add_sink(lambda event: closed.append(errors.close(TIMEOUT)))
        errors.record(caught(bad_room))
        assert errors.flush(TIMEOUT)
        assert errors.close(TIMEOUT)
        assert closed == [False]
        assert sink_figures(errors).failed == 0

    @pytest.mark.parametrize("error", [OSError, SystemExit, KeyboardInterrupt])
    def test_one_that_raises_is_counted_and_called_again(self, errors, error, caplog):
        calls = []

        def fail(event):
            calls.append(event)
            raise error("disk full")

        errors.add_sink(fail, name="broken")
        for number in range(3):
            errors.record(caught(bad_room, number))
        assert errors.flush(TIMEOUT)
        figures = sink_figures(errors)
        assert (len(calls), figures.failed, figures.delivered) == (3, 3, 0)
        assert [r.getMessage() for r in caplog.records] == [
            "sink broken raised; its failures are counted"
        ]

    def test_one_that_records_failures_itself_does_not_feed_itself(self, errors):
        def stumble(event):
            errors.record(OSError(f"while telling of {event.message}"))

        errors.add_sink(stumble)
        errors.record(ValueError("x"))
        assert errors.flush(TIMEOUT)
        figures = errors.statistics()
        assert (figures.recorded, figures.untold) == (2, 1)
        assert figures.sinks[0].delivered == 1

    def test_one_that_flushes_waits_for_the_others_only(self, errors):
        flushed = []
        errors.add_sink(lambda event: flushed.append(errors.flush(TIMEOUT)))
        errors.record(ValueError("x"))
        assert errors.flush(TIMEOUT)
        assert flushed == [True]

    def test_when_no_thread_can_be_started_events_wait_for_the_next_try(self):
        sim = SimRuntime()

        def scenario():
            told = []
            with ErrorLog(runtime=sim) as errors:
                errors.add_sink(told.append, limit=None)
                sim.fail_thread_starts(2)
                errors.record(ValueError("x"))
                errors.record(ValueError("x"))
                assert sink_figures(errors).waiting == 2
                errors.record(ValueError("x"))
                assert errors.flush(TIMEOUT)
                assert len(told) == 3

        sim.run(scenario)

    def test_every_failure_is_accounted_for_whatever_the_schedule(self):
        def scenario(sim):
            errors = ErrorLog(runtime=sim)
            slow, failing = [], []

            def be_slow(event):
                sim.sleep(1)
                slow.append(event)

            def fail(event):
                failing.append(event)
                raise OSError

            errors.add_sink(be_slow, limit=None, queue_size=2)
            errors.add_sink(fail, limit=3)

            def record(name):
                for _ in range(4):
                    errors.record(ValueError(name))

            threads = [sim.thread(record, args=(name,)) for name in "ab"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for figures in errors.statistics().sinks:
                assert accounted(figures) in {8, 7}  # one may be on its way through the sink
            assert errors.close(None)
            first, second = errors.statistics().sinks
            assert accounted(first) == 8
            assert first.delivered == len(slow)
            # Two groups of four, three of each told and one suppressed, then the closing reports.
            assert (second.failed, second.suppressed, len(failing)) == (8, 2, 8)

        explore(scenario, 100)


class TestClose:
    def test_it_tells_what_waits(self):
        told = []
        errors = ErrorLog()
        errors.add_sink(told.append, limit=None)
        for number in range(50):
            errors.record(caught(bad_room, number))
        assert errors.close(TIMEOUT)
        assert len(told) == 50

    def test_twice_is_once(self):
        closed = []

        class Sink:
            def __call__(self, event):
                pass

            def close(self):
                closed.append(threading.current_thread().name)

        errors = ErrorLog("app")
        errors.add_sink(Sink())
        assert errors.close(TIMEOUT)
        assert errors.close(TIMEOUT)
        assert closed == ["app-sink-Sink"]

    def test_a_sink_whose_close_raises_ends_all_the_same(self, caplog):
        class Sink:
            def __call__(self, event):
                pass

            def close(self):
                raise OSError("disk full")

        errors = ErrorLog()
        errors.add_sink(Sink())
        assert errors.close(TIMEOUT)
        assert "raised in close()" in caplog.text

    def test_later_failures_are_counted_but_told_to_nobody(self):
        told = []
        errors = ErrorLog()
        errors.add_sink(told.append)
        errors.close(TIMEOUT)
        errors.record(caught(bad_room))
        assert errors.statistics().recorded == 1
        assert told == []
        with pytest.raises(RuntimeError, match="errors is closed: no sink can be added"):
            errors.add_sink(print)

    def test_a_log_that_is_dropped_ends_its_threads(self):
        errors = ErrorLog("dropped")
        errors.add_sink(lambda event: None, name="x")
        errors.record(caught(bad_room))
        (thread,) = (t for t in threading.enumerate() if t.name == "dropped-sink-x")
        del errors
        gc.collect()
        thread.join(TIMEOUT)
        assert not thread.is_alive()


class TestLogging:
    def test_a_failure_becomes_a_record_with_its_facts(self, errors, caplog):
        caplog.set_level(logging.INFO, "bot")
        errors.add_sink(LoggingSink("bot"))
        site = (bad_room.__code__, 0)
        failure = Failure(
            caught(bad_room), site=site, component="pool", task="t", worker="w", attempt=2
        )
        fingerprint = errors.record(failure)
        assert errors.flush(TIMEOUT)
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.getMessage().startswith("pool t: builtins.ValueError: no room 1")
        assert record.exc_info[1] is failure.exception
        assert record.fingerprint == fingerprint
        assert (record.component, record.task, record.worker) == ("pool", "t", "w")
        assert (record.attempt, record.count, record.suppressed) == (2, 1, 0)
        assert record.submitted_at.endswith("in bad_room")
        assert "submitted at " in caplog.text

    def test_an_exception_still_in_flight_is_left_as_it_is(self, errors):
        """It is raised on after it was recorded; neither story nor sink may rewind it."""
        errors.add_sink(LoggingSink("in.flight"))
        failures = []

        def passes_on():
            try:
                bad_room()
            except ValueError as exc:
                failures.append(Failure(exc))
                raise RuntimeError("room") from exc

        exc = caught(passes_on).__cause__
        exc.__traceback__ = caught(passes_on).__traceback__
        exc.__context__ = context = KeyError("met on the way")
        before = exc.__traceback__
        errors.record(failures[0])
        assert errors.flush(TIMEOUT)
        assert sink_figures(errors).delivered == 1
        assert exc.__traceback__ is before
        assert exc.__context__ is context

    def test_the_worst_grade_is_critical(self, errors, caplog):
        errors.add_sink(LoggingSink("bot"))
        errors.record(SystemError("the interpreter is broken"))
        assert errors.flush(TIMEOUT)
        assert caplog.records[0].levelname == "CRITICAL"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class TestJsonLines:
    def test_a_failure_becomes_a_line(self, tmp_path):
        path = tmp_path / "failures.jsonl"
        with ErrorLog() as errors:
            errors.add_sink(JsonLinesSink(path))
            failure = Failure(
                caught(bad_room, "直播间"), component="pool", task="t", worker="w", at=1.5
            )
            fingerprint = errors.record(failure)
        (line,) = lines(path)
        assert "in bad_room" in line.pop("traceback")
        assert line == {
            "time": "1970-01-01T00:00:01.500000+00:00",
            "severity": "ERROR",
            "type": "builtins.ValueError",
            "message": "no room 直播间",
            "fingerprint": fingerprint,
            "retry": "never",
            "component": "pool",
            "task": "t",
            "worker": "w",
            "attempt": 1,
            "submitted_at": None,
            "count": 1,
            "suppressed": 0,
        }

    def test_a_message_with_half_a_character_is_written_too(self, tmp_path):
        path = tmp_path / "failures.jsonl"
        with ErrorLog() as errors:
            errors.add_sink(JsonLinesSink(path))
            errors.record(ValueError("\ud800"))
        assert len(path.read_bytes().splitlines()) == 1

    def test_a_fact_that_json_does_not_know_is_written_as_text(self, errors, tmp_path):
        path = tmp_path / "failures.jsonl"
        errors.add_sink(JsonLinesSink(path))
        errors.record(ValueError("x"), component=tmp_path)
        assert errors.flush(TIMEOUT)
        assert [line["component"] for line in lines(path)] == [str(tmp_path)]

    def test_full_files_are_put_aside_and_no_line_is_lost(self, tmp_path):
        path = tmp_path / "failures.jsonl"
        with ErrorLog() as errors:
            errors.add_sink(JsonLinesSink(path, max_bytes=2000, backups=100), limit=None)
            for number in range(60):
                errors.record(caught(bad_room, number))
        newest, *full = sorted(tmp_path.iterdir())
        assert len(full) > 3
        assert all(file.stat().st_size <= 2000 for file in full)
        told = [line["message"] for file in (*full, newest) for line in lines(file)]
        assert told == [f"no room {number}" for number in range(60)]

    def test_only_so_many_full_files_are_kept(self, tmp_path):
        path = tmp_path / "failures.jsonl"
        with ErrorLog() as errors:
            errors.add_sink(JsonLinesSink(path, max_bytes=1, backups=2), limit=None)
            for number in range(9):
                errors.record(caught(bad_room, number))
        kept = [lines(file)[0]["message"] for file in sorted(tmp_path.iterdir())]
        assert kept == ["no room 8", "no room 6", "no room 7"]

    @pytest.mark.parametrize("suffix", ["save", "20200101T000000.gz", "KEPT.by-hand"])
    def test_files_of_others_are_left_alone(self, tmp_path, suffix):
        other = tmp_path / f"failures.jsonl.{suffix}"
        other.write_text("mine")
        with ErrorLog() as errors:
            errors.add_sink(
                JsonLinesSink(tmp_path / "failures.jsonl", max_bytes=1, backups=1), limit=None
            )
            for number in range(5):
                errors.record(caught(bad_room, number))
        assert other.read_text() == "mine"

    def test_a_file_that_was_moved_away_is_begun_anew(self, tmp_path):
        path = tmp_path / "failures.jsonl"
        with ErrorLog() as errors:
            errors.add_sink(JsonLinesSink(path), limit=None)
            errors.record(ValueError("before"))
            assert errors.flush(TIMEOUT)
            path.rename(tmp_path / "moved")
            errors.record(ValueError("after"))
        assert [line["message"] for line in lines(path)] == ["after"]

    def test_a_second_run_appends(self, tmp_path):
        path = tmp_path / "failures.jsonl"
        for _ in range(2):
            with ErrorLog() as errors:
                errors.add_sink(JsonLinesSink(path))
                errors.record(ValueError("x"))
        assert len(lines(path)) == 2

    def test_a_line_torn_by_a_full_disk_takes_no_other_with_it(self, errors, tmp_path, monkeypatch):
        path = tmp_path / "failures.jsonl"
        write, answers = os.write, [10, OSError(errno.ENOSPC, "full")]

        def tear(fd, data):
            answer = answers.pop(0) if answers else len(data)
            if isinstance(answer, OSError):
                raise answer
            return write(fd, data[:answer])

        monkeypatch.setattr("threadkit._failures._sinks.os.write", tear)
        errors.add_sink(JsonLinesSink(path), limit=None)
        for message in ("torn", "told", "told too"):
            errors.record(ValueError(message))
            assert errors.flush(TIMEOUT)
        figures = sink_figures(errors)
        assert (figures.failed, figures.delivered) == (1, 2)
        torn, *whole = path.read_text(encoding="utf-8").splitlines()
        assert len(torn) == 10
        assert [json.loads(line)["message"] for line in whole] == ["told", "told too"]

    def test_a_folder_that_is_missing_is_a_counted_failure_of_the_sink(self, errors, tmp_path):
        errors.add_sink(JsonLinesSink(tmp_path / "missing" / "failures.jsonl"))
        errors.record(ValueError("x"))
        assert errors.flush(TIMEOUT)
        assert sink_figures(errors).failed == 1

    def test_several_writers_of_one_file_lose_no_line(self, tmp_path):
        path = tmp_path / "failures.jsonl"

        def write(writer):
            with ErrorLog() as errors:
                errors.add_sink(JsonLinesSink(path, max_bytes=3000, backups=999), limit=None)
                for number in range(50):
                    errors.record(caught(bad_room, f"{writer}.{number}"))

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            list(pool.map(write, range(3)))
        told = [line["message"] for file in tmp_path.iterdir() for line in lines(file)]
        assert len(told) == len(set(told)) == 150

    @pytest.mark.parametrize("argument", ["max_bytes", "backups"])
    def test_what_makes_no_sense_is_refused(self, tmp_path, argument):
        with pytest.raises(ValueError, match=f"{argument} must be at least 1, not 0"):
            JsonLinesSink(tmp_path / "x", **{argument: 0})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_child_of_a_fork_goes_on_telling(tmp_path):
    """Forked while another thread holds the log's lock, which nobody in the child releases."""
    program = """if True:
        import os, sys, threading
        from threadkit import ErrorLog, JsonLinesSink
        errors = ErrorLog()
        errors.add_sink(JsonLinesSink(sys.argv[1]))
        errors.record(ValueError("before"))
        held, done = threading.Event(), threading.Event()
        def hold():
            with errors._ledger.lock:
                held.set()
                done.wait(30)
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(30)
        child = os.fork()
        if child == 0:
            errors.record(KeyError("in the child"))
            ok = errors.flush(10) and errors.statistics().recorded == 2
            os._exit(0 if ok else 1)
        status = os.waitpid(child, 0)[1]
        done.set()
        thread.join(30)
        errors.record(KeyError("in the parent"))
        errors.close()
        sys.exit(os.waitstatus_to_exitcode(status))
    """
    path = tmp_path / "failures.jsonl"
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, str(path)]
    subprocess.run(command, check=True, timeout=60)
    assert [line["message"] for line in lines(path)] == [
        "before",
        "'in the child'",
        "'in the parent'",
    ]
