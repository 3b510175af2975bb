"""A real sound server for the tests that listen, and engines that fail on command."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

RATE = 22050
FAULTY_WORKER = Path(__file__).parent / "audio" / "faulty_worker.py"
_TOOLS = ("pulseaudio", "parec")


@pytest.fixture
def faulty_command(tmp_path):
    """The command of a speech worker that does what each text tells it to."""
    return [sys.executable, "-I", "-S", str(FAULTY_WORKER), str(tmp_path)]


@pytest.fixture
def faulty_engine(faulty_command):
    """Makes engines over the faulty worker, patient unless told otherwise; closes all."""
    from livebot.speech import Pyttsx3Process

    with contextlib.ExitStack() as stack:

        def make(**settings):
            arguments = {"command": faulty_command, "patience": 20, **settings}
            engine = Pyttsx3Process(**arguments)
            stack.callback(engine.close)
            return engine

        yield make


def process_is_alive(pid):
    """Whether `pid` runs; a zombie that nobody has waited for counts as dead."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def is_alive():
    return process_is_alive


class SoundServer:
    """A PulseAudio server with one silent output that can be listened to."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.socket = self.directory / "native"
        self.environment = {
            "XDG_RUNTIME_DIR": str(directory),
            "PULSE_SERVER": f"unix:{self.socket}",
            "ALSA_CONFIG_PATH": str(self.directory / "asound.conf"),
        }
        (self.directory / "asound.conf").write_text(
            "</usr/share/alsa/alsa.conf>\n"
            f'pcm.!default {{ type pulse device "livebot" server "unix:{self.socket}" }}\n'
        )
        self._process = None
        self._log = None

    def start(self):
        self.socket.unlink(missing_ok=True)
        socket = f"module-native-protocol-unix socket={self.socket} auth-anonymous=1"
        output = f"module-null-sink sink_name=livebot rate={RATE} channels=1"
        self._process = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no"),
                *("--exit-idle-time=-1", "--log-target=stderr", "--log-level=info"),
                *("-L", socket, "-L", output),
            ],
            env={**os.environ, **self.environment, "HOME": str(self.directory)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in self._process.stderr:
            if "startup complete" in line:
                break
        else:
            pytest.fail(f"pulseaudio ended with code {self._process.wait()}")
        self._log = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._log.start()

    def kill(self):
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._log.join()
            self._process.stderr.close()
            self._process = None

    def signal(self, number):
        self._process.send_signal(number)


class Listener:
    """Records what the silent output plays, noting when each piece was heard."""

    def __init__(self, server):
        self._process = subprocess.Popen(
            [
                *("parec", "-d", "livebot.monitor", "--raw", f"--rate={RATE}"),
                *("--channels=1", "--format=s16le", "--latency-msec=10"),
            ],
            env={**os.environ, **server.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._changed = threading.Condition()
        self._pieces = []  # (time it came, samples before it, samples)
        self._count = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.wait_for(lambda: self._count > 0)

    def _read(self):
        while piece := self._process.stdout.read1(4096):
            if len(piece) % 2:
                piece += self._process.stdout.read(1)
            with self._changed:
                self._pieces.append((time.monotonic(), self._count, piece))
                self._count += len(piece) // 2
                self._changed.notify_all()

    def forget(self):
        """Begin anew with what is heard from now on."""
        with self._changed:
            self._pieces.clear()
            self._count = 0

    def wait_for(self, predicate, timeout=20):
        with self._changed:
            assert self._changed.wait_for(predicate, timeout), "nothing is heard"

    def wait_until_loud(self, timeout=20):
        """Wait until something is heard that was not heard yet; when that was."""
        began = self._count
        self.wait_for(lambda: self._loud_since(began), timeout)
        return time.monotonic()

    def wait_for_silence(self, seconds, timeout=20):
        """Wait until the last `seconds` were silent."""
        count = round(seconds * RATE)
        self.wait_for(lambda: self._count >= count and not self.heard()[-count:].any(), timeout)

    def _loud_since(self, count):
        return any(at >= count and any(piece) for _, at, piece in reversed(self._pieces[-8:]))

    def heard(self):
        """Everything heard so far, as samples."""
        return np.frombuffer(b"".join(piece for _, _, piece in self._pieces), np.int16)

    def last_loud_at(self):
        """When the last piece came that was not silent."""
        with self._changed:
            return max(came for came, _, piece in self._pieces if any(piece))

    def close(self):
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        self._process.stdout.close()


@functools.cache
def _missing_tools():
    return [tool for tool in _TOOLS if shutil.which(tool) is None]


@contextlib.contextmanager
def running_server(directory):
    """A PulseAudio server that is this process's default output. Required on CI."""
    if _missing_tools():
        reason = f"needs {', '.join(_missing_tools())}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    directory.mkdir(mode=0o700, exist_ok=True)
    server = SoundServer(directory)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        server.start()
        look_for_devices_again()
        try:
            yield server
        finally:
            server.kill()
            for thread in threading.enumerate():
                if thread.name == "livebot-portaudio":  # froze with the server, and ends with it
                    thread.join(10)
            look_for_devices_again()


def look_for_devices_again():
    import sounddevice

    sounddevice._terminate()
    sounddevice._initialize()


@pytest.fixture(scope="module")
def sound_server(tmp_path_factory):
    """One server for all tests of a file: a silent output takes 2 s until it runs."""
    with running_server(tmp_path_factory.mktemp("pulse")) as server:
        yield server


@pytest.fixture(scope="module")
def _shared_listener(sound_server):
    listener = Listener(sound_server)
    yield listener
    listener.close()


@pytest.fixture
def listener(_shared_listener):
    """Hears the shared server, from now on; nothing sounds any more."""
    _shared_listener.forget()
    _shared_listener.wait_for_silence(0.1)
    return _shared_listener


@pytest.fixture
def mortal_server(tmp_path):
    """A server for one test, which may kill it."""
    with running_server(tmp_path / "pulse") as server:
        yield server


@pytest.fixture
def listen():
    """Makes listeners to a server."""
    with contextlib.ExitStack() as stack:

        def make(server):
            listener = Listener(server)
            stack.callback(listener.close)
            return listener

        yield make


class Tone:
    """A sound of one frequency that begins and ends loud, so that a cut is seen."""

    def __init__(self, frequency, seconds=0.4, *, text="", sample_rate=RATE):
        count = round(seconds * sample_rate)
        wave = 12000 * np.cos(2 * np.pi * frequency * np.arange(count) / sample_rate)
        self.samples = wave.astype(np.int16)
        self.samples[self.samples == 0] = 1  # so that only silence is zero
        self.pcm = self.samples.tobytes()
        self.sample_rate = sample_rate
        self.text = text or f"{frequency} Hz"


@pytest.fixture
def tone():
    return Tone
