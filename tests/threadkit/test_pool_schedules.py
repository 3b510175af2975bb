"""The pool under the simulator: every race its documentation tells of, under many schedules.

Each scenario is a function of a `SimRuntime`; its docstring is the promise it checks. `SCENARIOS`
is also run by the stress tests, with many more seeds.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress

import pytest

from sim_threads import together
from threadkit import (
    DynamicThreadPool,
    PoolClosed,
    Rejected,
    TaskStale,
    TaskTimeout,
    WorkerLost,
    current_task,
)
from threadkit.testing import ScheduleFailed, explore

PREEMPT = ["threadkit._pool", "threadkit._futures"]
SCENARIOS = {}


def scenario(function=None, /, **options):
    """Register a scenario, with options for `explore`."""

    def register(function):
        SCENARIOS[function.__name__] = (function, options)
        return function

    return register(function) if function is not None else register


@contextmanager
def pool_of(sim, max_workers, min_workers=None, *, may_be_left=0, **options):
    """A pool that is shut down at the end, and has no thread left then, but for abandoned ones."""
    options = {"policy": "fixed", "thread_name_prefix": "pool", **options}
    pool = DynamicThreadPool(min_workers, max_workers, runtime=sim, **options)
    yield pool
    pool.shutdown()
    left = [t.name for t in threading.enumerate() if t.name.startswith("pool-") and t.is_alive()]
    assert len(left) <= may_be_left, left


def outcome(future):
    """How a future ended: its value, or the kind of its exception. Waits for the end."""
    try:
        return future.result()
    except CancelledError:
        return "cancelled"
    except (Rejected, TaskStale, TaskTimeout, WorkerLost) as exc:
        return type(exc).__name__


def settle(pool):
    """The books are balanced once nothing is queued or running, but for what timed out."""
    books = pool.statistics()
    assert books.running == books.abandoned
    assert sum(books.queued) == 0
    ended = (
        books.completed
        + books.failed
        + books.cancelled
        + books.expired
        + books.timed_out
        + books.dropped
        + books.superseded
    )
    assert books.submitted == ended, books
    return books


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


def submits_until_closed(pool, ran, accepted):
    def submit():
        for n in range(4):
            try:
                accepted[n] = pool.submit(ran.append, n)
            except PoolClosed:
                return

    return submit


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


def deep(pool, depth):
    return 0 if depth == 0 else 1 + pool.submit(deep, pool, depth - 1).result()


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


# -- bounded queues ------------------------------------------------------------------------


def submit_all(pool, ran, futures, names):
    """Submit one task for each name; what is refused is written down as such."""
    for name in names:
        try:
            futures[name] = pool.submit(ran.append, name)
        except Rejected:
            futures[name] = None


def check_each_ended_once(ran, futures):
    """What was accepted ran once or was dropped with its reason; nothing else ran."""
    ends = {name: outcome(future) for name, future in futures.items() if future is not None}
    assert sorted(ran) == sorted(name for name, end in ends.items() if end is None)
    assert set(ends.values()) <= {None, "Rejected"}
    return ends


@scenario
def blocked_submitters_are_let_in(sim):
    """With the rule to block, every task is accepted and runs, and the bound holds."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=1) as pool:

        def submit(name):
            for n in range(2):
                submit_all(pool, ran, futures, [name + str(n)])
                assert sum(pool.statistics().queued) <= 1

        together(sim, lambda: submit("a"), lambda: submit("b"), lambda: submit("c"))
        check_each_ended_once(ran, futures)
        assert len(ran) == 6
        pool.shutdown()
        settle(pool)


