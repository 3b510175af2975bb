"""The contract of MessageQueue, over every overflow rule and both kinds of ends."""

from __future__ import annotations

import asyncio
import gc
import math
import pickle
import queue as stdlib
import re
import sys
import threading
from collections import Counter
from decimal import Decimal
from typing import get_args

import pytest

from threadkit import (
    ErrorLog,
    MessageQueue,
    Overflow,
    QueueClosed,
    QueueEmpty,
    QueueFull,
    QueueStatistics,
)
from threadkit.testing import SimRuntime

RULES = get_args(Overflow)


class Threads:
    """The ends that block."""

    def put(self, queue, *args, **options):
        queue.put(*args, **options)

    def get(self, queue, **options):
        return queue.get(**options)


class Coroutines:
    """The ends that suspend; each call in an event loop of its own."""

    def put(self, queue, *args, **options):
        asyncio.run(queue.aput(*args, **options))

    def get(self, queue, **options):
        return asyncio.run(queue.aget(**options))


@pytest.fixture(params=[Threads(), Coroutines()], ids=["threads", "coroutines"])
def ends(request):
    return request.param


@pytest.fixture(params=RULES)
def rule(request):
    return request.param


@pytest.fixture
def clock():
    """A clock that moves by `advance` only."""
    return SimRuntime()


def balance(queue) -> QueueStatistics:
    """The statistics, checked: nothing came in that is not accounted for."""
    seen = queue.statistics()
    assert seen.puts == seen.gets + seen.dropped + seen.waiting
    assert seen.waiting == sum(seen.waiting_by_level) == len(queue)
    return seen


def drain(queue) -> list:
    items = []
    while len(queue):
        try:
            items.append(queue.get_nowait())
        except QueueEmpty:  # what was left was stale
            break
    return items


# -- order ----------------------------------------------------------------------------------


def test_the_most_urgent_level_comes_first_and_each_level_in_order(ends, rule):
    queue = MessageQueue(overflow=rule, maxsize=10)
    for item, level in (("a", 2), ("b", 0), ("c", 2), ("d", 0), ("e", 3)):
        ends.put(queue, item, level)
    assert [ends.get(queue) for _ in range(5)] == ["b", "d", "a", "c", "e"]
    assert balance(queue).gets == 5


def test_without_ageing_no_wait_makes_up_for_a_level(clock):
    queue = MessageQueue(2, runtime=clock)
    queue.put("patient", 1)
    clock.advance(30 * 365 * 86400.0)
    queue.put("urgent", 0)
    assert drain(queue) == ["urgent", "patient"]


def test_with_ageing_a_level_costs_so_many_seconds(clock):
    queue = MessageQueue(4, ageing=10.0, runtime=clock)
    queue.put("low", 3)
    clock.advance(29.0)
    queue.put("in time", 0)
    clock.advance(2.0)
    queue.put("too late", 0)
    assert drain(queue) == ["in time", "low", "too late"]


def test_ageing_of_zero_makes_levels_meaningless(clock):
    queue = MessageQueue(3, ageing=0.0, runtime=clock)
    for item, level in (("a", 2), ("b", 0), ("c", 1)):
        queue.put(item, level)
        clock.advance(0.001)
    assert drain(queue) == ["a", "b", "c"]


def test_of_equal_ranks_the_more_urgent_level_is_first(clock):
    queue = MessageQueue(2, ageing=5.0, runtime=clock)
    queue.put("aged", 1)
    clock.advance(5.0)
    queue.put("fresh", 0)
    assert drain(queue) == ["fresh", "aged"]


def test_any_value_is_an_item(ends):
    queue = MessageQueue()
    for item in (None, False, [], queue):
        ends.put(queue, item)
        assert ends.get(queue) is item


# -- overflow -------------------------------------------------------------------------------


@pytest.mark.parametrize("refusing", ["block", "reject"])
def test_a_full_queue_refuses(ends, refusing):
    queue = MessageQueue(maxsize=2, overflow=refusing, name="texts")
    ends.put(queue, 1)
    ends.put(queue, 2)
    with pytest.raises(QueueFull, match=r"texts is full \(2 items\)") as caught:
        ends.put(queue, 3, timeout=0)
    assert (caught.value.component, caught.value.maxsize) == ("texts", 2)
    with pytest.raises(QueueFull):
        queue.put_nowait(3)
    assert balance(queue).rejected == 2
    assert drain(queue) == [1, 2]


def test_reject_does_not_wait_for_room(ends):
    queue = MessageQueue(maxsize=1, overflow="reject")
    ends.put(queue, 1)
    with pytest.raises(QueueFull):
        ends.put(queue, 2, timeout=None)  # would wait for ever


