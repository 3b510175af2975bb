"""Every race between the waiters of a MessageQueue, under hundreds of schedules each.

Whatever order things come in, an item is handed out once or dropped once, and nobody who could be
served goes on waiting: the simulator reports that as a deadlock, or as a timeout that must not be.
"""

from __future__ import annotations

import asyncio
import contextlib

from sim_threads import join, start
from threadkit import MessageQueue, QueueClosed, QueueEmpty, QueueFull
from threadkit.testing import explore, schedules

LONG = 1000.0  # seconds; a wait that ends by this timeout has missed its wake-up
LINES = ["threadkit._queues"]


def check_balance(queue):
    seen = queue.statistics()
    assert seen.puts == seen.gets + seen.dropped + seen.waiting, seen
    assert (seen.blocked_gets, seen.blocked_puts) == (0, 0), seen
    return seen


def take(queue, timeout, into):
    try:
        into.append(queue.get(timeout=timeout))
    except QueueEmpty:
        into.append(None)


# -- many at both ends ----------------------------------------------------------------------


@schedules(100, preempt=LINES)
def test_producers_and_consumers_hand_over_each_item_once(sim):
    queue = MessageQueue(2, maxsize=2, runtime=sim)
    got = []

    def produce(first):
        for number in range(first, first + 4):
            queue.put(number, number % 2, timeout=LONG)

    def consume():
        got.extend(queue.get(timeout=LONG) for _ in range(4))

    join(start(sim, lambda: produce(0), lambda: produce(4), consume, consume))
    assert sorted(got) == list(range(8))
    assert check_balance(queue).high_water <= 2


@schedules(100)
def test_items_of_one_producer_stay_in_order(sim):
    queue = MessageQueue(1, maxsize=2, runtime=sim)
    got = []
    threads = start(
        sim,
        lambda: [queue.put(number, timeout=LONG) for number in range(6)],
        lambda: got.extend(queue.get(timeout=LONG) for _ in range(6)),
    )
    join(threads)
    assert got == list(range(6))


@schedules(100, preempt=LINES)
def test_merging_producers_lose_nothing(sim):
    queue = MessageQueue(1, merge=lambda old, new: old + new, runtime=sim)
    got = []

    def produce():
        for _ in range(3):
            queue.put(1, key="k")

    queue.put(1, key="k")
    threads = start(sim, produce, produce)
    take(queue, LONG, got)
    join(threads)
    while len(queue):
        got.append(queue.get())
    assert sum(got) == 7
    seen = check_balance(queue)
    assert seen.puts + seen.merged == 7


# -- timeout against hand-over --------------------------------------------------------------


def test_a_get_whose_time_is_up_takes_or_leaves_the_item_and_both_happen():
    outcomes = set()

    def scenario(sim):
        queue = MessageQueue(runtime=sim)
        first, second = [], []
        threads = start(
            sim,
            lambda: take(queue, 1.0, first),
            lambda: take(queue, LONG, second),
            lambda: (sim.sleep(1.0), queue.put("item")),
        )
        threads[0].join()
        if first == [None]:  # the other one must get it, and in time
            join(threads)
            assert second == ["item"]
            assert sim.monotonic() < LONG
        else:
            queue.put("another")
            join(threads)
            assert first + second in (["item", "another"], ["another", "item"])
        check_balance(queue)
        outcomes.add(first[0])

    explore(scenario, 150, preempt=LINES)
    assert {None, "item"} <= outcomes


def test_a_put_whose_time_is_up_takes_or_leaves_the_room_and_both_happen():
    outcomes = set()

    def scenario(sim):
        queue = MessageQueue(maxsize=1, runtime=sim)
        queue.put("first")
        done = []

        def put(item, timeout):
            try:
                queue.put(item, timeout=timeout)
                done.append(item)
            except QueueFull:
                done.append(None)

        threads = start(
            sim,
            lambda: put("hasty", 1.0),
            lambda: put("patient", LONG),
            lambda: (sim.sleep(1.0), queue.get()),
        )
        threads[0].join()
        hasty = done[0] == "hasty"
        if hasty:
            queue.get(timeout=LONG)
        join(threads)
        assert sim.monotonic() < LONG
        assert set(done) == {"patient", "hasty" if hasty else None}
        check_balance(queue)
        outcomes.add(hasty)

    # Under "block" the item put last may still be inside: the balance holds all the same.
    explore(scenario, 150, preempt=LINES)
    assert outcomes == {True, False}


