"""The interpreter's last resorts, chained: what nobody catches still reaches the log."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

_IGNORED = (SystemExit, KeyboardInterrupt, GeneratorExit)  # ends that somebody asked for

Hook: TypeAlias = "Callable[..., Any]"


class Record(Protocol):
    """`ErrorLog.record`, as the hooks call it."""

    def __call__(
        self, exc: BaseException, *, component: str | None = None, task: str | None = None
    ) -> str: ...


class _Link:
    """Our hook in somebody's place: tells, then calls what was there before.

    When another hook was put on top meanwhile, a link cannot be taken out of its chain. It is
    then switched off, and left out by whichever link of ours is undone after it.
    """

    def __init__(
        self,
        tell: Callable[..., None],
        get: Callable[[], Hook | None],
        put: Callable[[Hook | None], None],
        default: Hook | None = None,
    ) -> None:
        self._tell = tell
        self._get = get
        self._put = put
        self._default = default  # what stands for None in this place
        self._previous = get()
        self._active = True
        put(self)

    def __call__(self, *args: Any) -> None:
        try:
            if self._active:
                self._tell(*args)
        finally:
            previous = self._previous or self._default
            if previous is not None:
                previous(*args)

    def undo(self) -> None:
        """Stop telling; put back what was there before, if nobody is on top."""
        self._active = False
        standing: object = self._get()
        if standing is not self:
            return
        previous = self._previous
        while isinstance(previous, _Link) and not previous._active:  # noqa: SLF001 - same class
            previous = previous._previous  # noqa: SLF001
        self._put(previous)


class Hooks:
    """Every place in which a log's hooks stand. Used under that log's lock."""

    def __init__(self) -> None:
        self._process: list[_Link] = []
        self._loops: list[tuple[asyncio.AbstractEventLoop, _Link]] = []

    def install(self, record: Record, loop: asyncio.AbstractEventLoop | None) -> None:
        """Hook the process, and `loop` if there is one; a place that is hooked is left alone."""
        if not self._process:
            self._process = [
                _attribute_link(_thread_teller(record), threading, "excepthook"),
                _attribute_link(_main_teller(record), sys, "excepthook"),
                _attribute_link(_unraisable_teller(record), sys, "unraisablehook"),
            ]
        self._loops = [(known, link) for known, link in self._loops if not known.is_closed()]
        if loop is not None and all(known is not loop for known, _ in self._loops):
            link = _Link(
                _loop_teller(record),
                loop.get_exception_handler,
                loop.set_exception_handler,
                _handle_by_default,
            )
            self._loops.append((loop, link))

    def uninstall(self) -> None:
        for link in [*self._process, *(link for _, link in self._loops)]:
            link.undo()
        self._process = []
        self._loops = []


def _attribute_link(tell: Callable[..., None], owner: object, name: str) -> _Link:
    return _Link(tell, lambda: getattr(owner, name), lambda hook: setattr(owner, name, hook))


def _thread_teller(record: Record) -> Callable[..., None]:
    def tell(args: threading.ExceptHookArgs) -> None:
        exc = _present(args.exc_type, args.exc_value)
        if not isinstance(exc, _IGNORED):
            record(exc, component=args.thread.name if args.thread is not None else None)

    return tell


def _main_teller(record: Record) -> Callable[..., None]:
    def tell(exc_type: type[BaseException], exc: BaseException | None, _traceback: object) -> None:
        exc = _present(exc_type, exc)
        if not isinstance(exc, _IGNORED):
            record(exc, component=threading.current_thread().name)

    return tell


def _unraisable_teller(record: Record) -> Callable[..., None]:
    def tell(args: sys.UnraisableHookArgs) -> None:
        exc = _present(args.exc_type, args.exc_value)
        if not isinstance(exc, _IGNORED):
            # The object itself is not kept: it may be in the middle of being destroyed.
            name = getattr(args.object, "__qualname__", type(args.object).__qualname__)
            record(exc, task=f"{args.err_msg or 'Exception ignored in'}: {name}")

    return tell


def _loop_teller(record: Record) -> Callable[..., None]:
    def tell(_loop: object, context: dict[str, Any]) -> None:
        message = context.get("message", "Unhandled exception in event loop")
        exc = context.get("exception") or RuntimeError(message)
        if not isinstance(exc, (*_IGNORED, asyncio.CancelledError)):
            record(exc, component="asyncio", task=message)

    return tell


def _handle_by_default(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    loop.default_exception_handler(context)


def _present(exc_type: type[BaseException], exc: BaseException | None) -> BaseException:
    """The exception; the interpreter may leave it out when memory is short."""
    return exc if exc is not None else exc_type.__new__(exc_type)
