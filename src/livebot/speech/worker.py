"""The program of one speech worker process: pyttsx3 behind a pipe, and nothing else.

Run by path, in isolated mode, by `Pyttsx3Process`; it imports nothing of livebot, so it starts
fast. Requests come as JSON lines on stdin; each answer goes to what was stdout at the start, as
two big-endian lengths, a JSON object and the PCM samples. Whatever pyttsx3 prints goes nowhere.

The process ends when its stdin does. That happens however the parent dies, so no worker can
outlive it; a thread of its own watches, because the main thread may hang inside an engine.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import queue
import shutil
import signal
import struct
import sys
import threading
import wave
from typing import Any, BinaryIO

HEADER = struct.Struct(">II")  # length of the JSON object, length of the PCM
FINISH_TIMEOUT = 600.0  # seconds; the parent's deadline kills this process long before


def main() -> None:
    """Serve requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    answers = _take_stdout()
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    settings = json.loads(sys.stdin.buffer.readline())
    watcher = threading.Thread(
        target=_read_requests, args=(requests, settings["directory"]), daemon=True
    )
    watcher.start()
    try:
        voice = _Pyttsx3(settings)
    except BaseException as exc:  # noqa: BLE001 - whatever it is, the parent must hear of it
        _answer(answers, {"error": f"{type(exc).__name__}: {exc}"})
        return
    _answer(answers, {"voices": voice.voices()})
    while True:
        _serve(voice, requests.get(), answers)


def _take_stdout() -> BinaryIO:
    """Keep the pipe for answers; point fd 1 and `print` at nothing."""
    pipe = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    sys.stdout = open(os.devnull, "w", encoding="utf-8", errors="replace")  # noqa: SIM115, PTH123
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415

        msvcrt.setmode(pipe, os.O_BINARY)
    return os.fdopen(pipe, "wb")


def _read_requests(requests: queue.SimpleQueue[dict[str, Any]], directory: str) -> None:
    for line in sys.stdin.buffer:
        requests.put(json.loads(line))
    shutil.rmtree(directory, ignore_errors=True)
    os._exit(0)


def _answer(answers: BinaryIO, facts: dict[str, Any], pcm: bytes = b"") -> None:
    encoded = json.dumps(facts).encode()
    answers.write(HEADER.pack(len(encoded), len(pcm)) + encoded + pcm)
    answers.flush()


def _serve(voice: _Pyttsx3, request: dict[str, Any], answers: BinaryIO) -> None:
    try:
        facts, pcm = voice.synthesize(request)
    except Exception as exc:  # noqa: BLE001 - reported, the next request may succeed
        facts, pcm = {"error": f"{type(exc).__name__}: {exc}"}, b""
    _answer(answers, facts, pcm)


class _Pyttsx3:
    """One pyttsx3 engine; properties are set only when they change, and then waited for.

    The espeak driver sets them on a thread of its own, and `runAndWait` cancels whatever that
    thread is at: a property that was just set is lost, or the text is, and the file is empty.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        if settings["library"]:
            # pyttsx3's own dlopen by SONAME finds the library that is already loaded.
            ctypes.CDLL(settings["library"])
        sys.path[:] = settings["path"]
        pyttsx3: Any = importlib.import_module("pyttsx3")  # only now that it finds the library
        self._engine: Any = pyttsx3.init(settings["driver"])
        self._engine.connect("finished-utterance", self._on_finished)
        self._engine.connect("error", self._on_error)
        self._file = os.path.join(settings["directory"], "speech.wav")  # noqa: PTH118
        self._finished = threading.Event()
        self._errors: list[str] = []
        self._properties: dict[str, object] = {}

    def voices(self) -> list[tuple[str, str, list[str]]]:
        return [
            (str(voice.id), str(voice.name), [_tag(tag) for tag in voice.languages or ()])
            for voice in self._engine.getProperty("voices")
        ]

    def _on_finished(self, name: object, completed: object) -> None:
        del name, completed
        self._finished.set()

    def _on_error(self, name: object, exception: object) -> None:
        del name
        self._errors.append(str(exception))
        self._finished.set()

    def synthesize(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        self._errors.clear()
        changed = self._change_properties(request)
        self._run(request["text"])
        if self._errors:
            for name in changed:
                del self._properties[name]  # which of them was refused is not told
            raise RuntimeError("; ".join(self._errors))
        return self._read_file()

    def _run(self, text: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._file)  # noqa: PTH107
        self._finished.clear()
        self._engine.save_to_file(text, self._file)
        self._engine.runAndWait()
        self._finished.wait(FINISH_TIMEOUT)

    def _change_properties(self, request: dict[str, Any]) -> list[str]:
        changed = [n for n in ("voice", "rate", "volume") if self._properties.get(n) != request[n]]
        for name in changed:
            self._engine.setProperty(name, request[name])
            self._properties[name] = request[name]
        if changed:
            self._settle()
        return changed

    def _settle(self) -> None:
        """Let the engine carry out what was set, before the next text can cancel it."""
        self._engine.proxy.setBusy(False)  # runs what waits until the next `runAndWait`
        espeak = sys.modules.get("pyttsx3.drivers._espeak")
        if espeak:
            espeak.Synchronize()

    def _read_file(self) -> tuple[dict[str, Any], bytes]:
        with wave.open(self._file, "rb") as file:
            facts = {
                "sample_rate": file.getframerate(),
                "channels": file.getnchannels(),
                "sample_bytes": file.getsampwidth(),
                "frames": file.getnframes(),
            }
            return facts, file.readframes(file.getnframes())


def _tag(tag: object) -> str:
    """A language tag; some drivers give bytes with a length in front."""
    if isinstance(tag, bytes):
        tag = tag.lstrip(bytes(range(32))).decode("ascii", "replace")
    return str(tag)


if __name__ == "__main__":
    main()
