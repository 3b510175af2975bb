"""The pool where user code misbehaves or the moment is bad: nobody is left waiting for ever."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import math
import signal
import sys
import threading

import pytest

from threadkit import DynamicThreadPool, Future, TaskStale, TaskTimeout, WorkerLost
from threadkit._pool._records import _Durations
from threadkit.sizing import Decision

WAIT = 10  # s; how long a test waits for what must happen


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


def held(gate, **options):
    """A pool of one worker that waits at the gate."""
    pool = DynamicThreadPool(max_workers=1, **options)
    begun = threading.Event()
    pool.submit(lambda: (begun.set(), gate.wait(WAIT)))
    assert begun.wait(WAIT)
    return pool


def in_thread(fn):
    """Call it on another thread; the future of what it returns or raises."""
    future = Future()

    def call():
        try:
            future.set_result(fn())
        except BaseException as exc:
            future.set_exception(exc)

    threading.Thread(target=call, daemon=True).start()
    return future


def queued_ticket(pool):
    """Return when a producer waits for room."""
    waiting = threading.Event()
    while not pool._crew.intake.blocked:
        assert not waiting.wait(0.001)


# -- room in a bounded queue ---------------------------------------------------------------


def test_a_task_run_in_place_makes_room_for_the_producer_that_waits(gate):
    with DynamicThreadPool(max_workers=1, queue_limit=1) as pool:
        queued = threading.Event()

        def outer():
            inner = pool.submit(int)
            queued.set()
            gate.wait(WAIT)
            return inner.result()

        task = pool.submit(outer)
        assert queued.wait(WAIT)
        producer = in_thread(lambda: pool.submit(int).result(WAIT))
        queued_ticket(pool)
        gate.set()
        assert (task.result(WAIT), producer.result(WAIT)) == (0, 0)


class Alarm(Exception):
    pass


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a signal at a given moment")
def test_a_producer_that_a_signal_interrupts_leaves_the_line(gate):
    def ring(*_):
        raise Alarm

    previous = signal.signal(signal.SIGALRM, ring)
    try:
        with held(gate, queue_limit=1) as pool:
            pool.submit(int)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Alarm):
                pool.submit(int)
            assert not pool._crew.intake.blocked
            gate.set()
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_an_emptied_queue_lets_the_producers_that_wait_try_again(gate):
    with held(gate, queue_limit=1) as pool:
        pool.submit(int)
        producer = in_thread(lambda: pool.submit(int).result(WAIT))
        queued_ticket(pool)
        pool._crew.fail_all("on purpose")
        gate.set()
        assert producer.result(WAIT) == 0


@pytest.mark.parametrize("seconds", [math.inf, 1e10])
def test_producers_may_wait_longer_than_a_lock_can(gate, seconds):
    with held(gate, queue_limit=1, overflow_timeout=seconds) as pool:
        pool.submit(int)
        producer = in_thread(lambda: pool.submit(int).result(WAIT))
        queued_ticket(pool)
        gate.set()
        assert producer.result(WAIT) == 0


# -- coroutines ----------------------------------------------------------------------------


def test_run_that_is_cancelled_before_its_first_step_cancels_the_task(gate):
    ran = []

    async def main(pool):
        awaited = pool.run(ran.append, 1)
        awaited.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaited

    with held(gate) as pool:
        asyncio.run(main(pool))
        gate.set()
    assert not ran


def test_run_outside_a_loop_submits_nothing():
    ran = []
    with DynamicThreadPool(max_workers=1) as pool, pytest.raises(RuntimeError):
        pool.run(ran.append, 1)
    assert not ran


# -- the supervisor ------------------------------------------------------------------------


def test_deadlines_go_on_after_one_that_never_comes(gate):
    with DynamicThreadPool(max_workers=2) as pool:
        assert pool.with_options(ttl=math.inf).submit(int).result(WAIT) == 0
        slow = pool.with_options(timeout=0.01).submit(gate.wait, WAIT)
        assert isinstance(slow.exception(WAIT), TaskTimeout)
        gate.set()


def test_deadlines_go_on_after_a_callback_that_exits(gate, caplog):
    first_gate = threading.Event()
    with DynamicThreadPool(max_workers=1) as pool:
        first = pool.with_options(timeout=0.05).submit(first_gate.wait, WAIT)
        first.add_done_callback(lambda _: sys.exit(1))
        assert isinstance(first.exception(WAIT), TaskTimeout)
        second = pool.with_options(timeout=0.01).submit(gate.wait, WAIT)  # by a new worker
        assert isinstance(second.exception(WAIT), TaskTimeout)
        first_gate.set()
        gate.set()
    assert any(record.levelno == logging.CRITICAL for record in caplog.records)


def test_a_policy_that_decides_nothing_leaves_the_size_and_is_reported_once(caplog):
    class Policy:
        def decide(self, snapshot):
            return None if snapshot.max_workers else Decision(1, "never")

    with DynamicThreadPool(min_workers=1, max_workers=4, policy=Policy()) as pool:
        assert [pool.check_and_adjust() for _ in range(3)] == [1, 1, 1]
    assert [record.message for record in caplog.records if "policy failed" in record.message]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("size", ["3", 2.5, math.nan, None])
def test_a_size_that_is_no_whole_number_leaves_the_size_and_is_reported(size, caplog):
    class Policy:
        def decide(self, _):
            return Decision(size, "on purpose")

    with DynamicThreadPool(min_workers=1, max_workers=4, policy=Policy()) as pool:
        assert [pool.check_and_adjust() for _ in range(3)] == [1, 1, 1]
        assert pool.submit(int).result(WAIT) == 0
    assert "the size of a Decision must be an int" in str(caplog.records[0].exc_info[1])
    assert len(caplog.records) == 1


@pytest.mark.parametrize("recheck", ["soon", math.nan, -1])
def test_a_recheck_that_is_no_duration_is_reported(recheck, caplog):
    class Policy:
        def decide(self, _):
            return Decision(1, "on purpose", recheck)

    with DynamicThreadPool(min_workers=1, max_workers=4, policy=Policy()) as pool:
        assert pool.check_and_adjust() == 1
    assert "the recheck of a Decision must be" in str(caplog.records[0].exc_info[1])


def test_a_policy_that_asks_the_pool_to_look_is_not_asked_again():
    class Policy:
        def decide(self, _):
            return Decision(1 + pool.check_and_adjust(), "one more")

    with DynamicThreadPool(min_workers=1, max_workers=4, policy=Policy()) as pool:
        looks = in_thread(lambda: [pool.check_and_adjust() for _ in range(2)])
        assert looks.result(WAIT) == [2, 3]


def test_deadlines_go_on_after_a_policy_that_exits(caplog):
    asked = threading.Event()

    class Policy:
        def decide(self, _):
            asked.set()
            sys.exit(3)

    with DynamicThreadPool(min_workers=1, max_workers=4, policy=Policy()) as pool:
        gate = threading.Event()
        tasks = [pool.submit(gate.wait, WAIT) for _ in range(2)]  # the second asks for a look
        assert asked.wait(WAIT)
        late = pool.with_options(ttl=0.01).submit(int)
        assert isinstance(late.exception(WAIT), TaskStale)
        gate.set()
        assert all(task.result(WAIT) for task in tasks)
    assert "the supervisor goes on" in caplog.text


def test_statistics_may_be_asked_for_by_a_finalizer_while_a_worker_folds(monkeypatch):
    pool = DynamicThreadPool(max_workers=1)
    told = []

    def fold(pending):
        told.append(pool.statistics().completed)
        return pending_fold(pending)

    pending_fold = _Durations.fold
    monkeypatch.setattr(_Durations, "fold", fold)
    assert pool.submit(int).result(WAIT) == 0
    assert pool.shutdown(timeout=WAIT).finished
    assert told


def test_a_cancelled_task_is_counted_without_waiting_for_who_sums_up(gate):
    """Else a finalizer that cancels, in the middle of the summing, could wait in a circle."""
    with held(gate) as pool:
        summing = pool._crew.ledger.lock
        with summing:
            futures = [pool.submit(int) for _ in range(1_000)]
            cancelled = in_thread(lambda: [future.cancel() for future in futures])
            assert all(cancelled.result(WAIT))
        assert pool.statistics().cancelled == 1_000
        gate.set()


@pytest.mark.parametrize("n", ["3", 2.5])
def test_a_size_by_hand_is_a_whole_number(n):
    with (
        DynamicThreadPool(max_workers=4) as pool,
        pytest.raises(TypeError, match=f"n must be an int, not {n!r}"),
    ):
        pool.adjust_pool_size(n)


def test_a_key_that_cannot_be_hashed_is_refused_before_anything_is_submitted():
    with DynamicThreadPool() as pool, pytest.raises(TypeError, match="unhashable"):
        pool.with_options(key=[])


def test_the_task_of_a_worker_that_dies_ends(gate, monkeypatch, caplog):
    pool = DynamicThreadPool(max_workers=1)
    pool.submit(int).result(WAIT)

    def broken(*_):
        raise MemoryError("on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(pool._crew.supervisor, "schedule", broken)
        lost = pool.with_options(timeout=5).submit(int)
        assert isinstance(lost.exception(WAIT), WorkerLost)
    assert pool.submit(int, "3").result(WAIT) == 3  # another one took its place
    pool.shutdown()
    books = pool.statistics()
    assert (books.submitted, books.completed, books.dropped) == (3, 2, 1)
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]


def test_a_pool_ended_by_a_finalizer_on_its_own_thread_does_not_wait_for_itself():
    ended = []

    class Owner:
        def __init__(self, pool):
            self.pool = pool

        def __del__(self):
            ended.append(self.pool.shutdown().finished)

    pool = DynamicThreadPool(max_workers=1, initializer=lambda: None)
    kept = threading.local()

    def keep():  # until the thread's end, which is when its locals go
        kept.owner = Owner(pool)

    pool.submit(keep).result(WAIT)
    assert pool.shutdown(timeout=WAIT).finished
    assert ended == [True]


def test_deadlines_of_tasks_that_ended_are_forgotten():
    with DynamicThreadPool(max_workers=1) as pool:
        patient = pool.with_options(timeout=3600)
        for _ in range(300):
            patient.submit(int).result(WAIT)
        assert len(pool._crew.supervisor._deadlines) < 150


@pytest.mark.parametrize("verb", ["shutdown", "drain", "wait_idle"])
def test_waiting_for_ever_may_be_said_as_infinity(gate, verb):
    with held(gate) as pool:
        waiting = in_thread(lambda: getattr(pool, verb)(timeout=math.inf))
        gate.set()
        assert waiting.result(WAIT)


@pytest.mark.parametrize("name", ["ageing", "check_interval", "idle_timeout", "at_exit"])
def test_none_is_refused_where_a_number_is_needed(name):
    with pytest.raises(TypeError, match=f"{name} must be seconds, not None"):
        DynamicThreadPool(**{name: None})


# -- futures -------------------------------------------------------------------------------


def test_a_callback_that_exits_strands_no_other_cancelled_task(gate):
    pool = held(gate)
    futures = [pool.submit(int) for _ in range(4)]
    futures[0].add_done_callback(lambda _: sys.exit(3))
    with pytest.raises(SystemExit):
        pool.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    gate.set()
    pool.shutdown()


def test_set_exception_on_a_finished_future_leaves_its_result():
    future = Future()
    future.set_result(7)
    with pytest.raises(concurrent.futures.InvalidStateError):
        future.set_exception(ValueError())
    assert future.result(0) == 7