@scenario
def room_against_the_end_of_patience(sim):
    """A submitter whose patience ends just when room comes is refused, or its task runs."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=1, overflow_timeout=1) as pool:
        pool.submit(sim.sleep, 1)
        sim.sleep(0)
        names = ["a", "b", "c"]
        together(sim, *[lambda n=name: submit_all(pool, ran, futures, [n]) for name in names])
        check_each_ended_once(ran, futures)
        pool.shutdown()
        books = settle(pool)
        assert books.rejected == list(futures.values()).count(None)


@scenario
def blocked_submitters_against_shutdown(sim):
    """They are told that the pool is closed, or their task runs."""
    ran, accepted = [], {}
    with pool_of(sim, 1, queue_limit=1) as pool:
        submit = submits_until_closed(pool, ran, accepted)
        together(sim, submit, pool.shutdown)
        assert all(future.done() for future in accepted.values())
        assert sorted(ran) == sorted(accepted)


@scenario
def a_task_that_submits_to_its_own_full_pool(sim):
    """A worker that waits for room in its own queue does not stop the queue."""
    ran = []
    with pool_of(sim, 1, queue_limit=1) as pool:

        def outer():
            return [pool.submit(ran.append, n) for n in range(3)]

        for future in outcome(pool.submit(outer)):
            outcome(future)
    assert ran == [0, 1, 2]


@scenario
def reject_against_claim(sim):
    """Accepted tasks run, rejected ones do not, and the books know both."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=1, overflow="reject") as pool:
        together(
            sim,
            lambda: submit_all(pool, ran, futures, "abc"),
            lambda: submit_all(pool, ran, futures, "xyz"),
        )
        assert set(check_each_ended_once(ran, futures).values()) <= {None}
        pool.shutdown()
        assert settle(pool).rejected == list(futures.values()).count(None)


@scenario
def drop_oldest_against_claim(sim):
    """A task is dropped or claimed, never both, and the newest is never refused."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=1, overflow="drop_oldest") as pool:
        submit_all(pool, ran, futures, "abcd")
        ends = check_each_ended_once(ran, futures)
        assert None not in futures.values()
        assert ends["d"] is None
        pool.shutdown()
        assert settle(pool).dropped == list(ends.values()).count("Rejected")


@scenario
def drop_oldest_from_two_submitters(sim):
    """Two that make room at once drop different tasks, and the bound holds."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=2, overflow="drop_oldest") as pool:

        def submit(names):
            submit_all(pool, ran, futures, names)
            assert sum(pool.statistics().queued) <= 2

        together(sim, lambda: submit("abc"), lambda: submit("xyz"))
        ends = check_each_ended_once(ran, futures)
        pool.shutdown()
        assert settle(pool).dropped == list(ends.values()).count("Rejected")


@scenario
def drop_lowest_against_claim(sim):
    """The important ones run; what gives way is the least important, once."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=2, overflow="drop_lowest", levels=2) as pool:
        low = pool.with_options(priority=1)
        together(
            sim,
            lambda: submit_all(low, ran, futures, "abc"),
            lambda: submit_all(pool, ran, futures, "XY"),
        )
        ends = check_each_ended_once(ran, futures)
        assert all(futures[name] is not None for name in "X")
        pool.shutdown()
        books = settle(pool)
        assert books.dropped == list(ends.values()).count("Rejected")


@scenario
def caller_runs_what_finds_no_room(sim):
    """Every task runs once, on a worker or on its submitter."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=1, overflow="caller_runs") as pool:
        together(
            sim,
            lambda: submit_all(pool, ran, futures, "abc"),
            lambda: submit_all(pool, ran, futures, "xyz"),
        )
        check_each_ended_once(ran, futures)
        assert sorted(ran) == sorted("abcxyz")
        pool.shutdown()
        settle(pool)


@scenario
def superseded_against_claim(sim):
    """Of tasks with one key the last one runs; an older one ran before it, or was dropped."""
    ran, futures = [], {}
    with pool_of(sim, 1) as pool:
        keyed = pool.with_options(key="k")
        together(
            sim,
            lambda: submit_all(keyed, ran, futures, "abc"),
            lambda: submit_all(keyed, ran, futures, "xy"),
        )
        ends = check_each_ended_once(ran, futures)
        assert ran[-1] in "cy"
        pool.shutdown()
        assert settle(pool).superseded == list(ends.values()).count("Rejected")


