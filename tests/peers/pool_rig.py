"""What the scenarios of the pool share."""

import threading
from concurrent.futures import CancelledError
from contextlib import contextmanager

from threadkit import (
    DynamicThreadPool,
    PoolClosed,
    Rejected,
    TaskStale,
    TaskTimeout,
    WorkerLost,
)

PREEMPT = ["threadkit._pool", "threadkit._futures"]


@contextmanager
def pool_of(sim, max_workers, min_workers=None, *, may_be_left=0, **options):
    """A pool that is shut down at the end, and has no thread left then, but for abandoned ones."""
    options = {"policy": "fixed", "thread_name_prefix": "pool", **options}
    pool = DynamicThreadPool(min_workers, max_workers, runtime=sim, **options)
    yield pool
    pool.shutdown()
    left = [t.name for t in threading.enumerate() if t.name.startswith("pool-") and t.is_alive()]
    assert len(left) <= may_be_left, left


def outcome(future):
    """How a future ended: its value, or the kind of its exception. Waits for the end."""
    try:
        return future.result()
    except CancelledError:
        return "cancelled"
    except (Rejected, TaskStale, TaskTimeout, WorkerLost) as exc:
        return type(exc).__name__


def settle(pool):
    """The books are balanced once nothing is queued or running, but for what timed out."""
    books = pool.statistics()
    assert books.running == books.abandoned
    assert sum(books.queued) == 0
    ended = (
        books.completed
        + books.failed
        + books.cancelled
        + books.expired
        + books.timed_out
        + books.dropped
        + books.superseded
    )
    assert books.submitted == ended, books
    return books


def submits_until_closed(pool, ran, accepted):
    def submit():
        for n in range(4):
            try:
                accepted[n] = pool.submit(ran.append, n)
            except PoolClosed:
                return

    return submit


def deep(pool, depth):
    return 0 if depth == 0 else 1 + pool.submit(deep, pool, depth - 1).result()
