"""What the tests of the web server share: a site behind a gate, served, and asked by hand."""

import contextlib
import http.client
import json

from livebot.web.security import Access, Gate, Refusals
from livebot.web.server import WebServer
from threadkit import Backoff, ComponentManager, Intensity


class EchoSite:
    """Answers everything with what it was asked; a WebSocket gets it as its only message."""

    def __init__(self, access=None):
        self.refusals = Refusals()
        self.gate = Gate(self.echo, access or Access.of("127.0.0.1"), self.refusals)
        self.ended = 0

    async def __call__(self, scope, receive, send):
        await self.gate(scope, receive, send)

    def hang_up(self):
        self.ended += 1

    async def echo(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": scope["path"]})
            await send({"type": "websocket.close"})
        else:
            message = await receive()
            seen = [scope["path"], scope["query_string"].decode(), message["body"].decode()]
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


@contextlib.contextmanager
def serving(site, **options):
    """A web server under a manager, restarted quickly; gives the server and its manager."""
    server = WebServer(lambda: site, **options)
    manager = ComponentManager("web", intensity=Intensity(100, per=60))
    manager.add("server", server, backoff=Backoff(0.01, 0.01), start_timeout=30)
    with manager:
        yield server, manager


def ask(server, path="/", *, method="GET", host=None, body=None, headers=()):
    """One request: status, headers, body."""
    address = server.url.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(address, timeout=20)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", address if host is None else host)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        for name, value in dict(headers).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
