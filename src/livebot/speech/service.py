"""SpeechService: texts in, checked and cached sound out, for any number of threads."""

from __future__ import annotations

import functools
import logging
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from livebot.speech.batch import Batch
from livebot.speech.engines import (
    Engine,
    Reason,
    Speech,
    SpeechError,
    Voice,
    checked,
    choose_voice,
    trimmed,
)
from livebot.speech.lending import EngineRecord, Lender
from livebot.speech.process import Pyttsx3Process
from livebot.speech.text import Language, language_of, normalised
from threadkit import REAL, Context, Histogram, LoadTimeout, Runtime

__all__ = ["AudioCache", "SpeechService", "SpeechStatistics"]

logger = logging.getLogger("livebot.speech")

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
        engine: Name of the engine that speaks now.
        synthesized: Texts an engine spoke.
        cached: Texts that came from the cache, or from another caller's synthesis.
        failed: Count of each reason.
        seconds: Seconds of speech the engines made.
        engines: Engines that exist now.
        busy: Engines that are speaking now.
        retried: Texts that an engine tried a second time.
        respawned: Worker processes that were started in the place of one that hung or died.
        killed: Worker processes that were killed because they did not answer in time.
        died: Worker processes that ended by themselves, or were killed by somebody else.
        fallbacks: Texts the next engine spoke because the one before it could not.
        given_up: Engines that failed for good, by name and how they failed.
        synthesis: How long the latest syntheses took.
    """

    engine: str
    synthesized: int
    cached: int
    failed: Mapping[str, int]
    seconds: float
    engines: int
    busy: int
    retried: int
    respawned: int
    killed: int
    died: int
    fallbacks: int
    given_up: Mapping[str, str]
    synthesis: Histogram


class SpeechService:
    """Speaks texts with a few engines, each used by one thread at a time.

        >>> from livebot.speech import EspeakEngine
        >>> service = SpeechService(engine=EspeakEngine)
        >>> 0.2 < service.synthesize("你好[玫瑰]😀").seconds < 1
        True
        >>> service.close()

    Text is normalised, read by a voice of its language, checked, freed of silence at both ends, and
    cached. A text that the engine cannot speak is spoken by the next kind of engine; after
    `failures` such texts in a row the first is given up, which is logged, until a restart. A text
    that came out silent or of an odd length counts only if the next kind could speak it.

    Thread safety: every method may be called from any thread.

    Lifetime: starts nothing by itself; the first texts start engines. `close` ends every engine
    and makes calls under way fail with "closed". It cannot be used again. A restart by a manager
    ends the engines, too, but others take their place.

    Args:
        cache: Where audio is kept; None keeps nothing.
        engine: Makes one engine; called for each of at most `workers`.
        fallbacks: Make engines of other kinds, in the order they are tried.
        workers: How many engines of each kind there may be, at least 1.
        failures: Texts in a row that the engine could not speak until it is given up.
        rate: Words a minute, or a function that says how many now.
        volume: 0 to 1; part of the cache's key, so better left at 1 and set in the player.
        voices: Language to voice identifier, where the best guess is not wanted.
        limit: Characters of a text that are spoken.
        runtime: Clock, locks and threads.

    Raises:
        ValueError: If `workers` or `failures` is below 1.
    """

    def __init__(
        self,
        cache: AudioCache | None = None,
        *,
        engine: Callable[[], Engine] = Pyttsx3Process,
        fallbacks: Sequence[Callable[[], Engine]] = (),
        workers: int = 2,
        failures: int = 3,
        rate: int | Callable[[], int] = 200,
        volume: float = 1.0,
        voices: Mapping[Language, str] | None = None,
        limit: int = 200,
        runtime: Runtime = REAL,
    ) -> None:
        for name, value in (("workers", workers), ("failures", failures)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        self._cache = cache
        self._lenders = [Lender(make, workers, runtime=runtime) for make in (engine, *fallbacks)]
        self._workers = workers
        self._failures = failures
        self._rate = rate if callable(rate) else lambda: rate
        self._volume = volume
        self._voice_of = dict(voices or {})
        self._limit = limit
        self._runtime = runtime
        self._monotonic = runtime.monotonic
        # Guards all below; bookkeeping only.
        self._lock = runtime.lock()
        self._using = 0  # which of the lenders; those before it were given up
        self._in_a_row = 0  # texts the one in use could not speak
        self._fallbacks = 0
        self._given_up: dict[str, str] = {}
        self._synthesized = 0
        self._cached = 0
        self._failed: Counter[str] = Counter()
        self._seconds = 0.0
        self._delays: deque[float] = deque(maxlen=_DELAYS_KEPT)

    def synthesize(
        self, text: str, *, deadline: float | None = None, rate: int | None = None
    ) -> Speech:
        """`text` as sound.

        Args:
            text: Anything a viewer or a template may say.
            deadline: Instant of the monotonic clock until which to wait for a free engine.
            rate: Words a minute; None means that of the service.

        Blocks: until an engine is free, then as long as it takes.

        Raises:
            SpeechError: With the reason.
        """
        try:
            speech = self._synthesize(text, deadline, self._rate() if rate is None else rate)
        except SpeechError as error:
            with self._lock:
                self._failed[error.reason] += 1
            raise
        with self._lock:
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

        Raises:
            TypeError: If one of `texts` is no string, or all of them together are one.

        Blocks: until all are done, or `timeout` is over.
        """
        batch = Batch(_strings(texts), self._runtime)
        deadline = None if timeout is None else self._monotonic() + timeout
        speak = functools.partial(self.synthesize, deadline=deadline)
        for number in range(self._workers):
            self._runtime.thread(
                batch.work, args=(speak,), name=f"livebot-speech-batch-{number}", daemon=True
            ).start()
        return batch.finish(timeout)

    def prefetch(self, texts: Iterable[str], *, rate: int | None = None) -> int:
        """Put texts that are sure to be said into the cache; how many of them are there now.

        One after another on the calling thread, so that live texts find the other engines free.

        Args:
            texts: What will be said.
            rate: Words a minute, for texts that will be said at another rate than the present one.

        Blocks: until all have been tried, or the service is closed.

        Raises:
            ValueError: If the service has no cache.
        """
        if self._cache is None:
            raise ValueError("prefetch needs a cache, and this SpeechService has none")
        kept = 0
        for text in texts:
            try:
                self.synthesize(text, rate=rate)
            except SpeechError as error:
                if error.reason == "closed":
                    break
            else:
                kept += 1
        return kept

    def voices(self) -> tuple[Voice, ...]:
        """What the engine in use can speak with. Blocks: while an engine starts."""
        with self._lenders[self._using].lend("", None) as engine:
            return tuple(engine.voices())

    def statistics(self) -> SpeechStatistics:
        """Counts and delays so far."""
        counts = [lender.counts() for lender in self._lenders]
        record = EngineRecord(*map(sum, zip(*(each.record for each in counts), strict=True)))
        with self._lock:
            return SpeechStatistics(
                engine=self._lenders[self._using].name,
                synthesized=self._synthesized,
                cached=self._cached,
                failed=dict(self._failed),
                seconds=self._seconds,
                engines=sum(each.engines for each in counts),
                busy=sum(each.busy for each in counts),
                retried=record.retried,
                respawned=record.respawned,
                killed=record.killed,
                died=record.died,
                fallbacks=self._fallbacks,
                given_up=dict(self._given_up),
                synthesis=Histogram.of(self._delays),
            )

    # -- lifetime ---------------------------------------------------------------------------

    def start(self, ctx: object = None) -> None:
        """For a manager. After a restart, the first engine gets another chance."""
        del ctx
        with self._lock:
            self._using = self._in_a_row = 0
            self._given_up.clear()

    def stop(self, ctx: Context | None = None) -> None:
        """For a manager: `close`, or end the engines, so that others take their place."""
        for lender in self._lenders:
            lender.close(for_good=ctx is None or ctx.final)

    def close(self, timeout: float | None = None) -> None:
        """End every engine, also those that are speaking.

        Blocks: while their processes end, a few milliseconds each.
        """
        del timeout  # ending is killing: it cannot take long, whatever an engine is doing
        self.stop()

    # -- one text ---------------------------------------------------------------------------

    def _synthesize(self, text: str, deadline: float | None, rate: int) -> Speech:
        spoken = normalised(text, limit=self._limit)
        if not spoken:
            raise SpeechError("nothing to say", text=text)
        request = _Request(spoken, text, language_of(spoken), rate, deadline)
        first = self._using
        doubtful: list[tuple[int, SpeechError]] = []  # the engine's fault if another speaks it
        for number in range(first, len(self._lenders)):
            try:
                speech = self._cached_or_spoken(self._lenders[number], request)
            except SpeechError as error:
                if error.reason not in _ENGINES_FAULT:
                    raise
                if error.reason in _PERHAPS_THE_TEXTS_FAULT:
                    doubtful.append((number, error))
                else:
                    self._blame(number, error)
                if number + 1 == len(self._lenders):
                    raise
            else:
                for unable, why in doubtful:
                    self._blame(unable, why)
                self._praise(number, first, spoken=not speech.cached)
                return speech
        raise AssertionError("there is always an engine")

    def _cached_or_spoken(self, lender: Lender, request: _Request) -> Speech:
        made: list[Speech] = []

        def speak(_key: str) -> bytes:
            made.append(self._speak(lender, request))
            return _packed(made[0])

        key = self._key(lender, request)
        audio = speak(key) if self._cache is None else self._load(key, speak, request)
        sample_rate, pcm = _unpacked(audio)
        return Speech(pcm, sample_rate, request.original, cached=not made)

    def _key(self, lender: Lender, request: _Request) -> str:
        voice = self._voice_of.get(request.language, f"best for {request.language}")
        return repr((lender.name, voice, request.rate, self._volume, request.text))

    def _load(self, key: str, speak: Callable[[str], bytes], request: _Request) -> bytes:
        assert self._cache is not None  # noqa: S101 - the caller looked
        deadline = request.deadline
        timeout = None if deadline is None else max(0.0, deadline - self._monotonic())
        try:
            return self._cache.load(key, speak, timeout=timeout)
        except LoadTimeout as error:
            detail = "another caller speaks it"
            raise SpeechError("busy", text=request.original, detail=detail) from error

    def _speak(self, lender: Lender, request: _Request) -> Speech:
        try:
            speech, took = self._ask(lender, request)
        except SpeechError as error:
            if error.reason != "closed" or lender.closed:
                raise
            speech, took = self._ask(lender, request)  # the engine was ended by a restart
        except Exception as exc:  # an engine that fails in a way of its own has failed all the same
            detail = repr(exc)
            raise SpeechError("engine error", text=request.original, detail=detail) from exc
        with self._lock:
            self._synthesized += 1
            self._seconds += speech.seconds
            self._delays.append(took)
        return speech

    def _ask(self, lender: Lender, request: _Request) -> tuple[Speech, float]:
        text = request.text
        with lender.lend(text, request.deadline) as engine:
            voice = self._voice_of.get(request.language) or choose_voice(
                engine.voices(), request.language, text=text
            )
            began_at = self._monotonic()
            speech = checked(
                engine.synthesize(text, voice, request.rate, self._volume), volume=self._volume
            )
            took = self._monotonic() - began_at
            return trimmed(speech), took

    # -- engines that fail ------------------------------------------------------------------

    def _blame(self, number: int, error: SpeechError) -> None:
        """Count what an engine could not speak; give it up when that is too much in a row."""
        with self._lock:
            if number != self._using or error.reason == "no voice":
                return  # it was given up meanwhile; or it is of use for other languages
            self._in_a_row += 1
            if self._in_a_row < self._failures or number + 1 == len(self._lenders):
                return
            name, following = (each.name for each in self._lenders[number : number + 2])
            self._given_up[name] = (
                f"{error.reason}: {error.detail}" if error.detail else error.reason
            )
            self._using, self._in_a_row = number + 1, 0
        logger.error(
            "%s failed %d times in a row (%s): %s speaks from now on",
            name,
            self._failures,
            self._given_up[name],
            following,
        )
        self._lenders[number].close(for_good=False)

    def _praise(self, number: int, first: int, *, spoken: bool) -> None:
        with self._lock:
            self._fallbacks += number > first
            if number == self._using and spoken:
                self._in_a_row = 0


