"""SpeechService: texts in, checked and cached sound out, for any number of threads."""

from __future__ import annotations

import contextlib
import functools
import struct
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from livebot.speech.batch import Batch
from livebot.speech.engines import (
    Engine,
    Speech,
    SpeechError,
    Voice,
    checked,
    choose_voice,
    trimmed,
)
from livebot.speech.process import Pyttsx3Process
from livebot.speech.text import Language, language_of, normalised
from threadkit import REAL, LoadTimeout, Runtime

__all__ = ["AudioCache", "SpeechService", "SpeechStatistics"]

_DELAYS_KEPT = 512


class AudioCache(Protocol):
    """What is used of a cache: `threadkit.TieredCache` over a `FileTier`, or a `TTLCache`."""

    def load(
        self, key: str, loader: Callable[[str], bytes], *, timeout: float | None = None
    ) -> bytes:
        """The bytes of `key`; made by `loader`, once for all who ask at the same time."""
        ...


@dataclass(frozen=True, slots=True)
class SpeechStatistics:
    """What a SpeechService has done so far.

    Attributes:
        synthesized: Texts an engine spoke.
        cached: Texts that came from the cache, or from another caller's synthesis.
        failed: Count of each reason.
        seconds: Seconds of speech the engines made.
        engines: Engines that exist now.
        busy: Engines that are speaking now.
        synthesis_p50: Median seconds of the latest syntheses.
        synthesis_p95: 95th percentile of the same.
    """

    synthesized: int
    cached: int
    failed: Mapping[str, int]
    seconds: float
    engines: int
    busy: int
    synthesis_p50: float
    synthesis_p95: float


