"""From what is said to sound: the second half of an event's way."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from livebot.config import FASTEST, Settings, VoiceSettings
from livebot.ledger import Entry, Ledger, Stage
from livebot.moderation import LEVELS
from livebot.playback import AudioPlayer, Pace, PortAudioSink, Utterance
from livebot.speech import SpeechError, SpeechService, engines_for
from livebot.stages import VoiceStage
from threadkit import (
    REAL,
    DynamicThreadPool,
    ErrorLog,
    FileTier,
    MessageQueue,
    PoolClosed,
    QueueClosed,
    Runtime,
    TieredCache,
    TTLCache,
)

__all__ = ["Speaking", "weigh_audio"]

logger = logging.getLogger("livebot")

# Seconds the player waits for a sentence whose turn it is; longer than synthesis can take, with its
# retry and the start of two workers.
_PATIENCE = 90.0

_IDLE = 1  # level of the pool's tasks that can wait


class Speaking:
    """Speaks sentences, the most important first, each entry's in their order.

    Thread safety: every method may be called from any thread.

    Lifetime: it has no thread of its own; `player`, `voice` and `speech` have, and whoever made
    this starts and stops them.

    Args:
        settings: Everything that can be tuned.
        ledger: Counts what becomes of each event.
        errors: Where failures are recorded.
        pool: Has the sentences synthesised.
        cache: Where audio is kept, in bytes.
        wav: A file to speak into, in real time; None means the sound device.
        runtime: Where clock, locks and threads come from.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        ledger: Ledger,
        errors: ErrorLog,
        pool: DynamicThreadPool,
        cache: TTLCache[Any, bytes],
        wav: Path | None = None,
        runtime: Runtime = REAL,
    ) -> None:
        pipeline, voice = settings.pipeline, settings.voice
        self._ledger = ledger
        self._errors = errors
        self._pool = pool
        self._live = pool.with_options(label="speaking a sentence")  # as the watchdog calls it
        self.texts: MessageQueue[Entry] = MessageQueue(
            maxsize=pipeline.text_queue_size,
            overflow="drop_lowest",
            ageing=pipeline.ageing,
            ttl=pipeline.text_ttl,
            on_drop=ledger.dropper("text queue"),
            levels=LEVELS,
            name="texts",
            runtime=runtime,
        )
        self.ageing = pipeline.ageing
        self._settings = voice
        self._on_device = wav is None
        self._runtime = runtime
        self._hurry = voice.hurry
        self._foreseen: tuple[str, ...] = ()  # replaced whole
        self.set_rate(voice.rate)
        self.heard: Utterance | None = None  # replaced whole, by the player's thread
        self.cache = _with_files(cache, settings.voice)
        engine, *fallbacks = engines_for(voice).values()
        self.speech = SpeechService(
            self.cache,
            engine=engine,
            fallbacks=fallbacks,
            workers=voice.workers,
            rate=lambda: self.rate,
            runtime=runtime,
        )
        self.player = AudioPlayer(
            wav=wav,
            device=voice.device,
            rest=voice.rest,
            subtitles=voice.subtitles,
            patience=_PATIENCE,
            on_started=self._started,
            on_played=self._played,
            runtime=runtime,
        )
        self.player.set_volume(voice.volume)
        self.voice = VoiceStage(
            self.texts,
            self._speak,
            ledger.complete,
            lookahead=voice.lookahead,
            stall=settings.model.stall,
            runtime=runtime,
        )

    def set_rate(self, rate: int) -> None:
        """Speak so many words a minute while little waits, and faster when more does."""
        self.pace = Pace(
            rate,
            fastest=max(rate, min(FASTEST, round(rate * self._hurry))),
            full=max(3, self.texts.statistics().maxsize),
        )
        self._prepare()

    @property
    def rate(self) -> int:
        """Words a minute to speak now: more, the more sentences wait."""
        return self.pace(len(self.texts))

    def update(self, settings: Settings) -> None:
        """Speak by these settings from now on: volume, rate, hurry and device are what can change.

        What is the same as before is left alone, for somebody may have changed it by hand.
        """
        before, now = self._settings, settings.voice
        self._settings = now
        if now.volume != before.volume:
            self.player.set_volume(now.volume)
        if (now.rate, now.hurry) != (before.rate, before.hurry):
            self._hurry = now.hurry
            self.set_rate(now.rate)
        if now.device != before.device and self._on_device:
            self.player.use(PortAudioSink(now.device, runtime=self._runtime))

    # -- the way of an event ----------------------------------------------------------------

    def say(self, entry: Entry, priority: int) -> None:
        """Take an entry, of whose sentences the first has been written."""
        self._ledger.move(entry, Stage.TEXT, priority)
        try:
            self.texts.put_nowait(entry, priority)
        except QueueClosed:
            self._ledger.drop(entry, "stopping")

    def prefetch(self, sentences: Iterable[str]) -> None:
        """Have sentences synthesised that are likely to be said, while no other waits to be.

        At the calm rate: when many wait, nobody hears whether one took 20 ms longer. They are
        prepared again when that rate changes.
        """
        self._foreseen = tuple(sentences)
        self._prepare()

    def _prepare(self) -> None:
        idle = self._pool.with_options(priority=_IDLE, label="prefetch")
        for sentence in self._foreseen:
            with contextlib.suppress(PoolClosed):
                idle.submit(self._prefetch, sentence, self.pace.rate)

    def _prefetch(self, sentence: str, rate: int) -> None:
        if rate != self.pace.rate:
            return  # it has changed since, and all were asked for again
        if self.speech.prefetch([sentence], rate=rate) == 0:
            logger.info("not prepared: %s", sentence)

    def _speak(self, number: int, entry: Entry, sentence: str) -> None:
        """On the voice thread: has the next sentence synthesised. Never raises."""
        try:
            if entry.stage is not Stage.SPEECH:
                self._ledger.move(entry, Stage.SPEECH)
            self._ledger.begin(entry, sentence)
            self._live.submit(self._synthesize, number, entry, sentence)
        except PoolClosed:
            pass  # it stays pending: the bot was stopped before its end
        except Exception as exc:  # noqa: BLE001 - no thread to be had, for instance
            self._failed(number, entry, sentence, exc)

    def _synthesize(self, number: int, entry: Entry, sentence: str) -> None:
        """On a speech worker. Whatever happens, the number is played or given up."""
        try:
            speech = self.speech.synthesize(sentence)
        except Exception as exc:  # noqa: BLE001 - a number that never comes would hold up the rest
            self._failed(number, entry, sentence, exc)
            return
        taken = self.player.play(number, speech, event_at=entry.event.received_at, tag=entry)
        if not speech.pcm:
            self._ended(entry, "speech: empty audio")
        elif not taken and not self.voice.stopping:
            self._ended(entry, "voice: late")

    def _started(self, utterance: Utterance) -> None:
        self.heard = utterance

    def _failed(self, number: int, entry: Entry, sentence: str, exc: Exception) -> None:
        self._errors.record(exc, component="speech", task=sentence)
        reason = exc.reason if isinstance(exc, SpeechError) else "error"
        self.player.play(number, None)
        self._ended(entry, f"speech: {reason}")

    def _played(self, utterance: Utterance, _first_sound_at: float | None) -> None:
        """On the player's thread, after a sentence ended, one way or another."""
        if self.heard is not None and self.heard.seq == utterance.seq:
            self.heard = None
        entry = utterance.tag
        if utterance.outcome == "stopped" or not isinstance(entry, Entry):
            return  # it stays pending: the bot was stopped before its end
        if utterance.outcome == "spoken":
            logger.info("said: %s", utterance.text)
            self._ended(entry)
        else:
            entry.give_up()  # who cuts a sentence does not want the next one
            self._ended(entry, f"voice: {utterance.outcome}")

    def _ended(self, entry: Entry, failure: str = "") -> None:
        self._ledger.end(entry, failure)
        self.voice.next()


def weigh_audio(_key: str, audio: bytes) -> int:
    """What a sentence costs the cache: its bytes."""
    return len(audio)


def _with_files(memory: TTLCache[Any, bytes], voice: VoiceSettings) -> Any:
    if voice.cache_directory is None:
        return memory
    return TieredCache(memory, FileTier(voice.cache_directory, max_bytes=4 * voice.cache_bytes))
