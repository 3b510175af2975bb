"""How executors end, and break, and what they leave behind: the standard one and ours alike.

See test_executor_contract.py.
"""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Future,
    ThreadPoolExecutor,
)

import pytest

from failing import caught

WAIT = 10
CLOSED = "^cannot schedule new futures after shutdown$"


def hold(pool, gate):
    """Have the pool's only worker wait for the gate."""
    begun = threading.Event()
    future = pool.submit(lambda: (begun.set(), gate.wait(WAIT)))
    assert begun.wait(WAIT)
    return future


# -- shutdown -------------------------------------------------------------------------------


def test_a_shutdown_waits_for_every_task_and_thread(kind):
    pool = kind(max_workers=2)
    threads = {pool.submit(threading.current_thread).result(WAIT) for _ in range(5)}
    futures = [pool.submit(abs, n) for n in range(50)]
    pool.shutdown()
    assert all(future.done() for future in futures)
    assert not any(thread.is_alive() for thread in threads)


def test_after_a_shutdown_submit_and_map_refuse_in_these_words(kind):
    pool = kind(max_workers=1)
    for _ in range(2):
        pool.shutdown()
        with pytest.raises(RuntimeError, match=CLOSED):
            pool.submit(int)
        with pytest.raises(RuntimeError, match=CLOSED):
            pool.map(int, "1")


def test_a_pool_never_used_can_be_shut_down(kind):
    kind().shutdown()
    with kind():
        pass


def test_a_shutdown_that_does_not_wait_loses_no_task(kind, gate):
    pool = kind(max_workers=1)
    running, queued = hold(pool, gate), pool.submit(abs, -3)
    pool.shutdown(wait=False)
    assert not running.done()
    with pytest.raises(RuntimeError, match=CLOSED):
        pool.submit(int)
    gate.set()
    assert queued.result(WAIT) == 3
    pool.shutdown()


@pytest.mark.parametrize("waits", [True, False])
def test_a_shutdown_may_cancel_what_waits(kind, gate, waits):
    pool = kind(max_workers=1)
    running, ran, called = hold(pool, gate), [], []
    queued = [pool.submit(ran.append, n) for n in range(5)]
    queued[0].add_done_callback(lambda future: (called.append(future), gate.set()))
    pool.shutdown(wait=waits, cancel_futures=True)
    assert all(future.cancelled() for future in queued)
    assert called == queued[:1]
    assert running.result(WAIT)
    pool.shutdown()
    assert ran == []


def test_who_waits_for_a_result_hears_that_a_shutdown_cancelled_it(kind, gate):
    pool, outcome = kind(max_workers=1), Future()
    hold(pool, gate)
    queued = pool.submit(int)
    reader = threading.Thread(target=lambda: outcome.set_result(type(caught(queued.result, WAIT))))
    reader.start()
    pool.shutdown(wait=False, cancel_futures=True)
    assert outcome.result(WAIT) is CancelledError
    reader.join(WAIT)
    gate.set()
    pool.shutdown()


def test_a_task_may_shut_its_pool_down(kind):
    pool = kind(max_workers=1)

    def close():
        pool.shutdown(wait=False)
        pool.submit(int)

    error = pool.submit(close).exception(WAIT)
    assert isinstance(error, RuntimeError)
    assert str(error) == "cannot schedule new futures after shutdown"
    pool.shutdown()


def leave_block(future):
    raise ZeroDivisionError


def test_a_with_block_finishes_the_tasks_and_lets_exceptions_pass(kind):
    ran = []
    with pytest.raises(ZeroDivisionError), kind(max_workers=1) as pool:
        leave_block(pool.submit(ran.append, 1))
    assert ran == [1]
    with pytest.raises(RuntimeError, match=CLOSED), pool:
        pool.submit(int)


# -- what is left behind --------------------------------------------------------------------


class Thing:
    """Something a weak reference can watch."""


def gone(reference):
    gc.collect()
    return reference() is None


def test_a_dropped_pool_finishes_its_tasks_and_its_threads_leave(kind, gate):
    pool = kind(max_workers=1)
    thread = pool.submit(threading.current_thread).result(WAIT)
    hold(pool, gate)
    queued, reference = pool.submit(abs, -3), weakref.ref(pool)
    del pool
    assert gone(reference)
    gate.set()
    assert queued.result(WAIT) == 3
    thread.join(WAIT)
    assert not thread.is_alive()


@pytest.mark.parametrize("what", ["callable", "argument", "keyword", "result"])
def test_nothing_of_a_task_outlives_its_end_and_its_future(kind, what):
    with kind(max_workers=1) as pool:
        thing = Thing()
        reference = weakref.ref(thing)
        if what == "callable":
            future = pool.submit(lambda thing=thing: id(thing))
        elif what == "argument":
            future = pool.submit(id, thing)
        elif what == "keyword":
            future = pool.submit(lambda *, thing: id(thing), thing=thing)
        else:
            future = pool.submit(list, [thing])
        future.result(WAIT)
        del thing
        if what == "result":
            assert reference() is future.result(WAIT)[0]
            del future
        pool.submit(int).result(WAIT)  # the worker has let go of the task before
        assert gone(reference)


@pytest.mark.parametrize("what", ["argument", "result"])
def test_a_worker_without_work_keeps_nothing_of_its_last_task(kind, what):
    thing, freed = Thing(), threading.Event()
    weakref.finalize(thing, freed.set)
    with kind(max_workers=1) as pool:
        things = [thing]
        del thing
        future = pool.submit(id, things.pop()) if what == "argument" else pool.submit(things.pop)
        future.result(WAIT)
        del future
        assert freed.wait(WAIT)


