"""One contract for both runtimes: the simulated primitives behave as the standard ones."""

from __future__ import annotations

import queue
import threading

import pytest

from threadkit import REAL
from threadkit.testing import SimRuntime


@pytest.fixture(params=["real", "uniform", "pct"])
def runtime(request):
    return REAL if request.param == "real" else SimRuntime(3, schedule=request.param)


@pytest.fixture
def inside(runtime):
    """Call a function where it may block: in a run, for a simulated runtime."""
    return runtime.run if isinstance(runtime, SimRuntime) else lambda function: function()


def in_thread(runtime, function):
    """Call it in another thread and return its result, or the exception it raised."""
    outcome = []

    def call():
        try:
            outcome.append(function())
        except Exception as exc:
            outcome.append(exc)

    thread = runtime.thread(call)
    thread.start()
    thread.join(5)
    return outcome[0]


LOCKS = ["lock", "rlock"]


@pytest.mark.parametrize("kind", LOCKS)
def test_a_lock_held_by_another_thread_is_not_acquired(runtime, inside, kind):
    lock = getattr(runtime, kind)()

    def scenario():
        with lock as entered:
            assert entered is True
            assert in_thread(runtime, lambda: lock.acquire(False)) is False
            assert in_thread(runtime, lambda: lock.acquire(True, 0)) is False
            assert in_thread(runtime, lambda: lock.acquire(timeout=0.01)) is False
        assert in_thread(runtime, lambda: (lock.acquire(), lock.release())) == (True, None)

    inside(scenario)


@pytest.mark.parametrize("kind", LOCKS)
def test_wrong_arguments_of_acquire_are_refused(runtime, inside, kind):
    lock = getattr(runtime, kind)()
    with pytest.raises(ValueError, match="can't specify a timeout for a non-blocking call"):
        lock.acquire(False, 1)
    with pytest.raises(ValueError, match="timeout value must be"):
        lock.acquire(True, -2)
    with pytest.raises(OverflowError, match=r"timeout|timestamp"):
        lock.acquire(True, threading.TIMEOUT_MAX * 2)


@pytest.mark.parametrize("kind", LOCKS)
def test_releasing_a_free_lock_is_an_error(runtime, inside, kind):
    lock = getattr(runtime, kind)()
    with pytest.raises(RuntimeError, match="release un"):
        inside(lock.release)


def test_a_plain_lock_may_be_released_by_another_thread(runtime, inside):
    lock = runtime.lock()

    def scenario():
        lock.acquire()
        assert in_thread(runtime, lock.release) is None
        return lock.acquire(False)

    assert inside(scenario)


def test_an_rlock_is_released_by_its_owner_only_and_as_often_as_taken(runtime, inside):
    lock = runtime.rlock()

    def scenario():
        with lock:
            with lock:
                refused = in_thread(runtime, lock.release)
            still_held = in_thread(runtime, lambda: lock.acquire(False))
        freed = in_thread(runtime, lambda: (lock.acquire(False), lock.release()))
        return type(refused), still_held, freed

    assert inside(scenario) == (RuntimeError, False, (True, None))


def test_a_condition_is_used_with_its_lock_held(runtime, inside):
    condition = runtime.condition()
    for misuse in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError, match="un-acquired lock"):
            inside(misuse)


def test_waiting_for_a_condition_gives_up_the_lock_however_often_it_is_held(runtime, inside):
    condition = runtime.condition()
    seen = []

    def notify():
        with condition:
            seen.append("notified")
            condition.notify()

    def scenario():
        thread = runtime.thread(notify)
        with condition, condition:
            thread.start()
            assert condition.wait(5) is True
            assert in_thread(runtime, lambda: condition.acquire(False)) is False
        thread.join(5)
        return in_thread(runtime, lambda: (condition.acquire(False), condition.release()))

    assert inside(scenario) == (True, None)
    assert seen == ["notified"]


def test_a_condition_shares_the_lock_it_is_given(runtime, inside):
    lock = runtime.lock()
    one, two = runtime.condition(lock), runtime.condition(lock)

    def scenario():
        with one:
            assert not lock.acquire(False)
            two.notify()
            assert one.wait(0.01) is False
            return one.wait(0)

    assert inside(scenario) is False


