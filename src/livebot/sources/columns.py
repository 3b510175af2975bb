"""The column format of public Douyin recorders, read as events.

A row looks like `{"t": 7, "type": "gift", "user": "u01562", "gift_name": ..., "gift_count": ...}`.
It knows neither message ids nor combo ids: they are made up, by the rules stated at `Columns`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from livebot.messages import (
    Chat,
    Control,
    Event,
    Fansclub,
    Gift,
    Like,
    Member,
    Room,
    Social,
    Stats,
    User,
)
from livebot.sources.decoding import ENDED

__all__ = ["Columns"]

_Row = Mapping[str, Any]
_Head = dict[str, Any]  # the fields every event has

_FIRST_ID = 7_500_000_000_000_000_000  # in the size of the platform's own ids
_CLOSES_WITHIN = 5.0  # seconds; recorded rooms repeat a combo's last count after 2 to 4
_FORGOTTEN_AFTER = 10.0  # seconds without a message after which a combo is over


class Columns:
    """Reads rows of the column format.

    Rules for what the format leaves out:

    * A message's id is its line number, a gift's id the checksum of its name.
    * A user has only a name; its digits are the id, or its checksum when it has none.
    * A gift's combo: of one user and gift, a greater count goes on with the last combo; the same
      count within 5 seconds is its closing message; a smaller one, or any after the closing
      message or 10 seconds, begins a new combo.
    """

    def __init__(self) -> None:
        self._combos: dict[tuple[str, str], tuple[float, int, str, bool]] = {}
        self._combo_count = 0

    def read(self, t: float, row: _Row, number: int) -> Event:
        """The event of one row, at `t` seconds, on line `number`.

        Raises:
            ValueError: A column is missing or holds something else than it should.
        """
        kind = row.get("type")
        build = _BUILDERS.get(kind) if isinstance(kind, str) else None
        if build is None:
            allowed = ", ".join(_BUILDERS)
            raise ValueError(f"needs kind (our format) or type, one of {allowed}; type is {kind!r}")
        head = {"id": str(_FIRST_ID + number), "user": _user(row)}
        try:
            return build(self, t, row, head)
        except KeyError as exc:
            raise ValueError(f"{kind}: {exc.args[0]} missing") from None
        except TypeError as exc:
            raise ValueError(f"{kind}: {exc}") from None

    def gift(self, t: float, row: _Row, head: _Head) -> Event:
        """A row about a gift, put into its combo."""
        name, count = str(row["gift_name"]), int(row["gift_count"])
        group_id, closing = self._combo(t, (str(row.get("user")), name), count)
        return Gift(
            **head,
            gift_id=str(zlib.crc32(name.encode())),
            name=name,
            diamond_count=int(row["diamond_total"]) // max(1, count),
            repeat_count=count,
            combo_count=count,
            group_id=group_id,
            repeat_end=closing,
            send_type=4,
        )

    def _combo(self, t: float, key: tuple[str, str], count: int) -> tuple[str, bool]:
        last_t, last_count, group_id, closed = self._combos.get(key, (-1e9, 0, "", True))
        gap = t - last_t
        closing = not closed and count == last_count and gap <= _CLOSES_WITHIN
        goes_on = not closed and count > last_count and gap <= _FORGOTTEN_AFTER
        if not closing and not goes_on:
            self._combo_count += 1
            group_id = str(_FIRST_ID + self._combo_count)
        self._combos[key] = (t, count, group_id, closing)
        return group_id, closing


def _user(row: _Row) -> User | None:
    name = row.get("user")
    if not name:
        return None
    name = str(name)
    digits = re.sub(r"\D", "", name)
    club = re.search(r"(?:[::]\s*(?P<name>.*?))?\s*Lv\s*(?P<level>\d+)", str(row.get("fans_club")))
    grade = re.search(r"\d+", str(row.get("grade", "")))
    return User(
        id=str(int(digits) if digits else zlib.crc32(name.encode())),
        name=name,
        level=int(grade[0]) if grade else 0,
        fan_level=int(club["level"]) if club else 0,
        fan_club=(club["name"] or "") if club else "",
    )


def _chat(_: Columns, __: float, row: _Row, head: _Head) -> Event:
    return Chat(**head, text=str(row["content"]))


def _like(_: Columns, __: float, row: _Row, head: _Head) -> Event:
    return Like(**head, count=int(row["count"]), total=int(row.get("total", 0)))


def _member(_: Columns, __: float, row: _Row, head: _Head) -> Event:
    return Member(**head, viewers=int(row.get("count", 0)))


def _social(_: Columns, __: float, row: _Row, head: _Head) -> Event:
    action = "share" if "分享" in str(row["action"]) else "follow"
    return Social(**head, action=action, followers=int(row.get("follow_count", 0)))


def _fansclub(_: Columns, __: float, row: _Row, head: _Head) -> Event:
    text = str(row.get("content", ""))
    return Fansclub(**head, action="join" if "加入" in text else "level_up", text=text)


def _stats(_: Columns, __: float, row: _Row, head: _Head) -> Event:
    return Stats(**head, viewers=int(row["current"]), text=str(row.get("total_user", "")))


def _control(_: Columns, __: float, row: _Row, head: _Head) -> Event:
    action = int(row.get("action", row.get("status", 0)))
    return Control(**head, action=action, ended=action == ENDED)


def _lucky_bag(_: Columns, __: float, row: _Row, head: _Head) -> Event:
    return Room(**head, text=str(row.get("content", "")), topic="lucky_bag")


_BUILDERS: Mapping[str, Callable[..., Event]] = {
    "chat": _chat,
    "gift": Columns.gift,
    "like": _like,
    "member": _member,
    "social": _social,
    "fansclub": _fansclub,
    "stats": _stats,
    "control": _control,
    "lucky_bag": _lucky_bag,
}
