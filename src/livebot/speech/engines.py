"""What a speech engine is, what it returns, and how its output is judged before anyone hears it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import numpy as np

from threadkit import Retry, ThreadkitError

__all__ = [
    "BYTES_PER_SAMPLE",
    "Engine",
    "Reason",
    "Speech",
    "SpeechError",
    "Voice",
    "checked",
    "choose_voice",
    "trimmed",
]

BYTES_PER_SAMPLE = 2

Reason = Literal[
    "nothing to say",  # the text holds no letter, digit or ideograph
    "no voice",  # the engine has no voice for the language of the text
    "engine error",  # the engine said what went wrong
    "timeout",  # no answer within the deadline; the worker was killed
    "worker died",  # the worker process ended by itself, or could not be started
    "empty audio",  # a header without a sound, or nothing but zeros
    "truncated audio",  # less sound than its header promises
    "implausible length",  # far too short or too long for its text
    "busy",  # every worker was taken until the deadline
    "closed",  # the engine or the service was closed
]

# A second attempt can only cure what the engine did wrong by chance.
_CURABLE = {"timeout", "worker died", "empty audio", "truncated audio", "implausible length"}


_SHOWN = 80  # characters of a text in a message


class SpeechError(ThreadkitError):
    """Raised when a text could not be turned into sound.

    Attributes:
        reason: Why, one of a fixed list, so that it can be counted.
        text: What was to be said, cut to 80 characters.
        detail: What the engine said about it, if anything.
    """

    def __init__(self, reason: Reason, *, text: str = "", detail: str = "") -> None:
        if reason not in get_args(Reason):
            raise ValueError(f"reason must be one of {get_args(Reason)}, not {reason!r}")
        shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
        super().__init__(f"{reason}{f' ({detail})' if detail else ''}: {shown!r}", task=shown)
        self.reason: Reason = reason
        self.text = shown
        self.detail = detail
        self.retry = Retry.SAFE if self.curable else Retry.NEVER

    @property
    def curable(self) -> bool:
        """Whether the same text may well succeed at the next attempt."""
        return self.reason in _CURABLE


@dataclass(frozen=True, slots=True)
class Speech:
    """A text as sound: 16-bit mono samples in the machine's byte order.

    Attributes:
        pcm: The samples.
        sample_rate: Samples a second.
        text: What is said, as given by the caller.
        cached: Whether it came from the cache.
    """

    pcm: bytes
    sample_rate: int
    text: str
    cached: bool = False

    @property
    def seconds(self) -> float:
        """How long it sounds."""
        return len(self.pcm) / BYTES_PER_SAMPLE / self.sample_rate

    def __repr__(self) -> str:
        return f"<Speech {self.text[:20]!r} {self.seconds:.2f} s{' cached' * self.cached}>"


@dataclass(frozen=True, slots=True)
class Voice:
    """One voice of an engine: the identifier it is chosen by, its name, its languages."""

    id: str
    name: str
    languages: tuple[str, ...] = ()


class Engine(Protocol):
    """Turns text into sound. One call at a time; `close` may come from any thread.

    Making one starts nothing: processes and libraries come with the first call.
    """

    @property
    def name(self) -> str:
        """A short name, part of the cache's keys."""
        ...

    def voices(self) -> Sequence[Voice]:
        """What it can speak with. May start the engine."""
        ...

    def synthesize(self, text: str, voice: str, rate: int, volume: float) -> Speech:
        """Speak `text` at `rate` words a minute and `volume` 0 to 1, or raise SpeechError."""
        ...

    def close(self) -> None:
        """End it and whatever it started; a call under way raises SpeechError("closed")."""
        ...


# Voices known to read their language well, before any other voice of that language.
_PREFERRED = {
    "zh": ("sit/cmn",),
    "en": ("gmw/en-us", "gmw/en"),
    "ja": ("jpx/ja",),
    "ko": ("ko",),
}
# How engines and systems spell a language in a voice's languages, identifier or name.
_SPELLINGS = {
    "zh": ("zh", "cmn", "chinese", "mandarin", "huihui", "tingting"),
    "en": ("en", "english"),
    "ja": ("ja", "jpn", "japanese"),
    "ko": ("ko", "kor", "korean"),
}


def choose_voice(voices: Sequence[Voice], language: str, *, text: str = "") -> str:
    """The identifier of the best voice for `language`, or SpeechError("no voice")."""
    if not voices:
        raise SpeechError("engine error", text=text, detail="it has no voices at all")
    ids = {voice.id for voice in voices}
    for preferred in _PREFERRED.get(language, ()):
        if preferred in ids:
            return preferred
    spellings = _SPELLINGS.get(language, (language,))
    for voice in voices:
        if any(_speaks(voice, spelling) for spelling in spellings):
            return voice.id
    raise SpeechError("no voice", text=text, detail=f"none of {len(voices)} speaks {language}")


def _speaks(voice: Voice, spelling: str) -> bool:
    tags = [tag.lower().replace("_", "-").split("-")[0] for tag in voice.languages]
    if spelling in tags:
        return True
    return len(spelling) > 3 and spelling in f"{voice.id} {voice.name}".lower()  # noqa: PLR2004


# Bounds on the length of speech, wide enough for every rate from 80 to 450 words a minute and
# for digits that are read as words; what they catch is an engine that stopped or ran away.
_SHORTEST = 0.04  # seconds
_SHORTEST_PER_CHARACTER = 0.008
_LONGEST = 4.0
_LONGEST_PER_CHARACTER = 2.5


def checked(speech: Speech, *, volume: float = 1.0) -> Speech:
    """`speech` itself if it can be what its text sounds like, else SpeechError says why not."""
    if not speech.pcm or (volume > 0 and not any(speech.pcm)):
        raise SpeechError("empty audio", text=speech.text)
    count = sum(map(str.isalnum, speech.text))
    shortest = _SHORTEST + count * _SHORTEST_PER_CHARACTER
    longest = _LONGEST + count * _LONGEST_PER_CHARACTER
    if not shortest <= speech.seconds <= longest:
        detail = f"{speech.seconds:.2f} s, expected {shortest:.2f} to {longest:.0f} s"
        raise SpeechError("implausible length", text=speech.text, detail=detail)
    return speech


_SILENCE = 96  # of 32768: below it, espeak's noise floor
_KEPT_BEFORE = 0.010  # seconds of silence left before the first sound and
_KEPT_AFTER = 0.030  # after the last, so that no soft consonant is cut


def trimmed(speech: Speech) -> Speech:
    """`speech` without the silence engines put round it, which would delay the first sound."""
    samples = np.frombuffer(speech.pcm, np.int16)
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > _SILENCE)
    if not loud.size:
        return speech
    start = max(0, int(loud[0]) - round(_KEPT_BEFORE * speech.sample_rate))
    end = int(loud[-1]) + 1 + round(_KEPT_AFTER * speech.sample_rate)
    return replace(speech, pcm=samples[start:end].tobytes())
