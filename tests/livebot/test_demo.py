"""The real demo, as a user starts it: server, protocol, queues, worker processes, a WAV file."""

import json
import os
import signal
import subprocess
import sys
import wave

import numpy as np
import psutil
import pytest

from livebot_program import line_with, running

SILENCE_BETWEEN = 0.2  # seconds; the rest between sentences is 0.3, pauses inside one are shorter


def demo(folder, *options):
    return running(folder, "demo", "--port", "0", "--wav", "out.wav", *options)


def utterances(path):
    """How many sounds the file holds, by silence detection."""
    with wave.open(str(path)) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(int)
    loud = np.flatnonzero(np.abs(samples) > 60)
    return 1 + int(np.sum(np.diff(loud) > SILENCE_BETWEEN * rate)) if len(loud) else 0


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """One run of the demo for some seconds, four times as fast as the room was."""
    folder = tmp_path_factory.mktemp("demo")
    options = ("--seconds", "12", "--speed", "4", "--json", "out.json", "--no-browser")
    with demo(folder, *options) as program:
        shown = program.stderr.read()
        assert program.wait(60) == 0, shown
    return folder, json.loads((folder / "out.json").read_text(encoding="utf-8")), shown


def test_the_account_balances(played):
    _, account, _ = played
    ended = account["spoken"] + account["pending"] + sum(account["dropped"].values())
    assert account["received"] == ended
    assert account["decoded"] == account["received"] + sum(account["other"].values())
    assert account["sent"] >= account["decoded"] > 100
    assert account["spoken"] >= 2


def test_the_file_holds_every_sentence_that_was_spoken(played):
    folder, account, _ = played
    assert account["audio"]["path"] == "out.wav"
    in_the_air_at_the_end = 1
    heard = utterances(folder / "out.wav")
    assert account["spoken"] <= heard <= account["spoken"] + in_the_air_at_the_end


def test_what_was_said_is_shown_and_summed_up(played):
    _, account, shown = played
    assert shown.count("said: ") == account["spoken"]
    assert "dropped because" in shown
    assert "Traceback" not in shown


def test_the_delay_is_counted_from_the_event_to_its_first_sound(played):
    _, account, _ = played
    delay = account["delay_seconds"]
    assert 0 < delay["p50"] <= delay["p95"] <= account["seconds"]


def test_the_end_of_the_recording_ends_the_demo_with_nothing_pending(tmp_path):
    (tmp_path / "room.jsonl").write_text(
        '{"t": 0, "type": "chat", "user": "u1", "content": "晚上好"}\n'
        '{"t": 1, "type": "like", "user": "u2", "count": 3, "total": 3}\n'
        '{"t": 2, "type": "chat", "user": "u3", "content": "几点下播"}\n',
        encoding="utf-8",
    )
    options = ("--speed", "20", "--room", "room.jsonl", "--json", "out.json")
    with demo(tmp_path, *options) as program:
        shown = program.stderr.read()
        assert program.wait(60) == 0, shown
    account = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert (account["received"], account["spoken"], account["pending"]) == (3, 2, 0)
    assert account["dropped"] == {"no template for like": 1}
    assert utterances(tmp_path / "out.wav") == 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_signal_in_the_middle_of_speech_leaves_no_process_behind(tmp_path, name):
    number = getattr(signal, name)
    with demo(tmp_path, "--speed", "4") as program:
        line_with(program.stderr, "said: ")  # the next sentence is being spoken now
        children = psutil.Process(program.pid).children(recursive=True)
        assert children, "the speech workers are processes of their own"
        os.kill(program.pid, number)
        told = program.stderr.read()
        assert program.wait(30) == (-number if name == "SIGKILL" else 0), told
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    assert utterances(tmp_path / "out.wav") >= 1, "the file is valid however the demo ended"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_shows_a_live_table(tmp_path):
    import pty

    ours, theirs = pty.openpty()
    options = ["--port", "0", "--wav", "out.wav", "--seconds", "3"]
    command = [sys.executable, "-m", "livebot", "demo", *options]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    ) as program:
        os.close(theirs)
        shown = read_all(ours)
        assert program.wait(60) == 0
    assert shown.count("waiting") > 2, "the table is drawn again and again"


def read_all(terminal):
    parts = []
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other end was closed
            part = b""
        if not part:
            os.close(terminal)
            return b"".join(parts).decode("utf-8", "replace")
        parts.append(part)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--seconds", "0"), "must be a number above 0, not 0"),
        (("--speed", "fast"), "must be a number above 0, not fast"),
        (("--room", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--json", "nowhere/out.json"), "cannot write nowhere/out.json: there is no folder"),
    ],
)
def test_a_wrong_call_is_refused_with_its_reason(tmp_path, options, complaint):
    with demo(tmp_path, *options) as program:
        shown = program.stderr.read()
        assert program.wait(30) in (1, 2)
    assert complaint in shown
    assert "Traceback" not in shown
