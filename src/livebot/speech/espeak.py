"""espeak-ng: where its library and data are, and an engine that calls it in this process."""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livebot.speech.engines import Speech, SpeechError, Voice, checked
from threadkit import REAL, Runtime

__all__ = ["EspeakEngine", "EspeakFiles", "espeak_files", "short_path"]


@dataclass(frozen=True, slots=True)
class EspeakFiles:
    """The library to load and the directory of its voices."""

    library: str
    data: str


@functools.cache
def espeak_files() -> EspeakFiles | None:
    """The espeak-ng 1.52 that comes with `espeakng-loader`, or None where there is none.

    Debian's own 1.51 reads Mandarin with the tone numbers in English.
    """
    try:
        espeakng_loader: Any = importlib.import_module("espeakng_loader")
    except ImportError:
        return None
    library = str(espeakng_loader.get_library_path())
    data = str(espeakng_loader.get_data_path())
    if not (Path(library).exists() and Path(data).exists()):
        return None
    return EspeakFiles(library, short_path(data))


_LONGEST_PATH = 140  # bytes; espeak-ng keeps paths in 160, and adds names of files


def short_path(directory: str) -> str:
    """`directory`, or a link to it in the temporary directory if espeak-ng cannot take it."""
    if len(os.fsencode(directory)) <= _LONGEST_PATH:
        return directory
    link = Path(tempfile.mkdtemp(prefix="livebot-espeak-"), "espeak-ng-data")
    atexit.register(shutil.rmtree, link.parent, ignore_errors=True)
    link.symlink_to(directory, target_is_directory=True)
    return str(link)


# -- the library, as its header speak_lib.h declares it -------------------------------------

_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000  # else a missing voice directory ends this process
_BLOCK = 200  # milliseconds of sound to each callback
_RATE, _VOLUME = 1, 2
_UTF8 = 1
_ABORT, _GO_ON = 1, 0

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class _VoiceRecord(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),  # pairs of a priority byte and a zero-ended tag
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


class _Library:
    """espeak-ng in this process: one set of global variables, so one user at a time.

    Thread safety: none; `_library_lock` is held for each use.
    """

    def __init__(self, files: EspeakFiles) -> None:
        self._dll = ctypes.CDLL(files.library)
        self._dll.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_VoiceRecord))
        data = files.data.encode()
        self.sample_rate: int = self._dll.espeak_Initialize(
            _SYNCHRONOUS, _BLOCK, data, _DO_NOT_EXIT
        )
        if self.sample_rate <= 0:
            raise SpeechError("engine error", detail=f"espeak-ng finds no voices in {files.data}")
        self._properties: dict[str, object] = {}
        self._pieces: list[bytes] = []
        self._go_on: Callable[[], bool] = lambda: True
        self._callback = _Callback(self._take)  # kept: the library holds only its address
        self._dll.espeak_SetSynthCallback(self._callback)

    def voices(self) -> tuple[Voice, ...]:
        found: list[Voice] = []
        records = self._dll.espeak_ListVoices(None)
        while records[len(found)]:
            record = records[len(found)].contents
            tag = ctypes.string_at(record.languages + 1).decode("ascii", "replace")
            found.append(Voice(record.identifier.decode(), record.name.decode(), (tag,)))
        return tuple(found)

    def speak(
        self, text: str, voice: str, rate: int, volume: float, go_on: Callable[[], bool]
    ) -> bytes:
        """The samples of `text`, as far as `go_on` said yes after each block."""
        self._set("voice", voice, lambda: self._dll.espeak_SetVoiceByName(voice.encode()))
        self._set("rate", rate, lambda: self._dll.espeak_SetParameter(_RATE, rate, 0))
        percent = round(volume * 100)
        self._set("volume", volume, lambda: self._dll.espeak_SetParameter(_VOLUME, percent, 0))
        self._pieces.clear()
        self._go_on = go_on
        data = text.encode() + b"\0"
        self._check(
            self._dll.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 0, 0, _UTF8, None, None),
            "cannot speak",
        )
        return b"".join(self._pieces)

    def _set(self, name: str, value: object, change: Callable[[], int]) -> None:
        if self._properties.get(name) != value:
            self._properties.pop(name, None)
            self._check(change(), f"refuses the {name} {value!r}")
            self._properties[name] = value

    @staticmethod
    def _check(code: int, what: str) -> None:
        if code:
            raise SpeechError("engine error", detail=f"espeak-ng {what}: code {code}")

    def _take(self, samples: Any, count: int, _events: object) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        return _GO_ON if self._go_on() else _ABORT


# Guards the library's global variables. Held while it speaks one text, which is the one long
# hold of this package: a few milliseconds for a sentence, and never across anything else.
_library_lock = threading.Lock()


@functools.cache
def _library() -> _Library:
    files = espeak_files()
    if files is None:
        raise SpeechError("engine error", detail="the package espeakng-loader is not installed")
    return _Library(files)


class EspeakEngine:
    """An engine that calls espeak-ng in this process: quick, but it cannot be killed.

    A sentence takes a few milliseconds, no process is started and no file written. In exchange a
    fault in the library would end the whole program, which is why it is the second engine.

    Thread safety: any thread; all engines of this kind take turns, for the library has one state.

    Lifetime: the library stays loaded. `close` stops the text that is being spoken.

    Args:
        patience: Seconds any text may take.
        patience_per_character: Seconds each character adds.
        runtime: The clock.
    """

    name = "espeak-ng"

    def __init__(
        self,
        *,
        patience: float = 2.0,
        patience_per_character: float = 0.01,
        runtime: Runtime = REAL,
    ) -> None:
        self._patience = patience
        self._patience_per_character = patience_per_character
        self._monotonic = runtime.monotonic
        self._closed = False

    def voices(self) -> tuple[Voice, ...]:
        with _library_lock:
            return _library().voices()

    def synthesize(self, text: str, voice: str, rate: int, volume: float) -> Speech:
        with _library_lock:
            library = _library()
            patience = self._patience + self._patience_per_character * len(text)
            give_up_at = self._monotonic() + patience
            pcm = library.speak(
                text,
                voice,
                rate,
                volume,
                go_on=lambda: not self._closed and self._monotonic() < give_up_at,
            )
            too_late = self._monotonic() >= give_up_at
        if self._closed:
            raise SpeechError("closed", text=text)
        if too_late:
            raise SpeechError("timeout", text=text, detail=f"not done in {patience:.1f} s")
        return checked(Speech(pcm, library.sample_rate, text), volume=volume)

    def close(self) -> None:
        self._closed = True
