"""Millions of tasks on a pool that is resized, with cancellations, exceptions and priorities.

    THREADKIT_HAMMER_TASKS=1000000 pytest tests/stress/test_pool_hammer.py -m stress -s

Every future must end exactly once, in the one way its task allows, and the pool's books must
balance. The number of tasks is 10,000,000 unless the environment says otherwise.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter

import pytest

from threadkit import DynamicThreadPool

TASKS = int(os.environ.get("THREADKIT_HAMMER_TASKS", "10_000_000"))
PRODUCERS = 4
BATCH = 500
WAIT = 120


class Refusal(Exception):
    """What one task in some raises."""


class Hammer:
    """One producer: submits in batches, cancels some, and checks how each future ended."""

    def __init__(self, pool, seed):
        self.pool = pool
        self.random = random.Random(seed)
        self.views = [pool.with_options(priority=level, label=f"{level}") for level in range(3)]
        self.submitters = [pool.submit, *(view.submit for view in self.views)]
        self.ran = Counter()  # one key per task, counted by the tasks themselves
        self.ended = []  # one entry per done-callback; list.append is atomic
        self.fates = Counter()

    def task(self, number, refuses):
        self.ran[number] += 1  # each key is touched by one task only
        if refuses:
            raise Refusal(number)
        return number

    def batch(self, first, size):
        self.ran.clear()
        self.ended.clear()
        tasks = [self.submit(number) for number in range(first, first + size)]
        cancelled = {f for f, _, _ in self.random.sample(tasks, size // 10) if f.cancel()}
        for future, number, refuses in tasks:
            self.check(future, number, refuses=refuses, cancelled=future in cancelled)
        # A future's waiters may be told before its callbacks have run: await the last of them.
        while len(self.ended) < size:
            self.all_called.wait(WAIT)
        assert len(self.ended) == len(set(self.ended)) == size

    def submit(self, number):
        refuses = self.random.random() < 0.05
        future = self.random.choice(self.submitters)(self.task, number, refuses)
        future.add_done_callback(self.callback)
        return future, number, refuses

    def callback(self, future):
        self.ended.append(id(future))
        if len(self.ended) >= self.size:
            self.all_called.set()

    def check(self, future, number, *, refuses, cancelled):
        if cancelled:
            assert future.cancelled()
            assert number not in self.ran
            self.fates["cancelled"] += 1
        elif refuses:
            assert isinstance(future.exception(WAIT), Refusal)
            assert self.ran[number] == 1
            self.fates["failed"] += 1
        else:
            assert future.result(WAIT) == number
            assert self.ran[number] == 1
            self.fates["completed"] += 1

    def run(self, tasks):
        for first in range(0, tasks, BATCH):
            self.size = min(BATCH, tasks - first)
            self.all_called = threading.Event()
            self.batch(first, self.size)


def resize_now_and_then(pool, stop, seed):
    chance = random.Random(seed)
    while not stop.wait(0.002):
        most = chance.randint(1, 16)
        pool.resize(min_workers=chance.randint(0, most), max_workers=most)
        if chance.random() < 0.2:
            pool.adjust_pool_size(chance.randint(0, 16))
        if chance.random() < 0.05:
            pool.pause()
            pool.resume()


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_every_future_of_millions_ends_exactly_once():
    stop = threading.Event()
    failures = []
    with DynamicThreadPool(min_workers=1, max_workers=8, levels=3) as pool:
        hammers = [Hammer(pool, seed) for seed in range(PRODUCERS)]

        def produce(hammer):
            try:
                hammer.run(TASKS // PRODUCERS)
            except BaseException as exc:
                failures.append(exc)
                raise

        producers = [threading.Thread(target=produce, args=(hammer,)) for hammer in hammers]
        resizer = threading.Thread(target=resize_now_and_then, args=(pool, stop, 99))
        for thread in [*producers, resizer]:
            thread.start()
        for producer in producers:
            producer.join()
        stop.set()
        resizer.join(WAIT)
    assert not failures
    fates = sum((hammer.fates for hammer in hammers), Counter())
    statistics = pool.statistics()
    print(f"\n{sum(fates.values()):,} futures ended exactly once: {dict(fates)}")  # noqa: T201 - the count
    assert sum(fates.values()) == TASKS // PRODUCERS * PRODUCERS
    assert statistics.submitted == sum(fates.values())
    assert statistics.completed == fates["completed"]
    assert statistics.failed == fates["failed"]
    assert statistics.cancelled == fates["cancelled"]
    assert statistics.run.count == fates["completed"] + fates["failed"]
