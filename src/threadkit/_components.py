"""Components and their manager: started in dependency order, stopped in reverse in one budget."""

from __future__ import annotations

import contextlib
import enum
import logging
import queue
import signal
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from typing_extensions import Self

from threadkit._errors import DependencyCycle, StartupError
from threadkit._platform import signal_wait_slice
from threadkit._pool import DynamicThreadPool
from threadkit._runtime import REAL, Runtime, Thread

__all__ = [
    "Component",
    "ComponentManager",
    "ComponentReport",
    "ComponentState",
    "Context",
    "Handle",
    "ManagerReport",
]

logger = logging.getLogger("threadkit")


class ComponentState(enum.Enum):
    """Where a component is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    ABANDONED = "abandoned"


class Component(Protocol):
    """What a manager can own: something that starts and stops."""

    def start(self, ctx: Context, /) -> object:
        """Begin to work and return once ready. An exception means it did not start."""
        ...

    def stop(self, ctx: Context, /) -> object:
        """Stop working and give everything back. Called once, only after start was called."""
        ...


class Context:
    """What a component is told by its manager.

    Thread safety: all methods may be called from any thread.
    """

    def __init__(self, name: str, runtime: Runtime) -> None:
        self.name = name
        self._stopping = runtime.event()

    @property
    def stopping(self) -> bool:
        """True once the component was asked to stop."""
        return self._stopping.is_set()

    def sleep(self, seconds: float) -> bool:
        """Wait for `seconds`, or until asked to stop. True means: go on.

        Blocks: for at most `seconds`.
        """
        return not self._stopping.wait(seconds)

    def _ask_to_stop(self) -> None:
        self._stopping.set()


@dataclass(frozen=True)
class ComponentReport:
    """One component at one moment.

    Attributes:
        name: Its name in the manager.
        state: Where it is in its life.
        needs: Names of what it needs.
        uptime: Seconds since it became ready; 0 when it is not running.
        error: The last thing that went wrong, as text.
    """

    name: str
    state: ComponentState
    needs: tuple[str, ...]
    uptime: float
    error: str | None


@dataclass(frozen=True)
class ManagerReport:
    """All components of a manager at one moment, in the order they were started."""

    name: str
    components: tuple[ComponentReport, ...]

    @property
    def abandoned(self) -> tuple[str, ...]:
        """Names of those that did not stop in time."""
        return tuple(c.name for c in self.components if c.state is ComponentState.ABANDONED)

    def __str__(self) -> str:
        lines = [f"{self.name}:"]
        for part in self.components:
            needs = f" needs {', '.join(part.needs)}" if part.needs else ""
            error = f" ({part.error})" if part.error else ""
            lines.append(f"  {part.name}: {part.state.value} {part.uptime:.1f} s{needs}{error}")
        return "\n".join(lines)


@dataclass(eq=False)
class Handle:
    """A manager's hold on one component: read it, hand it back to the manager."""

    name: str
    component: Component
    needs: tuple[str, ...]
    stop_timeout: float
    context: Context
    state: ComponentState = ComponentState.NEW
    error: str | None = None
    ready_at: float = field(default=0.0, repr=False)


class _PoolComponent:
    """Lets a pool be a component: it works from its creation, and stops within its budget."""

    def __init__(self, pool: DynamicThreadPool, stop_timeout: float) -> None:
        self._pool = pool
        self._stop_timeout = stop_timeout

    def start(self, ctx: Context, /) -> None:
        """Nothing to do: threads start with the first tasks."""

    def stop(self, ctx: Context, /) -> None:
        self._pool.shutdown(cancel_futures=True, timeout=self._stop_timeout)


