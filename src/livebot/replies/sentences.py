"""Cuts a stream of text into sentences: the first is spoken while the rest is being written."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["SentenceCutter"]

# A full stop ends a sentence only before a space: not in 3.5, not in a name like v1.2.
_END = re.compile(r"[。！？!?；;\n]+[”’」』）)\"']*|\.(?=\s)")
_PAUSE = re.compile(r"[，,、：:]|\s")


class SentenceCutter:
    """Takes text in pieces of any size, gives whole sentences.

    >>> cutter = SentenceCutter()
    >>> pieces = ["你好", "！今天", "唱什么？我想"]
    >>> [sentence for piece in pieces for sentence in cutter.feed(piece)]
    ['你好！', '今天唱什么？']
    >>> cutter.rest()
    '我想'

    Thread safety: none; one writer.

    Args:
        longest: Characters after which a sentence without an end is cut, at a pause if it has one.
    """

    def __init__(self, longest: int = 60) -> None:
        if longest < 1:
            raise ValueError(f"longest must be 1 character or more, not {longest!r}")
        self._longest = longest
        self._text = ""

    def feed(self, piece: str) -> Iterator[str]:
        """The sentences that `piece` completes."""
        self._text += piece
        while (at := self._cut_at()) is not None:
            sentence, self._text = self._text[:at].strip(), self._text[at:]
            if sentence:
                yield sentence

    def rest(self) -> str:
        """What is left when the stream has ended."""
        rest, self._text = self._text.strip(), ""
        return rest

    def _cut_at(self) -> int | None:
        end = _END.search(self._text)
        if end and end.end() <= self._longest:
            return end.end()
        if len(self._text) <= self._longest:
            return None
        pauses = [pause.end() for pause in _PAUSE.finditer(self._text, 0, self._longest)]
        return pauses[-1] if pauses else self._longest