@pytest.mark.parametrize(
    ("dropping", "left", "dropped"),
    [
        ("drop_new", ["b", "a", "c"], "new"),
        ("drop_oldest", ["b", "new", "c"], "a"),
        ("drop_lowest", ["b", "a", "new"], "c"),
    ],
)
def test_a_full_queue_drops_by_its_rule(ends, dropping, left, dropped):
    drops = []
    queue = MessageQueue(
        3, maxsize=3, overflow=dropping, on_drop=lambda item, reason: drops.append((item, reason))
    )
    for item, level in (("a", 1), ("b", 0), ("c", 2), ("new", 1)):
        ends.put(queue, item, level)
    assert drops == [(dropped, dropping)]
    assert balance(queue).drops[dropping] == 1
    assert drain(queue) == left


def test_drop_lowest_drops_the_oldest_of_the_lowest_level():
    drops = []
    queue = MessageQueue(
        3, maxsize=3, overflow="drop_lowest", on_drop=lambda item, _: drops.append(item)
    )
    for item, level in (("a", 1), ("b", 1), ("c", 0), ("d", 1), ("e", 0)):
        queue.put(item, level)
    assert drops == ["a", "b"]
    assert drain(queue) == ["c", "e", "d"]


def test_drop_lowest_drops_the_new_item_where_that_is_lowest():
    drops = []
    queue = MessageQueue(
        3,
        maxsize=1,
        overflow="drop_lowest",
        on_drop=lambda item, reason: drops.append((item, reason)),
    )
    queue.put("urgent", 0)
    queue.put("chatter", 2)
    assert drops == [("chatter", "drop_lowest")]
    assert balance(queue).puts == 2


@pytest.mark.parametrize("dropping", ["drop_new", "drop_oldest", "drop_lowest"])
def test_drop_rules_never_refuse_and_never_exceed_the_bound(ends, dropping):
    queue = MessageQueue(maxsize=4, overflow=dropping)
    for number in range(20):
        ends.put(queue, number, number % 4)
    seen = balance(queue)
    assert (seen.waiting, seen.high_water, seen.puts, seen.rejected) == (4, 4, 20, 0)


@pytest.mark.parametrize("dropping", ["drop_new", "drop_oldest", "drop_lowest"])
def test_a_flood_leaves_memory_bounded_and_the_books_balanced(dropping, clock):
    """The small sister of the stress test: what is alive is counted, not measured."""

    class Payload:
        alive = 0
        most = 0

        def __init__(self):
            Payload.alive += 1
            Payload.most = max(Payload.most, Payload.alive)

        def __del__(self):
            Payload.alive -= 1

    reported = Counter()
    queue = MessageQueue(
        maxsize=100,
        overflow=dropping,
        ageing=1.0,
        ttl=3.0,
        runtime=clock,
        on_drop=lambda item, reason: reported.update([reason]),
    )
    gets = 0
    for number in range(10_000):
        queue.put(Payload(), number % 4, ttl=(None, 0.05, 60.0)[number % 3])
        clock.advance(0.01)
        if number % 10 == 0:
            queue.get()
            gets += 1
        assert len(queue._store._deadlines) <= 2 * 101 + 64
    gc.collect()
    seen = balance(queue)
    assert (seen.puts, seen.gets, seen.high_water) == (10_000, gets, 100)
    assert reported == {reason: count for reason, count in seen.drops.items() if count}
    assert reported[dropping] > 0
    assert reported["expired"] > 0
    assert Payload.alive == seen.waiting
    assert Payload.most <= 102  # those inside, the one coming in, the one going out


# -- staleness ------------------------------------------------------------------------------


def test_a_stale_item_is_dropped_at_get(ends, clock):
    drops = []
    queue = MessageQueue(
        ttl=10.0, runtime=clock, on_drop=lambda item, reason: drops.append((item, reason))
    )
    ends.put(queue, "old")
    ends.put(queue, "own time", ttl=30.0)
    clock.advance(10.0)
    assert ends.get(queue) == "own time"
    assert drops == [("old", "expired")]
    assert balance(queue).drops["expired"] == 1


def test_a_get_that_finds_only_stale_items_finds_nothing(clock):
    queue = MessageQueue(runtime=clock)
    queue.put("old", ttl=1.0)
    clock.advance(1.0)
    with pytest.raises(QueueEmpty):
        queue.get_nowait()
    assert balance(queue).waiting == 0


