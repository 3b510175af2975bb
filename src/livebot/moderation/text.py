"""Viewers' texts made fit for speech, for a model and for comparison.

Pure functions of hostile input: whatever comes, they take time linear in the length they keep.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["clean", "repeat_key", "squeezed"]

_RAW_LIMIT = 1000  # characters looked at; the platform's own limit is far below
_MARKS_IN_A_ROW = 2  # accents on one letter; more is decoration ("zalgo")
_STICKER = re.compile(r"\[[^\[\]]{1,12}\]")
_ONE_CHARACTER = re.compile(r"([^\W\d])\1{3,}")  # 哈哈哈哈 and more
_ONE_DIGIT = re.compile(r"(?<!\d)(\d)\1{3,}(?!\d)")  # 66666, but not the zeros of 10000
_ONE_MARK = re.compile(r"([^\w\s])\1+")  # ！！！
_PHRASE = re.compile(r"(.{2,8}?)\1{2,}")  # 加油加油加油
_AGAIN = re.compile(r"(\D{1,8}?)\1+")  # not digits: 100 and 10 are different things
_SPOKEN = {"L", "N", "P"}  # major categories kept: letters, numbers, punctuation
_SPOKEN_SIGNS = {"Sm", "Sc"}  # and + = $ ￥, but no emoji, which are So
# Letters that nobody sees: Hangul fillers.
_INVISIBLE = dict.fromkeys(map(ord, "\u115f\u1160\u3164\uffa0"))
# Letters that pass for others, in lower case: Cyrillic and Greek ones, and Latin ones with accents.
_LOOK_ALIKE = {
    **str.maketrans(
        "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455"
        "\u04bb\u0501\u051b\u051d\u0432\u043a\u043c\u043d\u0442",
        "aeopcyxijshdqwbkmht",
    ),
    **str.maketrans(
        "\u03b1\u03b2\u03b5\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7", "abeikvoptux"
    ),
    **{
        code: unicodedata.normalize("NFD", chr(code))[0]
        for code in (*range(0x00E0, 0x0250), *range(0x1E00, 0x1F00))
        if chr(code).isalpha()
    },
    **_INVISIBLE,
}
_ENDINGS = "啊呀吧呢了吗嘛哦喔哈啦哇"  # said or not, the sentence is the same


def clean(text: str, limit: int = 60) -> str:
    """`text` as it may be read aloud: no stickers, emoji or brackets, repeats shortened, cut.

    Args:
        text: What a viewer wrote, or calls themselves.
        limit: Characters kept.

    >>> clean("[大笑][大笑] 主播好好好好好好!!!!  ＡＢＣ🎉")
    '主播好好好! ABC'
    >>> clean("66666666"), clean("一共10000块"), clean("加油加油加油加油"), clean("[比心]🎉。")
    ('666', '一共10000块', '加油加油', '')
    """
    kept = unicodedata.normalize("NFKC", text[:_RAW_LIMIT])[:_RAW_LIMIT].translate(_INVISIBLE)
    if not kept.isalnum():  # most texts are letters only and need no look at each character
        kept = " ".join(_spoken(_STICKER.sub(" ", kept)).split())
    if len(set(kept)) < len(kept):  # without a character that comes twice nothing is repeated
        kept = _shortened(kept)
    kept = kept[:limit].strip()
    return kept if kept.isalnum() or any(map(str.isalnum, kept)) else ""


def _shortened(text: str) -> str:
    text = _ONE_CHARACTER.sub(r"\1\1\1", text)
    text = _ONE_DIGIT.sub(r"\1\1\1", text)
    text = _ONE_MARK.sub(r"\1", text)
    return _PHRASE.sub(r"\1\1", text)


def _spoken(text: str) -> str:
    kept: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        if category in ("Mn", "Mc") and not "\ufe00" <= character <= "\ufe0f":
            marks += 1
            if marks <= _MARKS_IN_A_ROW and kept:
                kept.append(character)
            continue
        marks = 0
        if character in "[]":
            continue  # speech engines read [[...]] as phonemes
        if category[0] in _SPOKEN or category in _SPOKEN_SIGNS:
            kept.append(character)
        elif category[0] == "Z" or category == "Cc":
            kept.append(" ")
    return "".join(kept)


def squeezed(text: str) -> str:
    """The letters and digits of `text` alone, in one case: what block lists compare.

    Accents are left out, and letters of other scripts that look like Latin ones become these.

    >>> squeezed("加 ＶＸ-1\u200b23！"), squeezed("\u0421rêpe")
    ('加vx123', 'crepe')
    """
    folded = unicodedata.normalize("NFKC", text[:_RAW_LIMIT]).casefold()
    folded = folded if folded.isascii() else folded.translate(_LOOK_ALIKE)
    return folded if folded.isalnum() else "".join(filter(str.isalnum, folded))


def repeat_key(text: str) -> str:
    """The same for texts that differ only in marks, repeats and final particles.

    >>> repeat_key("晋级啦！！") == repeat_key("晋级了") == repeat_key("晋级晋级晋级")
    True
    """
    once = squeezed(text)
    if len(set(once)) < len(once):
        once = _AGAIN.sub(r"\1", once)
    return once.rstrip(_ENDINGS) or once
