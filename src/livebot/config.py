"""Settings: frozen and validated. The only reader of files and environment."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["PipelineSettings", "ReplySettings", "Settings", "VoiceSettings"]

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PipelineSettings(_Frozen):
    """Sizes of the stages between the feed and the voice."""

    message_queue_size: int = Field(default=2000, ge=1)
    """Events that may wait to be looked at; the least important are dropped beyond."""
    processing_workers: int = Field(default=4, ge=1)
    text_queue_size: int = Field(default=30, ge=1)
    """Sentences that may wait to be spoken; the least important are dropped beyond."""
    text_ttl: Seconds = 20.0
    """Seconds after which a waiting sentence is worth nothing any more."""
    ageing: Seconds = 8.0
    """Seconds of waiting that lift a sentence by one level of priority."""


class VoiceSettings(_Frozen):
    """How sentences become sound."""

    workers: int = Field(default=2, ge=1)
    """Synthesis threads; each owns one worker process."""
    lookahead: int = Field(default=2, ge=1)
    """Sentences that may have left the text queue at a time: one is heard, the rest are ready."""
    rest: float = Field(default=0.3, ge=0)
    """Seconds of silence between two sentences."""
    rate: int = Field(default=220, ge=80, le=450)
    """Words a minute, as the engine counts them."""
    volume: Share = 1.0
    cache_directory: Path | None = None
    """Where synthesised audio is kept between runs; None keeps it in memory only."""
    cache_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)


def _templates(*placeholders: str) -> AfterValidator:
    """Refuses templates with other placeholders than these, so that no reply fails later."""
    allowed = " and ".join(f"{{{name}}}" for name in placeholders)

    def check(templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            try:
                names = [
                    name for _, name, _, _ in string.Formatter().parse(template) if name is not None
                ]
            except ValueError as exc:
                raise ValueError(f"{template!r}: {exc}; it may hold {allowed}") from exc
            if not set(names) <= set(placeholders):
                raise ValueError(f"{template!r} may hold {allowed}")
        return templates

    return AfterValidator(check)


class ReplySettings(_Frozen):
    """What is said. Several templates of a kind are picked from at random; none: not spoken."""

    chat: Annotated[tuple[str, ...], _templates("name", "text")] = ("{name}说，{text}",)
    gift: Annotated[tuple[str, ...], _templates("name", "gift", "count")] = (
        "感谢{name}送的{count}个{gift}",
        "谢谢{name}的{gift}，{count}个",
    )
    like: Annotated[tuple[str, ...], _templates("name", "count")] = ()
    member: Annotated[tuple[str, ...], _templates("name")] = ("欢迎{name}",)
    follow: Annotated[tuple[str, ...], _templates("name")] = ("感谢{name}的关注",)
    share: Annotated[tuple[str, ...], _templates("name")] = ("感谢{name}的分享",)
    fansclub: Annotated[tuple[str, ...], _templates("name")] = ("感谢{name}支持粉丝团",)


class Settings(_Frozen):
    """Everything the bot can be told."""

    pipeline: PipelineSettings = PipelineSettings()
    voice: VoiceSettings = VoiceSettings()
    replies: ReplySettings = ReplySettings()
