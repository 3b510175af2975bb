"""What the bot says to an event."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from livebot.config import ReplySettings
from livebot.messages import Chat, Event, Gift, Like, Social

__all__ = ["ReplyWriter", "TemplateWriter"]


class ReplyWriter(Protocol):
    """Writes the sentence that answers an event."""

    def write(self, event: Event, /, text: str = "") -> str | None:
        """The sentence, or None when there is nothing to say to this kind of event.

        Args:
            event: What happened.
            text: What the viewer wrote, as moderation cleaned it.
        """
        ...


class TemplateWriter:
    """Fills one of the templates of an event's kind, picked at random.

    Thread safety: may be called from any thread.
    """

    def __init__(self, settings: ReplySettings, *, seed: int | None = None) -> None:
        self._settings = settings
        self._random = random.Random(seed)

    def write(self, event: Event, /, text: str = "") -> str | None:
        templates = self._templates(event)
        if not templates:
            return None
        return self._random.choice(templates).format(**_facts(event, text))

    def _templates(self, event: Event) -> Sequence[str]:
        if isinstance(event, Social):
            return self._settings.follow if event.action == "follow" else self._settings.share
        return getattr(self._settings, event.kind, ())


def _facts(event: Event, text: str) -> dict[str, object]:
    facts: dict[str, object] = {"name": event.user.name if event.user else "有人"}
    match event:
        case Chat():
            facts["text"] = text
        case Gift():
            facts.update(gift=event.name, count=event.repeat_count)
        case Like():
            facts["count"] = event.count
        case _:
            pass
    return facts