def test_an_item_can_outlive_the_ttl_of_its_queue(clock):
    queue = MessageQueue(ttl=1.0, runtime=clock)
    queue.put("for ever", ttl=math.inf)
    clock.advance(1e9)
    assert queue.get() == "for ever"


def test_a_full_queue_drops_what_is_stale_before_anything_else(ends, rule, clock):
    drops = []
    queue = MessageQueue(
        2,
        maxsize=3,
        overflow=rule,
        runtime=clock,
        on_drop=lambda item, reason: drops.append((item, reason)),
    )
    queue.put("keep 0", 0)
    queue.put("keep 1", 1)
    queue.put("stale, behind one that is not", 0, ttl=5.0)
    clock.advance(5.0)
    ends.put(queue, "new", 1, timeout=0)
    assert drops == [("stale, behind one that is not", "expired")]
    balance(queue)
    assert drain(queue) == ["keep 0", "keep 1", "new"]


def test_what_is_stale_goes_in_the_order_of_the_deadlines(clock):
    drops = []
    queue = MessageQueue(
        1, maxsize=3, overflow="drop_new", runtime=clock, on_drop=lambda item, _: drops.append(item)
    )
    for item, ttl in (("late", 9.0), ("early", 3.0), ("middle", 6.0)):
        queue.put(item, ttl=ttl)
    clock.advance(10.0)
    for number in range(4):
        queue.put(number)
    assert drops == ["early", "middle", "late", 3]


def test_many_deadlines_that_came_to_nothing_are_forgotten(clock):
    queue = MessageQueue(1, maxsize=4, overflow="drop_oldest", runtime=clock)
    for number in range(10_000):
        queue.put(number, ttl=1e6)
    assert len(queue._store._deadlines) < 100
    clock.advance(1e6)
    queue.put("new")
    assert balance(queue).drops["expired"] == 1


@pytest.mark.parametrize("change", ["coalesce", "reprioritize"])
def test_the_deadlines_of_an_entry_that_changes_often_are_forgotten(clock, change):
    queue = MessageQueue(2, maxsize=2, overflow="drop_oldest", ttl=1e6, runtime=clock)
    queue.put("first", key=1)
    queue.put("second", key=2)
    queue.put("third")  # finds it full, so the deadlines of the first two are noted
    for number in range(1_000):
        if change == "coalesce":
            queue.put(number, key=2)
        else:
            queue.reprioritize(2, number % 2)
    assert len(queue._store._deadlines) <= 2 * 2 + 64
    clock.advance(1e6)
    queue.put("new")
    assert balance(queue).drops["expired"] == 1


# -- keys -----------------------------------------------------------------------------------


def test_items_with_one_key_are_merged_in_place(ends, rule):
    queue = MessageQueue(maxsize=2, overflow=rule, merge=lambda old, new: old + new)
    ends.put(queue, 1, key="rose")
    ends.put(queue, 100)
    ends.put(queue, 2, key="rose")  # needs no room
    ends.put(queue, 4, key="rose")
    seen = balance(queue)
    assert (seen.merged, seen.puts, seen.dropped) == (2, 2, 0)
    assert drain(queue) == [7, 100]


def test_a_key_is_free_again_once_its_item_has_left(ends):
    queue = MessageQueue(merge=lambda old, new: old + new)
    ends.put(queue, 1, key="rose")
    assert ends.get(queue) == 1
    ends.put(queue, 2, key="rose")
    assert ends.get(queue) == 2


def test_without_merge_the_newer_item_takes_the_place_of_the_older():
    drops = []
    queue = MessageQueue(on_drop=lambda item, reason: drops.append((item, reason)))
    queue.put("old", key=1)
    queue.put("other")
    queue.put("new", key=1)
    assert drops == [("old", "replaced")]
    balance(queue)
    assert drain(queue) == ["new", "other"]


def test_a_merged_item_has_the_more_urgent_level_and_the_newer_ttl(clock):
    queue = MessageQueue(3, merge=lambda old, new: old + new, runtime=clock)
    queue.put("a", 1)
    queue.put("b", 2, key="k", ttl=5.0)
    clock.advance(4.0)
    queue.put("c", 1)
    queue.put("B", 1, key="k", ttl=5.0)
    clock.advance(4.0)
    assert queue.statistics().waiting_by_level == (0, 3, 0)
    queue.put("!", 2, key="k", ttl=5.0)
    assert drain(queue) == ["a", "bB!", "c"]


