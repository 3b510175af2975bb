"""Who is let in by the gate: each refusal with its status, its sentence and its count."""

import asyncio
import json
import socket

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from livebot.web.security import Access, Gate, Refusals
from web_server import EchoSite, ask, serving

TOKEN = "a token of the right length"


@pytest.fixture(scope="module")
def private():
    """On the loopback, where looking needs no token."""
    site = EchoSite(Access.of("127.0.0.1", token=TOKEN))
    with serving(site) as (server, _):
        server.site = site
        yield server


@pytest.fixture(scope="module")
def public():
    """For everybody who knows the token."""
    site = EchoSite(Access.of("0.0.0.0", token=TOKEN, names=["bot.example"]))
    with serving(site) as (server, _):
        server.site = site
        yield server


def refused(server, status, reason, *arguments, **options):
    """Assert that a request is refused so, told so and counted so; the sentence."""
    before = server.site.refusals.statistics().get(reason, 0)
    answered, headers, body = ask(server, *arguments, **options)
    told = json.loads(body)
    assert (answered, told["reason"]) == (status, reason)
    assert headers["content-type"] == "application/json"
    assert server.site.refusals.statistics()[reason] == before + 1
    return told["error"]


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:1", "127.9.9.9", "[::1]:80", "LOCALHOST."]
)
def test_this_machine_may_be_called_by_any_name_of_its_own(private, host):
    assert ask(private, host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1", "", "a@localhost",
     "localhost:port", "localhost/x", "[::1", "0.0.0.0"],
)  # fmt: skip
def test_a_foreign_host_name_is_refused(private, host):
    assert "web.names" in refused(private, 400, "host", host=host)


def test_the_host_named_twice_is_refused(private):
    address = private.url.removeprefix("http://").rstrip("/")
    assert refused(private, 400, "host", headers={"host": "localhost"}, host=address)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "garbage"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_foreign_origin_is_refused(private, method, origin):
    headers = {"Origin": origin, "X-Livebot-Token": Access.of("h", token=TOKEN).control_token}
    refused(private, 403, "origin", "/api/controls/mute", method=method, headers=headers)


def test_our_own_origin_is_welcome(private):
    assert ask(private, headers={"Origin": private.url.rstrip("/")})[0] == 200


@pytest.mark.parametrize(
    ("method", "site", "mode", "status"),
    [
        ("GET", "cross-site", "navigate", 200),  # somebody followed a link
        ("GET", "cross-site", "no-cors", 403),  # an image or script of another site
        ("POST", "cross-site", "navigate", 403),  # a form of another site
        ("POST", "same-site", "cors", 403),  # another port of this machine
        ("GET", "same-origin", "cors", 200),
        ("GET", "none", "navigate", 200),
    ],
)
def test_a_browser_that_names_no_origin_is_judged_by_where_it_comes_from(
    private, method, site, mode, status
):
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    assert ask(private, method=method, headers=headers)[0] == status


@pytest.mark.parametrize("host", ["bot.example", "bot.example:8790", "192.168.1.5", "localhost"])
def test_a_public_server_knows_its_names_and_addresses(public, host):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert ask(public, host=host, headers=headers)[0] == 200


def test_a_public_server_refuses_foreign_names(public):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    refused(public, 400, "host", host="evil.example", headers=headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer ключ".encode().decode("latin-1")},
        {"Cookie": f"livebot-80={TOKEN}"},
        {"Cookie": 'livebot-80=wrong; =; "x'},
    ],
)
@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/overlay", "/api/state"])
def test_without_the_token_nothing_of_a_public_server_is_seen(public, path, headers):
    sentence = refused(public, 401, "token", path, host="bot.example", headers=headers)
    assert "?token=" in sentence
    assert TOKEN not in sentence


def test_a_wrong_token_in_the_address_is_refused_even_on_this_machine(private):
    refused(private, 401, "token", "/?token=wrong")


def test_the_token_is_shown_once_and_kept_as_a_cookie(public):
    page = {"Accept": "text/html,*/*"}
    path = "/overlay?font=serif&token=" + TOKEN.replace(" ", "%20")
    status, headers, _ = ask(public, path, host="bot.example:90", headers=page)
    assert (status, headers["location"]) == (303, "/overlay?font=serif")
    cookie, *rules = headers["set-cookie"].split("; ")
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=Lax"} <= set(rules)
    again = {"Cookie": cookie, **page}
    assert ask(public, "/overlay", host="bot.example:90", headers=again)[0] == 200
    assert ask(public, "/overlay", host="bot.example:91", headers=again)[0] == 401, "another bot's"


def test_a_script_may_send_the_token_in_the_address_and_nobody_behind_sees_it(public):
    path = f"/api/state?a=1&token={TOKEN.replace(' ', '+')}"
    status, _, body = ask(public, path)
    assert status == 200
    assert json.loads(body)[:2] == ["/api/state", "a=1"]


def test_the_way_back_from_the_token_does_not_lead_to_another_site(public):
    path = f"//evil.example/?token={TOKEN.replace(' ', '+')}"
    status, headers, _ = ask(public, path, headers={"Accept": "text/html"})
    assert (status, headers["location"]) == (303, "/")


