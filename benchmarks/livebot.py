"""How long from a viewer's action to the first sound of the answer, and where does the time go?

    python -m benchmarks.livebot [--quick] [--device] [--json FILE]

One whole bot in this process: the simulated room sends an event over its socket, the bot decodes,
moderates, answers and speaks it, while nothing else waits (idle). Every event's way is timed:

* feed: from the frame's arrival to the call for speech (decode, moderate, rank, answer, queues);
* speech: the call for speech, with its worker process or the cache;
* output: from the finished speech to its first sample, as the sink reckons: the file sink takes
  blocks of 20 ms by the clock, a device adds its own latency.

The stages add up to `event to first sound`. Workloads: `uncached` greets a new name each time,
`cached` one and the same. The baseline, espeak-ng alone, speaks the same kind of sentence in this
process without anything round it; its second row, pyttsx3, does so through one worker process.
Each repeat is the median, or for p95 the 95th percentile, of one group of events. An event that
came while the sentence before was still heard was not met at idle and is left out.

What does a repeated text cost until it is played? `repeated text` is `SpeechService.synthesize` of
a sentence that was spoken before: found in memory, or read from its file.

And how much of a room gets through? The busiest ten minutes of a real room, played at 1 to 50 times
its pace for some seconds each: `events` are those the room sent and those the bot decided upon, a
second; `undecided` is the 95th percentile of how long an event waits for that; `CPU` is this whole
process, the room's server included, for each event; `heard` are sentences a minute, which no speed
of the room can raise.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, process_time
from typing import Any

from benchmarks.harness import REPEATS, Benchmark, main
from livebot.app import LiveBot
from livebot.config import Settings
from livebot.ledger import Stage
from livebot.messages import Member, User
from livebot.playback import Utterance
from livebot.sources import Endpoint, Played, Simulator, busy_room, read_recording
from livebot.speech import Engine, EspeakEngine, Pyttsx3Process, SpeechService
from threadkit import FileTier, TieredCache, TTLCache

SPACING = 1.2  # seconds between events: each is heard to its end before the next comes
SPARE = 6  # events of each kind beyond those that are needed, for those that are not met at idle
VOICE = ("sit/cmn", 450, 1.0)
DIGITS = "零一二三四五六七八九"
WORKLOADS = ("uncached", "cached")
SPEEDS = (1, 4, 10, 50)


@dataclass
class Way:
    """One event's way, in seconds."""

    feed: float
    speech: float
    output: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.feed + self.speech + self.output


def quantile(ways: list[float], share: float) -> float:
    """The value below which `share` of `ways` lie."""
    return sorted(ways)[min(len(ways) - 1, int(share * len(ways)))]


def name_of(number: int) -> str:
    """A name no other number has, always as long."""
    return "".join(DIGITS[int(digit)] for digit in f"{number:03}")


def events(count: int) -> Iterator[tuple[float, Member]]:
    """Viewers who enter, in turns with a new name and with always the same."""
    for number in range(count):
        name = "小" + (name_of(number) if number % 2 == 0 else name_of(999))
        user = User(id=str(number), name=name)
        # Spread evenly over the 20 ms of a block, lest every event meet the sink's clock alike.
        phase = 0.02 * (number * 0.618 % 1)
        yield SPACING * (number + 1) + phase, Member(id=str(number), user=user)


class Session:
    """Runs a bot through a room once, and hands out what it measured in groups."""

    def __init__(self, group: int, *, device: bool) -> None:
        self._group = group
        self._device = device
        self._ways: dict[str, list[Way]] = {}

    def group_of(self, workload: str, number: int) -> list[Way]:
        """The `number`th group of ways; the first call runs the bot."""
        if not self._ways:
            self._ways = self._run()
        ways = self._ways[workload][self._group * number :][: self._group]
        if len(ways) < self._group:
            found, needed = len(self._ways[workload]), self._group * (REPEATS + 1)
            raise RuntimeError(f"{found} of the {needed} events that are needed met an idle bot")
        return ways

    def _run(self) -> dict[str, list[Way]]:
        simulator = Simulator(events(2 * (self._group * (REPEATS + 1) + SPARE)))
        with tempfile.TemporaryDirectory() as folder:
            bot = LiveBot(
                lambda: Endpoint(simulator.url),
                settings=Settings.model_validate(
                    {"voice": {"rate": VOICE[1], "workers": 1, "rest": 0.0}}
                ),
                wav=None if self._device else Path(folder, "out.wav"),
                feed_needs=["simulator"],
            )
            bot.manager.add("simulator", simulator)
            log = Log(bot)
            bot.run()
        return log.ways()


