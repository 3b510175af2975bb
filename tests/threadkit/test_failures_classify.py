"""classify(): how bad any exception is, and whether the same call may be made again."""

import asyncio
import concurrent.futures
import errno
import gc
import itertools
import queue
import socket
import ssl
import sys
import threading
import weakref

import pytest

import threadkit
from threadkit import Retry, Severity, Verdict, classify, register_verdict

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup


@pytest.mark.parametrize(
    ("exc", "severity", "retry"),
    [
        (ConnectionRefusedError(), Severity.WARNING, Retry.SAFE),
        (OSError(errno.ECONNREFUSED, "refused"), Severity.WARNING, Retry.SAFE),
        (OSError(errno.EHOSTUNREACH, "no route"), Severity.WARNING, Retry.SAFE),
        (ConnectionResetError(), Severity.WARNING, Retry.IF_IDEMPOTENT),
        (OSError(errno.EPIPE, "broken pipe"), Severity.WARNING, Retry.IF_IDEMPOTENT),
        (TimeoutError(), Severity.WARNING, Retry.IF_IDEMPOTENT),
        (asyncio.TimeoutError(), Severity.WARNING, Retry.IF_IDEMPOTENT),
        (concurrent.futures.TimeoutError(), Severity.WARNING, Retry.IF_IDEMPOTENT),
        (OSError(errno.ENOSPC, "disk full"), Severity.CRITICAL, Retry.AFTER_FIX),
        (OSError(errno.EMFILE, "too many files"), Severity.CRITICAL, Retry.AFTER_FIX),
        (FileNotFoundError(errno.ENOENT, "x"), Severity.ERROR, Retry.AFTER_FIX),
        (PermissionError(), Severity.ERROR, Retry.AFTER_FIX),
        (OSError("of unknown number"), Severity.WARNING, Retry.IF_IDEMPOTENT),
        (socket.gaierror(socket.EAI_AGAIN, "later"), Severity.WARNING, Retry.SAFE),
        (socket.gaierror(socket.EAI_NONAME, "no such host"), Severity.ERROR, Retry.AFTER_FIX),
        (ssl.SSLError(1, "protocol"), Severity.WARNING, Retry.IF_IDEMPOTENT),
        (ssl.SSLCertVerificationError(1, "expired"), Severity.ERROR, Retry.AFTER_FIX),
        (queue.Full(), Severity.WARNING, Retry.SAFE),
        (queue.Empty(), Severity.INFO, Retry.SAFE),
        (MemoryError(), Severity.CRITICAL, Retry.AFTER_FIX),
        (concurrent.futures.BrokenExecutor(), Severity.CRITICAL, Retry.AFTER_FIX),
        (SystemError(), Severity.FATAL, Retry.NEVER),
        (TypeError(), Severity.ERROR, Retry.AFTER_FIX),
        (ModuleNotFoundError(), Severity.ERROR, Retry.AFTER_FIX),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "bad"), Severity.ERROR, Retry.NEVER),
        (KeyError(), Severity.ERROR, Retry.NEVER),
        (ZeroDivisionError(), Severity.ERROR, Retry.NEVER),
        (RecursionError(), Severity.ERROR, Retry.NEVER),
        (UserWarning(), Severity.WARNING, Retry.NEVER),
        (asyncio.CancelledError(), Severity.INFO, Retry.NEVER),
        (concurrent.futures.CancelledError(), Severity.INFO, Retry.NEVER),
        (KeyboardInterrupt(), Severity.INFO, Retry.NEVER),
        (SystemExit(1), Severity.INFO, Retry.NEVER),
        (BaseException(), Severity.CRITICAL, Retry.NEVER),
    ],
    ids=lambda value: repr(value) if isinstance(value, BaseException) else None,
)
def test_foreign_exceptions_are_graded(exc, severity, retry):
    assert classify(exc) == Verdict(severity, retry)


