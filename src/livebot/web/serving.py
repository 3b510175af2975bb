"""Puts the web server of a bot under the bot's manager."""

from __future__ import annotations

import socket
from urllib.parse import quote

from livebot.app import LiveBot
from livebot.config import WebSettings
from livebot.web.security import Access
from livebot.web.server import Site, WebServer
from threadkit import Backoff, Intensity

__all__ = ["serve"]

# The pause between restarts grows to half a minute, so this is never reached: the web server is
# brought back for ever, and its failures are never the voice's.
_INTENSITY = Intensity(restarts=1000, per=60)
_HUNG = 20.0  # seconds the event loop may be busy with one thing
_START = 60.0  # seconds; NiceGUI takes one or two to import, more on a busy machine


def serve(bot: LiveBot, settings: WebSettings) -> str:
    """Listen now, and have the bot's manager serve dashboard, overlay and API once it starts.

    Returns:
        The link for a browser: where a token is needed it holds the token, so show it to the
        user and to nobody else.

    Raises:
        OSError: The port cannot be had; says what to do.
        ConfigError: The token of the environment cannot be used.
    """
    secret = settings.access_token()
    access = Access.of(
        settings.host,
        token=None if secret is None else secret.get_secret_value(),
        names=settings.names,
    )

    def site() -> Site:
        from livebot.web.site import BotSite  # noqa: PLC0415 - slow, so on the server's thread

        return BotSite(bot, access)

    server = WebServer(site, host=settings.host, port=settings.port)
    url = server.listen()
    group = bot.manager.group("web", intensity=_INTENSITY, start_timeout=_START)
    group.add(
        "server", server, start_timeout=_START, stop_timeout=5, watchdog=_HUNG, backoff=Backoff()
    )
    return url if access.is_private else _with_token(url, settings, access)


def _with_token(url: str, settings: WebSettings, access: Access) -> str:
    """The link for other machines, which know this one by its name."""
    if settings.host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        url = f"http://{socket.gethostname()}:{url.rstrip('/').rpartition(':')[2]}/"
    return f"{url}?token={quote(access.token, safe='')}"
