"""MessageQueue with real event loops, several at once, and with real signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import textwrap
import threading

import pytest

from threadkit import MessageQueue, QueueClosed, QueueEmpty


def in_threads(*bodies):
    """Run each in a thread of its own; raise what the first failed one raised."""
    failed = []

    def run(body):
        try:
            body()
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=run, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if failed:
        raise failed[0]


def test_three_event_loops_and_two_threads_share_a_queue():
    queue = MessageQueue[int](maxsize=8)
    got: list[int] = []

    async def produce(first):
        for number in range(first, first + 300):
            await queue.aput(number, number % 4, timeout=30)

    async def consume():
        with contextlib.suppress(QueueClosed):
            while True:
                got.append(await queue.aget(timeout=30))

    async def consume_thrice():
        await asyncio.gather(consume(), consume(), consume())

    def consume_here():
        with contextlib.suppress(QueueClosed):
            while True:
                got.append(queue.get(timeout=30))

    def produce_all():
        in_threads(
            lambda: asyncio.run(produce(0)),
            lambda: asyncio.run(produce(300)),
            lambda: [queue.put(number, timeout=30) for number in range(600, 900)],
        )
        queue.close()

    in_threads(
        produce_all,
        lambda: asyncio.run(consume_thrice()),
        lambda: asyncio.run(consume()),
        consume_here,
    )
    assert sorted(got) == list(range(900))
    seen = queue.statistics()
    assert (seen.puts, seen.gets, seen.dropped, seen.waiting) == (900, 900, 0, 0)
    assert seen.high_water <= 8


def test_a_cancelled_aget_leaves_the_line():
    async def main():
        queue = MessageQueue()
        tasks = [asyncio.ensure_future(queue.aget()) for _ in range(3)]
        await asyncio.sleep(0)
        assert queue.statistics().blocked_gets == 3
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.wait([tasks[0], tasks[2]])
        assert queue.statistics().blocked_gets == 1
        queue.put("item")
        assert await tasks[1] == "item"

    asyncio.run(main())


def test_an_aget_cancelled_after_its_wake_up_passes_it_on():
    async def main():
        queue = MessageQueue()
        first, second = (asyncio.ensure_future(queue.aget()) for _ in range(2))
        await asyncio.sleep(0)
        queue.put("item")  # wakes the first one
        first.cancel()
        assert await asyncio.wait_for(second, 10) == "item"
        assert first.cancelled()

    asyncio.run(main())


def test_an_aput_cancelled_after_its_wake_up_passes_it_on():
    async def main():
        queue = MessageQueue(maxsize=1)
        queue.put(0)
        first, second = (asyncio.ensure_future(queue.aput(number)) for number in (1, 2))
        await asyncio.sleep(0)
        assert queue.get() == 0
        first.cancel()
        await asyncio.wait_for(second, 10)
        assert queue.get() == 2
        assert len(queue) == 0

    asyncio.run(main())


def test_a_waiter_whose_loop_was_closed_is_passed_over():
    queue = MessageQueue()
    abandoned = asyncio.new_event_loop()
    task = abandoned.create_task(queue.aget())
    abandoned.run_until_complete(asyncio.sleep(0))
    assert queue.statistics().blocked_gets == 1
    task._log_destroy_pending = False  # the loop is closed under it on purpose
    abandoned.close()

    got = []
    consumer = threading.Thread(target=lambda: got.append(queue.get(timeout=60)), daemon=True)
    consumer.start()
    while queue.statistics().blocked_gets < 2 and not got:
        threading.Event().wait(0.001)
    queue.put("item")
    consumer.join(10)
    assert got == ["item"]


def test_a_waiter_whose_task_was_collected_leaves_the_line():
    queue = MessageQueue()
    coroutine = queue.aget()
    loop = asyncio.new_event_loop()

    async def step():
        coroutine.send(None)

    loop.run_until_complete(step())
    loop.close()
    assert queue.statistics().blocked_gets == 1
    coroutine.close()
    assert queue.statistics().blocked_gets == 0


def test_aget_gives_up_after_its_timeout():
    queue = MessageQueue()

    async def main():
        with pytest.raises(QueueEmpty):
            await queue.aget(timeout=0.001)
        assert queue.statistics().blocked_gets == 0

    asyncio.run(main())


def test_a_queue_is_collected_with_what_waits_in_it():
    class Item:
        pass

    import weakref

    item = Item()
    queue = MessageQueue()
    queue.put(item)
    seen = weakref.ref(item)
    del item, queue
    gc.collect()
    assert seen() is None


# -- signals --------------------------------------------------------------------------------

SIGNALS = """
    import itertools, signal, sys, threading, time
    from threadkit import MessageQueue

    WANTED = 2000
    queue = MessageQueue(maxsize=64, ttl=60.0, on_drop=lambda *drop: None)
    numbers = itertools.count()
    handled = []

    def handler(signum, frame):
        number = next(numbers)
        handled.append(number)
        queue.put_from_signal(("signal", number))

    signal.signal(signal.SIGALRM, handler)
    got = []

    def consume():
        while True:
            item = queue.get(timeout=50)
            if item is None:
                return
            got.append(item)

    consumer = threading.Thread(target=consume)
    consumer.start()
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    puts = 0
    while len(handled) < WANTED:  # this thread is in the queue nearly all the time
        queue.put(("plain", puts), 1)
        puts += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    queue.put(None, 3)
    consumer.join(50)
    assert not consumer.is_alive(), "deadlock"
    while queue.statistics().waiting:  # a last signal may have come after the end
        got.append(queue.get())
    signals = [number for kind, number in got if kind == "signal"]
    assert sorted(signals) == sorted(handled), "a signal's item was lost or doubled"
    assert [number for kind, number in got if kind == "plain"] == list(range(puts))
    seen = queue.statistics()
    assert seen.puts == seen.gets == puts + len(signals) + 1
    print("ok", len(signals) >= WANTED)
"""

LOOP = """
    import asyncio, os, signal, threading
    from threadkit import MessageQueue

    queue = MessageQueue()
    signal.signal(signal.SIGUSR1, lambda *_: queue.put_from_signal("stop"))

    async def main():
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        return await queue.aget()  # the loop sleeps in its selector when the signal comes

    print(asyncio.run(main()))
"""


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no interval timers")
def test_a_signal_handler_that_interrupts_the_queue_itself_deadlocks_nothing_and_loses_nothing():
    assert run(SIGNALS) == "ok True"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGUSR1")
def test_a_signal_handler_wakes_a_sleeping_event_loop():
    assert run(LOOP) == "stop"


def test_what_a_signal_drops_is_reported_outside_the_handler():
    drops = []
    queue = MessageQueue(
        maxsize=1, overflow="drop_oldest", on_drop=lambda item, reason: drops.append((item, reason))
    )
    queue.put(1)
    queue.put_from_signal(2)
    assert (drops, queue._store.drops["drop_oldest"]) == ([], 1)
    queue.put(3)
    assert drops == [(1, "drop_oldest"), (2, "drop_oldest")]


def test_a_signal_enters_a_full_queue_and_is_dropped_by_a_closed_one():
    drops = []
    queue = MessageQueue(maxsize=1, on_drop=lambda item, reason: drops.append((item, reason)))
    queue.put(1)
    queue.put_from_signal(2)
    assert len(queue) == 2
    queue.close()
    queue.put_from_signal(3)
    assert [queue.get(), queue.get()] == [1, 2]
    assert drops == [(3, "closed")]
    seen = queue.statistics()
    assert seen.puts == seen.gets + seen.dropped + seen.waiting == 3
