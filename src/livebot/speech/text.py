"""Text as viewers type it, made fit to be read aloud; and the language to read it in.

Pure functions. What the room sends is hostile or at least playful: stickers, emoji, walls of one
character, invisible characters, phoneme brackets that make espeak speak in tongues.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

__all__ = ["Language", "language_of", "normalised"]

Language = Literal["zh", "ja", "ko", "en"]

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]")
_KANA = re.compile("[\u3041-\u30ff]")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_HANGUL = re.compile("[\uac00-\ud7af\u1100-\u11ff]")


def language_of(text: str) -> Language:
    """The language of the voice that should read `text`.

    Latin words inside Chinese stay with the Chinese voice, which reads them in English; a lone
    kana inside Chinese (海の女儿) does not make it Japanese. Bare numbers are read in Chinese.
    """
    han, kana = len(_HAN.findall(text)), len(_KANA.findall(text))
    if kana > han:
        return "ja"
    if han:
        return "zh"
    if _HANGUL.search(text):
        return "ko"
    return "en" if _LATIN.search(text) else "zh"


_LINK = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_STICKER = re.compile(r"\[[^\[\]]{1,16}\]")
_PHONEMES = re.compile(r"\[\[.*?(?:\]\]|$)")
_SPOKEN_PUNCTUATION = frozenset(",.!?;:'-、。…%+=&/~\"")
_SYMBOL_WORDS = {"℃": "度", "°": "度", "×": "乘", "÷": "除以", "￥": "元", "¥": "元"}


def normalised(text: str, *, limit: int = 200) -> str:
    """`text` without what cannot be spoken, at most `limit` characters; empty if nothing is left.

    Thread safety: a pure function.

    Args:
        text: Anything.
        limit: Characters, at least 1; a longer text is cut at the last pause that fits.

    Raises:
        ValueError: If `limit` is below 1.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit!r}")
    text = text[: limit * 20]  # nothing below is slower than linear, but a wall of text is a wall
    text = _STICKER.sub(" ", _PHONEMES.sub(" ", text))
    text = "".join(_SYMBOL_WORDS.get(character, character) for character in text)
    text = unicodedata.normalize("NFKC", text)
    # Again, because folding makes brackets out of their full-width relatives.
    text = _STICKER.sub(" ", _PHONEMES.sub(" ", text))
    text = _LINK.sub(" ", text)
    text = "".join(map(_speakable, text))
    text = _without_repeats(text)
    if language_of(text) == "zh":
        text = _as_chinese_reads(text)
    text = _cut(" ".join(text.split()), limit)
    return text if any(map(str.isalnum, text)) else ""


def _speakable(character: str) -> str:
    """The character, or a space where it is an emoji, a control, an ornament or a bracket."""
    if character.isascii():
        return character if character.isalnum() or character in _SPOKEN_PUNCTUATION else " "
    category = unicodedata.category(character)
    if category in ("Cf", "Mn", "Me"):
        return ""  # invisible joiners and piled-up accents hold words together, not apart
    if category[0] in "LM" or category in ("Nd", "Nl"):
        return character
    return character if character in _SPOKEN_PUNCTUATION else " "


_REPEATED_PUNCTUATION = re.compile(r"([,.!?;:'\-、。…~+=&/\"])(?:\s*\1)+")
_REPEATED_CHARACTER = re.compile(r"([^\W\d])\1{3,}")
_REPEATED_DIGIT = re.compile(r"(\d)\1{4,}")
_REPEATED_GROUP = re.compile(r"(\S{2,12}?)\1{3,}")


def _without_repeats(text: str) -> str:
    """Walls of one character or one word, shortened to what still sounds like one."""
    text = _REPEATED_PUNCTUATION.sub(r"\1", text)
    text = _REPEATED_CHARACTER.sub(r"\1\1\1", text)
    text = _REPEATED_DIGIT.sub(r"\1\1\1", text)
    return _REPEATED_GROUP.sub(r"\1\1", text)


_DIGITS = dict(zip("0123456789", "零一二三四五六七八九", strict=True))
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SLANG_NUMBERS = {"520", "521", "1314", "5201314", "886", "233", "996", "007", "666", "888", "999"}
_WORD = re.compile(r"[A-Za-z]+")
_VOWELS = frozenset("aeiouAEIOU")
_LONGEST_SPELT = 5
_LONGEST_NUMBER = 8


def _as_chinese_reads(text: str) -> str:
    text = text.replace("の", "的")
    text = _NUMBER.sub(lambda match: _number(match[0]), text)
    return _WORD.sub(lambda match: _latin_word(match[0]), text)


def _number(digits: str) -> str:
    """Numbers stay (the voice reads them), but slang and long ones are read digit by digit."""
    whole = digits.partition(".")[0]
    by_digit = (
        digits in _SLANG_NUMBERS
        or (len(whole) > 1 and whole[0] == "0")
        or len(whole) > _LONGEST_NUMBER
    )
    return "".join(_DIGITS.get(d, "点") for d in digits) if by_digit else digits


def _latin_word(word: str) -> str:
    """Abbreviations (PK, yyds) are spelt; other words are left to the voice."""
    capitals = word.isupper() and len(word) <= _LONGEST_SPELT
    if len(word) > 1 and (capitals or not _VOWELS.intersection(word)):
        return " ".join(word.upper()).join("  ")
    return word


_PAUSES = frozenset(",.!?;:、。… ")


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    text = text[:limit]
    last_pause = max((at for at, character in enumerate(text) if character in _PAUSES), default=0)
    # A pause in the first half would throw away more than it saves.
    return text[:last_pause].rstrip() if last_pause > limit // 2 else text