def test_a_stale_item_is_not_merged_into(clock):
    queue = MessageQueue(merge=lambda old, new: old + new, runtime=clock)
    queue.put("old", key="k", ttl=1.0)
    clock.advance(1.0)
    queue.put("new", key="k")
    assert balance(queue).drops["expired"] == 1
    assert drain(queue) == ["new"]


def test_an_item_taken_during_its_merge_is_not_handed_out_twice():
    def merge(old, new):
        calls.append((old, new))
        if len(calls) == 1:
            taken.append(queue.get_nowait())
            queue.put("later", key="k")
        return f"{old}+{new}"

    calls, taken = [], []
    queue = MessageQueue(merge=merge)
    queue.put("first", key="k")
    queue.put("second", key="k")
    assert taken == ["first"]
    assert calls == [("first", "second"), ("later", "second")]
    assert drain(queue) == ["later+second"]
    balance(queue)


def test_a_merge_that_raises_changes_nothing():
    queue = MessageQueue(merge=lambda old, new: old + new)
    queue.put(1, key="k")
    with pytest.raises(TypeError):
        queue.put("two", key="k")
    assert balance(queue).merged == 0
    assert drain(queue) == [1]


def test_cancel_takes_an_item_out_from_wherever_it_waits():
    drops = []
    queue = MessageQueue(on_drop=lambda item, reason: drops.append((item, reason)))
    for number in range(5):
        queue.put(number, 1, key=number)
    assert [queue.cancel(key) for key in (2, 0, 4, 2, 9)] == [True, True, True, False, False]
    assert drops == [(2, "cancelled"), (0, "cancelled"), (4, "cancelled")]
    assert balance(queue).drops["cancelled"] == 3
    assert drain(queue) == [1, 3]


def test_reprioritize_moves_an_item_to_the_place_of_its_age():
    queue = MessageQueue()
    for item, level in (("a", 0), ("b", 1), ("c", 0), ("d", 1)):
        queue.put(item, level, key=item)
    assert queue.reprioritize("b", 0)
    assert not queue.reprioritize("z", 0)
    assert queue.statistics().waiting_by_level == (3, 1, 0, 0)
    assert drain(queue) == ["a", "b", "c", "d"]


def test_a_moved_item_still_goes_stale(clock):
    queue = MessageQueue(2, maxsize=2, overflow="drop_new", runtime=clock)
    queue.put("moved", 1, key="k", ttl=5.0)
    queue.put("keep", 0)
    queue.put("dropped, and all deadlines noted", 0)
    queue.reprioritize("k", 0)
    clock.advance(5.0)
    queue.put("new", 1)
    assert queue.statistics().drops["expired"] == 1
    assert drain(queue) == ["keep", "new"]


# -- waiting --------------------------------------------------------------------------------


def test_a_put_wakes_a_waiting_get(ends):
    queue = MessageQueue()
    got = []
    consumer = threading.Thread(target=lambda: got.append(ends.get(queue, timeout=10)))
    consumer.start()
    ends.put(queue, "item")
    consumer.join(10)
    assert got == ["item"]


def test_a_get_wakes_a_waiting_put(ends):
    queue = MessageQueue(maxsize=1)
    ends.put(queue, 1)
    producer = threading.Thread(target=ends.put, args=(queue, 2), kwargs={"timeout": 10})
    producer.start()
    assert [ends.get(queue, timeout=10), ends.get(queue, timeout=10)] == [1, 2]
    producer.join(10)


def test_a_get_gives_up_after_its_timeout(ends):
    queue = MessageQueue(name="texts")
    for timeout in (0, 0.001):
        with pytest.raises(QueueEmpty, match="texts is empty"):
            ends.get(queue, timeout=timeout)
    assert queue.statistics().blocked_gets == 0


def test_a_put_gives_up_after_its_timeout(ends):
    queue = MessageQueue(maxsize=1)
    ends.put(queue, 1)
    with pytest.raises(QueueFull):
        ends.put(queue, 2, timeout=0.001)
    seen = balance(queue)
    assert (seen.blocked_puts, seen.rejected) == (0, 1)


def test_a_put_whose_time_is_up_takes_the_room_of_what_went_stale_meanwhile():
    def scenario(sim):
        queue = MessageQueue(maxsize=1, runtime=sim)
        queue.put("stale", ttl=1.0)
        queue.put("new", timeout=2.0)
        return drain(queue)

    sim = SimRuntime()
    assert sim.run(scenario, sim) == ["new"]


def test_the_errors_are_those_of_the_standard_library(ends):
    queue = MessageQueue(maxsize=1)
    with pytest.raises(stdlib.Empty):
        ends.get(queue, timeout=0)
    ends.put(queue, 1)
    with pytest.raises(stdlib.Full):
        ends.put(queue, 2, timeout=0)


