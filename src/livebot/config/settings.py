"""Every setting, its default and what may stand there."""

from __future__ import annotations

import os
import string
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator
from typing_extensions import Self

__all__ = [
    "FASTEST",
    "SLOWEST",
    "ConfigError",
    "FeedSettings",
    "ModelSettings",
    "ModerationSettings",
    "PipelineSettings",
    "ReplySettings",
    "Settings",
    "VoiceSettings",
    "WebSettings",
    "waits_for_restart",
]

Share = Annotated[float, Field(ge=0, le=1)]
# What is longer than a year is a mistake, and clocks and locks refuse it sooner or later.
_YEAR = 366 * 86400.0
Seconds = Annotated[float, Field(gt=0, le=_YEAR)]
SecondsOrNone = Annotated[float, Field(ge=0, le=_YEAR)]
Names = tuple[str, ...]

SLOWEST = 80  # words a minute
FASTEST = 450  # the same; espeak's own limit


class ConfigError(ValueError):
    """Raised when a settings file cannot be used; names every key that is wrong, and why."""


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class FeedSettings(_Frozen):
    """Where the room is. Fixed while the bot runs."""

    kind: Literal["douyin", "barrage_grab", "douyin_live"] = "douyin"
    """The room's own WebSocket, or one of the relays people run."""
    url: str = ""
    """The address, beginning with wss:// or ws://."""
    headers: dict[str, str] = {}
    """Sent with the handshake: Cookie, User-Agent."""
    command: Names = ()
    """A program and its arguments that print the address and headers, instead of `url`."""


class ModerationSettings(_Frozen):
    """What is not said, and what comes first. See `livebot.moderation.Rules`."""

    blocked_words: Names = ()
    """A text that holds one is dropped, however it is spaced, cased or widened."""
    blocked_patterns: Names = ()
    """Regular expressions that must not match a text."""
    blocked_users: Names = ()
    """Ids or exact names of viewers who are ignored."""
    called: Names = ()
    """Names you and the bot answer to; a text that holds one comes earlier."""
    cool_down: SecondsOrNone = 5.0
    """Seconds after an answer before the same viewer is answered again."""
    repeat_window: SecondsOrNone = 10.0
    """Seconds in which the same text is spoken once."""
    combo_idle: SecondsOrNone = 3.0
    """Seconds without another gift after which a combo is thanked for."""
    big_gift: int = Field(default=10, ge=1)
    """Diamonds from which a gift comes before everything."""
    text_limit: int = Field(default=60, ge=1)
    """Characters of a text that are spoken."""
    name_limit: int = Field(default=16, ge=1)
    """Characters of a name that are spoken."""


class PipelineSettings(_Frozen):
    """Sizes of the stages between the feed and the voice. Fixed while the bot runs."""

    handler: Literal["threads", "asyncio"] = "threads"
    """Who takes events to the processing pool: a thread, or coroutines."""
    message_queue_size: int = Field(default=2000, ge=1, le=1000000)
    """Events that may wait to be looked at; the least important are dropped beyond."""
    processing_workers: int = Field(default=4, ge=1, le=256)
    """Threads that look at events."""
    text_queue_size: int = Field(default=30, ge=1, le=10000)
    """Sentences that may wait to be spoken; the least important are dropped beyond."""
    text_ttl: Seconds = 20.0
    """Seconds after which a waiting sentence is worth nothing any more."""
    ageing: Seconds = 8.0
    """Seconds of waiting that lift a sentence by one level of priority."""


