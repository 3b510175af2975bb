"""What is served: one FastAPI application behind one gate, made of parts that know the bot."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from livebot.app import LiveBot
from livebot.web import api, figures
from livebot.web.overlay import Overlay
from livebot.web.security import Access, Gate, Refusals

__all__ = ["BotSite"]


class BotSite:
    """Everything a browser, OBS, Prometheus or a script can ask of one bot.

    Lifetime: one for a process: NiceGUI, which draws the dashboard, cannot be had twice.

    Args:
        bot: What is shown.
        access: Who may look.
        with_dashboard: Whether NiceGUI's pages are among it.
    """

    def __init__(self, bot: LiveBot, access: Access, *, with_dashboard: bool = True) -> None:
        self.refusals = Refusals()
        # Without FastAPI's pages about the API: they load their scripts from elsewhere.
        app = FastAPI(title="livebot", docs_url=None, redoc_url=None, openapi_url="/api/openapi")
        self._overlay = Overlay(bot.view, self.refusals)
        figures.mount(app, bot, self.refusals.statistics)
        self._overlay.mount(app)
        api.mount(app, bot, access, self.refusals)
        if with_dashboard:
            from livebot.web import dashboard  # noqa: PLC0415 - NiceGUI takes a second or two

            dashboard.mount(app, bot)
        self._gate = Gate(app, access, self.refusals)

    async def __call__(self, scope: Any, receive: Any, send: Any, /) -> None:
        await self._gate(scope, receive, send)

    def hang_up(self) -> None:
        """End the streams to overlays, which would go on for ever."""
        self._overlay.hang_up()
