"""The engine the settings name, and those that stand in when it fails."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from livebot.config import VoiceSettings
from livebot.speech.engines import Engine
from livebot.speech.espeak import EspeakEngine
from livebot.speech.piper import PiperEngine
from livebot.speech.process import Pyttsx3Process

__all__ = ["engines_for"]

Make = Callable[[], Engine]


def engines_for(voice: VoiceSettings) -> Mapping[str, Make]:
    """Makes each engine, by its name in the settings: the chosen one first, then its stand-ins.

    >>> list(engines_for(VoiceSettings(engine="espeak")))
    ['espeak', 'pyttsx3']
    """
    known: dict[str, Make] = {"pyttsx3": Pyttsx3Process, "espeak": EspeakEngine}
    if voice.piper_folder is not None:
        known["piper"] = functools.partial(PiperEngine, voice.piper_folder)
    # espeak-ng is in this process and needs nothing of the system, so it comes before all others.
    names = dict.fromkeys((voice.engine, "espeak", "pyttsx3"))
    return {name: known[name] for name in names}
