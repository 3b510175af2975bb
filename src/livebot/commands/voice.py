"""say: the bot's voice, without a room."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from livebot.commands.arguments import (
    GRACE,
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

if TYPE_CHECKING:
    from livebot.playback import AudioPlayer, PlayerStatistics, Utterance
    from livebot.speech import Speech, SpeechService
    from threadkit import Context

__all__ = ["add_say"]


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
    say.add_argument(
        "--rate", type=_rate, metavar="N", help="words a minute, instead of the settings' rate"
    )
    say.add_argument("--volume", type=share, metavar="X", help="from 0 to 1")
    add_config(say)
    add_wav(say)
    add_json(say)


def _rate(text: str) -> int:
    from livebot.config import FASTEST, SLOWEST

    if not (text.isascii() and text.isdecimal()) or not SLOWEST <= int(text) <= FASTEST:
        allowed = f"a number from {SLOWEST} to {FASTEST}"
        raise argparse.ArgumentTypeError(f"must be {allowed}, not {text}")
    return int(text)


def _say(arguments: argparse.Namespace) -> int:
    from livebot.playback import AudioPlayer
    from livebot.speech import SpeechService, engines_for
    from livebot.terminal import Picture, spoken
    from threadkit import ComponentManager

    check_writable(arguments.wav, arguments.json)
    voice = settings_of(arguments.config).voice
    texts = [text for text in arguments.text or _lines() if text.strip()]
    engine, *others = engines_for(voice).values()
    speech = SpeechService(engine=engine, fallbacks=others, rate=arguments.rate or voice.rate)
    console = screen()
    manager = ComponentManager("say")
    speaker = _Speaker(texts, speech, done=manager.request_stop)
    player = AudioPlayer(
        wav=arguments.wav, device=voice.device, rest=voice.rest, on_played=speaker.played
    )
    player.set_volume(voice.volume if arguments.volume is None else arguments.volume)
    manager.add("player", player)
    manager.service(
        "speaker", lambda ctx: speaker.run(ctx, player), needs=["player"], restart="temporary"
    )
    # Closed before the speaker is waited for, so that it is not left with a slow engine.
    manager.add("speech", speech, needs=["speaker"])
    picture = Picture(lambda: spoken(player.statistics(), len(texts)), console)
    manager.add("picture", picture, needs=["player"])
    code = manager.run(grace=GRACE)
    tell(arguments.json, speaker.account(player.statistics()))
    return code or int(bool(speaker.failed))


def _lines() -> Sequence[str]:
    """The lines of the standard input, none where it is closed."""
    stdin: TextIO | None = sys.stdin
    return [] if stdin is None else stdin.read().splitlines()


class _Speaker:
    """Speaks one text after another, and counts."""

    def __init__(
        self,
        texts: Sequence[str],
        speech: SpeechService,
        *,
        done: Callable[[], object],
    ) -> None:
        self._texts = texts
        self._speech = speech
        self._done = done
        # Guards _left, which counts the texts that have not ended, and one for handing them over.
        self._lock = threading.Lock()
        self._left = len(texts) + 1
        self.failed: list[dict[str, str]] = []

    def run(self, ctx: Context, player: AudioPlayer) -> None:
        for number, text in enumerate(self._texts):
            if ctx.stopping:
                return
            sound = self._spoken(text)
            player.play(number, sound)
            if sound is None:
                self.ended()
        self.ended()

    def played(self, utterance: Utterance, _first_sound_at: float | None) -> None:
        """On the player's thread: one text was heard, or was cut off."""
        if utterance.outcome == "spoken":
            logging.getLogger("livebot").info("said: %s", utterance.text)
        self.ended()

    def ended(self) -> None:
        """One text is over, or all were handed over. Waits for nobody."""
        with self._lock:
            self._left -= 1
            over = self._left == 0
        if over:
            self._done()

    def _spoken(self, text: str) -> Speech | None:
        from livebot.speech import SpeechError

        try:
            return self._speech.synthesize(text)
        except SpeechError as exc:
            if exc.reason == "closed":  # somebody ended it; that is no failure
                return None
            logging.getLogger("livebot").warning("%s", exc)
            self.failed.append({"text": text, "reason": exc.reason})
            return None

    def account(self, now: PlayerStatistics) -> dict[str, Any]:
        return {
            "said": now.played,
            "failed": self.failed,
            "seconds": round(now.seconds, 3),
            "sink": now.sink,
            "path": None if now.path is None else str(now.path),
        }
