"""Pyttsx3Process: a worker that may fail in every way, and never outlives its parent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from livebot.speech import Pyttsx3Process, SpeechError, process

VOICE = ("sit/cmn", 200, 1.0)


def patience_with(fault):
    """Short where its end is what is tested; elsewhere a busy machine must not reach it."""
    return 1 if fault == "hang" else 20


@pytest.fixture(scope="module")
def engine():
    engine = Pyttsx3Process(patience=20)
    engine.voices()  # starts it now, before the first test counts threads
    yield engine
    engine.close()


def test_chinese_is_spoken_by_a_mandarin_voice(engine):
    speech = engine.synthesize("谢谢小明送的玫瑰花", *VOICE)
    assert speech.sample_rate == 22050
    # The wrong voice reads tone numbers and letters: 9 syllables would take over 5 seconds.
    assert 1.2 < speech.seconds < 3
    assert "sit/cmn" in {voice.id for voice in engine.voices()}


def test_each_text_gets_its_own_sound(engine):
    texts = ["一二三", "四五六七八九十", "hello world"]
    sounds = [engine.synthesize(text, *VOICE) for text in texts]
    again = [engine.synthesize(text, *VOICE) for text in reversed(texts)]
    assert [s.text for s in sounds] == texts
    lengths = [s.seconds for s in sounds]
    # espeak's breath is random, so two readings of a text are alike, not equal.
    assert [s.seconds for s in reversed(again)] == pytest.approx(lengths, rel=0.05)
    assert lengths[1] > 1.5 * lengths[0]


def test_a_rate_that_changes_with_every_text_is_obeyed_every_time(engine):
    lengths = {rate: [] for rate in (180, 360)}
    for _ in range(25):
        for rate, found in lengths.items():
            found.append(engine.synthesize("今天天气很好", "sit/cmn", rate, 1.0).seconds)
    assert max(lengths[360]) < 0.7 * min(lengths[180])
    assert engine.retried == 0


def test_rate_and_volume_are_obeyed_at_once(engine):
    normal, fast, quiet = (
        engine.synthesize("今天天气很好", "sit/cmn", rate, volume)
        for rate, volume in ((200, 1.0), (350, 1.0), (200, 0.3))
    )
    assert fast.seconds < 0.8 * normal.seconds
    assert quiet.seconds == pytest.approx(normal.seconds, rel=0.05)
    assert loudest(quiet) < 0.6 * loudest(normal)


def loudest(speech):
    import numpy as np

    return np.abs(np.frombuffer(speech.pcm, np.int16).astype(int)).max()


def test_an_unknown_voice_is_an_error_and_the_next_text_is_spoken(engine):
    with pytest.raises(SpeechError, match="nobody") as caught:
        engine.synthesize("你好", "nobody", 200, 1.0)
    assert caught.value.reason == "engine error"
    assert engine.synthesize("你好", *VOICE).seconds > 0.2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("hang", "timeout"),
        ("crash", "worker died"),
        ("garbage", "worker died"),
        ("empty", "empty audio"),
        ("silent", "empty audio"),
        ("truncated", "truncated audio"),
        ("endless", "implausible length"),
    ],
)
def test_a_fault_is_tried_twice_then_told(faulty_engine, fault, reason):
    engine = faulty_engine(patience=patience_with(fault))
    with pytest.raises(SpeechError) as caught:
        engine.synthesize(fault, *VOICE)
    assert caught.value.reason == reason
    assert engine.retried == 1
    assert engine.synthesize("fine", *VOICE).seconds == 0.5


@pytest.mark.parametrize("fault", ["hang", "crash", "garbage", "empty", "truncated", "silent"])
def test_a_fault_that_comes_once_costs_only_a_retry(faulty_engine, fault):
    engine = faulty_engine(patience=patience_with(fault))
    assert engine.synthesize(f"once-{fault}", *VOICE).seconds == 0.5
    assert engine.retried == 1
    assert engine.spawned == (2 if fault in ("hang", "crash", "garbage") else 1)
    assert (engine.killed, engine.died) == (fault == "hang", fault in ("crash", "garbage"))


@pytest.mark.parametrize("fault", ["error", "stereo"])
def test_what_cannot_be_cured_is_not_tried_again(faulty_engine, fault):
    engine = faulty_engine()
    with pytest.raises(SpeechError) as caught:
        engine.synthesize(fault, *VOICE)
    assert caught.value.reason == "engine error"
    assert engine.retried == 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("hang", "timeout"), ("error", "engine error"), ("crash", "worker died")],
)
def test_a_worker_that_does_not_start_is_told(faulty_command, faulty_engine, fault, reason):
    command = [*faulty_command[:-1], f"start-{fault}"]
    engine = faulty_engine(command=command, start_timeout=patience_with(fault))
    with pytest.raises(SpeechError) as caught:
        engine.synthesize("你好", *VOICE)
    assert caught.value.reason == reason
    assert engine.pid is None
    assert (engine.killed > 0, engine.died > 0) == (fault == "hang", fault == "crash")


def test_a_program_that_is_not_there_is_told(faulty_engine):
    engine = faulty_engine(command=["/nowhere/at/all"])
    with pytest.raises(SpeechError, match="cannot start") as caught:
        engine.synthesize("你好", *VOICE)
    assert caught.value.reason == "worker died"


def test_a_worker_killed_between_two_texts_is_replaced(faulty_engine):
    engine = faulty_engine()
    engine.synthesize("one", *VOICE)
    os.kill(engine.pid, signal.SIGKILL)
    assert engine.synthesize("two", *VOICE).seconds == 0.5
    assert engine.spawned == 2


def test_close_ends_a_call_under_way_and_leaves_nothing(faulty_engine, is_alive, tmp_path):
    engine = faulty_engine(patience=60)
    engine.synthesize("one", *VOICE)
    pid = engine.pid
    errors = []

    def call():
        with pytest.raises(SpeechError) as caught:
            engine.synthesize("once-hang", *VOICE)
        errors.append(caught.value.reason)

    thread = threading.Thread(target=call)
    thread.start()
    wait_for_file(tmp_path / "hang")
    engine.close()
    thread.join(10)
    assert errors == ["closed"]
    assert not is_alive(pid)
    with pytest.raises(SpeechError, match="closed"):
        engine.synthesize("two", *VOICE)


def wait_for_file(path):
    ready = threading.Event()
    for _ in range(1000):  # another process makes it: there is nothing to wait on but its name
        if path.exists():
            return
        ready.wait(0.01)
    pytest.fail(f"{path} never came")


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptor_or_directory_is_left(faulty_engine, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = descriptors()
    for fault in ("fine", "crash", "garbage"):
        engine = faulty_engine()
        with contextlib.suppress(SpeechError):
            engine.synthesize(fault, *VOICE)
        engine.close()
    assert descriptors() == before
    assert not list(tmp_path.glob("livebot-*"))


def test_the_last_answer_is_not_kept_while_the_next_is_waited_for():
    events = []

    class Pcm(bytes):
        def __del__(self):
            events.append("let go")

    class Pipe(contextlib.nullcontext):
        def read(self, _count):
            if not (piece := next(pieces, b"")):
                events.append("waits for the next")
            return piece

    facts = json.dumps({"frames": 1}).encode()
    header = process._HEADER.pack(len(facts), 2)
    pieces = (make() for make in (lambda: header, lambda: facts, lambda: Pcm(b"\1\1")))
    process._read_answers(Pipe(), lambda _answer: None)
    assert events == ["let go", "waits for the next"]


PARENT = """
import sys, threading
from livebot.speech import Pyttsx3Process
engine = Pyttsx3Process()
engine.synthesize("你好", "sit/cmn", 200, 1.0)
print(engine.pid, flush=True)
sys.stdin.read()
"""


def test_the_worker_dies_with_a_parent_that_was_killed(tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, sys.path)),
        "TMPDIR": str(tmp_path),
    }
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with parent:
        worker = int(parent.stdout.readline())
        with open_process(worker) as ended:
            parent.kill()
            assert ended(10), "the worker outlived its parent"
    assert list(tmp_path.iterdir()) == []


class open_process:  # noqa: N801
    """Waits for the end of a process that is not our child."""

    def __init__(self, pid):
        self._fd = os.pidfd_open(pid)

    def __enter__(self):
        import select

        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return lambda timeout: bool(poll.poll(timeout * 1000))

    def __exit__(self, *exc_info):
        os.close(self._fd)


def test_the_worker_is_silent_and_ignores_ctrl_c(engine, capfd):
    engine.synthesize("你好", *VOICE)
    pid = engine.pid
    os.kill(pid, signal.SIGINT)
    engine.synthesize("再见", *VOICE)
    assert engine.pid == pid
    assert capfd.readouterr() == ("", "")


def test_the_worker_program_imports_nothing_of_ours():
    source = Path(sys.modules["livebot.speech.process"]._PROGRAM).read_text()
    assert "import livebot" not in source
    assert "from livebot" not in source
