"""What several commands take, and how they show what they do and tell what came of it."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from livebot.config import FeedSettings, Settings
    from livebot.sources import EndpointCommand

__all__ = [
    "GRACE",
    "SETTINGS_FILE",
    "add_command",
    "add_config",
    "add_json",
    "add_seconds",
    "add_wav",
    "address_of",
    "check_writable",
    "port",
    "positive",
    "screen",
    "settings_of",
    "share",
    "speed",
    "tell",
]

GRACE = 8.0  # seconds that the end of a command may take; `docker stop` waits for 10
SETTINGS_FILE = Path("livebot.toml")

_LAST_PORT = 65535
_WIDTH = 80  # characters of a line of help
_STDOUT = "-"


def add_command(
    commands: Any, name: str, run: Any, *, brief: str, about: str, examples: Iterable[str]
) -> argparse.ArgumentParser:
    """A command with its help; `run` takes the arguments and returns the exit code."""
    lines = (f"  livebot {name} {example}".rstrip() for example in examples)
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=brief,
        description=textwrap.fill(about, _WIDTH),
        epilog="\n".join(("examples:", *lines)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=run)
    return parser


def add_config(command: argparse._ActionsContainer, *, default: Path | None = None) -> None:
    """The settings file; without a default, the defaults of all settings hold without it."""
    without = default or "without: all defaults"
    command.add_argument(
        "--config", type=Path, default=default, metavar="FILE", help=f"the settings ({without})"
    )


def add_seconds(command: argparse.ArgumentParser) -> None:
    """When to end."""
    command.add_argument("--seconds", type=positive, metavar="N", help="end after N seconds")


def add_wav(command: argparse.ArgumentParser) -> None:
    """Where the sound goes."""
    command.add_argument(
        "--wav", type=Path, metavar="FILE", help="sound goes into a WAV file, not to a device"
    )


def add_json(command: argparse.ArgumentParser) -> None:
    """Where a program finds what came of it."""
    command.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the closing account here as JSON; - is the standard output",
    )


def positive(text: str) -> float:
    """A finite number above 0."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text}")
    return value


def speed(text: str) -> float:
    """How many times as fast: a number above 0, or max for no pauses at all."""
    if text == "max":
        return float("inf")
    try:
        return positive(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"must be a number above 0, or max, not {text}") from None


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not {text}")
    return value


def port(text: str) -> int:
    """A TCP port."""
    if not (text.isascii() and text.isdecimal()) or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {_LAST_PORT}, not {text}")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def settings_of(config: Path | None) -> Settings:
    """The settings of a file, or the defaults."""
    from livebot.config import Settings, load

    return Settings() if config is None else load(config)


def address_of(feed: FeedSettings, config: Path, *, or_else: str = "") -> str | EndpointCommand:
    """Where the room is, as the settings say; `or_else` is another way to say it."""
    from livebot.sources import EndpointCommand

    if feed.command:
        return EndpointCommand(feed.command)
    if not feed.url:
        raise ValueError(f"{config}: say in feed.url or feed.command where the room is{or_else}")
    return feed.url


def screen(level: int = logging.INFO) -> Console:
    """The terminal, to draw on; log lines go there too, above what is drawn."""
    from rich.console import Console
    from rich.logging import RichHandler

    console = Console(stderr=True)
    handler = RichHandler(console=console, show_path=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("livebot").setLevel(level)
    return console


def check_writable(*paths: Path | None) -> None:
    """Fail now, not after half an hour.

    Raises:
        ValueError: There is no such folder.
        OSError: A file cannot be written.
    """
    for path in paths:
        if path is None or str(path) == _STDOUT:
            continue
        if not path.resolve().parent.is_dir():
            raise ValueError(f"cannot write {path}: there is no folder {path.resolve().parent}")
        is_new = not path.exists()
        with path.open("ab"):
            pass
        if is_new:  # a call that is refused after all leaves nothing behind
            path.unlink()


def tell(path: Path | None, account: Mapping[str, Any]) -> None:
    """Write the closing account where it was asked for."""
    if path is None:
        return
    text = json.dumps(account, ensure_ascii=False, indent=2) + "\n"
    if str(path) == _STDOUT:
        sys.stdout.write(text)
    else:
        path.write_text(text, encoding="utf-8")
