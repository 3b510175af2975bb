"""A made-up room with any rate of events, for floods."""

from __future__ import annotations

from livebot.messages import Chat, Control, Event, Gift, Like, Member, Social, Stats, User
from livebot.sources.decoding import ENDED

__all__ = ["Crowd"]

_FIRST_ID = 8_000_000_000_000_000_000
_BLOCK = 16  # events that share one combo: four of them are its messages
_COMBO = (1, 2, 3, 3)  # its counters; the last closes it
_TREASURE_EVERY = 64  # blocks; one of them holds a gift worth an answer in any flood
_PRICES = (1, 1, 1, 1, 1, 2, 9, 30)  # diamonds; most gifts of real rooms cost one
_TREASURE = 1000  # diamonds
_GIFTS = ("小心心", "粉丝团灯牌", "玫瑰", "人气票", "大啤酒", "为你打call", "棒棒糖", "鼓力全开")
_MIX = ("chat",) * 11 + ("like",) * 4 + ("member",) * 3 + ("follow", "stats")  # of what is no gift
_TEXTS = ("主播好", "几点下播", "加油", "哈哈哈哈", "[大笑][大笑]", "这歌叫什么", "第一", "来了")
_MASK = 2**64 - 1


class Crowd:
    """A `Timeline` of seeded events at a steady rate.

    A quarter of the events are gifts, in combos of three (four messages, the last of which closes
    the combo); one combo in sixty-four is worth 3,000 diamonds. The rest is chat, likes, entries,
    follows and viewer counts. Event number n is the same for the same seed, whoever asks.

    Args:
        rate: Events a second of the room.
        seconds: After which the broadcast ends, None for never.
        seed: Of everything.
        viewers: How many different people there are.

    Raises:
        ValueError: `rate`, `seconds` or `viewers` is not above 0.
    """

    def __init__(
        self, rate: float, *, seconds: float | None = None, seed: int = 0, viewers: int = 3000
    ) -> None:
        if not rate > 0 or (seconds is not None and not seconds > 0) or viewers < 1:
            raise ValueError("rate, seconds and viewers must be above 0")
        self._rate = rate
        self._seed = seed
        self._viewers = viewers
        self._length = None if seconds is None else int(rate * seconds)

    def due(self, t: float) -> int:
        due = int(t * self._rate) + 1
        return due if self._length is None else min(due, self._length + 1)

    def at(self, index: int) -> float:
        if self._length is not None and index > self._length:
            return float("inf")
        return index / self._rate

    def event(self, index: int) -> Event:
        number = str(_FIRST_ID + index)
        if index == self._length:
            return Control(id=number, action=ENDED, ended=True)
        block, place = divmod(index, _BLOCK)
        if place % 4 == 0:
            return self._gift(number, block, place // 4)
        draw = self._draw(index)
        user = self._user(draw)
        match _MIX[(draw >> 32) % len(_MIX)]:
            case "chat":
                return Chat(id=number, user=user, text=f"{_TEXTS[draw % len(_TEXTS)]}{index}")
            case "like":
                return Like(id=number, user=user, count=1 + draw % 30, total=index)
            case "member":
                return Member(id=number, user=user, viewers=self._viewers)
            case "follow":
                return Social(id=number, user=user, action="follow")
            case _:
                return Stats(id=number, viewers=self._viewers)

    def _gift(self, number: str, block: int, step: int) -> Gift:
        draw = self._draw(~block)
        treasure = block % _TREASURE_EVERY == 0
        kind = draw % len(_GIFTS)
        return Gift(
            id=number,
            user=self._user(draw >> 16),
            gift_id="1000" if treasure else str(kind + 1),
            name="嘉年华" if treasure else _GIFTS[kind],
            diamond_count=_TREASURE if treasure else _PRICES[kind],
            repeat_count=_COMBO[step],
            combo_count=_COMBO[step],
            group_id=str(_FIRST_ID + block),
            repeat_end=step == len(_COMBO) - 1,
            send_type=4,
        )

    def _user(self, draw: int) -> User:
        number = draw % self._viewers + 1
        return User(id=str(number), name=f"观众{number}", level=number % 50, fan_level=number % 21)

    def _draw(self, index: int) -> int:
        """64 bits that look random and follow from seed and index (the mixer of SplitMix64)."""
        z = (index + self._seed) * 0x9E3779B97F4A7C15 & _MASK
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
        return z ^ z >> 31
