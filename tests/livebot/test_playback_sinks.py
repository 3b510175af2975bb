"""Sinks: a file in real time that is valid at every moment, and devices that are not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import types
import wave
from pathlib import Path

import numpy as np
import pytest

from livebot.playback import PortAudioSink, SinkError, WavSink, output_devices, sinks
from threadkit import REAL
from threadkit.testing import SimRuntime, explore

RATE = 1000


def counting():
    """A fill that gives 1, 2, 3, ... and the instants at which each block is heard."""
    state = types.SimpleNamespace(next=1, heard_at=[])

    def fill(out, heard_at):
        out[:] = np.arange(state.next, state.next + len(out))
        state.next += len(out)
        state.heard_at.append(heard_at)

    return state, fill


def samples(path):
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def never(why):
    pytest.fail(f"lost: {why}")


def test_the_file_holds_as_many_seconds_as_have_passed(tmp_path):
    def scenario(sim):
        sink = WavSink(tmp_path / "out.wav", runtime=sim)
        state, fill = counting()
        began_at = sim.monotonic()
        sink.open(fill, RATE, never)
        sim.sleep(10)
        sink.close()
        heard = samples(sink.path)
        assert len(heard) / RATE == pytest.approx(10, abs=0.05)
        assert (heard == np.arange(1, len(heard) + 1)).all()
        assert state.heard_at == pytest.approx(
            [began_at + n * 0.02 for n in range(len(state.heard_at))]
        )

    explore(scenario, 5)


def test_the_file_is_valid_at_every_moment(tmp_path):
    def scenario(sim):
        sink = WavSink(tmp_path / "out.wav", runtime=sim)
        _, fill = counting()
        lengths = []

        def looked_at(out, heard_at):
            lengths.append(len(samples(sink.path)))
            fill(out, heard_at)

        sink.open(looked_at, RATE, never)
        sim.sleep(1)
        sink.close()
        assert lengths == [20 * n for n in range(len(lengths))]

    explore(scenario, 3)


def test_opened_again_it_goes_on_at_the_end(tmp_path):
    def scenario(sim):
        sink = WavSink(tmp_path / "out.wav", runtime=sim)
        _, fill = counting()
        for _ in range(2):
            sink.open(fill, RATE, never)
            sim.sleep(1)
            sink.close()
            sim.sleep(5)
        heard = samples(sink.path)
        assert (heard == np.arange(1, len(heard) + 1)).all()
        assert len(heard) == pytest.approx(2 * RATE, abs=50)

    explore(scenario, 3)


def test_a_machine_that_slept_does_not_make_up_for_it(tmp_path):
    def scenario(sim):
        sink = WavSink(tmp_path / "out.wav", runtime=sim)
        _, fill = counting()
        slept = threading.Event()

        def sleepy(out, heard_at):
            if not slept.is_set():
                slept.set()
                sim.sleep(3600)
            fill(out, heard_at)

        sink.open(sleepy, RATE, never)
        sim.sleep(3602)
        sink.close()
        assert len(samples(sink.path)) / RATE < 3

    explore(scenario, 3)


def test_when_the_format_is_full_it_starts_at_the_beginning(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "_LARGEST", 1000)

    def scenario(sim):
        sink = WavSink(tmp_path / "out.wav", runtime=sim)
        _, fill = counting()
        sink.open(fill, RATE, never)
        sim.sleep(2)
        sink.close()
        heard = samples(sink.path)
        assert 0 < len(heard) <= 500
        assert sink.path.stat().st_size < 1100
        assert heard[0] > 500

    explore(scenario, 3)


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(SinkError, match="cannot write"):
        WavSink(tmp_path / "missing" / "out.wav").open(counting()[1], RATE, never)


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="only where there is a full device")
def test_a_full_disk_is_a_lost_sink():
    sim = SimRuntime(seed=3)
    lost = []

    class Full(WavSink):
        def _begin(self, sample_rate):
            self._sample_rate = sample_rate
            self._file = FULL.open("wb")

    def scenario():
        sink = Full(FULL, runtime=sim)
        sink.open(counting()[1], RATE, lost.append)
        sim.sleep(1)
        sink.close()

    sim.run(scenario)
    assert len(lost) == 1
    assert "No space left" in lost[0]


@pytest.mark.skipif(not FULL.exists(), reason="only where there is a full device")
def test_a_file_that_takes_no_header_is_closed_again():
    def open_files():
        return len(list(Path("/proc/self/fd").iterdir()))

    sink, before = WavSink(FULL), open_files()
    with pytest.raises(SinkError, match="No space left"):
        sink.open(counting()[1], RATE, never)
    assert open_files() == before


PROGRAM = """
import sys, time
from livebot.playback import AudioPlayer
from livebot.playback.sinks import NullSink
class Beep: pcm = b"\\1\\1" * 22050; sample_rate = 22050; text = "beep"
player = AudioPlayer(wav=sys.argv[1])
player.start()
player.play(0, Beep())
while not player.statistics().seconds > 0.3:
    time.sleep(0.01)