class VoiceSettings(_Frozen):
    """How sentences become sound. Volume, rate, hurry and device can change while the bot runs."""

    engine: Literal["pyttsx3", "espeak", "piper"] = "pyttsx3"
    """Who speaks. When it fails for good, espeak does (or pyttsx3 in its place), and says so."""
    piper_folder: Path | None = None
    """Where Piper's voices are, NAME.onnx and NAME.onnx.json; needed for the engine "piper"."""
    workers: int = Field(default=2, ge=1, le=64)
    """Synthesis threads, each with a worker process to use."""
    lookahead: int = Field(default=2, ge=1, le=100)
    """Sentences that may have left the text queue at a time: one is heard, the rest are ready."""
    rest: float = Field(default=0.3, ge=0, le=60)
    """Seconds of silence between two sentences."""
    rate: int = Field(default=220, ge=SLOWEST, le=FASTEST)
    """Words a minute, as the engine counts them, while little waits."""
    hurry: float = Field(default=1.25, ge=1, le=2)
    """How many times as fast to speak when the text queue is full; 1 keeps the rate."""
    volume: Share = 1.0
    """From 0 to 1."""
    device: int | str | None = None
    """Number or part of the name of the sound device; None is the system's default."""
    subtitles: Path | None = None
    """A text file that holds the sentence that is heard, for OBS."""
    cache_directory: Path | None = None
    """Where synthesised audio is kept between runs; None keeps it in memory only."""
    cache_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """Bytes of audio kept in memory; four times as many on disk."""

    @model_validator(mode="after")
    def _voices_of_piper(self) -> Self:
        if self.engine == "piper" and self.piper_folder is None:
            raise ValueError("piper_folder must say where the voices are when engine is 'piper'")
        return self


def _templates(*placeholders: str) -> AfterValidator:
    """Refuses templates that hold more than these placeholders, so that no reply fails later."""
    names = " and ".join(f"{{{name}}}" for name in placeholders)
    allowed = f"may hold {names}, without a conversion or a format"
    # Each is (name, format, conversion), as string.Formatter tells them; first, text without one.
    plain = {(None, None, None), *((name, "", None) for name in placeholders)}

    def check(templates: Names) -> Names:
        for template in templates:
            try:
                fields = [field[1:] for field in string.Formatter().parse(template)]
            except ValueError as exc:
                raise ValueError(f"{template!r}: {exc}; it {allowed}") from exc
            if not set(fields) <= plain:
                raise ValueError(f"{template!r} {allowed}")
        return templates

    return AfterValidator(check)


class ReplySettings(_Frozen):
    """What is said. Several templates of a kind are picked from at random; none: not spoken."""

    nobody: str = "有人"
    """Said for a name that is not to be said."""
    # What a template may hold is checked; which kinds have which placeholders, their names say.
    chat: Annotated[Names, _templates("name", "text")] = ("{name}说，{text}",)
    gift: Annotated[Names, _templates("name", "gift", "count")] = (
        "感谢{name}送的{count}个{gift}",
        "谢谢{name}的{gift}，{count}个",
    )
    like: Annotated[Names, _templates("name", "count")] = ()
    member: Annotated[Names, _templates("name")] = ("欢迎{name}",)
    follow: Annotated[Names, _templates("name")] = ("感谢{name}的关注",)
    share: Annotated[Names, _templates("name")] = ("感谢{name}的分享",)
    fansclub: Annotated[Names, _templates("name")] = ("感谢{name}支持粉丝团",)


