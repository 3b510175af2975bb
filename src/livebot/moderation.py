"""What of a room's events is worth saying: filters, cool-downs, ranks.

Events in, verdicts out. An event that is not to be spoken is dropped with a reason, or folded into
another; nothing leaves without being counted.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from livebot.messages import Chat, Emoji, Event, Fansclub, Gift, Like, Member, RecentIds, Social
from threadkit import REAL, Runtime

__all__ = ["ModerationStatistics", "Moderator", "Outcome", "Verdict"]


class Outcome(str, enum.Enum):
    """What becomes of an event."""

    SPEAK = "speak"
    DROP = "drop"
    """Not to be spoken; the reason says why."""
    FOLD = "fold"
    """Part of another event that is spoken for it, such as a gift combo."""
    SKIP = "skip"
    """Of a kind nobody speaks: statistics, notices, control."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one event."""

    event: Event
    outcome: Outcome
    reason: str = ""
    """Why it is not spoken: a short name, for counting."""
    priority: int = 3
    """0 is spoken first, 3 last."""
    value: float = 0.0
    """Worth within the priority: diamonds for gifts."""
    text: str = ""
    """What a viewer wrote, cleaned for speech and for a model."""


@dataclass(frozen=True, slots=True)
class ModerationStatistics:
    """What became of every event considered; `considered` is the sum of the others."""

    considered: int
    spoken: int
    skipped: int
    folded: int
    dropped: Mapping[str, int]
    """By reason."""


_STICKER = re.compile(r"\[[^\[\]]{1,12}\]")
_QUESTION = re.compile(r"[??]|吗|呢|什么|怎么|为什么|几点|多少|谁|哪")


class Moderator:
    """Judges events.

    Thread safety: any thread may call `consider`.

    Lifetime: nothing to close.

    Args:
        cool_down: Seconds after a viewer's spoken chat in which others of theirs are dropped.
        repeat_window: Seconds in which the same text is spoken once only.
        text_limit: Characters of a text that are kept.

    Raises:
        ValueError: A number makes no sense.
    """

    def __init__(
        self,
        *,
        cool_down: float = 5.0,
        repeat_window: float = 10.0,
        text_limit: int = 100,
        runtime: Runtime = REAL,
    ) -> None:
        if cool_down < 0 or repeat_window < 0:
            raise ValueError("cool_down and repeat_window must be 0 seconds or more")
        if text_limit < 1:
            raise ValueError(f"text_limit must be 1 character or more, not {text_limit}")
        self._cool_down = cool_down
        self._repeat_window = repeat_window
        self._text_limit = text_limit
        self._monotonic = runtime.monotonic
        # Guards every field below; held for one verdict, which calls nobody.
        self._lock = runtime.lock()
        self._seen = RecentIds()
        self._spoke_at: OrderedDict[str, float] = OrderedDict()
        self._texts: OrderedDict[str, float] = OrderedDict()
        self._considered = 0
        self._outcomes: Counter[Outcome] = Counter()
        self._dropped: Counter[str] = Counter()
        self._combos: OrderedDict[tuple[str, str, str], None] = OrderedDict()

    def consider(self, event: Event) -> Verdict:
        """What becomes of `event`."""
        with self._lock:
            verdict = self._judge(event)
            self._considered += 1
            self._outcomes[verdict.outcome] += 1
            if verdict.outcome is Outcome.DROP:
                self._dropped[verdict.reason] += 1
        return verdict

    def statistics(self) -> ModerationStatistics:
        """The counts so far."""
        with self._lock:
            return ModerationStatistics(
                considered=self._considered,
                spoken=self._outcomes[Outcome.SPEAK],
                skipped=self._outcomes[Outcome.SKIP],
                folded=self._outcomes[Outcome.FOLD],
                dropped=dict(self._dropped),
            )

    # -- under the lock --------------------------------------------------------------------------

    def _judge(self, event: Event) -> Verdict:
        if not event.speakable:
            return Verdict(event, Outcome.SKIP)
        if not self._seen.add(event.id):
            return _drop(event, "duplicate")
        if isinstance(event, Gift):
            return self._judge_gift(event)
        if isinstance(event, (Chat, Emoji)):
            return self._judge_chat(event)
        return Verdict(event, Outcome.SPEAK, priority=_RANKS.get(event.kind, 3))

    def _judge_gift(self, gift: Gift) -> Verdict:
        key = (gift.user.id if gift.user else "", gift.gift_id, gift.group_id)
        if gift.group_id != "0" and key in self._combos:
            return Verdict(gift, Outcome.FOLD, reason="combo")
        _remember(self._combos, key, None)
        value = gift.diamond_count * max(1, gift.repeat_count)
        return Verdict(gift, Outcome.SPEAK, priority=0 if value >= _BIG_GIFT else 1, value=value)

    def _judge_chat(self, event: Chat | Emoji) -> Verdict:
        now = self._monotonic()
        text = clean(event.text)[: self._text_limit]
        user = event.user.id if event.user else ""
        if not text:
            return _drop(event, "empty")
        if now < self._spoke_at.get(user, float("-inf")) + self._cool_down:
            return _drop(event, "cool_down")
        if now < self._texts.get(text, float("-inf")) + self._repeat_window:
            return _drop(event, "repeat")
        _remember(self._spoke_at, user, now)
        _remember(self._texts, text, now)
        priority = 1 if _QUESTION.search(text) else 2
        return Verdict(event, Outcome.SPEAK, priority=priority, text=text)


_BIG_GIFT = 10  # diamonds, about one yuan
_RANKS = {Fansclub.kind: 1, Social.kind: 2, Member.kind: 3, Like.kind: 3}
_KEPT = 4096  # users, texts or combos remembered of each


def clean(text: str) -> str:
    """`text` without stickers and odd spaces, in the common form of its characters (NFKC).

    >>> clean("[大笑][大笑] 你好  ABC")
    '你好 ABC'
    """
    folded = unicodedata.normalize("NFKC", text)
    return " ".join(_STICKER.sub(" ", folded).split())


def _drop(event: Event, reason: str) -> Verdict:
    return Verdict(event, Outcome.DROP, reason=reason)


def _remember(kept: OrderedDict[Any, Any], key: object, value: object) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > _KEPT:
        kept.popitem(last=False)