class Log:
    """Notes when each text was called for, ready, and heard."""

    def __init__(self, bot: Any) -> None:
        self._calls: dict[object, tuple[float, float, bool]] = {}
        self._heard: list[Utterance] = []
        self._speak: Callable[..., Any] = bot.speaking.speech.synthesize
        self._play: Callable[..., Any] = bot.speaking.player.play
        self._last: Any = None
        bot.speaking.speech.synthesize = self._synthesize
        bot.speaking.player.play = self._give
        self._played: Callable[..., Any] = bot.speaking.player._on_played  # noqa: SLF001
        bot.speaking.player._on_played = self._note  # noqa: SLF001

    def _synthesize(self, text: str, **settings: Any) -> Any:
        began_at = monotonic()
        speech = self._speak(text, **settings)
        self._last = (began_at, monotonic(), speech.cached)
        return speech

    def _give(self, seq: int, speech: Any, **settings: Any) -> Any:
        self._calls[seq] = self._last
        return self._play(seq, speech, **settings)

    def _note(self, utterance: Utterance, first_sound_at: float | None) -> None:
        if first_sound_at is not None:
            self._heard.append(utterance)
        self._played(utterance, first_sound_at)

    def ways(self) -> dict[str, list[Way]]:
        """The ways of each workload, in order, without the first ones.

        Those meet workers that still start, and a sound server that takes its time until somebody
        wants little delay.
        """
        found: dict[str, list[Way]] = {workload: [] for workload in WORKLOADS}
        silent_at = 0.0  # from when on nothing was heard
        for utterance in self._heard:
            began_at, ended_at, cached = self._calls[utterance.seq]
            assert utterance.event_at is not None
            assert utterance.first_sound_at is not None
            was_idle = silent_at <= utterance.event_at
            silent_at = utterance.first_sound_at + utterance.seconds
            if not was_idle:
                continue
            found["cached" if cached else "uncached"].append(
                Way(
                    feed=began_at - utterance.event_at,
                    speech=ended_at - began_at,
                    output=utterance.first_sound_at - ended_at,
                )
            )
        return {workload: ways[2:] for workload, ways in found.items()}


def alone(engine: Engine, numbers: Iterator[int]) -> float:
    """Milliseconds of one synthesis of a greeting, with nothing round it."""
    text = f"欢迎小{name_of(next(numbers) % 1000)}"
    began_at = monotonic()
    speech = engine.synthesize(text, *VOICE)
    took = monotonic() - began_at
    assert speech.seconds > 0.3
    return 1000 * took


def build(options: argparse.Namespace) -> Benchmark:
    """The stages and their sum, beside the synthesis alone."""
    bench = Benchmark(
        "livebot", baseline="espeak-ng alone", packages=["pyttsx3", "espeakng-loader"]
    )
    session = Session(3 if options.quick else 12, device=options.device)
    espeak, pyttsx3 = EspeakEngine(), Pyttsx3Process()
    atexit.register(pyttsx3.close)
    stages = ("feed", "speech", "output", "total")
    for workload, (share, label) in itertools.product(WORKLOADS, ((0.5, ""), (0.95, " p95"))):
        metric = f"event to first sound{label}"
        add = functools.partial(bench.add, metric=metric, unit="ms", workload=workload)
        for engine, contender in ((espeak, "espeak-ng alone"), (pyttsx3, "pyttsx3 alone")):
            numbers = itertools.count(500)
            add(contender, run=functools.partial(alone, engine, numbers))
        for stage in stages:
            contender = "threadkit" if stage == "total" else f"threadkit:{stage}"
            groups = itertools.count()
            add(contender, run=functools.partial(figure, session, workload, stage, share, groups))
    add_repeats(bench)
    add_rushes(bench, 5.0 if options.quick else 20.0)
    return bench


