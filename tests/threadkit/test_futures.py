"""The light future: a standard future to whoever looks, at a tenth of the cost."""

from __future__ import annotations

import concurrent.futures
import gc
import sys
import threading
import traceback
import weakref

import pytest

from threadkit import DynamicThreadPool, Future

WAIT = 10


def fail():
    raise ValueError("on purpose")


@pytest.fixture
def pool():
    with DynamicThreadPool(max_workers=2) as pool:
        yield pool


@pytest.fixture
def held():
    """A pool of one worker that is busy; `held.gate.set()` lets it go on."""
    gate = threading.Event()
    with DynamicThreadPool(max_workers=1) as pool:
        begun = threading.Event()
        pool.submit(lambda: (begun.set(), gate.wait(WAIT)))
        assert begun.wait(WAIT)
        pool.gate = gate
        yield pool
        gate.set()


def test_it_is_a_standard_future(pool):
    future = pool.submit(pow, 2, 3)
    assert isinstance(future, concurrent.futures.Future)
    assert isinstance(future, Future)
    assert future.result(WAIT) == 8
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert "finished returned int" in repr(future)


def test_reading_a_failure_a_thousand_times_leaves_its_traceback_as_long_as_once(pool):
    future = pool.submit(fail)
    lengths = set()
    for _ in range(1000):
        with pytest.raises(ValueError, match="on purpose") as caught:
            future.result(WAIT)
        lengths.add(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(lengths) == 1


def test_what_one_reader_was_handling_does_not_become_anothers_context(pool):
    future = pool.submit(fail)
    for foreign in (KeyError("first reader's"), OSError("second reader's")):
        try:
            raise foreign
        except type(foreign):
            with pytest.raises(ValueError, match="on purpose"):
                future.result(WAIT)
        assert future.exception().__context__ is None


def test_exception_leaves_alone_what_is_being_handled(pool):
    future = pool.submit(fail)
    with pytest.raises(ValueError, match="on purpose") as caught:
        future.result(WAIT)
    exc = caught.value
    exc.__cause__ = OSError("what its handler knows")
    before = exc.__traceback__, exc.__cause__, exc.__context__
    assert future.exception() is exc
    assert (exc.__traceback__, exc.__cause__, exc.__context__) == before
    names = [frame.name for frame in traceback.extract_tb(exc.__traceback__)]
    assert names[0] == "test_exception_leaves_alone_what_is_being_handled"


@pytest.mark.parametrize("learn", [Future.done, Future.result], ids=["done", "result"])
def test_what_somebody_learnt_is_not_denied_by_wait_while_the_worker_is_held_up(learn):
    future = Future()
    assert concurrent.futures.wait([future], timeout=0).not_done == {future}
    future._result = 7  # the worker's first step
    assert learn(future)
    assert concurrent.futures.wait([future], timeout=0).done == {future}
    iterator = concurrent.futures.as_completed([future], timeout=0)
    future._tell()  # its second
    assert list(iterator) == [future]


def test_a_failed_future_is_freed_without_the_garbage_collector(pool):
    gc.disable()
    try:
        future = pool.submit(fail)
        with pytest.raises(ValueError, match="on purpose"):
            future.result(WAIT)
        gone = weakref.ref(future)
        pool.submit(int).result(WAIT)
        del future
        assert gone() is None
    finally:
        gc.enable()


def test_done_callbacks_are_called_once_each_in_their_order(held):
    future = held.submit(pow, 2, 3)
    called = []
    for n in range(3):
        future.add_done_callback(lambda f, n=n: called.append((n, f is future)))
    held.gate.set()
    assert future.result(WAIT) == 8
    held.submit(int).result(WAIT)  # callbacks run before the worker takes its next task
    future.add_done_callback(lambda f: called.append("late"))
    assert called == [(0, True), (1, True), (2, True), "late"]


def test_a_callback_that_raises_is_logged_and_keeps_no_other_from_being_called(held, caplog):
    called = []
    future = held.submit(int)
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(called.append)
    held.gate.set()
    held.submit(int).result(WAIT)
    assert called == [future]
    assert "exception calling callback" in caplog.text


@pytest.mark.parametrize("waiters", [1, 3])
def test_any_number_of_threads_may_wait_in_result(held, waiters):
    future = held.submit(pow, 2, 3)
    results = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(future.result(WAIT if n else None)))
        for n in range(waiters)
    ]
    for thread in threads:
        thread.start()
    held.gate.set()
    for thread in threads:
        thread.join(WAIT)
    assert results == [8] * waiters


def test_a_wait_that_times_out_disturbs_nothing(held):
    future = held.submit(pow, 2, 3)
    for _ in range(3):
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(0.001)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.exception(0)
    held.gate.set()
    assert future.result(WAIT) == 8


def test_cancelling_tells_everybody_at_once(held):
    future = held.submit(pow, 2, 3)
    called = []
    future.add_done_callback(called.append)
    assert future.cancel()
    assert future.cancel()
    assert future.cancelled()
    assert called == [future]
    assert concurrent.futures.wait([future], timeout=0).done == {future}
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    with pytest.raises(concurrent.futures.CancelledError):
        future.exception()


def test_a_finished_future_cannot_be_cancelled(pool):
    future = pool.submit(pow, 2, 3)
    future.result(WAIT)
    assert not future.cancel()
    assert not future.cancelled()


def test_wait_and_as_completed_take_ours_and_standard_futures_together(pool):
    with concurrent.futures.ThreadPoolExecutor(2) as standard:
        for _ in range(50):
            futures = {p.submit(pow, 2, n) for n in range(4) for p in (pool, standard)}
            done, not_done = concurrent.futures.wait(futures, WAIT)
            assert (done, not_done) == (futures, set())
            more = {p.submit(pow, 2, n) for n in range(4) for p in (pool, standard)}
            completed = list(concurrent.futures.as_completed(more, WAIT))
            assert set(completed) == more
            assert len(completed) == 8


def test_wait_returns_at_the_first_exception(held):
    failing, behind = held.submit(fail), held.submit(int)
    held.pause()
    held.gate.set()
    never = held.submit(int)
    held.resume()
    done, _ = concurrent.futures.wait(
        [failing, behind, never], WAIT, concurrent.futures.FIRST_EXCEPTION
    )
    assert failing in done


def test_a_future_made_by_hand_is_ended_by_hand():
    for end, check in (
        (lambda f: f.set_result(7), lambda f: f.result(0) == 7),
        (lambda f: f.set_exception(ValueError("x")), lambda f: str(f.exception(0)) == "x"),
        (lambda f: f.cancel(), lambda f: f.cancelled()),
    ):
        future: Future[int] = Future()
        called = []
        future.add_done_callback(called.append)
        assert not future.done()
        end(future)
        assert check(future)
        assert called == [future]
    with pytest.raises(concurrent.futures.InvalidStateError):
        future.set_result(1)


def test_a_future_keeps_neither_the_callable_nor_its_arguments_once_begun_or_cancelled(held):
    class Thing:
        def __call__(self):
            return 5

    for cancel in (True, False):
        thing = Thing()
        gone = weakref.ref(thing)
        future = held.submit(thing)
        del thing
        if cancel:
            assert future.cancel()
        else:
            held.gate.set()
            assert future.result(WAIT) == 5
            held.submit(int).result(WAIT)
        gc.collect()
        assert gone() is None


def test_a_waiting_task_takes_little_memory(held):
    """The ratio to the standard executor's is measured in benchmarks/dispatch.py."""
    future = held.submit(int)
    slots = sys.getsizeof(future)
    assert slots < 200
    assert not future.__dict__
