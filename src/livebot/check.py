"""`livebot check`: each part the bot needs, tried for real, and how to mend what fails."""

from __future__ import annotations

import json
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from livebot.config import VoiceSettings
from livebot.playback import (
    AudioPlayer,
    PortAudioSink,
    Sink,
    SinkError,
    Tone,
    WavSink,
    output_devices,
)
from livebot.sources import SOURCES, Endpoint, FeedOptions, FeedState
from livebot.speech import Engine, Speech, SpeechError, SpeechService, engines_for

__all__ = ["Finding", "Plan", "checks"]

_TIMEOUT = 10.0  # seconds any one check waits for something to happen
_SENTENCE = "你好，欢迎来到直播间。"
_SAMPLE_RATE = 22050


_BOTH = "pip install 'threadkit[livebot]' brings pyttsx3 and espeak-ng with its voices"
_MEND_ENGINE = {
    "pyttsx3": _BOTH,
    "espeak": _BOTH,
    "piper": "pip install 'threadkit[piper]', and put NAME.onnx and NAME.onnx.json of a voice into "
    "voice.piper_folder",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        name: What was tried.
        works: Whether it did.
        facts: What was found, one sentence.
        mend: What to do if it does not work.
    """

    name: str
    works: bool
    facts: str
    mend: str = ""

    def __str__(self) -> str:
        mark = "works" if self.works else "FAILS"
        return f"{mark}  {self.name}: {self.facts}" + (f"\n       {self.mend}" if self.mend else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to check.

    Attributes:
        device: The sound device, None for the system's default.
        wav: A file to play into, instead of a device.
        feed: What tells where the room is, None to leave it out.
        kind: What is there: the room itself or a relay, as in the settings.
        model_url: Base address of an OpenAI-compatible endpoint, None to leave it out.
        model_key: Its key.
        model: The model's name.
        engines: Makes each engine to be tried, by name.
    """

    device: int | str | None = None
    wav: Path | None = None
    feed: Callable[[], Endpoint] | None = None
    kind: str = "douyin"
    model_url: str | None = None
    model_key: str | None = None
    model: str = ""
    engines: Mapping[str, Callable[[], Engine]] = field(
        default_factory=lambda: engines_for(VoiceSettings())
    )


def checks(plan: Plan) -> Iterator[Finding]:
    """Try one thing after another; each finding comes as soon as it is known.

    Blocks: for some seconds in all; each step has its own limit.
    """
    if plan.wav is None:
        yield _devices()
    for name, engine in plan.engines.items():
        yield from _engine(name, engine)
    yield from _sound(plan)
    if plan.model_url:
        yield _model(plan.model_url, plan.model_key, plan.model)
    if plan.feed:
        yield _feed(plan.feed, plan.kind)


def _devices() -> Finding:
    try:
        devices = output_devices(refresh=True)
    except SinkError as error:
        mend = "install what is missing, or restart the sound server, or --wav FILE"
        return Finding("sound devices", works=False, facts=str(error), mend=mend)
    if not devices:
        return Finding(
            "sound devices",
            works=False,
            facts="there is none",
            mend="connect one, or start the sound server; until then the bot speaks into a file",
        )
    return Finding("sound devices", works=True, facts="; ".join(devices))


def _engine(name: str, make: Callable[[], Engine]) -> Iterator[Finding]:
    engine = make()
    try:
        voices = engine.voices()
        chinese = [v.id for v in voices if any(tag[:2] in ("cm", "zh") for tag in v.languages)]
        facts = f"{len(voices)} voices; Chinese: {', '.join(chinese) or 'none'}"
        mend = "" if chinese else "pip install espeakng-loader, or install a Chinese voice"
        yield Finding(f"voices of {name}", bool(chinese), facts, mend)
        speech = SpeechService(engine=lambda: engine).synthesize(_SENTENCE)
        yield Finding(f"engine {name}", works=True, facts=f"{speech.seconds:.1f} s of speech")
    except Exception as error:  # noqa: BLE001 - whatever it is, the other parts are still tried
        facts = str(error) if isinstance(error, SpeechError) else repr(error)
        yield Finding(f"engine {name}", works=False, facts=facts, mend=_MEND_ENGINE.get(name, ""))
    finally:
        engine.close()


def _sound(plan: Plan) -> Iterator[Finding]:
    """A tone and a sentence, heard on the device or found in the file."""
    sink: Sink = WavSink(plan.wav) if plan.wav else PortAudioSink(plan.device)
    heard: queue.SimpleQueue[float | None] = queue.SimpleQueue()
    # Without a fallback: a check must not replace the file that a bot has spoken into.
    player = AudioPlayer(sink, fallback=None, on_played=lambda _, at: heard.put(at))
    try:
        player.start()
        place = player.statistics().sink
        if place != sink.name:
            mend = "choose another file, or make room on its disk" if plan.wav else "see devices"
            facts = f"{sink.name} could not be opened: played into {place}"
            yield Finding("sound", works=False, facts=facts, mend=mend)
            return
        yield _heard("test tone", place, heard, lambda: player.play(0, Tone()))
        speech = _spoken(plan.engines)
        yield _heard("spoken sentence", place, heard, lambda: player.play(1, speech))
    except (SinkError, SpeechError) as error:
        yield Finding("sound", works=False, facts=str(error), mend="see what failed above")
    finally:
        player.stop()


def _spoken(engines: Mapping[str, Callable[[], Engine]]) -> Speech:
    """The sentence by the first engine that can say it."""
    failure = SpeechError("no voice", text=_SENTENCE, detail="there is no engine")
    for make in engines.values():
        service = SpeechService(engine=make)
        try:
            return service.synthesize(_SENTENCE)
        except SpeechError as error:
            failure = error
        finally:
            service.close()
    raise failure


def _heard(
    name: str, place: str, heard: queue.SimpleQueue[float | None], play: Callable[[], object]
) -> Finding:
    play()
    try:
        works = heard.get(timeout=_TIMEOUT) is not None
    except queue.Empty:
        works = False
    if works:
        return Finding(name, works=True, facts=f"went to {place}; was it heard?")
    return Finding(
        name,
        works=False,
        facts=f"{place} took no sound in {_TIMEOUT:g} s",
        mend="choose another device (see the list above), or restart the sound server",
    )


def _model(url: str, key: str | None, model: str) -> Finding:
    """Whether the endpoint answers and knows the model."""
    name = "language model"
    address = url.rstrip("/") + "/models"
    if not address.startswith(("http://", "https://")):
        facts = f"the address must begin with http:// or https://, not {url!r}"
        return Finding(name, works=False, facts=facts, mend="correct the base address")
    request = urllib.request.Request(address)  # noqa: S310 - the scheme was checked
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
            known = _model_names(json.load(answer))
    except urllib.error.HTTPError as exc:
        mend = "check the API key" if exc.code in (401, 403) else "check the base address"
        return Finding(name, works=False, facts=f"{address} answers {exc.code}", mend=mend)
    except (OSError, ValueError, HTTPException, RecursionError) as exc:
        return Finding(name, works=False, facts=str(exc), mend=f"is a server running at {url}?")
    if model and known and model not in known:
        facts = f"{url} does not know {model!r}"
        return Finding(name, works=False, facts=facts, mend=f"it has: {', '.join(known[:10])}")
    return Finding(name, works=True, facts=f"{url} answers and has {model or 'models'}")


def _model_names(answer: Any) -> Sequence[str]:
    """The names in a list of models; nothing if it is no such list."""
    try:
        return [str(entry["id"]) for entry in answer["data"]]
    except (TypeError, KeyError):
        return []


def _feed(feed: Callable[[], Endpoint], kind: str) -> Finding:
    """Whether the room can be reached and an event comes."""
    try:
        endpoint = feed()
    except (OSError, ValueError) as exc:
        mend = "correct feed.url, or what feed.command runs"
        return Finding("feed", works=False, facts=str(exc), mend=mend)
    news: queue.SimpleQueue[tuple[FeedState | None, str]] = queue.SimpleQueue()
    source = SOURCES[kind](
        lambda: endpoint,
        emit=lambda event: news.put((None, type(event).__name__.lower())),
        on_state=lambda state, sentence: news.put((state, sentence)),
        options=FeedOptions(connect_timeout=_TIMEOUT),
    )
    source.start()
    stop = threading.Timer(3 * _TIMEOUT, lambda: news.put((FeedState.STOPPED, "no event came")))
    stop.start()
    try:
        while True:
            state, sentence = news.get()
            if state is None:
                facts = f"{endpoint.shown} sends events (first: {sentence})"
                return Finding("feed", works=True, facts=facts)
            if state not in (FeedState.CONNECTING, FeedState.CONNECTED, FeedState.NEW):
                mend = "get a fresh address and headers: signatures expire; is the room live?"
                return Finding("feed", works=False, facts=sentence, mend=mend)
    finally:
        stop.cancel()
        stop.join()
        source.stop()
