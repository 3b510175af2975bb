"""What happened to components, told in order to whoever listens."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from threadkit._components._states import ComponentState
from threadkit._runtime import Runtime, SimpleQueue, Thread

logger = logging.getLogger("threadkit.components")

_HISTORY = 1000  # events remembered
_BACKLOG = 10_000  # events that wait for slow listeners before new ones are dropped


@dataclass(frozen=True)
class ComponentEvent:
    """A component went from one state to another.

    Attributes:
        at: When, in seconds since the epoch.
        manager: The manager's name.
        component: The component's name; of one in a group, its path: `audio/player`.
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

    What happens in a group is also published by the feed of the manager around it, under the
    path of the component there.

    Thread safety: any thread may publish and subscribe.

    Lifetime: the thread starts with the first event somebody listens to, and ends with `close`;
    from then on events are remembered but not told, until `open`.
    """

    def __init__(self, name: str, runtime: Runtime) -> None:
        self._name = name
        self._runtime = runtime
        self._outer: tuple[EventFeed, str] | None = None
        # Guards the fields below it. Held for bookkeeping and while the thread is started, so that
        # whoever joins it knows whether there is one; never while a listener runs.
        self._lock = runtime.lock()
        self._history: deque[ComponentEvent] = deque(maxlen=_HISTORY)
        self._listeners: tuple[list[Listener], ...] = ()
        self._queue = runtime.simple_queue()  # of the present thread, or of the next
        self._thread: Thread | None = None
        self._is_open = True
        self._dropped = 0
        self._failed = 0

    def check_outer(self, outer: EventFeed) -> None:
        """Refuse what cannot be around this one.

        Raises:
            ValueError: Another feed is already, or this one is around `outer`.
        """
        if self._outer is not None:
            raise ValueError(f"{self._name} is a part of {self._outer[0]._name} already")  # noqa: SLF001 - same class
        around: EventFeed | None = outer
        while around is not None:
            if around is self:
                raise ValueError(f"{self._name} cannot be a part of itself")
            around = around._outer and around._outer[0]  # noqa: SLF001 - same class

    def forward_to(self, outer: EventFeed, group: str) -> None:
        """Let `outer` publish each event too, as one of `group`."""
        self._outer = outer, group

    def publish(self, event: ComponentEvent) -> None:
        """Remember an event and queue it for the listeners."""
        with self._lock:
            self._history.append(event)
            if self._listeners and self._is_open:
                if self._queue.qsize() < _BACKLOG:
                    self._queue.put(event)
                else:
                    self._dropped += 1
                self._ensure_thread_locked()
        if self._outer is not None:
            outer, group = self._outer
            path = f"{group}/{event.component}"
            outer.publish(replace(event, manager=outer._name, component=path))  # noqa: SLF001 - same class

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event from now on; the result ends it."""
        if not callable(listener):
            raise TypeError(f"listener must be callable, {listener!r} is not")
        entry = [listener]  # of its own, for a listener may subscribe twice
        with self._lock:
            self._listeners = (*self._listeners, entry)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = tuple(kept for kept in self._listeners if kept is not entry)

        return unsubscribe

    def history(self) -> tuple[ComponentEvent, ...]:
        """The last events, oldest first."""
        with self._lock:
            return tuple(self._history)

    def losses(self) -> tuple[int, int]:
        """Events dropped because listeners were too slow, and calls of listeners that raised."""
        with self._lock:
            return self._dropped, self._failed

    def open(self) -> None:
        """Tell listeners again."""
        with self._lock:
            self._is_open = True

    def close(self, timeout: float) -> None:
        """Tell what waits and end the thread, but do not wait longer than `timeout` for it."""
        with self._lock:
            self._is_open = False
            thread, self._thread = self._thread, None
            waiting, self._queue = self._queue, self._runtime.simple_queue()
        waiting.put(None)
        if thread is not None and thread.ident != self._runtime.get_ident():
            thread.join(timeout)

    def _ensure_thread_locked(self) -> None:
        if self._thread is None:
            thread = self._runtime.thread(
                self._run, name=f"{self._name}-events", args=(self._queue,), daemon=True
            )
            # Where the system refuses, events wait in the queue and the next one tries again.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def _run(self, events: SimpleQueue) -> None:
        while (event := events.get()) is not None:
            for (listener,) in self._listeners:
                try:
                    listener(event)
                except Exception:
                    with self._lock:
                        self._failed += 1
                    logger.exception("%s: a listener raised", self._name)
