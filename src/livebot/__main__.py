"""The command line. Parts are imported where they are used, so that `--help` answers at once."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livebot import __version__

if TYPE_CHECKING:
    from livebot.app import LiveBot
    from livebot.config import Settings, WebSettings

__all__ = ["main"]

_EXAMPLES = """\
examples:
  livebot demo                                   listen to the recorded room
  livebot demo --seconds 30 --speed 4            half a minute, four times as fast
  livebot demo --wav out.wav --json out.json     into a file, with the account of every event
  livebot init                                   write livebot.toml: say there where the room is,
  livebot run                                    then live in it
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 for success, 1 for trouble, 2 for a wrong call."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 2
    try:
        code: int = arguments.command(arguments)
    except (OSError, ValueError) as exc:
        print(f"livebot: {exc}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as exc:
        if (exc.name or "").split(".")[0] in {"livebot", "threadkit"}:
            raise
        print(
            f"livebot needs {exc.name}: python -m pip install 'threadkit[livebot]'", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell says of a program that Ctrl-C ended
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="livebot",
        description="Reads a Douyin live room, picks what matters and speaks the answers.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=None)
    parser.add_argument("--version", action="version", version=f"livebot {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    _add_demo(commands)
    _add_run(commands)
    _add_init(commands)
    _add_check(commands)
    return parser


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="a recorded room on this machine, spoken",
        description="Plays a recorded room over Douyin's wire protocol from a server on this "
        "machine, and lets the bot live in it. Ends with the recording, after --seconds, or "
        "with Ctrl-C.",
    )
    demo.set_defaults(command=_demo)
    demo.add_argument(
        "--speed", type=_positive, default=1.0, metavar="X", help="play X times as fast"
    )
    demo.add_argument(
        "--room", type=Path, metavar="FILE", help="another recording (JSON lines) than ours"
    )
    _add_common(demo)


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="live in the room that the settings name",
        description="Connects to the room of the settings' [feed] section. Ends with the "
        "broadcast, after --seconds, or with Ctrl-C. Changes of the file take effect at once "
        "where they can.",
    )
    run.set_defaults(command=_run)
    run.add_argument(
        "--config", type=Path, default=Path("livebot.toml"), metavar="FILE", help="the settings"
    )
    _add_common(run)


def _add_init(commands: Any) -> None:
    init = commands.add_parser(
        "init",
        help="write a commented settings file to start from",
        description="Writes every setting with its meaning and its default. Never overwrites.",
    )
    init.set_defaults(command=_init)
    init.add_argument("path", type=Path, nargs="?", default=Path("livebot.toml"), metavar="FILE")


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="try what the bot needs: sound, engines, model, feed",
        description="Tries the sound device, the speech engines, and with --config the model and "
        "the feed; says what works, and how to mend what does not. You should hear a tone and a "
        "sentence.",
    )
    check.set_defaults(command=_check)
    check.add_argument("--config", type=Path, metavar="FILE", help="the settings")
    check.add_argument(
        "--wav", type=Path, metavar="FILE", help="play into a WAV file, not a sound device"
    )


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seconds", type=_positive, metavar="N", help="end after N seconds")
    command.add_argument(
        "--wav", type=Path, metavar="FILE", help="speak into a WAV file, not a sound device"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write the closing account here")
    command.add_argument(
        "--host", type=_host, metavar="NAME", help="where the dashboard listens: 127.0.0.1"
    )
    command.add_argument(
        "--port", type=_port, metavar="N", help="the same; 0 for any free port (8790 by default)"
    )
    command.add_argument("--no-browser", action="store_true", help="do not open the dashboard")


def _host(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must be a name or an address; 0.0.0.0 is every address")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {_LAST_PORT}, not {text}")
    return int(text)


_LAST_PORT = 65535


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text}")
    return value