def add_repeats(bench: Benchmark) -> None:
    """A sentence that was spoken before, from each tier of the cache."""
    folder = tempfile.TemporaryDirectory(prefix="livebot-benchmark-")
    atexit.register(folder.cleanup)
    files = TieredCache[str](TTLCache(1), FileTier(folder.name, max_bytes=10_000_000))
    tiers = {
        "threadkit:memory": SpeechService(TTLCache[str, bytes](10), engine=EspeakEngine),
        "threadkit:files": SpeechService(files, engine=EspeakEngine),
    }
    add = functools.partial(bench.add, metric="repeated text", unit="ms")
    add("espeak-ng alone", run=functools.partial(alone, EspeakEngine(), itertools.count(500)))
    for contender, service in tiers.items():
        add(contender, run=functools.partial(repeated, service))


def repeated(service: SpeechService) -> float:
    """Milliseconds for a sentence, each time the other of two, so that one place is too few."""
    texts = [f"欢迎小{name_of(number)}" for number in range(2)]
    for text in texts:
        service.synthesize(text)
    times: list[float] = []
    for text in texts * 25:
        began_at = monotonic()
        service.synthesize(text)
        times.append(monotonic() - began_at)
    assert service.statistics().synthesized == len(texts), "an engine spoke a repeated text"
    return 1000 * quantile(times, 0.5)


@dataclass(frozen=True)
class Rush:
    """What became of a room that was played faster than it was."""

    sent: float
    decided: float
    undecided: float
    cpu: float
    heard: float


def rush(speed: float, length: float) -> Rush:
    """A bot in the busy room for `length` seconds."""
    simulator = Simulator(Played(list(read_recording(busy_room())), rounds=100), speed=speed)
    with tempfile.TemporaryDirectory() as folder:
        bot = LiveBot(
            lambda: Endpoint(simulator.url),
            settings=Settings(),
            wav=Path(folder, "out.wav"),
            feed_needs=["simulator"],
        )
        bot.manager.add("simulator", simulator)
        cpu = process_time()
        bot.run(seconds=length)
        cpu = process_time() - cpu
    seen = bot.snapshot()
    books, sent = seen.ledger, sum(simulator.statistics().sent.values())
    undecided = books.waiting.get(Stage.RECEIVED.value, 0)
    decided = books.received + sum(books.other.values()) - undecided
    waits = bot.view().stages[0]
    return Rush(
        sent=sent / seen.seconds,
        decided=decided / seen.seconds,
        undecided=1000 * (waits.p95 or 0.0),
        cpu=1000 * cpu / max(1, decided),
        heard=60 * seen.player.played / seen.seconds,
    )


def add_rushes(bench: Benchmark, length: float) -> None:
    """The room at each speed; all its figures are of one run."""
    for speed in SPEEDS:
        run = functools.cache(functools.partial(rush, speed, length))
        for contender, metric, unit, field in (
            ("the room", "events", "events/s", "sent"),
            ("threadkit", "events", "events/s", "decided"),
            ("threadkit", "undecided p95", "ms", "undecided"),
            ("threadkit", "CPU", "ms/event", "cpu"),
            ("threadkit", "heard", "sentences/min", "heard"),
        ):
            bench.add(
                contender,
                metric,
                lambda run=run, field=field: getattr(run(), field),
                unit=unit,
                workload=f"{speed:g}x",
                repeats=1,
                warm_up=0,
            )


def figure(
    session: Session, workload: str, stage: str, share: float, groups: Iterator[int]
) -> float:
    """Milliseconds of `stage` in the next group of events."""
    ways = session.group_of(workload, next(groups))
    return 1000 * quantile([getattr(way, stage) for way in ways], share)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What only this benchmark takes."""
    parser.add_argument("--device", action="store_true", help="play on the sound device")


if __name__ == "__main__":
    main(build, add_arguments=add_arguments)