@scenario
def a_newer_key_against_one_whose_submitter_waits(sim):
    """Where submitters block, the one that came last is the one that runs."""
    ran = []
    with pool_of(sim, 1, queue_limit=1) as pool:
        gate = sim.event()
        holder = pool.submit(gate.wait)
        sim.sleep(0)
        filler = pool.submit(int)
        keyed = pool.with_options(key="k")
        futures = {}

        def submit(name, at):
            sim.sleep(at)
            futures[name] = keyed.submit(ran.append, name)

        def open_up():
            sim.sleep(3)
            filler.cancel()  # room, for one of them
            sim.sleep(1)
            gate.set()

        together(sim, lambda: submit("old", 1), lambda: submit("new", 2), open_up)
        ends = {name: outcome(future) for name, future in futures.items()}
        assert ends["new"] is None
        assert ran[-1] == "new"
        assert ends["old"] == ("Rejected" if ran == ["new"] else None)
        outcome(holder)
        pool.shutdown()
        assert settle(pool).superseded == (ends["old"] == "Rejected")


@scenario
def keys_whose_submitters_lose_patience(sim):
    """A submit is refused, superseded, or its task runs; the last accepted one runs last."""
    ran, futures = [], {}
    with pool_of(sim, 1, queue_limit=1, overflow_timeout=1) as pool:
        pool.submit(sim.sleep, 1)
        pool.submit(sim.sleep, 1)
        keyed = pool.with_options(key="k")
        names = ["a", "b", "c"]
        together(sim, *[lambda n=name: submit_all(keyed, ran, futures, [n]) for name in names])
        ends = check_each_ended_once(ran, futures)
        pool.shutdown()
        books = settle(pool)
        assert books.rejected == list(futures.values()).count(None)
        assert books.superseded == list(ends.values()).count("Rejected")


# -- pauses --------------------------------------------------------------------------------


@scenario
def pause_against_submit(sim):
    """Once a pause has settled no task begins; after resume all of them run, in their order."""
    ran = []
    with pool_of(sim, 1) as pool:
        futures = []

        def submit():
            futures.extend(pool.submit(ran.append, n) for n in range(3))

        together(sim, submit, pool.pause)
        sim.sleep(1)
        begun = len(ran)
        futures.append(pool.submit(ran.append, 3))
        sim.sleep(1)
        assert len(ran) == begun
        pool.resume()
        for future in futures:
            outcome(future)
    assert ran == [0, 1, 2, 3]


@scenario
def pause_and_resume_against_submit(sim):
    """Pauses lose nothing and keep nobody waiting once they are over."""
    ran = []
    with pool_of(sim, 2, levels=2) as pool:
        futures = []

        def submit():
            futures.extend(pool.submit(ran.append, n) for n in range(3))

        def stutter():
            for _ in range(2):
                pool.pause()
                pool.resume()

        together(sim, submit, stutter)
        for future in futures:
            outcome(future)
    assert sorted(ran) == [0, 1, 2]


@scenario
def shutdown_of_a_paused_pool(sim):
    """It lets the tasks go that were held."""
    ran = []
    with pool_of(sim, 1) as pool:
        pool.pause()
        futures = [pool.submit(ran.append, n) for n in range(2)]
        together(sim, pool.shutdown, pool.pause)
        pool.resume()
        for future in futures:
            outcome(future)
    assert ran == [0, 1]


@scenario
def drain_against_submit(sim):
    """Drained means that what was accepted has ended; what comes later is refused."""
    ran, accepted = [], {}
    with pool_of(sim, 2) as pool:

        def drain():
            assert pool.drain(1000)
            assert all(future.done() for future in accepted.copy().values())

        together(sim, submits_until_closed(pool, ran, accepted), drain)
        assert sorted(ran) == sorted(accepted)
        pool.resume()
        assert outcome(pool.submit(int, "3")) == 3


# -- coroutines ----------------------------------------------------------------------------


