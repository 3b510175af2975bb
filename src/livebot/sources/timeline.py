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
    """A recording, played once or over and over, then ended.

    Args:
        events: (seconds since the start, event), in any order.
        rounds: How often it is played, None for ever; each round has its own message and combo
            ids. After the last round the broadcast ends, wherever the recording says it does.

    Raises:
        ValueError: There are no events, or no rounds.
    """

    def __init__(self, events: Iterable[tuple[float, Event]], *, rounds: int | None = 1) -> None:
        if rounds is not None and rounds < 1:
            raise ValueError(f"rounds must be 1 or more, or None, not {rounds}")
        played = sorted((item for item in events if not _ends(item[1])), key=lambda item: item[0])
        if not played:
            raise ValueError("events must hold at least one event")
        self._times = [t for t, _ in played]
        self._events = [event for _, event in played]
        self._round = self._times[-1] + 1.0  # seconds
        self._length = float("inf") if rounds is None else rounds * len(self._events)

    def due(self, t: float) -> int:
        rounds, rest = divmod(t, self._round)
        due = int(rounds) * len(self._times) + bisect.bisect_right(self._times, rest)
        if due < self._length:
            return due
        ending = self.at(int(self._length)) <= t
        return int(self._length) + ending

    def at(self, index: int) -> float:
        if index > self._length:
            return float("inf")
        if index == self._length:
            index -= 1
        rounds, place = divmod(index, len(self._times))
        return rounds * self._round + self._times[place]

    def event(self, index: int) -> Event:
        if index == self._length:
            return Control(id=str(_END_ID), action=ENDED, ended=True)
        rounds, place = divmod(index, len(self._events))
        event = self._events[place]
        return _again(event, rounds * _NEXT_ROUND) if rounds else event


def _ends(event: Event) -> bool:
    return isinstance(event, Control) and event.ended


def _again(event: Event, offset: int) -> Event:
    event = dataclasses.replace(event, id=str(int(event.id) + offset))
    if isinstance(event, Gift) and event.group_id != "0":
        event = dataclasses.replace(event, group_id=str(int(event.group_id) + offset))
    return event