def _web_address(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(map(str.isspace, url)):
        raise ValueError("must be an address such as http://127.0.0.1:11434/v1")
    return url


class ModelSettings(_Frozen):
    """A language model that answers chats. Without a `model` the templates answer."""

    base_url: Annotated[str, AfterValidator(_web_address)] = "http://127.0.0.1:11434/v1"
    """An OpenAI-compatible address; this one is Ollama's."""
    model: str = ""
    """Its name, such as "qwen3:4b" or "deepseek-chat"; empty: templates answer."""
    api_key_variable: str = "LIVEBOT_API_KEY"
    """The environment variable that holds the secret; local servers need none."""
    persona: str = "你是直播间里的助手，友好、简短、幽默。"
    """Who the model is to be."""
    parallel: int = Field(default=2, ge=1, le=64)
    """Answers that may be written at a time."""
    per_minute: int = Field(default=20, ge=0)
    """Questions to the model in any minute; beyond, templates answer."""
    timeout: Seconds = 10.0
    """Seconds for a whole answer."""
    connect: Seconds = 3.0
    """Seconds to reach the server."""
    stall: Seconds = 4.0
    """Seconds without a piece of the answer after which it is given up."""
    failures: int = Field(default=3, ge=1)
    """Failures in a row after which the model is left alone."""
    cool_off: Seconds = 30.0
    """Seconds it is left alone."""
    max_tokens: int = Field(default=200, ge=1)
    """Tokens the model may write."""
    max_characters: int = Field(default=120, ge=1)
    """Characters of an answer that are spoken, whole sentences only."""
    temperature: float = Field(default=0.8, ge=0, le=2)
    """How freely it writes."""

    def api_key(self) -> SecretStr:
        """The secret of the environment; "none" where there is none, as local servers accept."""
        return SecretStr(os.environ.get(self.api_key_variable, "") or "none")


_TOKEN_LENGTH = 16  # characters; shorter ones can be tried out over a network


def _long_enough(token: SecretStr) -> SecretStr:
    length = len(token.get_secret_value())
    if 0 < length < _TOKEN_LENGTH:
        raise ValueError(f"must have at least {_TOKEN_LENGTH} characters, this one has {length}")
    return token


class WebSettings(_Frozen):
    """Dashboard, overlay and figures in the browser. Fixed while the bot runs."""

    enabled: bool = True
    """Whether they are served."""
    host: str = Field(default="127.0.0.1", min_length=1)
    """Where to listen: 127.0.0.1 is this machine only, 0.0.0.0 everywhere; that needs the token."""
    port: int = Field(default=8790, ge=0, le=65535)
    """Where to listen; 0 for any free one."""
    names: Names = ()
    """Names under which browsers reach it beside its address, such as those of a reverse proxy."""
    token: Annotated[SecretStr, AfterValidator(_long_enough)] = SecretStr("")
    """Demanded from everybody else than this machine; empty: LIVEBOT_TOKEN, or one is made up."""

    def access_token(self) -> SecretStr | None:
        """The secret of the settings or of the environment, None where there is none.

        Raises:
            ConfigError: The one of the environment is too short.
        """
        if self.token.get_secret_value():
            return self.token
        try:
            token = _long_enough(SecretStr(os.environ.get(_TOKEN_VARIABLE, "")))
        except ValueError as exc:
            raise ConfigError(f"{_TOKEN_VARIABLE} {exc}") from None
        return token if token.get_secret_value() else None


_TOKEN_VARIABLE = "LIVEBOT_TOKEN"  # noqa: S105 - its name, not the token


class Settings(_Frozen):
    """Everything the bot can be told."""

    feed: FeedSettings = FeedSettings()
    moderation: ModerationSettings = ModerationSettings()
    pipeline: PipelineSettings = PipelineSettings()
    replies: ReplySettings = ReplySettings()
    model: ModelSettings = ModelSettings()
    voice: VoiceSettings = VoiceSettings()
    web: WebSettings = WebSettings()


_LIVE: dict[str, frozenset[str]] = {
    "moderation": frozenset(ModerationSettings.model_fields),
    "replies": frozenset(ReplySettings.model_fields),
    "model": frozenset(ModelSettings.model_fields) - {"parallel", "stall"},
    "voice": frozenset({"volume", "rate", "hurry", "device"}),
}


def waits_for_restart(before: Settings, after: Settings) -> list[str]:
    """The keys that differ and take effect only with the bot's next start.

    >>> waits_for_restart(Settings(), Settings(voice=VoiceSettings(volume=0.5, workers=3)))
    ['voice.workers']
    """
    was, now = before.model_dump(), after.model_dump()
    return [
        f"{section}.{key}"
        for section, keys in now.items()
        for key, value in keys.items()
        if key not in _LIVE.get(section, ()) and was[section][key] != value
    ]
