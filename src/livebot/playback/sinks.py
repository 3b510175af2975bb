"""Where sound goes: a sound device through PortAudio, or a WAV file written in real time."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import os
import struct
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from threadkit import REAL, Runtime, ThreadkitError

__all__ = [
    "Fill",
    "NullSink",
    "PortAudioSink",
    "Samples",
    "Sink",
    "SinkError",
    "WavSink",
    "output_devices",
]

logger = logging.getLogger("livebot.playback")

Samples = npt.NDArray[np.int16]
Fill = Callable[[Samples, float], None]
"""Fills a buffer whose first sample is heard at an instant of the monotonic clock."""


class SinkError(ThreadkitError):
    """Raised when a sink cannot be opened; says what to do about it."""


class Sink(Protocol):
    """Pulls sound from `fill`, at the speed it is heard, from `open` to `close`."""

    @property
    def name(self) -> str:
        """For people: the device or the file."""
        ...

    @property
    def path(self) -> Path | None:
        """The file it writes, None for a device."""
        ...

    @property
    def underflows(self) -> int:
        """How often sound came too late for the device."""
        ...

    @property
    def latency(self) -> float:
        """Seconds of sound the device may hold; 0 for a file."""
        ...

    def widen(self) -> bool:
        """Let it hold more from its next opening on; False if it holds as much as it may."""
        ...

    def narrow(self) -> bool:
        """Let it hold less again; False if it holds no more than at first."""
        ...

    def open(self, fill: Fill, sample_rate: int, on_lost: Callable[[str], None]) -> None:
        """Begin to pull 16-bit mono samples; `on_lost` is called, once, if the device goes away.

        Raises:
            SinkError: If it cannot; nothing was opened then.
        """
        ...

    def close(self) -> None:
        """Stop pulling. `fill` and `on_lost` are not called any more once it returns."""
        ...


# -- a sound device -------------------------------------------------------------------------


def _sounddevice() -> Any:
    """The module, or SinkError: importing it fails where PortAudio is not installed."""
    try:
        return importlib.import_module("sounddevice")
    except (ImportError, OSError) as exc:
        raise SinkError(
            f"no PortAudio ({exc}): on Debian and Ubuntu, install the package libportaudio2",
            component="playback",
        ) from exc


def output_devices(*, refresh: bool = False) -> list[str]:
    """Names of the devices that can play, the default first; empty where there are none.

    Args:
        refresh: Look again, instead of at the list made when PortAudio was initialised. Closes
            every PortAudio stream of this process.

    Blocks: at most 5 s, while the sound system does not answer.

    Raises:
        SinkError: PortAudio is not installed, or fails, or does not answer.
    """
    found: list[str] = []
    _Patience(REAL).call(lambda: found.extend(_playing(refresh=refresh)), _OPEN_TIMEOUT)
    return found


def _playing(*, refresh: bool) -> list[str]:
    sd = _sounddevice()
    try:
        return _named(sd, refresh=refresh)
    except sd.PortAudioError as exc:
        raise SinkError(f"PortAudio fails: {exc}", component="playback") from exc


def _named(sd: Any, *, refresh: bool) -> list[str]:
    if refresh:
        _look_again(sd)
    default = sd.default.device[1]
    playing = [(i, d["name"]) for i, d in enumerate(sd.query_devices()) if d["max_output_channels"]]
    return [name for _, name in sorted(playing, key=lambda entry: entry[0] != default)]


def _look_again(sd: Any) -> None:
    # PortAudio freezes the list of devices when it is initialised; there is no public way to
    # renew it.
    with contextlib.suppress(sd.PortAudioError):  # it was ended, but could not be begun again
        sd._terminate()  # noqa: SLF001
    sd._initialize()  # noqa: SLF001


class _Patience:
    """Has calls made on a thread that can be left behind: a frozen sound server never returns."""

    def __init__(self, runtime: Runtime) -> None:
        self._thread = runtime.thread
        self._stuck: Any = None  # the thread of a call that did not return in time

    def call(self, step: Callable[[], None], timeout: float) -> None:
        """Do `step`, or raise SinkError after `timeout` seconds."""
        if self._stuck is not None and self._stuck.is_alive():
            raise SinkError("the sound system does not answer", component="playback")
        failures: list[Exception] = []

        def run() -> None:
            try:
                step()
            except Exception as exc:  # noqa: BLE001 - raised again below
                failures.append(exc)

        thread = self._thread(run, name="livebot-portaudio", daemon=True)
        with _stderr_kept() as give_back:
            thread.start()
            thread.join(timeout)
            if thread.is_alive():
                self._stuck = thread
                give_back()
                _wait_for_no_driver_at_exit()
                raise SinkError(f"no answer in {timeout:g} s", component="playback")
        if failures:
            raise failures[0]


@contextlib.contextmanager
def _stderr_kept() -> Generator[Callable[[], object]]:
    """What gives this process its stderr back.

    sounddevice points it at nothing while PortAudio looks for devices; when that does not return,
    nobody would read why there is no sound.
    """
    try:
        kept = os.dup(2)
    except OSError:  # it was closed before
        yield lambda: None
        return
    try:
        yield lambda: os.dup2(kept, 2)
    finally:
        os.close(kept)


def _wait_for_no_driver_at_exit() -> None:
    """Else the interpreter's end would wait for a driver that does not answer."""
    # Not imported, for that may be what does not return.
    handler = getattr(sys.modules.get("sounddevice"), "_exit_handler", None)
    if handler is not None:
        atexit.unregister(handler)


