"""Gift combos: many messages with cumulative counters, one sentence.

While a viewer keeps pressing, the platform sends messages about one combo whose counter grows and
skips numbers; at the end it repeats the total under a new message id, or, for big gifts, sends
nothing more. The rule (as public recorders apply it): what a message adds is its counter less the
highest counter seen of that combo; nothing or less than nothing is a repeat or came out of order.

Pure bookkeeping: it is handed the time, starts no thread and calls nobody.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from livebot.messages import Gift

__all__ = ["Announcement", "GiftCombos", "Step"]

_FORGOTTEN_AFTER = 60.0  # seconds; a combo's id is never used again, so longer only costs memory
_KEPT = 4096  # combos remembered, and combos held, at most

_Key = tuple[str, str, str]  # user, gift, group


@dataclass(frozen=True, slots=True)
class Announcement:
    """A combo that can be spoken of now."""

    gift: Gift
    """The message with the highest counter."""
    count: int
    """How many gifts to speak of: those not announced before."""
    tag: object
    """What came with the message that was held."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one gift message means."""

    count: int = 0
    """Gifts to speak of at once, for this message."""
    held: bool = False
    """Whether this message waits for the rest of its combo."""
    reason: str = ""
    """Why there is nothing to do for this message itself: it is part of another."""
    announced: tuple[Announcement, ...] = ()
    """Combos this message finished."""


@dataclass(slots=True)
class _Combo:
    latest: Gift
    total: int
    announced: int
    seen_at: float
    tag: object = None


class GiftCombos:
    """The combos of one room.

    Thread safety: none of its own; its owner holds a lock.

    Args:
        idle: Seconds without another message after which a combo counts as finished.
    """

    def __init__(self, idle: float = 3.0) -> None:
        self.idle = idle
        # A combo is in one of the two, each in order of its last message.
        self._held: OrderedDict[_Key, _Combo] = OrderedDict()
        self._told: OrderedDict[_Key, _Combo] = OrderedDict()

    def add(self, gift: Gift, now: float, tag: object = None) -> Step:
        """Take one message."""
        if gift.increment is None and gift.group_id == "0":
            return Step(count=max(1, gift.repeat_count))  # nothing tells its messages apart
        key = (gift.user.identity if gift.user else "", gift.gift_id, gift.group_id)
        self._forget(now)
        combo = self._held.get(key) or self._told.get(key)
        if combo is None:
            return self._begin(key, gift, now, tag)
        return self._go_on(key, combo, gift, now, tag)

    @property
    def held(self) -> int:
        """How many combos wait to be spoken of."""
        return len(self._held)

    @property
    def next_due_at(self) -> float | None:
        """When the next held combo will have been idle for long enough, None when none is held."""
        oldest = next(iter(self._held.values()), None)
        return None if oldest is None else oldest.seen_at + self.idle

    def due(self, now: float) -> list[Announcement]:
        """The held combos that have been idle for long enough; they are held no more."""
        due: list[Announcement] = []
        while (at := self.next_due_at) is not None and at <= now:
            due.append(self._tell(next(iter(self._held))))
        return due

    def _begin(self, key: _Key, gift: Gift, now: float, tag: object) -> Step:
        total = _counter(gift, 0)
        if total <= 0:
            return Step(reason="combo_repeat")
        combo = _Combo(gift, total, 0, now, tag)
        if gift.repeat_end:  # its other messages were never seen
            combo.announced = total
            self._told[key] = combo
            return Step(count=total)
        self._held[key] = combo
        early = (self._tell(next(iter(self._held))),) if len(self._held) > _KEPT else ()
        return Step(held=True, announced=early)

    def _go_on(self, key: _Key, combo: _Combo, gift: Gift, now: float, tag: object) -> Step:
        total = _counter(gift, combo.total)
        grown = total > combo.total
        combo.seen_at = now
        if grown:
            combo.total, combo.latest = total, gift
        if key in self._held:
            self._held.move_to_end(key)
            if gift.repeat_end:
                return Step(reason="combo_end", announced=(self._tell(key),))
            return Step(reason="combo" if grown else "combo_repeat")
        self._told.move_to_end(key)
        if not grown:
            return Step(reason="combo_end" if gift.repeat_end else "combo_repeat")
        if gift.repeat_end:
            count, combo.announced = total - combo.announced, total
            return Step(count=count)
        combo.tag = tag
        self._held[key] = self._told.pop(key)
        return Step(held=True)

    def _tell(self, key: _Key) -> Announcement:
        combo = self._held.pop(key)
        announcement = Announcement(combo.latest, combo.total - combo.announced, combo.tag)
        combo.announced, combo.tag = combo.total, None
        self._told[key] = combo
        return announcement

    def _forget(self, now: float) -> None:
        while self._told:
            key, combo = next(iter(self._told.items()))
            if len(self._told) <= _KEPT and now < combo.seen_at + _FORGOTTEN_AFTER:
                return
            del self._told[key]


def _counter(gift: Gift, before: int) -> int:
    """The combo's counter after this message; a relay that folded already sends the difference."""
    if gift.increment is not None:
        return before + max(0, gift.increment)
    return max(1, gift.repeat_count)
