"""What one instance of a component sees of its manager, and what fences it off once replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from typing_extensions import ParamSpec

from threadkit._components._fences import FencedPool, FencedQueue, Promises, Submits, fenced
from threadkit._errors import Superseded
from threadkit._futures import Future
from threadkit._queues import MessageQueue
from threadkit._runtime import Runtime

P = ParamSpec("P")
T = TypeVar("T")


class Superior(Protocol):
    """What a context tells; each is one put into a queue."""

    def post_ready(self, ctx: Context, /) -> None: ...
    def post_failure(self, ctx: Context, exc: BaseException, /) -> None: ...
    def post_end(self, ctx: Context, /) -> None: ...
    def generation_of(self, name: str, /) -> int: ...
    @property
    def idents(self) -> set[int]: ...


class Context:
    """What one instance of a component is told by its manager, and tells it.

    A thread cannot be killed. When a component is replaced, the context of the old instance is
    superseded: whatever passes through it raises `Superseded` from then on, so an instance that
    hung and comes back cannot disturb its successor.

    Thread safety: all methods may be called from any thread.

    Attributes:
        name: The component's name.
        generation: How many instances there were, this one included.
        stop_by: The monotonic instant by which it should have stopped; None before it is asked.
        final: Whether no instance will follow; known once it is asked to stop.
    """

    def __init__(self, name: str, generation: int, superior: Superior, runtime: Runtime) -> None:
        self.name = name
        self.generation = generation
        self.stop_by: float | None = None
        self.final = True
        self._superior = superior
        self._monotonic = runtime.monotonic
        self._stopping = runtime.event()
        self._settled = runtime.event()  # ready, ended, or not wanted any more
        self._when_stopping: Callable[[], object] | None = None
        self._superseded = False
        self._beat: tuple[float, str | None] = (runtime.monotonic(), None)
        self._runtime = runtime
        self._making = runtime.lock()  # guards the making of what follows
        self._promises: Promises | None = None
        self._queues: dict[MessageQueue[Any], FencedQueue[Any]] = {}

    @property
    def stopping(self) -> bool:
        """True once this instance was asked to stop."""
        return self._stopping.is_set()

    def sleep(self, seconds: float) -> bool:
        """Wait for `seconds`, or until asked to stop. True means: go on.

        Blocks: for at most `seconds`.
        """
        return not self.wait_stopping(seconds)

    def wait_stopping(self, timeout: float | None = None) -> bool:
        """Wait until asked to stop; whether that was within `timeout` seconds.

        Blocks: up to `timeout`.
        """
        longest = None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        return self._stopping.wait(longest)

    def ready(self) -> None:
        """Say that this instance is ready, where `start` has not returned yet."""
        self._settled.set()
        self._superior.post_ready(self)

    def beat(self, label: str | None = None) -> None:
        """Say that this instance is alive, and what it is at. Feeds its watchdog.

        Raises:
            Superseded: This instance was replaced.
        """
        self._beat = (self._monotonic(), label)
        self.check()

    def fail(self, exc: BaseException) -> None:
        """Say that this instance cannot go on: it is stopped, and restarted by its rule."""
        self._superior.post_failure(self, exc)

    def check(self) -> None:
        """Make sure this instance was not replaced.

        Raises:
            Superseded: It was.
        """
        if self._superseded:
            current = self._superior.generation_of(self.name)
            raise Superseded(component=self.name, generation=self.generation, current=current)

    def queue(self, queue: MessageQueue[T]) -> FencedQueue[T]:
        """The putting end of `queue`, which raises `Superseded` once this instance was replaced.

        A put that waits for room when that happens raises it, too.
        """
        with self._making:
            fenced_queue = self._queues.get(queue)
            if fenced_queue is None:
                fenced_queue = self._queues[queue] = FencedQueue(queue, self.check)
        return fenced_queue

    def fence(self, fn: Callable[P, T]) -> Callable[P, T]:
        """`fn` that raises `Superseded` if this instance was replaced before or while it ran.

        For what runs on other threads in this instance's name: tasks, timers, callbacks.
        """
        return fenced(self.check, fn)

    def pool(self, pool: Submits) -> FencedPool:
        """A pool, or any executor, each of whose tasks goes through `fence`."""
        return FencedPool(pool, self.check)

    def future(self) -> Future[Any]:
        """A future that this instance completes, with `set_result` or `set_exception`.

        Once this instance was replaced or has stopped, both raise `Superseded`, and so does the
        future if it had not ended: nobody waits for ever for what will not come.

        Raises:
            Superseded: It was already.
        """
        with self._making:
            if self._promises is None:
                self._promises = Promises(self.check, self._runtime)
            promises = self._promises
        return promises.make()

    @property
    def last_beat(self) -> tuple[float, str | None]:
        """The monotonic instant and label of the last `beat`, or of the instance's creation."""
        return self._beat

    def ask_to_stop(self, stop_by: float, *, final: bool) -> None:
        """For the manager: let `stopping` be true from now on."""
        self.stop_by = stop_by
        self.final = final
        self._leave()

    def when_stopping(self, tell: Callable[[], object]) -> None:
        """For groups: call what must not block once `stopping` is true, perhaps more than once."""
        self._when_stopping = tell
        if self.stopping:
            tell()

    def _leave(self) -> None:
        self._stopping.set()
        self._settled.set()
        tell = self._when_stopping
        if tell is not None:
            tell()

    def supersede(self) -> None:
        """For the manager: fence this instance off."""
        self._superseded = True
        self._leave()
        with self._making:
            queues, promises = list(self._queues.values()), self._promises
        for queue in queues:
            queue.release()
        broken = [] if promises is None else promises.open_ones()
        if promises is not None and broken:
            # On a thread of its own, for callbacks of futures are the users' code.
            name = f"{self.name}-superseded"
            thread = self._runtime.thread(promises.end, name=name, args=(broken,), daemon=True)
            try:
                thread.start()
            except RuntimeError:  # none to be had: better here than that somebody waits for ever
                promises.end(broken)

    @property
    def is_settled(self) -> bool:
        """For services: whether `wait_settled` is over."""
        return self._settled.is_set()

    def settle(self) -> None:
        """For services: it has ended."""
        self._settled.set()

    def wait_settled(self) -> None:
        """For services: wait until it is ready, has ended, or is not wanted any more."""
        self._settled.wait()

    @property
    def thread_idents(self) -> set[int]:
        """For services: the threads that run code of components."""
        return self._superior.idents

    def end(self) -> None:
        """For services: the function has returned."""
        self._superior.post_end(self)

    def __repr__(self) -> str:
        state = "superseded" if self._superseded else "stopping" if self.stopping else "current"
        return f"<Context of {self.name}, generation {self.generation}: {state}>"
