"""Who is let in: host names, origins, tokens, sizes; and how often somebody was not."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import secrets
import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.requests import cookie_parser

from threadkit import REAL, Runtime

__all__ = ["CONTROL_HEADER", "Access", "Gate", "Refusal", "Refusals"]

CONTROL_HEADER = "X-Livebot-Token"

_LARGEST_BODY = 64 * 1024  # bytes; the longest sentence to say is a few hundred
_SAFE = {"GET", "HEAD", "OPTIONS"}

# What NiceGUI's pages need: their templates are compiled in the browser. Nothing comes from afar.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Refusal(Exception):
    """Raised when a request is not answered; carries the status and the sentence to send."""

    def __init__(self, status: HTTPStatus, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason
        self.sentence = sentence


class Refusals:
    """Counts refused requests by reason.

    Thread safety: any thread.
    """

    def __init__(self, runtime: Runtime = REAL) -> None:
        # Guards the counts; held for an addition or a copy.
        self._lock = runtime.lock()
        self._counts: Counter[str] = Counter()

    def count(self, reason: str) -> None:
        """One more request was refused."""
        with self._lock:
            self._counts[reason] += 1

    def statistics(self) -> Mapping[str, int]:
        """How many requests were refused so far, by reason."""
        with self._lock:
            return dict(self._counts)


@dataclass(frozen=True)
class Access:
    """Who may come in.

    Attributes:
        host: The address that is listened on.
        token: The secret; made up where none was given.
        names: Names for the Host header beside those of the address.
        is_private: Whether only this machine can come, so that looking needs no token.
    """

    host: str
    token: str
    names: frozenset[str]
    is_private: bool

    @classmethod
    def of(cls, host: str, *, token: str | None = None, names: Iterable[str] = ()) -> Access:
        """The rules for an address.

        One with `names` is reached through something else, such as a reverse proxy, so it is not
        private even on the loopback.
        """
        names = frozenset(_name(name) for name in names)
        private = _is_loopback(host) and not names
        return cls(host, token or secrets.token_urlsafe(32), names, private)

    @property
    def cookie(self) -> str:
        """What a browser keeps after it has shown the token; not the token itself."""
        return self._derived("cookie")

    @property
    def control_token(self) -> str:
        """What a page of ours sends along to prove that it is one."""
        return self._derived("controls")

    def _derived(self, purpose: str) -> str:
        return hmac.new(self.token.encode(), purpose.encode(), hashlib.sha256).hexdigest()

    def knows(self, name: str) -> bool:
        """Whether a Host header may say this.

        A page of an attacker can point its own name at this machine (DNS rebinding), so names are
        refused unless they are ours. An address cannot be pointed anywhere.
        """
        if name == "localhost" or name in self.names or name == _name(self.host):
            return True
        if self.is_private or _is_loopback(name):
            return _is_loopback(name)
        own = socket.gethostname().lower()
        return _is_address(name) or name in {own, f"{own}.local"}

    def __repr__(self) -> str:
        return f"<Access to {self.host}: {'this machine' if self.is_private else 'with a token'}>"


class Gate:
    """An ASGI application around another: nothing reaches it that is not let in.

    In this order: the Host header must be one of ours (400), the request must not come from a page
    of somebody else (403), it must know the token unless only this machine can ask (401), its body
    must not be too large (413), and whatever changes something under /api must carry the control
    token (403). WebSockets pass the same rules. Each refusal is counted, and every answer gets the
    headers that keep browsers from guessing, framing and telling.

    Args:
        app: What stands behind.
        access: The rules.
        refusals: Where refusals are counted.
    """

    def __init__(self, app: Any, access: Access, refusals: Refusals) -> None:
        self._app = app
        self._access = access
        self._refusals = refusals

    async def __call__(self, scope: Any, receive: Any, send: Any, /) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        try:
            request = _Request(scope)
            shown = self._admit(request)
            if scope["type"] == "http":
                receive = await _with_body(request, receive)
        except Refusal as refusal:
            self._refusals.count(refusal.reason)
            await _refuse(refusal, scope, send)
            return
        if shown and request.wants_page:
            await _let_in(self._access, request, send)
            return
        await self._app(scope, receive, _with_headers(send))

    def _admit(self, request: _Request) -> bool:
        """Whether a right token came in the address; it is taken out of it."""
        self._check_host(request)
        _check_origin(request)
        shown = request.take_token()
        if shown is not None and not _same(shown, self._access.token):
            raise _wrong_token()
        if shown is None and not self._access.is_private:
            self._check_token(request)
        if not request.is_safe and request.path.startswith("/api/"):
            self._check_control_token(request)
        return shown is not None

    def _check_host(self, request: _Request) -> None:
        if not self._access.knows(_name(request.host)):
            raise Refusal(
                HTTPStatus.BAD_REQUEST,
                "host",
                f"this is not {request.host[:100]!r}: use the address that livebot printed, "
                "or add the name to web.names",
            )

    def _check_token(self, request: _Request) -> None:
        cookie = request.cookie(_cookie_name(request))
        if cookie is not None and _same(cookie, self._access.cookie):
            return
        if request.bearer is None or not _same(request.bearer, self._access.token):
            raise _wrong_token()

    def _check_control_token(self, request: _Request) -> None:
        given = request.header(CONTROL_HEADER)
        if given is not None and _same(given, self._access.control_token):
            return
        if request.bearer is not None and _same(request.bearer, self._access.token):
            return
        raise Refusal(
            HTTPStatus.FORBIDDEN,
            "control token",
            f"controls need the header {CONTROL_HEADER} with what GET /api/token says",
        )


class _Request:
    """What the rules look at of one request or WebSocket handshake."""

    def __init__(self, scope: Any) -> None:
        self.scope = scope
        self._headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            self._headers.setdefault(name.decode("latin-1").lower(), []).append(
                value.decode("latin-1")
            )
        self.path: str = scope["path"]
        self.method: str = scope.get("method", "WEBSOCKET")
        self.is_safe = self.method in _SAFE

    def header(self, name: str) -> str | None:
        """The header's value, None where there is none. Of two, no rule takes what this gives."""
        values = self._headers.get(name.lower())
        return None if values is None else ", ".join(values)

    @property
    def host(self) -> str:
        return self.header("host") or ""

    @property
    def bearer(self) -> str | None:
        scheme, _, token = (self.header("authorization") or "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None

    @property
    def wants_page(self) -> bool:
        return self.method == "GET" and "text/html" in (self.header("accept") or "")

    def cookie(self, name: str) -> str | None:
        """Its value. Read leniently: other programs of this host set cookies of their own ways."""
        return cookie_parser(self.header("cookie") or "").get(name)

    def take_token(self) -> str | None:
        """Take `token` out of the query, so that nobody behind the gate sees it."""
        sent: str = self.scope["query_string"].decode("latin-1")
        query = parse_qsl(sent, keep_blank_values=True)
        tokens = [value for key, value in query if key == "token"]
        if not tokens:
            return None
        rest = urlencode([(key, value) for key, value in query if key != "token"])
        self.scope["query_string"] = rest.encode("latin-1")
        return tokens[0]


def _check_origin(request: _Request) -> None:
    """Refuse what a page of somebody else asks for. What is no browser says nothing of a page."""
    origin = request.header("origin")
    if origin is not None:
        foreign = origin.lower().partition("://")[2] != request.host.lower()
    else:
        site = request.header("sec-fetch-site") or "none"
        followed_link = request.is_safe and request.header("sec-fetch-mode") == "navigate"
        foreign = site not in {"none", "same-origin"} and not followed_link
    if foreign:
        raise Refusal(
            HTTPStatus.FORBIDDEN,
            "origin",
            "pages of other sites may not use this one; open it at its own address",
        )


def _wrong_token() -> Refusal:
    return Refusal(
        HTTPStatus.UNAUTHORIZED,
        "token",
        "the token is missing or wrong: open the link that livebot printed (?token=...), "
        "or send Authorization: Bearer TOKEN",
    )


async def _with_body(request: _Request, receive: Any) -> Any:
    """The request's body, read whole before anybody behind sees the request."""
    length = request.header("content-length") or "0"
    if not length.isdecimal() or int(length) > _LARGEST_BODY:
        raise _too_large()
    if request.is_safe:
        return receive
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":  # it hung up: what came is not what it meant
            raise _cut_off()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _LARGEST_BODY:
            raise _too_large()
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Any:
        return waiting.pop() if waiting else await receive()

    return replay


def _too_large() -> Refusal:
    sentence = f"the body may have {_LARGEST_BODY} bytes at most"
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body too large", sentence)


def _cut_off() -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, "body cut off", "the body ended before it was complete")


