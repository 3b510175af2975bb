"""What is heard, sample by sample: sinks pull here, the controls change what they get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from livebot.playback.order import PlayOrder
from livebot.playback.sinks import Samples
from threadkit import Runtime

__all__ = ["Programme", "Sounding"]

Report = Callable[["Sounding", Any], None]

_FADE = 0.005  # seconds; a sound that stops at once clicks


@dataclass(slots=True)
class Sounding:
    """One sound in the player's hands, and what is known of its way."""

    seq: int
    samples: Samples
    text: str
    priority: int
    event_at: float | None
    arrived_at: float
    tag: object
    position: int = 0
    first_sound_at: float | None = None
    rewinds_left: int = 2  # when the device goes, and when it is back


class Programme:
    """The order of sounds, the one that is heard, and its volume.

    Thread safety: every method may be called from any thread. `fill` is called by the sink's
    thread, which must never wait long: the lock is held for a copy of one block at most.

    Args:
        sample_rate: Samples a second of everything in it.
        first_seq: The first sequence number.
        report: Called with a sound and "speaking", "spoken" or how it was cut; outside the lock,
            and from the sink's thread, so it must only hand the news on.
        rest: Seconds of silence after each sound that was heard to its end.
        runtime: The lock.
    """

    def __init__(
        self,
        sample_rate: int,
        first_seq: int,
        report: Report,
        *,
        rest: float = 0.0,
        runtime: Runtime,
    ) -> None:
        self._sample_rate = sample_rate
        self._rest = round(rest * sample_rate)  # samples
        self._report = report
        # Guards all below; held for bookkeeping and the copy of one block, never across `report`.
        self._lock = runtime.lock()
        self._order = PlayOrder[Sounding](first_seq)
        self._current: Sounding | None = None
        self._fading = np.empty(0, np.int16)  # the end of what was cut
        self._chime = np.empty(0, np.int16)  # what is mixed in and not yet heard
        self._resting = 0  # samples of silence still owed before the next sound
        self._closed = False
        self._paused = False
        self._volume = 1.0
        self._muted = False
        self._gain = 1.0  # what the last block ended with; follows volume and mute without a click
        self.samples_spoken = 0

    # -- the sink's side --------------------------------------------------------------------

    def fill(self, out: Samples, heard_at: float) -> None:
        """Fill `out` with what is to be heard at `heard_at`, and with silence after that."""
        news: list[tuple[Sounding, str]] = []
        with self._lock:
            filled = self._fade_locked(out)
            while not self._paused and filled < len(out):
                if self._resting:
                    filled += self._rest_locked(out, filled)
                elif self._advance_locked():
                    filled += self._copy_locked(out, filled, heard_at, news)
                else:
                    break
            gain, self._gain = self._gain, 0.0 if self._muted else self._volume
            wanted = self._gain
            chime, self._chime = self._chime[: len(out)], self._chime[len(out) :]
        out[filled:] = 0
        _mix(out, chime)
        _amplify(out, gain, wanted)
        for sounding, what in news:
            self._report(sounding, what)

    def _fade_locked(self, out: Samples) -> int:
        count = min(len(out), len(self._fading))
        out[:count] = self._fading[:count]
        self._fading = self._fading[count:]
        return count

    def _rest_locked(self, out: Samples, at: int) -> int:
        count = min(len(out) - at, self._resting)
        out[at : at + count] = 0
        self._resting -= count
        return count

    def _advance_locked(self) -> bool:
        if self._current is None:
            self._current = self._order.pop()
        return self._current is not None

    def _copy_locked(self, out: Samples, at: int, heard_at: float, news: list[Any]) -> int:
        sounding = self._current
        assert sounding is not None  # noqa: S101 - _advance_locked said so
        if sounding.first_sound_at is None:
            sounding.first_sound_at = heard_at + at / self._sample_rate
            news.append((sounding, "speaking"))
        count = min(len(out) - at, len(sounding.samples) - sounding.position)
        out[at : at + count] = sounding.samples[sounding.position : sounding.position + count]
        sounding.position += count
        self.samples_spoken += count
        if sounding.position == len(sounding.samples):
            self._current = None
            self._resting = self._rest
            news.append((sounding, "spoken"))
        return count

    # -- the player's side ------------------------------------------------------------------

    def put(self, seq: int, sounding: Sounding | None, priority: int, *, cut: bool) -> bool:
        """Take in a sound or the news that there is none; False if its turn is over."""
        victim = None
        with self._lock:
            taken = not self._closed and self._order.put(seq, sounding, priority=priority)
            current, waiting = self._current, self._order.peek_priority()
            if cut and current and waiting is not None and waiting < current.priority:
                victim = self._cut_locked()
        if victim:
            self._report(victim, "interrupted")
        return taken

    def chime(self, samples: Samples) -> None:
        """Mix this into what comes next."""
        with self._lock:
            self._chime = samples

    def skip(self) -> bool:
        """End the sound that is heard; False if there is none."""
        with self._lock:
            victim = self._cut_locked()
        if victim:
            self._report(victim, "skipped")
        return victim is not None

    def clear(self) -> int:
        """Throw away what waits; how many that were."""
        with self._lock:
            victims = self._order.clear()
        for victim in victims:
            self._report(victim, "cleared")
        return len(victims)

    def silence(self, how: Literal["interrupted", "stopped"] = "interrupted") -> int:
        """End the sound that is heard and throw away what waits; how many that were.

        In one step, or the sink could begin the next sound between the two.
        """
        with self._lock:
            current = self._cut_locked()
            victims = [current] if current else []
            victims += self._order.clear()
        for victim in victims:
            self._report(victim, how)
        return len(victims)

    def close(self) -> None:
        """End everything, and take in nothing more."""
        with self._lock:
            self._closed = True
        self.silence("stopped")

    def pause(self, paused: bool) -> None:
        """Stop in the middle of a sound, or go on there."""
        with self._lock:
            if paused and not self._paused and self._current:
                self._fading = self._faded_locked(self._current)
            self._paused = paused

    def rewind(self) -> None:
        """Begin the sound that is heard again: those who heard its beginning have gone."""
        with self._lock:
            current = self._current
            # A device that comes and goes must not hold up the sequence for ever.
            if current and current.rewinds_left:
                current.position = 0
                current.rewinds_left -= 1

    def set_gain(self, *, volume: float | None = None, muted: bool | None = None) -> None:
        with self._lock:
            self._volume = self._volume if volume is None else volume
            self._muted = self._muted if muted is None else muted

    def skip_gap(self) -> int:
        """Stop waiting for sequence numbers that do not come; how many were given up."""
        with self._lock:
            return self._order.skip_gap()

    @property
    def gap(self) -> int | None:
        """The sequence number that holds others up."""
        with self._lock:
            return self._order.gap

    @property
    def waiting(self) -> int:
        """How many sounds wait, without the one that is heard."""
        with self._lock:
            return len(self._order)

    @property
    def speaking(self) -> str | None:
        """The text of the sound that is heard."""
        with self._lock:
            return self._current.text if self._current else None

    @property
    def controls(self) -> tuple[bool, bool, float]:
        """Paused, muted, volume."""
        with self._lock:
            return self._paused, self._muted, self._volume

    def _cut_locked(self) -> Sounding | None:
        current, self._current = self._current, None
        if current and not self._paused:
            self._fading = self._faded_locked(current)
        return current

    def _faded_locked(self, sounding: Sounding) -> Samples:
        count = round(_FADE * self._sample_rate)
        tail = sounding.samples[sounding.position : sounding.position + count]
        return (tail * np.linspace(1, 0, len(tail))).astype(np.int16)


def _mix(out: Samples, other: Samples) -> None:
    """Add `other` to the beginning of `out`, in place; what gets too loud is cut."""
    if len(other):
        loud = out[: len(other)].astype(np.int32) + other
        np.minimum(loud, 32767, out=loud)
        out[: len(other)] = np.maximum(loud, -32768, out=loud)


def _amplify(out: Samples, before: float, after: float) -> None:
    """Scale `out` in place, sliding from one gain to the other."""
    if before == after == 1.0:
        return
    gain = after if before == after else np.linspace(before, after, len(out))
    np.multiply(out, gain, out=out, casting="unsafe")
