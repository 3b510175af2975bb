"""pyttsx3 in a process of its own, which can be killed when it hangs and never outlives us."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from livebot.speech.engines import BYTES_PER_SAMPLE, Speech, SpeechError, Voice, checked
from livebot.speech.espeak import espeak_files
from threadkit import REAL, Runtime

__all__ = ["Pyttsx3Process"]

_HEADER = struct.Struct(">II")  # length of the JSON object, length of the PCM
_LARGEST = 1 << 28  # bytes; an answer that claims more is garbage on the pipe
_PROGRAM = Path(__file__).with_name("worker.py")


class _Answer(NamedTuple):
    facts: dict[str, Any]
    pcm: bytes


class Pyttsx3Process:
    """An engine that speaks through one worker process with one pyttsx3 engine in it.

    pyttsx3 is not thread-safe, cannot be forked, may hang, and now and then writes an empty file.
    So the process is spawned afresh, each text has a deadline of `patience` seconds and
    `patience_per_character` for each character, a worker that misses it is killed and replaced,
    and what comes back is judged before it is returned. What may be chance is tried once more.

    Thread safety: calls from several threads take turns; `close` may come at any time.

    Lifetime: starts its process with the first call and replaces it when it died. `close` ends
    it. The worker ends by itself when this process does, even by SIGKILL, because its stdin ends.

    Args:
        driver: pyttsx3's driver, such as "espeak" or "sapi5"; None means the system's own.
        start_timeout: Seconds a new process may take until it is ready.
        patience: Seconds any text may take.
        patience_per_character: Seconds each character adds.
        command: What to run instead of the worker program; it must speak the same protocol.
        runtime: Clock, locks and threads.
    """

    def __init__(
        self,
        *,
        driver: str | None = None,
        start_timeout: float = 20.0,
        patience: float = 2.0,
        patience_per_character: float = 0.01,
        command: Sequence[str] | None = None,
        runtime: Runtime = REAL,
    ) -> None:
        self.name = f"pyttsx3-{driver or 'system'}"
        self._driver = driver
        self._start_timeout = start_timeout
        self._patience = patience
        self._patience_per_character = patience_per_character
        self._command = list(command or (sys.executable, "-I", str(_PROGRAM)))
        self._runtime = runtime
        # Held for a whole call: the worker serves one request at a time. Taken before _lock.
        self._turn = runtime.lock()
        # Guards the two fields below; bookkeeping only, so `close` never waits for a call.
        self._lock = runtime.lock()
        self._child: _Child | None = None
        self._closed = False
        # Written by the caller whose turn it is.
        self._spawned = 0
        self._killed = 0
        self._died = 0
        self._retried = 0

    @property
    def pid(self) -> int | None:
        """The worker's process id, None while there is no worker."""
        child = self._child
        return child.pid if child else None

    @property
    def spawned(self) -> int:
        """How many worker processes were started so far."""
        return self._spawned

    @property
    def killed(self) -> int:
        """How many of them were killed because they did not answer in time."""
        return self._killed

    @property
    def died(self) -> int:
        """How many of them ended by themselves, were killed by others, or talked rubbish."""
        return self._died

    @property
    def retried(self) -> int:
        """How many texts were tried a second time."""
        return self._retried

    def voices(self) -> tuple[Voice, ...]:
        """The voices of its driver.

        Blocks: until the worker is ready, at most `start_timeout` seconds.
        """
        with self._turn:
            return self._ready_child("").voices

    def synthesize(self, text: str, voice: str, rate: int, volume: float) -> Speech:
        """Speak `text`, in at most two attempts.

        Blocks: at most twice its deadline, and `start_timeout` for each process to be started.

        Raises:
            SpeechError: With the reason.
        """
        request = {"text": text, "voice": voice, "rate": rate, "volume": volume}
        with self._turn:
            try:
                return self._attempt(request)
            except SpeechError as error:
                if not error.curable:
                    raise
                self._retried += 1
                return self._attempt(request)

    def close(self) -> None:
        """End the worker process; a call under way raises SpeechError("closed").

        Blocks: until the process is gone, a few milliseconds.
        """
        with self._lock:
            self._closed = True
            child, self._child = self._child, None
        if child:
            child.kill()

    def _attempt(self, request: dict[str, Any]) -> Speech:
        text = request["text"]
        child = self._ready_child(text)
        patience = self._patience + self._patience_per_character * len(text)
        try:
            answer = child.ask(request, patience)
            return checked(_speech(answer, text), volume=request["volume"])
        except SpeechError as error:
            if error.reason in ("timeout", "worker died"):
                self._discard(child, error)
            raise

    def _ready_child(self, text: str) -> _Child:
        child = self._child or self._spawn(text)
        try:
            child.wait_ready(self._start_timeout)
        except SpeechError as error:
            told = SpeechError(error.reason, text=text, detail=error.detail)
            self._discard(child, told)
            raise told from None
        return child

    def _spawn(self, text: str) -> _Child:
        if self._closed:  # a fair guess without the lock; the answer that counts comes below
            raise SpeechError("closed", text=text)
        child = _Child(self._command, self._driver, self._runtime)
        self._spawned += 1
        with self._lock:
            kept = not self._closed
            if kept:
                self._child = child
        if not kept:
            child.kill()
            raise SpeechError("closed", text=text)
        return child

    def _discard(self, child: _Child, error: SpeechError) -> None:
        """Make way for a new process; if `close` took this one, say so instead of `error`."""
        with self._lock:
            closed = self._closed
            if self._child is child:
                self._child = None
        child.kill()
        if closed:
            raise SpeechError("closed", text=error.text) from None
        self._killed += error.reason == "timeout"
        self._died += error.reason == "worker died"


