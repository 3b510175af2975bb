"""The state as JSON, for scripts and stream decks, and the controls. See docs/guides/web.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from livebot.app import LiveBot
from livebot.controls import UnknownControl
from livebot.view import plain
from livebot.web.security import CONTROL_HEADER, Access, Refusal, Refusals

__all__ = ["mount"]

_APART = {"events", "queued", "components", "errors", "pool_changes"}  # of a view: asked for alone


def mount(app: FastAPI, bot: LiveBot, access: Access, refusals: Refusals) -> None:
    """Add what stands under /api."""
    _refuse_politely(app, refusals)
    _add_looks(app, bot, refusals)
    _add_controls(app, bot, access)

    @app.api_route("/api/{rest:path}", methods=["GET", "POST"], include_in_schema=False)
    async def unknown(rest: str) -> None:
        raise Refusal(HTTPStatus.NOT_FOUND, "unknown path", f"there is no /api/{rest[:100]}")


def _refuse_politely(app: FastAPI, refusals: Refusals) -> None:
    """Every refusal is one JSON object, and counted."""

    @app.exception_handler(Refusal)
    async def refused(_request: Request, exc: Refusal) -> JSONResponse:
        refusals.count(exc.reason)
        return JSONResponse({"error": exc.sentence, "reason": exc.reason}, exc.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, exc: RequestValidationError) -> JSONResponse:
        told = "; ".join(f"{error['loc'][-1]}: {error['msg']}" for error in exc.errors())
        return await refused(request, _bad_argument(told))


def _add_looks(app: FastAPI, bot: LiveBot, refusals: Refusals) -> None:
    @app.get("/api/state")
    async def state() -> Any:
        """Everything but the lists below: counts, queues, pools, player, feed, what is spoken."""
        view = plain(bot.view())
        told = {key: value for key, value in view.items() if key not in _APART}
        return JSONResponse({**told, "web": {"refused": refusals.statistics()}})

    @app.get("/api/events")
    async def events(
        since: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=200)] = 200
    ) -> Any:
        """Events that came or changed after version `since`, the oldest change first."""
        view = bot.view()
        changed = [event for event in view.events if event.version > since]
        changed.sort(key=lambda event: event.version)
        told = changed[:limit]
        version = told[-1].version if told else since
        return JSONResponse({"run": view.run, "version": version, "events": plain(told)})

    @app.get("/api/queued")
    async def queued() -> Any:
        """Events that wait to be spoken, the next one first."""
        return JSONResponse(plain(bot.view().queued))

    @app.get("/api/errors")
    async def errors() -> Any:
        """What went wrong, in groups, the latest first."""
        return JSONResponse(plain(bot.view().errors))

    @app.get("/api/components")
    async def components() -> Any:
        """The components as a tree, each with its state."""
        return JSONResponse(plain(bot.view().components))

    @app.get("/api/history")
    async def history() -> Any:
        """Figures over time, and the latest changes of pool sizes."""
        told = {"samples": bot.history.samples(), "pool_changes": bot.view().pool_changes}
        return JSONResponse(plain(told))


def _add_controls(app: FastAPI, bot: LiveBot, access: Access) -> None:
    @app.get("/api/token")
    async def token() -> dict[str, str]:
        """What to send along with each control, and in which header."""
        return {"header": CONTROL_HEADER, "token": access.control_token}

    @app.get("/api/controls")
    async def controls() -> Any:
        """Every control, what it does and the arguments it takes."""
        return JSONResponse(plain(bot.controls.specs()))

    @app.post("/api/controls/{name}")
    async def control(name: str, request: Request) -> Any:
        """Do it; the arguments are a JSON object."""
        arguments = _arguments(await request.body())
        try:
            # Some wait, for a restart for example; the loop must not.
            result = await run_in_threadpool(bot.controls.call, name, arguments)
        except UnknownControl as exc:
            raise Refusal(HTTPStatus.NOT_FOUND, "unknown control", str(exc)) from exc
        except ValueError as exc:
            raise _bad_argument(str(exc)) from exc
        except RuntimeError as exc:
            raise Refusal(HTTPStatus.CONFLICT, "not running", str(exc)) from exc
        return JSONResponse({"result": plain(result)})


def _arguments(body: bytes) -> Mapping[str, Any]:
    try:
        arguments = json.loads(body or b"{}")
        json.dumps(arguments, ensure_ascii=False).encode()  # half a character cannot be told back
    except (ValueError, RecursionError) as exc:
        raise _bad_argument(f"the body must be JSON: {exc}") from exc
    if not isinstance(arguments, dict):
        raise _bad_argument(f"the body must be a JSON object, not {type(arguments).__name__}")
    return cast("dict[str, Any]", arguments)


def _bad_argument(sentence: str) -> Refusal:
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "bad argument", sentence)