def test_wait_for_returns_what_the_predicate_returned_last(runtime, inside):
    condition = runtime.condition()
    found = []

    def find():
        with condition:
            found.append("it")
            condition.notify_all()

    def scenario():
        thread = runtime.thread(find)
        with condition:
            assert condition.wait_for(list, timeout=0.01) == []
            thread.start()
            result = condition.wait_for(lambda: found, timeout=5)
        thread.join(5)
        return result

    assert inside(scenario) == ["it"]


def test_notify_wakes_as_many_as_it_says(runtime, inside):
    condition = runtime.condition()
    waiting, woken = [], []

    def wait():
        with condition:
            waiting.append(1)
            condition.notify_all()
            while not tickets:
                condition.wait(5)
            woken.append(tickets.pop())

    tickets: list[int] = []

    def scenario():
        threads = [runtime.thread(wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        with condition:
            condition.wait_for(lambda: len(waiting) == 3, timeout=5)
            tickets.extend((1, 2, 3))
            condition.notify(3)
        for thread in threads:
            thread.join(5)

    inside(scenario)
    assert sorted(woken) == [1, 2, 3]


def test_an_event_lets_everybody_through_until_it_is_cleared(runtime, inside):
    event = runtime.event()

    def scenario():
        early = event.wait(0.01), event.is_set()
        in_thread(runtime, event.set)
        late = event.wait(), event.wait(0), event.is_set()
        event.clear()
        return early, late, event.wait(0)

    assert inside(scenario) == ((False, False), (True, True, True), False)


def test_a_simple_queue_keeps_order_and_says_when_it_is_empty(runtime, inside):
    items = runtime.simple_queue()

    def scenario():
        for item in "abc":
            items.put(item)
        sizes = items.qsize(), items.empty()
        got = [items.get(), items.get(block=False), items.get_nowait()]
        return sizes, got, items.qsize(), items.empty()

    assert inside(scenario) == ((3, False), ["a", "b", "c"], 0, True)
    for wait in ({"block": False}, {"timeout": 0.01}, {"timeout": 0}):
        with pytest.raises(queue.Empty):
            inside(lambda wait=wait: items.get(**wait))
    with pytest.raises(ValueError, match="'timeout' must be a non-negative number"):
        items.get(timeout=-1)


def test_a_getter_waits_for_an_item(runtime, inside):
    items = runtime.simple_queue()

    def scenario():
        thread = runtime.thread(items.put, args=("late",))
        thread.start()
        item = items.get(timeout=5)
        thread.join(5)
        return item

    assert inside(scenario) == "late"


def test_a_thread_tells_of_its_life(runtime, inside):
    gate = runtime.event()

    def scenario():
        thread = runtime.thread(gate.wait, name="waiter", kwargs={"timeout": 5}, daemon=True)
        born = thread.is_alive(), thread.ident, thread.name, thread.daemon
        thread.start()
        alive = thread.is_alive(), thread.ident != runtime.get_ident()
        thread.join(0)
        assert thread.is_alive()
        gate.set()
        thread.join()
        return born, alive, thread.is_alive(), thread.join()

    assert inside(scenario) == ((False, None, "waiter", True), (True, True), False, None)


def test_a_thread_is_started_once_and_joined_after_that_by_others(runtime, inside):
    def scenario():
        thread = runtime.thread(lambda: None)
        with pytest.raises(RuntimeError, match="cannot join thread before it is started"):
            thread.join()
        thread.start()
        thread.join(5)
        with pytest.raises(RuntimeError, match="threads can only be started once"):
            thread.start()
        return in_thread(runtime, lambda: threading.current_thread().join())

    assert isinstance(inside(scenario), RuntimeError)


def test_each_thread_has_its_own_locals_and_is_the_current_one(runtime, inside):
    local = threading.local()
    local.name = "main"

    def look():
        before = getattr(local, "name", None)
        local.name = "other"
        current = threading.current_thread()
        return before, current.name, runtime.get_ident() == current.ident

    def scenario():
        outcome = []
        thread = runtime.thread(lambda: outcome.append(look()), name="looker")
        thread.start()
        thread.join(5)
        return outcome

    assert inside(scenario) == [(None, "looker", True)]
    assert local.name == "main"


def test_clocks_go_forward(runtime, inside):
    def scenario():
        started, wall = runtime.monotonic(), runtime.time()
        runtime.sleep(0)
        runtime.sleep(0.001)
        return runtime.monotonic() > started, runtime.time() > wall, runtime.thread_time() >= 0

    assert inside(scenario) == (True, True, True)
    with pytest.raises(ValueError, match="sleep length must be non-negative"):
        runtime.sleep(-1)
