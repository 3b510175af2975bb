"""Governor: changes the sizes of pools and caches, so that together they fit the machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Final, Literal, Protocol

from typing_extensions import Self

from threadkit._errors import report_unraisable
from threadkit._monitor._levels import ResourceLevel, Watch
from threadkit._monitor._monitor import ResourceMonitor, ResourceSample
from threadkit._runtime import REAL, Runtime
from threadkit.sizing._stabiliser import Stabiliser

__all__ = ["Governor", "GovernorEvent", "GovernorStatistics"]


# Pool or cache, its name, its new size, and why.
_Plan = list[tuple[Literal["pool", "cache"], str, float, str]]


class _PoolFigures(Protocol):
    """What is looked at in a pool's statistics."""

    @property
    def min_workers(self) -> int: ...
    @property
    def max_workers(self) -> int: ...
    @property
    def alive(self) -> int: ...
    @property
    def busy(self) -> int: ...
    @property
    def queued(self) -> Sequence[int]: ...


class GovernedPool(Protocol):
    """What is used of a pool."""

    def statistics(self) -> _PoolFigures: ...
    def resize(self, min_workers: int | None = None, max_workers: int | None = None) -> None: ...


class _CacheFigures(Protocol):
    """What is looked at in a cache's statistics."""

    @property
    def weight(self) -> float: ...


class GovernedCache(Protocol):
    """What is used of a cache."""

    def statistics(self) -> _CacheFigures: ...
    @property
    def maxsize(self) -> float: ...
    def resize(self, maxsize: float) -> None: ...


@dataclass(frozen=True)
class GovernorEvent:
    """One change of a size, made or, in a dry run, only planned."""

    at: float
    """When, on the governor's clock."""
    kind: Literal["pool", "cache"]
    """What was changed: a pool's `max_workers` or a cache's `maxsize`."""
    name: str
    """Under which name it was registered."""
    old: float
    """The size before."""
    new: float
    """The size after."""
    reason: str
    """Why, in a few words."""


@dataclass(frozen=True)
class GovernorStatistics:
    """What the governor has done."""

    level: ResourceLevel
    """Where the metric it goes by is."""
    frozen: str | None
    """Why it changes nothing at present; None: it would."""
    ticks: int
    """How often it looked."""
    stale: int
    """How many of these samples were too old to act upon, or older than the one before."""
    changes: int
    """Sizes changed, or planned in a dry run."""
    errors: int
    """Pools, caches and listeners that raised."""
    events: tuple[GovernorEvent, ...]
    """The last changes, oldest first."""


class _Pool:
    def __init__(self, pool: GovernedPool, window: float) -> None:
        self.pool = pool
        self.ceiling = pool.statistics().max_workers  # what its owner gave it
        self.stabiliser = Stabiliser(window)


class _Cache:
    def __init__(self, cache: GovernedCache, floor: float) -> None:
        self.cache = cache
        self.ceiling = cache.maxsize
        self.is_whole = type(self.ceiling) is int
        self.floor = max(1, int(self.ceiling * floor)) if self.is_whole else self.ceiling * floor
        self.is_held = False  # it may not grow since memory became short

    def held(self) -> float:
        """What it holds, and may hold."""
        weight = min(self.cache.maxsize, self.cache.statistics().weight)
        return ceil(weight) if self.is_whole else weight

    def part(self, size: float, step: float) -> float:
        """A step from a size; at least one where sizes are whole."""
        return max(1, int(size * step)) if self.is_whole else size * step


