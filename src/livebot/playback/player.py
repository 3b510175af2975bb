"""AudioPlayer: one output that is open all the time, sounds in strict order, controls at once."""

from __future__ import annotations

import logging
import queue
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from livebot.playback.output import Output
from livebot.playback.programme import Programme, Sounding
from livebot.playback.sinks import PortAudioSink, Samples, Sink, WavSink
from livebot.playback.subtitles import SubtitleFile
from threadkit import REAL, Context, Health, Histogram, Runtime

__all__ = ["AudioPlayer", "Outcome", "PlayerStatistics", "Sound", "Utterance"]

logger = logging.getLogger("livebot.playback")

Outcome = Literal["speaking", "spoken", "interrupted", "skipped", "cleared", "stopped"]

_DELAYS_KEPT = 512


class Sound(Protocol):
    """What can be played: 16-bit mono samples, such as a `livebot.speech.Speech`."""

    @property
    def pcm(self) -> bytes: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Utterance:
    """What became of one sound. Instants are those of the monotonic clock.

    Attributes:
        seq: Its sequence number.
        text: What was said.
        outcome: "speaking" when it begins to be heard; how it ended after that.
        priority: 0 is the most urgent.
        event_at: When the event happened that it answers, as given to `play`.
        arrived_at: When it was given to `play`.
        first_sound_at: When its first sample was heard, None if it never was.
        seconds: How long it was heard.
        tag: Whatever the caller gave to `play`.
    """

    seq: int
    text: str
    outcome: Outcome
    priority: int
    event_at: float | None
    arrived_at: float
    first_sound_at: float | None
    seconds: float
    tag: object


@dataclass(frozen=True, slots=True)
class PlayerStatistics:
    """What an AudioPlayer has done so far.

    Attributes:
        played: Sounds heard to their end.
        failed: Sequence numbers that came without a sound.
        cut: Sounds that were not heard to their end, by how that came.
        late: Sounds that came after their turn was given up; they were not played.
        given_up: Sequence numbers that never came in time.
        seconds: Seconds of sound that were heard.
        waiting: Sounds that wait, without the one that is heard.
        speaking: The text that is heard now.
        paused: Whether it is paused.
        muted: Whether it is muted.
        volume: 0 to 1.
        underflows: How often sound came too late for the device.
        losses: How often the device went away.
        latency: Seconds of sound the device may hold; grows when it runs dry, and shrinks again
            when it has not for long.
        sink: Name of the device or file.
        path: The file, None for a device.
        delay: How long it took from event to first sound, of the latest sounds.
        wait: How long it took from `play` to first sound, of the same.
    """

    played: int
    failed: int
    cut: Mapping[str, int]
    late: int
    given_up: int
    seconds: float
    waiting: int
    speaking: str | None
    paused: bool
    muted: bool
    volume: float
    underflows: int
    losses: int
    latency: float
    sink: str
    path: Path | None
    delay: Histogram
    wait: Histogram


