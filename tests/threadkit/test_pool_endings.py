"""How it ends: shutdown, interpreter exit, forks, failing workers, exceptions of all kinds."""

from __future__ import annotations

import concurrent.futures
import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from concurrent.futures.thread import BrokenThreadPool

import pytest

from threadkit import (
    DynamicThreadPool,
    ErrorLog,
    PoolClosed,
    TaskTimeout,
    WorkerLost,
    current_task,
)
from threadkit.testing import SimRuntime

WAIT = 10


def python(program, *arguments):
    """Run a program in a new interpreter; what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore::DeprecationWarning"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# -- shutdown ------------------------------------------------------------------------------


def test_shutdown_finishes_what_was_submitted_and_may_be_called_again():
    pool = DynamicThreadPool(max_workers=2)
    futures = [pool.submit(abs, -n) for n in range(50)]
    assert pool.shutdown().finished
    assert [future.result(0) for future in futures] == list(range(50))
    assert pool.shutdown().finished


def test_shutdown_without_waiting_returns_at_once_and_the_tasks_still_end():
    gate = threading.Event()
    pool = DynamicThreadPool(max_workers=1)
    futures = [pool.submit(gate.wait, WAIT) for _ in range(3)]
    report = pool.shutdown(wait=False)
    assert not report.finished
    gate.set()
    assert all(future.result(WAIT) for future in futures)
    assert pool.shutdown().finished


def test_shutdown_called_from_a_task_waits_for_everybody_else():
    pool = DynamicThreadPool(max_workers=2)
    gate = threading.Event()
    other = pool.submit(gate.wait, WAIT)
    ending = pool.submit(pool.shutdown)
    gate.set()
    assert ending.result(WAIT).running  # itself
    assert other.done()
    assert pool.shutdown().finished


def test_a_shutdown_that_gives_up_asks_running_tasks_to_stop():
    begun, stopped = threading.Event(), threading.Event()

    def stubborn():
        begun.set()
        while True:
            try:
                current_task().check()
            except concurrent.futures.CancelledError:
                stopped.set()
                raise

    pool = DynamicThreadPool(max_workers=1)
    pool.submit(stubborn)
    assert begun.wait(WAIT)
    assert not pool.shutdown(timeout=0).finished
    assert stopped.wait(WAIT)
    assert pool.shutdown(timeout=WAIT).finished


def test_submit_from_a_done_callback_works():
    done = threading.Event()
    again = []
    with DynamicThreadPool(max_workers=1) as pool:

        def callback(_):
            again.append(pool.submit(pow, 2, 5))
            done.set()

        pool.submit(int).add_done_callback(callback)
        assert done.wait(WAIT)
        assert again[0].result(WAIT) == 32


def test_submit_from_a_done_callback_during_shutdown_is_refused_not_lost():
    refused = []
    gate = threading.Event()
    pool = DynamicThreadPool(max_workers=1)

    def callback(_):
        try:
            pool.submit(int)
        except PoolClosed:
            refused.append(True)

    pool.submit(gate.wait, WAIT).add_done_callback(callback)
    pool.shutdown(wait=False)
    gate.set()
    pool.shutdown()
    assert refused == [True]


# -- the interpreter's exit ----------------------------------------------------------------


def test_the_interpreter_finishes_submitted_tasks_before_it_exits():
    printed = python("""
        import time
        from threadkit import DynamicThreadPool
        pool = DynamicThreadPool(max_workers=2)
        for n in range(6):
            pool.submit(lambda n=n: (time.sleep(0.01), print(f"{n}\\n", end="", flush=True)))
    """)
    assert sorted(printed) == list("012345")


@pytest.mark.parametrize("rule", ["'wait'", "'abandon'", "50"])
def test_a_thread_that_a_task_started_is_not_cut_off_at_exit(rule):
    printed = python(f"""
        import threading
        from threadkit import DynamicThreadPool
        pool = DynamicThreadPool(max_workers=1, at_exit={rule})
        main = threading.main_thread()
        def save():
            main.join()
            print("saved", flush=True)
        def start():
            threading.Thread(target=save).start()
            return threading.current_thread().daemon
        print(pool.submit(start).result(20))
    """)
    assert printed == ["False", "saved"]


def test_a_task_given_up_does_not_hold_up_the_exit():
    printed = python("""
        import threading
        from threadkit import DynamicThreadPool
        pool = DynamicThreadPool(max_workers=1)
        stuck = pool.with_options(timeout=0.01).submit(threading.Event().wait, 50)
        print(type(stuck.exception(20)).__name__)
    """)
    assert printed == ["TaskTimeout"]


@pytest.mark.parametrize("rule", ["'abandon'", "0.05"])
def test_an_exit_that_does_not_wait_does_not_run_the_queue(rule):
    printed = python(f"""
        import threading
        from threadkit import DynamicThreadPool
        pool = DynamicThreadPool(max_workers=1, at_exit={rule})
        begun = threading.Event()
        pool.submit(lambda: (begun.set(), threading.Event().wait(50)))
        queued = pool.submit(print, "ran")
        queued.add_done_callback(lambda f: print("cancelled", f.cancelled(), flush=True))
        begun.wait()
    """)
    assert printed == ["cancelled", "True"]


def test_submitting_while_the_interpreter_exits_is_refused_in_the_standard_words():
    printed = python("""
        import threading
        from threadkit import DynamicThreadPool
        pool = DynamicThreadPool(max_workers=1)
        exits = threading.Event()
        ending = type(pool._crew.ending)
        begin_exit = ending.begin_exit
        ending.begin_exit = lambda self: (begin_exit(self), exits.set())
        def late():
            exits.wait(50)
            try:
                pool.submit(print, "ran")
            except RuntimeError as exc:
                print(exc)
        pool.submit(late)
    """)
    assert " ".join(printed) == "cannot schedule new futures after interpreter shutdown"


# -- forks ---------------------------------------------------------------------------------

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@needs_fork
def test_in_a_forks_child_old_futures_fail_and_the_pool_works_anew():
    printed = python("""
        import os, threading
        from threadkit import DynamicThreadPool
        pool = DynamicThreadPool(max_workers=1)
        gate, begun = threading.Event(), threading.Event()
        running = pool.submit(lambda: (begun.set(), gate.wait(50)))
        queued = pool.submit(int, "7")
        begun.wait()
        pid = os.fork()
        if not pid:
            print(type(running.exception(5)).__name__, type(queued.exception(5)).__name__)
            print(pool.submit(pow, 2, 3).result(5), flush=True)
            pool.shutdown()
            os._exit(0)
        print(os.waitpid(pid, 0)[1], flush=True)
        gate.set()
        print(queued.result(5))
    """)
    assert printed == ["WorkerLost", "WorkerLost", "8", "0", "7"]


@needs_fork
def test_in_a_forks_child_every_task_of_a_worker_fails_and_so_does_a_paused_one():
    printed = python("""
        import os, threading
        from threadkit import DynamicThreadPool
        pool = DynamicThreadPool(max_workers=1)
        gate, begun = threading.Event(), threading.Event()
        def outer():
            return pool.submit(lambda: (begun.set(), gate.wait(50))).result()
        outer = pool.submit(outer)
        begun.wait()
        paused = DynamicThreadPool(max_workers=1)
        paused.submit(int).result()
        paused.pause()
        waiting = paused.submit(int)
        pid = os.fork()
        if not pid:
            print(type(outer.exception(5)).__name__, type(waiting.exception(5)).__name__)
            print(pool.submit(pow, 2, 3).result(5), flush=True)
            pool.shutdown()
            os._exit(0)
        print(os.waitpid(pid, 0)[1], flush=True)
        gate.set()
        paused.resume()
        print(waiting.result(5))
    """)
    assert printed == ["WorkerLost", "WorkerLost", "8", "0", "0"]


@needs_fork
def test_a_forks_child_takes_no_lock_that_another_thread_held():
    printed = python("""
        import os
        from threadkit import DynamicThreadPool
        def forks():
            (worker,) = pool._crew.roster.workers
            worker.record.lock = Held()  # as by a thread that reads the statistics
            return os.fork()
        class Held:
            def __enter__(self):
                if os.getpid() != parent:
                    print("stuck", flush=True)
                    os._exit(1)
            def __exit__(self, *_):
                pass
        parent = os.getpid()
        with DynamicThreadPool(max_workers=1) as pool:
            print(os.waitpid(pool.submit(forks).result(20), 0)[1])
    """)
    assert printed == ["0"]


@needs_fork
def test_a_fork_inside_blocking_leaves_the_childs_limit_alone():
    printed = python("""
        import os
        from threadkit import DynamicThreadPool
        def forks():
            with pool.blocking():
                pid = os.fork()
            if not pid:
                print(pool.statistics().lent, flush=True)
                os._exit(0)
            return pid
        with DynamicThreadPool(max_workers=1) as pool:
            print(os.waitpid(pool.submit(forks).result(20), 0)[1])
    """)
    assert printed == ["0", "0"]


@needs_fork
def test_a_task_that_forks_ends_the_child_when_it_returns_there():
    printed = python("""
        import os
        from threadkit import DynamicThreadPool
        def forks():
            return os.fork()
        with DynamicThreadPool(max_workers=1) as pool:
            child = pool.submit(forks).result(20)
            print(os.waitpid(child, 0)[1])
            print(pool.submit(pow, 2, 3).result(5))
    """)
    assert printed == ["0", "8"]


# -- workers that cannot be ----------------------------------------------------------------


def test_an_initializer_that_fails_breaks_the_pool_and_ends_every_future(caplog):
    def fail():
        raise ValueError("no licence")

    with DynamicThreadPool(max_workers=1, initializer=fail) as pool:
        caplog.set_level(logging.CRITICAL, "threadkit.pool")
        with pytest.raises(BrokenThreadPool):
            pool.submit(int).result(WAIT)
        with pytest.raises(WorkerLost, match="initializer failed"):
            pool.submit(int).result(WAIT)  # submit raises, or what was just taken in fails
    assert "Exception in initializer" in caplog.text


def test_where_no_thread_can_be_started_submit_says_so_and_leaves_nothing_queued():
    def scenario(sim):
        pool = DynamicThreadPool(max_workers=2, runtime=sim)
        sim.fail_thread_starts(1)
        with pytest.raises(WorkerLost, match="no worker could be started"):
            pool.submit(int)
        assert pool.submit(int, "5").result(WAIT) == 5
        assert pool.statistics().starts_refused == 1
        pool.shutdown()

    sim = SimRuntime(seed=3)
    sim.run(scenario, sim)


def test_with_one_worker_alive_refused_threads_do_not_stop_the_work():
    def scenario(sim):
        with DynamicThreadPool(max_workers=4, policy="fixed", runtime=sim) as pool:
            assert pool.submit(int, "5").result(WAIT) == 5
            sim.fail_thread_starts(1000)
            futures = [pool.submit(sim.sleep, 1.0) for _ in range(8)]
            assert all(future.result(100) is None for future in futures)
            sim.fail_thread_starts(0)

    sim = SimRuntime(seed=3)
    sim.run(scenario, sim)


# -- exceptions of all kinds ---------------------------------------------------------------


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, StopIteration, GeneratorExit])
def test_whatever_a_task_raises_is_its_result_and_the_worker_lives_on(kind):
    def fail():
        raise kind("on purpose")

    with DynamicThreadPool(max_workers=1) as pool:
        future = pool.submit(fail)
        with pytest.raises(kind, match="on purpose"):
            future.result(WAIT)
        assert pool.submit(threading.get_ident).result(WAIT)
        statistics = pool.statistics()
    assert (statistics.failed, statistics.completed, statistics.alive) == (1, 1, 1)


def test_a_done_callback_that_raises_system_exit_does_not_kill_the_worker(caplog):
    def fail(_):
        raise SystemExit

    gate = threading.Event()
    called = []
    with DynamicThreadPool(max_workers=1) as pool:
        future = pool.submit(gate.wait, WAIT)
        future.add_done_callback(fail)
        future.add_done_callback(called.append)
        gate.set()
        assert pool.submit(pow, 2, 3).result(WAIT) == 8
    assert called == [future]
    assert "a done-callback" in caplog.text


def test_a_failure_nobody_reads_comes_to_the_error_log():
    errors = ErrorLog("test")
    with DynamicThreadPool(max_workers=1, thread_name_prefix="room", errors=errors) as pool:
        view = pool.with_options(label="greeting")
        read = view.submit(int, "x")
        assert isinstance(read.exception(WAIT), ValueError)
        view.submit(float, "y")  # dropped at once
        pool.wait_idle(WAIT)
    del read
    gc.collect()
    (group,) = errors.groups()
    assert group.count == 1
    assert (group.component, group.task) == ("room", "greeting")
    assert "could not convert string to float: 'y'" in group.message
    assert "submitted at" in group.format()
    errors.close(WAIT)


def test_a_failure_says_where_its_task_was_submitted():
    def fail():
        raise ValueError("here")

    with DynamicThreadPool(max_workers=1) as pool:
        for submit in (pool.submit, pool.with_options(label="x").submit):
            exc = submit(fail).exception(WAIT)
            assert f"test_pool_endings.py:{fail.__code__.co_firstlineno + 5}" in exc.__notes__[0]


def test_neither_worker_nor_pool_keeps_a_task_alive():
    class Thing:
        def method(self, other):
            return None

    with DynamicThreadPool(max_workers=1) as pool:
        thing, other = Thing(), Thing()
        gone = [weakref.ref(thing), weakref.ref(other)]
        future = pool.submit(thing.method, other)
        future.result(WAIT)
        del thing, other
        pool.submit(int).result(WAIT)
        gc.collect()
        assert [ref() for ref in gone] == [None, None]
        assert future.done()


def test_a_kept_failure_does_not_keep_the_tasks_locals():
    class Thing:
        pass

    gone = []

    def fail():
        thing = Thing()
        gone.append(weakref.ref(thing))
        raise ValueError

    with DynamicThreadPool(max_workers=1) as pool:
        future = pool.submit(fail)
        assert future.exception(WAIT) is not None
        gc.collect()
        assert gone[0]() is None


def test_the_late_result_of_a_timed_out_task_is_discarded_and_counted():
    gate = threading.Event()
    with DynamicThreadPool(max_workers=1) as pool:
        late = pool.with_options(timeout=0.01).submit(lambda: gate.wait(WAIT) and "late")
        assert isinstance(late.exception(WAIT), TaskTimeout)
        assert pool.submit(pow, 2, 3).result(WAIT) == 8
        assert pool.statistics().abandoned == 1
        gate.set()
    assert isinstance(late.exception(0), TaskTimeout)
    statistics = pool.statistics()
    assert (statistics.timed_out, statistics.completed) == (1, 1)
