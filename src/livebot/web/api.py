"""The state as JSON, for scripts and stream decks. See docs/guides/web.md."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse

from livebot.app import LiveBot
from livebot.web.security import CONTROL_HEADER, Access, Refusal, Refusals

__all__ = ["mount"]


def mount(app: FastAPI, bot: LiveBot, access: Access, refusals: Refusals) -> None:
    """Add what stands under /api."""

    @app.exception_handler(Refusal)
    async def refused(_request: Request, exc: Refusal) -> JSONResponse:
        refusals.count(exc.reason)
        return JSONResponse({"error": exc.sentence, "reason": exc.reason}, exc.status)

    @app.get("/api/token")
    async def token() -> dict[str, str]:
        """What to send with each control, and in which header."""
        return {"header": CONTROL_HEADER, "token": access.control_token}

    @app.get("/api/state")
    async def state() -> Any:
        """What every part says of itself now."""
        return {**jsonable_encoder(bot.snapshot()), "web": {"refused": refusals.statistics()}}

    @app.get("/api/components")
    async def components() -> Any:
        """The components as a tree, each with its state."""
        return bot.manager.report().as_dict()

    @app.get("/api/errors")
    async def errors() -> Any:
        """What went wrong, in groups."""
        return jsonable_encoder(bot.errors.statistics())

    @app.get("/api/{rest:path}")
    async def unknown(rest: str) -> None:
        raise Refusal(HTTPStatus.NOT_FOUND, "unknown path", f"there is no /api/{rest}")
