"""Checked by mypy and pyright, not run."""

from typing_extensions import assert_type

from threadkit import DropReason, MessageQueue, QueueStatistics


def merge_numbers(old: int, new: int) -> int:
    return old + new


def note(item: int, reason: DropReason) -> None: ...


def items_keep_their_type(queue: MessageQueue[str]) -> None:
    queue.put("a", 1, ttl=2.0, key="k", timeout=3.0)
    queue.put_nowait("a")
    queue.put_from_signal("a", 0)
    queue.put(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(queue.get(timeout=1.0), str)
    assert_type(queue.get_nowait(), str)
    assert_type(queue.get_batch(3), list[str])
    assert_type(queue.close(drain=False), list[str])
    assert_type(queue.join(1.0), bool)
    assert_type(queue.cancel("k"), bool)
    assert_type(queue.statistics(), QueueStatistics)
    assert_type(queue.statistics().drops["expired"], int)


async def coroutines_too(queue: MessageQueue[str]) -> None:
    await queue.aput("a", 1, timeout=1.0)
    assert_type(await queue.aget(), str)


def the_type_follows_from_the_callbacks() -> None:
    assert_type(MessageQueue(merge=merge_numbers), MessageQueue[int])
    assert_type(MessageQueue(on_drop=note), MessageQueue[int])
    assert_type(MessageQueue[bytes](4, overflow="drop_lowest"), MessageQueue[bytes])
    MessageQueue[int](overflow="explode")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MessageQueue[str](merge=merge_numbers)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
