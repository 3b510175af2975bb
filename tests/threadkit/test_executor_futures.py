"""What the standard executor's users rely on in its futures: callbacks, states, ends.

Asked of the standard ones and of ours alike; see test_executor_contract.py.
"""

from __future__ import annotations

import threading
from concurrent.futures import (
    CancelledError,
    Future,
    InvalidStateError,
    ThreadPoolExecutor,
    TimeoutError,  # noqa: A004 - until Python 3.11 it is not the built-in one
    wait,
)

import pytest

import threadkit

WAIT = 10


# -- done-callbacks -------------------------------------------------------------------------


def test_callbacks_are_called_in_order_with_the_future_on_the_worker(pool, busy, gate):
    calls, ended = [], threading.Event()

    def note(name):
        return lambda future: calls.append((name, future, threading.current_thread()))

    waiting = pool.submit(threading.current_thread)
    for name in "aba":
        waiting.add_done_callback(note(name))
    waiting.add_done_callback(lambda _: ended.set())
    gate.set()
    assert ended.wait(WAIT)
    worker = waiting.result(WAIT)
    assert calls == [(name, waiting, worker) for name in "aba"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_callback_that_raises_is_logged_and_the_others_are_called(pool, busy, gate, caplog, when):
    called = threading.Event()

    def add():
        busy.add_done_callback(lambda _: [].pop())
        busy.add_done_callback(lambda _: called.set())

    if when == "before":
        add()
    gate.set()
    assert busy.result(WAIT)
    if when == "after":
        add()
    assert called.wait(WAIT)
    [record] = caplog.records
    assert record.name == "concurrent.futures"
    assert record.exc_info[0] is IndexError
    assert pool.submit(int).result(WAIT) == 0


def test_a_callback_added_after_the_end_is_called_at_once_by_the_caller(pool):
    future = pool.submit(int)
    future.result(WAIT)
    callers = []
    future.add_done_callback(lambda _: callers.append(threading.get_ident()))
    assert callers == [threading.get_ident()]


def test_cancelling_calls_the_callbacks_on_the_canceller(pool, busy):
    waiting, callers = pool.submit(int), []
    waiting.add_done_callback(
        lambda future: callers.append((future.cancelled(), threading.get_ident()))
    )
    assert waiting.cancel()
    assert waiting.cancel()
    assert callers == [(True, threading.get_ident())]


def test_a_callback_may_submit_and_add_callbacks(pool, busy, gate):
    submitted, added = Future(), threading.Event()

    def go_on(future):
        submitted.set_result(pool.submit(abs, -7))
        future.add_done_callback(lambda _: added.set())

    busy.add_done_callback(go_on)
    gate.set()
    assert submitted.result(WAIT).result(WAIT) == 7
    assert added.is_set()


# -- states ---------------------------------------------------------------------------------


def test_a_waiting_task_can_be_cancelled_and_never_runs(pool, busy, gate):
    ran = []
    waiting = pool.submit(ran.append, 1)
    assert "state=pending" in repr(waiting)
    assert not waiting.done()
    assert waiting.cancel()
    assert waiting.cancelled()
    assert waiting.done()
    assert not waiting.running()
    for read in (waiting.result, waiting.exception):
        with pytest.raises(CancelledError):
            read(0)
    gate.set()
    pool.submit(int).result(WAIT)
    assert ran == []


def test_neither_a_running_nor_a_finished_task_can_be_cancelled(busy, gate):
    assert busy.running()
    assert not busy.cancel()
    gate.set()
    assert busy.result(WAIT) is True
    assert not busy.cancel()
    assert (busy.cancelled(), busy.running(), busy.done()) == (False, False, True)


@pytest.mark.parametrize("timeout", [-1, 0, 0.01])
def test_reading_times_out_and_may_be_repeated(busy, gate, timeout):
    for read in (busy.result, busy.exception):
        with pytest.raises(TimeoutError):
            read(timeout)
    gate.set()
    assert busy.result(WAIT) is True
    assert busy.exception(0) is None


def test_a_tasks_exception_is_the_very_object_it_raised(pool):
    error = ValueError("x")

    def fail():
        raise error

    future = pool.submit(fail)
    assert future.exception(WAIT) is error
    for _ in range(2):
        with pytest.raises(ValueError, match="x") as caught:
            future.result(WAIT)
        assert caught.value is error


def test_futures_are_told_apart_and_show_their_state(pool, busy, gate):
    waiting, other, failed = pool.submit(int), pool.submit(int), pool.submit(int, "x")
    assert len({waiting, other, waiting}) == 2
    assert waiting != other
    assert "state=running" in repr(busy)
    assert "state=pending" in repr(waiting)
    other.cancel()
    assert "state=cancelled" in repr(other)
    gate.set()
    wait([busy, waiting, failed], WAIT)
    assert "state=finished returned int" in repr(waiting)
    assert "state=finished raised ValueError" in repr(failed)


@pytest.fixture
def blank(kind):
    """A future of the executor's class that no executor will end."""
    return Future() if kind is ThreadPoolExecutor else threadkit.Future()


def test_code_that_ends_futures_itself(blank):
    assert blank.set_running_or_notify_cancel()
    assert blank.running()
    assert not blank.cancel()
    blank.set_result(5)
    assert blank.result(0) == 5


def test_code_that_finds_its_future_cancelled(blank):
    blank.cancel()
    assert not blank.set_running_or_notify_cancel()
    with pytest.raises(InvalidStateError):
        blank.set_result(1)
    assert blank.cancelled()


def test_a_future_that_has_ended_stays_as_it_is(blank):
    blank.set_result(5)
    for end_again in (lambda: blank.set_result(6), lambda: blank.set_exception(KeyError())):
        with pytest.raises(InvalidStateError):
            end_again()
        assert blank.result(0) == 5
        assert blank.exception(0) is None
    assert not blank.cancel()


def test_a_future_that_has_failed_stays_as_it_is(blank):
    error = KeyError("first")
    blank.set_exception(error)
    for end_again in (lambda: blank.set_result(6), lambda: blank.set_exception(ValueError())):
        with pytest.raises(InvalidStateError):
            end_again()
        assert blank.exception(0) is error


def test_a_future_ended_with_no_exception_has_no_result(blank):
    blank.set_exception(None)
    assert blank.exception(0) is None
    assert blank.result(0) is None


def test_who_waits_for_a_future_hears_of_the_exception_it_is_given(blank):
    called, waiter = [], threading.Thread(target=wait, args=([blank], WAIT))
    blank.add_done_callback(called.append)
    waiter.start()
    blank.set_exception(KeyError("k"))
    waiter.join(WAIT)
    assert not waiter.is_alive()
    assert called == [blank]
    with pytest.raises(KeyError, match="k"):
        blank.result(0)