async def _refuse(refusal: Refusal, scope: Any, send: Any) -> None:
    body = json.dumps({"error": refusal.sentence, "reason": refusal.reason}).encode()
    headers = {**_HEADERS, "content-type": "application/json", "content-length": str(len(body))}
    if refusal.status is HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if refusal.status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        headers["connection"] = "close"  # the rest of the body is not read
    start = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        start = "websocket.http.response"
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": f"{start}.start", "status": int(refusal.status), "headers": pairs})
    await send({"type": f"{start}.body", "body": body})


async def _let_in(access: Access, request: _Request, send: Any) -> None:
    """Keep the token in a cookie, and lead to the address without it: addresses are remembered."""
    query = request.scope["query_string"].decode("latin-1")
    # Quoted, as it came: no header ends in it, and no browser takes a \ in it for a slash.
    target = quote(request.path) + (f"?{query}" if query else "")
    if target.startswith("//"):
        target = "/"  # would lead to another site
    cookie = f"{_cookie_name(request)}={access.cookie}; Path=/; HttpOnly; SameSite=Lax"
    headers = {**_HEADERS, "location": target, "set-cookie": cookie, "content-length": "0"}
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 303, "headers": pairs})
    await send({"type": "http.response.body", "body": b""})


def _with_headers(send: Any) -> Any:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            headers += [
                (name.encode(), value.encode())
                for name, value in _HEADERS.items()
                if name.encode() not in present
            ]
            message = {**message, "headers": headers}
        await send(message)

    return sending


def _same(given: str, wanted: str) -> bool:
    """Whether two secrets are equal, without telling by the time it takes how far they are."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def _cookie_name(request: _Request) -> str:
    """Cookies do not tell ports apart, and a machine may have several bots."""
    return f"livebot-{urlsplit(f'//{request.host}').port or 80}"


def _name(host: str) -> str:
    """The name or address in a Host header, without port, brackets and the dot at its end."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # one that is no number raises
    except ValueError:
        return ""
    return "" if parts.path or parts.username else (parts.hostname or "").rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)
