"""demo, run, replay: a bot that lives in a room, with its dashboard."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livebot.commands.arguments import (
    GRACE,
    SETTINGS_FILE,
    add_command,
    add_config,
    add_json,
    add_seconds,
    add_wav,
    address_of,
    check_writable,
    port,
    positive,
    screen,
    settings_of,
    speed,
    tell,
)

if TYPE_CHECKING:
    from rich.console import Console

    from livebot.app import LiveBot
    from livebot.config import Settings, WebSettings

__all__ = ["add_demo", "add_replay", "add_run"]


def add_demo(commands: Any) -> None:
    """`livebot demo`."""
    demo = add_command(
        commands,
        "demo",
        _demo,
        brief="a recorded room on this machine, spoken",
        about=(
            "Plays a recorded room over Douyin's wire protocol from a server on this machine, "
            "and lets the bot live in it. Ends with the recording, after --seconds, or with "
            "Ctrl-C."
        ),
        examples=[
            "",
            "--seconds 30 --speed 4",
            "--wav out.wav --json out.json --no-browser",
        ],
    )
    demo.add_argument("--speed", type=positive, default=1.0, metavar="X", help="X times as fast")
    demo.add_argument("--room", type=Path, metavar="FILE", help="another recording than ours")
    _add_common(demo)


def add_run(commands: Any) -> None:
    """`livebot run`."""
    run = add_command(
        commands,
        "run",
        _run,
        brief="live in the room that the settings name",
        about=(
            "Connects to the room of the settings' [feed] section. Ends with the broadcast, "
            "after --seconds, or with Ctrl-C. Changes of the file take effect at once where "
            "they can."
        ),
        examples=[
            "",
            "--config other.toml --port 8800",
            "--host 0.0.0.0    # for other machines: with a token",
        ],
    )
    add_config(run, default=SETTINGS_FILE)
    _add_common(run)


def add_replay(commands: Any) -> None:
    """`livebot replay`."""
    replay = add_command(
        commands,
        "replay",
        _replay,
        brief="answer a recording, without a network",
        about=(
            "Hands the events of a recording to the bot as they came, faster, or as fast as it "
            "takes them, and speaks the answers. Ends with the last answer, after --seconds, or "
            "with Ctrl-C."
        ),
        examples=[
            "evening.jsonl",
            "evening.jsonl --speed 10 --wav out.wav",
            "evening.jsonl --config my.toml",
        ],
    )
    replay.add_argument("room", type=Path, metavar="FILE", help="a recording (JSON lines)")
    replay.add_argument(
        "--speed", type=speed, default=1.0, metavar="X", help="X times as fast; max: no pauses"
    )
    add_config(replay)
    _add_common(replay)


def _add_common(command: argparse.ArgumentParser) -> None:
    add_seconds(command)
    add_wav(command)
    add_json(command)
    page = command.add_argument_group("dashboard")
    page.add_argument("--host", type=_host, metavar="NAME", help="where it listens (127.0.0.1)")
    page.add_argument("--port", type=port, metavar="N", help="the same (8790); 0: any free port")
    page.add_argument("--no-browser", action="store_true", help="do not open it")


def _host(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must be a name or an address; 0.0.0.0 is every address")
    return text


def _demo(arguments: argparse.Namespace) -> int:
    from livebot.app import LiveBot
    from livebot.config import Settings
    from livebot.sources import Endpoint, Simulator, read_recording, shipped_room

    check_writable(arguments.wav, arguments.json)
    recording = list(read_recording(arguments.room or shipped_room()))
    simulator = Simulator(recording, speed=arguments.speed)
    bot = LiveBot(
        lambda: Endpoint(simulator.url),
        settings=Settings(),
        wav=arguments.wav,
        feed_needs=["simulator"],
    )
    bot.manager.add("simulator", simulator)
    return _live(bot, Settings().web, arguments, sent=lambda: simulator.statistics().sent)


def _run(arguments: argparse.Namespace) -> int:
    from livebot.app import LiveBot
    from livebot.config import SettingsFile

    check_writable(arguments.wav, arguments.json)
    logger = logging.getLogger("livebot")

    def changed(settings: Settings) -> None:
        bot.update(settings)
        logger.info("%s was read again", arguments.config)

    def refused(exc: ValueError) -> None:
        logger.warning("the settings stay as they were: %s", exc)

    file = SettingsFile(arguments.config, on_change=changed, on_error=refused)
    address = address_of(file.current.feed, arguments.config)
    bot = LiveBot(address, settings=file.current, wav=arguments.wav)
    bot.manager.add("settings", file)
    return _live(bot, file.current.web, arguments)


def _replay(arguments: argparse.Namespace) -> int:
    from livebot.app import LiveBot
    from livebot.sources import ReplaySource, read_recording

    check_writable(arguments.wav, arguments.json)
    settings = settings_of(arguments.config)
    events = list(read_recording(arguments.room))  # all now: a broken line is told before a word

    def replay(**wiring: Any) -> ReplaySource:
        return ReplaySource(events, speed=arguments.speed, **wiring)

    bot = LiveBot(source=replay, settings=settings, wav=arguments.wav)
    return _live(bot, settings.web, arguments)


def _live(
    bot: LiveBot,
    web: WebSettings,
    arguments: argparse.Namespace,
    *,
    sent: Callable[[], Mapping[str, int]] = dict,
) -> int:
    """Run a bot to its end, with what people see of it meanwhile and afterwards."""
    from livebot.terminal import Picture, summary, table

    console = screen()
    bot.manager.add("table", Picture(lambda: table(bot.snapshot()), console))
    _serve(bot, web, arguments, console)
    code = bot.run(seconds=arguments.seconds, grace=GRACE)
    snapshot = bot.snapshot()
    console.print(table(snapshot))
    tell(arguments.json, summary(snapshot, sent=sent()))
    return code


def _serve(bot: LiveBot, web: WebSettings, arguments: argparse.Namespace, console: Console) -> None:
    """Let the browser see the bot, and open it where somebody sits before a screen."""
    given = {"host": arguments.host, "port": arguments.port}
    web = web.model_copy(update={key: value for key, value in given.items() if value is not None})
    if not web.enabled:
        return
    from livebot.web.serving import serve

    link = serve(bot, web)
    console.print(f"dashboard: {link}", markup=False, highlight=False, soft_wrap=True)
    if not arguments.no_browser and console.is_terminal and _has_screen():
        import webbrowser

        bot.manager.service(
            "browser", lambda _ctx: webbrowser.open(link), needs=["web"], restart="temporary"
        )


def _has_screen() -> bool:
    return sys.platform in {"win32", "darwin"} or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
