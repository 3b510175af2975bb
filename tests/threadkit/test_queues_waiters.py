"""How waiters leave the lines of a MessageQueue, and what they watch for while they stand there."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import textwrap
import threading

import pytest

from sim_threads import start
from threadkit import MessageQueue, QueueFull
from threadkit.testing import explore, schedules

LONG = 1000.0  # seconds; a wait that ends by this timeout has missed its wake-up
LINES = ["threadkit._queues"]


class Interrupting:
    """A key that calls something when it is hashed: in the middle of a call, under the lock.

    So a collection that begins there is made certain.
    """

    def __init__(self, call):
        self._call = call

    def __hash__(self):
        call, self._call = self._call, lambda: None
        call()
        return 1

    def __eq__(self, other):
        return self is other


class Abandoned:
    """Coroutines that wait in an event loop which never runs again, nor is closed."""

    def __init__(self, *coroutines):
        self._coroutines = coroutines
        self._loop = asyncio.new_event_loop()

        async def begin():
            for coroutine in coroutines:
                coroutine.send(None)

        self._loop.run_until_complete(begin())

    def collect(self):
        for coroutine in self._coroutines:
            coroutine.close()
        self._loop.close()


def in_time(body, seconds=30.0):
    """Run it in a thread of its own: one that waits for itself is given up."""
    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"


# -- coroutines that are thrown away --------------------------------------------------------


@pytest.mark.parametrize("call", ["cancel", "put", "aput", "merge"])
def test_a_coroutine_thrown_away_under_the_lock_waits_for_nobody(call):
    queue = MessageQueue(merge=lambda old, _: old)
    waiting = Abandoned(queue.aget())
    key = Interrupting(waiting.collect)
    calls = {
        "cancel": lambda: queue.cancel(key),
        "put": lambda: queue.put("item", key=key),
        "aput": lambda: asyncio.run(queue.aput("item", key=key)),
        "merge": lambda: [queue.put("item", key=key) for _ in range(2)],
    }
    in_time(calls[call])
    assert queue.statistics().blocked_gets == 0


@schedules(150, preempt=LINES)
def test_a_getter_thrown_away_passes_its_item_on(sim):
    queue = MessageQueue(runtime=sim)
    waiting = Abandoned(queue.aget(), queue.aget())
    got = []
    consumer = sim.thread(lambda: got.append(queue.get(timeout=LONG)))
    consumer.start()
    sim.sleep(1.0)
    queue.put("one")  # wakes the first of them, which never looks
    collector = sim.thread(lambda: queue.cancel(Interrupting(waiting.collect)))
    collector.start()
    collector.join()
    consumer.join()
    assert got == ["one"]
    assert sim.monotonic() < LONG
    assert queue.statistics().blocked_gets == 0


@schedules(150, preempt=LINES)
def test_putters_thrown_away_inside_a_put_pass_their_room_on(sim):
    """Two at once, while a put that wakes nobody holds the lock and takes one place itself."""
    queue = MessageQueue(maxsize=3, runtime=sim)
    for number in range(3):
        queue.put(number)
    waiting = Abandoned(queue.aput("lost"), queue.aput("lost"))
    producer = sim.thread(lambda: queue.put("saved", timeout=LONG))
    producer.start()
    sim.sleep(1.0)
    got = [queue.get(), queue.get()]
    queue.put("new", key=Interrupting(waiting.collect), timeout=LONG)
    producer.join()
    assert sim.monotonic() < LONG
    got += [queue.get() for _ in range(len(queue))]
    assert sorted(got, key=str) == [0, 1, 2, "new", "saved"]
    assert queue.statistics().blocked_puts == 0


@schedules(150, preempt=LINES)
def test_coroutines_thrown_away_in_one_thread_while_another_puts_strand_nothing(sim):
    queue = MessageQueue(runtime=sim)
    waiting = Abandoned(queue.aget(), queue.aget())
    got = []
    consumers = [sim.thread(lambda: got.append(queue.get(timeout=LONG))) for _ in range(2)]
    for consumer in consumers:
        consumer.start()
    sim.sleep(1.0)
    threads = [sim.thread(waiting.collect), sim.thread(lambda: [queue.put(n) for n in range(2)])]
    for thread in threads:
        thread.start()
    for thread in (*threads, *consumers):
        thread.join()
    assert sorted(got) == [0, 1]
    assert sim.monotonic() < LONG
    assert queue.statistics().blocked_gets == 0


def test_a_wake_up_passed_on_in_a_finalizer_reaches_a_loop_about_to_sleep():
    """The loop of this very thread has looked for callbacks already, as far as anyone can know."""
    queue = MessageQueue()
    thrown_away = Abandoned(queue.aget())

    async def main():
        task = asyncio.ensure_future(queue.aget())
        await asyncio.sleep(0)
        queue.put("item")
        loop = asyncio.get_running_loop()
        select = loop._selector.select

        def collect_and_select(timeout):
            loop._selector.select = select
            thrown_away.collect()
            events = select(0)
            assert events, "it would sleep on"
            return events

        loop._selector.select = collect_and_select
        return await asyncio.wait_for(task, 30)

    assert asyncio.run(main()) == "item"


def test_a_put_is_woken_though_its_timer_rang_in_the_same_moment():
    """Room comes after the timer for what goes stale, and before the coroutine goes on."""

    async def main():
        queue = MessageQueue(maxsize=2)
        queue.put("stale", ttl=0.01)
        queue.put("kept")
        task = asyncio.ensure_future(queue.aput("new"))
        await asyncio.sleep(0)
        loop, taken = asyncio.get_running_loop(), asyncio.Event()

        def take():
            assert queue.get_nowait() == "kept"
            taken.set()

        due = queue._putters.waiting[0].look_at + 0.1
        while loop.time() < due:  # so both timers are found due at once, the other one first
            pass
        loop.call_at(due, take)
        await asyncio.wait_for(taken.wait(), 30)
        for _ in range(10):
            await asyncio.sleep(0)
        assert task.done(), queue
        assert queue.get_nowait() == "new"

    asyncio.run(main())


def test_a_get_is_woken_in_a_loop_that_went_on_in_another_thread():
    queue = MessageQueue()
    asleep, woken = threading.Event(), threading.Event()
    loop = asyncio.new_event_loop()

    async def begin():
        task = asyncio.ensure_future(queue.aget())
        task.add_done_callback(lambda _: woken.set())
        await asyncio.sleep(0)
        return task

    task = loop.run_until_complete(begin())
    select = loop._selector.select

    def tell_and_select(timeout):
        if timeout is None:
            asleep.set()
        return select(timeout)

    loop._selector.select = tell_and_select
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert asleep.wait(30)
        queue.put("item")  # by the thread in which the loop began
        assert woken.wait(5), "the loop sleeps on"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert task.result() == "item"


HAMMER = """
    import asyncio, gc, logging, sys, threading
    from threadkit import MessageQueue, QueueClosed

    logging.disable(logging.CRITICAL)  # asyncio says of each task that it was destroyed
    gc.set_threshold(50)
    queue = MessageQueue(2, maxsize=16)
    end, total, got = threading.Event(), int(sys.argv[1]), []

    def abandon():
        coroutines = lambda: (queue.aget(), queue.aput("never", 1))
        while not end.is_set():
            loop = asyncio.new_event_loop()
            tasks = [loop.create_task(coroutine) for coroutine in coroutines()]
            loop.run_until_complete(asyncio.sleep(0))
            for task in tasks:
                if task.done() and not task.exception():
                    got.append(task.result())
            loop.close()

    def consume():
        while True:
            try:
                got.append(queue.get(timeout=60))
            except QueueClosed:
                return

    def produce(first):
        for number in range(first, total, 2):
            queue.put(number, timeout=60)

    consumers = [threading.Thread(target=consume) for _ in range(2)]
    producers = [threading.Thread(target=produce, args=(first,)) for first in (0, 1)]
    abandoner = threading.Thread(target=abandon)
    for thread in (*consumers, *producers, abandoner):
        thread.start()
    for thread in producers:
        thread.join()
    end.set()
    abandoner.join()
    queue.close()
    for thread in consumers:
        thread.join()
    seen = queue.statistics()
    assert seen.puts == seen.gets and seen.waiting == 0, seen
    numbers = [item for item in got if isinstance(item, int)]
    assert sorted(numbers) == list(range(total)), len(numbers)
    print("ok")