@pytest.mark.parametrize("path", ["/%5Cevil.example/", "/%0D%0AX-Evil:%201", "/%E4%BD%A0%E5%A5%BD"])
def test_the_way_back_from_the_token_is_the_address_as_it_was_written(public, path):
    token = TOKEN.replace(" ", "+")
    status, headers, _ = ask(public, f"{path}?token={token}", headers={"Accept": "text/html"})
    assert status == 303
    assert headers["location"] == path.replace(":", "%3A")
    assert "x-evil" not in headers


@pytest.mark.parametrize("other", ['seen={"a": "b"}', "two words=1", "bare", "[x]=1"])
def test_cookies_of_other_programs_do_not_hide_ours(public, other):
    cookie = Access.of("0.0.0.0", token=TOKEN).cookie
    sent = {"Cookie": f"{other}; livebot-90={cookie}; {other}"}
    assert ask(public, host="bot.example:90", headers=sent)[0] == 200


@pytest.mark.parametrize("token", [None, "", "wrong"])
def test_a_control_without_its_token_is_refused(private, token):
    headers = {} if token is None else {"X-Livebot-Token": token}
    sentence = refused(
        private, 403, "control token", "/api/controls/mute", method="POST", headers=headers
    )
    assert "GET /api/token" in sentence


def test_a_control_with_its_token_is_let_in(private):
    access = Access.of("127.0.0.1", token=TOKEN)
    for headers in (
        {"X-Livebot-Token": access.control_token},
        {"Authorization": f"Bearer {TOKEN}"},
    ):
        status, _, body = ask(
            private, "/api/controls/say", method="POST", headers=headers, body=b'{"text": "hi"}'
        )
        assert (status, json.loads(body)[2]) == (200, '{"text": "hi"}')


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(private):
    refused(
        private, 413, "body too large", "/x", method="POST", headers={"Content-Length": "65537"}
    )


def test_a_body_that_does_not_say_its_size_is_refused_when_it_becomes_too_large(private):
    address = ("127.0.0.1", int(private.url.rstrip("/").rsplit(":")[-1]))
    before = private.site.refusals.statistics()["body too large"]
    with socket.create_connection(address, 20) as connection:
        connection.sendall(
            b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(5):
            connection.sendall(b"4000\r\n" + bytes(0x4000) + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    assert private.site.refusals.statistics()["body too large"] == before + 1


def test_a_body_that_is_cut_off_is_no_request():
    reached = []

    async def behind(scope, receive, send):
        reached.append(await receive())

    refusals = Refusals()
    gate = Gate(behind, Access.of("127.0.0.1", token=TOKEN), refusals)
    came = [
        {"type": "http.request", "body": b'{"muted": true}', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent = []

    async def receive():
        return came.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/x", "query_string": b"",
             "headers": [(b"host", b"localhost")]}  # fmt: skip
    asyncio.run(gate(scope, receive, send))
    assert not reached
    assert refusals.statistics() == {"body cut off": 1}


def test_a_body_in_pieces_arrives_whole(private):
    address = ("127.0.0.1", int(private.url.rstrip("/").rsplit(":")[-1]))
    with socket.create_connection(address, 20) as connection:
        connection.sendall(
            b"POST /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        connection.sendall(b"2\r\nde\r\n0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
    assert b'["/x", "", "abcde"]' in answer


def test_a_websocket_passes_the_same_rules(public):
    url = public.url.replace("http", "ws") + "socket"
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    with connect(url, additional_headers=bearer) as own:
        assert own.recv(10) == "/socket"
    with pytest.raises(InvalidStatus) as foreign:
        connect(url, additional_headers=bearer, origin="http://evil.example")
    assert foreign.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as nobody:
        connect(url)
    assert nobody.value.response.status_code == 401
    assert b"?token=" in nobody.value.response.body


def test_every_answer_tells_the_browser_to_be_careful(private):
    for _, headers, _ in (ask(private), ask(private, host="evil.example")):
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'self'" in policy
        assert "http" not in policy, "nothing comes from elsewhere"


def test_a_server_reached_through_a_proxy_is_not_private():
    assert Access.of("127.0.0.1").is_private
    assert Access.of("localhost").is_private
    assert not Access.of("127.0.0.1", names=["bot.example"]).is_private
    assert not Access.of("192.168.1.5").is_private
    assert not Access.of("bot.lan").is_private


def test_made_up_tokens_differ_and_nothing_shows_them():
    first, second = Access.of("0.0.0.0"), Access.of("0.0.0.0")
    assert first.token != second.token
    assert len(first.token) >= 43, "256 bits"
    assert first.token not in repr(first)
    assert first.token not in (first.cookie, first.control_token)


def test_a_socket_of_a_server_without_answers_to_handshakes_is_closed():
    """Servers may lack the extension that lets a handshake be answered with a status."""
    sent = []

    async def send(message):
        sent.append(message)

    refusals = Refusals()
    gate = Gate(None, Access.of("127.0.0.1"), refusals)
    scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": []}
    with pytest.raises(StopIteration):
        gate(scope, None, send).__await__().send(None)
    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert refusals.statistics() == {"host": 1}
