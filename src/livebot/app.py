"""The composition root: the one room that knows every part and wires them together.

    source thread -> message queue -> processing pool -> text queue -> speech pool -> player thread

Every arrow is bounded, and whatever does not get through is counted in the `Ledger` with its
reason: several times more arrives than can be spoken, so shedding is the normal state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from livebot.config import FeedSettings, ModelSettings, Settings
from livebot.ledger import Entry, Ledger, LedgerStatistics, Stage
from livebot.messages import Chat, Event
from livebot.moderation import Moderator, Outcome, Rules, Verdict
from livebot.playback import AudioPlayer, Pace, PlayerStatistics, Utterance
from livebot.replies import ModelStatistics, ModelUnavailable, ModelWriter, TemplateWriter
from livebot.sources import (
    BarrageGrabSource,
    DouyinLiveSource,
    DouyinSource,
    Endpoint,
    FeedState,
    SourceStatistics,
)
from livebot.speech import SpeechError, SpeechService, SpeechStatistics
from livebot.stages import AsyncMessageHandler, MessageHandler, VoiceStage
from threadkit import (
    REAL,
    ComponentManager,
    Context,
    DynamicThreadPool,
    ErrorLog,
    ErrorLogStatistics,
    FileTier,
    LoggingSink,
    MessageQueue,
    QueueClosed,
    Rejected,
    Runtime,
    TieredCache,
    TTLCache,
)

__all__ = ["LiveBot", "Snapshot"]

# Seconds the player waits for a sentence whose turn it is; longer than synthesis can take, with its
# retry and the start of two workers.
_PATIENCE = 90.0

logger = logging.getLogger("livebot")

_FASTEST = 450  # words a minute; espeak's own limit


@dataclass(frozen=True)
class Snapshot:
    """What the bot is doing, at one moment. Reading it never slows the pipeline."""

    ledger: LedgerStatistics
    source: SourceStatistics
    speech: SpeechStatistics
    player: PlayerStatistics
    errors: ErrorLogStatistics
    model: ModelStatistics | None
    seconds: float


class LiveBot:
    """One live room, heard: wires the parts and gives them to a `ComponentManager`.

    Thread safety: `snapshot` and `update` from any thread; `run` in the main thread.

    Lifetime: `run` once.

    Args:
        url: The room's WebSocket address, or a callable that says where the room is now.
        settings: Everything that can be tuned.
        wav: A file to speak into, in real time; None means the sound device.
        feed_needs: Components of `manager`, added later, that the feed needs.
        runtime: Where clock, locks and threads come from.

    Raises:
        ValueError: A rule of moderation makes no sense.
    """

    def __init__(
        self,
        url: str | Callable[[], Endpoint],
        *,
        settings: Settings,
        wav: Path | None = None,
        feed_needs: Iterable[str] = (),
        runtime: Runtime = REAL,
    ) -> None:
        pipeline, voice = settings.pipeline, settings.voice
        self._runtime = runtime
        self._began_at = runtime.monotonic()
        self._broadcast_ended = False
        self._refused_by_room = False
        self.manager = ComponentManager("livebot", runtime=runtime)
        self.errors = ErrorLog("livebot", runtime=runtime)
        self._ledger = Ledger(on_settled=self._settled, runtime=runtime)
        self._moderator = Moderator(_rules(settings), announce=self._judged, runtime=runtime)
        self._templates = TemplateWriter(settings.replies)
        self._model_settings: ModelSettings = settings.model
        self._model = self._model_writer(settings.model)
        self._messages: MessageQueue[Entry] = MessageQueue(
            maxsize=pipeline.message_queue_size,
            overflow="drop_lowest",
            on_drop=self._dropped_by("message queue"),
            name="messages",
            runtime=runtime,
        )
        self._texts: MessageQueue[Entry] = MessageQueue(
            maxsize=pipeline.text_queue_size,
            overflow="drop_lowest",
            ageing=pipeline.ageing,
            ttl=pipeline.text_ttl,
            on_drop=self._dropped_by("text queue"),
            name="texts",
            runtime=runtime,
        )
        self._pace = Pace(
            voice.rate,
            fastest=max(voice.rate, min(_FASTEST, round(voice.rate * voice.hurry))),
            full=max(3, pipeline.text_queue_size),
        )
        self._speech = SpeechService(
            _audio_cache(settings), workers=voice.workers, rate=self._rate, runtime=runtime
        )
        self._player = AudioPlayer(
            wav=wav,
            device=voice.device,
            rest=voice.rest,
            subtitles=voice.subtitles,
            patience=_PATIENCE,
            on_played=self._played,
            runtime=runtime,
        )
        self._player.set_volume(voice.volume)
        self._source = _source(url, settings.feed, self._receive, self._feed_changed, runtime)
        self._wire(settings, [*feed_needs])

    def _rate(self) -> int:
        """How fast to speak now: faster, the more sentences wait."""
        return self._pace(len(self._texts))

    def _wire(self, settings: Settings, feed_needs: list[str]) -> None:
        """Who needs whom: started in this order, stopped in the reverse of it."""
        manager, voice = self.manager, settings.voice
        manager.add("errors", _Errors(self.errors))
        manager.add("player", self._player, needs=["errors"])
        manager.add("speech", _Closing(self._speech.close), needs=["player"])
        self._speech_pool = self._pool("tts", voice.workers, needs=["speech"])
        self._voice = VoiceStage(
            self._texts,
            self._speak,
            self._ledger.complete,
            lookahead=voice.lookahead,
            stall=settings.model.stall,
            runtime=self._runtime,
        )
        manager.add("voice", self._voice, needs=["tts"])
        manager.add("combos", self._moderator, needs=["voice"])
        parallel = settings.model.parallel
        self._model_pool = self._pool(
            "model", parallel, needs=["combos"], queue_limit=parallel, overflow="reject"
        )
        # Stopped before its pool, so that no worker is left waiting for the model.
        manager.add("answers", _Closing(self._close_model), needs=["model"])
        workers = settings.pipeline.processing_workers
        self._processing = self._pool(
            "processing", workers, needs=["answers"], queue_limit=4 * workers, overflow="block"
        )
        manager.add("messages", self._handler(settings), needs=["processing"])
        manager.add("source", self._source, needs=["messages", *feed_needs])

    def _pool(self, name: str, workers: int, **options: Any) -> DynamicThreadPool:
        return self.manager.pool(
            name, max_workers=workers, errors=self.errors, stop_timeout=2, **options
        )

    def _handler(self, settings: Settings) -> MessageHandler | AsyncMessageHandler:
        made_of: dict[str, type[MessageHandler | AsyncMessageHandler]] = {
            "threads": MessageHandler,
            "asyncio": AsyncMessageHandler,
        }
        return made_of[settings.pipeline.handler](
            self._messages, self._processing, self._answer, self._refused, runtime=self._runtime
        )

    def _model_writer(self, settings: ModelSettings) -> ModelWriter | None:
        if not settings.model:
            return None
        return ModelWriter(
            settings,
            api_key=settings.api_key().get_secret_value(),
            objection=self._moderator.objection,
            runtime=self._runtime,
        )

    def _close_model(self) -> None:
        if self._model is not None:
            self._model.close()

    def update(self, settings: Settings) -> None:
        """Use what can change while the bot runs: moderation, replies, the model, the volume.

        Another model begins with fresh counts, and answers under way of the old one are cut off.
        `model.parallel` and `model.stall` are fixed.

        Raises:
            ValueError: A rule of moderation makes no sense; nothing has changed then.
        """
        self._moderator.update(_rules(settings))
        self._templates.update(settings.replies)
        if settings.model != self._model_settings:
            self._close_model()
            self._model_settings = settings.model
            self._model = self._model_writer(settings.model)
        self._player.set_volume(settings.voice.volume)

    def run(self, *, seconds: float | None = None, grace: float = 5.0) -> int:
        """Work until a signal, the end of the broadcast, or for `seconds`; then stop in order.

        Returns:
            The exit code: 0 after an orderly stop, 1 when the room refused us.
        """
        if seconds is not None:
            self.manager.add("clock", _Clock(seconds, self.manager.request_stop))
        return self.manager.run(grace=grace) or int(self._refused_by_room)

    def snapshot(self) -> Snapshot:
        """What every part says of itself now."""
        return Snapshot(
            self._ledger.statistics(),
            self._source.statistics(),
            self._speech.statistics(),
            self._player.statistics(),
            self.errors.statistics(),
            self._model.statistics() if self._model else None,
            self._runtime.monotonic() - self._began_at,
        )

    # -- from stage to stage, in the order an event takes -----------------------------------

    def _receive(self, event: Event) -> None:
        """On the WebSocket thread: only counts and queues, so that pings are answered in time."""
        if not event.speakable:
            self._ledger.ignore(event)
            return
        entry = self._ledger.admit(event)
        try:
            self._messages.put_nowait(entry, self._moderator.rank(event))
        except QueueClosed:
            self._refused(entry)

    def _feed_changed(self, state: FeedState, sentence: str) -> None:
        """On the source's thread: after its last state nothing more will come."""
        if state in (FeedState.ENDED, FeedState.REFUSED):
            self._refused_by_room = state is FeedState.REFUSED
            self._broadcast_ended = True
            self._moderator.flush()
            self._settled()

    def _refused(self, entry: Entry) -> None:
        self._ledger.drop(entry, "stopping")

    def _answer(self, entry: Entry) -> None:
        """On a processing worker: decides whether to answer. A held combo is announced later."""
        self._ledger.move(entry, Stage.PROCESSING)
        try:
            verdict = self._moderator.consider(entry.event, entry)
        except Exception as exc:  # noqa: BLE001 - one event must not hurt the others
            self._failed(entry, exc)
            return
        if verdict.outcome is not Outcome.HOLD:
            self._judged(verdict)

    def _judged(self, verdict: Verdict) -> None:
        """On a processing worker, or on the moderator's thread when a combo has ended."""
        entry: Any = verdict.tag
        if verdict.outcome is not Outcome.SPEAK:
            self._ledger.drop(entry, verdict.reason)
            return
        try:
            if not self._asks_model(entry, verdict):
                self._fill_template(entry, verdict)
        except Exception as exc:  # noqa: BLE001 - one event must not hurt the others
            self._failed(entry, exc)

    def _failed(self, entry: Entry, exc: Exception) -> None:
        event = entry.event
        self.errors.record(exc, component="processing", task=f"{event.kind} {event.id}")
        self._ledger.drop(entry, "error while answering")

    def _fill_template(self, entry: Entry, verdict: Verdict) -> None:
        sentence = self._templates.write(verdict.event)
        if not sentence:
            self._ledger.drop(entry, f"no template for {verdict.event.kind}")
            return
        entry.sentences.put_nowait(sentence)
        entry.sentences.close()
        self._queue_for_voice(entry, verdict.priority)

    def _asks_model(self, entry: Entry, verdict: Verdict) -> bool:
        """Hand a chat to the model, if there is one with room for another question."""
        if self._model is None or not isinstance(verdict.event, Chat):
            return False
        try:
            self._model_pool.submit(self._converse, self._model, entry, verdict)
        except (Rejected, RuntimeError):
            return False
        return True

    def _converse(self, model: ModelWriter, entry: Entry, verdict: Verdict) -> None:
        """On a model worker: sentences go to the voice while the rest is being written."""
        spoken = entry.sentences
        queued = False
        try:
            for sentence in model.sentences(
                verdict.event, verdict.text, cancelled=lambda: spoken.closed
            ):
                spoken.put_nowait(sentence)
                if not queued:
                    queued = True
                    self._queue_for_voice(entry, verdict.priority)
        except QueueClosed:
            return  # the entry was dropped or interrupted: nobody listens any more
        except ModelUnavailable as exc:
            logger.info("%s", exc)
        except Exception as exc:  # noqa: BLE001 - the template speaks instead
            self.errors.record(exc, component="model", task=f"chat {entry.event.id}")
        if queued:
            spoken.close()
        else:
            self._fill_template(entry, verdict)

    def _queue_for_voice(self, entry: Entry, priority: int) -> None:
        self._ledger.move(entry, Stage.TEXT)
        try:
            self._texts.put_nowait(entry, priority)
        except QueueClosed:
            self._refused(entry)

    def _speak(self, number: int, entry: Entry, sentence: str) -> None:
        """On the voice thread: has the next sentence synthesised."""
        if entry.stage is not Stage.SPEECH:
            self._ledger.move(entry, Stage.SPEECH)
        self._ledger.begin(entry)
        self._speech_pool.submit(self._synthesize, number, entry, sentence)

    def _synthesize(self, number: int, entry: Entry, sentence: str) -> None:
        """On a speech worker. Whatever happens, the number is played or given up."""
        try:
            speech = self._speech.synthesize(sentence)
        except Exception as exc:  # noqa: BLE001 - a number that never comes would hold up the rest
            self.errors.record(exc, component="speech", task=sentence)
            reason = exc.reason if isinstance(exc, SpeechError) else "error"
            self._player.play(number, None)
            self._ended(entry, f"speech: {reason}")
            return
        taken = self._player.play(number, speech, event_at=entry.event.received_at, tag=entry)
        if not speech.pcm:
            self._ended(entry, "speech: empty audio")
        elif not taken and not self._voice.stopping:
            self._ended(entry, "voice: late")

    def _played(self, utterance: Utterance, _first_sound_at: float | None) -> None:
        """On the player's thread, after a sentence ended, one way or another."""
        entry = utterance.tag
        if utterance.outcome == "stopped" or not isinstance(entry, Entry):
            return  # it stays pending: the bot was stopped before its end
        if utterance.outcome == "spoken":
            logger.info("said: %s", utterance.text)
            self._ended(entry)
        else:
            entry.sentences.close(drain=False)  # who cuts a sentence does not want the next one
            self._ended(entry, f"voice: {utterance.outcome}")

    def _ended(self, entry: Entry, failure: str = "") -> None:
        self._ledger.end(entry, failure)
        self._voice.next()

    def _dropped_by(self, queue: str) -> Callable[[Entry, str], None]:
        def dropped(entry: Entry, reason: str) -> None:
            entry.sentences.close(drain=False)
            if reason != "closed":  # what a closing queue hands back was pending to the end
                self._ledger.drop(entry, f"{queue}: {reason}")

        return dropped

    def _settled(self) -> None:
        """Nothing is on its way: after the end of the broadcast that is the end of the work."""
        if self._broadcast_ended and self._ledger.statistics().pending == 0:
            self.manager.request_stop()