# -- cancelled aget against put -------------------------------------------------------------


def test_a_cancelled_aget_passes_its_wake_up_on():
    outcomes = set()

    def scenario(sim):
        queue = MessageQueue(runtime=sim)
        other = []

        async def main():
            task = asyncio.ensure_future(queue.aget())
            await asyncio.sleep(1.0)
            task.cancel()
            try:
                return await task
            except asyncio.CancelledError:
                return None

        threads = start(
            sim,
            lambda: (sim.sleep(0.5), take(queue, LONG, other)),  # behind the coroutine in line
            lambda: (sim.sleep(1.0), queue.put("item")),
        )
        got = sim.run_async(main())
        outcomes.add(got)
        if got is not None:
            queue.put("another")
        join(threads)
        assert [got, *other] in ([None, "item"], ["item", "another"], ["another", "item"])
        assert sim.monotonic() < LONG
        check_balance(queue)

    explore(scenario, 150, preempt=LINES)
    assert outcomes == {None, "item"}


def test_a_cancelled_aput_passes_its_room_on():
    outcomes = set()

    def scenario(sim):
        queue = MessageQueue(maxsize=1, runtime=sim)
        queue.put("first")

        async def main():
            task = asyncio.ensure_future(queue.aput("async"))
            await asyncio.sleep(1.0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return False
            return True

        got = []
        threads = start(
            sim,
            lambda: (sim.sleep(0.5), queue.put("sync", timeout=LONG)),
            lambda: (sim.sleep(1.0), got.append(queue.get())),
        )
        is_in = sim.run_async(main())
        outcomes.add(is_in)
        if is_in:
            got.append(queue.get(timeout=LONG))
        join(threads)
        got.append(queue.get(timeout=LONG))
        assert sorted(got) == (["async", "first", "sync"] if is_in else ["first", "sync"])
        assert sim.monotonic() < LONG
        check_balance(queue)

    explore(scenario, 150, preempt=LINES)
    assert outcomes == {True, False}


@schedules(100, preempt=LINES)
def test_an_event_loop_that_ends_leaves_its_items_to_others(sim):
    queue = MessageQueue(runtime=sim)
    other = []

    async def main():
        asyncio.ensure_future(queue.aget())  # noqa: RUF006 - the loop's end cancels it
        await asyncio.sleep(1.0)

    threads = start(
        sim,
        lambda: (sim.sleep(0.5), take(queue, LONG, other)),
        lambda: (sim.sleep(1.0), queue.put("item"), queue.put("item")),
    )
    sim.run_async(main())
    join(threads)
    assert other == ["item"]
    assert sim.monotonic() < LONG


@schedules(100)
def test_several_event_loops_and_threads_share_a_queue(sim):
    queue = MessageQueue(maxsize=2, runtime=sim)
    got = []

    async def consume():
        for _ in range(4):
            got.append(await queue.aget(timeout=LONG))  # noqa: PERF401

    async def produce(first):
        for number in range(first, first + 4):
            await queue.aput(number, timeout=LONG)

    threads = start(
        sim,
        lambda: sim.run_async(consume()),
        lambda: sim.run_async(produce(0)),
        lambda: sim.run_async(produce(4)),
        lambda: got.extend(queue.get(timeout=LONG) for _ in range(4)),
    )
    join(threads)
    assert sorted(got) == list(range(8))
    assert sim.monotonic() < LONG
    check_balance(queue)


@schedules(100)
def test_coroutines_of_one_loop_hand_over_to_one_another(sim):
    queue = MessageQueue(maxsize=1, runtime=sim)

    async def main():
        async def produce():
            for number in range(5):
                await queue.aput(number, timeout=LONG)

        producer = asyncio.ensure_future(produce())
        got = [await queue.aget(timeout=LONG) for _ in range(5)]
        await producer
        return got

    assert sim.run_async(main()) == [0, 1, 2, 3, 4]
    check_balance(queue)


def test_an_aget_whose_time_is_up_takes_or_leaves_the_item_and_both_happen():
    outcomes = set()

    def scenario(sim):
        queue = MessageQueue(runtime=sim)

        async def main():
            try:
                return await queue.aget(timeout=1.0)
            except QueueEmpty:
                return None

        threads = start(
            sim, lambda: (sim.sleep(1.0), sim.sleep(0), sim.sleep(0), queue.put("item"))
        )
        got = sim.run_async(main())
        join(threads)
        assert len(queue) == (got is None)
        outcomes.add(got)
        if got is None:
            assert queue.get(timeout=0) == "item"
        check_balance(queue)

    # The loop polls before it goes on, which lets everybody else pass; a stalled one is late.
    explore(scenario, 150, preempt=LINES, stall_ratio=0.3)
    assert outcomes == {None, "item"}


# -- close ----------------------------------------------------------------------------------


def test_close_wakes_everybody_and_loses_nothing():
    ends = set()

    def scenario(sim):
        queue = MessageQueue(maxsize=1, runtime=sim)
        came_in, got = [], []

        def produce(first):
            try:
                for number in range(first, first + 3):
                    queue.put(number, timeout=LONG)
                    came_in.append(number)
            except QueueClosed:
                ends.add("put refused")

        def consume():
            try:
                while True:
                    got.append(queue.get(timeout=LONG))
            except QueueClosed:
                ends.add("get refused")

        threads = start(sim, lambda: produce(0), lambda: produce(10), consume, consume)
        queue.close()
        join(threads)
        assert sorted(got) == sorted(came_in)
        assert sim.monotonic() < LONG
        assert check_balance(queue).waiting == 0
        ends.add("some came in" if got else "none came in")

    explore(scenario, 150, preempt=LINES)
    assert ends == {"put refused", "get refused", "some came in", "none came in"}


@schedules(100, preempt=LINES)
def test_what_a_close_hands_back_is_handed_out_to_nobody_else(sim):
    drops, came_in, got = [], [], []
    queue = MessageQueue(runtime=sim, on_drop=lambda item, reason: drops.append(item))

    def produce():
        try:
            for number in range(4):
                queue.put(number)
                came_in.append(number)
        except QueueClosed:
            pass

    def consume():
        with contextlib.suppress(QueueClosed):
            got.extend(queue.get(timeout=LONG) for _ in range(2))

    threads = start(sim, produce, consume)
    left = queue.close(drain=False)
    join(threads)
    assert left == drops
    assert sorted(got + left) == came_in
    assert check_balance(queue).waiting == 0


@schedules(100, preempt=LINES)
def test_close_wakes_coroutines_too(sim):
    queue = MessageQueue(maxsize=1, runtime=sim)

    async def main():
        ends = await asyncio.gather(
            queue.aget(), queue.aget(), queue.aget(), return_exceptions=True
        )
        return [type(end) for end in ends]

    threads = start(sim, queue.close)
    assert sim.run_async(main()) == [QueueClosed] * 3
    join(threads)


# -- resize ---------------------------------------------------------------------------------


@schedules(100, preempt=LINES)
def test_a_larger_queue_lets_blocked_puts_in(sim):
    queue = MessageQueue(maxsize=1, runtime=sim)
    queue.put(0)
    threads = start(
        sim,
        lambda: queue.put(1, timeout=LONG),
        lambda: queue.put(2, timeout=LONG),
        lambda: queue.resize(3),
    )
    join(threads)
    assert sim.monotonic() < LONG
    assert len(queue) == 3


@schedules(100, preempt=LINES)
def test_a_queue_that_shrinks_and_grows_lets_every_put_in(sim):
    queue = MessageQueue(maxsize=2, runtime=sim)
    got = []

    def resize():
        for maxsize in (1, 3, 1, 2):
            queue.resize(maxsize)

    threads = start(
        sim,
        lambda: [queue.put(number, timeout=LONG) for number in range(3)],
        lambda: [queue.put(number, timeout=LONG) for number in range(3, 6)],
        lambda: got.extend(queue.get(timeout=LONG) for _ in range(6)),
        resize,
    )
    join(threads)
    assert sorted(got) == list(range(6))
    assert sim.monotonic() < LONG
    check_balance(queue)


# -- other ways out -------------------------------------------------------------------------


@schedules(100, preempt=LINES)
def test_cancelling_an_item_makes_room_for_a_blocked_put(sim):
    queue = MessageQueue(maxsize=1, runtime=sim)
    queue.put("item", key="k")
    threads = start(sim, lambda: queue.put("next", timeout=LONG), lambda: queue.cancel("k"))
    join(threads)
    assert queue.get(timeout=0) == "next"
    assert check_balance(queue).drops["cancelled"] == 1


def test_an_item_is_cancelled_or_handed_out_and_both_happen():
    outcomes = set()

    def scenario(sim):
        queue = MessageQueue(runtime=sim)
        queue.put("item", key="k")
        got, cancelled = [], []
        join(start(sim, lambda: take(queue, 0, got), lambda: cancelled.append(queue.cancel("k"))))
        assert (got == ["item"]) is not cancelled[0]
        outcomes.add(cancelled[0])
        check_balance(queue)

    explore(scenario, 200, preempt=LINES)
    assert outcomes == {True, False}


@schedules(100, preempt=LINES)
def test_a_stale_item_makes_room_for_a_blocked_put_when_a_get_drops_it(sim):
    queue = MessageQueue(maxsize=2, runtime=sim)
    queue.put("stale", ttl=1.0)
    queue.put("stale", ttl=1.0)
    got = []
    threads = start(
        sim,
        lambda: queue.put("new", timeout=LONG),
        lambda: queue.put("new", timeout=LONG),
        lambda: (sim.sleep(1.0), got.extend(queue.get(timeout=LONG) for _ in range(2))),
    )
    join(threads)
    assert got == ["new", "new"]
    assert sim.monotonic() < LONG
    assert check_balance(queue).drops["expired"] == 2


# -- signals --------------------------------------------------------------------------------


@schedules(150, preempt=LINES)
def test_what_a_signal_handler_puts_is_never_stranded(sim):
    """A thread stands for the handler: it too comes at any line and may find the lock taken."""
    queue = MessageQueue(maxsize=2, runtime=sim)
    got = []
    threads = start(
        sim,
        lambda: got.extend(queue.get(timeout=LONG) for _ in range(6)),
        lambda: [queue.put(number, timeout=LONG) for number in range(3)],
        lambda: [queue.put_from_signal(number) for number in range(3, 6)],
    )
    join(threads)
    assert sorted(got) == list(range(6))
    assert sim.monotonic() < LONG
    check_balance(queue)


@schedules(100, preempt=LINES)
def test_a_signal_wakes_a_coroutine(sim):
    queue = MessageQueue(runtime=sim)
    threads = start(sim, lambda: queue.put_from_signal("item"))
    assert sim.run_async(queue.aget(timeout=LONG)) == "item"
    join(threads)
    assert sim.monotonic() < LONG


# -- turns ----------------------------------------------------------------------------------


def test_whoever_was_woken_in_vain_keeps_its_turn():
    def scenario(sim):
        queue = MessageQueue(runtime=sim)
        got, robbed = [], []

        def wait(name):
            got.append((name, queue.get(timeout=LONG)))

        first = sim.thread(wait, args=("first",))
        first.start()
        sim.sleep(1.0)
        second = sim.thread(wait, args=("second",))
        second.start()
        sim.sleep(1.0)
        queue.put("a")  # wakes the first one...
        take(queue, 0, robbed)  # ...and takes the item from under it
        sim.sleep(1.0)
        if robbed != [None]:
            queue.put("b")
        sim.sleep(1.0)
        queue.put("c")
        join([first, second])
        assert [name for name, _ in got] == ["first", "second"]
        outcomes.update(robbed)

    outcomes = set()
    explore(scenario, 100)
    assert outcomes == {None, "a"}
