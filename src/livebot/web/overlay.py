"""A transparent page for OBS: the sentence that is heard, and the last events of the room.

The page draws what a stream of server-sent events tells it. The server looks at the bot ten times
a second while somebody watches, and says only what has changed; a watcher that is slow gets the
latest state next, so nothing piles up for it.
"""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from livebot.view import EventView, View, plain
from livebot.web.security import Refusal, Refusals

__all__ = ["Overlay", "OverlayStyle"]

_LOOK_EVERY = 0.1  # seconds; as often as there is something new to see
_PING_EVERY = 10.0  # seconds without news after which the page is told that we are there
_MOST_WATCHERS = 32  # streams at a time; OBS needs one a scene

# Nothing but our own script and style, whatever a name or a text of the room may hold.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_ASSETS = {"overlay.js": "text/javascript", "overlay.css": "text/css"}

_COLOUR = r"^(#[0-9a-fA-F]{3,4}|#[0-9a-fA-F]{6}|#[0-9a-fA-F]{8}|[a-zA-Z]{3,30})$"
_FONT = r"^[\w \-]{1,60}$"


def _split(text: object) -> object:
    """A list as an address writes it: with commas."""
    return tuple(text.split(",")) if isinstance(text, str) else text


def _among(*allowed: str) -> AfterValidator:
    def check(words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            if word not in allowed:
                raise ValueError(f"may hold {', '.join(allowed)}, not {word!r}")
        return words

    return AfterValidator(check)


_Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
_KINDS = ("chat", "emoji", "gift", "like", "member", "follow", "share", "fansclub")


class OverlayStyle(BaseModel):
    """How an overlay looks: the query of its address.

    >>> OverlayStyle.model_validate({"size": "48", "show": "subtitle"}).size
    48
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    font: str = Field(default="", pattern=_FONT.replace("{1,60}", "{0,60}"))
    """Name of a font of the machine that shows it; empty: its own."""
    size: int = Field(default=40, ge=8, le=200)
    """Of the subtitle's letters, in pixels; events are two thirds as large."""
    colour: str = Field(default="#ffffff", pattern=_COLOUR)
    """Of the letters: #rgb, #rrggbb, #rrggbbaa or a name."""
    outline: str = Field(default="#000000", pattern=_COLOUR)
    """Round the letters."""
    background: str = Field(default="transparent", pattern=_COLOUR)
    """Behind the letters."""
    position: Literal["top", "middle", "bottom"] = "bottom"
    """Where the subtitle is."""
    align: Literal["left", "center", "right"] = "center"
    """To which side the letters lean."""
    events: int = Field(default=5, ge=0, le=20)
    """How many events are shown at a time."""
    hold: float = Field(default=20.0, ge=0, le=3600)
    """Seconds after which an event is taken away; 0: never."""
    show: Annotated[_Words, _among("subtitle", "events")] = ("subtitle", "events")
    """Which parts: subtitle, events."""
    kinds: Annotated[_Words, _among(*_KINDS)] = ()
    """Kinds of events; none: all."""
    preview: bool = False
    """Show made-up words, to find the right place for them."""


class Overlay:
    """The overlay's page and its stream.

    Thread safety: used by the server's loop only.

    Lifetime: lasts longer than a loop: `hang_up` ends the streams of one, and the next may begin.

    Args:
        look: Gives what there is to see; quick, and called ten times a second by each watcher.
        refusals: Where refusals are counted.
    """

    def __init__(self, look: Callable[[], View], refusals: Refusals) -> None:
        self._look = look
        self._refusals = refusals
        self._page = _asset("overlay.html")
        self._life = 0  # counts the loops; a stream belongs to one
        self._watchers = 0

    def mount(self, app: FastAPI) -> None:
        """Add /overlay and what its page needs."""

        @app.get("/overlay", include_in_schema=False)
        async def page(request: Request) -> Response:
            try:
                style = OverlayStyle.model_validate(_query(request))
            except ValidationError as exc:
                self._refusals.count("bad argument")
                return _text(f"overlay: {_told(exc)}", HTTPStatus.UNPROCESSABLE_ENTITY)
            told = html.escape(style.model_dump_json(), quote=True)
            return _asset_response(self._page.replace("{{style}}", told), "text/html")

        @app.get("/overlay/stream", include_in_schema=False)
        async def stream() -> StreamingResponse:
            if self._watchers >= _MOST_WATCHERS:
                sentence = f"{_MOST_WATCHERS} overlays are open; close some"
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many overlays", sentence)
            return StreamingResponse(self._stream(), media_type="text/event-stream")

        for name, media_type in _ASSETS.items():
            _add_asset(app, name, media_type)

    def hang_up(self) -> None:
        """End the streams there are."""
        self._life += 1
        self._watchers = 0

    async def _stream(self) -> AsyncIterator[str]:
        life = self._life
        self._watchers += 1
        try:
            async for message in self._messages(lambda: self._life == life):
                yield message
        finally:
            if self._life == life:
                self._watchers -= 1

    async def _messages(self, goes_on: Callable[[], bool]) -> AsyncIterator[str]:
        watcher = _Watcher()
        quiet = 0.0
        while goes_on():
            news = watcher.news(self._look())
            if news is not None:
                yield f"data: {json.dumps(news, ensure_ascii=False)}\n\n"
                quiet = 0.0
            elif quiet >= _PING_EVERY:
                yield "event: ping\ndata:\n\n"
                quiet = 0.0
            await asyncio.sleep(_LOOK_EVERY)
            quiet += _LOOK_EVERY


@dataclass
class _Watcher:
    """What one page has been told."""

    version: int = -1
    heard: tuple[int, float] | None = None

    def news(self, view: View) -> Mapping[str, Any] | None:
        """What to tell it now: the first time everything, None when nothing has changed."""
        speaking = view.speaking
        heard = None if speaking is None else (speaking.number, speaking.since)
        changed = [event for event in view.events if event.version > self.version]
        fit = [_brief(event) for event in changed if _is_fit(event)]
        if self.version >= 0 and heard == self.heard and not fit:
            return None
        self.heard = heard
        self.version = max((event.version for event in changed), default=max(self.version, 0))
        subtitle = None if speaking is None else {"text": speaking.text, "user": speaking.user}
        return {"run": view.run, "subtitle": subtitle, "events": fit}


def _is_fit(event: EventView) -> bool:
    """Whether an event may be shown to a public: moderation has let it pass to the text queue."""
    return event.kind != "said" and "text" in event.since


def _brief(event: EventView) -> Mapping[str, Any]:
    wanted = ("number", "kind", "user", "text", "count", "stage", "fate")
    told: Mapping[str, Any] = plain(event)
    return {key: told[key] for key in wanted}


def _query(request: Request) -> dict[str, str]:
    """The query; those who write color may."""
    query = dict(request.query_params)
    if "color" in query:
        query.setdefault("colour", query.pop("color"))
    return query


def _told(exc: ValidationError) -> str:
    """Every mistake with its key, and what may stand there."""
    mistakes: list[str] = []
    for error in exc.errors():
        key = ".".join(str(part) for part in error["loc"])
        if error["type"] == "extra_forbidden":
            known = ", ".join(OverlayStyle.model_fields)
            mistakes.append(f"there is no {key[:40]!r}; there are {known}")
        else:
            mistakes.append(f"{key}: {error['msg']}, not {str(error['input'])[:60]!r}")
    return "; ".join(mistakes)


def _asset(name: str) -> str:
    return (resources.files("livebot.web") / "assets" / name).read_text(encoding="utf-8")


def _add_asset(app: FastAPI, name: str, media_type: str) -> None:
    content = _asset(name)

    @app.get(f"/overlay/{name}", include_in_schema=False)
    async def asset() -> Response:
        return _asset_response(content, media_type)


def _asset_response(content: str, media_type: str) -> Response:
    return Response(content, media_type=media_type, headers={"content-security-policy": _POLICY})


def _text(sentence: str, status: HTTPStatus) -> Response:
    return Response(sentence, status, media_type="text/plain; charset=utf-8")
