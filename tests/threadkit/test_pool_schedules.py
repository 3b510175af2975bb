"""The pool under the simulator: every race its documentation tells of, under many schedules.

Each scenario is a function of a `SimRuntime`; its docstring is the promise it checks. `SCENARIOS`
is also run by the stress tests, with many more seeds. Bounds, pauses and coroutines are in
test_pool_schedules_bounds.py, pools that are used from inside in test_pool_schedules_inside.py.
"""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from pool_rig import PREEMPT, deep, outcome, pool_of, settle, submits_until_closed
from scenarios import Scenarios
from sim_threads import together
from threadkit import (
    DynamicThreadPool,
    PoolClosed,
    WorkerLost,
    current_task,
)
from threadkit.testing import ScheduleFailed, explore

SCENARIOS = Scenarios(PREEMPT)
scenario = SCENARIOS.add


# -- submitting and running ----------------------------------------------------------------


@scenario
def two_submitters_and_two_workers(sim):
    """Every task runs once, whoever submits it; a submitter's order is kept by one worker."""
    ran = []
    with pool_of(sim, 2) as pool:
        results = {}

        def submit(name):
            futures = [pool.submit(ran.append, (name, n)) or n for n in range(3)]
            results[name] = [outcome(future) for future in futures]

        together(sim, lambda: submit("a"), lambda: submit("b"))
        pool.shutdown()
        assert sorted(ran) == [(name, n) for name in "ab" for n in range(3)]
        assert settle(pool).completed == 6


@scenario
def one_worker_keeps_the_order(sim):
    """First in, first out, with one worker."""
    ran = []
    with pool_of(sim, 1) as pool:
        futures = [pool.submit(ran.append, n) for n in range(4)]
        assert [outcome(future) for future in futures] == [None] * 4
        assert ran == [0, 1, 2, 3]


@scenario
def tasks_that_raise_keep_their_worker(sim):
    """Whatever a task raises ends its future and nothing else."""

    def fail(kind):
        raise kind("on purpose")

    with pool_of(sim, 2) as pool:
        futures = [pool.submit(fail, kind) for kind in (ValueError, SystemExit, KeyboardInterrupt)]
        kinds = [type(future.exception()) for future in futures]
        assert kinds == [ValueError, SystemExit, KeyboardInterrupt]
        assert outcome(pool.submit(int, "7")) == 7
        pool.shutdown()
        assert settle(pool).failed == 3


@scenario
def a_submit_from_a_done_callback(sim):
    """A callback may submit again, in the worker's thread."""
    ran = []
    with pool_of(sim, 1) as pool:
        again = sim.event()

        def chain(_):
            pool.submit(ran.append, "second").add_done_callback(lambda _: again.set())

        pool.submit(ran.append, "first").add_done_callback(chain)
        assert again.wait(1000)
    assert ran == ["first", "second"]


@scenario
def levels_are_claimed_in_order(sim):
    """With one busy worker, the more important level goes first, FIFO inside a level."""
    ran = []
    with pool_of(sim, 1, levels=3, ageing=1e6) as pool:
        gate = sim.event()
        pool.submit(gate.wait)
        views = {level: pool.with_options(priority=level) for level in range(3)}
        futures = [
            views[level].submit(ran.append, (level, n)) for level in (2, 0, 1) for n in range(2)
        ]
        gate.set()
        for future in futures:
            outcome(future)
    assert ran == sorted(ran)


@scenario
def two_workers_take_from_levels(sim):
    """Two workers that look at the same head take each task once."""
    ran = []
    with pool_of(sim, 2, levels=2) as pool:
        low = pool.with_options(priority=1)
        futures = [(low if n % 2 else pool).submit(ran.append, n) for n in range(5)]
        for future in futures:
            outcome(future)
    assert sorted(ran) == list(range(5))


@scenario
def a_map_that_is_given_up_early(sim):
    """Closing a map's iterator cancels what has not begun, and nothing hangs."""
    with pool_of(sim, 2) as pool:
        results = pool.map(abs, range(-5, 0), buffersize=2)
        assert [next(results), next(results)] == [5, 4]
        results.close()
        assert list(pool.map(abs, [-1, -2])) == [1, 2]


# -- submit against the end ----------------------------------------------------------------


