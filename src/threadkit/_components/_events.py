"""What happened to components, told in order to whoever listens."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from threadkit._components._states import ComponentState
from threadkit._runtime import Runtime, Thread

logger = logging.getLogger("threadkit.components")

_HISTORY = 1000  # events remembered
_BACKLOG = 10_000  # events that wait for slow listeners before new ones are dropped


@dataclass(frozen=True)
class ComponentEvent:
    """A component went from one state to another.

    Attributes:
        at: When, in seconds since the epoch.
        manager: The manager's name.
        component: The component's name.
        generation: Which instance of it.
        before: Where it was.
        after: Where it is.
        reason: Why, in words.
    """

    at: float
    manager: str
    component: str
    generation: int
    before: ComponentState
    after: ComponentState
    reason: str

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.manager}: {self.component} {self.before.value} -> {self.after.value}{why}"


Listener = Callable[[ComponentEvent], object]


class EventFeed:
    """A bounded history, and a thread that tells listeners of each event in order.

    Thread safety: any thread may publish and subscribe. The lock guards the fields below it; it
    is held for bookkeeping, never while a listener runs.

    Lifetime: the thread starts with the first event somebody listens to, and ends with `close`.
    """

    def __init__(self, name: str, runtime: Runtime) -> None:
        self._name = name
        self._runtime = runtime
        self._queue = runtime.simple_queue()
        self._lock = runtime.lock()
        self._history: deque[ComponentEvent] = deque(maxlen=_HISTORY)
        self._listeners: tuple[Listener, ...] = ()
        self._thread: Thread | None = None
        self._dropped = 0
        self._failed = 0

    def publish(self, event: ComponentEvent) -> None:
        """Remember an event and queue it for the listeners."""
        with self._lock:
            self._history.append(event)
            if not self._listeners:
                return
            if self._queue.qsize() >= _BACKLOG:
                self._dropped += 1
                return
            self._queue.put(event)
        self._ensure_thread()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event from now on; the result ends it."""
        if not callable(listener):
            raise TypeError(f"listener must be callable, {listener!r} is not")
        with self._lock:
            self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = tuple(kept for kept in self._listeners if kept is not listener)

        return unsubscribe

    def history(self) -> tuple[ComponentEvent, ...]:
        """The last events, oldest first."""
        with self._lock:
            return tuple(self._history)

    def losses(self) -> tuple[int, int]:
        """Events dropped because listeners were too slow, and calls of listeners that raised."""
        with self._lock:
            return self._dropped, self._failed

    def close(self, timeout: float) -> None:
        """Tell what waits and end the thread, but do not wait longer than `timeout` for it."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            if thread.ident != self._runtime.get_ident():
                thread.join(timeout)

    def _ensure_thread(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            thread = self._runtime.thread(self._run, name=f"{self._name}-events", daemon=True)
            self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # events wait in the queue; the next one tries again
            with self._lock:
                self._thread = None

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception:
                    with self._lock:
                        self._failed += 1
                    logger.exception("%s: a listener raised", self._name)
