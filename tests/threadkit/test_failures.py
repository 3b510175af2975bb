"""Failure: a story that survives being raised by many, many times."""

import gc
import sys
import threading
import traceback
import weakref

from failing import caught
from threadkit import ErrorLog, Failure
from threadkit._failures import UnreadFailure, submit_site, submit_stack


def fail(message="no such room"):
    raise ValueError(message)


def entries(exc):
    return len(traceback.extract_tb(exc.__traceback__))


def raised_by(failure):
    try:
        failure.reraise()
    except BaseException as exc:
        return exc, entries(exc)


class TestReraise:
    def test_a_thousand_raises_leave_the_traceback_as_long_as_one(self):
        failure = Failure(caught(fail))
        first = raised_by(failure)[1]
        assert {raised_by(failure)[1] for _ in range(1000)} == {first}

    def test_what_a_consumer_was_handling_does_not_become_the_context(self):
        failure = Failure(caught(fail))
        try:
            raise KeyError("the consumer's own trouble")
        except KeyError:
            exc = raised_by(failure)[0]
        assert exc.__context__ is None

    def test_the_context_the_task_gave_it_is_kept(self):
        def with_context():
            try:
                {}["x"]
            except KeyError:
                fail()

        failure = Failure(caught(with_context))
        try:
            raise OSError("the consumer's own trouble")
        except OSError:
            exc = raised_by(failure)[0]
        assert type(exc.__context__) is KeyError

    def test_a_cause_added_by_one_consumer_is_not_seen_by_the_next(self):
        failure = Failure(caught(fail))

        def diagnose():
            try:
                failure.reraise()
            except ValueError as exc:
                raise exc from OSError("a consumer's diagnosis")

        assert caught(diagnose).__cause__ is not None
        exc = raised_by(failure)[0]
        assert exc.__cause__ is None
        assert exc.__suppress_context__ is False

    def test_frames_of_the_machinery_are_left_out(self):
        def worker():
            fail()

        whole, trimmed = Failure(caught(worker)), Failure(caught(worker), skip=1)
        assert raised_by(trimmed)[1] == raised_by(whole)[1] - 1

    def test_threads_that_raise_it_at_once_all_see_the_exception(self):
        failure = Failure(caught(fail))
        seen = []
        barrier = threading.Barrier(4)

        def consume():
            barrier.wait(5)
            seen.extend(raised_by(failure)[0] for _ in range(500))

        threads = [threading.Thread(target=consume) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert set(seen) == {failure.exception}
        assert len(seen) == 2000
        assert raised_by(failure)[0].__context__ is None


class TestSubmitSite:
    def test_it_is_the_line_of_the_caller(self):
        def submit():
            return submit_site()

        site = submit()
        line = sys._getframe().f_lineno - 1
        place = Failure(caught(fail), site=site).submitted_at
        assert place.startswith(f"{__file__}:{line} in ")
        assert place.endswith("test_it_is_the_line_of_the_caller")

    def test_a_stack_names_the_callers_innermost_first(self):
        def submit():
            return submit_stack(limit=2)

        def inner():
            return submit()

        place = Failure(caught(fail), site=inner()).submitted_at
        first, second = place.split(", called at ")
        assert first.endswith("inner")
        assert second.endswith("test_a_stack_names_the_callers_innermost_first")

    def test_a_stack_has_eight_frames_at_most_unless_asked(self):
        def deep(depth):
            return submit_stack() if depth == 0 else deep(depth - 1)

        assert len(deep(20)) == 16

    def test_it_is_told_in_one_note_however_often_it_is_raised(self):
        failure = Failure(caught(fail), site=(fail.__code__, 0))
        for _ in range(3):
            raised_by(failure)
        failure.format()
        (note,) = failure.exception.__notes__
        assert note.startswith(f"submitted at {__file__}:")

    def test_nested_tasks_each_leave_their_note(self):
        exc = caught(fail)
        Failure(exc, site=(fail.__code__, 0)).restored()
        Failure(exc, site=(caught.__code__, 0)).restored()
        assert len(exc.__notes__) == 2

    def test_one_instance_raised_by_many_tasks_does_not_collect_notes_for_ever(self):
        exc = caught(fail)
        for line in range(100):
            code = compile("pass", f"many{line}.py", "exec")
            Failure(exc, site=(code, 0)).restored()
        assert len(exc.__notes__) == 8

    def test_printing_shows_both_stories(self):
        text = Failure(caught(fail), site=(caught.__code__, 0)).format()
        assert "in fail" in text
        assert "ValueError: no such room" in text
        assert text.count("submitted at ") == 1

    def test_an_exception_that_takes_no_notes_is_raised_all_the_same(self):
        exc = caught(fail)
        exc.__notes__ = "not a list"
        failure = Failure(exc, site=(fail.__code__, 0))
        assert raised_by(failure)[0] is exc


class Big:
    """Stands for whatever a task's locals hold."""


class TestClearFrames:
    def test_the_locals_of_a_recorded_failure_are_let_go(self):
        kept = []

        def work():
            big = Big()
            kept.append(weakref.ref(big))
            fail()

        failure = Failure(caught(work))
        assert kept[0]() is not None
        with ErrorLog() as errors:
            errors.record(failure)
        gc.collect()
        assert kept[0]() is None
        assert "in work" in failure.format()

    def test_recording_a_task_that_is_over_lets_its_locals_go_when_it_is_a_repeat_too(self):
        kept = []

        def work():
            big = Big()
            kept.append(weakref.ref(big))
            fail()

        exc = caught(work)
        with ErrorLog() as errors:
            errors.record(exc)
            errors.record(Failure(exc))
            assert errors.statistics().repeats == 1
        gc.collect()
        assert kept[0]() is None

    def test_the_locals_of_causes_are_let_go_too(self):
        kept = []

        def cause():
            big = Big()
            kept.append(weakref.ref(big))
            fail()

        def work():
            try:
                cause()
            except ValueError as exc:
                raise OSError("wrapped") from exc

        failure = Failure(caught(work))
        failure.clear_frames()
        gc.collect()
        assert kept[0]() is None

    def test_a_generator_that_caught_the_exception_lives_on(self):
        def numbers():
            try:
                fail()
            except ValueError as exc:
                yield exc
            yield 2

        generator = numbers()
        Failure(next(generator)).clear_frames()
        assert next(generator) == 2

    def test_an_exception_being_handled_by_its_recorder_keeps_its_locals(self):
        with ErrorLog() as errors:
            big = Big()
            try:
                fail()
            except ValueError as exc:
                errors.record(exc)
                held = exc.__traceback__.tb_frame.f_locals["big"]
        assert held is big


class TestUnread:
    def test_a_failure_nobody_reads_is_recorded_once(self):
        with ErrorLog() as errors:
            unread = UnreadFailure(Failure(caught(fail)), errors)
            del unread
            gc.collect()
            assert errors.statistics().recorded == 1

    def test_a_failure_that_was_read_is_not_recorded(self):
        with ErrorLog() as errors:
            unread = UnreadFailure(Failure(caught(fail)), errors)
            unread.read()
            del unread
            gc.collect()
            assert errors.statistics().recorded == 0