@scenario
def submit_against_shutdown(sim):
    """A task is either refused, and never runs, or accepted, and ends before shutdown returns."""
    ran, accepted = [], {}
    with pool_of(sim, 2) as pool:

        def shut_down():
            assert pool.shutdown().finished

        together(sim, submits_until_closed(pool, ran, accepted), shut_down)
        assert all(future.done() for future in accepted.values())
        assert sorted(ran) == sorted(accepted)


@scenario
def submit_against_cancelling_shutdown(sim):
    """What is accepted either runs or is cancelled; shutdown returns with all of it ended."""
    ran, accepted = [], {}
    with pool_of(sim, 1) as pool:
        submit = submits_until_closed(pool, ran, accepted)
        together(sim, submit, lambda: pool.shutdown(cancel_futures=True))
        outcomes = {n: outcome(future) for n, future in accepted.items()}
        assert sorted(ran) == sorted(n for n, end in outcomes.items() if end != "cancelled")


@scenario
def submit_against_shutdown_without_waiting(sim):
    """shutdown(wait=False) keeps its word about what was accepted."""
    ran, accepted = [], {}
    with pool_of(sim, 2) as pool:
        submit = submits_until_closed(pool, ran, accepted)
        together(sim, submit, lambda: pool.shutdown(wait=False))
        ends = {n: outcome(future) for n, future in accepted.items()}
        assert set(ends.values()) <= {None, "WorkerLost"}
        assert sorted(ran) == sorted(n for n, end in ends.items() if end is None)


@scenario
def two_shutdowns_at_once(sim):
    """Both return when everything has ended."""
    with pool_of(sim, 2) as pool:
        futures = [pool.submit(sim.sleep, 1) for _ in range(3)]

        def shut_down():
            pool.shutdown()
            assert all(future.done() for future in futures)

        together(sim, shut_down, shut_down)


@scenario
def shutdown_from_a_task(sim):
    """A task may shut its own pool down; it does not wait for itself."""
    with pool_of(sim, 2) as pool:
        futures = [pool.submit(pool.shutdown), pool_submit_or_none(pool)]
        for future in filter(None, futures):
            future.exception()


def pool_submit_or_none(pool):
    try:
        return pool.submit(int)
    except PoolClosed:
        return None


@scenario
def a_shutdown_that_runs_out_of_time(sim):
    """It cancels what waits, asks what runs to stop, and says what was left."""
    with pool_of(sim, 1) as pool:

        def patient():
            for _ in range(100):
                current_task().check()
                sim.sleep(1)

        running, waiting = pool.submit(patient), pool.submit(int)
        sim.sleep(0.5)
        report = pool.shutdown(timeout=10)
        assert not report.finished
        assert waiting.cancelled()
        assert type(running.exception()).__name__ == "TaskCancelled"


@scenario
def a_dropped_pool_finishes_its_work(sim):
    """A pool nobody refers to any more runs what it accepted, and its workers leave."""
    ran = []
    pool = DynamicThreadPool(1, 2, runtime=sim, policy="fixed", thread_name_prefix="dropped")
    futures = [pool.submit(ran.append, n) for n in range(3)]
    del pool
    for future in futures:
        outcome(future)
    assert sorted(ran) == [0, 1, 2]
    for thread in threading.enumerate():
        if thread.name.startswith("dropped-"):
            thread.join(1000)
            assert not thread.is_alive()


@scenario
def an_initializer_that_fails(sim):
    """Every future ends; the pool says that it is broken."""

    def broken():
        raise OSError("no device")

    with pool_of(sim, 2, initializer=broken) as pool:
        ends = []

        def submit():
            try:
                ends.append(outcome(pool.submit(int)))
            except WorkerLost:
                ends.append("WorkerLost")

        together(sim, submit, submit)
        assert ends == ["WorkerLost"] * 2


# -- sizes ---------------------------------------------------------------------------------


@scenario
def resize_against_submit(sim):
    """Resizing loses, repeats and reorders nothing."""
    ran = []
    with pool_of(sim, 2) as pool:
        futures = []

        def submit():
            futures.extend(pool.submit(ran.append, n) for n in range(4))

        def resize():
            for low, high in ((1, 1), (0, 3), (2, 2)):
                pool.resize(low, high)

        together(sim, submit, resize)
        for future in futures:
            outcome(future)
        assert sorted(ran) == [0, 1, 2, 3]
        sim.sleep(1)
        assert pool.statistics().alive <= 2


