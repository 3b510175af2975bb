"""MessageQueue: its order, its rules, its ends."""

from __future__ import annotations

import threading

import pytest

from threadkit import MessageQueue, QueueClosed, QueueEmpty, QueueFull


def test_the_most_urgent_level_comes_first_and_each_level_in_the_order_of_its_puts():
    queue = MessageQueue[str]()
    for item, level in (("a", 2), ("b", 0), ("c", 2), ("d", 0), ("e", 3)):
        queue.put(item, level)
    assert [queue.get() for _ in range(len(queue))] == ["b", "d", "a", "c", "e"]


def test_a_put_wakes_a_blocked_get():
    queue = MessageQueue[str]()
    got = []
    consumer = threading.Thread(target=lambda: got.append(queue.get(timeout=10)))
    consumer.start()
    queue.put("item")
    consumer.join(10)
    assert got == ["item"]


def test_a_get_wakes_a_blocked_put():
    queue = MessageQueue[int](maxsize=1)
    queue.put(1)
    producer = threading.Thread(target=queue.put, args=(2,), kwargs={"timeout": 10})
    producer.start()
    assert [queue.get(timeout=10), queue.get(timeout=10)] == [1, 2]
    producer.join(10)


def test_a_closed_queue_drains_then_says_so():
    queue = MessageQueue[int]()
    queue.put(1)
    queue.close()
    with pytest.raises(QueueClosed):
        queue.put(2)
    assert queue.get() == 1
    with pytest.raises(QueueClosed):
        queue.get()


def test_full_and_empty_are_reported_at_once_and_after_the_timeout():
    queue = MessageQueue[int](maxsize=1, name="texts")
    with pytest.raises(QueueEmpty, match="texts is empty"):
        queue.get(timeout=0.001)
    queue.put(1)
    with pytest.raises(QueueFull, match=r"texts is full \(1 items\)"):
        queue.put(2, timeout=0.001)
    with pytest.raises(QueueFull):
        queue.put_nowait(2)
    assert queue.statistics().rejected == 2