class Feed(Protocol):
    """What the app needs of a source, whatever it reads."""

    def start(self, ctx: Context, /) -> object: ...
    def stop(self, ctx: Context, /) -> object: ...
    def statistics(self) -> SourceStatistics: ...


class _Errors:
    """The central error log: begins with everything and is closed last."""

    def __init__(self, errors: ErrorLog) -> None:
        self._errors = errors

    def start(self, ctx: Context, /) -> None:
        self._errors.add_sink(LoggingSink("livebot"))
        self._errors.install()

    def stop(self, ctx: Context, /) -> None:
        self._errors.close()


class _Closing:
    """Lets something that works from its creation be a component."""

    def __init__(self, close: Callable[[], object]) -> None:
        self._close = close

    def start(self, ctx: Context, /) -> None:
        """Nothing to do."""

    def stop(self, ctx: Context, /) -> None:
        self._close()


class _Clock:
    """Asks for the end after some seconds."""

    def __init__(self, seconds: float, ring: Callable[[], None]) -> None:
        self._seconds = seconds
        self._ring = ring
        self._thread: Any = None

    def start(self, ctx: Context, /) -> None:
        self._thread = REAL.thread(self._run, args=(ctx,), name="livebot-clock")
        self._thread.start()

    def _run(self, ctx: Context) -> None:
        if ctx.sleep(self._seconds):
            self._ring()

    def stop(self, ctx: Context, /) -> None:
        self._thread.join()


def _rules(settings: Settings) -> Rules:
    return Rules(**settings.moderation.model_dump())


def _source(
    url: str | Callable[[], Endpoint],
    feed: FeedSettings,
    emit: Callable[[Event], None],
    on_state: Callable[[FeedState, str], None],
    runtime: Runtime,
) -> Feed:
    """The reader of the feed. A callable says its own headers."""
    made_by: dict[str, Callable[..., Any]] = {
        "douyin": DouyinSource,
        "barrage_grab": BarrageGrabSource,
        "douyin_live": DouyinLiveSource,
    }
    headers = feed.headers if isinstance(url, str) else None
    source: Feed = made_by[feed.kind](
        url, headers=headers, emit=emit, on_state=on_state, runtime=runtime
    )
    return source


def _audio_cache(settings: Settings) -> Any:
    voice = settings.voice
    memory: TTLCache[Any, bytes] = TTLCache(
        maxsize=voice.cache_bytes, weigher=lambda _key, audio: len(audio), name="audio"
    )
    if voice.cache_directory is None:
        return memory
    directory = Path(voice.cache_directory)
    return TieredCache(memory, FileTier(directory, max_bytes=4 * voice.cache_bytes))
