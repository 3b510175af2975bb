"""install(): what nobody catches still reaches the log, and uninstall() leaves no trace."""

import asyncio
import gc
import json
import subprocess
import sys
import threading
import weakref

import pytest

from threadkit import ErrorLog

TIMEOUT = 10


@pytest.fixture
def previous(monkeypatch):
    """Quiet hooks as the ones that were there before, and what they were called with."""
    called = {"thread": [], "main": [], "unraisable": []}
    monkeypatch.setattr(threading, "excepthook", called["thread"].append)
    monkeypatch.setattr(sys, "excepthook", lambda *args: called["main"].append(args))
    monkeypatch.setattr(sys, "unraisablehook", called["unraisable"].append)
    return called


@pytest.fixture
def errors(previous):
    with ErrorLog() as log:
        log.install()
        yield log


def standing():
    return threading.excepthook, sys.excepthook, sys.unraisablehook


def run_in_thread(fn, name=None):
    thread = threading.Thread(target=fn, name=name)
    thread.start()
    thread.join(TIMEOUT)


def only_group(errors):
    (group,) = errors.groups()
    return group


def fail(error=None):
    raise error or ValueError("nobody catches this")


def test_the_previous_hook_runs_even_if_telling_fails(errors, previous):
    class Nameless:
        def __getattr__(self, attribute):
            raise RuntimeError("no name")

    class Args:
        exc_type, exc_value, err_msg, object = ValueError, ValueError("x"), None, Nameless()

    with pytest.raises(RuntimeError, match="no name"):
        sys.unraisablehook(Args)
    assert previous["unraisable"] == [Args]


def test_closed_loops_are_not_kept(errors):
    kept = []

    async def install():
        errors.install()
        kept.append(weakref.ref(asyncio.get_running_loop()))

    for _ in range(3):
        asyncio.run(install())
    gc.collect()
    assert [reference() is None for reference in kept] == [True, True, False]


class TestWhatReachesTheLog:
    def test_an_exception_that_ends_a_thread(self, errors, previous):
        run_in_thread(fail, "feeder")
        group = only_group(errors)
        assert (group.component, group.message) == ("feeder", "nobody catches this")
        assert len(previous["thread"]) == 1

    def test_one_that_ends_the_main_thread(self, errors, previous):
        exc = ValueError("the end")
        sys.excepthook(ValueError, exc, None)
        assert only_group(errors).message == "the end"
        assert previous["main"] == [(ValueError, exc, None)]

    def test_one_raised_in_a_finalizer(self, errors, previous):
        class Dying:
            def __del__(self):
                fail()

        Dying()
        gc.collect()
        group = only_group(errors)
        assert group.task.endswith("Dying.__del__")
        assert len(previous["unraisable"]) == 1

    @pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])
    def test_an_end_that_somebody_asked_for_is_no_failure(self, errors, previous, ending):
        sys.excepthook(ending, ending(), None)
        run_in_thread(lambda: fail(ending()))
        assert errors.groups() == []
        assert len(previous["main"]) == 1

    def test_one_whose_instance_is_missing(self, errors):
        sys.excepthook(MemoryError, None, None)
        assert only_group(errors).exception_type == "builtins.MemoryError"

    def test_one_raised_in_a_callback_of_the_running_loop(self, previous):
        handled = []

        async def main(errors):
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: handled.append(context))
            errors.install()
            loop.call_soon(fail)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        with ErrorLog() as errors:
            asyncio.run(main(errors))
            group = only_group(errors)
            assert group.component == "asyncio"
            assert "in fail" in group.format()
        assert len(handled) == 1

    def test_one_of_a_task_that_nobody_awaits(self, previous, caplog):
        async def failing():
            fail()

        async def main(errors):
            errors.install()
            task = asyncio.ensure_future(failing())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            del task
            gc.collect()

        with ErrorLog() as errors:
            asyncio.run(main(errors))
            assert only_group(errors).task == "Task exception was never retrieved"
        assert "never retrieved" in caplog.text  # the loop's default handler was called as well

    def test_a_complaint_of_a_loop_that_has_no_exception(self, previous, caplog):
        loop = asyncio.new_event_loop()
        with ErrorLog() as errors:
            errors.install(loop)
            loop.call_exception_handler({"message": "socket.send() raised exception."})
            assert only_group(errors).message == "socket.send() raised exception."
        loop.close()
        assert "socket.send()" in caplog.text


