"""ComponentManager: the door to supervision."""

from __future__ import annotations

import logging
import signal
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import inf
from typing import Any, get_args

from typing_extensions import Self

from threadkit._cache import TTLCache
from threadkit._components._context import Context
from threadkit._components._events import ComponentEvent, EventFeed, Listener
from threadkit._components._exit import forgotten
from threadkit._components._graph import closure, plan_order
from threadkit._components._handle import Handle
from threadkit._components._journal import Journal
from threadkit._components._parts import (
    CachePart,
    GroupPart,
    PoolPart,
    QueuePart,
    Service,
    maker_of,
)
from threadkit._components._registry import Registry
from threadkit._components._reports import ManagerReport, unfinished
from threadkit._components._requests import Requests
from threadkit._components._resources import Resources
from threadkit._components._rules import (
    Backoff,
    Component,
    Intensity,
    OnExhausted,
    Options,
    Probe,
    RestartRule,
    Scope,
    check_choice,
    check_seconds,
)
from threadkit._components._supervisor import StartRound, Supervisor
from threadkit._errors import LifecycleError, StartupError
from threadkit._failures import ErrorLog
from threadkit._monitor import Governor, ResourceMonitor, Watchdog
from threadkit._pool import DynamicThreadPool
from threadkit._queues import MessageQueue
from threadkit._runtime import REAL, Runtime

logger = logging.getLogger("threadkit.components")

_LAST_RESORT = 5.0  # seconds beyond its budget after which a stop is not waited for; far above need
_OWN_SHARE = 0.9  # of a group's time is for its parts; in the rest it asks those it waited for
_LISTENER_GRACE = 1.0  # seconds listeners may hold up the end of a stop