@pytest.mark.parametrize(
    "exc",
    [
        threadkit.QueueFull(component="q", maxsize=1),
        threadkit.TaskTimeout(timeout=1),
        threadkit.TaskCancelled("gone"),
        threadkit.RestartsExhausted(component="tts", restarts=3, per=60),
        threadkit.StartupError.of("app", {"a": ValueError()}),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_our_own_carry_their_grade_whatever_builtin_they_inherit(exc):
    assert classify(exc) == Verdict(exc.severity, exc.retry)


class TestGroups:
    def test_a_group_is_as_bad_as_its_worst_and_as_safe_as_its_least_safe_member(self):
        group = ExceptionGroup("two", [ConnectionRefusedError(), MemoryError()])
        assert classify(group) == Verdict(Severity.CRITICAL, Retry.AFTER_FIX)

    def test_groups_in_groups_count(self):
        inner = BaseExceptionGroup("inner", [KeyboardInterrupt(), KeyError()])
        group = BaseExceptionGroup("outer", [BlockingIOError(), inner])
        assert classify(group) == Verdict(Severity.ERROR, Retry.NEVER)


class Quota(Exception):
    def __init__(self, left=0):
        super().__init__(left)
        self.left = left


class StrictQuota(Quota):
    pass


MILD = Verdict(Severity.INFO, Retry.SAFE)
SEVERE = Verdict(Severity.FATAL, Retry.AFTER_FIX)


class TestRegister:
    @pytest.fixture
    def register(self):
        undos = []

        def register(exc_type, verdict):
            undos.append(register_verdict(exc_type, verdict))
            return undos[-1]

        yield register
        for undo in reversed(undos):
            undo()

    def test_a_verdict_holds_for_subclasses(self, register):
        register(Quota, MILD)
        assert classify(StrictQuota()) == MILD

    def test_the_most_derived_class_wins(self, register):
        register(StrictQuota, SEVERE)
        register(Quota, MILD)
        assert classify(StrictQuota()) == SEVERE
        assert classify(Quota()) == MILD

    def test_a_function_grades_by_what_the_exception_holds(self, register):
        register(Quota, lambda exc: MILD if exc.left else SEVERE)
        assert classify(Quota(1)) == MILD
        assert classify(Quota(0)) == SEVERE

    def test_a_function_that_gives_none_leaves_it_to_the_base_classes(self, register):
        register(Quota, MILD)
        register(StrictQuota, lambda exc: None)
        assert classify(StrictQuota()) == MILD

    def test_a_function_that_raises_is_logged_and_left_out(self, register, caplog):
        register(Quota, lambda exc: exc.missing)
        assert classify(Quota()) == classify(Exception())
        assert "the verdict registered for Quota raised" in caplog.text

    def test_a_function_that_gives_no_verdict_is_logged_and_left_out(self, register, caplog):
        register(Quota, lambda exc: True)
        assert classify(Quota()) == classify(Exception())
        assert "the rule registered for Quota gave a bool, no Verdict" in caplog.text

    def test_undoing_in_any_order_leaves_what_is_still_registered(self):
        before = classify(KeyError())
        for order in itertools.permutations(range(3)):
            middle = Verdict(Severity.WARNING, Retry.HIGHER_LEVEL)
            verdicts = [MILD, middle, SEVERE]
            undos = [register_verdict(KeyError, verdict) for verdict in verdicts]
            left = [0, 1, 2]
            for number in order:
                undos[number]()
                undos[number]()  # twice is once
                left.remove(number)
                assert classify(KeyError()) == (verdicts[left[-1]] if left else before)

    def test_the_same_verdict_registered_twice_is_undone_twice(self):
        undos = [register_verdict(Quota, MILD) for _ in range(2)]
        undos[0]()
        assert classify(Quota()) == MILD
        undos[1]()
        assert classify(Quota()) == classify(Exception())

    def test_ours_and_the_builtin_ones_may_be_regraded_and_back(self, register):
        before = classify(KeyError()), classify(threadkit.TaskTimeout(timeout=1))
        undo_builtin = register(KeyError, MILD)
        undo_ours = register(threadkit.TaskTimeout, SEVERE)
        assert classify(KeyError()) == MILD
        assert classify(threadkit.TaskTimeout(timeout=1)) == SEVERE
        undo_builtin()
        undo_ours()
        assert (classify(KeyError()), classify(threadkit.TaskTimeout(timeout=1))) == before

    @pytest.mark.parametrize(
        ("exc_type", "verdict", "message"),
        [
            (int, MILD, "exc_type must be an exception class, not <class 'int'>"),
            (Quota(), MILD, "exc_type must be an exception class, not Quota"),
            (Quota, "bad", "verdict must be a Verdict or a function giving one, not 'bad'"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, exc_type, verdict, message):
        with pytest.raises(TypeError, match=message.replace("(", r"\(")):
            register_verdict(exc_type, verdict)

    def test_threads_may_register_while_others_classify(self, register):
        done = threading.Event()
        wrong = []

        def look():
            while not done.is_set():
                verdict = classify(Quota())
                if verdict not in {MILD, classify(Exception())}:
                    wrong.append(verdict)

        readers = [threading.Thread(target=look) for _ in range(2)]
        for reader in readers:
            reader.start()
        for _ in range(300):
            register_verdict(Quota, MILD)()
        done.set()
        for reader in readers:
            reader.join(10)
        assert wrong == []
        assert classify(Quota()) == classify(Exception())


def test_a_verdict_undone_keeps_no_class_alive():
    local = type("Local", (Exception,), {})
    undo = register_verdict(local, Verdict(Severity.INFO, Retry.SAFE))
    undo()
    kept = weakref.ref(local)
    del local, undo
    gc.collect()
    assert kept() is None
