"""say: the bot's voice, without a room."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any

from livebot.commands.arguments import (
    add_command,
    add_config,
    add_json,
    add_wav,
    check_writable,
    screen,
    settings_of,
    share,
    tell,
)

__all__ = ["add_say"]

_RATES = (80, 450)  # words a minute, as in the settings


def add_say(commands: Any) -> None:
    """`livebot say`."""
    say = add_command(
        commands,
        "say",
        _say,
        brief="speak some words, to hear how they sound",
        about=(
            "Speaks each TEXT, or each line of the standard input, with the voice of the settings."
        ),
        examples=["你好", "'Hello there' 'How are you?' --rate 180", "--wav out.wav < lines.txt"],
    )
    say.add_argument("text", nargs="*", metavar="TEXT", help="what to say; without: from the input")
    say.add_argument("--rate", type=_rate, metavar="N", help="words a minute, 80 to 450")
    say.add_argument("--volume", type=share, metavar="X", help="from 0 to 1")
    add_config(say)
    add_wav(say)
    add_json(say)


def _rate(text: str) -> int:
    least, most = _RATES
    if not (text.isascii() and text.isdecimal()) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"must be a number from {least} to {most}, not {text}")
    return int(text)


def _say(arguments: argparse.Namespace) -> int:
    from livebot.playback import AudioPlayer
    from livebot.speech import SpeechError, SpeechService, engines_for
    from livebot.terminal import Picture, spoken
    from threadkit import ComponentManager, Context

    check_writable(arguments.wav, arguments.json)
    voice = settings_of(arguments.config).voice
    texts = [text for text in arguments.text or sys.stdin.read().splitlines() if text.strip()]
    engine, *others = engines_for(voice).values()
    speech = SpeechService(engine=engine, fallbacks=others, rate=arguments.rate or voice.rate)
    player = AudioPlayer(wav=arguments.wav, device=voice.device, rest=voice.rest)
    player.set_volume(voice.volume if arguments.volume is None else arguments.volume)
    console = screen()
    failed: list[dict[str, str]] = []
    manager = ComponentManager("say")

    def speak_all(ctx: Context) -> None:
        for number, text in enumerate(texts):
            if ctx.stopping:
                return
            try:
                sound = speech.synthesize(text)
            except SpeechError as exc:
                logging.getLogger("livebot").warning("%s", exc)
                failed.append({"text": text, "reason": exc.reason})
                sound = None
            player.play(number, sound)
        if player.wait_idle():
            manager.request_stop()

    manager.add("player", player)
    manager.service("speaker", speak_all, needs=["player"], restart="temporary")
    # Closed before the speaker is waited for, so that it is not left with a slow engine.
    manager.add("speech", speech, needs=["speaker"])
    picture = Picture(lambda: spoken(player.statistics(), len(texts)), console)
    manager.add("picture", picture, needs=["player"])
    code = manager.run(grace=5)
    now = player.statistics()
    tell(
        arguments.json,
        {
            "said": now.played,
            "failed": failed,
            "seconds": round(now.seconds, 3),
            "sink": now.sink,
            "path": None if now.path is None else str(now.path),
        },
    )
    return code or int(bool(failed))