# -- batches --------------------------------------------------------------------------------


def test_a_batch_takes_what_is_there_in_order():
    queue = MessageQueue()
    for number in range(5):
        queue.put(number, number % 2)
    assert queue.get_batch(3) == [0, 2, 4]
    assert queue.get_batch(3) == [1, 3]
    assert balance(queue).gets == 5
    with pytest.raises(QueueEmpty):
        queue.get_batch(3, timeout=0)


def test_a_batch_waits_for_its_first_item_only():
    def scenario(sim):
        queue = MessageQueue(runtime=sim)
        producer = sim.thread(lambda: [queue.put(number) for number in range(3)])
        producer.start()
        batch = queue.get_batch(10)
        producer.join()
        assert batch + drain(queue) == [0, 1, 2]
        return len(batch)

    sizes = set()
    for seed in range(50):
        sim = SimRuntime(seed=seed)
        sizes.add(sim.run(scenario, sim))
    assert sizes == {1, 2, 3}  # every length was seen


def test_a_batch_of_a_closed_queue_drains_then_says_so():
    queue = MessageQueue()
    queue.put(1)
    queue.close()
    assert queue.get_batch(2) == [1]
    with pytest.raises(QueueClosed):
        queue.get_batch(2)


def test_a_batch_makes_room_for_as_many_puts():
    def scenario(sim):
        queue = MessageQueue(maxsize=3, runtime=sim)
        for number in range(3):
            queue.put(number)
        producers = [sim.thread(queue.put, args=(number,)) for number in (3, 4, 5)]
        for producer in producers:
            producer.start()
        got = queue.get_batch(3)
        for producer in producers:
            producer.join()
        assert sorted(got + drain(queue)) == [0, 1, 2, 3, 4, 5]

    for seed in range(50):
        sim = SimRuntime(seed=seed)
        sim.run(scenario, sim)


# -- resizing -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dropping", "left"),
    [
        ("block", ["a", "c", "b", "d"]),
        ("reject", ["a", "c", "b", "d"]),
        ("drop_new", ["a", "c", "b", "d"]),
        ("drop_oldest", ["c", "d"]),
        ("drop_lowest", ["a", "c"]),
    ],
)
def test_a_smaller_queue_drops_what_its_rule_says(dropping, left):
    queue = MessageQueue(maxsize=4, overflow=dropping)
    for item, level in (("a", 0), ("b", 1), ("c", 0), ("d", 1)):
        queue.put(item, level)
    queue.resize(2)
    assert balance(queue).maxsize == 2
    assert drain(queue) == left


def test_a_queue_that_is_too_full_after_a_resize_takes_nothing_until_there_is_room(rule):
    queue = MessageQueue(maxsize=4, overflow=rule)
    for number in range(4):
        queue.put(number)
    queue.resize(2)
    for _ in range(3):
        try:
            queue.put(9, timeout=0)
        except QueueFull:
            assert rule in ("block", "reject")
    assert len(queue) == (2 if rule in ("drop_oldest", "drop_lowest") else 4)
    balance(queue)


def test_one_stale_item_is_not_room_enough_in_a_queue_that_is_two_too_full(clock):
    queue = MessageQueue(maxsize=4, overflow="reject", runtime=clock)
    for number in range(4):
        queue.put(number, ttl=1.0 if number == 2 else None)
    queue.resize(2)
    clock.advance(1.0)
    with pytest.raises(QueueFull):
        queue.put("new")
    assert drain(queue) == [0, 1, 3]


def test_a_queue_can_become_unbounded_and_back():
    queue = MessageQueue(maxsize=1, overflow="reject")
    queue.put(1)
    queue.resize(0)
    for number in range(10):
        queue.put(number)
    assert queue.statistics().maxsize == 0
    queue.resize(5)
    with pytest.raises(QueueFull):
        queue.put(11)


# -- closing --------------------------------------------------------------------------------


def test_a_closed_queue_drains_then_says_so(ends, rule):
    queue = MessageQueue(overflow=rule, maxsize=4, name="texts")
    ends.put(queue, 1)
    ends.put(queue, 2)
    assert queue.close() == []
    assert queue.closed
    with pytest.raises(QueueClosed, match="texts is closed"):
        ends.put(queue, 3)
    with pytest.raises(QueueClosed):
        queue.put_nowait(3)
    assert [ends.get(queue), ends.get(queue)] == [1, 2]
    with pytest.raises(QueueClosed):
        ends.get(queue, timeout=0)
    with pytest.raises(QueueClosed):
        queue.get_nowait()
    assert balance(queue).puts == 2


