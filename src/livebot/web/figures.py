"""What machines ask: /metrics for Prometheus, /health for whoever restarts what is not well."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from livebot.app import LiveBot
from livebot.sources import FeedState
from livebot.view import View
from threadkit import ComponentReport, ComponentState, Histogram, ManagerReport
from threadkit.integrations.prometheus import ManagerCollector

__all__ = ["mount"]

_WELL = {ComponentState.RUNNING, ComponentState.STOPPED}  # one that stopped by itself was done


def mount(app: FastAPI, bot: LiveBot, refused: Callable[[], Mapping[str, int]]) -> None:
    """Add /metrics and /health."""
    registry = CollectorRegistry(auto_describe=False)
    parts = ManagerCollector(
        bot.manager, queues=bot.queues, errors=bot.errors, monitor=bot.resources.monitor
    )
    registry.register(parts)
    registry.register(_BotCollector(bot.view, refused))

    @app.get("/metrics")
    async def metrics() -> Response:
        """Everything that can be counted, for Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/health")
    async def health() -> JSONResponse:
        """200 while every component is well, else 503 and which are not."""
        reasons = dict(_unwell(bot.manager.report()))
        return JSONResponse({"healthy": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _unwell(report: ManagerReport, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every component that is not as it should be, and why."""
    for part in report.components:
        if part.state not in _WELL or _stopped_badly(part):
            yield prefix + part.name, ": ".join(filter(None, (part.state.value, part.error)))
        elif part.group is not None:
            yield from _unwell(part.group, f"{prefix}{part.name}/")


def _stopped_badly(part: ComponentReport) -> bool:
    return part.state is ComponentState.STOPPED and part.error is not None


class _BotCollector(Collector):
    """The bot's own figures, read from one view at each scrape."""

    def __init__(self, look: Callable[[], View], refused: Callable[[], Mapping[str, int]]) -> None:
        self._look = look
        self._refused = refused

    def collect(self) -> Iterable[Metric]:
        view = self._look()
        yield from _of_events(view)
        yield from _of_feed(view)
        yield from _of_voice(view)
        yield from _of_player(view)
        yield _counter("web_refused", "Requests refused.", "reason", self._refused())


def _of_events(view: View) -> Iterator[Metric]:
    ledger = view.ledger
    yield _counter("events_received", "Events that could be spoken.", value=ledger.received)
    yield _counter("events_spoken", "Events that were heard.", value=ledger.spoken)
    yield _counter("events_dropped", "Events that were not, and why.", "reason", ledger.dropped)
    yield _counter("events_other", "Events nobody would speak.", "kind", ledger.other)
    yield _gauge("events_waiting", "Events on their way.", "stage", ledger.waiting)
    durations = GaugeMetricFamily(
        "livebot_stage_seconds",
        "Spent at a stage by the events of the last minute.",
        labels=("stage", "quantile"),
    )
    for stage in view.stages:
        for quantile, seconds in (("0.5", stage.p50), ("0.95", stage.p95)):
            if seconds is not None:
                durations.add_metric((stage.stage, quantile), seconds)
    yield durations


def _of_feed(view: View) -> Iterator[Metric]:
    source = view.source
    states = {state.value: float(state is source.state) for state in FeedState}
    yield _gauge("feed_state", "1 for what the feed is doing.", "state", states)
    yield _counter("feed_events", "Events the feed brought.", "kind", source.decoded)
    yield _counter("feed_shed", "Messages left out undecoded.", "method", source.shed)
    yield _counter("feed_bytes", "Bytes that came.", value=source.bytes_count)
    for name in ("frames", "duplicates", "malformed", "undelivered", "connections", "reconnects"):
        yield _counter(f"feed_{name}", f"{name.capitalize()} of the feed.", value=_of(source, name))


def _of_voice(view: View) -> Iterator[Metric]:
    speech = view.speech
    sentences = {"synthesized": speech.synthesized, "cached": speech.cached}
    yield _counter("speech_sentences", "Sentences made into sound.", "how", sentences)
    yield _counter("speech_failures", "Sentences that were not, and why.", "reason", speech.failed)
    yield _counter("speech_made_seconds", "Speech the engines made.", value=speech.seconds)
    yield _quantiles("speech_synthesis_seconds", "An engine took.", speech.synthesis)
    lost = {"killed": speech.killed, "died": speech.died}
    yield _counter("speech_workers_lost", "Worker processes that hung or died.", "how", lost)
    yield _counter("speech_retries", "Sentences an engine tried twice.", value=speech.retried)
    yield _counter("speech_fallbacks", "Sentences of a stand-in.", value=speech.fallbacks)
    yield _gauge("speech_engines", "Engines there are.", value=speech.engines)
    yield _gauge("speech_engines_busy", "Engines that are speaking.", value=speech.busy)
    yield _gauge("speech_rate", "Words a minute now.", value=view.rate)
    cache = view.cache
    reads = {"hit": cache.hits, "miss": cache.misses}
    yield _counter("audio_cache_reads", "Sentences looked up.", "result", reads)
    yield _gauge("audio_cache_bytes", "Audio in memory.", value=cache.weight)
    model = view.model
    if model is not None:
        yield _counter("model_answers", "Answers that came to their end.", value=model.answers)
        yield _counter("model_failures", "Answers that did not.", "reason", model.failed)
        yield _gauge("model_left_alone", "1 while it is.", value=model.circuit_open)


def _of_player(view: View) -> Iterator[Metric]:
    player = view.player
    ended = {"played": player.played, "failed": player.failed, **player.cut}
    ended |= {"late": player.late, "given up": player.given_up}
    yield _counter("player_sounds", "Sounds, by how they ended.", "outcome", ended)
    yield _counter("player_heard_seconds", "Sound that was heard.", value=player.seconds)
    yield _counter("player_underflows", "Sound that came too late.", value=player.underflows)
    yield _gauge("player_latency_seconds", "Sound the device may hold.", value=player.latency)
    yield _counter("player_losses", "Times the device went away.", value=player.losses)
    for name in ("waiting", "paused", "muted", "volume"):
        yield _gauge(f"player_{name}", f"{name.capitalize()}.", value=_of(player, name))
    yield _quantiles("delay_seconds", "From an event to its first sound.", player.delay)
    yield _quantiles("player_wait_seconds", "From sound to its being heard.", player.wait)


def _quantiles(name: str, text: str, latest: Histogram) -> Metric:
    """Of the latest durations only, so they are no Prometheus histogram, which may only grow."""
    known = {"0.5": latest.p50, "0.95": latest.p95} if latest.count else {}
    return _gauge(name, text, "quantile", known)


def _of(statistics: object, name: str) -> float:
    value: float = getattr(statistics, name)
    return value


def _family(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    text: str,
    label: str = "",
    values: Mapping[str, float] | None = None,
    *,
    value: float = 0,
) -> Metric:
    """One `value`, or one of `values` for each value of `label`."""
    family = kind(f"livebot_{name}", text, labels=(label,) if label else ())
    if values is None:
        family.add_metric((), value)
    else:
        for named, count in values.items():
            family.add_metric((named,), count)
    return family


_counter = functools.partial(_family, CounterMetricFamily)
_gauge = functools.partial(_family, GaugeMetricFamily)
