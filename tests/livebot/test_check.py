"""`livebot check`: every part tried for real, and told when it does not work."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import wave
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.server import serve

from livebot import check
from livebot.check import Plan, checks
from livebot.messages import Chat, User
from livebot.playback import SinkError, sinks
from livebot.sources import Endpoint, EndpointCommand, Simulator
from livebot.speech import EspeakEngine


@pytest.fixture(autouse=True)
def _short_sentence(monkeypatch):
    monkeypatch.setattr(check, "_SENTENCE", "你好")


ESPEAK = {"espeak-ng": EspeakEngine}


def findings(plan):
    return {finding.name: finding for finding in checks(plan)}


def test_without_a_device_the_file_is_checked(tmp_path):
    path = tmp_path / "out.wav"
    found = findings(Plan(wav=path))
    assert {name: finding.works for name, finding in found.items()} == {
        "voices of pyttsx3": True,
        "engine pyttsx3": True,
        "voices of espeak": True,
        "engine espeak": True,
        "test tone": True,
        "spoken sentence": True,
    }
    assert "sit/cmn" in found["voices of espeak"].facts
    with wave.open(str(path)) as file:
        heard = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    assert np.count_nonzero(np.abs(heard) > 1000) > 0.3 * 22050


@pytest.mark.audio
def test_a_device_is_heard(listener):
    found = findings(Plan(engines=ESPEAK))
    assert found["sound devices"].works
    assert found["test tone"].works
    assert found["spoken sentence"].works
    listener.wait_for(lambda: np.abs(listener.heard()).max() > 1000)


def test_a_machine_without_devices_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(check, "output_devices", lambda refresh: [])

    def refuse(self, *args):
        raise SinkError("no device")

    monkeypatch.setattr(check.PortAudioSink, "open", refuse)
    monkeypatch.chdir(tmp_path)
    spoken_before = tmp_path / "livebot-audio.wav"
    spoken_before.write_bytes(b"an evening")
    found = findings(Plan(engines=ESPEAK))
    assert not found["sound devices"].works
    assert "speaks into a file" in found["sound devices"].mend
    assert not found["sound"].works
    assert "FAILS" in str(found["sound"])
    assert spoken_before.read_bytes() == b"an evening"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only where there is a full device")
def test_a_file_on_a_full_disk_does_not_work(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = findings(Plan(wav=Path("/dev/full"), engines=ESPEAK))
    assert not found["sound"].works
    assert "make room" in found["sound"].mend
    assert "test tone" not in found
    assert not list(tmp_path.iterdir())


def test_an_engine_that_fails_in_a_way_of_its_own_is_a_finding(tmp_path):
    class Broken(EspeakEngine):
        def voices(self):
            raise OSError("cannot load the library")

    found = findings(Plan(wav=tmp_path / "out.wav", engines={"broken": Broken, **ESPEAK}))
    assert not found["engine broken"].works
    assert "cannot load the library" in found["engine broken"].facts
    assert found["spoken sentence"].works


def test_an_address_that_cannot_be_told_is_a_finding():
    found = check._feed(EndpointCommand([sys.executable, "-c", "raise SystemExit(3)"]), "douyin")
    assert not found.works
    assert "failed with code 3" in found.facts
    assert "feed.command" in found.mend


@pytest.mark.audio
def test_a_sound_server_that_froze_is_a_finding(mortal_server, monkeypatch):
    monkeypatch.setattr(sinks, "_OPEN_TIMEOUT", 0.5)
    mortal_server.signal(signal.SIGSTOP)
    found = findings(Plan(engines={}))
    assert not found["sound devices"].works
    assert "no answer in 0.5 s" in found["sound devices"].facts
    assert not found["sound"].works


def test_an_engine_that_does_not_work_says_why_and_another_speaks(faulty_engine, tmp_path):
    engines = {"broken": lambda: faulty_engine(command=["/nowhere/at/all"]), **ESPEAK}
    found = findings(Plan(wav=tmp_path / "out.wav", engines=engines))
    assert not found["engine broken"].works
    assert "cannot start /nowhere" in found["engine broken"].facts
    assert found["spoken sentence"].works


def test_without_any_engine_the_sentence_fails(faulty_engine, tmp_path):
    engines = {"broken": lambda: faulty_engine(command=["/nowhere/at/all"])}
    found = findings(Plan(wav=tmp_path / "out.wav", engines=engines))
    assert found["test tone"].works
    assert not found["sound"].works


@pytest.fixture
def model_server():
    """An OpenAI-compatible list of models behind a key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.headers["Authorization"] == "Bearer secret"
            self.send_response(200 if known else 401)
            self.end_headers()
            if known:
                self.wfile.write(json.dumps({"data": [{"id": "small"}]}).encode())

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("key", "model", "works", "told"),
    [
        ("secret", "small", True, "answers and has small"),
        ("secret", "large", False, "does not know 'large'"),
        ("wrong", "small", False, "answers 401"),
    ],
)
def test_the_model_s_endpoint(model_server, key, model, works, told):
    found = check._model(model_server, key, model)
    assert (found.works, told in found.facts) == (works, True)
    assert "wrong" not in str(found), "the key is not shown"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "file:///etc/passwd", "not an address"])
def test_an_endpoint_that_is_not_there(url):
    found = check._model(url, None, "small")
    assert not found.works
    assert found.mend


@pytest.mark.parametrize(
    "rubbish", [b"", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n["]
)
def test_an_endpoint_that_talks_rubbish_is_a_finding(rubbish):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(rubbish)

        thread = threading.Thread(target=answer)
        thread.start()
        found = check._model(f"http://127.0.0.1:{server.getsockname()[1]}", None, "small")
        thread.join()
    assert not found.works


def test_a_relay_is_asked_in_its_own_language():
    chat = {"method": "WebcastChatMessage", "common": {"msgId": "1"}, "content": "你好"}

    def send(connection):
        connection.send(json.dumps(chat))
        for _ in connection:
            pass

    with serve(send, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        found = check._feed(lambda: Endpoint(url), "douyin_live")
        server.shutdown()
        thread.join()
    assert found.works, found
    assert "first: chat" in found.facts


def test_a_room_that_sends_events():
    event = Chat(id="1", user=User(id="1", name="甲"), text="你好")
    simulator = Simulator([(0.05, event)])
    simulator.start()
    try:
        found = check._feed(lambda: Endpoint(simulator.url), "douyin")
    finally:
        simulator.stop()
    assert found.works, found
    assert "first: chat" in found.facts


def test_a_room_that_cannot_be_reached():
    found = check._feed(lambda: Endpoint("ws://127.0.0.1:1/?token=secret"), "douyin")
    assert not found.works
    assert "secret" not in str(found)
    assert "fresh address" in found.mend
