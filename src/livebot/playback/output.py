"""The output: the wanted device, another place while it is away, and the way back."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from pathlib import Path

from livebot.playback.sinks import Fill, NullSink, Samples, Sink, SinkError
from threadkit import Runtime

__all__ = ["Output"]

logger = logging.getLogger("livebot.playback")

_FIRST_RETRY = 0.5  # seconds; each further one takes twice as long,
_SLOWEST_RETRY = 5.0  # up to this: looking for devices costs some 30 ms
_SETTLED = 10.0  # seconds a device must have played until the first retry is quick again
_TOO_MANY = 3  # underflows, within
_WINDOW = 30.0  # seconds; one now and then is not worth a pause
_CALM = 600.0  # seconds without an underflow until a device holds less again; each time that was
_LONGEST_CALM = 4 * 3600.0  # too early, it takes twice as long the next time, up to this
_STALL = 5.0  # seconds; a device under PulseAudio may take two until it pulls for the first time


class Output:
    """Keeps one sink pulling from `fill`, whatever becomes of the device.

    Thread safety: `open`, `use`, `lose`, `tend`, `close` by one thread at a time; the rest by any.

    Lifetime: `open`, then `close`, after which nothing is opened until the next `open`.

    Args:
        sink: The one that is wanted.
        fallback: Where to play while that is away; None means nowhere.
        fill: What the sinks pull from; only one of them does at any time.
        sample_rate: Samples a second.
        on_lost: Called with the sink and the reason when it goes away, from any thread; it must
            only hand the news on to the thread that calls `lose`.
        runtime: The clock.
    """

    def __init__(
        self,
        sink: Sink,
        fallback: Sink | None,
        *,
        fill: Fill,
        sample_rate: int,
        on_lost: Callable[[Sink, str], None],
        runtime: Runtime,
    ) -> None:
        self._wanted = sink
        nowhere = NullSink(runtime=runtime)
        self._places: tuple[Sink, ...] = (nowhere,) if fallback is None else (fallback, nowhere)
        self._fill = fill
        self._sample_rate = sample_rate
        self._on_lost = on_lost
        self._monotonic = runtime.monotonic
        # Replaced as a whole; the sinks' threads compare it with themselves, so a sink that was
        # given up and still pulls gets silence.
        self._active: Sink = sink
        self._pulled_at = runtime.monotonic()
        self._opened_at = -math.inf  # when the device last came back
        self._retry_at: float | None = None
        self._retry_delay = _FIRST_RETRY
        self._closed = False
        self._played_since = -math.inf  # when the stream in use was opened
        self._calm_since = -math.inf  # when underflows began to be counted, and from how many on
        self._calm_count = 0
        self._dry_at = -math.inf  # when an underflow was last noticed, and how many there were
        self._dry_count = 0
        self._patience = _CALM
        self._narrowed = False  # whether the latency in use is a try
        self.losses = 0

    @property
    def name(self) -> str:
        """The device or file that sounds go to now."""
        return self._active.name

    @property
    def path(self) -> Path | None:
        """The file that sounds go to now, None if it is a device."""
        return self._active.path

    @property
    def underflows(self) -> int:
        """How often sound came too late for the device."""
        return self._wanted.underflows

    @property
    def latency(self) -> float:
        """Seconds of sound the device may hold."""
        return self._active.latency

    @property
    def due_at(self) -> float | None:
        """The instant at which `tend` has something to do, None if it never has."""
        if self._retry_at is not None:
            return self._retry_at
        return self._pulled_at + _STALL if self._is_device else None

    @property
    def _is_device(self) -> bool:
        return self._wanted.path is None

    def open(self) -> None:
        """Open the wanted sink, or the next best."""
        self._closed = False
        try:
            self._open(self._wanted)
        except SinkError as error:
            self._fall_back(str(error))

    def use(self, sink: Sink) -> None:
        """Play on `sink` from now on; the sound that is heard goes on there."""
        if self._closed:
            return
        before, self._wanted = self._active, sink
        self._retry_at, self._retry_delay = None, _FIRST_RETRY
        self._patience, self._narrowed = _CALM, False
        before.close()
        self.open()

    def lose(self, sink: Sink, why: str) -> None:
        """Go on elsewhere, unless `sink` is not the one that plays."""
        if sink is self._active and not self._closed:
            self.losses += 1
            sink.close()
            self._note_how_long_it_played()
            self._fall_back(f"{sink.name} went away: {why}", lost=sink)

    def _note_how_long_it_played(self) -> None:
        # A device that opens and is lost at once, again and again, must not be heard in stutters.
        if self._monotonic() - self._opened_at >= _SETTLED:
            self._retry_delay = _FIRST_RETRY
        else:
            self._retry_delay = min(2 * self._retry_delay, _SLOWEST_RETRY)

    def tend(self) -> bool:
        """Do what is due now; True if the sounds go elsewhere than before."""
        if self._retry_at is not None:
            return self._try_again()
        if self._is_device and self._monotonic() - self._pulled_at >= _STALL:
            self.lose(self._active, f"it took no sound for {_STALL:g} s")
            return True
        return False

    def steady(self, *, quiet: bool) -> None:
        """Give a device that ran dry again and again more sound to hold, at the price of delay.

        Take it back, step by step, when the device has not run dry for long. That opens the stream
        again, so only while it is `quiet`: nothing is heard and nothing waits.
        """
        now, count = self._monotonic(), self.underflows
        if count != self._dry_count:
            self._dry_at, self._dry_count = now, count
        # While a stream begins, sound servers run dry as a rule, and opening it again begins anew.
        settling = now - self._played_since < _SETTLED
        if settling or now - self._calm_since >= _WINDOW or count < self._calm_count:
            self._calm_since, self._calm_count = now, count
        missed = count - self._calm_count
        if self._active is not self._wanted or self._closed:
            return
        if missed >= _TOO_MANY:
            self._calm_since, self._calm_count = now, count
            self._widen(missed)
        elif quiet and now - max(self._dry_at, self._played_since) >= self._patience:
            self._narrow()

    def _widen(self, missed: int) -> None:
        if not self._wanted.widen():
            return
        if self._narrowed:
            self._narrowed = False
            self._patience = min(2 * self._patience, _LONGEST_CALM)
        logger.warning(
            "%s ran dry %d times: it holds %.0f ms of sound from now on",
            self.name,
            missed,
            1000 * self._wanted.latency,
        )
        self._wanted.close()
        self.open()

    def _narrow(self) -> None:
        if not self._wanted.narrow():
            return
        self._narrowed = True
        logger.info(
            "%s has not run dry for %.0f minutes: it holds %.0f ms of sound from now on",
            self.name,
            self._patience / 60,
            1000 * self._wanted.latency,
        )
        self._wanted.close()
        self.open()

    def close(self) -> None:
        """Close what is open."""
        self._closed = True
        self._retry_at = None
        self._active.close()

    def _open(self, sink: Sink) -> None:
        self._pulled_at = self._played_since = self._monotonic()
        sink.open(
            functools.partial(self._fill_for, sink),
            self._sample_rate,
            functools.partial(self._on_lost, sink),
        )
        self._active = sink

    def _fall_back(self, why: str, *, lost: Sink | None = None) -> None:
        for place in self._places:
            if place is lost:
                continue  # a full disk lets the file be opened again, and refuses the next block
            try:
                self._open(place)
            except SinkError as error:
                why = f"{why}; {error}"
            else:
                break
        logger.warning("%s; playing into %s", why, self.name)
        if self._is_device:
            self._retry_at = self._monotonic() + self._retry_delay

    def _try_again(self) -> bool:
        substitute = self._active
        try:
            self._open(self._wanted)
        except SinkError:
            self._retry_delay = min(2 * self._retry_delay, _SLOWEST_RETRY)
            self._retry_at = self._monotonic() + self._retry_delay
            return False
        self._retry_at = None
        self._opened_at = self._monotonic()
        substitute.close()
        logger.info("playing on %s again", self.name)
        return True

    def _fill_for(self, sink: Sink, out: Samples, heard_at: float) -> None:
        if sink is self._active:
            self._pulled_at = self._monotonic()
            self._fill(out, heard_at)
        else:
            out[:] = 0