class ComponentManager:
    """Owns components: starts them in dependency order, watches, restarts and stops them.

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

    States: see `ComponentState`. A component starts as soon as all it needs are ready, beside
    others; it stops as soon as all that need it have. One that fails while the manager starts
    takes back all that was started. One that fails later is restarted by its rule, after a delay
    that grows; more restarts than `intensity` allows are the manager's failure.

    Thread safety: `add` and its kin before `start`; every other method from any thread. All
    decisions are made by one thread, which sleeps while nothing happens; components are called
    on threads of their own, so that one that hangs holds up nobody else.

    Lifetime: `start`, then `stop`; then it may be started again, unless it owns pools or queues,
    which do not open again. `with` does both. A manager that is dropped while it runs warns and
    stops; one that runs at interpreter exit is stopped within 5 s.

    Args:
        name: Names the manager in reports and errors, and its threads.
        intensity: How many restarts it puts up with.
        on_exhausted: What more of them mean. "escalate": the manager stops; as part of another it
            has failed there, and is restarted by its rule there; `run` ends with exit code 1.
            "stop_group": the same without telling the outer manager. "give_up": only the component
            stays down.
        errors: Where failures are recorded; by default the logger `threadkit.components`.
        monitor: Runs while the manager does; `threadkit.integrations` tell of its readings.
        governor: Adjusts the pools and bounded caches made here and in groups by the samples of
            its monitor, but not while the manager starts or stops; then each has its own size.
        watchdog: Reports tasks of those pools that run too long, with label and stack.
        runtime: Where clock, locks and threads come from.

    Raises:
        ValueError: `on_exhausted` is none of these, or `governor` goes by another monitor.
    """

    def __init__(
        self,
        name: str = "app",
        *,
        intensity: Intensity = Intensity(),  # noqa: B008 - frozen
        on_exhausted: OnExhausted = "escalate",
        errors: ErrorLog | None = None,
        monitor: ResourceMonitor | None = None,
        governor: Governor | None = None,
        watchdog: Watchdog | None = None,
        runtime: Runtime = REAL,
    ) -> None:
        check_choice("on_exhausted", on_exhausted, get_args(OnExhausted))
        self.name = name
        self._errors = errors
        self._runtime = runtime
        self._requests = Requests(runtime)
        self._feed = EventFeed(name, runtime)
        self._registry = Registry()
        self._resources = Resources(
            name, self._registry, monitor=monitor, governor=governor, watchdog=watchdog
        )
        self._journal = Journal(name, errors=errors, feed=self._feed, runtime=runtime)
        self._supervisor = Supervisor(
            name,
            intensity=intensity,
            on_exhausted=on_exhausted,
            journal=self._journal,
            resources=self._resources,
            runtime=runtime,
        )
        # Guards starting against starting and adding; held while the graph is checked.
        self._lock = runtime.lock()
        weakref.finalize(self, forgotten, name, self._supervisor).atexit = False

    # -- building ---------------------------------------------------------------------------

    def add(
        self,
        name: str,
        component: Component | Callable[[], Component] | ComponentManager,
        *,
        needs: Iterable[str] = (),
        start_timeout: float = 10.0,
        stop_timeout: float = 10.0,
        restart: RestartRule = "transient",
        scope: Scope = "one",
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        essential: bool = False,
        watchdog: float | None = None,
        probe: Probe = Probe(),  # noqa: B008 - frozen
    ) -> Handle:
        """Put a component under this manager.

        Args:
            name: Unique among the manager's components.
            component: Anything with `start(ctx)` and `stop(ctx)`; or a class or function that
                makes one, which is called for each instance; or another manager.
            needs: Names of components that must be ready before this one starts.
            start_timeout: Seconds it may take to start. Should it start later, it is stopped.
            stop_timeout: Seconds it may take to drain and stop before it is abandoned.
            restart: "transient" after a failure, "permanent" also when it has ended by itself,
                "temporary" never.
            scope: What a restart takes along: "one", its "dependents", the whole "group".
            backoff: How long it waits for a restart.
            essential: Whether the whole manager stops when it is given up.
            watchdog: Seconds without `ctx.beat()` after which it has failed; None: any time.
            probe: How often its `health()` is asked, if it has one.

        Raises:
            ValueError: The name is taken, a duration is out of range, a word is not known.
            TypeError: The component has no start or no stop.
            RuntimeError: The manager is running.
        """
        if isinstance(component, ComponentManager):
            return self._add_group(
                name, component, needs=needs, start_timeout=start_timeout,
                stop_timeout=stop_timeout, restart=restart, scope=scope, backoff=backoff,
                essential=essential, watchdog=watchdog, probe=probe,
            )  # fmt: skip
        options = Options(
            start_timeout, stop_timeout, restart, scope, backoff, essential, watchdog, probe
        )
        options.check(name)
        if not isinstance(name, str) or not name:
            raise TypeError(f"name must be a text that is not empty, not {name!r}")
        if isinstance(needs, str):
            raise TypeError(f"needs of {name!r} must be several names, not the text {needs!r}")
        handle = Handle(name, maker_of(name, component), tuple(needs), options)
        with self._lock:
            handles = self._supervisor.handles
            if not self._supervisor.is_over:
                raise RuntimeError(f"{self.name} was started: add {name!r} before start()")
            if name in handles:
                raise ValueError(f"{self.name} has a component named {name!r} already")
            handles[name] = handle
        return handle

    def service(
        self,
        name: str,
        fn: Callable[[Context], object],
        *,
        says_ready: bool = False,
        **options: Any,
    ) -> Handle:
        """Put a function under this manager, which runs it on a thread of its own.

        It should return soon after `ctx.stopping` becomes true; `ctx.sleep` and
        `ctx.wait_stopping` wake for that. What it raises is its failure; when it returns by
        itself it has ended, and what needs it goes on.

        Args:
            name: As in `add`; the thread's name is made of it.
            fn: Called with the context, once for each instance.
            says_ready: Whether it calls `ctx.ready()` when it is ready; by default it is at once.
            options: As in `add`.
        """
        if not callable(fn):
            raise TypeError(f"fn of {name!r} must be a function of the context, not {fn!r}")
        thread = f"{self.name}-{name}"

        def make() -> Component:
            return Service(thread, fn, says_ready=says_ready, runtime=self._runtime)

        return self.add(name, make, **options)

    def pool(
        self,
        name: str,
        *,
        needs: Iterable[str] = (),
        stop_timeout: float = 5.0,
        **options: Any,
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
        part = PoolPart(pool, self._runtime)
        self.add(name, part, needs=needs, stop_timeout=stop_timeout)
        self._registry.own_pools[name] = pool
        return pool

    def cache(self, name: str, *, needs: Iterable[str] = (), **options: Any) -> TTLCache[Any, Any]:
        """Make a `TTLCache` that this manager knows of.

        Args:
            name: The component's and the cache's name.
            needs: As in `add`.
            options: Passed on to `TTLCache`.
        """
        cache: TTLCache[Any, Any] = TTLCache(name=name, runtime=self._runtime, **options)
        self.add(name, CachePart(cache), needs=needs)
        self._registry.own_caches[name] = cache
        return cache

    def queue(self, name: str, *, needs: Iterable[str] = (), **options: Any) -> MessageQueue[Any]:
        """Make a `MessageQueue` that this manager knows of, and closes when it stops for good.

        Let all that put and take need it: it is closed after they have stopped.

        Args:
            name: The component's and the queue's name.
            needs: As in `add`.
            options: Passed on to `MessageQueue`.
        """
        queue: MessageQueue[Any] = MessageQueue(name=name, runtime=self._runtime, **options)
        self.add(name, QueuePart(queue), needs=needs)
        self._registry.own_queues[name] = queue
        return queue

    def group(
        self,
        name: str,
        *,
        intensity: Intensity = Intensity(),  # noqa: B008 - frozen
        on_exhausted: OnExhausted = "escalate",
        **options: Any,
    ) -> ComponentManager:
        """Make a manager inside this one: a component here, with components of its own.

        Args:
            name: Its name here.
            intensity: How many restarts the group puts up with by itself.
            on_exhausted: What more of them mean.
            options: As in `add`.
        """
        group = ComponentManager(
            f"{self.name}/{name}",
            intensity=intensity,
            on_exhausted=on_exhausted,
            errors=self._errors,
            runtime=self._runtime,
        )
        self.add(name, group, **options)
        return group

    def _add_group(self, name: str, group: ComponentManager, **options: Any) -> Handle:
        group._feed.check_outer(self._feed)
        handle = self.add(name, GroupPart(group), **options)
        group._feed.forward_to(self._feed, name)
        self._registry.groups[name] = group._registry
        return handle

    @property
    def monitor(self) -> ResourceMonitor | None:
        """The monitor that runs while this manager does."""
        return self._resources.monitor

    @property
    def governor(self) -> Governor | None:
        """What adjusts the pools and caches of this manager."""
        return self._resources.governor

    @property
    def errors(self) -> ErrorLog | None:
        """Where failures are recorded."""
        return self._errors

    @property
    def pools(self) -> Mapping[str, DynamicThreadPool]:
        """The pools made here and in groups, by name; those of groups as `group/name`."""
        return self._registry.pools

    @property
    def caches(self) -> Mapping[str, TTLCache[Any, Any]]:
        """The caches made here and in groups, by name; those of groups as `group/name`."""
        return self._registry.caches

    @property
    def queues(self) -> Mapping[str, MessageQueue[Any]]:
        """The queues made here and in groups, by name; those of groups as `group/name`."""
        return self._registry.queues

    # -- starting and stopping --------------------------------------------------------------

    def start(self, timeout: float | None = None, only: Collection[str] = ()) -> None:
        """Start every component, each as soon as all it needs are ready.

        Args:
            timeout: Seconds for all of them together; None: what their own timeouts allow.
            only: Names of those to start, with all they need; by default all.

        Raises:
            DependencyCycle: Components need one another in a circle.
            ValueError: A component needs a name nobody has, or `only` names one.
            RuntimeError: The manager is running already.
            StartupError: Components failed; those already started were stopped again.
            LifecycleError: The manager was stopped meanwhile.

        Blocks: up to `timeout`, and for the time that taking back needs.
        """
        if timeout is not None:
            check_seconds("timeout", timeout, zero=True)
        self._finish_start(self._begin_start(timeout, only))

    def _finish_start(self, round_: StartRound) -> None:
        try:
            self._supervisor.wait_until(lambda: round_.has_ended, None)
        except BaseException:  # a signal handler raised, e.g. KeyboardInterrupt
            self.stop()
            raise
        self._raise_if_failed(round_)

    def _begin_start(self, timeout: float | None = None, only: Collection[str] = ()) -> StartRound:
        supervisor = self._supervisor
        with self._lock:
            if not supervisor.is_over:
                raise RuntimeError(f"{self.name} was started already")
            needs = {name: handle.needs for name, handle in supervisor.handles.items()}
            order = plan_order(self.name, needs)
            for name in only:
                if name not in needs:
                    raise ValueError(f"{self.name} has no component named {name!r}")
            wanted = closure(only, needs) if only else order
            supervisor.join()  # the thread of the run before has nothing left to do
            self._feed.open()
            try:
                self._resources.begin()
                return supervisor.begin_start(order, wanted, timeout)
            except BaseException:
                self._resources.end(_LISTENER_GRACE)
                raise

    def _raise_if_failed(self, round_: StartRound) -> None:
        if round_.failed:
            self._resources.end(_LISTENER_GRACE)
            self._feed.close(_LISTENER_GRACE)
            raise StartupError.of(self.name, round_.failed) from next(iter(round_.failed.values()))
        if round_.pending:
            raise LifecycleError(f"{self.name} was stopped while it started", component=self.name)

    def stop(self, timeout: float | None = 30.0) -> ManagerReport:
        """Stop every component in reverse order, within one budget. Never raises.

        A component drains first, if it can. One that is not done after its `stop_timeout` is
        abandoned and named in the report, with the line its thread is at. When the budget is
        spent the rest are still asked to stop, in order, but not waited for.

        Called on the thread of one of its components, it only begins the stop and returns, for that
        component has to stop as well.

        Blocks: for at most `timeout` seconds, None: what the components' own allow; and for up to a
        second for each listener that holds the threads that tell of events and take samples.
        """
        return self._stop(inf if timeout is None else timeout, final=True)

    def _stop(self, timeout: float, *, final: bool) -> ManagerReport:
        supervisor = self._supervisor
        if not supervisor.is_over:
            supervisor.begin_stop(max(0.0, timeout), final=final)
            if self._runtime.get_ident() in supervisor.idents:
                return self.report()  # it would wait for the very thread that asks
            # The supervisor is done by then; but if it is not, for a defect of ours, this is.
            supervisor.wait_until(lambda: False, timeout + _LAST_RESORT)
        if supervisor.is_over:
            supervisor.join()  # it has nothing left to do
        self._resources.end(_LISTENER_GRACE)
        if final:
            self._registry.close()
            self._feed.close(_LISTENER_GRACE)
        return self.report()

    def restart(self, name: str, timeout: float | None = None) -> bool:
        """Stop a component and its scope, and start them again; whether it is ready in time.

        Does not count against `intensity`. One that had failed for good or ended starts again.

        Raises:
            ValueError: Nobody has that name.
            RuntimeError: The manager is not running.

        Blocks: up to `timeout` seconds.
        """
        handle = self._handle(name)
        if self._supervisor.is_over:
            raise RuntimeError(f"{self.name} is not running")
        before = handle.generation
        self._supervisor.begin_restart(name)
        return self._supervisor.wait_until(
            lambda: handle.generation > before and handle.is_ready, timeout
        )

    def wait_ready(self, *names: str, timeout: float | None = None) -> bool:
        """Wait until the components named, by default all, are ready; whether they are.

        Raises:
            ValueError: Nobody has one of the names.

        Blocks: up to `timeout` seconds, or until the manager has stopped.
        """
        handles = [self._handle(name) for name in names or self._supervisor.handles]
        return self._supervisor.wait_until(
            lambda: all(handle.is_ready for handle in handles), timeout
        )

    def _handle(self, name: str) -> Handle:
        try:
            return self._supervisor.handles[name]
        except KeyError:
            raise ValueError(f"{self.name} has no component named {name!r}") from None

    # -- looking ----------------------------------------------------------------------------

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every `ComponentEvent` from now on, those of groups too.

        The result ends it.

        Listeners are called in order on a thread of their own; a slow one delays the others, and
        beyond 10,000 waiting events new ones are dropped and counted. What one raises is logged
        and counted.

        Raises:
            TypeError: `listener` is not callable.
        """
        return self._feed.subscribe(listener)

    def history(self) -> tuple[ComponentEvent, ...]:
        """The last 1,000 events, oldest first."""
        return self._feed.history()

    def report(self) -> ManagerReport:
        """Every component's state now."""
        supervisor = self._supervisor
        return self._journal.report(supervisor.handles, supervisor.order, self._runtime.monotonic())

    # -- a program's main -------------------------------------------------------------------

    def request_stop(self) -> None:
        """Make `run` return. Safe to call from any thread and from a signal handler."""
        self._requests.ask()

    def run(
        self,
        signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
        *,
        grace: float = 30.0,
    ) -> int:
        """Start, wait for a signal or `request_stop`, stop. Must run in the main thread.

        A second signal ends the process's patience: `run` returns at once.

        Args:
            signals: What ends the program.
            grace: Seconds that stopping may take.

        Returns:
            The exit code: 0 after an orderly stop, 1 when something was abandoned or the manager
            gave up. One line on the logger `threadkit.components` says why it is 1.

        Raises:
            StartupError: Components failed to start; those already started were stopped again.
        """
        check_seconds("grace", grace, zero=True)
        self._supervisor.on_over = self._requests.tell_over
        try:
            with self._requests.heeding(signals):
                round_ = self._begin_start()
                if self._requests.wait_first():
                    self._supervisor.begin_stop(grace, final=True)
                    self._requests.wait_over()
            gave_up = self._supervisor.failure is not None
            if round_.failed and not (round_.was_stopped or gave_up):
                self._raise_if_failed(round_)
            disorder = self._disorder()
            if disorder:  # logged here, for the error log is closed by now, where it is a part
                logger.error("%s ends with exit code 1: %s", self.name, disorder)
            return 1 if disorder else 0
        finally:
            self._supervisor.on_over = None
            self.stop(0)
            self._requests.forget()

    def _disorder(self) -> str:
        """What was not in order about the end of a run, in words."""
        supervisor, report = self._supervisor, self.report()
        failure = supervisor.failure
        reasons = [] if failure is None else [f"it gave up: {str(failure) or repr(failure)}"]
        if not supervisor.is_over:
            reasons.append(f"told twice to end, it did not wait: {unfinished(report)}")
        elif report.abandoned:
            reasons.append(f"not stopped in time: {unfinished(report)}")
        return "; ".join(reasons)

    # -- as a component ---------------------------------------------------------------------

    def start_as_part(self, ctx: Context, /) -> None:
        """For an outer manager."""
        self._supervisor.escalate = ctx.fail
        round_ = self._begin_start()
        ctx.when_stopping(lambda: self._stop_early(ctx))
        try:
            self._finish_start(round_)
        except LifecycleError:
            if round_.failed or not ctx.stopping:
                raise

    def _stop_early(self, ctx: Context) -> None:
        # One that was replaced without being asked is not stopped for good: its successor may be
        # at work with the same pools.
        final = ctx.final and ctx.stop_by is not None
        self._supervisor.begin_stop(self._left(ctx), final=final)

    def stop_as_part(self, ctx: Context, /) -> None:
        """For an outer manager."""
        report = self._stop(self._left(ctx), final=ctx.final)
        if report.abandoned:
            raise LifecycleError(f"abandoned {', '.join(report.abandoned)}", component=self.name)

    def _left(self, ctx: Context) -> float:
        """Seconds for the stop of all parts, less than the outer manager waits for their end."""
        if ctx.stop_by is None:  # replaced before it was asked: nobody waits
            return inf
        return _OWN_SHARE * max(0.0, ctx.stop_by - self._runtime.monotonic())

    # -- ends -------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        states = [handle.state.value for handle in self._supervisor.handles.values()]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        return f"<ComponentManager {self.name}: {counts or 'empty'}>"
