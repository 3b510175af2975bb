"""MessageQueue: a bounded queue of levels between threads and coroutines.

* `_store`: what waits, in which order, and what is dropped; no locks.
* `_waiters`: those who wait, a thread or a coroutine each.
* `_statistics`: the frozen picture of both.
* `_exchange`: the lock, and the steps between the two ends that are taken under it.
* `_queue`: `MessageQueue`, what users call.
"""

from threadkit._queues._queue import MessageQueue
from threadkit._queues._statistics import QueueStatistics
from threadkit._queues._store import DropReason, Overflow

__all__ = ["DropReason", "MessageQueue", "Overflow", "QueueStatistics"]
