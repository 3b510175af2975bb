"""The composition root: the one room that knows every part and wires them together.

    source thread -> message queue -> processing pool -> text queue -> speech pool -> player thread

Every arrow is bounded, and whatever does not get through is counted in the `Ledger` with its
reason: several times more arrives than can be spoken, so shedding is the normal state.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livebot.config import Settings
from livebot.ledger import Entry, Ledger, LedgerStatistics, Stage
from livebot.messages import Control, Event
from livebot.moderation import Moderator, Outcome
from livebot.playback import AudioPlayer, PlayerStatistics, Utterance
from livebot.replies import TemplateWriter
from livebot.sources import DouyinSource, Endpoint, SourceStatistics
from livebot.speech import SpeechError, SpeechService, SpeechStatistics
from threadkit import (
    REAL,
    ComponentManager,
    Context,
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

logger = logging.getLogger("livebot")

# Which kinds go last when more arrives than can even be looked at; moderation ranks the rest.
_URGENCY = {"gift": 0, "chat": 1, "emoji": 1, "fansclub": 1, "social": 2}


@dataclass(frozen=True)
class Snapshot:
    """What the bot is doing, at one moment. Reading it never slows the pipeline."""

    ledger: LedgerStatistics
    source: SourceStatistics
    speech: SpeechStatistics
    player: PlayerStatistics
    errors: ErrorLogStatistics
    seconds: float


class LiveBot:
    """One live room, heard: wires the parts and gives them to a `ComponentManager`.

    Thread safety: `snapshot` from any thread; `run` in the main thread.

    Lifetime: `run` once.

    Args:
        url: The room's WebSocket address, or a callable that says where the room is now.
        settings: Everything that can be tuned.
        wav: A file to speak into, in real time; None means the sound device.
        headers: Sent with the WebSocket handshake, when `url` is a string.
        feed_needs: Components of `manager`, added later, that the feed needs.
        runtime: Where clock, locks and threads come from.
    """

    def __init__(
        self,
        url: str | Callable[[], Endpoint],
        *,
        settings: Settings,
        wav: Path | None = None,
        headers: Mapping[str, str] | None = None,
        feed_needs: Iterable[str] = (),
        runtime: Runtime = REAL,
    ) -> None:
        pipeline, voice = settings.pipeline, settings.voice
        self._monotonic = runtime.monotonic
        self._began_at = runtime.monotonic()
        self._broadcast_ended = False
        self.manager = ComponentManager("livebot", runtime=runtime)
        self.errors = ErrorLog("livebot", runtime=runtime)
        self._ledger = Ledger(on_settled=self._settled, runtime=runtime)
        self._moderator = Moderator(runtime=runtime)
        self._writer = TemplateWriter(settings.replies)
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
        self._speech = SpeechService(
            _audio_cache(settings), workers=voice.workers, rate=voice.rate, runtime=runtime
        )
        self._player = AudioPlayer(
            wav=wav, rest=voice.rest, on_played=self._played, runtime=runtime
        )
        self._source = DouyinSource(url, headers=headers, emit=self._receive, runtime=runtime)
        self._wire(settings, [*feed_needs], runtime)

    def _wire(self, settings: Settings, feed_needs: list[str], runtime: Runtime) -> None:
        """Who needs whom: started in this order, stopped in the reverse of it."""
        manager, voice = self.manager, settings.voice
        manager.add("errors", _Errors(self.errors))
        manager.add("player", self._player, needs=["errors"])
        manager.add("speech", _Closing(self._speech.close), needs=["player"])
        self._speech_pool = manager.pool(
            "tts",
            max_workers=voice.workers,
            policy="fixed",
            errors=self.errors,
            needs=["speech"],
            stop_timeout=2,
        )
        self._voice = _VoiceStage(self._texts, self._speak, voice.lookahead, runtime)
        manager.add("voice", self._voice, needs=["tts"])
        self._processing = manager.pool(
            "processing",
            max_workers=settings.pipeline.processing_workers,
            queue_limit=4 * settings.pipeline.processing_workers,
            overflow="block",
            errors=self.errors,
            needs=["voice"],
            stop_timeout=2,
        )
        stage = _QueueStage(self._messages, self._process, runtime)
        manager.add("messages", stage, needs=["processing"])
        manager.add("source", self._source, needs=["messages", *feed_needs])

    def run(self, *, seconds: float | None = None, grace: float = 5.0) -> int:
        """Work until a signal, the end of the broadcast, or for `seconds`; then stop in order.

        Returns:
            The exit code: 0 after an orderly stop.
        """
        if seconds is not None:
            self.manager.add("clock", _Clock(seconds, self.manager.request_stop))
        return self.manager.run(grace=grace)

    def snapshot(self) -> Snapshot:
        """What every part says of itself now."""
        return Snapshot(
            self._ledger.statistics(),
            self._source.statistics(),
            self._speech.statistics(),
            self._player.statistics(),
            self.errors.statistics(),
            self._monotonic() - self._began_at,
        )

    # -- from stage to stage, in the order an event takes -----------------------------------

    def _receive(self, event: Event) -> None:
        """On the WebSocket thread: only counts and queues, so that pings are answered in time."""
        if not event.speakable:
            self._ledger.ignore(event)
            if isinstance(event, Control) and event.ended:
                self._broadcast_ended = True
                self._settled()
            return
        entry = self._ledger.admit(event)
        try:
            self._messages.put_nowait(entry, _URGENCY.get(event.kind, 3))
        except QueueClosed:
            self._ledger.drop(entry, "stopping")

    def _process(self, entry: Entry) -> None:
        """On the messages thread: hands on to the pool, and waits while that is full."""
        self._ledger.move(entry, Stage.PROCESSING)
        try:
            self._processing.submit(self._answer, entry)
        except (Rejected, RuntimeError):
            self._ledger.drop(entry, "stopping")

    def _answer(self, entry: Entry) -> None:
        """On a processing worker: decides whether, and how, to answer."""
        try:
            verdict = self._moderator.consider(entry.event)
            if verdict.outcome is not Outcome.SPEAK:
                self._ledger.drop(entry, verdict.reason)
                return
            text = self._writer.write(verdict.event, verdict.text)
            if not text:
                self._ledger.drop(entry, f"no template for {entry.event.kind}")
                return
        except Exception as exc:  # noqa: BLE001 - one event must not hurt the others
            self.errors.record(
                exc, component="processing", task=f"{entry.event.kind} {entry.event.id}"
            )
            self._ledger.drop(entry, "error while answering")
            return
        entry.text = text
        self._ledger.move(entry, Stage.TEXT)
        try:
            self._texts.put_nowait(entry, verdict.priority)
        except QueueClosed:
            self._ledger.drop(entry, "stopping")

    def _speak(self, number: int, entry: Entry) -> None:
        """On the voice thread: gives the next sentence its number and has it synthesised."""
        self._ledger.move(entry, Stage.SPEECH)
        self._speech_pool.submit(self._synthesize, number, entry)

    def _synthesize(self, number: int, entry: Entry) -> None:
        """On a speech worker. Whatever happens, the number is played or given up."""
        try:
            speech = self._speech.synthesize(entry.text)
        except Exception as exc:  # noqa: BLE001 - a number that never comes would hold up the rest
            self.errors.record(exc, component="speech", task=entry.text)
            reason = exc.reason if isinstance(exc, SpeechError) else "error"
            self._ledger.drop(entry, f"speech: {reason}")
            self._player.play(number, None)
            self._voice.next()
            return
        self._player.play(number, speech, event_at=entry.event.received_at, tag=entry)

    def _played(self, utterance: Utterance, _first_sound_at: float | None) -> None:
        """On the player's thread, after a sentence ended, one way or another."""
        entry = utterance.tag
        if utterance.outcome == "stopped" or not isinstance(entry, Entry):
            return  # it stays pending: the bot was stopped before its end
        if utterance.outcome == "spoken":
            logger.info("said: %s", entry.text)
            self._ledger.spoken(entry)
        else:
            self._ledger.drop(entry, f"voice: {utterance.outcome}")
        self._voice.next()

    def _dropped_by(self, queue: str) -> Callable[[Entry, str], None]:
        def dropped(entry: Entry, reason: str) -> None:
            if reason != "closed":  # what a closing queue hands back was pending to the end
                self._ledger.drop(entry, f"{queue}: {reason}")

        return dropped

    def _settled(self) -> None:
        """Nothing is on its way: after the end of the broadcast that is the end of the work."""
        if self._broadcast_ended and self._ledger.statistics().pending == 0:
            self.manager.request_stop()


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


