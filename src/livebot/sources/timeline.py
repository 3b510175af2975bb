"""What the simulated room says, and when."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from livebot.messages import Control, Event, Gift
from livebot.sources.decoding import ENDED

__all__ = ["Played", "Timeline"]

_NEXT_ROUND = 1_000_000_000  # added to message and combo ids each time a looped room begins again
_END_ID = 7_900_000_000_000_000_000


@runtime_checkable
class Timeline(Protocol):
    """Events by number, in order of their time; a number is the same event for ever."""

    def due(self, t: float) -> int:
        """How many events have happened by second `t`."""
        ...

    def at(self, index: int) -> float:
        """The second event `index` happens at, infinity past the end."""
        ...

    def event(self, index: int) -> Event:
        """Event number `index`."""
        ...


class Played:
    """A recording, played once and ended, or over and over.

    Args:
        events: (seconds since the start, event), in any order.
        loop: Whether to begin again; each round has its own message and combo ids.

    Raises:
        ValueError: There are no events.
    """

    def __init__(self, events: Iterable[tuple[float, Event]], *, loop: bool = False) -> None:
        played = sorted(events, key=lambda item: item[0])
        if not played:
            raise ValueError("events must hold at least one event")
        self._times = [t for t, _ in played]
        self._events = [event for _, event in played]
        self._loop = loop
        if not loop and not any(isinstance(e, Control) and e.ended for e in self._events):
            self._times.append(self._times[-1])
            self._events.append(Control(id=str(_END_ID), action=ENDED, ended=True))
        self._round = self._times[-1] + 1.0  # seconds

    def due(self, t: float) -> int:
        if not self._loop:
            return bisect.bisect_right(self._times, t)
        rounds, rest = divmod(t, self._round)
        return int(rounds) * len(self._times) + bisect.bisect_right(self._times, rest)

    def at(self, index: int) -> float:
        rounds, place = divmod(index, len(self._times))
        if rounds and not self._loop:
            return float("inf")
        return rounds * self._round + self._times[place]

    def event(self, index: int) -> Event:
        rounds, place = divmod(index, len(self._events))
        event = self._events[place]
        return _again(event, rounds * _NEXT_ROUND) if rounds else event


def _again(event: Event, offset: int) -> Event:
    event = dataclasses.replace(event, id=str(int(event.id) + offset))
    if isinstance(event, Gift) and event.group_id != "0":
        event = dataclasses.replace(event, group_id=str(int(event.group_id) + offset))
    return event
