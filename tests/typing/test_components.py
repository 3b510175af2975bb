"""Checked by mypy and pyright, not run."""

from collections.abc import Callable, Mapping
from typing import Any

from typing_extensions import assert_type

from threadkit import (
    ComponentEvent,
    ComponentManager,
    ComponentState,
    Context,
    DynamicThreadPool,
    FencedQueue,
    Future,
    Handle,
    Health,
    ManagerReport,
    MessageQueue,
)


class Part:
    def start(self, ctx: Context, /) -> None: ...
    def stop(self, ctx: Context, /) -> None: ...


class Endless:
    def start(self, ctx: Context, /) -> None: ...


def components_are_structural(manager: ComponentManager) -> None:
    assert_type(manager.add("part", Part()), Handle)
    manager.add("made", Part)
    manager.add("group", ComponentManager())
    manager.add("endless", Endless())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    manager.add("odd", Part(), restart="often")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def answers_are_typed(manager: ComponentManager) -> None:
    def work(ctx: Context) -> None:
        assert_type(ctx.sleep(1), bool)
        assert_type(ctx.generation, int)

    manager.service("work", work)
    assert_type(manager.stop(), ManagerReport)
    assert_type(manager.run(), int)
    assert_type(manager.report().components[0].state, ComponentState)
    assert_type(manager.pools, Mapping[str, DynamicThreadPool])
    assert_type(manager.queues, Mapping[str, MessageQueue[Any]])
    assert_type(manager.history(), tuple[ComponentEvent, ...])
    assert_type(manager.subscribe(print), Callable[[], None])
    assert_type(Health().alive, bool)


def what_is_fenced_keeps_its_type(ctx: Context, pool: DynamicThreadPool) -> None:
    def twice(number: int) -> int:
        return 2 * number

    assert_type(ctx.fence(twice)(3), int)
    assert_type(ctx.pool(pool).submit(twice, 3).result(), int)
    ctx.pool(pool.with_options(priority=0)).submit(twice, "3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(ctx.future(), Future[Any])


def a_fenced_queue_takes_what_its_queue_takes(ctx: Context, queue: MessageQueue[int]) -> None:
    assert_type(ctx.queue(queue), FencedQueue[int])
    ctx.queue(queue).put(3)
    ctx.queue(queue).put("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
