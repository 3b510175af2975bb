"""What does it cost to hand an item over: within a thread, between threads, to and from coroutines?

    python -m benchmarks.queues [--quick] [--json FILE] [--plot FILE]

| metric | workload |
|---|---|
| put+get | one thread puts an item and gets one; nothing else waits, or 1,000 items do |
| throughput | so many producing and consuming threads, or threads and coroutines, at full speed |
| round trip | an item there and an answer back, one at a time |

Contenders: `threadkit` is a MessageQueue with everything on (four levels, ageing, ttl, a key for
each item with merge, on_drop); `threadkit:plain` has its four levels only. `queue.PriorityQueue` is
the baseline; a coroutine reaches it the standard library's way, through `asyncio.to_thread`. janus,
culsans and aiologic are the queues made for threads and coroutines, in their priority variants.

Every contender has the same bound, orders by the same four priorities, first come first served
within one (which takes heaps a number in each item), and hands over each number exactly once: sums
are checked. Cost is wall time for each item handed over.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import aiologic
import culsans
import janus

from benchmarks.harness import Benchmark, main, seconds
from threadkit import MessageQueue

BOUND = 2000


@dataclass(frozen=True)
class Ends:
    """One queue of a contender, for numbers; `close` where it has to be closed in its loop."""

    put: Callable[[int], object]
    get: Callable[[], int]
    aput: Callable[[int], Awaitable[object]]
    aget: Callable[[], Awaitable[int]]
    close: Callable[[], Awaitable[object]] | None = None


def threadkit() -> Ends:
    """Everything on."""
    q = MessageQueue[int](
        4, maxsize=BOUND, ageing=1.0, ttl=60.0, merge=lambda old, _: old, on_drop=lambda *_: None
    )
    put, aput = q.put, q.aput
    return Ends(lambda n: put(n, n & 3, key=n), q.get, lambda n: aput(n, n & 3, key=n), q.aget)


def threadkit_plain() -> Ends:
    """Levels only."""
    q = MessageQueue[int](4, maxsize=BOUND)
    put, aput = q.put, q.aput
    return Ends(lambda n: put(n, n & 3), q.get, lambda n: aput(n, n & 3), q.aget)


def standard_library() -> Ends:
    """A heap of (priority, number of the put, item)."""
    q = queue.PriorityQueue[tuple[int, int, int]](BOUND)
    serial = itertools.count().__next__
    put, get = q.put, q.get
    return Ends(
        lambda n: put((n & 3, serial(), n)),
        lambda: get()[2],
        lambda n: asyncio.to_thread(put, (n & 3, serial(), n)),
        lambda: asyncio.to_thread(lambda: get()[2]),
    )


def of_two_sides(q: Any) -> Ends:
    """Janus and culsans: a sync and an async side, and the same heap."""
    serial = itertools.count().__next__
    put, get, aput, aget = q.sync_q.put, q.sync_q.get, q.async_q.put, q.async_q.get

    async def aget_number() -> int:
        return (await aget())[2]

    return Ends(
        lambda n: put((n & 3, serial(), n)),
        lambda: get()[2],
        lambda n: aput((n & 3, serial(), n)),
        aget_number,
        q.aclose,
    )


def janus_queue() -> Ends:
    """Belongs to the running event loop."""
    return of_two_sides(janus.PriorityQueue(BOUND))


def culsans_queue() -> Ends:
    """Belongs to no event loop."""
    return of_two_sides(culsans.PriorityQueue(BOUND))


def aiologic_queue() -> Ends:
    """Its own kind of wake-ups."""
    q = aiologic.PriorityQueue[tuple[int, int, int]](maxsize=BOUND)
    serial = itertools.count().__next__
    put, get, aput, aget = q.green_put, q.green_get, q.async_put, q.async_get

    async def aget_number() -> int:
        return (await aget())[2]

    return Ends(
        lambda n: put((n & 3, serial(), n)),
        lambda: get()[2],
        lambda n: aput((n & 3, serial(), n)),
        aget_number,
    )


CONTENDERS: dict[str, Callable[[], Ends]] = {
    "threadkit": threadkit,
    "threadkit:plain": threadkit_plain,
    "queue.PriorityQueue": standard_library,
    "janus": janus_queue,
    "culsans": culsans_queue,
    "aiologic": aiologic_queue,
}


# -- within a thread, between threads -------------------------------------------------------


def put_and_get(make: Callable[[], Ends], count: int, waiting: int) -> float:
    """Microseconds for a put and a get, on top of `waiting` items."""

    async def main() -> float:
        ends = make()
        for n in range(waiting):
            ends.put(n)

        def work() -> None:
            put, get, total = ends.put, ends.get, 0
            for n in range(waiting, waiting + count):
                put(n)
                total += get()
            total += sum(get() for _ in range(waiting))
            assert total == sum(range(waiting + count))

        taken = seconds(work)
        if ends.close is not None:
            await ends.close()
        return taken / count * 1e6

    return asyncio.run(main())


def run_together(bodies: list[Callable[[], None]]) -> None:
    """Run each in a thread of its own."""
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def between_threads(make: Callable[[], Ends], count: int, producers: int, consumers: int) -> float:
    """Microseconds for an item that some thread puts and some thread gets."""
    totals: list[int] = []

    async def main() -> float:
        ends = make()

        def produce(first: int) -> None:
            put = ends.put
            for n in range(first, count, producers):
                put(n)

        def consume() -> None:
            get = ends.get
            totals.append(sum(get() for _ in range(count // consumers)))

        bodies: list[Callable[[], None]] = [consume] * consumers
        bodies += [lambda first=first: produce(first) for first in range(producers)]
        loop = asyncio.get_running_loop()
        taken = await loop.run_in_executor(None, lambda: seconds(lambda: run_together(bodies)))
        if ends.close is not None:
            await ends.close()
        return taken

    taken = asyncio.run(main())
    assert sum(totals) == sum(range(count))
    return taken / count * 1e6


# -- threads and coroutines -----------------------------------------------------------------


def one_way(make: Callable[[], Ends], count: int, *, to_coroutine: bool) -> float:
    """Microseconds for an item from a thread to a coroutine, or the other way."""

    def put_all(ends: Ends) -> int:
        for n in range(count):
            ends.put(n)
        return sum(range(count))

    def get_all(ends: Ends) -> int:
        return sum(ends.get() for _ in range(count))

    async def aput_all(ends: Ends) -> int:
        for n in range(count):
            await ends.aput(n)
        return sum(range(count))

    async def aget_all(ends: Ends) -> int:
        total = 0
        for _ in range(count):
            total += await ends.aget()
        return total

    async def main() -> float:
        ends = make()
        there, here = (put_all, aget_all) if to_coroutine else (get_all, aput_all)
        return await timed(ends, lambda: there(ends), here(ends), sum(range(count)))

    return asyncio.run(main()) / count * 1e6


async def timed(
    ends: Ends, there: Callable[[], int], here: Coroutine[Any, Any, int], total: int
) -> float:
    """Seconds that `there` in a thread and `here` in this loop take together."""
    loop = asyncio.get_running_loop()
    results: list[int] = []
    done = loop.create_future()

    def run() -> None:
        results.append(there())
        loop.call_soon_threadsafe(done.set_result, None)

    started = loop.time()
    thread = threading.Thread(target=run)
    thread.start()
    results.append(await here)
    await done
    taken = loop.time() - started
    thread.join()
    assert results == [total, total]
    if ends.close is not None:
        await ends.close()
    return taken


def round_trip(make: Callable[[], Ends], count: int) -> float:
    """Microseconds for an item from a thread to a coroutine and its answer back."""

    async def main() -> float:
        requests, answers = make(), make()

        def ask() -> int:
            total = 0
            for n in range(count):
                requests.put(n)
                total += answers.get()
            return total

        async def answer() -> int:
            total = 0
            for _ in range(count):
                n = await requests.aget()
                total += n
                await answers.aput(n)
            return total

        taken = await timed(requests, ask, answer(), sum(range(count)))
        if answers.close is not None:
            await answers.close()
        return taken

    return asyncio.run(main()) / count * 1e6


def thread_round_trip(make: Callable[[], Ends], count: int) -> float:
    """Microseconds for an item from a thread to another and its answer back."""

    async def main() -> float:
        requests, answers = make(), make()

        def ask() -> None:
            for n in range(count):
                requests.put(n)
                assert answers.get() == n

        def answer() -> None:
            for _ in range(count):
                answers.put(requests.get())

        taken = await asyncio.to_thread(lambda: seconds(lambda: run_together([ask, answer])))
        for ends in (requests, answers):
            if ends.close is not None:
                await ends.close()
        return taken

    return asyncio.run(main()) / count * 1e6


# -- the cases ------------------------------------------------------------------------------


def build(options: argparse.Namespace) -> Benchmark:
    """Every contender at every workload."""
    few, many, repeats = (1_000, 8_000, 7) if options.quick else (4_000, 40_000, 11)
    bench = Benchmark(
        "queues", baseline="queue.PriorityQueue", packages=("janus", "culsans", "aiologic")
    )
    workloads: list[tuple[str, str, Callable[[Callable[[], Ends]], float]]] = [
        ("put+get", "empty", lambda make: put_and_get(make, many, 0)),
        ("put+get", "1000 waiting", lambda make: put_and_get(make, many, 1000)),
        ("throughput", "1 thread to 1", lambda make: between_threads(make, many, 1, 1)),
        ("throughput", "4 threads to 4", lambda make: between_threads(make, many, 4, 4)),
        ("throughput", "thread to coroutine", lambda make: one_way(make, few, to_coroutine=True)),
        ("throughput", "coroutine to thread", lambda make: one_way(make, few, to_coroutine=False)),
        ("round trip", "thread, thread", lambda make: thread_round_trip(make, few)),
        ("round trip", "thread, coroutine", lambda make: round_trip(make, few)),
    ]
    for metric, workload, run in workloads:
        for name, make in CONTENDERS.items():
            bench.add(
                name,
                metric,
                lambda run=run, make=make: run(make),
                unit="us/item",
                workload=workload,
                repeats=repeats,
            )
    return bench


if __name__ == "__main__":
    main(build)