print("speaking", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_file_is_valid_after_the_process_was_killed_in_the_middle(tmp_path, number):
    path = tmp_path / "out.wav"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"speaking\n"
        process.send_signal(number)
        process.wait(10)
    with wave.open(str(path), "rb") as file:
        heard = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        assert file.getnframes() * 2 <= path.stat().st_size - 44
    assert np.count_nonzero(heard) > 0.25 * 22050


class FakeSoundDevice(types.SimpleNamespace):
    """PortAudio as far as it is used, with devices that accept only some settings."""

    class PortAudioError(Exception):
        pass

    def __init__(self, devices=(), accepts=None):
        super().__init__(devices=list(devices), accepts=accepts, streams=[], refreshed=0)
        self.default = types.SimpleNamespace(device=(-1, 0 if devices else -1))

    def query_devices(self, device=None, kind=None):
        if kind is None:
            return self.devices
        if not self.devices:
            raise self.PortAudioError("Error querying device -1")
        return self.devices[device or 0]

    def check_output_settings(self, *, device, channels, dtype, samplerate):
        if self.accepts and (channels, samplerate) not in self.accepts:
            raise self.PortAudioError("Invalid sample rate")

    def RawOutputStream(self, **settings):  # noqa: N802
        stream = types.SimpleNamespace(
            settings=settings, start=lambda: None, abort=lambda: None, close=lambda: None
        )
        self.streams.append(stream)
        return stream

    def _terminate(self):
        self.refreshed += 1

    def _initialize(self):
        pass


def device(name, rate=48000, outputs=2):
    return {"name": name, "default_samplerate": float(rate), "max_output_channels": outputs}


@pytest.fixture
def with_devices(monkeypatch):
    def install(*devices, accepts=None):
        fake = FakeSoundDevice(devices, accepts)
        monkeypatch.setitem(sys.modules, "sounddevice", fake)
        return fake

    return install


def test_without_portaudio_the_mend_is_named(monkeypatch):
    def missing(name):
        raise OSError("PortAudio library not found")

    monkeypatch.setattr(sinks.importlib, "import_module", missing)
    with pytest.raises(SinkError, match="install the package libportaudio2"):
        PortAudioSink().open(counting()[1], 22050, never)


def test_without_a_device_it_cannot_be_opened(with_devices):
    with_devices()
    assert output_devices() == []
    with pytest.raises(SinkError, match="cannot play on the default device"):
        PortAudioSink().open(counting()[1], 22050, never)


def test_devices_are_listed_default_first(with_devices):
    fake = with_devices(device("a"), device("microphone", outputs=0), device("b"))
    fake.default.device = (1, 2)
    assert output_devices() == ["b", "a"]
    output_devices(refresh=True)
    assert fake.refreshed == 1


def pulled(fake, frames, *, underflow=False, ahead=0.03):
    channels = fake.streams[-1].settings["channels"]
    buffer = bytearray(2 * frames * channels)
    time = types.SimpleNamespace(currentTime=10.0, outputBufferDacTime=10.0 + ahead)
    status = types.SimpleNamespace(output_underflow=underflow)
    fake.streams[-1].settings["callback"](buffer, frames, time, status)
    return np.frombuffer(buffer, np.int16).reshape(frames, channels)


def test_portaudio_that_could_not_be_begun_again_is_tried_until_it_can(with_devices):
    fake = with_devices(device("a"))
    begun, broken = [True], [True]

    def terminate():
        if not begun.pop():
            begun.append(False)
            raise fake.PortAudioError("PortAudio not initialized")
        begun.append(False)

    def initialize():
        if broken[0]:
            raise fake.PortAudioError("Unanticipated host error")
        begun[0] = True

    fake._terminate, fake._initialize = terminate, initialize
    sink = PortAudioSink()
    sink.open(counting()[1], 22050, never)
    for _ in range(2):
        with pytest.raises(SinkError, match="Unanticipated host error"):
            sink.open(counting()[1], 22050, never)
        with pytest.raises(SinkError, match="Unanticipated host error"):
            output_devices(refresh=True)
    broken[0] = False
    sink.open(counting()[1], 22050, never)
    sink.close()
    assert output_devices(refresh=True) == ["a"]


def test_a_driver_that_does_not_answer_takes_neither_the_caller_nor_stderr(
    with_devices, monkeypatch
):
    fake, answered = with_devices(device("a")), threading.Event()

    def initialize():  # as sounddevice does it
        kept = os.dup(2)
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        answered.wait(20)
        os.dup2(kept, 2)
        os.close(kept)

    fake._initialize = initialize
    monkeypatch.setattr(sinks, "_OPEN_TIMEOUT", 0.05)
    before = os.fstat(2)
    try:
        with pytest.raises(SinkError, match="no answer"):
            output_devices(refresh=True)
        assert os.path.samestat(os.fstat(2), before)
    finally:
        answered.set()
        for thread in threading.enumerate():
            if thread.name == "livebot-portaudio":
                thread.join(10)


def test_a_device_is_asked_for_mono_at_our_rate_first(with_devices):
    fake = with_devices(device("usual"))
    sink = PortAudioSink()
    state, fill = counting()
    sink.open(fill, 22050, never)
    assert pulled(fake, 5).ravel().tolist() == [1, 2, 3, 4, 5]
    pulled(fake, 5, underflow=True)
    assert (sink.name, sink.underflows) == ("usual", 1)
    assert state.next == 11
    sink.close()


def test_a_device_is_given_more_time_up_to_a_quarter_of_a_second(with_devices):
    fake = with_devices(device("usual"))
    sink = PortAudioSink()
    _, fill = counting()
    asked = []
    for _ in range(5):
        sink.open(fill, 22050, never)
        asked.append(fake.streams[-1].settings["latency"])
        sink.close()
        widened = sink.widen()
    assert asked == [0.02, 0.04, 0.08, 0.16, 0.24]
    assert not widened
    assert [sink.narrow() and sink.latency for _ in range(5)] == [0.12, 0.06, 0.03, 0.02, False]


def test_a_device_that_refuses_mono_and_our_rate_gets_stereo_at_its_own(with_devices):
    fake = with_devices(device("hardware", rate=44100), accepts={(2, 44100)})
    sink = PortAudioSink()

    def ramp(out, heard_at, state=[0]):  # noqa: B006
        out[:] = 10 * np.arange(state[0], state[0] + len(out))
        state[0] += len(out)

    sink.open(ramp, 22050, never)
    heard = np.concatenate([pulled(fake, frames) for frames in (7, 64, 1, 128, 30)])
    assert (heard[:, 0] == heard[:, 1]).all()
    steps = np.diff(heard[4:, 0])  # twice the samples, so half the slope, without a seam
    assert set(steps.tolist()) <= {4, 5, 6}
    sink.close()


def test_a_latency_the_driver_does_not_know_is_taken_as_the_wanted_one(with_devices):
    fake = with_devices(device("vague"))
    clock = types.SimpleNamespace(monotonic=lambda: 100.0, thread=REAL.thread, event=REAL.event)
    sink = PortAudioSink(latency=0.05, runtime=clock)
    state, fill = counting()
    sink.open(fill, 22050, never)
    pulled(fake, 5, ahead=-10.0)
    pulled(fake, 5, ahead=0.02)
    assert state.heard_at == pytest.approx([100.05, 100.02])


def test_losing_the_device_is_told_but_closing_it_is_not(with_devices):
    fake = with_devices(device("usb"))
    lost = []
    sink = PortAudioSink()
    sink.open(counting()[1], 22050, lost.append)
    finished = fake.streams[-1].settings["finished_callback"]
    finished()
    assert lost == ["it ended"]
    sink.close()
    finished()
    assert lost == ["it ended"]
    sink.open(counting()[1], 22050, lost.append)
    assert fake.refreshed == 1  # looked for devices again