class _QueueStage:
    """Takes entries from a queue in a thread of its own and hands each on."""

    def __init__(
        self, queue: MessageQueue[Entry], hand_on: Callable[[Entry], None], runtime: Runtime
    ) -> None:
        self._queue = queue
        self._hand_on = hand_on
        self._thread = runtime.thread(self._run, name=f"livebot-{queue.name}")

    def start(self, ctx: Context, /) -> None:
        self._thread.start()

    def stop(self, ctx: Context, /) -> None:
        """What is still in the queue stays pending in the ledger."""
        self._queue.close(drain=False)
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                entry = self._queue.get()
            except QueueClosed:
                return
            self._hand_on(entry)


class _VoiceStage:
    """Takes the best sentence whenever there is room ahead of the player, not before.

    A sentence that waits in the queue can still be overtaken or dropped as stale; one that was
    taken cannot. So only `lookahead` of them are on their way to the ear at a time.
    """

    def __init__(
        self,
        queue: MessageQueue[Entry],
        speak: Callable[[int, Entry], None],
        lookahead: int,
        runtime: Runtime,
    ) -> None:
        self._queue = queue
        self._speak = speak
        self._room = runtime.simple_queue()  # one True for each sentence that may be taken
        for _ in range(lookahead):
            self._room.put(True)
        self._thread = runtime.thread(self._run, name="livebot-voice")

    def next(self) -> None:
        """One sentence is done with: another may be taken."""
        self._room.put(True)

    def start(self, ctx: Context, /) -> None:
        self._thread.start()

    def stop(self, ctx: Context, /) -> None:
        self._queue.close(drain=False)
        self._room.put(False)
        self._thread.join()

    def _run(self) -> None:
        for number in itertools.count():
            if not self._room.get():
                return
            try:
                entry = self._queue.get()
            except QueueClosed:
                return
            self._speak(number, entry)


def _audio_cache(settings: Settings) -> Any:
    voice = settings.voice
    memory: TTLCache[Any, bytes] = TTLCache(
        maxsize=voice.cache_bytes, weigher=lambda _key, audio: len(audio), name="audio"
    )
    if voice.cache_directory is None:
        return memory
    directory = Path(voice.cache_directory)
    return TieredCache(memory, FileTier(directory, max_bytes=4 * voice.cache_bytes))