@scenario
def cancelled_run_against_claim(sim):
    """Cancelling `await pool.run(...)` cancels the task if it still waits; it runs or does not."""
    ran = []
    with pool_of(sim, 1) as pool:

        async def main():
            task = asyncio.ensure_future(run())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            return task.cancelled()

        async def run():
            return await pool.run(ran.append, 1)

        sim.run_async(main())
        pool.shutdown()
        assert len(ran) + pool.statistics().cancelled == 1


@scenario
def coroutines_wait_for_room(sim):
    """Coroutines that wait for room are let in one by one; a cancelled one gives its turn away."""
    ran = []
    with pool_of(sim, 1, queue_limit=1) as pool:

        async def run(name):
            await pool.run(ran.append, name)

        async def main():
            tasks = [asyncio.ensure_future(run(name)) for name in "abcd"]
            await asyncio.sleep(0)
            tasks[2].cancel()
            await asyncio.wait(tasks)
            return [name for name, task in zip("abcd", tasks, strict=True) if not task.cancelled()]

        finished = sim.run_async(main())
        assert finished in (list("abd"), list("abcd"))
        pool.shutdown()
        assert set(finished) <= set(ran)
        assert len(set(ran)) == len(ran)


# -- looking -------------------------------------------------------------------------------


@scenario
def wait_idle_against_submit(sim):
    """When wait_idle says yes, what was submitted before has ended."""
    with pool_of(sim, 2) as pool:
        futures = [pool.submit(sim.sleep, 0) for _ in range(3)]
        more = []

        def wait():
            assert pool.wait_idle(1000)
            assert all(future.done() for future in futures)

        together(sim, wait, lambda: more.append(pool.submit(int)))
        assert outcome(more[0]) == 0


@scenario
def statistics_while_things_change(sim):
    """The books never show more ended than submitted, and are balanced at the end."""
    with pool_of(sim, 2) as pool:

        def look():
            for _ in range(3):
                books = pool.statistics()
                ended = books.completed + books.failed + books.cancelled
                assert 0 <= ended <= 3
                assert 0 <= books.busy <= books.alive <= 3

        def submit():
            futures = [pool.submit(int) for _ in range(3)]
            futures[2].cancel()
            for future in futures:
                outcome(future)

        together(sim, look, submit)
        pool.shutdown()
        assert settle(pool).submitted == 3


# -- its own workers end, wait for or pause the pool ------------------------------------------


@scenario
def shutdown_from_two_tasks_at_once(sim):
    """Neither waits for the other, and what was queued is done when both have returned."""
    ran, reports = [], []
    with pool_of(sim, 2) as pool:
        gate = sim.event()

        def end():
            assert gate.wait(1000)
            reports.append(pool.shutdown())
            assert ran == [1]

        futures = [pool.submit(end), pool.submit(end)]
        queued = pool.submit(ran.append, 1)
        gate.set()
        assert [outcome(future) for future in (*futures, queued)] == [None] * 3
        assert [report.queued for report in reports] == [0, 0]


@scenario
def shutdown_from_the_callbacks_of_two_workers(sim):
    """Done-callbacks that run on two workers at once may both shut the pool down."""
    with pool_of(sim, 2) as pool:
        ended = []
        gate = sim.event()

        def end(_):
            pool.shutdown()
            ended.append(True)

        for _ in range(2):
            pool.submit(gate.wait).add_done_callback(end)
        gate.set()
        sim.sleep(1)
        assert ended == [True, True]


@scenario
def shutdown_from_the_only_worker_with_tasks_queued(sim):
    """Another worker stands in for it, so that the queue is empty when shutdown returns."""
    ran = []
    with pool_of(sim, 1) as pool:
        begun = sim.event()

        def end():
            assert begun.wait(1000)
            report = pool.shutdown()
            assert (ran, report.queued, report.finished) == ([1, 2], 0, True)
            sim.sleep(1)  # it goes on; nobody may think that the pool is over

        ending = pool.submit(end)
        futures = [pool.submit(ran.append, n) for n in (1, 2)]
        begun.set()
        assert outcome(ending) is None
        assert [outcome(future) for future in futures] == [None, None]


