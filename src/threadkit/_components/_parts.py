"""What lets pools, caches, functions and whole managers be components."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from threadkit._cache import TTLCache
from threadkit._components._context import Context
from threadkit._components._reports import ManagerReport
from threadkit._components._rules import Component
from threadkit._errors import Superseded
from threadkit._pool import DynamicThreadPool
from threadkit._queues import MessageQueue
from threadkit._runtime import Runtime, Thread


class PoolPart:
    """A pool: it works from its creation until the manager stops for good."""

    def __init__(self, pool: DynamicThreadPool, runtime: Runtime) -> None:
        self._pool = pool
        self._monotonic = runtime.monotonic

    def start(self, ctx: Context, /) -> None:
        """Nothing to do: threads start with the first tasks."""

    def stop(self, ctx: Context, /) -> None:
        if ctx.final:  # a restart of what needs it leaves its tasks alone
            left = max(0.0, (ctx.stop_by or 0.0) - self._monotonic())
            timeout = min(left, threading.TIMEOUT_MAX)
            self._pool.shutdown(cancel_futures=True, timeout=timeout)

    def figures(self) -> Mapping[str, float]:
        now = self._pool.statistics()
        return {"workers": now.alive, "busy": now.busy, "queued": sum(now.queued)}


class CachePart:
    """A cache: it has nothing to start or stop."""

    def __init__(self, cache: TTLCache[Any, Any]) -> None:
        self._cache = cache

    def start(self, ctx: Context, /) -> None:
        """Nothing to do."""

    def stop(self, ctx: Context, /) -> None:
        """Nothing to do: what it holds may still be of use to whoever stops last."""

    def figures(self) -> Mapping[str, float]:
        now = self._cache.statistics()
        return {"entries": now.entries, "hit_ratio": round(now.hit_ratio, 3)}


class QueuePart:
    """A queue: it is closed once all that need it have stopped for good."""

    def __init__(self, queue: MessageQueue[Any]) -> None:
        self._queue = queue

    def start(self, ctx: Context, /) -> None:
        """Nothing to do."""

    def stop(self, ctx: Context, /) -> None:
        if ctx.final:
            self._queue.close()  # what is left in it may still be taken

    def figures(self) -> Mapping[str, float]:
        now = self._queue.statistics()
        return {"waiting": now.waiting, "dropped": now.dropped}


class Service:
    """A function on a thread of its own, one for each instance."""

    def __init__(
        self,
        name: str,
        fn: Callable[[Context], object],
        *,
        says_ready: bool,
        runtime: Runtime,
    ) -> None:
        self._name = name
        self._fn = fn
        self._says_ready = says_ready
        self._runtime = runtime
        self._thread: Thread | None = None
        self._early: BaseException | None = None  # what it raised before it was ready
        self.ident: int | None = None

    def start(self, ctx: Context, /) -> None:
        self._thread = self._runtime.thread(self._run, name=self._name, args=(ctx,), daemon=True)
        self._thread.start()
        if self._says_ready:
            ctx.wait_settled()
            if self._early is not None:
                raise self._early

    def stop(self, ctx: Context, /) -> None:
        if self._thread is not None:
            self._thread.join()

    def _run(self, ctx: Context) -> None:
        self.ident = self._runtime.get_ident()
        ctx.thread_idents.add(self.ident)
        try:
            self._fn(ctx)
        except Superseded:
            pass  # it found out that it was replaced
        except BaseException as exc:  # noqa: BLE001 - user code; even SystemExit is its failure
            self._failed(ctx, exc)
        else:
            ctx.settle()
            ctx.end()
        finally:
            ctx.thread_idents.discard(self.ident)

    def _failed(self, ctx: Context, exc: BaseException) -> None:
        if self._says_ready and not ctx.is_settled:
            self._early = exc  # raised by start, which waits
            ctx.settle()
        else:
            ctx.fail(exc)


class Group(Protocol):
    """What is needed of a nested manager."""

    def start_as_part(self, ctx: Context, /) -> None: ...
    def stop_as_part(self, ctx: Context, /) -> None: ...
    def report(self) -> ManagerReport: ...


class GroupPart:
    """A manager inside a manager."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def start(self, ctx: Context, /) -> None:
        self.group.start_as_part(ctx)

    def stop(self, ctx: Context, /) -> None:
        self.group.stop_as_part(ctx)


def maker_of(name: str, component: object) -> Callable[[], Component]:
    """A function that gives each instance: the component itself, or what its factory makes.

    Raises:
        TypeError: It is neither a component nor a factory of components.
    """
    if isinstance(component, type) or not (
        hasattr(component, "start") or hasattr(component, "stop")
    ):
        if callable(component):
            factory: Callable[[], object] = component
            return lambda: _checked(name, factory())
        raise TypeError(f"component {name!r} has no start(ctx): {component!r}")
    checked = _checked(name, component)
    return lambda: checked


def _checked(name: str, component: Any) -> Component:
    for verb in ("start", "stop"):
        if not callable(getattr(component, verb, None)):
            raise TypeError(f"component {name!r} has no {verb}(ctx): {component!r}")
    part: Component = component
    return part
