"""The web server as a component: it answers, ends, and comes back."""

import asyncio
import contextlib
import http.client
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from livebot.web.server import WebServer
from threadkit import ComponentManager, ComponentState, LifecycleError
from web_server import EchoSite, ask, serving


def test_it_answers_from_start_to_stop_and_gives_the_port_back():
    site = EchoSite()
    with serving(site) as (server, _):
        assert ask(server, "/page")[0] == 200
        host, port = server.url.removeprefix("http://").rstrip("/").split(":")
    assert site.ended == 1
    with socket.create_server((host, int(port))):
        pass


def test_a_taken_port_is_told_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=rf"port {port} of 127\.0\.0\.1 is in use.*--port"):
            WebServer(EchoSite, port=port).listen()


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host"])
def test_an_address_of_another_machine_is_told_with_what_to_do(host):
    with pytest.raises(OSError, match=f"cannot listen on {host}.*0.0.0.0"):
        WebServer(EchoSite, host=host).listen()


def test_it_listens_before_it_starts_so_that_a_browser_may_come_early():
    site = EchoSite()
    server = WebServer(lambda: site)
    url = server.listen()
    assert server.listen() == url, "once"
    with socket.create_connection(("127.0.0.1", int(url.rstrip("/").rsplit(":")[-1])), 10):
        pass
    server._close()


@pytest.mark.parametrize("made_in_time", [True, False])
def test_a_stop_does_not_wait_for_ever_for_a_site_that_is_being_made(made_in_time):
    """As when somebody presses Ctrl-C while NiceGUI is imported on a busy machine."""
    begun, go_on, left = threading.Event(), threading.Event(), threading.Event()
    site = EchoSite()

    def make():
        begun.set()
        assert go_on.wait(30)
        left.set()
        return site

    manager = ComponentManager("web")
    manager.add("server", WebServer(make), start_timeout=60)
    with ThreadPoolExecutor(1) as other:
        start = other.submit(manager.start)
        assert begun.wait(30)
        if made_in_time:
            manager.subscribe(lambda event: event.after.value == "stopping" and go_on.set())
        report = manager.stop(60 if made_in_time else 1)
        assert isinstance(start.exception(30), LifecycleError), "it was stopped while it started"
    assert left.is_set() == made_in_time
    go_on.set()
    [server] = report.components
    assert server.state is ComponentState.STOPPED, report
    for thread in threading.enumerate():
        if thread.name == "livebot-web":
            thread.join(30)
    assert made_in_time or site.ended == 0, "what was left behind is not served"


def test_ipv6_is_served_too():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(EchoSite(), host="::1") as (server, _):
        assert server.url.startswith("http://[::1]:")
        assert ask(server)[0] == 200


class DyingSite(EchoSite):
    """Ends the loop that serves it, when asked for /die."""

    async def echo(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/die":
            asyncio.get_running_loop().call_soon(sys.exit, "dies")
            await asyncio.sleep(60)
        await super().echo(scope, receive, send)


def test_a_server_that_dies_is_brought_back_at_the_same_port():
    with serving(DyingSite()) as (server, manager):
        url = server.url
        again = threading.Event()
        manager.subscribe(
            lambda event: event.generation == 2 and event.after.is_ready and again.set()
        )
        _ask_in_vain(server, "/die")
        assert again.wait(20)
        assert ask(server)[0] == 200
        assert server.url == url
        report = manager.report().components[0]
        assert (report.restarts, report.generation) == (1, 2)
        assert "dies" in report.error


class HangingSite(EchoSite):
    """Blocks the loop until the test lets go, when asked for /hang."""

    def __init__(self):
        super().__init__()
        self.hangs = threading.Event()
        self.go_on = threading.Event()

    async def echo(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/hang":
            self.hangs.set()
            self.go_on.wait(30)
        await super().echo(scope, receive, send)


def test_a_server_that_hangs_is_replaced_and_leaves_when_it_wakes():
    site = HangingSite()
    server = WebServer(lambda: site)
    manager = ComponentManager("web")
    manager.add("server", server, start_timeout=30, stop_timeout=0.1)
    with manager:
        asking = threading.Thread(target=_ask_in_vain, args=(server, "/hang"))
        asking.start()
        assert site.hangs.wait(20)
        assert manager.restart("server", timeout=20)
        assert ask(server)[0] == 200
        assert manager.report().components[0].state is ComponentState.RUNNING
        site.go_on.set()
        asking.join(20)
    threads = [thread for thread in threading.enumerate() if thread.name == "livebot-web"]
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_a_loop_that_hangs_is_found_by_its_missing_beats_and_replaced():
    site = HangingSite()
    server = WebServer(lambda: site)
    manager = ComponentManager("web")
    manager.add("server", server, start_timeout=30, stop_timeout=0.1, watchdog=1.0)
    again = threading.Event()
    manager.subscribe(lambda event: event.generation == 2 and event.after.is_ready and again.set())
    with manager:
        ctx = server._run._ctx
        first, _ = ctx.last_beat
        assert any(ask(server) and ctx.last_beat[0] > first for _ in range(10_000)), "it lives"
        asking = threading.Thread(target=_ask_in_vain, args=(server, "/hang"))
        asking.start()
        assert site.hangs.wait(20)
        assert again.wait(20)
        assert ask(server)[0] == 200
        site.go_on.set()
        asking.join(20)
    for thread in threading.enumerate():
        if thread.name == "livebot-web":
            thread.join(20)


def _ask_in_vain(server, path):
    with contextlib.suppress(OSError, http.client.HTTPException):
        ask(server, path)