_LATENCY_LIMIT = 0.24  # seconds; more would be felt in every answer and interrupt
_OPEN_TIMEOUT = 5.0  # seconds
_CLOSE_TIMEOUT = 2.0
_LAST_BLOCK = 0.05  # seconds


class PortAudioSink:
    """One PortAudio stream that is open all the time and fed silence between sounds.

    Lifetime: `open` and `close` as often as wanted; each `open` after the first looks for
    devices anew, which closes other PortAudio streams of this process.

    Args:
        device: Its number, or a part of its name; None means the system's default.
        latency: Seconds of sound the device may hold at first; also how long an interrupt takes to
            be heard. A device that runs dry is given more, up to 0.24, and less again when it has
            not run dry for long.
        runtime: The clock.
    """

    path = None

    def __init__(
        self, device: int | str | None = None, *, latency: float = 0.02, runtime: Runtime = REAL
    ) -> None:
        self._device = device
        self._least = latency
        self.latency = latency
        self._monotonic = runtime.monotonic
        self._patience = _Patience(runtime)
        self._stream: Any = None
        self._opened_before = False
        self._closing = False
        self._ended = runtime.event()  # set when PortAudio pulls no more
        self.underflows = 0
        self.name = "PortAudio"

    def widen(self) -> bool:
        if self.latency >= _LATENCY_LIMIT:
            return False
        self.latency = min(2 * self.latency, _LATENCY_LIMIT)
        return True

    def narrow(self) -> bool:
        if self.latency <= self._least:
            return False
        self.latency = max(self.latency / 2, self._least)
        return True

    def open(self, fill: Fill, sample_rate: int, on_lost: Callable[[str], None]) -> None:
        self._patience.call(lambda: self._open(fill, sample_rate, on_lost), _OPEN_TIMEOUT)

    def close(self) -> None:
        try:
            self._patience.call(self._finish, _CLOSE_TIMEOUT)
        except SinkError as error:
            logger.warning("%s was left open: %s", self.name, error)

    def _open(self, fill: Fill, sample_rate: int, on_lost: Callable[[str], None]) -> None:
        sd = _sounddevice()
        self._abandon()  # what an earlier call left behind when it did not return in time
        self._closing = False
        self._ended.clear()
        try:
            if self._opened_before:
                _look_again(sd)
            self._opened_before = True
            facts = sd.query_devices(self._device, "output")
            channels, rate = _accepted(sd, self._device, facts, sample_rate)
            adapted = fill if rate == sample_rate else _Resampled(fill, sample_rate, rate)
            self._stream = sd.RawOutputStream(
                device=self._device,
                samplerate=rate,
                channels=channels,
                dtype="int16",
                latency=self.latency,
                callback=self._callback(adapted, channels),
                finished_callback=lambda: self._on_finished(on_lost),
            )
            self._stream.start()
        except (sd.PortAudioError, ValueError) as exc:
            self._abandon()
            wanted = "the default device" if self._device is None else repr(self._device)
            raise SinkError(f"cannot play on {wanted}: {exc}", component="playback") from exc
        self.name = str(facts["name"])

    def _finish(self) -> None:
        # What was pulled is still on its way to the ear; closing a stream throws it away.
        if self._stream is not None and not self._ended.is_set():
            self._ended.wait(self.latency + _LAST_BLOCK)
        self._abandon()

    def _abandon(self) -> None:
        self._closing = True
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(Exception):  # a lost device may refuse even to be closed
                stream.abort()
            with contextlib.suppress(Exception):
                stream.close()

    def _on_finished(self, on_lost: Callable[[str], None]) -> None:
        self._ended.set()
        if not self._closing:
            on_lost("it ended")

    def _callback(self, fill: Fill, channels: int) -> Callable[[Any, int, Any, Any], None]:
        monotonic = self._monotonic

        def callback(buffer: Any, frames: int, time: Any, status: Any) -> None:
            if status.output_underflow:
                self.underflows += 1
            # Some drivers report no times at all; then the wanted latency is the best guess.
            ahead = time.outputBufferDacTime - time.currentTime
            if not 0 < ahead < _LATENESS_BELIEVED:
                ahead = self.latency
            out: Samples = np.frombuffer(buffer, np.int16)
            block = out if channels == 1 else np.empty(frames, np.int16)
            fill(block, monotonic() + ahead)
            if channels > 1:
                out[:] = np.repeat(block, channels)

        return callback


