"""Texts that were spoken a moment ago."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

__all__ = ["RecentTexts"]

_KEPT = 1024  # texts compared exactly
_COMPARED = 32  # latest texts compared for likeness: the cost of one question is bounded
_ALIKE = 0.8  # share of common letter pairs from which two texts count as the same
_LONG = 8  # letters from which a text is compared for likeness; one letter of a short one is much


class RecentTexts:
    """Tells whether a text, or one nearly like it, was spoken within some seconds.

    Likeness is the Jaccard index of the texts' pairs of neighbouring letters; texts with different
    numbers are never alike.

    Thread safety: none of its own; its owner holds a lock.
    """

    def __init__(self) -> None:
        self._spoken_at: OrderedDict[str, float] = OrderedDict()
        self._latest: deque[tuple[float, _Print]] = deque(maxlen=_COMPARED)

    def knows(self, key: str, since: float) -> bool:
        """Whether the like of a text was spoken after the instant `since`, by its `repeat_key`."""
        if self._spoken_at.get(key, float("-inf")) > since:
            return True
        if len(key) < _LONG:
            return False
        print_ = _Print.of(key)
        return any(at > since and print_.is_like(other) for at, other in self._latest)

    def add(self, key: str, now: float) -> None:
        """A text is spoken, by its `repeat_key`."""
        self._spoken_at[key] = now
        self._spoken_at.move_to_end(key)
        if len(self._spoken_at) > _KEPT:
            self._spoken_at.popitem(last=False)
        if len(key) >= _LONG:
            self._latest.append((now, _Print.of(key)))


class _Print(NamedTuple):
    """What of a text is compared."""

    pairs: frozenset[str]
    digits: str

    @classmethod
    def of(cls, key: str) -> _Print:
        pairs = frozenset(key[i : i + 2] for i in range(len(key) - 1))
        return cls(pairs, "".join(filter(str.isdigit, key)))

    def is_like(self, other: _Print) -> bool:
        sizes = len(self.pairs), len(other.pairs)
        if self.digits != other.digits or min(sizes) < _ALIKE * max(sizes):
            return False
        common = len(self.pairs & other.pairs)
        return common >= _ALIKE * (sum(sizes) - common)
