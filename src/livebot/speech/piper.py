"""Piper as an engine: neural voices from files, for those who installed the package and a voice."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from livebot.speech.engines import Speech, SpeechError, Voice, checked
from threadkit import REAL, Runtime

__all__ = ["PiperEngine"]

_USUAL_RATE = 200  # words a minute that stand for the speed a voice was trained at

# Guards Piper's phonemizer, which has global variables. Held while it speaks one text; it computes
# on threads of its own anyway.
_piper_lock = threading.Lock()


class PiperEngine:
    """An engine that speaks with Piper's voices, in this process.

    The best to listen to and the slowest to answer. Needs the
    package `piper-tts` (extra `piper`) and at least one voice, a pair of files NAME.onnx and
    NAME.onnx.json.

    Thread safety: any thread; all engines of this kind take turns.

    Lifetime: a voice is loaded with its first text and kept. `close` ends the text that is being
    spoken after the sentence it is at.

    Args:
        folder: Where the voice files are.
        patience: Seconds any text may take; looked at between sentences.
        patience_per_character: Seconds each character adds.
        runtime: The clock.
    """

    name = "piper"

    def __init__(
        self,
        folder: str | Path,
        *,
        patience: float = 5.0,
        patience_per_character: float = 0.1,
        runtime: Runtime = REAL,
    ) -> None:
        self._folder = Path(folder)
        self._patience = patience
        self._patience_per_character = patience_per_character
        self._monotonic = runtime.monotonic
        self._loaded: dict[str, Any] = {}  # guarded by _piper_lock
        self._closed = False

    def voices(self) -> tuple[Voice, ...]:
        return tuple(_voice(path) for path in sorted(self._folder.glob("*.onnx.json")))

    def synthesize(self, text: str, voice: str, rate: int, volume: float) -> Speech:
        patience = self._patience + self._patience_per_character * len(text)
        give_up_at = self._monotonic() + patience
        with _piper_lock:
            piper = _piper()
            model = self._load(piper, voice, text)
            length = model.config.length_scale * _USUAL_RATE / rate
            settings = piper.SynthesisConfig(length_scale=length, volume=volume)
            pieces: list[bytes] = []
            for chunk in _told(model.synthesize(text, syn_config=settings), text):
                if self._closed:
                    raise SpeechError("closed", text=text)
                if self._monotonic() >= give_up_at:
                    detail = f"not done in {patience:.1f} s"
                    raise SpeechError("timeout", text=text, detail=detail)
                pieces.append(chunk.audio_int16_bytes)
        return checked(Speech(b"".join(pieces), model.config.sample_rate, text), volume=volume)

    def close(self) -> None:
        self._closed = True

    def _load(self, piper: Any, voice: str, text: str) -> Any:
        if self._closed:
            raise SpeechError("closed", text=text)
        if voice not in self._loaded:
            path = self._folder / f"{voice}.onnx"
            if not path.exists():
                raise SpeechError("engine error", text=text, detail=f"there is no {path}")
            try:
                self._loaded[voice] = piper.PiperVoice.load(path)
            except Exception as exc:  # a broken file fails in many ways
                raise SpeechError("engine error", text=text, detail=f"{path}: {exc}") from exc
        return self._loaded[voice]


def _piper() -> Any:
    try:
        return importlib.import_module("piper")
    except ImportError as exc:
        detail = "Piper is not installed: pip install 'threadkit[piper]'"
        raise SpeechError("engine error", detail=detail) from exc


def _told(chunks: Iterable[Any], text: str) -> Iterable[Any]:
    """The chunks; whatever fails on the way is told as a SpeechError."""
    try:
        yield from chunks
    except Exception as exc:  # onnxruntime and the phonemizers have their own errors
        raise SpeechError("engine error", text=text, detail=repr(exc)) from exc


def _voice(path: Path) -> Voice:
    """What a voice's configuration says about it."""
    name = path.name.removesuffix(".onnx.json")
    try:
        facts = json.loads(path.read_text("utf-8"))
        return Voice(name, name, (facts["language"]["code"],))
    except (OSError, ValueError, KeyError, TypeError):
        # Without that entry, the beginning of the name is the language: zh_CN-huayan-medium.
        return Voice(name, name, (name.partition("-")[0],))