class _Child:
    """One worker process, the thread that reads its answers, and its directory for WAV files."""

    def __init__(self, command: Sequence[str], driver: str | None, runtime: Runtime) -> None:
        self._monotonic = runtime.monotonic
        self.voices: tuple[Voice, ...] = ()
        self._ready = False
        self._directory = tempfile.mkdtemp(prefix="livebot-speech-")
        self._answers = runtime.simple_queue()  # an _Answer each, then None when the pipe ended
        try:
            self._process = _popen(command)
        except OSError as exc:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise SpeechError("worker died", detail=f"cannot start {command[0]}: {exc}") from exc
        self._requests = cast("IO[bytes]", self._process.stdin)
        self.pid = self._process.pid
        self._reader = runtime.thread(
            _read_answers,
            args=(cast("IO[bytes]", self._process.stdout), self._answers.put),
            name=f"livebot-speech-reader-{self.pid}",
            daemon=True,
        )
        self._reader.start()
        self._send(_settings(driver, self._directory))

    def wait_ready(self, timeout: float) -> None:
        if not self._ready:
            answer = self._take(timeout, text="")
            self.voices = tuple(Voice(v[0], v[1], tuple(v[2])) for v in answer.facts["voices"])
            self._ready = True

    def ask(self, request: dict[str, Any], timeout: float) -> _Answer:
        self._send(request)
        return self._take(timeout, text=request["text"])

    def kill(self) -> None:
        """End the process, its reader and its directory. Twice is harmless."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._requests.close()
        self._reader.join()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _send(self, message: dict[str, Any]) -> None:
        # A broken pipe is noticed by the reader, which tells `_take`.
        with contextlib.suppress(OSError, ValueError):
            self._requests.write(json.dumps(message).encode() + b"\n")
            self._requests.flush()

    def _take(self, timeout: float, *, text: str) -> _Answer:
        try:
            answer: _Answer | None = self._answers.get(timeout=timeout)
        except queue.Empty as exc:
            detail = f"no answer in {timeout:.1f} s"
            raise SpeechError("timeout", text=text, detail=detail) from exc
        if answer is None:
            self._answers.put(None)
            raise SpeechError("worker died", text=text, detail=self._ending())
        if "error" in answer.facts:
            raise SpeechError("engine error", text=text, detail=answer.facts["error"])
        return answer

    def _ending(self) -> str:
        code = self._process.poll()
        return "" if code is None else f"exit code {code}"


def _popen(command: Sequence[str]) -> subprocess.Popen[bytes]:
    files = espeak_files()
    environment = dict(os.environ)
    if files:
        environment["ESPEAK_DATA_PATH"] = files.data
    return subprocess.Popen(  # noqa: S603 - our own program
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


def _settings(driver: str | None, directory: str) -> dict[str, Any]:
    files = espeak_files()
    return {
        "driver": driver,
        "library": files.library if files else None,
        "directory": directory,
        "path": sys.path,
    }


def _read_answers(pipe: IO[bytes], put: Any) -> None:
    """Hand on each answer until the pipe ends or holds anything else, then None."""
    with pipe:
        try:
            while _hand_on_an_answer(pipe, put):
                pass
        except (OSError, ValueError):
            pass
        finally:
            put(None)


def _hand_on_an_answer(pipe: IO[bytes], put: Any) -> bool:
    """False when the pipe has ended. On return nothing here holds the answer any more.

    The wait for the next one may be long, and each idle worker would keep its last sentence.
    """
    answer = _read_answer(pipe)
    if answer is not None:
        put(answer)
    return answer is not None


def _read_answer(pipe: IO[bytes]) -> _Answer | None:
    header = pipe.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    facts_length, pcm_length = _HEADER.unpack(header)
    if max(facts_length, pcm_length) > _LARGEST:
        return None
    facts = pipe.read(facts_length)
    return _Answer(json.loads(facts), pipe.read(pcm_length))


def _speech(answer: _Answer, text: str) -> Speech:
    facts = answer.facts
    if (facts["channels"], facts["sample_bytes"]) != (1, BYTES_PER_SAMPLE):
        raise SpeechError("engine error", text=text, detail=f"not 16-bit mono: {facts}")
    if not answer.pcm:
        raise SpeechError("empty audio", text=text)
    if len(answer.pcm) < facts["frames"] * BYTES_PER_SAMPLE:
        raise SpeechError("truncated audio", text=text)
    return Speech(answer.pcm, facts["sample_rate"], text)