class Governor:
    """Changes sizes by itself, once for each sample of a monitor; nothing else does.

    * CRITICAL: caches give back at most `step` of what they hold a tick, down to their floor; no
      pool may grow.
    * WARN: nothing grows, so a cache may hold what it holds now, or its floor.
    * OK: caches grow back by at most `step` a tick, pools may grow to their ceilings again.
    * Whenever the pools' ceilings exceed `budget` together, each gets a share by what it needs: it
      grows at once, and shrinks only to what it needed most during `window`.

    >>> from threadkit import DynamicThreadPool, Reading, ResourceMonitor, TTLCache
    >>> used = iter([0.5, 0.95])
    >>> monitor = ResourceMonitor(sources={"memory": lambda: Reading(next(used), 1.0)})
    >>> governor = Governor(monitor)
    >>> cache = TTLCache(1000, ttl=60.0)
    >>> for number in range(1000):
    ...     cache.put(number, "answer")
    >>> governor.cache("answers", cache)
    >>> with governor:
    ...     _ = monitor.sample(), monitor.sample()
    ...     cache.maxsize, governor.statistics().events[-1].reason
    (900, 'memory is CRITICAL')
    >>> cache.maxsize
    1000

    It changes nothing while it is frozen, where the metric was not read, and upon a sample that is
    older than `stale` seconds or than the one before: what it would do then answers the past.

    Thread safety: all methods from any thread. Pools, caches and `on_event` are called in the
        thread that samples, without the lock.

    Lifetime: from `start` to `stop`; as a context manager it does both. `stop` gives every pool and
        cache its own size back.

    Args:
        monitor: Whose samples it goes by.
        metric: Which of its metrics is scarce.
        budget: Workers that all pools may have together; None: as many as their ceilings say.
        window: Seconds a pool keeps what it needed.
        step: Largest part of a cache's size to change in one tick.
        stale: Seconds after which a sample is too old; None: three of the monitor's periods.
        dry_run: Only say what it would do.
        on_event: Called with each change.
        warn: Ratio of use to limit from which nothing grows.
        critical: Ratio from which caches shrink.
        clear: Ratio below which all is well again.
        runtime: Clock and locks.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        monitor: ResourceMonitor,
        *,
        metric: str = "memory",
        budget: int | None = None,
        window: float = 60.0,
        step: float = 0.10,
        stale: float | None = None,
        dry_run: bool = False,
        on_event: Callable[[GovernorEvent], object] | None = None,
        warn: float = 0.80,
        critical: float = 0.92,
        clear: float = 0.75,
        runtime: Runtime = REAL,
    ) -> None:
        if budget is not None and budget < 1:
            raise ValueError(f"budget must be None or at least 1 worker, not {budget!r}")
        if not window >= 0:
            raise ValueError(f"window must be at least 0 seconds, not {window!r}")
        if not 0 < step < 1:
            raise ValueError(f"step must be between 0 and 1, not {step!r}")
        if stale is not None and not stale > 0:
            raise ValueError(f"stale must be None or more than 0 seconds, not {stale!r}")
        self.monitor: Final = monitor
        self._stale_after = 3 * monitor.period if stale is None else stale
        self._metric: Final = metric
        self._budget, self._window, self._step = budget, window, step
        self._dry_run = dry_run
        self._on_event = on_event
        self._clock = runtime.monotonic
        # Held for a whole tick, so that two samples are not acted upon at once: pools and caches
        # are resized under it. They take their own locks inside and call nothing back.
        self._ticking = runtime.lock()
        self._active = False  # guarded by it: a sample may still be on its way after `stop`
        # Guards what follows; held for bookkeeping only. Taken after `_ticking`.
        self._lock = runtime.lock()
        self._watch = Watch(metric, warn=warn, critical=critical, clear=clear)
        self._pools: dict[str, _Pool] = {}
        self._caches: dict[str, _Cache] = {}
        self._frozen: dict[str, None] = {}  # reasons in the order they came
        self._sampled_at = -inf  # when the last sample was taken that was looked at
        self._ticks = self._stale = self._changes = self._errors = 0
        self._events: deque[GovernorEvent] = deque(maxlen=100)

    # -- what is governed -----------------------------------------------------------------

    def pool(self, name: str, pool: GovernedPool) -> None:
        """Govern a pool's `max_workers`, never above what it is now.

        Raises:
            ValueError: The name is taken.
        """
        governed = _Pool(pool, self._window)
        with self._lock:
            self._check_name(name)
            self._pools[name] = governed

    def cache(self, name: str, cache: GovernedCache, *, floor: float = 0.1) -> None:
        """Govern a cache's `maxsize`, never above what it is now.

        Args:
            name: What events call it.
            cache: A bounded one.
            floor: Part of its present size below which it is not shrunk.

        Raises:
            ValueError: The name is taken, the cache has no bound, or `floor` is out of its range.
        """
        if not 0 < floor <= 1:
            raise ValueError(f"floor must be more than 0 and at most 1, not {floor!r}")
        if cache.maxsize == inf:
            raise ValueError(f"cache {name!r} has no bound, so there is nothing to govern")
        governed = _Cache(cache, floor)
        with self._lock:
            self._check_name(name)
            self._caches[name] = governed

    @property
    def names(self) -> frozenset[str]:
        """The names of the pools and caches it governs."""
        with self._lock:
            return frozenset({*self._pools, *self._caches})

    def forget(self, name: str) -> None:
        """Govern it no longer, and leave its size as it is. Unknown names are fine."""
        with self._lock:
            self._pools.pop(name, None)
            self._caches.pop(name, None)

    def freeze(self, reason: str) -> None:
        """Change nothing until `thaw`: while a program starts or stops, its figures mislead.

        Freezes of different reasons hold beside one another.
        """
        with self._lock:
            self._frozen[reason] = None

    def thaw(self, reason: str | None = None) -> None:
        """End the freeze of this reason, or all of them."""
        with self._lock:
            if reason is None:
                self._frozen.clear()
            else:
                self._frozen.pop(reason, None)

    # -- lifetime -------------------------------------------------------------------------

    def start(self) -> Self:
        """Act on each sample of the monitor from now on."""
        with self._ticking:
            if not self._active:
                self._active = True
                self.monitor.on_sample(self.tick)
        return self

    def stop(self) -> None:
        """Act no longer, and give every pool and cache its own size back."""
        self.monitor.off_sample(self.tick)
        with self._ticking:
            pools, caches = self._governed()
            self._active = False
            plan: _Plan = []
            for name, pool in pools.items():
                plan.append(("pool", name, pool.ceiling, "the governor stopped"))
            for name, cache in caches.items():
                cache.is_held = False
                plan.append(("cache", name, cache.ceiling, "the governor stopped"))
            events = self._carry_out(plan, pools, caches)
        self._tell(events)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # -- a tick ---------------------------------------------------------------------------

    def tick(self, sample: ResourceSample) -> list[GovernorEvent]:
        """Look at a sample and change what has to change; the monitor calls it with each."""
        with self._ticking:
            if not self._active:
                return []
            with self._lock:
                self._ticks += 1
                if not self._is_fresh_locked(sample):
                    self._stale += 1
                    return []
                reading = sample.readings.get(self._metric)
                if reading is not None:
                    self._watch.update(sample.at, reading)
                if reading is None or self._frozen:
                    return []
                level = self._watch.level
            pools, caches = self._governed()
            plan = self._plan_caches(level, caches) + self._plan_pools(level, sample.at, pools)
            events = self._carry_out(plan, pools, caches)
        self._tell(events)
        return events

    def _is_fresh_locked(self, sample: ResourceSample) -> bool:
        """Two threads may sample at once, and a sample may have waited long for its turn."""
        if sample.at < self._sampled_at or self._clock() - sample.at > self._stale_after:
            return False
        self._sampled_at = sample.at
        return True

    def _governed(self) -> tuple[dict[str, _Pool], dict[str, _Cache]]:
        with self._lock:
            return self._pools.copy(), self._caches.copy()

    def _plan_caches(self, level: ResourceLevel, caches: Mapping[str, _Cache]) -> _Plan:
        plan: _Plan = []
        for name, governed in caches.items():
            size = governed.cache.maxsize
            if level == ResourceLevel.OK:
                wanted = min(governed.ceiling, size + governed.part(size, self._step))
            elif level == ResourceLevel.CRITICAL:
                held = governed.held()
                wanted = max(governed.floor, held - governed.part(held, self._step))
            elif not governed.is_held:
                wanted = max(governed.floor, governed.held())
            else:
                continue  # what expires meanwhile leaves room for others
            governed.is_held = level != ResourceLevel.OK
            plan.append(("cache", name, wanted, f"{self._metric} is {level.name}"))
        return plan

    def _plan_pools(self, level: ResourceLevel, at: float, pools: Mapping[str, _Pool]) -> _Plan:
        figures = {name: governed.pool.statistics() for name, governed in pools.items()}
        needs = {
            name: governed.stabiliser.update(
                at,
                max(
                    figures[name].min_workers,
                    min(governed.ceiling, figures[name].busy + sum(figures[name].queued)),
                ),
            )
            for name, governed in pools.items()
        }
        ceilings = {name: governed.ceiling for name, governed in pools.items()}
        shares = _shares(self._budget, needs, ceilings)
        plan: _Plan = []
        for name, share in shares.items():
            now = figures[name]
            if level == ResourceLevel.OK:
                reason = "its share" if share < ceilings[name] else "room for all"
                plan.append(("pool", name, max(share, now.min_workers), reason))
            else:
                held = max(now.min_workers, min(share, now.max_workers, max(now.alive, 1)))
                plan.append(("pool", name, held, f"{self._metric} is {level.name}"))
        return plan

    def _carry_out(
        self, plan: _Plan, pools: Mapping[str, _Pool], caches: Mapping[str, _Cache]
    ) -> list[GovernorEvent]:
        events: list[GovernorEvent] = []
        for kind, name, new, reason in plan:
            try:
                if kind == "pool":
                    pool = pools[name].pool
                    old: float = pool.statistics().max_workers
                    if old != new and not self._dry_run:
                        pool.resize(max_workers=int(new))
                else:
                    cache = caches[name].cache
                    old = cache.maxsize
                    if old != new and not self._dry_run:
                        cache.resize(new)
            except Exception as exc:  # noqa: BLE001 - one that cannot be resized spares the others
                self._failed(exc, f"the governor could not resize {name}", self)
                continue
            if old != new:
                events.append(GovernorEvent(self._clock(), kind, name, old, new, reason))
        with self._lock:
            self._changes += len(events)
            self._events.extend(events)
        return events

    def _tell(self, events: Sequence[GovernorEvent]) -> None:
        on_event = self._on_event
        if on_event is None:
            return
        for event in events:
            try:
                on_event(event)
            except Exception as exc:  # noqa: BLE001 - a listener must not stop the governor
                self._failed(exc, "the governor's on_event raised", on_event)

    def _failed(self, exc: Exception, message: str, source: object) -> None:
        with self._lock:
            self._errors += 1
        report_unraisable(exc, message, source)

    # -- looking --------------------------------------------------------------------------

    def statistics(self) -> GovernorStatistics:
        """What it has done."""
        with self._lock:
            return GovernorStatistics(
                level=self._watch.level,
                frozen=", ".join(self._frozen) or None,
                ticks=self._ticks,
                stale=self._stale,
                changes=self._changes,
                errors=self._errors,
                events=tuple(self._events),
            )

    def _check_name(self, name: str) -> None:
        if name in self._pools or name in self._caches:
            raise ValueError(f"name {name!r} is taken")


def _shares(
    budget: int | None, needs: Mapping[str, int], ceilings: Mapping[str, int]
) -> Mapping[str, int]:
    """How many workers each pool may have: its ceiling, or a share by its need.

    Everybody gets one, even beyond the budget. If there is enough, everybody gets what it needs,
    and the rest is spread by need; if not, what there is. Rounded by largest remainder.
    """
    if budget is None or sum(ceilings.values()) <= budget:
        return ceilings
    asked = {name: max(1, min(need, ceilings[name])) for name, need in needs.items()}
    enough = sum(asked.values()) <= budget
    shares = asked.copy() if enough else dict.fromkeys(asked, 1)
    weights = asked if enough else {name: need - 1 for name, need in asked.items()}
    left = max(0, budget - sum(shares.values()))
    total = sum(weights.values()) or 1
    exact = {name: left * weight / total for name, weight in weights.items()}
    for name, more in exact.items():
        shares[name] = min(ceilings[name], shares[name] + int(more))
    by_remainder = sorted(exact, key=lambda name: (int(exact[name]) - exact[name], name))
    while (left := budget - sum(shares.values())) > 0:
        for name in [name for name in by_remainder if shares[name] < ceilings[name]][:left]:
            shares[name] += 1
    return shares
