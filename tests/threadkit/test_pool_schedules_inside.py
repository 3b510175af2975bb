"""Schedules of pools that their own tasks end, wait for or pause, and of everything at once.

See test_pool_schedules.py.
"""

from __future__ import annotations

import itertools
import random
import threading
from concurrent.futures import CancelledError
from contextlib import suppress

import pytest

from pool_rig import PREEMPT, deep, outcome, pool_of, settle
from scenarios import Scenarios
from sim_threads import together
from threadkit import PoolClosed, Rejected

SCENARIOS = Scenarios(PREEMPT)
scenario = SCENARIOS.add


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


test_under_many_schedules = SCENARIOS.test()