@scenario
def the_last_worker_retires_against_submit(sim):
    """A task submitted while the last worker is told to leave still finds one."""
    with pool_of(sim, 1, 0) as pool:
        outcome(pool.submit(int))

        def submit():
            assert outcome(pool.submit(int, "5")) == 5

        together(sim, lambda: pool.adjust_pool_size(0), submit)


@scenario
def idle_workers_leave_just_when_work_comes(sim):
    """Workers retired by the policy at the very moment of a submit leave no task behind."""
    with pool_of(sim, 2, 0, policy="keep_alive", idle_timeout=1, check_interval=0.5) as pool:
        outcome(pool.submit(int))
        for _ in range(2):
            sim.sleep(1)
            futures = [pool.submit(int, "5") for _ in range(2)]
            assert [outcome(future) for future in futures] == [5, 5]


@scenario
def a_burst_grows_the_pool(sim):
    """With the default policy, blocked workers are joined by others up to the maximum."""
    with pool_of(sim, 3, 1, policy="adaptive") as pool:
        futures = [pool.submit(sim.sleep, 1) for _ in range(3)]
        for future in futures:
            outcome(future)
        assert sim.monotonic() < 2.9


@scenario
def threads_that_cannot_be_started(sim):
    """A task whose worker cannot start is refused at once, fails with that, or runs."""
    ran, accepted = [], {}
    with pool_of(sim, 2) as pool:

        def submit(first):
            begin.wait()
            for n in range(first, first + 2):
                with suppress(WorkerLost):
                    accepted[n] = pool.submit(ran.append, n)

        def refuse():
            sim.fail_thread_starts(1 + sim.seed % 4)
            begin.set()

        begin = sim.event()
        together(sim, lambda: submit(0), lambda: submit(10), refuse)
        ends = {n: outcome(future) for n, future in accepted.items()}
        assert set(ends.values()) <= {None, "WorkerLost"}
        assert sorted(ran) == sorted(n for n, end in ends.items() if end is None)


@scenario
def blocking_tasks_lend_their_slot(sim):
    """While all workers are inside `pool.blocking()`, others run."""
    with pool_of(sim, 2) as pool:
        gate = sim.event()

        def wait_for_gate():
            with pool.blocking():
                assert gate.wait(1000)

        blocked = [pool.submit(wait_for_gate) for _ in range(2)]
        outcome(pool.submit(gate.set))
        for future in blocked:
            assert outcome(future) is None
        sim.sleep(1)
        assert pool.statistics().lent == 0


# -- waiting inside ------------------------------------------------------------------------


@scenario
def nested_waiting_with_one_worker(sim):
    """A task that waits for tasks of its own pool ends, at any number of workers."""
    with pool_of(sim, 1) as pool:
        futures = [pool.submit(deep, pool, 3), pool.submit(deep, pool, 2)]
        assert [outcome(future) for future in futures] == [3, 2]


@scenario
def nested_waiting_with_two_workers(sim):
    """The inner task may be claimed by the other worker just when it is waited for."""
    with pool_of(sim, 2) as pool:
        futures = [pool.submit(deep, pool, 2) for _ in range(2)]
        assert [outcome(future) for future in futures] == [2, 2]


@scenario
def nested_waiting_for_each_others_tasks(sim):
    """Tasks that wait with a timeout, or for what a third one submitted, do not stop the pool."""
    with pool_of(sim, 1) as pool:

        def outer():
            inner = pool.submit(pool.submit, int, "4")
            return inner.result(timeout=1000).result(timeout=1000)

        assert [outcome(pool.submit(outer)) for _ in range(2)] == [4, 4]


# -- cancelling, deadlines -----------------------------------------------------------------


@scenario
def cancel_against_claim(sim):
    """A cancelled task never runs; one that was not cancelled does."""
    ran = []
    with pool_of(sim, 1) as pool:
        future = pool.submit(ran.append, 1)
        answers = []
        together(sim, *[lambda: answers.append(future.cancel())] * 2)
        end = outcome(future)
        assert answers in ([True, True], [False, False])
        assert (end == "cancelled") is answers[0]
        assert ran == ([] if answers[0] else [1])
        pool.shutdown()
        assert settle(pool).cancelled == answers[0]


