"""The command line. Parts are imported where they are used, so that `--help` answers at once."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from livebot import __version__

__all__ = ["main"]

_EXAMPLES = """\
examples:
  livebot demo                                   listen to the recorded room
  livebot demo --seconds 30 --speed 4            half a minute, four times as fast
  livebot demo --wav out.wav --json out.json     into a file, with the account of every event
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 for success, 1 for trouble, 2 for a wrong call."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 2
    try:
        return _demo(arguments)
    except (OSError, ValueError) as exc:
        print(f"livebot: {exc}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="livebot",
        description="Reads a Douyin live room, picks what matters and speaks the answers.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"livebot {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="a recorded room on this machine, spoken",
        description="Plays a recorded room over Douyin's wire protocol from a server on this "
        "machine, and lets the bot live in it. Ends with the recording, after --seconds, or "
        "with Ctrl-C.",
    )
    demo.add_argument("--seconds", type=_positive, metavar="N", help="end after N seconds")
    demo.add_argument(
        "--speed", type=_positive, default=1.0, metavar="X", help="play X times as fast"
    )
    demo.add_argument(
        "--room", type=Path, metavar="FILE", help="another recording (JSON lines) than ours"
    )
    demo.add_argument(
        "--wav", type=Path, metavar="FILE", help="speak into a WAV file, not a sound device"
    )
    demo.add_argument("--json", type=Path, metavar="FILE", help="write the closing account here")
    demo.add_argument("--no-browser", action="store_true", help="do not open the dashboard")
    return parser


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text}")
    return value


def _demo(arguments: argparse.Namespace) -> int:
    from rich.console import Console  # noqa: PLC0415 - see the module's docstring
    from rich.logging import RichHandler  # noqa: PLC0415

    from livebot.app import LiveBot  # noqa: PLC0415
    from livebot.config import Settings  # noqa: PLC0415
    from livebot.sources import Endpoint, Simulator, read_recording, shipped_room  # noqa: PLC0415
    from livebot.terminal import LiveTable, print_summary, summary  # noqa: PLC0415

    console = Console(stderr=True)
    logging.basicConfig(
        level=logging.INFO,
        format="%(message)s",
        handlers=[RichHandler(console=console, show_path=False)],
    )
    for path in (arguments.wav, arguments.json):
        _check_writable(path)
    recording = list(read_recording(arguments.room or shipped_room()))
    simulator = Simulator(recording, speed=arguments.speed)
    bot = LiveBot(
        lambda: Endpoint(simulator.url),
        settings=Settings(),
        wav=arguments.wav,
        feed_needs=["simulator"],
    )
    bot.manager.add("simulator", simulator)
    bot.manager.add("table", LiveTable(bot.snapshot, console))
    code = bot.run(seconds=arguments.seconds)
    snapshot = bot.snapshot()
    print_summary(snapshot, console)
    account: dict[str, Any] = summary(snapshot, sent=simulator.statistics().sent)
    if arguments.json:
        arguments.json.write_text(json.dumps(account, ensure_ascii=False, indent=2) + "\n")
    return code


def _check_writable(path: Path | None) -> None:
    """Fail now, not after half an hour."""
    if path is not None and not path.resolve().parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no folder {path.resolve().parent}")


if __name__ == "__main__":
    sys.exit(main())
