"""What lets nothing of an instance through once it was replaced: items, work and promises."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Generator, Hashable
from concurrent.futures import Future as StandardFuture
from concurrent.futures import InvalidStateError
from typing import Any, Generic, Protocol, TypeVar, cast

from typing_extensions import ParamSpec

from threadkit._futures import Future, future_type
from threadkit._queues import MessageQueue
from threadkit._queues._waiters import Attempt, Waiter
from threadkit._runtime import Runtime

P = ParamSpec("P")
T = TypeVar("T")

Check = Callable[[], None]  # raises Superseded once the instance was replaced


def fenced(check: Check, fn: Callable[P, T]) -> Callable[P, T]:
    """`fn` that neither begins nor ends once the instance was replaced."""

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        check()
        value = fn(*args, **kwargs)
        check()
        return value

    return call


class FencedQueue(Generic[T]):
    """The putting end of a MessageQueue, as one instance of a component sees it.

    Every put makes sure, in the moment in which its item enters, that the instance was not
    replaced: whatever its successor puts comes behind it. One that waits for room when the
    instance is replaced ends.

    It is built from the queue's own steps, for only under the queue's lock is there such a moment.

    Thread safety: as the queue's.
    """

    def __init__(self, queue: MessageQueue[T], check: Check) -> None:
        self._queue = queue
        self._check = check
        # Who may stand in line. Its add, discard and copy are atomic, with and without a GIL.
        self._blocked: set[Waiter] = set()

    def put(
        self,
        item: T,
        priority: int = 0,
        *,
        ttl: float | None = None,
        key: Hashable = None,
        timeout: float | None = None,
    ) -> None:
        """`MessageQueue.put`, or Superseded."""
        queue = self._queue
        lifetime = queue._check_put(priority, ttl, timeout)
        with self._attempt(item, priority, lifetime, key) as attempt:
            queue._put_patiently(attempt, timeout)

    def put_nowait(
        self, item: T, priority: int = 0, *, ttl: float | None = None, key: Hashable = None
    ) -> None:
        """`MessageQueue.put_nowait`, or Superseded."""
        self.put(item, priority, ttl=ttl, key=key, timeout=0)

    async def aput(
        self,
        item: T,
        priority: int = 0,
        *,
        ttl: float | None = None,
        key: Hashable = None,
        timeout: float | None = None,
    ) -> None:
        """`MessageQueue.aput`, or Superseded."""
        queue = self._queue
        lifetime = queue._check_put(priority, ttl, timeout)
        with self._attempt(item, priority, lifetime, key) as attempt:
            await queue._aput_patiently(attempt, timeout)

    @contextlib.contextmanager
    def _attempt(
        self, item: T, priority: int, lifetime: float, key: Hashable
    ) -> Generator[Attempt[None]]:
        """What a line repeats. Its waiter is known before it can stand in line."""
        waiters: set[Waiter] = set()

        def attempt(waiter: Waiter | None) -> Any:
            if waiter is not None:
                waiters.add(waiter)
                self._blocked.add(waiter)
            offer = self._queue._offer
            return offer(item, priority, lifetime, key, waiter, guard=self._check)

        try:
            yield attempt
        finally:
            for waiter in waiters:
                self._blocked.discard(waiter)

    def release(self) -> None:
        """For the manager, once the instance was replaced: let those in line look again."""
        line = self._queue._putters
        for waiter in self._blocked.copy():
            line.recall(waiter)


class Submits(Protocol):
    """What is used of an executor, or of a pool seen through options."""

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> StandardFuture[Any]: ...


class FencedPool:
    """A pool as one instance of a component sees it: made by `Context.pool`.

    A task submitted through it ends in Superseded if its instance was replaced before the task
    began, or while it ran: then its result is discarded.

    Thread safety: as the pool's.

    Lifetime: none of its own; the pool stays open.
    """

    def __init__(self, pool: Submits, check: Check) -> None:
        self._pool = pool
        self._check = check

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> StandardFuture[T]:
        """The pool's `submit`.

        Raises:
            Superseded: The instance was replaced.
        """
        self._check()
        return self._pool.submit(fenced(self._check, fn), *args, **kwargs)


class Promises:
    """The futures that one instance is to complete, and nobody else.

    Thread safety: all methods from any thread.
    """

    def __init__(self, check: Check, runtime: Runtime) -> None:
        self._check = check
        self._kind = _fenced_kind(future_type(runtime), check)
        # Guards the set, for bookkeeping. Weak: a future that nobody holds is nobody's to wait for.
        self._lock = runtime.lock()
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()

    def make(self) -> Future[Any]:
        """Another one.

        Raises:
            Superseded: The instance was replaced.
        """
        future = self._kind()
        with self._lock:
            self._check()
            self._futures.add(future)
        return future

    def open_ones(self) -> list[Future[Any]]:
        """Those that have not ended."""
        with self._lock:
            return [future for future in self._futures if not future.done()]

    def end(self, futures: list[Future[Any]]) -> None:
        """End them in Superseded. Their callbacks are called."""
        for future in futures:
            try:
                self._check()
            except Exception as superseded:  # noqa: BLE001 - what it raises is what they end in
                # One may have ended meanwhile, or was cancelled.
                with contextlib.suppress(InvalidStateError):
                    super(self._kind, future).set_exception(superseded)


def _fenced_kind(kind: type[Future[Any]], check: Check) -> type[Future[Any]]:
    class FencedFuture(kind):  # type: ignore[misc, valid-type] # pyright: ignore[reportUntypedBaseClass]
        def __init__(self) -> None:
            Future[Any].__init__(self)  # pools make theirs blank

        def set_result(self, result: Any) -> None:
            with _fence(check):
                super().set_result(result)

        def set_exception(self, exception: BaseException | None) -> None:
            with _fence(check):
                super().set_exception(exception)

    return cast("type[Future[Any]]", FencedFuture)


@contextlib.contextmanager
def _fence(check: Check) -> Generator[None]:
    check()
    try:
        yield
    except InvalidStateError:
        check()  # it was replaced in this moment, and the future ended for that
        raise
