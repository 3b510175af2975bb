"""A million puts at ten times the consumer's rate: memory stays bounded, and the books balance."""

from __future__ import annotations

import sys
import threading
from collections import Counter

import pytest

from threadkit import MessageQueue

PUTS = 1_000_000
PRODUCERS = 4
RATE = 10  # puts for each get
BOUND = 10_000
PAYLOAD_BYTES = 1000  # a queue without a bound would hold 0.9 GB in the end


def peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.stress
@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts no peak of memory in resource")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rule", ["drop_new", "drop_oldest", "drop_lowest"])
def test_a_flood_of_a_million_puts_leaves_memory_bounded_and_the_books_balanced(rule):
    reported = Counter()
    lock = threading.Lock()

    def on_drop(item, reason):
        with lock:
            reported[reason] += 1

    queue = MessageQueue(maxsize=BOUND, overflow=rule, ageing=1.0, ttl=0.5, on_drop=on_drop)
    quota = threading.Semaphore(0)
    got = Counter()

    def consume():
        for _ in range(PUTS // RATE):
            quota.acquire(timeout=60)
            got[len(queue.get(timeout=60))] += 1

    def produce(first):
        for number in range(first, PUTS, PRODUCERS):
            ttl = (None, 0.01, 5.0)[number % 3]
            queue.put(bytes(PAYLOAD_BYTES), number % 4, ttl=ttl)
            if number % RATE == 0:
                quota.release()

    for number in range(2 * BOUND):  # fill it, so that what follows needs no more
        queue.put(bytes(PAYLOAD_BYTES), number % 4)
    full = peak_bytes()
    threads = [threading.Thread(target=produce, args=(first,)) for first in range(PRODUCERS)]
    threads.append(threading.Thread(target=consume))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    seen = queue.statistics()
    assert seen.puts == PUTS + 2 * BOUND
    assert seen.gets == got[PAYLOAD_BYTES] == PUTS // RATE
    assert seen.puts == seen.gets + seen.dropped + seen.waiting
    assert reported == {reason: count for reason, count in seen.drops.items() if count}
    assert seen.high_water == BOUND
    assert peak_bytes() - full < 32 * 2**20