"""

# What hung before waiters left without the lock: the collector runs in the middle of a put.
ABANDON = """
    import asyncio, sys
    from threadkit import MessageQueue

    queue = MessageQueue(2)
    loop = asyncio.new_event_loop()
    task = loop.create_task(queue.aget())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    del task, loop
    for number in range(20_000):
        queue.put(number)
    print("ok" if len(queue) == 20_000 else len(queue))
"""


def run(program, *arguments):
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_task_abandoned_on_a_closed_loop_is_collected_in_the_middle_of_a_put():
    assert run(ABANDON) == "ok"


def test_no_item_is_lost_to_tasks_that_are_collected_at_any_moment():
    assert run(HAMMER, "4000") == "ok"


# -- what goes stale makes room -------------------------------------------------------------


@schedules(100, preempt=LINES)
def test_blocked_puts_take_the_room_of_what_goes_stale_in_that_moment(sim):
    queue = MessageQueue(maxsize=2, runtime=sim)
    queue.put("old", ttl=1.0)
    queue.put("old", ttl=2.0)
    entered = []

    def put(name, at):
        sim.sleep(at)
        queue.put(name, timeout=LONG)
        entered.append(sim.monotonic())

    begun = sim.monotonic()
    for thread in start(sim, lambda: put("first", 0.25), lambda: put("second", 0.5)):
        thread.join()
    assert entered == [begun + 1.0, begun + 2.0]
    assert sorted([queue.get(), queue.get()]) == ["first", "second"]
    assert queue.statistics().drops["expired"] == 2


@schedules(100, preempt=LINES)
def test_an_aput_takes_the_room_of_what_goes_stale(sim):
    queue = MessageQueue(maxsize=1, ttl=1.0, runtime=sim)
    queue.put("old")
    sim.run_async(queue.aput("new", timeout=LONG))
    assert sim.monotonic() < LONG
    assert queue.get() == "new"


@schedules(100, preempt=LINES)
def test_a_put_gives_up_in_time_though_it_watches(sim):
    queue = MessageQueue(maxsize=1, runtime=sim)
    queue.put("old", ttl=5.0)
    begun = sim.monotonic()
    with pytest.raises(QueueFull):
        queue.put("new", timeout=2.0)
    assert sim.monotonic() == begun + 2.0


@schedules(100, preempt=LINES)
def test_a_shorter_life_that_comes_in_later_is_noticed(sim):
    queue = MessageQueue(maxsize=1, runtime=sim)
    queue.put("old", key="k", ttl=900.0)
    (thread,) = start(sim, lambda: queue.put("new", timeout=LONG))
    sim.sleep(1.0)
    queue.put("newer", key="k", ttl=2.0)  # replaces the old one
    thread.join()
    assert sim.monotonic() < 10.0
    assert queue.get() == "new"


@schedules(100, preempt=LINES)
def test_the_next_in_line_goes_on_watching_when_the_first_leaves(sim):
    """The first one watches for the short life; the second came when only the long one waited."""
    queue = MessageQueue(maxsize=1, runtime=sim)
    queue.put("old", key="k", ttl=900.0)
    first = []

    def give_up():
        try:
            queue.put("never", timeout=3.0)
        except QueueFull:
            first.append(sim.monotonic())

    threads = start(sim, give_up, lambda: (sim.sleep(0.5), queue.put("new", timeout=LONG)))
    sim.sleep(1.0)
    queue.put("newer", key="k", ttl=5.0)
    for thread in threads:
        thread.join()
    assert first == [3.0]
    assert sim.monotonic() < 10.0
    assert queue.get() == "new"


@schedules(100, preempt=LINES)
def test_the_next_in_line_goes_on_watching_when_the_first_is_thrown_away(sim):
    queue = MessageQueue(maxsize=1, runtime=sim)
    queue.put("old", key="k", ttl=5.0)
    waiting = Abandoned(queue.aput("never"))  # looks at 5.0
    queue.put("newer", key="k", ttl=900.0)
    (thread,) = start(sim, lambda: queue.put("new", timeout=LONG))  # looks at 900.0
    sim.sleep(1.0)
    queue.put("newest", key="k", ttl=7.0)  # the first one would look in time
    waiting.collect()
    thread.join()
    assert sim.monotonic() < 10.0
    assert queue.get() == "new"


def test_no_put_is_blocked_while_there_is_anything_stale():
    """Lives of any length, nobody who gets: each put comes in as soon as one ends."""
    lengths = set()

    def scenario(sim):
        queue = MessageQueue(maxsize=2, runtime=sim)

        def produce(lives):
            for life in lives:
                queue.put(life, ttl=life, timeout=LONG)

        # Each ttl is a number of seconds, so between two of them nothing stale is left.
        draw = random.Random(sim.seed)
        lives = [[draw.randrange(1, 9) for _ in range(4)] for _ in range(3)]
        threads = start(sim, *[lambda lives=lives: produce(lives) for lives in lives])
        sim.sleep(0.5)
        while queue.statistics().blocked_puts:
            stale = [
                entry
                for level in queue._store.levels
                for entry in level
                if entry[4] < sim.monotonic()
            ]
            assert not stale, (stale, sim.monotonic())
            sim.sleep(1.0)
        for thread in threads:
            thread.join()
        assert queue.statistics().puts == 12
        lengths.add(sim.monotonic())

    explore(scenario, 100)
    assert len(lengths) > 5  # the lives differ, and so do the runs
