"""Sentences from templates."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence

from livebot.config import ReplySettings
from livebot.messages import Chat, Event, Gift, Like, Social

__all__ = ["TemplateWriter"]


class TemplateWriter:
    """Fills one of the templates of an event's kind, picked at random.

    Thread safety: may be called from any thread, `update` too.

    Args:
        settings: The templates of each kind.
        seed: Makes the choice repeatable.
    """

    def __init__(self, settings: ReplySettings, *, seed: int | None = None) -> None:
        self._settings = settings
        self._random = random.Random(seed)

    def update(self, settings: ReplySettings) -> bool:
        """Use these templates from the next sentence on; whether they are others than before."""
        before, self._settings = self._settings, settings
        return settings != before

    def write(self, event: Event) -> str | None:
        """The sentence, or None when there is nothing to say to this kind of event."""
        templates = self._templates(event)
        if not templates:
            return None
        return self._random.choice(templates).format(**self._facts(event))

    def foreseen(self) -> tuple[str, ...]:
        """The sentences that are known before anything happens: those of fixed words only.

        >>> replies = ReplySettings(follow=("欢迎来到直播间", "感谢{name}的关注"), share=())
        >>> TemplateWriter(replies).foreseen()[-3:]
        ('欢迎来到直播间', '感谢有人的关注', '感谢有人支持粉丝团')
        """
        settings = self._settings
        kinds = (
            getattr(settings, kind) for kind in type(settings).model_fields if kind != "nobody"
        )
        return tuple(
            template.format(name=settings.nobody)
            for templates in kinds
            for template in templates
            if {field for _, field, _, _ in string.Formatter().parse(template)} <= {None, "name"}
        )

    def _templates(self, event: Event) -> Sequence[str]:
        settings = self._settings
        if isinstance(event, Social):
            return {"follow": settings.follow, "share": settings.share}.get(event.action, ())
        return getattr(settings, event.kind, ())

    def _facts(self, event: Event) -> dict[str, object]:
        name = event.user.name if event.user else ""
        facts: dict[str, object] = {"name": name or self._settings.nobody}
        match event:
            case Chat():
                facts["text"] = event.text
            case Gift():
                facts.update(gift=event.name, count=event.repeat_count)
            case Like():
                facts["count"] = event.count
            case _:
                pass
        return facts
