"""The dashboard: one page for each browser tab, drawn from views of the bot."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI
from nicegui import Client, background_tasks, ui
from nicegui.events import GenericEventArguments
from starlette.requests import Request

from livebot.app import LiveBot
from livebot.view import View
from livebot.web.dashboard import listing
from livebot.web.dashboard.charts import Curves
from livebot.web.dashboard.panels import Blocked, Templates, Voice, acting, card
from livebot.web.dashboard.rows import Rows
from livebot.web.dashboard.words import LANGUAGES, Words, language_for

__all__ = ["mount"]

_OFTEN = 0.1  # seconds between two looks at what changes all the time
_PATIENCE = 10.0  # seconds for the browser to draw; a hidden tab draws nothing, and is told seldom
_SELDOM = 2.0  # seconds between two looks at the rest
_STYLE = Path(__file__).with_name("dashboard.css").read_text(encoding="utf-8")
# Only the browser knows what the system prefers; what was chosen is kept here, and drawn anew.
_OTHER_LIGHT = '() => emit(!document.body.classList.contains("body--dark"))'
_STAGES = {
    "received": "at the door",
    "processing": "moderation and reply",
    "text": "text queue",
    "speech": "speech and sound",
}
_SCOPE = "livebot"  # where the page finds its bot in the request's scope


def mount(app: FastAPI, bot: LiveBot) -> None:
    """Let `app` show the dashboard of `bot` at every path it does not know itself."""
    host = _host()
    app.mount("/", _WithBot(host, bot))
    lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def both(outer: FastAPI) -> AsyncGenerator[Any]:
        _forget_the_dead(asyncio.get_running_loop())
        async with host.router.lifespan_context(host), lifespan(outer) as state:
            yield state

    app.router.lifespan_context = both


@functools.cache
def _host() -> FastAPI:
    """The application NiceGUI stands in. It can be set up once in a process, whatever mounts it."""
    host = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    ui.page("/", title="livebot", response_timeout=10)(_page)
    cast("Any", ui).run_with(  # not wholly typed
        host,
        title="livebot",
        dark=None,
        reconnect_timeout=10,
        show_welcome_message=False,
        tailwind=False,
    )
    return host


def _forget_the_dead(loop: asyncio.AbstractEventLoop) -> None:
    """Clear what a server whose loop died left in NiceGUI's globals.

    Its tabs are unknown then, so they load the page anew. Its tasks can neither run nor be awaited
    any more; NiceGUI would try that for ever at its end.
    """
    Client.instances.clear()
    left: Any = background_tasks  # not wholly typed
    running: set[asyncio.Task[Any]] = left.running_tasks
    running.difference_update([task for task in running if task.get_loop() is not loop])
    lazy: dict[str, asyncio.Task[Any]] = left.lazy_tasks_running
    for name in [name for name, task in lazy.items() if task.get_loop() is not loop]:
        del lazy[name]


class _WithBot:
    """Tells the pages behind it whose they are."""

    def __init__(self, app: FastAPI, bot: LiveBot) -> None:
        self._app = app
        self._bot = bot

    async def __call__(self, scope: Any, receive: Any, send: Any, /) -> None:
        await self._app({**scope, _SCOPE: self._bot}, receive, send)


def _page(request: Request) -> None:
    query = request.query_params
    language = language_for(query.get("lang"), request.headers.get("accept-language", ""))
    Page(request.scope[_SCOPE], Words(language), query.get("theme", ""))


class Page:
    """What one browser tab shows.

    Lifetime: of its tab; the timer ends with it.

    Args:
        bot: What is shown.
        words: In which language.
        theme: "light", "dark", or empty for what the browser prefers.
    """

    def __init__(self, bot: LiveBot, words: Words, theme: str) -> None:
        self._bot = bot
        self._words = words
        self._act = acting(bot.controls, words)
        self._version = 0
        self._drawing_since: float | None = None
        self._looked_at_rest_at = -_SELDOM
        ui.add_css(_STYLE)
        self._dark = ui.dark_mode({"dark": True, "light": False}.get(theme))
        self._draw_top()
        with ui.element("main").classes("lb-page"):
            self._draw_live()
            self._draw_curves()
            self._draw_health()
            self._draw_settings()
        ui.timer(_OFTEN, self._look)

    # -- drawing ----------------------------------------------------------------------------

    def _draw_top(self) -> None:
        words = self._words
        with ui.element("header").classes("lb-top"):
            with ui.element("div").classes("lb-brand"):
                ui.icon("graphic_eq", size="22px")
                ui.label("livebot")
            self._feed = ui.label().classes("lb-chip")
            self._alarms = ui.label().classes("lb-chip lb-bad lb-alarm")
            self._clock = ui.label().classes("lb-chip lb-clock")
            ui.element("div").classes("lb-push")
            other = next(name for name in LANGUAGES if name != words.language)
            ui.link({"zh": "中文", "en": "English"}[other], f"?lang={other}").classes("lb-chip")
            light = ui.button(icon="contrast").on(
                "click", self._turn_the_light, js_handler=_OTHER_LIGHT
            )
            light.props(f'flat round dense aria-label="{words("Light or dark")}"')

    def _draw_live(self) -> None:
        words = self._words
        with card(words("Now speaking"), "lb-w8", "speaking"):
            self._voice = Voice(self._act, words)
            self._voice.show(self._bot.view())
        with card(words("Figures"), "lb-w4", "figures"), ui.element("div").classes("lb-tiles"):
            names = ("received", "spoken", "waiting now", "dropped", "delay, median")
            more = ("delay, 95 of 100", "cache hits", "reconnects", "words a minute")
            self._tiles = {name: _tile(words(name), name) for name in (*names, *more)}
        with card(words("Live events"), "lb-w7", "events"):
            self._events = Rows(words("Nothing has happened yet"), kind="lb-tall", act=self._block)
            self._events.when_drawn(self._drawn)
        with card(words("Waiting to be spoken"), "lb-w5", "queue"):
            self._queue = Rows(words("Nothing waits"), kind="lb-tall")

    def _draw_curves(self) -> None:
        words, bot = self._words, self._bot
        stages = {
            f"{share}.{stage}": words(name)
            for share in ("p50", "p95")
            for stage, name in _STAGES.items()
        }
        view = bot.view()
        with card(words("Seconds by stage: median, 95 of 100 dashed"), "lb-w4", "delays"):
            delays = Curves(stages)
        with card(words("Queue lengths"), "lb-w4", "queues"):
            names = {f"queue.{queue.name}": words(queue.name) for queue in view.queues}
            queues = Curves(names, stepped=True)
        with card(words("Pool sizes"), "lb-w4", "pools"):
            names = {f"pool.{pool.name}": pool.name for pool in view.pools}
            pools = Curves(names, stepped=True)
        self._curves = (delays, queues, pools)

    def _draw_health(self) -> None:
        words = self._words
        with card(words("Dropped, by reason"), "lb-w4", "drops"):
            self._drops = Rows(words("Nothing was dropped"))
        with card(words("Changes of pool sizes"), "lb-w4", "changes"):
            self._changes = Rows(words("No pool has changed its size"))
        with card(words("Connection"), "lb-w4", "connection"):
            with ui.element("div").classes("lb-buttons"):
                ui.button(words("Reconnect"), icon="sync", on_click=self._reconnect).props(
                    "flat dense no-caps"
                )
            self._feed_log = Rows(words("No connection yet"))
        with card(words("Components"), "lb-w6", "components"):
            self._components = Rows("", kind="lb-big", act=self._restart)
        with card(words("Errors"), "lb-w6", "errors"):
            self._errors = Rows(words("Nothing went wrong"), kind="lb-big")

    def _draw_settings(self) -> None:
        words = self._words
        with card(words("Resources"), "lb-w4", "resources"):
            self._resources = Rows(words("No readings"))
        with card(words("Kinds of events that are answered"), "lb-w4", "templates"):
            self._templates = Templates(self._act, words, self._bot.controls.templates)
        with card(words("Blocked users"), "lb-w4", "blocked"):
            self._blocked = Blocked(self._act, words, self._bot.controls.blocked)

    def _turn_the_light(self, event: GenericEventArguments) -> None:
        self._dark.value = bool(event.args)

    # -- looking ----------------------------------------------------------------------------

    def _is_drawing(self) -> bool:
        """Whether the browser has not drawn what it was told last.

        A slow one is told less often; else what it was told would pile up, in it and here.
        """
        since = self._drawing_since
        return since is not None and time.monotonic() - since < _PATIENCE

    def _drawn(self) -> None:
        self._drawing_since = None

    def _look(self) -> None:
        if self._is_drawing():
            return
        view, words = self._bot.view(), self._words
        fresh = [event for event in view.events if event.version > self._version]
        self._version = max((event.version for event in fresh), default=self._version)
        self._events.merge([listing.event_row(event, words) for event in fresh])
        self._queue.show(listing.queue_rows(view.queued, words))
        self._voice.show(view)
        self._show_figures(view)
        state, tone = listing.feed_name(view.source.state.value, words)
        self._feed.text = state
        self._feed.classes(replace=f"lb-chip {tone}")
        alarms = listing.alarms(view, words)
        self._alarms.text = " · ".join(alarms)
        self._alarms.set_visibility(bool(alarms))
        self._clock.text = words("running for {time}", time=words.duration(int(view.seconds)))
        if time.monotonic() - self._looked_at_rest_at >= _SELDOM:
            self._looked_at_rest_at = time.monotonic()
            self._look_at_the_rest(view)
        self._drawing_since = time.monotonic()
        self._events.ask()

    def _show_figures(self, view: View) -> None:
        ledger, player, words = view.ledger, view.player, self._words
        ratio = view.cache.hit_ratio
        figures = {
            "received": f"{ledger.received:,}",
            "spoken": f"{ledger.spoken:,}",
            "waiting now": f"{ledger.pending:,}",
            "dropped": f"{sum(ledger.dropped.values()):,}",
            "delay, median": _seconds(player.delay.p50 if player.delay.count else None, words),
            "delay, 95 of 100": _seconds(player.delay.p95 if player.delay.count else None, words),
            "cache hits": "–" if ratio is None else f"{ratio:.0%}",
            "reconnects": f"{view.source.reconnects:,}",
            "words a minute": f"{view.rate}",
        }
        for name, figure in figures.items():
            self._tiles[name].text = figure

    def _look_at_the_rest(self, view: View) -> None:
        words = self._words
        samples = self._bot.history.samples()
        for curves in self._curves:
            curves.draw(samples)
        self._drops.show(listing.drop_rows(view, words))
        self._changes.show(listing.pool_rows(view.pool_changes))
        self._feed_log.show(listing.feed_rows(view.feed, words))
        self._components.show(listing.component_rows(view.components, words))
        self._errors.show(listing.error_rows(view.errors, words))
        self._resources.show(listing.resource_rows(view.resources, words))
        self._templates.show()
        self._blocked.show()

    # -- acting -----------------------------------------------------------------------------

    async def _block(self, user: str) -> None:
        await self._act("block_user", user=user)
        self._blocked.show()

    async def _reconnect(self) -> None:
        await self._done(await self._act("reconnect"))

    async def _restart(self, component: str) -> None:
        await self._done(await self._act("restart", component=component))

    async def _done(self, ready: bool | None) -> None:
        if ready is not None:
            said = self._words("done" if ready else "It was not ready in time")
            ui.notify(said, type="positive" if ready else "warning", position="top", timeout=1500)


def _tile(name: str, mark: str) -> ui.label:
    with ui.element("div").classes("lb-tile"):
        with ui.element("b").props(f'data-figure="{mark}"'):
            figure = ui.label("–")
        ui.label(name)
    return figure


def _seconds(seconds: float | None, words: Words) -> str:
    return "–" if seconds is None else words.duration(round(seconds, 2))
