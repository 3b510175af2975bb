"""Looks at the parts of a bot, at a bounded rate, and puts together what there is to see."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from livebot.controls import Controls
from livebot.history import History
from livebot.ledger import Entry, Ledger, Passage, Stage
from livebot.speaking import Speaking
from livebot.speech import SpeechStatistics
from livebot.view import (
    NAME_LIMIT,
    CacheView,
    ErrorView,
    EventView,
    PoolView,
    ResourceView,
    Snapshot,
    SpeakingView,
    StageView,
    View,
    event_view,
    shown,
)
from threadkit import (
    REAL,
    ComponentManager,
    ErrorLog,
    FailureGroup,
    Histogram,
    MessageQueue,
    ResourceLevel,
    ResourceMonitor,
    Runtime,
    TieredStatistics,
)

__all__ = ["Viewer"]


class Watched(Protocol):
    """What is looked at in a watch of the monitor."""

    level: ResourceLevel
    seconds_left: float


_AT_LEAST = 0.1  # seconds between two views
_MINUTE = 60.0
_ERRORS = 50  # groups shown


class Viewer:
    """Builds views, at most ten a second however many ask: the others get the last one.

    Thread safety: every method from any thread. Who asks while a view is being built waits for it.

    Args:
        snapshot: Asks the parts what they say of themselves.
        manager: Its pools and components are shown.
        ledger, speaking, errors: Where the rest of the figures comes from.
        messages: The queue before the processing pool.
        monitor: Whose resources are shown; None: none.
        watches: What of them is watched, by metric.
        controls: Whose switches are shown.
        runtime: Clocks and lock.
    """

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        manager: ComponentManager,
        ledger: Ledger,
        speaking: Speaking,
        errors: ErrorLog,
        messages: MessageQueue[Any],
        controls: Controls,
        monitor: ResourceMonitor | None = None,
        watches: Mapping[str, Watched] | None = None,
        runtime: Runtime = REAL,
    ) -> None:
        self._snapshot = snapshot
        self._manager = manager
        self._ledger = ledger
        self._speaking = speaking
        self._errors = errors
        self._messages = messages
        self._controls = controls
        self._monitor = monitor
        self._watches = dict(watches or {})
        self._runtime = runtime
        self._run = secrets.token_hex(8)
        self._stories: dict[str, str] = {}
        self._events_shown: dict[int, EventView] = {}
        self.history = History(self.figures, runtime=runtime)
        for name, pool in manager.pools.items():
            pool.subscribe(self.history.follow(name))
        # Guards the last view, and is held while the next one is built, so that many who ask at
        # once cost one view. It may take other parts' locks inside; none of them takes this one.
        self._lock = runtime.lock()
        self._latest: View | None = None
        self._latest_at = float("-inf")

    def view(self) -> View:
        """All there is to see; at most a tenth of a second old."""
        with self._lock:
            now = self._runtime.monotonic()
            if self._latest is None or now - self._latest_at >= _AT_LEAST:
                self._latest = self._look(now)
                self._latest_at = now
            return self._latest

    def _look(self, now: float) -> View:
        epoch = self._runtime.time() - now
        seen, speaking, controls = self._snapshot(), self._speaking, self._controls
        return View(
            seconds=seen.seconds,
            ledger=seen.ledger,
            source=seen.source,
            player=seen.player,
            speech=seen.speech,
            model=seen.model,
            run=self._run,
            at=epoch + now,
            events=self._events(epoch),
            queued=self._queued(epoch),
            speaking=self._heard(epoch),
            rate=speaking.rate,
            calm_rate=speaking.pace.rate,
            feed=self.history.feed_changes(),
            stages=self._stages(now),
            queues=(self._messages.statistics(), speaking.texts.statistics()),
            pools=self._pools(),
            pool_changes=self.history.pool_changes(),
            cache=self._cache(seen.speech),
            errors=self._error_views(),
            components=self._manager.report(),
            resources=self._resources(),
            templates=controls.templates(),
            blocked=controls.blocked(),
        )

    def _events(self, epoch: float) -> tuple[EventView, ...]:
        """Most have ended, and stay as they were shown."""
        shown_before = self._events_shown
        views: dict[int, EventView] = {}
        for passage in self._ledger.recent():
            view = shown_before.get(passage.number)
            if view is None or view.version != passage.version:
                view = event_view(passage, epoch)
            views[passage.number] = view
        self._events_shown = views
        return tuple(views.values())

    def _queued(self, epoch: float) -> tuple[EventView, ...]:
        def turn(passage: Passage) -> float:  # waiting makes up for rank, as in the queue itself
            return passage.since[Stage.TEXT] + self._speaking.ageing * (passage.priority or 0)

        return tuple(
            event_view(passage, epoch) for passage in sorted(self._ledger.queued(), key=turn)
        )

    def _heard(self, epoch: float) -> SpeakingView | None:
        heard = self._speaking.heard
        if heard is None or heard.first_sound_at is None or not isinstance(heard.tag, Entry):
            return None
        event = heard.tag.event
        return SpeakingView(
            number=heard.tag.number,
            user=shown(event.user.name, NAME_LIMIT) if event.user else "",
            kind=event.kind,
            text=shown(heard.text),
            since=epoch + heard.first_sound_at,
        )

    def _stages(self, now: float) -> tuple[StageView, ...]:
        stays = self._ledger.stays()
        return tuple(
            _stage_view(stage, [spent for at, spent in stays.get(stage, ()) if now - at < _MINUTE])
            for stage in Stage
            if stage is not Stage.ENDED
        )

    def _pools(self) -> tuple[PoolView, ...]:
        views: list[PoolView] = []
        for name, pool in self._manager.pools.items():
            seen = pool.statistics()
            views.append(
                PoolView(
                    name=name,
                    min_workers=seen.min_workers,
                    max_workers=seen.max_workers,
                    wanted=seen.wanted,
                    alive=seen.alive,
                    busy=seen.busy,
                    queued=sum(seen.queued),
                    completed=seen.completed,
                    failed=seen.failed,
                    run_p50=seen.run.p50,
                    run_p95=seen.run.p95,
                )
            )
        return tuple(views)

    def _cache(self, speech: SpeechStatistics) -> CacheView:
        seen = self._speaking.cache.statistics()
        memory = seen.memory if isinstance(seen, TieredStatistics) else seen
        return CacheView(
            speech.cached, speech.synthesized, memory.entries, memory.weight, memory.maxsize
        )

    def _error_views(self) -> tuple[ErrorView, ...]:
        groups = self._errors.groups()
        groups = sorted(groups, key=lambda group: group.last_seen, reverse=True)[:_ERRORS]
        # Telling a story reads source lines; it is told once.
        self._stories = {group.fingerprint: self._story(group) for group in groups}
        return tuple(_error_view(group, self._stories[group.fingerprint]) for group in groups)

    def _story(self, group: FailureGroup) -> str:
        told = self._stories.get(group.fingerprint)
        return group.format() if told is None else told

    def _resources(self) -> tuple[ResourceView, ...]:
        latest = self._monitor.latest if self._monitor else None
        views: list[ResourceView] = []
        for metric, reading in latest.readings.items() if latest else ():
            watch = self._watches.get(metric)
            views.append(
                ResourceView(
                    metric=metric,
                    used=reading.used,
                    limit=reading.limit,
                    level=watch.level.name.lower() if watch else "",
                    seconds_left=_finite(watch.seconds_left) if watch else None,
                )
            )
        return tuple(views)

    def figures(self) -> Mapping[str, float]:
        """What is worth drawing over time, by name."""
        view = self.view()
        found: dict[str, float | None] = {
            "received": view.ledger.received,
            "spoken": view.ledger.spoken,
            "dropped": sum(view.ledger.dropped.values()),
            "cache.hit_ratio": view.cache.hit_ratio,
            "rate": view.rate,
        }
        found |= {f"queue.{queue.name}": queue.waiting for queue in view.queues}
        for pool in view.pools:
            found[f"pool.{pool.name}"] = pool.alive
            found[f"busy.{pool.name}"] = pool.busy
        for stage in view.stages:
            found[f"p50.{stage.stage}"] = stage.p50
            found[f"p95.{stage.stage}"] = stage.p95
        found |= {f"used.{resource.metric}": resource.used for resource in view.resources}
        return {name: value for name, value in found.items() if value is not None}


def _stage_view(stage: Stage, spent: list[float]) -> StageView:
    seconds = Histogram.of(spent)
    return StageView(
        stage=stage.name.lower(),
        count=len(spent),
        p50=seconds.p50 if spent else None,
        p95=seconds.p95 if spent else None,
    )


def _error_view(group: FailureGroup, story: str) -> ErrorView:
    return ErrorView(
        fingerprint=group.fingerprint,
        type=group.exception_type,
        message=shown(group.message),
        severity=group.severity.name.lower(),
        count=group.count,
        first_seen=group.first_seen,
        last_seen=group.last_seen,
        component=group.component or "",
        task=shown(group.task or "", 80),
        story=story,
    )


def _finite(seconds: float) -> float | None:
    return seconds if seconds != float("inf") else None
