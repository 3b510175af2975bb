"""Each command from its start to its end, as a program of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import wave

import pytest
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer

from livebot.__main__ import main
from livebot.sources import read_recording
from livebot_program import line_with, livebot, running

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def interrupted(program):
    """Press Ctrl-C; how it ended."""
    os.kill(program.pid, signal.SIGINT)
    _, told = program.communicate(timeout=30)
    assert "Traceback" not in told
    return program.returncode


def account(folder, name="out.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def seconds_of(path):
    with wave.open(str(path)) as file:
        return file.getnframes() / file.getframerate()


# -- simulate, record, replay -------------------------------------------------------------------


@pytest.fixture
def room(tmp_path):
    """A room that ends after three events; its recording."""
    path = tmp_path / "room.jsonl"
    path.write_text(
        '{"t": 0, "type": "chat", "user": "u1", "content": "晚上好"}\n'
        '{"t": 1, "type": "like", "user": "u2", "count": 3, "total": 3}\n'
        '{"t": 2, "type": "chat", "user": "u3", "content": "几点下播"}\n',
        encoding="utf-8",
    )
    return path


@posix
def test_what_is_simulated_can_be_recorded_and_replayed(tmp_path, room):
    simulate = ("simulate", "--room", "room.jsonl", "--speed", "50", "--json", "sim.json")
    with running(tmp_path, *simulate) as program:
        url = program.stdout.readline().strip()
        assert url.startswith("ws://127.0.0.1:")
        done = livebot(tmp_path, "record", "rec.jsonl", "--url", url, "--json", "-")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert interrupted(program) == 0
    assert account(tmp_path, "sim.json")["sent"] == {"chat": 2, "like": 1, "control": 1}
    events = [event for _, event in read_recording(tmp_path / "rec.jsonl")]
    assert [event.kind for event in events] == ["chat", "like", "chat", "control"]
    assert told["events"] == len(events)
    options = ("--speed", "max", "--port", "0", "--wav", "out.wav", "--json", "out.json")
    done = livebot(tmp_path, "replay", "rec.jsonl", *options)
    assert done.returncode == 0, done.stderr
    now = account(tmp_path)
    assert (now["received"], now["spoken"], now["pending"]) == (3, 2, 0)
    assert now["feed"]["state"] == "ended"
    assert seconds_of(tmp_path / "out.wav") > 1


def test_a_recording_with_a_broken_line_is_told_before_a_word_is_spoken(tmp_path, room):
    room.write_text(room.read_text(encoding="utf-8") + "{oops\n", encoding="utf-8")
    done = livebot(tmp_path, "replay", "room.jsonl", "--wav", "out.wav", "--port", "0")
    assert done.returncode == 1
    assert "room.jsonl, line 4: " in done.stderr
    assert "said" not in done.stderr


def test_an_existing_recording_is_not_replaced_unless_asked(tmp_path, room):
    before = room.read_text(encoding="utf-8")
    done = livebot(tmp_path, "record", "room.jsonl", "--url", "ws://127.0.0.1:1/")
    assert done.returncode == 1
    assert "room.jsonl exists: choose another name, or --force" in done.stderr
    assert room.read_text(encoding="utf-8") == before
    forced = ("record", "room.jsonl", "--url", "ws://127.0.0.1:1/", "--force", "--seconds", "0.1")
    assert livebot(tmp_path, *forced).returncode == 0
    assert room.read_text(encoding="utf-8") != before


@posix
def test_a_room_that_refuses_ends_the_recording_with_1(tmp_path):
    faults = ("--cut-every", "0.2", "--cut-code", "1008", "--seed", "1")
    with running(tmp_path, "simulate", "--rate", "50", *faults) as program:
        url = program.stdout.readline().strip()
        done = livebot(tmp_path, "record", "rec.jsonl", "--url", url)
        assert done.returncode == 1
        assert "1008" in done.stderr
        assert interrupted(program) == 0


@posix
def test_ctrl_c_ends_a_recording_and_keeps_what_came(tmp_path):
    with running(tmp_path, "simulate", "--rate", "100") as room:
        url = room.stdout.readline().strip()
        with running(tmp_path, "record", "rec.jsonl", "--url", url) as program:
            wait_for_contents(tmp_path / "rec.jsonl")
            assert interrupted(program) == 0
        assert interrupted(room) == 0
    assert len(list(read_recording(tmp_path / "rec.jsonl"))) > 0


def wait_for_contents(path):
    """Wait until a program has written a block of a file, by watching the folder."""
    written = threading.Event()

    class Written(FileSystemEventHandler):
        def on_modified(self, event):
            if path.exists() and path.stat().st_size > 0:
                written.set()

    observer = Observer()
    observer.schedule(Written(), str(path.parent))
    observer.start()
    assert written.wait(30) or path.stat().st_size > 0
    observer.stop()
    observer.join()


def test_a_simulation_on_a_taken_port_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = livebot(tmp_path, "simulate", "--port", str(other.getsockname()[1]))
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys):
    """Calls the command line in an empty folder, which must stay empty: its code and complaint."""

    def call(arguments):
        monkeypatch.chdir(tmp_path)
        try:
            code = main(arguments)
        except SystemExit as exc:  # how argparse refuses
            code = exc.code
        assert list(tmp_path.iterdir()) == []
        return code, " ".join(capsys.readouterr().err.split())

    return call


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("simulate", "--rate", "5", "--loop"), 1, "leave --room and --loop out"),
        (("simulate", "--rate", "0"), 2, "must be a number above 0, not 0"),
        (("simulate", "--repeat", "2"), 2, "must be a number from 0 to 1, not 2"),
        (("simulate", "--port", "70000"), 2, "must be a number from 0 to 65535, not 70000"),
        (("replay", "nowhere.jsonl"), 1, "nowhere.jsonl"),
        (("replay", "x", "--speed", "fast"), 2, "must be a number above 0, or max, not fast"),
        (("record", "r.jsonl"), 1, "cannot read livebot.toml"),
        (("record", "no/r.jsonl", "--url", "ws://h/"), 1, "there is no folder"),
        (("record", "r.jsonl", "--url", "http://h/"), 1, "url must begin with ws:// or wss://"),
        (("record", "r.jsonl", "--url", "ws://h/", "--config", "x"), 2, "not allowed with"),
        (("say", "x", "--rate", "7"), 2, "must be a number from 80 to 450, not 7"),
        (("say", "x", "--volume", "2"), 2, "must be a number from 0 to 1, not 2"),
        (("demo", "--host", ""), 2, "must be a name or an address"),
        (("demo", "--port", "x"), 2, "must be a number from 0 to 65535, not x"),
        (("demo", "--port", "٣"), 2, "must be a number from 0 to 65535"),
        (("completion", "ksh"), 2, "invalid choice"),
    ],
)
def test_a_wrong_call_is_refused_with_what_would_be_right(refusal, arguments, code, complaint):
    ended, told = refusal(arguments)
    assert ended == code
    assert complaint in told


# -- say ----------------------------------------------------------------------------------------


def test_words_are_spoken_into_a_file_and_told_as_json(tmp_path):
    done = livebot(tmp_path, "say", "你好", "欢迎来到直播间", "--wav", "out.wav", "--json", "-")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["said"], told["failed"]) == (2, [])
    assert 0.5 < told["seconds"] < seconds_of(tmp_path / "out.wav")


def test_lines_of_the_input_are_spoken_and_what_cannot_be_is_told(tmp_path):
    done = livebot(
        tmp_path, "say", "--wav", "out.wav", "--json", "out.json", given="你好\n\n……\n再见\n"
    )
    assert done.returncode == 1
    told = account(tmp_path)
    assert told["said"] == 2
    assert told["failed"] == [{"text": "……", "reason": "nothing to say"}]
    assert "nothing to say" in done.stderr


@posix
def test_ctrl_c_ends_words_in_the_middle(tmp_path):
    long = "这是一句很长很长的话，" * 10
    options = ("--wav", "out.wav", "--json", "out.json")
    with running(tmp_path, "say", "你好", long, long, *options) as program:
        line_with(program.stderr, "said: 你好")
        assert interrupted(program) == 0
    assert account(tmp_path)["said"] == 1


# -- check, completion --------------------------------------------------------------------------


def test_check_tells_its_findings_to_programs(tmp_path):
    done = livebot(tmp_path, "check", "--wav", "tone.wav", "--json", "-")
    told = json.loads(done.stdout)
    assert told["works"] == (done.returncode == 0)
    engines = [each for each in told["findings"] if each["name"] == "engine pyttsx3"]
    assert [each["works"] for each in engines] == [True]
    assert "works  engine pyttsx3" in done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_bash_completes_commands_and_options(tmp_path):
    script = livebot(tmp_path, "completion", "bash").stdout
    (tmp_path / "livebot.bash").write_text(script, encoding="utf-8")

    def completed(*words):
        line = " ".join(words)
        code = (
            f"source ./livebot.bash; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1};"
            f"COMP_LINE='{line}'; $(complete -p livebot | sed 's/.*-F \\([^ ]*\\).*/\\1/') livebot"
            f" {words[-1]}; echo ${{COMPREPLY[@]}}"
        )
        done = subprocess.run(
            ["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return set(done.stdout.split())

    assert completed("livebot", "re") == {"replay", "record"}
    assert "--no-browser" in completed("livebot", "demo", "--no")


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh", "powershell"])
def test_other_shells_get_a_script_with_every_command(tmp_path, shell):
    done = livebot(tmp_path, "completion", shell)
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("demo", "replay", "simulate", "say"))


# -- the dashboard of a command -----------------------------------------------------------------


@posix
def test_the_demo_prints_where_its_dashboard_is(tmp_path):
    with running(tmp_path, "demo", "--port", "0", "--wav", "out.wav") as program:
        link = line_with(program.stderr, "dashboard: ").split()[-1]
        assert link.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{link}api/state", timeout=30) as answer:
            assert json.load(answer)["ledger"].keys() >= {"received", "spoken", "dropped"}
        assert interrupted(program) == 0


@posix
def test_for_other_machines_the_link_holds_a_token_that_is_demanded(tmp_path):
    options = ("--host", "0.0.0.0", "--port", "0", "--wav", "out.wav")
    with running(tmp_path, "demo", *options) as program:
        link = line_with(program.stderr, "dashboard: ").split()[-1]
        address, _, token = link.partition("/?token=")
        port = address.rpartition(":")[2]
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30)
        assert refusal.value.code == 401
        refusal.value.close()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/api/state")
        request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            shown = answer.read().decode()
        assert token not in shown
        assert interrupted(program) == 0


def test_a_taken_port_is_told_before_anything_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = livebot(tmp_path, "demo", "--port", port, "--wav", "out.wav")
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_of_another_machine_is_told_before_anything_starts(tmp_path):
    done = livebot(tmp_path, "demo", "--host", "203.0.113.7", "--wav", "out.wav")
    assert done.returncode == 1
    assert "cannot listen on 203.0.113.7" in done.stderr
    assert "Traceback" not in done.stderr