def test_a_close_without_draining_hands_back_what_was_left(clock):
    drops = []
    queue = MessageQueue(
        runtime=clock, ageing=1.0, on_drop=lambda item, reason: drops.append((item, reason))
    )
    queue.put("aged", 1)
    queue.put("stale", 0, ttl=1.0)
    clock.advance(2.0)
    queue.put("urgent", 0)
    assert queue.close(drain=False) == ["aged", "urgent"]
    assert drops == [("stale", "expired"), ("aged", "closed"), ("urgent", "closed")]
    seen = balance(queue)
    assert (seen.drops["closed"], seen.drops["expired"], seen.waiting) == (2, 1, 0)


def test_close_may_be_called_again():
    queue = MessageQueue()
    queue.put(1)
    assert queue.close() == []
    assert queue.close(drain=False) == [1]
    assert queue.close(drain=False) == []


def test_a_closed_queue_stays_closed_when_resized():
    queue = MessageQueue(maxsize=1)
    queue.close()
    queue.resize(5)
    with pytest.raises(QueueClosed):
        queue.put(1)


def test_a_merge_into_a_queue_that_closes_meanwhile_is_refused():
    def merge(old, new):
        queue.close()
        return old + new

    queue = MessageQueue(merge=merge)
    queue.put(1, key="k")
    with pytest.raises(QueueClosed):
        queue.put(2, key="k")
    assert drain(queue) == [1]


def test_join_returns_once_nothing_waits(ends):
    queue = MessageQueue()
    assert queue.join()
    ends.put(queue, 1)
    assert not queue.join(timeout=0)
    assert not queue.join(timeout=0.001)
    ends.get(queue)
    assert queue.join()


def test_join_counts_what_is_dropped_as_gone():
    def scenario(sim, leave):
        queue = MessageQueue(runtime=sim)
        queue.put("item", key="k")
        thread = sim.thread(leave, args=(queue,))
        thread.start()
        assert queue.join(timeout=60.0)
        assert sim.monotonic() < 60.0  # it was woken
        thread.join()

    leaves = {
        "get": lambda queue: queue.get(),
        "batch": lambda queue: queue.get_batch(5),
        "cancel": lambda queue: queue.cancel("k"),
        "close": lambda queue: queue.close(drain=False),
    }
    for leave in leaves.values():
        for seed in range(20):
            sim = SimRuntime(seed=seed)
            sim.run(scenario, sim, leave)


# -- drops ----------------------------------------------------------------------------------


def test_on_drop_runs_outside_the_lock():
    seen = []
    queue = MessageQueue(
        maxsize=1, overflow="drop_oldest", on_drop=lambda *_: seen.append(queue.statistics())
    )
    queue.put(1)
    queue.put(2)
    assert seen[0].drops["drop_oldest"] == 1


def test_the_finalizer_of_a_dropped_item_runs_outside_the_lock():
    class Item:
        def __del__(self):
            seen.append(queue.statistics().drops["drop_oldest"])

    seen = []
    queue = MessageQueue(maxsize=1, overflow="drop_oldest")
    queue.put(Item())
    queue.put(None)
    gc.collect()
    assert seen == [1]


def test_an_on_drop_that_raises_hurts_nobody(monkeypatch):
    def on_drop(item, reason):
        raise RuntimeError(f"{reason} {item}")

    reported = []
    monkeypatch.setattr("sys.unraisablehook", reported.append)
    queue = MessageQueue(maxsize=1, overflow="drop_oldest", on_drop=on_drop, name="texts")
    for number in range(3):
        queue.put(number)
    assert drain(queue) == [2]
    assert balance(queue).callback_errors == 2
    assert [str(report.exc_value) for report in reported] == ["drop_oldest 0", "drop_oldest 1"]
    assert reported[0].err_msg == "texts: on_drop raised"
    assert reported[0].object is on_drop


def fail_on_drop(item, reason):
    raise RuntimeError(f"{reason} {item}")


def test_what_an_on_drop_raises_is_printed_by_the_hook_python_came_with(monkeypatch, capsys, clock):
    monkeypatch.setattr("sys.unraisablehook", sys.__unraisablehook__)
    queue = MessageQueue(ttl=1.0, on_drop=fail_on_drop, name="texts", runtime=clock)
    queue.put("stale")
    clock.advance(2.0)
    queue.put("fresh")
    assert queue.get() == "fresh"
    printed = capsys.readouterr().err
    assert printed.startswith("texts: on_drop raised: <function fail_on_drop")
    assert printed.endswith("RuntimeError: expired stale\n")