@scenario
def cancel_against_shutdown(sim):
    """Each task is cancelled once, by its owner or by the shutdown."""
    with pool_of(sim, 1) as pool:
        gate = sim.event()
        futures = [pool.submit(gate.wait), pool.submit(int), pool.submit(int)]
        ends = []
        for future in futures:
            future.add_done_callback(ends.append)

        def cancel():
            for future in futures:
                future.cancel()
            gate.set()

        together(sim, cancel, lambda: pool.shutdown(cancel_futures=True))
        for future in futures:
            outcome(future)
        pool.shutdown()
        assert len(ends) == len(set(ends)) == 3
        settle(pool)


@scenario
def timeout_against_finish(sim):
    """A task that ends just when its time is over has one end, and its worker one task."""
    with pool_of(sim, 1, may_be_left=1) as pool:
        timed = pool.with_options(timeout=1)
        ends = []
        future = timed.submit(lambda: sim.sleep(1) or "in time")
        future.add_done_callback(ends.append)
        assert outcome(future) in ("in time", "TaskTimeout")
        assert outcome(pool.submit(int, "3")) == 3
        pool.shutdown()
        sim.sleep(1)  # the worker that came too late may still be writing that down
        assert ends == [future]
        books = settle(pool)
        assert books.completed + books.timed_out == 2


@scenario
def a_timed_out_task_gives_its_slot_back(sim):
    """The worker of a task that never ends in time is replaced, and leaves when it can."""
    with pool_of(sim, 1) as pool:
        stuck = pool.with_options(timeout=1).submit(sim.sleep, 50)
        behind = pool.submit(sim.monotonic)
        assert outcome(stuck) == "TaskTimeout"
        assert outcome(behind) < 50
        sim.sleep(100)
        books = pool.statistics()
        assert (books.abandoned, books.alive) == (0, 1)


@scenario
def timeout_against_nested_waiting(sim):
    """A task that is timed out while it waits for another of its pool does not stop it."""
    with pool_of(sim, 1, may_be_left=1) as pool:

        def outer():
            return pool.submit(sim.sleep, 2).result()  # in place, or by a lent worker

        future = pool.with_options(timeout=1).submit(outer)
        assert outcome(future) == "TaskTimeout"
        assert outcome(pool.submit(int, "3")) == 3


@scenario(stall_ratio=0.05)
def ttl_against_claim(sim):
    """A task that waited too long never runs; one that ran was not stale."""
    ran = []
    with pool_of(sim, 1) as pool:
        pool.submit(sim.sleep, 1)
        stale = pool.with_options(ttl=1).submit(ran.append, 1)
        end = outcome(stale)
        assert end in (None, "TaskStale")
        assert ran == ([] if end else [1])
        assert outcome(pool.submit(int, "3")) == 3
        pool.shutdown()
        assert settle(pool).expired == (end == "TaskStale")


@scenario
def cancel_against_ttl_and_claim(sim):
    """Three that want the same task: the worker, its owner, its deadline. One gets it."""
    ran, ends = [], []
    with pool_of(sim, 1) as pool:
        pool.submit(sim.sleep, 1)
        future = pool.with_options(ttl=1).submit(ran.append, 1)
        future.add_done_callback(ends.append)
        sim.sleep(1)
        cancelled = future.cancel()
        end = outcome(future)
        assert (end == "cancelled") is cancelled
        assert ran == ([1] if end is None else [])
        pool.shutdown()
        assert ends == [future]
        settle(pool)


test_under_many_schedules = SCENARIOS.test()


def test_a_worker_that_parks_without_a_second_look_is_found(monkeypatch):
    def rest(crew, me, now):
        if crew.closing and not crew.backlog.ready():
            return False
        me.since = now
        crew.parked.append(me)
        me.sleep()
        return True

    monkeypatch.setattr("threadkit._pool._worker._rest", rest)
    with pytest.raises(ScheduleFailed):
        explore(one_worker_keeps_the_order, 300, preempt=[rest])


def test_a_backlog_that_is_looked_at_and_then_taken_from_is_found(monkeypatch):
    def take(backlog):
        tasks = next(filter(None, backlog._levels), None)
        if tasks is None:
            raise IndexError
        head = tasks[0]
        tasks.popleft()
        return head

    monkeypatch.setattr("threadkit._pool._backlog.LevelBacklog.take", take)
    with pytest.raises(ScheduleFailed):
        explore(two_workers_take_from_levels, 1_000, preempt=[take])