class TestUndoing:
    def test_everything_stands_as_it_stood(self, previous):
        before = standing()
        with ErrorLog() as errors:
            errors.install()
            errors.install()
            assert standing() != before
        assert standing() == before

    def test_loops_stand_as_they_stood(self, previous):
        def handler(loop, context):
            pass

        loops = [asyncio.new_event_loop() for _ in range(2)]
        loops[0].set_exception_handler(handler)
        with ErrorLog() as errors:
            for loop in (*loops, *loops):
                errors.install(loop)
            assert loops[1].get_exception_handler() is not None
        assert loops[0].get_exception_handler() is handler
        assert loops[1].get_exception_handler() is None
        for loop in loops:
            loop.close()

    @pytest.mark.parametrize("order", ["last in first out", "first in first out"])
    def test_two_logs_leave_no_trace_in_either_order(self, previous, order):
        before = standing()
        first, second = ErrorLog(), ErrorLog()
        first.install()
        second.install()
        run_in_thread(fail)
        assert len(first.groups()) == len(second.groups()) == 1
        for log in (second, first) if order == "last in first out" else (first, second):
            log.uninstall()
        assert standing() == before
        assert len(previous["thread"]) == 1

    def test_a_hook_that_somebody_put_on_top_stays_and_works(self, previous):
        on_top = []
        errors = ErrorLog()
        errors.install()
        below = threading.excepthook

        def theirs(args):
            on_top.append(args)
            below(args)

        threading.excepthook = theirs
        errors.uninstall()
        assert threading.excepthook is theirs
        run_in_thread(fail)
        assert errors.groups() == []
        assert len(on_top) == len(previous["thread"]) == 1

    def test_it_may_be_installed_again(self, previous):
        with ErrorLog() as errors:
            errors.install()
            errors.uninstall()
            errors.install()
            run_in_thread(fail)
            assert only_group(errors).count == 1

    def test_a_log_that_is_installed_is_not_dropped(self, previous):
        told = []
        errors = ErrorLog()
        errors.add_sink(told.append)
        errors.install()
        uninstall = errors.uninstall
        del errors
        gc.collect()
        run_in_thread(fail)
        uninstall.__self__.close(TIMEOUT)
        assert len(told) == 1


AT_EXIT = """
import atexit, sys, threading, time
from threadkit import ErrorLog, JsonLinesSink

def early():
    raise ValueError("in atexit, registered before")

def late():
    raise ValueError("in atexit, registered after")

def in_thread():
    threading.main_thread().join()  # the interpreter is on its way out
    raise ValueError("in a thread, at exit")

class Dying:
    def __del__(self):
        raise ValueError("in __del__, at exit")

atexit.register(early)
errors = ErrorLog()
errors.add_sink(JsonLinesSink(sys.argv[1]), limit=None)
errors.install()
atexit.register(late)
threading.Thread(target=in_thread, name="last").start()
sys.ps1 = Dying()  # let go first of all when the interpreter is torn down, after atexit
raise ValueError("in the main thread")
"""


class TestExit:
    def run(self, program, path, status):
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stderr

    def test_whatever_fails_at_exit_reaches_the_log(self, tmp_path):
        path = tmp_path / "failures.jsonl"
        stderr = self.run(AT_EXIT, path, 1)
        told = {json.loads(line)["message"] for line in path.read_text().splitlines()}
        assert told == {
            "in the main thread",
            "in a thread, at exit",
            "in atexit, registered before",
            "in atexit, registered after",
            "in __del__, at exit",
        }
        assert all(message in stderr for message in told)  # the interpreter's own reports stay

    def test_the_very_first_failure_may_come_at_exit(self, tmp_path):
        path = tmp_path / "failures.jsonl"
        program = """if True:
            import atexit, sys
            def fail():
                raise ValueError("at exit")
            atexit.register(fail)
            from threadkit import ErrorLog, JsonLinesSink
            errors = ErrorLog()
            errors.add_sink(JsonLinesSink(sys.argv[1]))
            errors.install()
        """
        self.run(program, path, 0)
        assert [json.loads(line)["message"] for line in path.read_text().splitlines()] == [
            "at exit"
        ]

    def test_what_waits_is_told_before_the_interpreter_leaves(self, tmp_path):
        path = tmp_path / "failures.jsonl"
        program = """if True:
            import sys
            from threadkit import ErrorLog, JsonLinesSink
            errors = ErrorLog()
            errors.add_sink(JsonLinesSink(sys.argv[1]), limit=2)
            for number in range(7):
                errors.record(ValueError(f"no room {number}"))
        """
        self.run(program, path, 0)
        told = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["suppressed"] for line in told] == [0, 0, 5]

    def test_a_lock_held_by_a_thread_that_is_no_more_does_not_keep_the_interpreter(self, tmp_path):
        program = """if True:
            import threading
            from threadkit import ErrorLog
            errors = ErrorLog()
            errors.install()
            held = threading.Event()
            def hold():
                with errors._ledger.lock:
                    held.set()
                    threading.Event().wait()
            class Dying:
                def __del__(self):
                    raise ValueError("in __del__, at exit")
            import atexit, sys
            sys.ps1 = Dying()
            def leave_it_locked():
                threading.Thread(target=hold, daemon=True).start()
                held.wait(30)
            import threadkit._failures._log as log
            atexit.unregister(log._deliver_at_exit)
            atexit.register(leave_it_locked)
        """
        assert "at exit" in self.run(program, tmp_path, 0)

    def test_a_sink_that_blocks_for_ever_does_not_keep_the_interpreter(self, tmp_path):
        program = """if True:
            import threading
            import threadkit._failures._log as log
            log._EXIT_BUDGET = 0.05
            errors = log.ErrorLog()
            errors.add_sink(lambda event: threading.Event().wait())
            errors.record(ValueError("x"))
        """
        self.run(program, tmp_path, 0)
