"""The bot's voice: texts in, checked and cached sound out, never stuck.

* `text`: what viewers type, made fit to be read; the language to read it in.
* `engines`: what an engine is; how its output is judged.
* `process` and `worker`: pyttsx3 in a process of its own, killed when it hangs.
* `espeak`: espeak-ng's library and voices, and the engine that calls it in this process.
* `piper`: Piper's neural voices, where the package and a voice are installed.
* `batch`: many texts at once, each result in its own place.
* `lending`: engines of one kind, each lent to one caller at a time.
* `choice`: the engine the settings name, and those that stand in for it.
* `service`: SpeechService, which the synthesis threads call.
"""

from livebot.speech.choice import engines_for
from livebot.speech.engines import Engine, Speech, SpeechError, Voice
from livebot.speech.espeak import EspeakEngine
from livebot.speech.piper import PiperEngine
from livebot.speech.process import Pyttsx3Process
from livebot.speech.service import SpeechService, SpeechStatistics
from livebot.speech.text import Language, language_of, normalised

__all__ = [
    "Engine",
    "EspeakEngine",
    "Language",
    "PiperEngine",
    "Pyttsx3Process",
    "Speech",
    "SpeechError",
    "SpeechService",
    "SpeechStatistics",
    "Voice",
    "engines_for",
    "language_of",
    "normalised",
]