_LATENESS_BELIEVED = 5.0  # seconds


def _accepted(sd: Any, device: Any, facts: Any, sample_rate: int) -> tuple[int, int]:
    """Channels and rate the device takes: mono at our rate at best; else the first refusal."""
    refusal: Exception | None = None
    for rate in (sample_rate, int(facts["default_samplerate"])):
        for channels in (1, 2):
            try:
                sd.check_output_settings(
                    device=device, channels=channels, dtype="int16", samplerate=rate
                )
            except (sd.PortAudioError, ValueError) as exc:
                refusal = refusal or exc
            else:
                return channels, rate
    assert refusal is not None  # noqa: S101 - the loops ran, and returned or set it
    raise refusal


class _Resampled:
    """Linear interpolation, block by block, for a device that refuses our rate."""

    def __init__(self, fill: Fill, source_rate: int, rate: int) -> None:
        self._fill = fill
        self._step = source_rate / rate
        self._at = 1.0  # position of the next output sample, after the last two of the input
        self._kept = np.zeros(2, np.int16)

    def __call__(self, out: Samples, heard_at: float) -> None:
        positions = self._at + self._step * np.arange(len(out))
        wanted = int(positions[-1]) + 2 - len(self._kept)
        block = np.empty(max(0, wanted), np.int16)
        if len(block):
            self._fill(block, heard_at)
        known = np.concatenate([self._kept, block])
        out[:] = np.interp(positions, np.arange(len(known)), known).astype(np.int16)
        following = positions[-1] + self._step
        used = min(int(following), len(known) - 1)
        self._kept = known[used:]
        self._at = following - used


# -- a file ---------------------------------------------------------------------------------

_BLOCK = 0.02  # seconds of sound pulled at a time
_CAUGHT_UP = 1.0  # seconds; a longer delay (the machine slept) is not made up for
_HEADER_BYTES = 44
_LARGEST = (1 << 32) - 1 - 65536  # bytes a WAV header can count, less some room