class _Request(NamedTuple):
    text: str  # normalised
    original: str
    language: Language
    rate: int
    deadline: float | None


# What another engine may do better; the rest is nobody's fault.
_ENGINES_FAULT: frozenset[Reason] = frozenset(
    {
        "no voice",
        "engine error",
        "timeout",
        "worker died",
        "empty audio",
        "truncated audio",
        "implausible length",
    }
)

# What comes of letters that no voice has a sound for, too. Viewers must not be able to take an
# engine away by typing some.
_PERHAPS_THE_TEXTS_FAULT: frozenset[Reason] = frozenset({"empty audio", "implausible length"})

_RATE = struct.Struct(">I")


def _strings(texts: Iterable[str]) -> tuple[str, ...]:
    if isinstance(texts, str):
        raise TypeError(f"texts must be several strings, not one: {texts[:20]!r}")
    given = tuple(texts)
    for text in given:
        if not isinstance(text, str):
            raise TypeError(f"texts must be strings, not {text!r}")
    return given


def _packed(speech: Speech) -> bytes:
    """Speech as the cache keeps it: the sample rate, then the samples."""
    return _RATE.pack(speech.sample_rate) + speech.pcm


def _unpacked(audio: bytes) -> tuple[int, bytes]:
    return _RATE.unpack_from(audio)[0], audio[_RATE.size :]