class AudioPlayer:
    """Plays sounds one after another, in the order of their sequence numbers.

        >>> from types import SimpleNamespace
        >>> from livebot.playback import NullSink
        >>> beep = SimpleNamespace(pcm=bytes([1, 1]) * 2205, sample_rate=22050, text="beep")
        >>> player = AudioPlayer(NullSink())
        >>> player.start()
        >>> player.play(1, beep), player.play(0, None)    # number 0 failed
        (True, True)
        >>> player.wait_idle(timeout=10)
        True
        >>> player.stop()

    A number that comes with None (the text failed, or was empty) still advances the sequence. A
    number that does not come at all holds the others up for `patience` seconds, then its turn is
    given up. Among sounds whose turn has come, the lowest `priority` number goes first.

    The output is one stream that is fed silence between sounds. When the device goes away,
    playing goes on into the WAV file until a device is back; the sound that was interrupted
    starts again in the new place.

    Thread safety: every method may be called from any thread, also before `start`.

    Lifetime: a component: `start`, then `stop`, after which it cannot be started again. Only a
    manager that restarts it keeps what waits: the sound that was heard begins again then. The
    callbacks run on the player's own thread (the last ones in `stop`), one at a time, outside its
    locks; one that raises is logged.

    Args:
        sink: Where to play; None means the sound `device`, or `wav` when that is given.
        device: Number or part of the name of the sound device; None means the system's default.
        wav: A file to play into, in real time, instead of a device.
        fallback: The file to play into while there is no device; None means silence then.
        sample_rate: Samples a second; other sounds are converted when they arrive.
        first_seq: The first sequence number.
        rest: Seconds of silence between two sounds.
        patience: Seconds to wait for a sequence number that others wait for.
        subtitles: A text file that always holds the sentence that is heard, for OBS.
        on_started: Called with each Utterance when its first sample is heard.
        on_played: Called with each Utterance that ended, however, and with the instant of its
            first sound (None if it was never heard). Not called for numbers that came with None.
        runtime: Clock, locks and threads.

    Raises:
        ValueError: If `sink` and `wav` are both given, or `rest` is negative.
    """

    def __init__(
        self,
        sink: Sink | None = None,
        *,
        device: int | str | None = None,
        wav: str | Path | None = None,
        fallback: str | Path | None = "livebot-audio.wav",
        sample_rate: int = 22050,
        first_seq: int = 0,
        rest: float = 0.0,
        patience: float = 30.0,
        subtitles: str | Path | None = None,
        on_started: Callable[[Utterance], object] | None = None,
        on_played: Callable[[Utterance, float | None], object] | None = None,
        runtime: Runtime = REAL,
    ) -> None:
        if sink is not None and wav is not None:
            raise ValueError("give either sink or wav, not both")
        if rest < 0:
            raise ValueError(f"rest must be 0 seconds or more, not {rest!r}")
        if sink is None:
            device_sink = PortAudioSink(device, runtime=runtime)
            sink = device_sink if wav is None else WavSink(wav, runtime=runtime)
        self._sample_rate = sample_rate
        self._gap_watch = _GapWatch(patience, runtime.monotonic)
        self._subtitles = None if subtitles is None else SubtitleFile(subtitles)
        self._on_started = on_started
        self._on_played = on_played
        self._monotonic = runtime.monotonic
        self._programme = Programme(
            sample_rate, first_seq, self._report, rest=rest, runtime=runtime
        )
        self._news = runtime.simple_queue()  # what the thread acts upon, from any thread
        self._output = Output(
            sink,
            None if fallback is None else WavSink(fallback, runtime=runtime),
            fill=self._programme.fill,
            sample_rate=sample_rate,
            on_lost=lambda lost, why: self._news.put(("lost", lost, why)),
            runtime=runtime,
        )
        self._make_thread = runtime.thread
        self._thread: Any = None
        self._generation = 0  # of the thread: one that outlived its stop ends when it comes back
        # Guards the counts below. Notified when a sound has ended, or was refused;
        # `wait_idle` waits.
        self._counted = runtime.condition(runtime.lock())
        self._given = 0  # sounds taken in
        self._ended = 0  # of these, the ones reported to on_played
        self._played = 0
        self._failed = 0
        self._late = 0
        self._given_up = 0
        self._cut: Counter[str] = Counter()
        self._delays: deque[float] = deque(maxlen=_DELAYS_KEPT)
        self._waits: deque[float] = deque(maxlen=_DELAYS_KEPT)

    # -- lifetime ---------------------------------------------------------------------------

    def start(self, ctx: Context | None = None) -> None:
        """Open the output and begin to play.

        Raises:
            SinkError: If neither the sink nor the fallback can be opened.
        """
        self._output.open()
        self._generation += 1
        self._thread = self._make_thread(
            self._run, args=(self._generation, ctx), name="livebot-playback", daemon=True
        )
        self._thread.start()

    def stop(self, ctx: Context | None = None) -> None:
        """End what is heard at once, throw away what waits, and close the output.

        Blocks: until callbacks under way have returned.
        """
        final = ctx is None or ctx.final
        if final:
            self._programme.close()
        if self._thread is not None:
            self._news.put(("end", self._generation))
            self._thread.join()
        self._output.close()
        if final:
            self._deliver_rest()
        else:
            self._programme.rewind()

    def health(self) -> Health:
        """For a manager: alive while its thread is. A lost device is looked for anyway."""
        alive = self._thread is not None and self._thread.is_alive()
        return Health(alive=alive, detail="" if alive else "its thread has died")

    def drain(self, ctx: object = None, deadline: float | None = None) -> bool:
        """Wait until all that was given has been heard, or until the instant `deadline`.

        Nothing will be heard while it is paused, so that is not waited for.
        """
        del ctx
        if self._programme.controls[0]:
            return False
        return self.wait_idle(None if deadline is None else deadline - self._monotonic())

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until everything given to `play` has ended; False if `timeout` came first."""
        with self._counted:
            return self._counted.wait_for(lambda: self._ended >= self._given, timeout)

    # -- playing ----------------------------------------------------------------------------

    def play(
        self,
        seq: int,
        speech: Sound | None,
        *,
        priority: int = 0,
        event_at: float | None = None,
        cut: bool = False,
        tag: object = None,
    ) -> bool:
        """Give the sound of sequence number `seq`, or None if there is none.

        Args:
            seq: Each number once, from `first_seq` on, in any order.
            speech: The sound; what is heard is a copy.
            priority: 0 is the most urgent, as in MessageQueue.
            event_at: Instant of the event that is answered, for the delay.
            cut: Whether to end the sound that is heard, if it is less urgent.
            tag: Handed to the callbacks.

        Returns:
            False if the turn of `seq` is over, or it was given before: it will not be heard.
        """
        sounding = None
        if speech is not None and speech.pcm:
            samples = _at_rate(speech, self._sample_rate)
            arrived_at = self._monotonic()
            sounding = Sounding(seq, samples, speech.text, priority, event_at, arrived_at, tag)
            with self._counted:
                self._given += 1
        taken = self._programme.put(seq, sounding, priority, cut=cut)
        with self._counted:
            self._failed += taken and sounding is None
            self._late += not taken
            if not taken and sounding is not None:
                self._given -= 1
                self._counted.notify_all()
        if self._programme.gap is not None:
            self._news.put(("gap",))
        return taken

    def chime(self, sound: Sound) -> None:
        """Mix a short sound into what is heard, at once: it has no place in the order.

        It is heard in a pause, too, and as loud as everything else. One that sounds already ends.
        """
        self._programme.chime(_at_rate(sound, self._sample_rate))

    def interrupt(self) -> int:
        """Silence at once: end what is heard, throw away what waits. How many sounds that were."""
        return self._programme.silence()

    def skip(self) -> bool:
        """End what is heard and go on with the next; False if nothing is heard."""
        return self._programme.skip()

    def clear(self) -> int:
        """Throw away what waits; what is heard goes on."""
        return self._programme.clear()

    def pause(self) -> None:
        """Stop in the middle of a sound. Sounds given meanwhile wait."""
        self._programme.pause(paused=True)

    def resume(self) -> None:
        """Go on where `pause` stopped."""
        self._programme.pause(paused=False)

    def mute(self, muted: bool = True) -> None:
        """Play on without a sound, or with it again."""
        self._programme.set_gain(muted=muted)

    def set_volume(self, volume: float) -> None:
        """Set the volume, from 0 to 1.

        Raises:
            ValueError: If it is outside.
        """
        if not 0 <= volume <= 1:
            raise ValueError(f"volume must be from 0 to 1, not {volume!r}")
        self._programme.set_gain(volume=volume)

    def use(self, sink: Sink) -> None:
        """Play on another device or into another file, soon after this call.

        A `sink` that cannot be opened is treated as a device that went away: the fallback plays
        until it can.
        """
        self._news.put(("use", sink))

    def statistics(self) -> PlayerStatistics:
        """Counts, delays and state now."""
        paused, muted, volume = self._programme.controls
        output = self._output
        with self._counted:
            return PlayerStatistics(
                played=self._played,
                failed=self._failed,
                cut=dict(self._cut),
                late=self._late,
                given_up=self._given_up,
                seconds=self._programme.samples_spoken / self._sample_rate,
                waiting=self._programme.waiting,
                speaking=self._programme.speaking,
                paused=paused,
                muted=muted,
                volume=volume,
                underflows=output.underflows,
                losses=output.losses,
                latency=output.latency,
                sink=output.name,
                path=output.path,
                delay=Histogram.of(self._delays),
                wait=Histogram.of(self._waits),
            )

    # -- the player's thread ----------------------------------------------------------------

    def _report(self, sounding: Sounding, what: str) -> None:
        self._news.put((what, sounding))

    def _run(self, generation: int, ctx: Context | None) -> None:
        try:
            while (news := self._next_news()) != ("end", generation):
                if self._generation != generation:
                    self._news.put(news)  # for the thread that has taken its place
                    return
                self._act(news)
                self._look_at_the_clock()
        except Exception as exc:
            if ctx is None:
                raise
            ctx.fail(exc)

    def _next_news(self) -> tuple[Any, ...]:
        due = [at for at in (self._gap_watch.due_at, self._output.due_at) if at is not None]
        timeout = max(0.0, min(due) - self._monotonic()) if due else None
        try:
            news: tuple[Any, ...] = self._news.get(timeout=timeout)
        except queue.Empty:
            return ()
        return news

    def _act(self, news: tuple[Any, ...]) -> None:
        match news:
            case ("lost", sink, why):
                self._output.lose(sink, why)
                self._programme.rewind()
            case ("use", sink):
                self._output.use(sink)
            case (what, Sounding() as sounding):
                self._deliver(sounding, what)
            case _:
                pass  # woken to look at the clock

    def _look_at_the_clock(self) -> None:
        programme = self._programme
        self._output.steady(quiet=programme.speaking is None and not programme.waiting)
        if self._gap_watch.expired(self._programme.gap):
            given_up = self._programme.skip_gap()
            logger.warning("gave up waiting for %d sequence numbers", given_up)
            with self._counted:
                self._given_up += given_up
        due_at = self._output.due_at
        if due_at is not None and self._monotonic() >= due_at and self._output.tend():
            self._programme.rewind()

    def _deliver_rest(self) -> None:
        """Deliver what was reported while the thread ended."""
        while True:
            try:
                news = self._news.get_nowait()
            except queue.Empty:
                return
            self._act(news)

    def _deliver(self, sounding: Sounding, outcome: Outcome) -> None:
        utterance = self._utterance(sounding, outcome)
        if outcome == "speaking":
            self._note_first_sound(utterance)
            if self._subtitles:
                self._subtitles.show(utterance.text)
            if self._on_started:
                self._call(self._on_started, utterance)
            return
        if self._subtitles and utterance.first_sound_at is not None:
            self._subtitles.clear()
        try:
            if self._on_played:
                self._call(self._on_played, utterance, utterance.first_sound_at)
        finally:
            with self._counted:
                self._ended += 1
                self._played += outcome == "spoken"
                if outcome != "spoken":
                    self._cut[outcome] += 1
                self._counted.notify_all()

    def _utterance(self, sounding: Sounding, outcome: Outcome) -> Utterance:
        return Utterance(
            seq=sounding.seq,
            text=sounding.text,
            outcome=outcome,
            priority=sounding.priority,
            event_at=sounding.event_at,
            arrived_at=sounding.arrived_at,
            first_sound_at=sounding.first_sound_at,
            seconds=sounding.position / self._sample_rate,
            tag=sounding.tag,
        )

    def _note_first_sound(self, utterance: Utterance) -> None:
        first_sound_at = utterance.first_sound_at
        assert first_sound_at is not None  # noqa: S101 - it is speaking
        with self._counted:
            self._waits.append(first_sound_at - utterance.arrived_at)
            if utterance.event_at is not None:
                self._delays.append(first_sound_at - utterance.event_at)

    @staticmethod
    def _call(callback: Callable[..., object], *args: object) -> None:
        try:
            callback(*args)
        except Exception:
            logger.exception("a playback callback failed")


class _GapWatch:
    """Notices when the same sequence number has held others up for `patience` seconds."""

    def __init__(self, patience: float, monotonic: Callable[[], float]) -> None:
        self._patience = patience
        self._monotonic = monotonic
        self._gap: int | None = None
        self.due_at: float | None = None

    def expired(self, gap: int | None) -> bool:
        """Whether the time of `gap`, the number that holds others up now, is over."""
        now = self._monotonic()
        if gap != self._gap:
            self._gap = gap
            self.due_at = None if gap is None else now + self._patience
        if self.due_at is None or now < self.due_at:
            return False
        self._gap = self.due_at = None
        return True


def _at_rate(sound: Sound, rate: int) -> Samples:
    """The samples of `sound` at `rate` samples a second, by linear interpolation."""
    samples: Samples = np.frombuffer(sound.pcm, np.int16)
    if sound.sample_rate == rate:
        return samples
    count = round(len(samples) * rate / sound.sample_rate)
    positions = np.arange(count) * (sound.sample_rate / rate)
    converted: Samples = np.interp(positions, np.arange(len(samples)), samples).astype(np.int16)
    return converted
