"""init, check, completion: what is done before the bot lives in a room."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from livebot.commands.arguments import (
    SETTINGS_FILE,
    add_command,
    add_config,
    add_json,
    add_wav,
    check_writable,
    settings_of,
    tell,
)

__all__ = ["add_check", "add_completion", "add_init"]

_SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")


def add_init(commands: Any) -> None:
    """`livebot init`."""
    init = add_command(
        commands,
        "init",
        _init,
        brief="write a commented settings file to start from",
        about="Writes every setting with its meaning and its default. Never overwrites.",
        examples=["", "other.toml"],
    )
    init.add_argument("path", type=Path, nargs="?", default=SETTINGS_FILE, metavar="FILE")


def add_check(commands: Any) -> None:
    """`livebot check`."""
    check = add_command(
        commands,
        "check",
        _check,
        brief="try what the bot needs: sound, engines, model, feed",
        about=(
            "Tries the sound device, the speech engines, and with --config the model and the "
            "feed; says what works, and how to mend what does not. You should hear a tone and a "
            "sentence."
        ),
        examples=["", "--config livebot.toml", "--wav tone.wav --json -"],
    )
    add_config(check)
    add_wav(check)
    add_json(check)


def add_completion(commands: Any, whole: argparse.ArgumentParser) -> None:
    """`livebot completion`, of all the commands of `whole`."""
    completion = add_command(
        commands,
        "completion",
        _completion,
        brief="print what lets a shell complete livebot's commands",
        about="Prints a script for the shell, to be kept where the shell looks for such.",
        examples=[
            "bash > ~/.local/share/bash-completion/completions/livebot",
            "zsh > ~/.zfunc/_livebot",
            "fish > ~/.config/fish/completions/livebot.fish",
        ],
    )
    completion.add_argument("shell", choices=_SHELLS, help=", ".join(_SHELLS), metavar="SHELL")
    completion.set_defaults(whole=whole)


def _init(arguments: argparse.Namespace) -> int:
    from livebot.config import commented

    with arguments.path.open("x", encoding="utf-8") as file:
        file.write(commented())
    print(f"{arguments.path} written: say in [feed] where the room is, then: livebot run")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from rich.console import Console

    from livebot import check
    from livebot.sources import Endpoint, EndpointCommand
    from livebot.speech import engines_for

    check_writable(arguments.wav, arguments.json)
    settings = settings_of(arguments.config)
    feed, model = settings.feed, settings.model
    address = functools.partial(Endpoint, feed.url, feed.headers) if feed.url else None
    plan = check.Plan(
        device=settings.voice.device,
        wav=arguments.wav,
        feed=EndpointCommand(feed.command) if feed.command else address,
        kind=feed.kind,
        model_url=model.base_url if model.model else None,
        model_key=model.api_key().get_secret_value(),
        model=model.model,
        engines=engines_for(settings.voice),
    )
    said = sys.stderr if str(arguments.json) == "-" else sys.stdout
    findings: list[check.Finding] = []
    with Console(stderr=True).status("trying one thing after another ..."):
        for finding in check.checks(plan):
            print(finding, file=said, flush=True)
            findings.append(finding)
    works = all(finding.works for finding in findings)
    tell(arguments.json, {"works": works, "findings": [asdict(finding) for finding in findings]})
    return 0 if works else 1


def _completion(arguments: argparse.Namespace) -> int:
    import shtab

    for action in _actions(arguments.whole):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(arguments.whole, shell=arguments.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every argument of a parser and of its commands."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list
        named: Any = getattr(action, "choices", None)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the same
            for command in named.values():
                yield from _actions(command)
        yield action
