"""What lets nothing of an instance through once it was replaced: its work and its promises."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import Future as StandardFuture
from concurrent.futures import InvalidStateError
from typing import Any, Protocol, TypeVar, cast

from typing_extensions import ParamSpec

from threadkit._futures import Future, future_type
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
