"""What a terminal shows of each command, and when a browser is opened."""

import io
import queue
import webbrowser
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from livebot.app import LiveBot
from livebot.commands import live
from livebot.config import Settings, WebSettings
from livebot.playback import AudioPlayer, NullSink
from livebot.sources import Crowd, ReplaySource, Simulator, read_recording, shipped_room
from livebot.terminal import Picture, recorded, simulated, spoken


def shown(picture):
    console = Console(file=io.StringIO(), width=100)
    console.print(picture)
    return console.file.getvalue()


def test_a_recording_shows_how_many_events_came():
    source = ReplaySource(read_recording(shipped_room()), emit=lambda event: None)
    source.step(7)
    assert "7" in shown(recorded(source.statistics()))
    assert "events" in shown(recorded(source.statistics()))


def test_a_simulation_shows_who_watches():
    assert "live" in shown(simulated(Simulator(Crowd(1.0)).statistics()))


def test_speaking_shows_how_far_it_is():
    player = AudioPlayer(NullSink())
    assert shown(spoken(player.statistics(), 3)).startswith("1 of 3: ...")
    player.play(0, None)
    assert shown(spoken(player.statistics(), 3)).startswith("2 of 3")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_picture_is_drawn_on_terminals_only(terminal):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=40)
    picture = Picture(lambda: "what goes on", console)
    picture.start(None)
    picture.stop(None)
    picture.stop(None)
    assert ("what goes on" in file.getvalue()) is terminal


# -- the browser --------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch):
    """The links that were opened in a browser, on a machine with a screen."""
    links = queue.SimpleQueue()
    monkeypatch.setattr(webbrowser, "open", links.put)
    monkeypatch.setenv("DISPLAY", ":0")
    return links


def served(tmp_path, *, no_browser=False, terminal=True):
    """A bot with its web server, as a command makes it; what was printed."""
    bot = LiveBot("ws://127.0.0.1:1/", settings=Settings(), wav=tmp_path / "out.wav")
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    arguments = Namespace(host=None, port=0, no_browser=no_browser)
    live._serve(bot, WebSettings(), arguments, console)
    return SimpleNamespace(bot=bot, printed=console.file.getvalue())


def parts(bot):
    return [part.name for part in bot.manager.report().components]


def test_the_dashboard_is_opened_once_it_can_be_seen(tmp_path, opened):
    rig = served(tmp_path)
    rig.bot.manager.start(only=["browser"])
    try:
        link = opened.get(timeout=20)
    finally:
        rig.bot.manager.stop(10)
    assert link in rig.printed
    assert opened.empty()


@pytest.mark.parametrize("how", ["asked not to", "no terminal", "no screen"])
def test_no_browser_is_opened_where_nobody_looks(tmp_path, opened, monkeypatch, how):
    if how == "no screen":
        monkeypatch.delenv("DISPLAY")
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        monkeypatch.setattr(live.sys, "platform", "linux")
    rig = served(tmp_path, no_browser=how == "asked not to", terminal=how != "no terminal")
    assert "web" in parts(rig.bot)
    assert "browser" not in parts(rig.bot)
    assert "dashboard: http://127.0.0.1:" in rig.printed
    rig.bot.manager.start(only=["web"])  # gives the port back when it stops
    rig.bot.manager.stop(10)


def test_nothing_is_served_where_the_settings_say_so(tmp_path):
    bot = LiveBot("ws://127.0.0.1:1/", settings=Settings(), wav=Path(tmp_path / "out.wav"))
    console = Console(file=io.StringIO())
    arguments = Namespace(host=None, port=None, no_browser=False)
    live._serve(bot, WebSettings(enabled=False), arguments, console)
    assert console.file.getvalue() == ""
    assert "web" not in parts(bot)
