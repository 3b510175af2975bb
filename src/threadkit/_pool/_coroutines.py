"""Tasks submitted from coroutines, and awaited there."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from threadkit._futures import Future

if TYPE_CHECKING:
    from threadkit._pool._crew import Crew
    from threadkit._pool._options import TaskOptions

__all__ = ["run_from_coroutine"]

T = TypeVar("T")


def run_from_coroutine(crew: Crew, options: TaskOptions, future: Future[T]) -> asyncio.Future[T]:
    """Submit the task, waiting for room if need be, and give back what to await."""
    loop = asyncio.get_running_loop()  # first: without one, nothing is to be submitted
    if crew.intake.may_block():
        return loop.create_task(_submit_and_wait(crew, options, future))
    crew.admit(future, options)
    outcome = loop.create_task(_outcome(future))

    def pass_on(outcome: asyncio.Future[T]) -> None:
        if outcome.cancelled():  # perhaps before its first step, where it cannot see it
            future.cancel()

    outcome.add_done_callback(pass_on)
    return outcome


async def _submit_and_wait(crew: Crew, options: TaskOptions, future: Future[T]) -> T:
    await crew.intake.put_from_coroutine(future, options)
    crew.taken_in(future, options)
    return await _outcome(future)


async def _outcome(future: Future[T]) -> T:
    """The result. Not `asyncio.wrap_future`: before 3.12 it hangs on a StopIteration."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def tell(_: object) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(done.set)

    future.add_done_callback(tell)
    try:
        await done.wait()
    except asyncio.CancelledError:
        future.cancel()
        raise
    return _result_for_coroutine(future)


def _result_for_coroutine(future: Future[T]) -> T:
    if future.cancelled():
        raise asyncio.CancelledError
    exc = future.exception()
    if isinstance(exc, StopIteration):  # a coroutine that raised it would seem to return
        raise RuntimeError("the task raised StopIteration") from exc  # noqa: TRY004 - as PEP 479
    result: Any = future.result()
    return result  # type: ignore[no-any-return]
