"""What moderation goes by."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from livebot.messages import User
from livebot.moderation.text import squeezed

__all__ = ["Filter", "Rules"]


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of a `Moderator`.

    Args:
        blocked_words: A text that holds one is dropped, however it is spaced, cased, widened,
            accented or split by stickers; a name that holds one is not said.
        blocked_patterns: Regular expressions, searched in the cleaned text and name.
        blocked_users: Ids or exact names of viewers who are ignored.
        called: Names the streamer and the bot answer to; a text that holds one ranks higher.
        cool_down: Seconds after a viewer was answered in which their next event of that kind is
            dropped. Gifts of `big_gift` or more are always answered.
        repeat_window: Seconds in which the same text, or nearly the same, is spoken once.
        combo_idle: Seconds without another gift after which a combo counts as finished.
        big_gift: Diamonds from which a gift comes first.
        text_limit: Characters of a text that are kept.
        name_limit: Characters of a name that are kept.

    Raises:
        ValueError: A number is out of range, a word has no letter, a pattern does not compile.
    """

    blocked_words: tuple[str, ...] = ()
    blocked_patterns: tuple[str, ...] = ()
    blocked_users: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    cool_down: float = 5.0
    repeat_window: float = 10.0
    combo_idle: float = 3.0
    big_gift: int = 10
    text_limit: int = 60
    name_limit: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (int, float)):
                least = 0 if field.name in ("cool_down", "repeat_window", "combo_idle") else 1
                if value < least:
                    raise ValueError(f"{field.name} must be {least} or more, not {value}")
        for name, words in (("blocked_words", self.blocked_words), ("called", self.called)):
            for word in words:
                if not squeezed(word):
                    raise ValueError(f"{name}: each needs a letter or digit, not {word!r}")
        for pattern in self.blocked_patterns:
            try:
                re.compile(pattern)
            except re.error as exc:
                raise ValueError(f"blocked_patterns: {pattern!r} does not compile: {exc}") from None


class Filter:
    """`Rules` made ready to be applied. Immutable."""

    def __init__(self, rules: Rules) -> None:
        self._words = tuple(squeezed(word) for word in rules.blocked_words)
        self._patterns = tuple(re.compile(pattern) for pattern in rules.blocked_patterns)
        self._users = frozenset(rules.blocked_users)
        self._called = tuple(squeezed(name) for name in rules.called)

    def objection(self, raw: str, cleaned: str) -> str:
        """Why a text is not to be said, empty when it may."""
        if self._words:
            # As it was written, and as it would be said: stickers between letters are left out.
            letters = squeezed(raw), squeezed(cleaned)
            if any(word in each for each in letters for word in self._words):
                return "blocked_word"
        if any(pattern.search(cleaned) for pattern in self._patterns):
            return "blocked_pattern"
        return ""

    def blocks(self, user: User | None) -> bool:
        """Whether this viewer is ignored."""
        return user is not None and not self._users.isdisjoint((user.id, user.name))

    def calls(self, cleaned: str) -> bool:
        """Whether a text speaks to the streamer or the bot."""
        letters = squeezed(cleaned) if self._called else ""
        return any(name in letters for name in self._called)
