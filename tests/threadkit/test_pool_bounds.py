"""The pool's queue: bounds and what happens at them, levels, keys, pauses."""

from __future__ import annotations

import threading

import pytest

from threadkit import DynamicThreadPool, PoolClosed, Rejected
from threadkit.testing import SimRuntime

WAIT = 10


class Gated:
    """A pool of one worker that is held at a gate, so that what is submitted stays queued."""

    def __init__(self, **options):
        self.gate = threading.Event()
        self.pool = DynamicThreadPool(max_workers=1, **options)
        begun = threading.Event()
        self.first = self.pool.submit(lambda: (begun.set(), self.gate.wait(WAIT)))
        assert begun.wait(WAIT)
        self.ran = []

    def put(self, item, **options):
        return self.pool.with_options(**options).submit(self.ran.append, item)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.gate.set()
        self.pool.shutdown()


def test_reject_refuses_the_task_that_finds_the_queue_full():
    with Gated(queue_limit=2, overflow="reject") as held:
        held.put(1), held.put(2)
        with pytest.raises(Rejected, match="the queue is full") as caught:
            held.put(3, label="third")
        assert (caught.value.limit, caught.value.task) == (2, "third")
        assert held.pool.statistics().rejected == 1
    assert held.ran == [1, 2]
    assert held.pool.statistics().submitted == 3


def test_the_bound_holds_whichever_way_tasks_come_in():
    with Gated(queue_limit=3, overflow="reject") as held:
        plain = held.pool.submit
        plain(held.ran.append, 1)
        held.put(2, ttl=WAIT), held.put(3, ttl=WAIT)
        with pytest.raises(Rejected, match="the queue is full"):
            plain(held.ran.append, 4)
        assert held.pool.statistics().queued == (3,)
    assert held.ran == [1, 2, 3]


def test_drop_oldest_ends_the_task_that_waited_longest_with_the_reason():
    with Gated(queue_limit=2, overflow="drop_oldest") as held:
        oldest, _, _ = held.put(1), held.put(2), held.put(3)
        with pytest.raises(Rejected, match="dropped for a newer task"):
            oldest.result(WAIT)
    assert held.ran == [2, 3]
    assert held.pool.statistics().dropped == 1


def test_drop_lowest_spares_the_important_and_refuses_the_unimportant():
    with Gated(queue_limit=2, overflow="drop_lowest", levels=3) as held:
        held.put("urgent", priority=0)
        low = held.put("low", priority=2)
        held.put("middle", priority=1)
        assert isinstance(low.exception(WAIT), Rejected)
        with pytest.raises(Rejected):
            held.put("lowest", priority=2)
    assert sorted(held.ran) == ["middle", "urgent"]


def test_caller_runs_makes_the_submitter_do_it():
    with Gated(queue_limit=1, overflow="caller_runs") as held:
        held.put("queued")
        here = held.pool.submit(threading.get_ident)
        assert here.result(0) == threading.get_ident()
        failed = held.pool.submit(int, "x")
        assert isinstance(failed.exception(0), ValueError)
    statistics = held.pool.statistics()
    assert (statistics.submitted, statistics.completed, statistics.failed) == (4, 3, 1)


def test_block_waits_until_a_worker_makes_room():
    with Gated(queue_limit=1) as held:
        held.put(1)
        blocked = threading.Thread(target=held.put, args=(2,))
        blocked.start()
        held.gate.set()
        blocked.join(WAIT)
        assert not blocked.is_alive()
    assert held.ran == [1, 2]


def test_block_gives_up_after_its_timeout():
    with Gated(queue_limit=1, overflow_timeout=0.01) as held:
        held.put(1)
        with pytest.raises(Rejected, match=r"no room within 0\.01 s"):
            held.put(2)
    assert held.ran == [1]


