"""WebServer: uvicorn in a thread of its own, brought back when it dies, the voice unhindered."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable
from typing import Any, Protocol

import uvicorn

from threadkit import REAL, Context, Runtime

__all__ = ["Site", "WebServer"]

_LARGEST_MESSAGE = 1024 * 1024  # bytes of one WebSocket message
_GOODBYE = 2  # seconds that answers under way get at the end


class Site(Protocol):
    """What a WebServer serves."""

    async def __call__(self, scope: Any, receive: Any, send: Any, /) -> None:
        """The ASGI application."""
        ...

    def hang_up(self) -> None:
        """On the server's loop, as it ends: finish answers that would go on for ever."""
        ...


class WebServer:
    """Serves a site over HTTP: a component.

    The listening socket belongs to this object, not to one run of the server: while a server that
    died or hangs is replaced, browsers that connect wait instead of being refused, and the port
    stays the same.

    Thread safety: `url` and `listen` from any thread; the manager calls the rest.

    Lifetime: a component that may be restarted; the port is given back with the last stop.

    Args:
        site: Makes what is served, called once, on the server's thread.
        host: Where to listen.
        port: The same; 0 for any free one.
        runtime: Where threads come from. The event loop is always the real one.
    """

    def __init__(
        self,
        site: Callable[[], Site],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        runtime: Runtime = REAL,
    ) -> None:
        self._make_site = site
        self._site: Site | None = None
        self._host = host
        self._port = port
        self._runtime = runtime
        # Guards _socket: `listen` may be called before and by `start`.
        self._lock = runtime.lock()
        self._socket: socket.socket | None = None
        self._run: _Run | None = None

    def listen(self) -> str:
        """Take the port, so that a taken one is told before anything starts. Returns `url`.

        Raises:
            OSError: It cannot be had; says what to do.
        """
        with self._lock:
            if self._socket is None:
                self._socket = _listen(self._host, self._port)
                self._port = self._socket.getsockname()[1]  # a restart takes the same one
        return self.url

    @property
    def url(self) -> str:
        """The address for a browser on this machine, once it listens."""
        host = "127.0.0.1" if self._host in {"0.0.0.0", "::"} else self._host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}/"

    def start(self, ctx: Context, /) -> None:
        """Serve. Returns when the first request can be answered.

        Raises:
            OSError: The port cannot be had.
        """
        self.listen()
        assert self._socket is not None  # noqa: S101 - `listen` has made it
        self._run = _Run(self._get_site, self._socket.dup(), ctx, self._runtime)
        self._run.start()

    def stop(self, ctx: Context, /) -> None:
        """End every connection. Blocks: for about two seconds at most, unless a page hangs.

        A site that is still being made is left behind when it takes more than half of the time
        there is: nothing has been opened for it, and it will not be served.
        """
        if ctx.final:
            self._close()
        if self._run is not None:
            self._run.stop(self._patience(ctx))

    def _patience(self, ctx: Context) -> float | None:
        """Seconds for a site that is being made; None: a successor would make it once more."""
        if not ctx.final or ctx.stop_by is None:
            return None
        return max(0.0, ctx.stop_by - self._runtime.monotonic()) / 2

    def _get_site(self) -> Site:
        if self._site is None:
            self._site = self._make_site()
        return self._site

    def _close(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None


class _Run:
    """One life of the server: a thread, a loop, a copy of the listening socket."""

    def __init__(
        self, site: Callable[[], Site], listening: socket.socket, ctx: Context, runtime: Runtime
    ) -> None:
        self._site = site
        self._socket = listening
        self._ctx = ctx
        self._server: _Server | None = None
        self._settled = runtime.event()  # it answers, or never will, or nobody waits for that
        self._error: BaseException | None = None
        self._stopping = False
        self._thread = runtime.thread(self._serve, name="livebot-web", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ctx.when_stopping(self._settled.set)
        self._settled.wait()
        if self._error is not None:
            raise RuntimeError(f"the web server did not start: {self._error}") from self._error

    def stop(self, patience: float | None) -> None:
        """The flag is set before the server is looked for; the thread does it the other way."""
        self._stopping = True
        server = self._server
        if server is None:
            self._thread.join(patience)
        else:
            server.should_exit = True
            self._thread.join()

    def _serve(self) -> None:
        try:
            with self._socket:
                self._serve_until_told()
        except BaseException as exc:  # noqa: BLE001 - uvicorn exits with SystemExit
            self._failed(exc)
        else:
            if not self._stopping:
                self._failed(RuntimeError("the web server ended by itself"))
        finally:
            self._settled.set()

    def _serve_until_told(self) -> None:
        site = self._site()
        config = uvicorn.Config(
            site,
            loop="asyncio",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            ws_max_size=_LARGEST_MESSAGE,
            timeout_graceful_shutdown=_GOODBYE,
        )
        self._server = _Server(config, self._settled.set, self._ctx.beat, site.hang_up)
        if not self._stopping:
            self._server.run(sockets=[self._socket])

    def _failed(self, exc: BaseException) -> None:
        if self._settled.is_set():
            error = exc if isinstance(exc, Exception) else RuntimeError(f"it ended with {exc!r}")
            self._ctx.fail(error)
        else:
            self._error = exc


class _Server(uvicorn.Server):
    """Uvicorn's server, which says when it answers, that it lives, and when it ends."""

    def __init__(
        self,
        config: uvicorn.Config,
        answers: Callable[[], object],
        lives: Callable[[], object],
        ends: Callable[[], object],
    ) -> None:
        super().__init__(config)
        self._answers = answers
        self._lives = lives
        self._ends = ends

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().serve(sockets)
        finally:  # a loop that dies leaves connections open, and browsers waiting
            for connection in list(self.server_state.connections):
                connection.transport.abort()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._answers()

    async def on_tick(self, counter: int) -> bool:
        self._lives()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ends()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if _is_v6(host) else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as exc:
        raise _explained(exc, host, port) from exc


def _is_v6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6  # noqa: PLR2004 - the version's name
    except ValueError:
        return False


def _explained(exc: OSError, host: str, port: int) -> OSError:
    if exc.errno == errno.EADDRINUSE:
        sentence = (
            f"port {port} of {host} is in use, perhaps by another livebot: "
            "choose another with --port or web.port; 0 takes any free one"
        )
    elif exc.errno == errno.EACCES:
        sentence = f"port {port} is not for everybody: choose one from 1024 on, or 0"
    else:
        sentence = (
            f"cannot listen on {host} (web.host, --host): {exc.strerror or exc}; "
            "127.0.0.1 is this machine, 0.0.0.0 every address it has"
        )
    return OSError(exc.errno, sentence)