def _demo(arguments: argparse.Namespace) -> int:
    from livebot.app import LiveBot  # noqa: PLC0415 - see the module's docstring
    from livebot.config import Settings  # noqa: PLC0415
    from livebot.sources import Endpoint, Simulator, read_recording, shipped_room  # noqa: PLC0415

    _check_writable(arguments)
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
    from livebot.app import LiveBot  # noqa: PLC0415 - see the module's docstring
    from livebot.config import SettingsFile  # noqa: PLC0415
    from livebot.sources import EndpointCommand  # noqa: PLC0415

    _check_writable(arguments)
    logger = logging.getLogger("livebot")

    def changed(settings: Settings) -> None:
        bot.update(settings)
        logger.info("%s was read again", arguments.config)

    def refused(exc: ValueError) -> None:
        logger.warning("the settings stay as they were: %s", exc)

    file = SettingsFile(arguments.config, on_change=changed, on_error=refused)
    feed = file.current.feed
    if not (feed.url or feed.command):
        raise ValueError(f"{arguments.config}: say in feed.url or feed.command where the room is")
    url = EndpointCommand(feed.command) if feed.command else feed.url
    bot = LiveBot(url, settings=file.current, wav=arguments.wav)
    bot.manager.add("settings", file)
    return _live(bot, file.current.web, arguments)


def _init(arguments: argparse.Namespace) -> int:
    from livebot.config import commented  # noqa: PLC0415 - see the module's docstring

    with arguments.path.open("x", encoding="utf-8") as file:
        file.write(commented())
    print(f"{arguments.path} written: say in [feed] where the room is, then: livebot run")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from livebot import check  # noqa: PLC0415 - see the module's docstring
    from livebot.config import Settings, load  # noqa: PLC0415
    from livebot.sources import Endpoint, EndpointCommand  # noqa: PLC0415
    from livebot.speech import engines_for  # noqa: PLC0415

    settings = load(arguments.config) if arguments.config else Settings()
    feed, model = settings.feed, settings.model
    endpoint = Endpoint(feed.url, feed.headers) if feed.url else None
    plan = check.Plan(
        device=settings.voice.device,
        wav=arguments.wav,
        feed=EndpointCommand(feed.command)() if feed.command else endpoint,
        kind=feed.kind,
        model_url=model.base_url if model.model else None,
        model_key=model.api_key().get_secret_value(),
        model=model.model,
        engines=engines_for(settings.voice),
    )
    works = True
    for finding in check.checks(plan):
        print(finding, flush=True)
        works = works and finding.works
    return 0 if works else 1


def _live(
    bot: LiveBot,
    web: WebSettings,
    arguments: argparse.Namespace,
    *,
    sent: Callable[[], Mapping[str, int]] = dict,
) -> int:
    """Run a bot to its end, with what people see of it meanwhile and afterwards."""
    from rich.console import Console  # noqa: PLC0415 - see the module's docstring
    from rich.logging import RichHandler  # noqa: PLC0415

    from livebot.terminal import LiveTable, print_summary, summary  # noqa: PLC0415

    console = Console(stderr=True)
    handler = RichHandler(console=console, show_path=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("livebot").setLevel(logging.INFO)
    bot.manager.add("table", LiveTable(bot.snapshot, console))
    _serve(bot, web, arguments, console)
    code = bot.run(seconds=arguments.seconds)
    snapshot = bot.snapshot()
    print_summary(snapshot, console)
    if arguments.json:
        account = json.dumps(summary(snapshot, sent=sent()), ensure_ascii=False, indent=2)
        arguments.json.write_text(account + "\n", encoding="utf-8")
    return code


def _serve(bot: LiveBot, web: WebSettings, arguments: argparse.Namespace, console: Any) -> None:
    """Let the browser see the bot, and open it where somebody sits before a screen."""
    given = {"host": arguments.host, "port": arguments.port}
    web = web.model_copy(update={key: value for key, value in given.items() if value is not None})
    if not web.enabled:
        return
    from livebot.web.serving import serve  # noqa: PLC0415 - see the module's docstring

    link = serve(bot, web)
    console.print(f"dashboard: {link}", markup=False, highlight=False, soft_wrap=True)
    if not arguments.no_browser and console.is_terminal and _has_screen():
        import webbrowser  # noqa: PLC0415 - only where one is opened

        bot.manager.service(
            "browser", lambda _ctx: webbrowser.open(link), needs=["web"], restart="temporary"
        )


def _has_screen() -> bool:
    return sys.platform in {"win32", "darwin"} or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def _check_writable(arguments: argparse.Namespace) -> None:
    """Fail now, not after half an hour."""
    for path in (arguments.wav, arguments.json):
        if path is None:
            continue
        if not path.resolve().parent.is_dir():
            raise ValueError(f"cannot write {path}: there is no folder {path.resolve().parent}")
        with path.open("ab"):
            pass


if __name__ == "__main__":
    sys.exit(main())