def test_what_an_on_drop_raises_is_recorded_by_an_installed_error_log(monkeypatch, capsys):
    monkeypatch.setattr("sys.unraisablehook", sys.__unraisablehook__)
    errors = ErrorLog()
    errors.install()
    try:
        queue = MessageQueue(maxsize=1, overflow="drop_oldest", on_drop=fail_on_drop)
        queue.put(1)
        queue.put(2)
    finally:
        errors.uninstall()
    assert queue.get() == 2
    assert [group.message for group in errors.groups()] == ["drop_oldest 1"]
    assert "RuntimeError: drop_oldest 1" in capsys.readouterr().err


def test_a_hook_that_raises_costs_no_item(monkeypatch, capsys):
    def hook(args):
        raise ValueError("the hook")

    monkeypatch.setattr("sys.unraisablehook", hook)
    queue = MessageQueue(maxsize=1, overflow="drop_oldest", on_drop=fail_on_drop)
    queue.put(1)
    queue.put(2)
    assert queue.get() == 2
    assert "ValueError: the hook" in capsys.readouterr().err


def test_an_on_drop_that_exits_costs_no_item(monkeypatch, clock):
    reported = []
    monkeypatch.setattr("sys.unraisablehook", reported.append)
    queue = MessageQueue(ttl=1.0, on_drop=lambda item, reason: sys.exit(item), runtime=clock)
    queue.put("first")
    queue.put("second")
    clock.advance(2.0)
    queue.put("fresh")
    assert queue.get() == "fresh"
    assert [report.exc_value.code for report in reported] == ["first", "second"]
    assert balance(queue).callback_errors == 2


def test_an_interrupt_in_on_drop_ends_the_get_and_leaves_the_books_balanced(clock):
    def interrupt(item, reason):
        raise KeyboardInterrupt

    queue = MessageQueue(ttl=1.0, on_drop=interrupt, runtime=clock)
    queue.put("stale")
    clock.advance(2.0)
    queue.put("fresh")
    with pytest.raises(KeyboardInterrupt):
        queue.get()
    seen = balance(queue)
    assert (seen.gets, seen.drops["expired"], seen.waiting) == (1, 1, 0)


# -- looking --------------------------------------------------------------------------------


def test_statistics_are_frozen_and_complete(clock):
    queue = MessageQueue(2, name="texts", maxsize=3, overflow="drop_oldest", runtime=clock)
    for number in range(4):
        queue.put(number, number % 2)
        clock.advance(1.0)
    queue.get()
    seen = balance(queue)
    assert seen == QueueStatistics(
        name="texts",
        maxsize=3,
        closed=False,
        puts=4,
        gets=1,
        drops={
            "expired": 0,
            "drop_new": 0,
            "drop_oldest": 1,
            "drop_lowest": 0,
            "replaced": 0,
            "cancelled": 0,
            "closed": 0,
        },
        waiting=2,
        waiting_by_level=(0, 2),
        merged=0,
        rejected=0,
        oldest_age=3.0,
        high_water=3,
        blocked_gets=0,
        blocked_puts=0,
        callback_errors=0,
    )
    assert seen.dropped == 1
    with pytest.raises(AttributeError):
        seen.puts = 5
    with pytest.raises(TypeError):
        seen.drops["closed"] = 5
    assert MessageQueue().statistics().oldest_age == 0.0


def test_repr_shows_the_counts():
    queue = MessageQueue(2, name="texts", maxsize=5)
    queue.put(1)
    queue.put(2, 1)
    queue.put(3, 1)
    assert repr(queue) == (
        "<MessageQueue 'texts' open: 3/5 waiting [1, 2], 0 gets and 0 puts blocked>"
    )
    queue.close(drain=False)
    assert repr(queue).startswith("<MessageQueue 'texts' closed: 0/5 waiting")


def test_errors_keep_their_facts_across_processes():
    queue = MessageQueue(maxsize=1, name="texts")
    queue.put(1)
    with pytest.raises(QueueFull) as caught:
        queue.put_nowait(2)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.component, copy.maxsize, str(copy)) == ("texts", 1, "texts is full (1 items)")


