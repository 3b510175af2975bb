"""record, simulate: a room without a bot in it."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livebot.commands.arguments import (
    GRACE,
    SETTINGS_FILE,
    add_command,
    add_config,
    add_json,
    add_seconds,
    address_of,
    check_writable,
    port,
    positive,
    screen,
    settings_of,
    share,
    tell,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from livebot.config import FeedSettings
    from livebot.messages import Event
    from livebot.sources import Crowd, Faults, FeedState, Played

__all__ = ["add_record", "add_simulate"]

_KINDS = ("douyin", "barrage_grab", "douyin_live")

# Each is a field of `livebot.sources.Faults`.
_FAULTS: tuple[tuple[str, Callable[[str], Any], str, str], ...] = (
    ("cut_every", positive, "S", "cut every connection each S seconds"),
    ("cut_code", int, "N", "with this close code, not a bare cut"),
    ("silence_every", positive, "S", "fall silent each S seconds, with the connection open"),
    ("repeat", share, "SHARE", "this share of the messages is sent twice"),
    ("malformed", share, "SHARE", "rubbish before this share of the responses"),
    ("truncated", share, "SHARE", "a cut-off copy before this share of the responses"),
    ("bombs", share, "SHARE", "a gzip bomb before this share of the responses"),
    ("refused", int, "N", "answer the first N connections with HTTP 503"),
)


def add_record(commands: Any) -> None:
    """`livebot record`."""
    record = add_command(
        commands,
        "record",
        _record,
        brief="write a room to a file, to be replayed",
        about=(
            "Connects to the room of the settings or of --url and writes every event to a file "
            "that replay, demo and simulate read. Ends with the broadcast, after --seconds, or "
            "with Ctrl-C."
        ),
        examples=[
            "evening.jsonl",
            "evening.jsonl --seconds 3600",
            "evening.jsonl --url ws://127.0.0.1:8888 --kind barrage_grab",
        ],
    )
    record.add_argument("file", type=Path, metavar="FILE", help="where to; must not exist yet")
    record.add_argument("--force", action="store_true", help="replace FILE if it exists")
    where = record.add_mutually_exclusive_group()
    add_config(where, default=SETTINGS_FILE)
    where.add_argument("--url", metavar="URL", help="where the room is, without settings")
    record.add_argument(
        "--kind", choices=_KINDS, default="douyin", help="what speaks at --url (douyin)"
    )
    add_seconds(record)
    add_json(record)


def add_simulate(commands: Any) -> None:
    """`livebot simulate`."""
    simulate = add_command(
        commands,
        "simulate",
        _simulate,
        brief="a room on this machine, for other programs",
        about=(
            "Serves a recorded or made-up room over Douyin's wire protocol and prints its "
            "address. The room begins with its first viewer. Ends after --seconds, or with "
            "Ctrl-C."
        ),
        examples=[
            "",
            "--room evening.jsonl --speed 10 --loop --port 9000",
            "--rate 2000 --cut-every 30 --malformed 0.01",
        ],
    )
    simulate.add_argument("--room", type=Path, metavar="FILE", help="another recording than ours")
    simulate.add_argument("--rate", type=positive, metavar="R", help="made-up events, R a second")
    simulate.add_argument(
        "--speed", type=positive, default=1.0, metavar="X", help="X times as fast"
    )
    simulate.add_argument("--loop", action="store_true", help="begin again after the end")
    simulate.add_argument("--host", default="127.0.0.1", metavar="NAME", help="where to listen")
    simulate.add_argument("--port", type=port, default=0, metavar="N", help="the same; 0: any")
    simulate.add_argument("--seed", type=int, metavar="N", help="the same faults and crowd again")
    add_seconds(simulate)
    add_json(simulate)
    faults = simulate.add_argument_group("what goes wrong, in seconds of the room")
    for name, read, metavar, text in _FAULTS:
        faults.add_argument(f"--{name.replace('_', '-')}", type=read, metavar=metavar, help=text)


def _record(arguments: argparse.Namespace) -> int:
    from livebot.sources import SOURCES, FeedState, Recorder
    from livebot.terminal import Picture, recorded
    from threadkit import ComponentManager

    feed = _feed_of(arguments)
    console = screen()
    manager = ComponentManager("record")
    last: list[FeedState] = []

    def changed(state: FeedState, sentence: str) -> None:
        last.append(state)
        if state in {FeedState.ENDED, FeedState.REFUSED}:
            logging.getLogger("livebot").info("%s", sentence)
            manager.request_stop()

    def record(event: Event) -> None:
        recorder.record(event)

    address = address_of(feed, arguments.config, or_else=", or --url")
    headers = None if feed.command else feed.headers  # a command tells its own
    source = SOURCES[feed.kind](address, headers=headers, emit=record, on_state=changed)
    with Recorder(arguments.file) as recorder:
        manager.add("source", source)
        manager.add("picture", Picture(lambda: recorded(source.statistics()), console))
        _end_after(manager, arguments.seconds)
        code = manager.run(grace=GRACE)
    statistics = source.statistics()
    console.print(f"{recorder.count} events in {arguments.file}", highlight=False, markup=False)
    tell(
        arguments.json,
        {
            "file": str(arguments.file),
            "events": recorder.count,
            "kinds": dict(statistics.decoded),
            "reconnects": statistics.reconnects,
            "malformed": statistics.malformed,
        },
    )
    return code or int(FeedState.REFUSED in last)


def _feed_of(arguments: argparse.Namespace) -> FeedSettings:
    """Where the room is, once it is sure that what it says can be written."""
    from livebot.config import FeedSettings

    if arguments.file.exists() and not arguments.force:
        raise ValueError(f"{arguments.file} exists: choose another name, or --force")
    check_writable(arguments.file, arguments.json)
    if arguments.url is not None:
        return FeedSettings(kind=arguments.kind, url=arguments.url)
    return settings_of(arguments.config).feed


def _simulate(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from livebot.sources import Simulator
    from livebot.terminal import Picture, simulated
    from threadkit import ComponentManager

    check_writable(arguments.json)
    simulator = Simulator(
        _timeline(arguments),
        speed=arguments.speed,
        host=arguments.host,
        port=arguments.port,
        seed=arguments.seed,
        faults=_faults(arguments),
    )
    console = screen()
    manager = ComponentManager("simulate")
    simulator.start()
    print(simulator.url, flush=True)
    manager.add("simulator", _Started(simulator.stop))
    manager.add("picture", Picture(lambda: simulated(simulator.statistics()), console))
    _end_after(manager, arguments.seconds)
    code = manager.run(grace=GRACE)
    tell(arguments.json, asdict(simulator.statistics()))
    return code


class _Started:
    """A component that was started before, so that its address could be told."""

    def __init__(self, stop: Callable[[], object]) -> None:
        self._stop = stop

    def start(self, ctx: object, /) -> None:
        """Nothing to do."""

    def stop(self, ctx: object, /) -> None:
        self._stop()


def _timeline(arguments: argparse.Namespace) -> Played | Crowd:
    from livebot.sources import Crowd, Played, read_recording, shipped_room

    if arguments.rate is not None:
        if arguments.room is not None or arguments.loop:
            raise ValueError("--rate makes a room up, without end: leave --room and --loop out")
        return Crowd(arguments.rate, seed=arguments.seed or 0)
    events = read_recording(arguments.room or shipped_room())
    return Played(events, rounds=None if arguments.loop else 1)


def _faults(arguments: argparse.Namespace) -> Faults:
    from livebot.sources import Faults

    given = {name: getattr(arguments, name) for name, *_ in _FAULTS}
    return Faults(**{name: value for name, value in given.items() if value is not None})


def _end_after(manager: Any, seconds: float | None) -> None:
    if seconds is None:
        return

    def clock(ctx: Any) -> None:
        if ctx.sleep(seconds):
            manager.request_stop()

    manager.service("clock", clock)
