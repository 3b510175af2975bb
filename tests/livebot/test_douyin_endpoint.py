"""Where a feed is reached: fixed addresses, and commands that print one."""

from __future__ import annotations

import sys
import threading

import pytest

from livebot.sources import (
    Backoff,
    DouyinSource,
    Endpoint,
    EndpointCommand,
    FeedOptions,
    FeedState,
    Simulator,
)
from livebot.sources.endpoint import with_query
from livebot.sources.generator import Crowd

WITHIN = 10.0  # seconds until a real wait of these tests counts as failed


def command(code, **options):
    return EndpointCommand([sys.executable, "-c", code], **options)


def test_a_command_prints_the_address_and_headers_as_lines():
    endpoint = command("print('wss://h/p?a=1\\nCookie: ttwid=1; b=2\\n\\nUser-Agent:  x  ')")()
    assert endpoint == Endpoint("wss://h/p?a=1", {"Cookie": "ttwid=1; b=2", "User-Agent": "x"})


def test_a_command_prints_json():
    code = "import json; print(json.dumps({'url': 'ws://h/', 'headers': {'Cookie': 'a'}}))"
    assert command(code)() == Endpoint("ws://h/", {"Cookie": "a"})


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("", "url must begin with ws://"),
        ("print('https://secret/?token=1')", "url must begin with ws://"),
        ("print('ws://h/\\nsecret')", "no 'Name: value' header"),
        ("print('{')", "printed broken JSON"),
        ("print('{\"url\": 1}')", "an object with url and headers"),
        ("import sys; sys.exit('cannot sign')", "failed with code 1: cannot sign"),
        ("import sys; sys.exit(3)", "failed with code 3: no message"),
        ("print('ws://h/\\nCookie: a\\0b')", "header 'Cookie' must be one line"),
    ],
)
def test_what_else_a_command_does_is_a_clear_error_without_its_output(code, complaint):
    with pytest.raises(ValueError) as caught:
        command(code)()
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "token" not in str(caught.value)
    assert "secret'" not in str(caught.value)


def test_a_command_that_hangs_is_killed():
    with pytest.raises(ValueError, match=r"took longer than 0\.2 s"):
        command("import time; time.sleep(60)", timeout=0.2)()


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no-such-signer cannot be run"):
        EndpointCommand(["no-such-signer"])()


@pytest.mark.parametrize("wrong", [[], "print-url --room 1"])
def test_a_command_is_a_list_of_words(wrong):
    with pytest.raises(ValueError, match="command must be a program and its arguments"):
        EndpointCommand(wrong)


def test_a_feed_asks_its_command_before_each_connection(tmp_path):
    simulator = Simulator(Crowd(10))
    asked = tmp_path / "asked"
    url = simulator.start()
    code = f"open({str(asked)!r}, 'a').write('x'); print({url!r})"
    states = []
    twice = threading.Event()

    def on_state(state, sentence):
        states.append(state)
        if state is FeedState.CONNECTED:
            if states.count(FeedState.CONNECTED) == 2:
                twice.set()
            else:
                simulator.cut()

    source = DouyinSource(
        command(code),
        emit=print_nothing,
        on_state=on_state,
        options=FeedOptions(backoff=Backoff(0.01, 0.05)),
    )
    source.start()
    try:
        assert twice.wait(WITHIN)
    finally:
        source.stop()
        simulator.stop()
    assert asked.read_text() == "xx"


def print_nothing(event):
    pass


def test_stop_kills_a_command_that_runs(tmp_path):
    runs = threading.Event()
    hanging = command("import time; time.sleep(60)")
    popen_run = hanging._run

    def run(program):
        runs.set()
        return popen_run(program)

    hanging._run = run
    source = DouyinSource(hanging, emit=print_nothing)
    source.start()
    assert runs.wait(WITHIN)
    while hanging._process is None:  # from the call to the running process: a moment
        threading.Event().wait(0.001)
    source.stop()
    assert source.state is FeedState.STOPPED
    assert not [t for t in threading.enumerate() if t.name.startswith("livebot-douyin")]


def test_headers_beside_a_callable_are_refused():
    with pytest.raises(ValueError, match="headers belong to the Endpoint"):
        DouyinSource(command(""), headers={"Cookie": "a"}, emit=print_nothing)


def test_an_endpoint_is_shown_without_its_secrets():
    endpoint = Endpoint("wss://user:pw@host:444/path?signature=s")
    assert endpoint.shown == "wss://host:444/path"


def test_parameters_are_replaced_and_every_other_byte_stays():
    url = "wss://h/p?signature=a%2Fb%3D&cursor=old&cursorx=1"
    assert with_query(url, cursor="n|w", internal_ext="i") == (
        "wss://h/p?signature=a%2Fb%3D&cursor=n%7Cw&cursorx=1&internal_ext=i"
    )
    assert with_query("ws://h/p", cursor="c") == "ws://h/p?cursor=c"