class SpeechService:
    """Speaks texts with a few engines, each used by one thread at a time.

        >>> from livebot.speech import EspeakEngine
        >>> service = SpeechService(engine=EspeakEngine)
        >>> 0.2 < service.synthesize("你好[玫瑰]😀").seconds < 1
        True
        >>> service.close()

    A caller borrows an engine for one text; the most recently used is lent first, so engines that
    are not needed stay asleep, and a thread that ends leaves none behind. Text is normalised,
    read by a voice of its language, checked, freed of silence at both ends, and cached.

    Thread safety: every method may be called from any thread.

    Lifetime: starts nothing by itself; the first texts start engines. `close` ends every engine
    and makes calls under way fail with "closed". It cannot be used again.

    Args:
        cache: Where audio is kept; None keeps nothing.
        engine: Makes one engine; called for each of at most `workers`.
        workers: How many engines there may be, at least 1.
        rate: Words a minute, or a function that says how many now.
        volume: 0 to 1; part of the cache's key, so better left at 1 and set in the player.
        voices: Language to voice identifier, where the best guess is not wanted.
        limit: Characters of a text that are spoken.
        runtime: Clock, locks and threads.

    Raises:
        ValueError: If `workers` is below 1.
    """

    def __init__(
        self,
        cache: AudioCache | None = None,
        *,
        engine: Callable[[], Engine] = Pyttsx3Process,
        workers: int = 2,
        rate: int | Callable[[], int] = 200,
        volume: float = 1.0,
        voices: Mapping[Language, str] | None = None,
        limit: int = 200,
        runtime: Runtime = REAL,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers!r}")
        first = engine()  # starts nothing yet; a text in the cache never starts it
        self._cache = cache
        self._make_engine = engine
        self._workers = workers
        self._rate = rate if callable(rate) else lambda: rate
        self._volume = volume
        self._voice_of = dict(voices or {})
        self._limit = limit
        self._name = first.name
        self._runtime = runtime
        self._monotonic = runtime.monotonic
        # Guards all below; bookkeeping only, never held while an engine works, starts or ends.
        # Notified when an engine is given back, or the service is closed; borrowers wait.
        self._changed = runtime.condition(runtime.lock())
        self._idle = [first]
        self._engines = [first]
        self._closed = False
        self._synthesized = 0
        self._cached = 0
        self._failed: Counter[str] = Counter()
        self._seconds = 0.0
        self._delays: deque[float] = deque(maxlen=_DELAYS_KEPT)

    def synthesize(self, text: str, *, deadline: float | None = None) -> Speech:
        """`text` as sound.

        Args:
            text: Anything a viewer or a template may say.
            deadline: Instant of the monotonic clock until which to wait for a free engine.

        Blocks: until an engine is free, then as long as it takes.

        Raises:
            SpeechError: With the reason.
        """
        try:
            speech = self._synthesize(text, deadline)
        except SpeechError as error:
            with self._changed:
                self._failed[error.reason] += 1
            raise
        with self._changed:
            self._cached += speech.cached
        return speech

    def synthesize_batch(
        self, texts: Iterable[str], timeout: float | None = None
    ) -> list[Speech | SpeechError]:
        """Many texts as sound, in their order; one that failed is represented by its error.

        As many threads as there are engines work on them for as long as this takes.

        Args:
            texts: What to say.
            timeout: Seconds for all of them; those not done by then fail with "timeout".

        Blocks: until all are done, or `timeout` is over.
        """
        batch = Batch(tuple(texts), self._runtime)
        deadline = None if timeout is None else self._monotonic() + timeout
        speak = functools.partial(self.synthesize, deadline=deadline)
        for number in range(self._workers):
            self._runtime.thread(
                batch.work, args=(speak,), name=f"livebot-speech-batch-{number}", daemon=True
            ).start()
        return batch.finish(timeout)

    def prefetch(self, texts: Iterable[str]) -> int:
        """Put texts that are sure to be said into the cache; how many of them are there now.

        One after another on the calling thread, so that live texts find the other engines free.

        Blocks: until all have been tried, or the service is closed.

        Raises:
            ValueError: If the service has no cache.
        """
        if self._cache is None:
            raise ValueError("prefetch needs a cache, and this SpeechService has none")
        kept = 0
        for text in texts:
            try:
                self.synthesize(text)
            except SpeechError as error:
                if error.reason == "closed":
                    break
            else:
                kept += 1
        return kept

    def voices(self) -> tuple[Voice, ...]:
        """What the engine can speak with. Blocks: while an engine starts."""
        with self._lend("", None) as engine:
            return tuple(engine.voices())

    def statistics(self) -> SpeechStatistics:
        """Counts and delays so far."""
        with self._changed:
            delays = sorted(self._delays)
            return SpeechStatistics(
                synthesized=self._synthesized,
                cached=self._cached,
                failed=dict(self._failed),
                seconds=self._seconds,
                engines=len(self._engines),
                busy=len(self._engines) - len(self._idle),
                synthesis_p50=_quantile(delays, 0.50),
                synthesis_p95=_quantile(delays, 0.95),
            )

    def close(self, timeout: float | None = None) -> None:
        """End every engine, also those that are speaking.

        Blocks: while their processes end, a few milliseconds each.
        """
        del timeout  # ending is killing: it cannot take long, whatever an engine is doing
        with self._changed:
            self._closed = True
            engines, self._engines, self._idle = self._engines, [], []
            self._changed.notify_all()
        for engine in engines:
            engine.close()

    def _synthesize(self, text: str, deadline: float | None) -> Speech:
        spoken = normalised(text, limit=self._limit)
        if not spoken:
            raise SpeechError("nothing to say", text=text)
        language = language_of(spoken)
        rate = self._rate()
        made: list[Speech] = []

        def speak(_key: str) -> bytes:
            made.append(self._speak(spoken, language, rate, deadline))
            return _packed(made[0])

        key = self._key(spoken, language, rate)
        audio = speak(key) if self._cache is None else self._load(key, speak, deadline, text)
        sample_rate, pcm = _unpacked(audio)
        return Speech(pcm, sample_rate, text, cached=not made)

    def _key(self, text: str, language: Language, rate: int) -> str:
        voice = self._voice_of.get(language, f"best for {language}")
        return repr((self._name, voice, rate, self._volume, text))

    def _load(
        self, key: str, speak: Callable[[str], bytes], deadline: float | None, text: str
    ) -> bytes:
        assert self._cache is not None  # noqa: S101 - the caller looked
        timeout = None if deadline is None else max(0.0, deadline - self._monotonic())
        try:
            return self._cache.load(key, speak, timeout=timeout)
        except LoadTimeout as error:
            raise SpeechError("busy", text=text, detail="another caller speaks it") from error

    def _speak(self, text: str, language: Language, rate: int, deadline: float | None) -> Speech:
        with self._lend(text, deadline) as engine:
            voice = self._voice_of.get(language) or choose_voice(
                engine.voices(), language, text=text
            )
            began_at = self._monotonic()
            speech = checked(
                engine.synthesize(text, voice, rate, self._volume), volume=self._volume
            )
            took = self._monotonic() - began_at
        speech = trimmed(speech)
        with self._changed:
            self._synthesized += 1
            self._seconds += speech.seconds
            self._delays.append(took)
        return speech

    @contextlib.contextmanager
    def _lend(self, text: str, deadline: float | None) -> Generator[Engine]:
        engine = self._borrow(text, deadline)
        try:
            yield engine
        finally:
            with self._changed:
                if not self._closed:
                    self._idle.append(engine)
                    self._changed.notify()

    def _borrow(self, text: str, deadline: float | None) -> Engine:
        with self._changed:
            while not self._closed and not self._idle and len(self._engines) >= self._workers:
                left = None if deadline is None else deadline - self._monotonic()
                if left is not None and left <= 0:
                    raise SpeechError("busy", text=text, detail=f"all {self._workers} engines")
                self._changed.wait(left)
            if self._closed:
                raise SpeechError("closed", text=text)
            if self._idle:
                return self._idle.pop()
            engine = self._make_engine()  # starts nothing yet, so it may be made under the lock
            self._engines.append(engine)
            return engine


_RATE = struct.Struct(">I")


def _packed(speech: Speech) -> bytes:
    """Speech as the cache keeps it: the sample rate, then the samples."""
    return _RATE.pack(speech.sample_rate) + speech.pcm


def _unpacked(audio: bytes) -> tuple[int, bytes]:
    return _RATE.unpack_from(audio)[0], audio[_RATE.size :]


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