def test_an_exception_goes_with_its_future(kind):
    class Failing(Exception):
        pass

    def fail():
        raise Failing

    with kind(max_workers=1) as pool:
        future = pool.submit(fail)
        reference = weakref.ref(caught(future.result, WAIT))
        assert isinstance(reference(), Failing)
        del future
        pool.submit(int).result(WAIT)
        assert gone(reference)


def test_a_cancelled_task_lets_go_of_its_arguments(kind, gate):
    with kind(max_workers=1) as pool:
        hold(pool, gate)
        thing = Thing()
        reference = weakref.ref(thing)
        waiting = pool.submit(id, thing)
        del thing
        waiting.cancel()
        gate.set()
        pool.submit(int).result(WAIT)
        assert gone(reference)


def test_map_keeps_no_result_it_has_given_away(kind):
    with kind(max_workers=1) as pool:
        results = pool.map(lambda _: Thing(), range(3))
        reference = weakref.ref(next(results))
        pool.submit(int).result(WAIT)
        assert gone(reference)
        assert len(list(results)) == 2


# -- threads --------------------------------------------------------------------------------


def test_the_initializer_runs_once_on_every_thread_before_its_tasks(kind):
    local, calls = threading.local(), []

    def prepare(*args):
        local.args = args
        calls.append(threading.get_ident())

    with kind(max_workers=2, initializer=prepare, initargs=(1, "b")) as pool:
        ran = [pool.submit(lambda: (local.args, threading.get_ident())) for _ in range(20)]
        seen = [future.result(WAIT) for future in ran]
    assert {args for args, _ in seen} == {(1, "b")}
    assert {thread for _, thread in seen} <= set(calls)
    assert len(set(calls)) == len(calls) <= 2


def test_an_initializer_that_fails_breaks_the_pool_for_all(kind, gate, caplog):
    caplog.set_level(logging.CRITICAL)

    def fail():
        gate.wait(WAIT)
        raise ValueError("no licence")

    with kind(max_workers=1, initializer=fail) as pool:
        futures = [pool.submit(int) for _ in range(3)]
        gate.set()
        assert [type(f.exception(WAIT)).__mro__.count(BrokenExecutor) for f in futures] == [1] * 3
        with pytest.raises(BrokenExecutor):
            pool.submit(int)
    assert "Exception in initializer" in caplog.text
    assert "no licence" in caplog.text


@pytest.mark.parametrize("wrong", [{"max_workers": 0}, {"max_workers": -1}])
def test_a_pool_without_workers_is_refused(kind, wrong):
    with pytest.raises(ValueError, match="max_workers"):
        kind(**wrong)


def test_an_initializer_that_cannot_be_called_is_refused(kind):
    with pytest.raises(TypeError, match="initializer must be a callable"):
        kind(initializer=5)


def test_threads_bear_the_prefix(kind):
    with kind(max_workers=1, thread_name_prefix="replies") as pool:
        assert (
            pool.submit(lambda: threading.current_thread().name).result(WAIT).startswith("replies")
        )


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_a_task_raises_goes_to_its_future_and_the_worker_lives(kind, exception):
    def leave():
        raise exception

    with kind(max_workers=1) as pool:
        before = pool.submit(threading.get_ident).result(WAIT)
        assert type(pool.submit(leave).exception(WAIT)) is exception
        assert pool.submit(threading.get_ident).result(WAIT) == before


# -- the interpreter's exit, and forks ------------------------------------------------------


def script(kind, text):
    """What a script prints that has `Pool`."""
    head = f"from {kind.__module__.partition('._')[0]} import {kind.__name__} as Pool\n"
    ended = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def test_a_script_that_just_ends_has_its_pending_work_done(kind):
    printed = script(
        kind,
        """
        pool = Pool(max_workers=1)
        def work(n):
            print(n, flush=True)
        pool.submit(sum, range(10**5))
        for n in range(3):
            pool.submit(work, n)
        """,
    )
    assert printed == ["0", "1", "2"]


def test_a_script_that_dropped_its_pool_has_its_pending_work_done(kind):
    printed = script(
        kind,
        """
        futures = [Pool(max_workers=1).submit(print, f"{n}\\n", end="") for n in range(3)]
        """,
    )
    assert sorted(printed) == ["0", "1", "2"]


@pytest.mark.parametrize("which", ["used", "unused", "made then"])
def test_at_exit_no_pool_takes_tasks(kind, which):
    printed = script(
        kind,
        f"""
        import atexit
        before = Pool(max_workers=1)
        if {which == "used"}:
            before.submit(int).result()
        def late():
            pool = Pool(max_workers=1) if {which == "made then"} else before
            try:
                pool.submit(print, "ran")
            except RuntimeError as error:
                print(error)
        atexit.register(late)
        """,
    )
    if which == "used" and kind is ThreadPoolExecutor:  # its last thread closed it when it left
        assert printed == ["cannot schedule new futures after shutdown"]
    else:
        assert printed == ["cannot schedule new futures after interpreter shutdown"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forks_child_makes_and_uses_a_pool_of_its_own(kind):
    printed = script(
        kind,
        """
        import os, threading, warnings
        warnings.simplefilter("ignore")  # that the process has threads
        gate = threading.Event()
        with Pool(max_workers=1) as parents:
            held = parents.submit(gate.wait, 50)
            child = os.fork()
            if not child:
                with Pool(max_workers=2) as pool:
                    print(*pool.map(abs, [-1, -2, -3]), flush=True)
                os._exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            gate.set()
            print(held.result())
        """,
    )
    assert printed == ["1 2 3", "7", "True"]
