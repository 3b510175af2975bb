"""What became of components, written down: states, failures, reports, and who waits for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping

from threadkit._components._events import ComponentEvent, EventFeed
from threadkit._components._handle import Handle
from threadkit._components._parts import CachePart, GroupPart, PoolPart, QueuePart
from threadkit._components._reports import ComponentReport, ManagerReport
from threadkit._components._states import ComponentState
from threadkit._failures import ErrorLog
from threadkit._runtime import Runtime

logger = logging.getLogger("threadkit.components")


class Journal:
    """The only writer of states, so that nobody who waits for one misses it.

    Thread safety: `move` and `note` run on the supervisor's thread; the rest on any.
    """

    def __init__(
        self, name: str, *, errors: ErrorLog | None, feed: EventFeed, runtime: Runtime
    ) -> None:
        self.name = name
        self.up_count = 0
        self._errors = errors
        self._feed = feed
        self._time = runtime.time
        # Notified after every move; waited on by wait_until. Its lock guards the handles' states
        # for readers who want several of them at one moment; held for one assignment.
        self.changed = runtime.condition(runtime.lock())

    def move(self, handle: Handle, state: ComponentState, reason: str = "") -> None:
        """Take a component to another state, and tell everybody."""
        with self.changed:
            before = handle.move(state)
            self.up_count += state.is_up - before.is_up
            self.changed.notify_all()
        self._feed.publish(
            ComponentEvent(
                self._time(), self.name, handle.name, handle.generation, before, state, reason
            )
        )

    def tell_waiters(self) -> None:
        """Something they may wait for has come, though no state has changed."""
        with self.changed:
            self.changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until `condition` holds; whether it does."""
        with self.changed:
            longest = None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
            return self.changed.wait_for(condition, longest)

    def report(
        self, handles: Mapping[str, Handle], order: Iterable[str], now: float
    ) -> ManagerReport:
        """How everything stands, each after all it needs."""
        with self.changed:
            rows = [
                (handle, handle.state, handle.ready_at)
                for handle in (handles[name] for name in dict.fromkeys([*order, *handles]))
            ]
        return ManagerReport(
            self.name, tuple(_report_of(handle, state, now - at) for handle, state, at in rows)
        )

    def note(self, handle: Handle, exc: BaseException) -> None:
        """A component's last error."""
        handle.error = f"{type(exc).__name__}: {exc}"
        self.record(handle.name, exc)

    def record(self, component: str, exc: BaseException) -> None:
        """Put a failure where failures go."""
        if self._errors is not None:
            self._errors.record(exc, component=component)
        else:
            logger.error("%s: %s failed", self.name, component, exc_info=exc)


_WITH_FIGURES = (PoolPart, CachePart, QueuePart)


def _report_of(handle: Handle, state: ComponentState, uptime: float) -> ComponentReport:
    component, ctx = handle.component, handle.ctx
    return ComponentReport(
        name=handle.name,
        state=state,
        needs=handle.needs,
        uptime=uptime if state in {ComponentState.RUNNING, ComponentState.DEGRADED} else 0.0,
        error=handle.error,
        generation=handle.generation,
        restarts=handle.restarts,
        doing=ctx.last_beat[1] if ctx is not None else None,
        stuck_at=handle.stuck_at,
        figures=component.figures() if isinstance(component, _WITH_FIGURES) else {},
        group=component.group.report() if isinstance(component, GroupPart) else None,
    )