class NullSink:
    """Pulls sound at the speed of the clock and lets it go: time passes, nothing is heard.

    Lifetime: `open` and `close` as often as wanted.

    Args:
        runtime: Clock, thread and event.
    """

    path: Path | None = None
    name = "nowhere"
    underflows = 0
    latency = 0.0

    def __init__(self, *, runtime: Runtime = REAL) -> None:
        self._runtime = runtime
        self._stopping = runtime.event()
        self._thread: Any = None

    def widen(self) -> bool:
        return False

    def narrow(self) -> bool:
        return False

    def open(self, fill: Fill, sample_rate: int, on_lost: Callable[[str], None]) -> None:
        try:
            self._begin(sample_rate)
        except OSError as exc:
            self._end()
            raise SinkError(f"cannot write {self.path}: {exc}", component="playback") from exc
        self._stopping.clear()
        self._thread = self._runtime.thread(
            self._run, args=(fill, sample_rate, on_lost), name="livebot-clocked-sink", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        self._end()

    def _run(self, fill: Fill, sample_rate: int, on_lost: Callable[[str], None]) -> None:
        try:
            self._pull(fill, sample_rate)
        except OSError as exc:  # a full disk
            on_lost(str(exc))

    def _pull(self, fill: Fill, sample_rate: int) -> None:
        monotonic = self._runtime.monotonic
        block = np.empty(round(_BLOCK * sample_rate), np.int16)
        due_at = monotonic()
        while not self._stopping.wait(max(0.0, due_at - monotonic())):
            if monotonic() - due_at > _CAUGHT_UP:
                due_at = monotonic()
            fill(block, due_at)
            self._write(block)
            due_at += _BLOCK

    def _begin(self, sample_rate: int) -> None:
        """Get ready; an OSError is told as a SinkError."""

    def _write(self, block: Samples) -> None:
        """Keep the block; an OSError means that the sink is lost."""

    def _end(self) -> None:
        """Give everything back. May come twice."""


class WavSink(NullSink):
    """A WAV file written at the speed of the clock, for machines without a sound device.

    The header is brought up to date with every block, so the file is valid however the process
    ends. When the format's 4 GiB are full (27 hours), writing starts again at the beginning.

    Lifetime: the first `open` replaces the file, a later one goes on at its end.

    Args:
        path: The file; its directory must exist.
        runtime: Clock, thread and event.
    """

    def __init__(self, path: str | Path, *, runtime: Runtime = REAL) -> None:
        super().__init__(runtime=runtime)
        self.path = self._target = Path(path)
        self.name = f"file {self.path}"
        self._file: BinaryIO | None = None
        self._sample_rate = 0
        self._size = 0  # bytes of samples in the file

    def _begin(self, sample_rate: int) -> None:
        self._file = self._target.open("r+b" if self._size else "wb")
        self._sample_rate = sample_rate
        self._write_header()

    def _write(self, block: Samples) -> None:
        assert self._file is not None  # noqa: S101 - between _begin and _end
        if self._size + block.nbytes > _LARGEST:
            self._size = 0
        self._file.seek(_HEADER_BYTES + self._size)
        self._file.write(block.tobytes())
        self._size += block.nbytes
        self._write_header()

    def _write_header(self) -> None:
        assert self._file is not None  # noqa: S101 - between _begin and _end
        self._file.seek(0)
        self._file.write(_wav_header(self._sample_rate, self._size))
        self._file.flush()

    def _end(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # closing flushes, which fails on a full disk
                self._file.close()
            self._file = None


def _wav_header(sample_rate: int, size: int) -> bytes:
    """Header of a 16-bit mono WAV file that holds `size` bytes of samples."""
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", size + _HEADER_BYTES - 8, b"WAVE"),
        *(b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16),
        *(b"data", size),
    )
