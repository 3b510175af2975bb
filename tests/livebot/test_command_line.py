"""The commands beside the demo, as a user calls them."""

import json
import os
import signal
import subprocess
import sys

import pytest

from livebot.__main__ import main
from livebot.config import Settings, load
from livebot.messages import Chat, User
from livebot.sources import Simulator
from livebot_program import line_with, livebot, running
from model_server import ModelServer


@pytest.fixture
def simulator():
    viewer = User(id="1", name="甲")
    simulator = Simulator([(0.0, Chat(id="1", user=viewer, text="你好"))])
    simulator.start()
    yield simulator
    simulator.stop()


COMMANDS = ("demo", "run", "replay", "record", "simulate", "say", "check", "init", "completion")


def test_help_names_every_command_what_it_exits_with_and_examples(tmp_path):
    done = livebot(tmp_path, "--help")
    assert done.returncode == 0
    for part in (*COMMANDS, "exit codes:", "examples:"):
        assert f"\n    {part}" in done.stdout or f"\n{part}" in done.stdout, part


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_examples(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert f"examples:\n  livebot {command}" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_help_answers_at_once_because_it_imports_next_to_nothing():
    code = (
        "import sys; before = set(sys.modules)\n"
        "from livebot.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "new = set(sys.modules) - before\n"
        "tops = {name.partition('.')[0] for name in new} - sys.stdlib_module_names\n"
        "print(len(new), *sorted(tops), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, *foreign = done.stderr.split()
    assert foreign == ["livebot"], "everything else comes from the standard library"
    assert int(count) < 100


def test_without_a_command_the_help_is_shown(tmp_path):
    done = livebot(tmp_path)
    assert done.returncode == 2
    assert "COMMAND" in done.stdout


def test_init_writes_settings_that_work_and_never_overwrites(tmp_path):
    assert livebot(tmp_path, "init").returncode == 0
    assert load(tmp_path / "livebot.toml") == Settings()
    again = livebot(tmp_path, "init")
    assert again.returncode == 1
    assert "livebot.toml" in again.stderr
    assert "Traceback" not in again.stderr


@pytest.mark.parametrize("address", ["url", "command"])
def test_run_lives_in_the_room_the_settings_name(tmp_path, simulator, address):
    script = tmp_path / "where.py"
    script.write_text(f"print({simulator.url!r})")
    said = {"url": json.dumps(simulator.url), "command": json.dumps([sys.executable, str(script)])}
    (tmp_path / "livebot.toml").write_text(f"[feed]\n{address} = {said[address]}\n")
    done = livebot(tmp_path, "run", "--port", "0", "--wav", "out.wav", "--json", "out.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["spoken"] == 1


def test_a_changed_file_is_used_while_the_bot_runs(tmp_path, simulator):
    settings = tmp_path / "livebot.toml"
    settings.write_text('[feed]\nurl = "ws://127.0.0.1:1/"\n')
    with running(tmp_path, "run", "--port", "0", "--wav", "out.wav") as program:
        line_with(program.stderr, "next attempt in")
        settings.write_text('[feed]\nurl = "ws://127.0.0.1:1/"\n[voice]\nvolume = 7\n')
        line_with(program.stderr, "stay as they were")
        settings.write_text('[feed]\nurl = "ws://127.0.0.1:1/"\n[voice]\nvolume = 0.5\n')
        line_with(program.stderr, "was read again")
        os.kill(program.pid, signal.SIGTERM)
        told = program.stderr.read()
        assert program.wait(30) == 0, told


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "say in feed.url or feed.command where the room is"),
        ("[voice]\nrat = 3\n", "voice.rat: there is no such key"),
        ('[feed]\nurl = "http://example.org"\n', "url must begin with ws:// or wss://"),
        ('[feed]\nurl = "ws://h/"\n[moderation]\nblocked_patterns = ["("]\n', "does not compile"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_with_their_key(tmp_path, text, complaint):
    (tmp_path / "livebot.toml").write_text(text)
    done = livebot(tmp_path, "run", "--port", "0", "--wav", "out.wav")
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_say_without_an_input_says_nothing(tmp_path):
    call = "import sys; sys.stdin = None; from livebot.__main__ import main; sys.exit(main(%r))"
    arguments = ["say", "--wav", "out.wav", "--json", "out.json"]
    done = subprocess.run(
        [sys.executable, "-c", call % arguments],
        cwd=tmp_path, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out.json").read_bytes())["said"] == 0


def test_check_tries_everything_and_says_what_works(tmp_path, simulator):
    with ModelServer() as server:
        (tmp_path / "livebot.toml").write_text(
            f'[feed]\nurl = "{simulator.url}"\n[model]\nbase_url = "{server.url}"\nmodel = "m"\n'
        )
        done = livebot(tmp_path, "check", "--config", "livebot.toml", "--wav", "tone.wav")
    lines = done.stdout.splitlines()
    assert any(line.startswith("works  engine pyttsx3") for line in lines)
    assert any("test tone" in line for line in lines)
    assert any("feed" in line for line in lines)
    assert any("model" in line for line in lines)
    assert done.returncode == 0, done.stdout
    assert not any(line.startswith("FAILS") for line in lines)


def test_an_account_that_cannot_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / "folder").mkdir()
    done = livebot(tmp_path, "demo", "--json", "folder", "--wav", "out.wav")
    assert done.returncode == 1
    assert "folder" in done.stderr
    assert "said" not in done.stderr


def test_a_missing_package_is_named_with_the_way_to_install_it(tmp_path):
    code = (
        "import sys; sys.modules['pydantic'] = None; import livebot.__main__ as m;"
        "sys.exit(m.main(['init']))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "livebot needs pydantic: python -m pip install 'threadkit[livebot]'" in done.stderr


def test_ctrl_c_before_anything_runs_is_no_accident(monkeypatch, capsys):
    from livebot.commands import live

    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(live, "_demo", interrupted)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == ""