def test_a_cancelled_task_gives_its_place_back_at_once():
    with Gated(queue_limit=1, overflow="reject") as held:
        for _ in range(100):
            assert held.put("cancelled").cancel()
        held.put("kept")
    assert held.ran == ["kept"]
    assert held.pool.statistics().cancelled == 100


def test_blocked_submitters_learn_of_the_shutdown():
    outcome = []

    def submit():
        with pytest.raises(PoolClosed):
            held.put(2)
        outcome.append("refused")

    with Gated(queue_limit=1) as held:
        held.put(1)
        blocked = threading.Thread(target=submit)
        blocked.start()
        held.pool.shutdown(wait=False)
        blocked.join(WAIT)
    assert outcome == ["refused"]


def test_a_task_that_submits_to_its_own_full_pool_does_not_deadlock_it():
    with DynamicThreadPool(max_workers=1, queue_limit=1) as pool:

        def spread(n):
            return [pool.submit(abs, i) for i in range(n)]

        children = pool.submit(spread, 20).result(WAIT)
        assert [child.result(WAIT) for child in children] == list(range(20))


def test_levels_go_first_and_are_first_in_first_out_inside():
    with Gated(levels=3, ageing=1e6) as held:
        for n, level in enumerate([2, 0, 1, 0, 2, 1]):
            held.put((level, n), priority=level)
    assert held.ran == [(0, 1), (0, 3), (1, 2), (1, 5), (2, 0), (2, 4)]


def test_waiting_makes_up_for_rank():
    def scenario(sim):
        ran = []
        with DynamicThreadPool(max_workers=1, levels=3, ageing=10.0, runtime=sim) as pool:
            pool.submit(sim.sleep, 25.0)
            sim.sleep(1.0)
            pool.with_options(priority=2).submit(ran.append, "lowest, early")
            sim.sleep(19.0)
            pool.with_options(priority=0).submit(ran.append, "first, 19 s later")
            sim.sleep(2.0)
            pool.with_options(priority=0).submit(ran.append, "first, 21 s later")
        return ran

    sim = SimRuntime(seed=1)
    assert sim.run(scenario, sim) == ["first, 19 s later", "lowest, early", "first, 21 s later"]


@pytest.mark.parametrize("level", [-1, 3])
def test_an_unknown_level_is_named_with_the_known_ones(level):
    with DynamicThreadPool(levels=3) as pool, pytest.raises(ValueError, match="between 0 and 2"):
        pool.with_options(priority=level)


def test_a_newer_task_with_the_same_key_takes_the_place_of_one_that_waits():
    with Gated() as held:
        first = held.put("gift x1", key="gift")
        other = held.put("hello", key="greeting")
        second = held.put("gift x2", key="gift")
        assert isinstance(first.exception(WAIT), Rejected)
    assert held.ran == ["hello", "gift x2"]
    assert second.done()
    assert other.done()
    assert held.pool.statistics().superseded == 1


def test_no_task_begins_while_the_pool_is_paused():
    with Gated() as held:
        held.put(1)
        held.pool.pause()
        held.put(2)
        held.gate.set()
        held.first.result(WAIT)
        assert not held.pool.wait_idle(0.01)
        assert held.ran == []
        assert held.pool.statistics().queued == (2,)
        held.pool.resume()
        assert held.pool.wait_idle(WAIT)
        assert held.ran == [1, 2]


def test_a_paused_pool_finishes_its_queue_when_it_is_shut_down():
    with Gated() as held:
        held.pool.pause()
        held.put(1)
    assert held.ran == [1]


def test_draining_refuses_new_tasks_finishes_the_old_and_can_be_undone():
    with Gated() as held:
        held.put(1)
        assert not held.pool.drain(timeout=0)
        with pytest.raises(PoolClosed, match="cannot schedule new futures while"):
            held.put(2)
        held.gate.set()
        assert held.pool.drain(timeout=WAIT)
        assert held.ran == [1]
        held.pool.resume()
        held.put(3).result(WAIT)
    assert held.ran == [1, 3]
