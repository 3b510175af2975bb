"""The hot paths under pytest-benchmark, to compare one commit with another.

    python -m pytest benchmarks [--benchmark-autosave] [--benchmark-compare]

Each measures what a user's program does most: a thousand tasks through a pool, a thousand hits of
a cache, a thousand items through a queue, a thousand records of a failure. The results are
checked. How they compare with other packages is the question of the other files here.
"""

from __future__ import annotations

from typing import Any

from threadkit import DynamicThreadPool, ErrorLog, MessageQueue, TTLCache

TIMES = 1_000


def test_a_thousand_tasks(benchmark: Any) -> None:
    with DynamicThreadPool(max_workers=4) as pool:

        def dispatch() -> int:
            futures = [pool.submit(abs, -n) for n in range(TIMES)]
            return sum(future.result() for future in futures)

        assert benchmark(dispatch) == sum(range(TIMES))


def test_a_thousand_hits(benchmark: Any) -> None:
    cache: TTLCache[int, int] = TTLCache(TIMES, ttl=3600)
    for n in range(TIMES):
        cache.put(n, n)

    def hits() -> int:
        get = cache.get
        return sum(get(n, 0) for n in range(TIMES))

    assert benchmark(hits) == sum(range(TIMES))


def test_a_thousand_items_through_a_queue(benchmark: Any) -> None:
    queue: MessageQueue[int] = MessageQueue(levels=4, maxsize=TIMES, ageing=1.0, ttl=60.0)

    def through() -> int:
        for n in range(TIMES):
            queue.put(n, n % 4)
        return sum(queue.get() for _ in range(TIMES))

    assert benchmark(through) == sum(range(TIMES))


def test_a_thousand_repeats_of_a_failure(benchmark: Any) -> None:
    with ErrorLog() as errors:

        def record() -> int:
            for _ in range(TIMES):
                try:
                    raise ValueError("no room")
                except ValueError as exc:
                    errors.record(exc)
            return len(errors.groups())

        assert benchmark(record) == 1