@scenario
def shutdown_from_a_task_and_from_outside(sim):
    """The one outside waits for the task that does the same, not the other way round."""
    with pool_of(sim, 2) as pool:
        ending = pool.submit(pool.shutdown)

        def outside():
            pool.shutdown()
            assert ending.done()

        together(sim, outside, outside)


@scenario
def a_shutdown_does_not_wait_for_a_worker_given_up_meanwhile(sim):
    """It returns when the timeout of the last task is over, not when that task ends."""
    with pool_of(sim, 1, may_be_left=1) as pool:
        stuck = pool.with_options(timeout=1, label="stuck").submit(sim.sleep, 50)
        sim.sleep(0.5)
        report = pool.shutdown()
        assert sim.monotonic() < 50
        assert report.running == ("stuck",)
        assert not report.finished
        assert outcome(stuck) == "TaskTimeout"


@scenario
def a_shutdown_while_the_last_worker_is_given_up(sim):
    """Its successor does what is queued; that nobody is in sight for a moment is not the end."""
    ran = []
    with pool_of(sim, 1, may_be_left=1) as pool:
        stuck = pool.with_options(timeout=1).submit(sim.sleep, 50)
        futures = [pool.submit(ran.append, n) for n in range(2)]
        sim.sleep(0.5)
        assert pool.shutdown().queued == 0
        assert outcome(stuck) == "TaskTimeout"
        assert [outcome(future) for future in futures] == [None, None]
    assert ran == [0, 1]


@scenario
def a_shutdown_while_the_last_worker_retires(sim):
    """What it leaves behind is done by its successor before the shutdown returns."""
    ran = []
    with pool_of(sim, 1, 0) as pool:
        outcome(pool.submit(int))

        def submit_and_end():
            future = pool.submit(ran.append, 1)
            pool.shutdown()
            assert future.done()

        together(sim, lambda: pool.adjust_pool_size(0), submit_and_end)
    assert ran == [1]


@scenario
def a_timeout_outside_a_run_in_place(sim):
    """The worker of a task that waits for one it runs itself is given up when its time is over."""
    with pool_of(sim, 1, may_be_left=1) as pool:

        def outer():
            return pool.submit(sim.sleep, 50).result()

        future = pool.with_options(timeout=1).submit(outer)
        behind = pool.submit(sim.monotonic)
        assert outcome(future) == "TaskTimeout"
        assert outcome(behind) < 40
        sim.sleep(100)


@scenario
def a_timeout_inside_a_nested_wait(sim):
    """Who waits for a task with a timeout hears of it in time, and goes on."""
    with pool_of(sim, 1, may_be_left=1) as pool:

        def outer():
            inner = pool.with_options(timeout=1).submit(sim.sleep, 50)
            return outcome(inner), sim.monotonic()

        kind, at = outcome(pool.submit(outer))
        assert kind == "TaskTimeout"
        assert at < 40
        sim.sleep(100)


@scenario
def a_timeout_inside_blocking(sim):
    """What was lent for a task that is given up is taken back: the limit holds afterwards."""
    most, now = [0], [0]
    with pool_of(sim, 1, may_be_left=1) as pool:
        gate = sim.event()

        def stuck():
            with pool.blocking():
                assert gate.wait(1000)

        assert outcome(pool.with_options(timeout=1).submit(stuck)) == "TaskTimeout"
        sim.sleep(1)
        assert pool.statistics().lent == 0

        def count():
            now[0] += 1
            most[0] = max(most[0], now[0])
            sim.sleep(1)
            now[0] -= 1

        for future in [pool.submit(count) for _ in range(3)]:
            outcome(future)
        assert most == [1]
        gate.set()
        sim.sleep(1)
        assert pool.statistics().lent == 0


