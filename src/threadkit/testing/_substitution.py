"""Putting code that knows no runtime on a simulated one."""

from __future__ import annotations

import contextlib
import importlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threadkit.testing._simruntime import SimRuntime

__all__ = ["substituted"]


class _StandIn:
    """A module of which some names are replaced."""

    def __init__(self, real: ModuleType, **replaced: Any) -> None:
        self._real = real
        vars(self).update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@contextlib.contextmanager
def substituted(runtime: SimRuntime, modules: Iterable[str | ModuleType]) -> Generator[None]:
    """Replace the globals `threading`, `time` and `queue` of `modules` meanwhile."""
    stand_ins = _stand_ins(runtime)
    undo: list[Callable[[], None]] = []
    try:
        for named in modules:
            module = importlib.import_module(named) if isinstance(named, str) else named
            found = [name for name in stand_ins if name in vars(module)]
            if not found:
                raise ValueError(f"{module.__name__} has no global {' or '.join(stand_ins)}")
            for name in found:
                undo.append(_restorer(module, name))
                setattr(module, name, stand_ins[name])
        yield
    finally:
        for restore in reversed(undo):
            restore()


def _restorer(module: ModuleType, name: str) -> Callable[[], None]:
    before = getattr(module, name)
    return lambda: setattr(module, name, before)


def _stand_ins(runtime: SimRuntime) -> dict[str, _StandIn]:
    def thread(
        group: None = None,
        target: Callable[..., object] = lambda: None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> threading.Thread:
        if group is not None:
            raise ValueError("group must be None")
        return runtime.thread(target, name=name, args=args, kwargs=kwargs, daemon=daemon)

    return {
        "threading": _StandIn(
            threading,
            Lock=runtime.lock,
            RLock=runtime.rlock,
            Condition=runtime.condition,
            Event=runtime.event,
            Thread=thread,
            get_ident=runtime.get_ident,
        ),
        "time": _StandIn(
            time,
            monotonic=runtime.monotonic,
            perf_counter=runtime.monotonic,
            time=runtime.time,
            sleep=runtime.sleep,
            thread_time=runtime.thread_time,
        ),
        "queue": _StandIn(queue, SimpleQueue=runtime.simple_queue),
    }