# -- arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 0}, "levels must be at least 1, not 0"),
        ({"maxsize": -1}, r"maxsize must be 0 \(any number\) or more, not -1"),
        ({"overflow": "explode"}, "overflow must be one of block, reject, .*, not 'explode'"),
        ({"ageing": -1.0}, "ageing must be None or at least 0 seconds, not -1.0"),
        ({"ageing": math.inf}, "ageing must be None or at least 0 seconds, not inf"),
        ({"ageing": 1e308}, r"levels \* ageing must be finite, not 4 \* 1e\+308"),
        ({"ttl": 0}, "ttl must be more than 0 seconds, not 0"),
        ({"ttl": math.nan}, "ttl must be more than 0 seconds, not nan"),
    ],
)
def test_a_queue_refuses_what_makes_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        MessageQueue(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": 4}, r"priority must be an int in 0\.\.3, not 4"),
        ({"priority": -1}, r"priority must be an int in 0\.\.3, not -1"),
        ({"ttl": 0.0}, "ttl must be more than 0 seconds, not 0.0"),
        ({"timeout": -1}, "timeout must be None or at least 0 seconds, not -1"),
    ],
)
def test_a_put_refuses_what_makes_no_sense(ends, options, message):
    queue = MessageQueue(maxsize=1)
    with pytest.raises(ValueError, match=message):
        ends.put(queue, "item", **options)
    assert balance(queue).puts == 0


@pytest.mark.parametrize(
    ("argument", "given"),
    [
        ("priority", 0.5),
        ("priority", 1.0),
        ("priority", "high"),
        ("priority", None),
        ("ttl", Decimal(5)),
        ("ttl", "5"),
    ],
)
@pytest.mark.parametrize("full", [False, True])
def test_a_put_of_a_wrong_type_names_it_and_leaves_everything_as_it_was(
    ends, rule, argument, given, full
):
    queue = MessageQueue(maxsize=1 if full else 2, overflow=rule)
    queue.put("innocent", 1)
    message = f"{argument} must be an? .*, not {re.escape(repr(given))}"
    with pytest.raises(TypeError, match=message):
        ends.put(queue, "bad", **{argument: given})
    with pytest.raises(TypeError, match=message):
        queue.put_from_signal("bad", **{argument: given})
    assert balance(queue).puts == 1
    assert queue.get_nowait() == "innocent"


@pytest.mark.parametrize("full", [False, True])
def test_a_key_that_cannot_be_hashed_leaves_everything_as_it_was(ends, rule, full):
    queue = MessageQueue(maxsize=1 if full else 2, overflow=rule)
    queue.put("innocent")
    with pytest.raises(TypeError, match="unhashable"):
        ends.put(queue, "bad", key=[])
    assert balance(queue).puts == 1
    assert queue.get_nowait() == "innocent"


def test_a_move_to_a_level_of_a_wrong_type_leaves_the_item_where_it_was():
    queue = MessageQueue()
    queue.put("item", 1, key="key")
    with pytest.raises(TypeError, match=r"level must be an int in 0\.\.3, not 0\.5"):
        queue.reprioritize("key", 0.5)
    assert balance(queue).waiting_by_level == (0, 1, 0, 0)
    assert queue.get_nowait() == "item"


def test_a_batch_refuses_a_timeout_even_where_it_need_not_wait():
    queue = MessageQueue()
    queue.put("item")
    with pytest.raises(ValueError, match="timeout must be"):
        queue.get_batch(1, -1)
    assert len(queue) == 1


def test_other_methods_refuse_what_makes_no_sense(ends):
    queue = MessageQueue()
    for call in (
        lambda: ends.get(queue, timeout=-1),
        lambda: queue.get_batch(1, timeout=-1),
        lambda: queue.join(timeout=-1),
        lambda: queue.get_batch(0),
        lambda: queue.resize(-1),
        lambda: queue.reprioritize("key", 4),
        lambda: queue.put_from_signal("item", 4),
        lambda: queue.put_from_signal("item", ttl=-1),
    ):
        with pytest.raises(ValueError, match="must be"):
            call()


def test_what_is_no_number_is_named(ends):
    queue = MessageQueue()
    for argument, call in {
        "levels": lambda: MessageQueue(2.0),
        "maxsize": lambda: MessageQueue(maxsize=2.5),
        "ttl": lambda: MessageQueue(ttl="5"),
        "timeout": lambda: ends.get(queue, timeout="1"),
        "n": lambda: queue.get_batch(1.0),
    }.items():
        with pytest.raises(TypeError, match=f"^{argument} must be"):
            call()
    with pytest.raises(TypeError, match=r"^maxsize must be an int, not 2\.5"):
        queue.resize(2.5)
    with pytest.raises(TypeError, match=r"^timeout must be .*, not '1'"):
        ends.put(queue, "item", timeout="1")
    assert balance(queue).puts == 0