@scenario
def a_paused_queue_keeps_its_order_and_its_levels(sim):
    """What comes while a pool is paused is taken by rank afterwards, not as it came."""
    ran = []
    with pool_of(sim, 1, levels=2, ageing=1e6) as pool:
        outcome(pool.submit(int))
        pool.pause()
        low = pool.with_options(priority=1)
        futures = [low.submit(ran.append, "low"), low.submit(ran.append, "lower")]
        futures.append(pool.submit(ran.append, "high"))
        sim.sleep(0.5)
        assert pool.statistics().queued == (1, 2)
        pool.resume()
        for future in futures:
            outcome(future)
    assert ran == ["high", "low", "lower"]


@scenario
def a_worker_that_takes_a_task_just_when_a_pause_begins(sim):
    """It puts it back where it was: before whatever came later."""
    ran = []
    with pool_of(sim, 1, levels=2, ageing=1e6) as pool:
        low = pool.with_options(priority=1)
        futures = []

        def submit():
            futures.extend(low.submit(ran.append, n) for n in range(2))

        together(sim, submit, pool.pause)
        sim.sleep(1)
        begun = ran.copy()
        futures.append(low.submit(ran.append, 2))
        futures.append(pool.submit(ran.append, "high"))
        sim.sleep(1)
        assert ran == begun
        pool.resume()
        for future in futures:
            outcome(future)
    rest = [n for n in range(3) if n not in begun]
    assert ran == [*begun, "high", *rest]


@scenario
def a_paused_pool_becomes_idle_without_a_worker(sim):
    """Who waits for it to be idle hears that the last task was cancelled, and nobody ran it."""
    with pool_of(sim, 1, queue_limit=2) as pool:
        outcome(pool.submit(int))
        pool.pause()
        future = pool.submit(int)
        idle = []
        together(sim, lambda: idle.append(pool.wait_idle(1000)), future.cancel)
        assert idle == [True]
        assert sim.monotonic() < 900
        pool.resume()


@scenario
def a_cancelling_shutdown_of_a_paused_pool(sim):
    """Nothing that waited while the pool was paused is run."""
    ran = []
    with pool_of(sim, 2) as pool:
        outcome(pool.submit(int))
        pool.pause()
        futures = [pool.submit(ran.append, n) for n in range(3)]
        pool.shutdown(cancel_futures=True)
        assert all(future.cancelled() for future in futures)
    assert ran == []


@scenario
def a_nested_wait_in_a_paused_pool(sim):
    """The task that is waited for does not begin before the pause is over."""
    ran = []
    with pool_of(sim, 1) as pool:
        begun, paused = sim.event(), sim.event()

        def outer():
            begun.set()
            assert paused.wait(1000)
            return pool.submit(ran.append, "inner").result()

        future = pool.submit(outer)
        assert begun.wait(1000)
        pool.pause()
        paused.set()
        sim.sleep(1)
        assert ran == []
        pool.resume()
        assert outcome(future) is None
    assert ran == ["inner"]


@scenario
def a_nested_wait_against_pauses(sim):
    """Whenever a pause comes, the waiting task gets its result once it is over."""
    with pool_of(sim, 2, 1) as pool:
        future = pool.submit(deep, pool, 2)

        def stutter():
            for _ in range(2):
                pool.pause()
                pool.resume()

        together(sim, stutter, lambda: pool.resize(1, 1))
        assert outcome(future) == 2


@scenario
def a_task_cannot_wait_for_its_own_pool(sim):
    """It would wait for itself: it is told so, in a task and in a callback."""
    with pool_of(sim, 1) as pool:
        told = []

        def ask(*_):
            for verb in (pool.drain, pool.wait_idle):
                with pytest.raises(RuntimeError, match="the task would wait for itself"):
                    verb()
                told.append(verb)

        gate = sim.event()
        future = pool.submit(lambda: (gate.wait(1000), ask()))
        future.add_done_callback(ask)
        gate.set()
        outcome(future)
        assert pool.wait_idle(1000)
        assert len(told) == 4
        assert outcome(pool.submit(int, "3")) == 3  # drain() refused before it closed anything


