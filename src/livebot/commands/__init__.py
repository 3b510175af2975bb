"""The commands, each with its arguments beside what it does.

* `arguments`: what several commands take, and how they tell what came of it.
* `live`: demo, run, replay: a bot in a room.
* `rooms`: record, simulate: a room without a bot.
* `voice`: say.
* `preparing`: check, init, completion.

Modules import what they need inside their functions, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse

from livebot import __version__
from livebot.commands import live, preparing, rooms, voice

__all__ = ["make_parser"]

_EPILOG = """\
examples:
  livebot demo                          listen to the recorded room, and look at the dashboard
  livebot say 你好                      hear the voice
  livebot init                          write livebot.toml: say there where the room is,
  livebot check --config livebot.toml   see what works,
  livebot run                           and live in it

exit codes:
  0    done; also when you ended it with Ctrl-C
  1    something is missing or went wrong: it says what
  2    the call was wrong: it says how
  130  ended with Ctrl-C before anything ran

livebot COMMAND --help tells more of each.
"""


def make_parser() -> argparse.ArgumentParser:
    """Every command with its arguments."""
    parser = argparse.ArgumentParser(
        prog="livebot",
        description="Reads a Douyin live room, picks what matters and speaks the answers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=None)
    parser.add_argument("--version", action="version", version=f"livebot {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    live.add_demo(commands)
    live.add_run(commands)
    live.add_replay(commands)
    rooms.add_record(commands)
    rooms.add_simulate(commands)
    voice.add_say(commands)
    preparing.add_check(commands)
    preparing.add_init(commands)
    preparing.add_completion(commands, parser)
    return parser