class ComponentManager:
    """Owns components: starts them in dependency order and stops them in reverse.

    >>> class Microphone:
    ...     def start(self, ctx): print("microphone on")
    ...     def stop(self, ctx): print("microphone off")
    >>> class Recorder:
    ...     def start(self, ctx): print("recording")
    ...     def stop(self, ctx): print("recorded")
    >>> manager = ComponentManager("studio")
    >>> _ = manager.add("recorder", Recorder(), needs=["microphone"])
    >>> _ = manager.add("microphone", Microphone())
    >>> with manager:
    ...     print("on air")
    microphone on
    recording
    on air
    recorded
    microphone off

    Thread safety: `add` and `pool` before `start`; every other method from any thread.

    Lifetime: `start` once, `stop` once; a stopped manager is not started again. `with` does both.

    Args:
        name: Names the manager in reports and errors, and its threads.
        runtime: Where clock, locks and threads come from.
    """

    def __init__(self, name: str = "app", *, runtime: Runtime = REAL) -> None:
        self.name = name
        self._runtime = runtime
        self._requests = runtime.simple_queue()  # signal numbers and None; put is signal-safe
        # Guards the fields below; held for bookkeeping only, never while a component acts.
        self._lock = runtime.lock()
        self._handles: dict[str, Handle] = {}
        self._order: list[Handle] = []
        self._started = False
        self._stopped = False

    def add(
        self,
        name: str,
        component: Component,
        *,
        needs: Iterable[str] = (),
        stop_timeout: float = 10.0,
    ) -> Handle:
        """Put a component under this manager.

        Args:
            name: Unique among the manager's components.
            component: Anything with `start(ctx)` and `stop(ctx)`.
            needs: Names of components that must be running before this one starts.
            stop_timeout: Seconds it may take to stop before it is abandoned.

        Raises:
            ValueError: The name is taken, or the timeout is negative.
            TypeError: The component has no start or no stop.
            RuntimeError: The manager was started already.
        """
        for verb in ("start", "stop"):
            if not callable(getattr(component, verb, None)):
                raise TypeError(f"component {name!r} has no {verb}(ctx): {component!r}")
        if stop_timeout < 0:
            raise ValueError(f"stop_timeout of {name!r} must be 0 or more, not {stop_timeout!r}")
        context = Context(name, self._runtime)
        handle = Handle(name, component, tuple(needs), stop_timeout, context)
        with self._lock:
            if self._started:
                raise RuntimeError(f"{self.name} was started: add {name!r} before start()")
            if name in self._handles:
                raise ValueError(f"{self.name} has a component named {name!r} already")
            self._handles[name] = handle
        return handle

    def pool(
        self, name: str, *, needs: Iterable[str] = (), stop_timeout: float = 5.0, **options: Any
    ) -> DynamicThreadPool:
        """Make a `DynamicThreadPool`, owned and stopped by this manager.

        Args:
            name: The component's name; its threads are named after it too.
            needs: As in `add`.
            stop_timeout: Seconds that running tasks get at the end; queued ones are cancelled.
            options: Passed on to `DynamicThreadPool`.
        """
        options.setdefault("thread_name_prefix", name)
        pool = DynamicThreadPool(runtime=self._runtime, **options)
        component = _PoolComponent(pool, stop_timeout)
        self.add(name, component, needs=needs, stop_timeout=stop_timeout + 1)
        return pool

    def start(self) -> None:
        """Start every component, each after all it needs.

        Raises:
            DependencyCycle: Components need one another in a circle.
            ValueError: A component needs a name nobody has.
            StartupError: A component failed; those already started were stopped again.
        """
        with self._lock:
            if self._started:
                raise RuntimeError(f"{self.name} was started already")
            order = _plan_order(self.name, self._handles)
            self._started = True
        for handle in order:
            self._order.append(handle)
            try:
                self._start_one(handle)
            except Exception as exc:
                self.stop()
                raise StartupError.of(self.name, {handle.name: exc}) from exc
            except BaseException:
                self.stop()
                raise

    def _start_one(self, handle: Handle) -> None:
        handle.state = ComponentState.STARTING
        try:
            handle.component.start(handle.context)
        except BaseException as exc:
            handle.error = f"{type(exc).__name__}: {exc}"
            handle.state = ComponentState.FAILED
            raise
        handle.ready_at = self._runtime.monotonic()
        handle.state = ComponentState.RUNNING

    def stop(self, timeout: float = 30.0) -> ManagerReport:
        """Stop every started component in reverse order, within one budget. Never raises.

        A component that is not done after its `stop_timeout`, or when the budget is spent, is
        abandoned and named in the report; the rest are still asked to stop.

        Blocks: for at most `timeout` seconds.
        """
        with self._lock:
            if self._stopped:
                return self.report()
            self._stopped = True
        deadline = self._runtime.monotonic() + timeout
        for handle in reversed(self._order):
            left = max(0.0, deadline - self._runtime.monotonic())
            self._stop_one(handle, min(left, handle.stop_timeout))
        return self.report()

    def _stop_one(self, handle: Handle, timeout: float) -> None:
        handle.context._ask_to_stop()  # noqa: SLF001 - its own manager
        if handle.state is not ComponentState.RUNNING:
            return
        handle.state = ComponentState.STOPPING
        thread: Thread = self._runtime.thread(
            self._call_stop, name=f"{self.name}-stop-{handle.name}", args=(handle,), daemon=True
        )
        thread.start()
        thread.join(timeout)
        if thread.is_alive():
            handle.state = ComponentState.ABANDONED
            handle.error = f"did not stop within {timeout:g} s"
            logger.error("%s: %s %s", self.name, handle.name, handle.error)

    def _call_stop(self, handle: Handle) -> None:
        try:
            handle.component.stop(handle.context)
        except Exception as exc:  # one part's failure must not keep the others from stopping
            handle.error = f"{type(exc).__name__}: {exc}"
            handle.state = ComponentState.FAILED
            logger.exception("%s: %s failed while stopping", self.name, handle.name)
        else:
            handle.state = ComponentState.STOPPED

    def report(self) -> ManagerReport:
        """Every component's state now."""
        now = self._runtime.monotonic()
        started = list(self._order)
        rest = [handle for handle in self._handles.values() if handle not in started]
        return ManagerReport(
            self.name, tuple(_report_of(handle, now) for handle in [*started, *rest])
        )

    def request_stop(self) -> None:
        """Make `run` return. Safe to call from any thread and from a signal handler."""
        self._requests.put(None)

    def run(
        self,
        signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
        *,
        grace: float = 30.0,
    ) -> int:
        """Start, wait for a signal or `request_stop`, stop. Must run in the main thread.

        A second signal while stopping ends the process's patience: `run` returns at once.

        Args:
            signals: What ends the program.
            grace: Seconds that stopping may take.

        Returns:
            The exit code: 0 after an orderly stop, 1 when something was abandoned.
        """
        previous = {number: signal.signal(number, self._on_signal) for number in signals}
        try:
            self.start()
            self._wait_for_request()
            stopper = threading.Thread(target=self._stop_and_tell, args=(grace,), daemon=True)
            stopper.start()
            self._wait_for_request()
            return 1 if stopper.is_alive() or self.report().abandoned else 0
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self.stop(0)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._requests.put(number)  # the only thing a handler may do: Event.set can deadlock here

    def _wait_for_request(self) -> None:
        wait = signal_wait_slice()
        while True:
            with contextlib.suppress(queue.Empty):
                self._requests.get(timeout=wait)
                return

    def _stop_and_tell(self, grace: float) -> None:
        self.stop(grace)
        self._requests.put(None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def _report_of(handle: Handle, now: float) -> ComponentReport:
    running = handle.state is ComponentState.RUNNING
    uptime = now - handle.ready_at if running else 0.0
    return ComponentReport(handle.name, handle.state, handle.needs, uptime, handle.error)


def _plan_order(manager: str, handles: dict[str, Handle]) -> list[Handle]:
    """Depth-first topological order: what is needed comes before what needs it."""
    order: list[Handle] = []
    placed: set[str] = set()

    def place(name: str, path: list[str]) -> None:
        if name in path:
            raise DependencyCycle(component=manager, cycle=[*path[path.index(name) :], name])
        if name in placed:
            return
        for need in handles[name].needs:
            if need not in handles:
                raise ValueError(f"{manager}: component {name!r} needs {need!r}, which is unknown")
            place(need, [*path, name])
        placed.add(name)
        order.append(handles[name])

    for name in handles:
        place(name, [])
    return order