# -- everything at once ---------------------------------------------------------------------


class Life:
    """Users that do whatever comes to their mind with one pool, drawn from the run's seed."""

    def __init__(self, sim, pool):
        self.sim = sim
        self.pool = pool
        self.chance = random.Random(sim.seed)
        self.numbers = itertools.count()
        self.futures = []
        self.begun = []
        self.ended = []

    def use(self):
        for _ in range(5):
            with suppress(PoolClosed, Rejected):
                getattr(self, self.chance.choice(self.verbs))()

    verbs = ("submit",) * 6 + ("nested", "in_blocking", "cancel", "stutter", "resize", "drain")

    def submit(self, task=None, **options):
        options = options or self.chance.choice(
            [{}, {}, {"ttl": 1}, {"timeout": 1}, {"key": "k"}, {"priority": 1}]
        )
        number = next(self.numbers)
        future = self.pool.with_options(**options).submit(self.task, number, task)
        future.add_done_callback(lambda future: self.ended.append(id(future)))
        self.futures.append(future)
        return future

    def task(self, number, task):
        self.begun.append(number)
        if task is not None:
            return task()
        if number % 7 == 3:
            raise ValueError(number)
        return self.sim.sleep(number % 3)

    def nested(self):
        def wait():
            inner = self.submit()
            with suppress(Exception, CancelledError):
                inner.result(self.chance.choice([None, 2]))

        self.submit(wait)

    def in_blocking(self):
        def wait():
            with self.pool.blocking():
                self.sim.sleep(1)

        self.submit(wait)

    def cancel(self):
        if self.futures:
            self.chance.choice(self.futures).cancel()

    def stutter(self):
        self.pool.pause()
        self.sim.sleep(self.chance.choice([0, 0.5]))
        self.pool.resume()

    def resize(self):
        self.pool.resize(self.chance.randint(0, 1), self.chance.randint(1, 3))

    def drain(self):
        self.pool.drain(self.chance.choice([0, 1]))
        self.pool.resume()


@scenario(stall_ratio=0.02)
def a_random_life(sim):
    """Whatever is done to a pool: each future ends once, the books balance, everybody leaves."""
    chance = random.Random(sim.seed)
    bounds = {"overflow": chance.choice(["block", "reject", "drop_oldest", "drop_lowest"])}
    bounds["queue_limit"] = chance.choice([None, 2])
    with pool_of(sim, 2, 1, levels=2, may_be_left=9, **bounds) as pool:
        life = Life(sim, pool)
        together(sim, life.use, life.use)
        pool.resume()
        end = chance.choice(["outside", "inside", "cancelling"])
        if end == "inside":
            with suppress(Rejected):
                life.submit(pool.shutdown, priority=0)
        elif end == "cancelling":
            pool.shutdown(cancel_futures=True)
        report = pool.shutdown()
        assert report.queued == 0
        for thread in threading.enumerate():  # what was given up comes to its end
            if thread.name.startswith("pool-"):
                thread.join()
        assert all(future.done() for future in life.futures)
        assert len(life.ended) == len(set(life.ended)) == len(life.futures)
        assert len(life.begun) == len(set(life.begun))
        books = settle(pool)
        assert (books.lent, books.abandoned, books.alive) == (0, 0, 0)


@scenario
def two_tasks_shut_their_pool_down_and_report_it(sim):
    """Both say that it is finished, whichever comes out of its shutdown first."""
    with pool_of(sim, 1) as pool:
        gate = sim.event()
        pool.submit(gate.wait)
        reports = [pool.submit(pool.shutdown) for _ in range(2)]
        gate.set()
        assert all(report.result().finished for report in reports)


@pytest.mark.parametrize("name", SCENARIOS)
def test_under_many_schedules(name):
    function, options = SCENARIOS[name]
    explored = explore(function, 150, preempt=PREEMPT, **options)
    assert explored.schedules == 150
    assert explored.distinct > 75


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
