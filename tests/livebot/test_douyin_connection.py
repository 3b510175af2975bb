"""The connection in virtual time and under many schedules, and its hard cases on real sockets."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import logging
import socket
import ssl
import struct
import threading
from collections import deque

import pytest
import trustme
import websocket
from websockets.sync.server import serve

from livebot.messages import Chat, Control, Gift, Like
from livebot.sources import Backoff, DouyinSource, Endpoint, FeedOptions, FeedState
from livebot.sources import webcast_pb2 as webcast
from livebot.sources.dialing import MESSAGE_LIMIT_BYTES
from livebot.sources.encoding import encode
from livebot.sources.wire import HEARTBEAT, pack, read_frame
from threadkit.testing import SimRuntime, explore

WITHIN = 10.0  # seconds until a real wait of these tests counts as failed
BINARY, CLOSE = websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_CLOSE


class SimSocket:
    """A WebSocket of the simulated world: what arrives is put into it, what is sent is kept."""

    def __init__(self, sim, *, stuck=False):
        self.sim = sim
        self.changed = sim.condition(sim.lock())
        self.inbox = deque()
        self.sent = []
        self.replies = []
        self.backlog_bytes = 0
        self.stuck = stuck
        self.aborted = self.closed = False

    def arrive(self, data, opcode=BINARY):
        with self.changed:
            self.inbox.append((opcode, data))
            self.changed.notify_all()

    def recv_data(self):
        with self.changed:
            self.changed.wait_for(lambda: self.inbox or self.aborted)
            if self.aborted:
                raise websocket.WebSocketConnectionClosedException("gone")
            return self.inbox.popleft()

    def send_binary(self, payload):
        with self.changed:
            if self.stuck:
                self.changed.wait_for(lambda: self.aborted)
            if self.aborted:
                raise BrokenPipeError("gone")
            self.sent.append((self.sim.monotonic(), payload))

    def reply(self, payload):
        self.replies.append(payload)

    def flush(self):
        pass

    def abort(self):
        with self.changed:
            self.aborted = True
            self.changed.notify_all()

    def shutdown(self):
        self.closed = True


def frame(*events, **response):
    return pack(webcast.Response(messages=[encode(event) for event in events], **response))


def simulate(scenario, seed=1):
    sim = SimRuntime(seed=seed)
    sim.run(scenario, sim)


def source_in(sim, dial, *, emit=lambda event: None, on_state=None, name="sim", **options):
    return DouyinSource(
        "ws://room/",
        emit=emit,
        on_state=on_state,
        name=name,
        options=FeedOptions(dial=dial, runtime=sim, seed=1, **options),
    )


# -- virtual time -------------------------------------------------------------------------------


def test_the_pauses_between_attempts_double_up_to_a_minute():
    attempts = []

    def scenario(sim):
        def dial(endpoint, connect_timeout, io_timeout):
            attempts.append(sim.monotonic())
            raise OSError("no route")

        source = source_in(sim, dial, backoff=Backoff(jitter=0.0))
        source.start()
        sim.sleep(400.0)
        source.stop()

    simulate(scenario)
    pauses = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert pauses[:8] == pytest.approx([1.5, 3, 6, 12, 24, 48, 60, 60])


def test_jitter_makes_pauses_longer_but_never_longer_than_the_most():
    backoff = Backoff()
    for failures in range(1, 50):
        plain = backoff.pause(failures)
        assert plain <= backoff.pause(failures, draw=1.0) <= min(60.0, plain * 1.25)


@pytest.mark.parametrize(("code", "pause"), [(1001, 2.0), (1006, 1.5), (1012, 3.0), (1013, 5.0)])
def test_a_close_code_has_its_own_first_pause(code, pause):
    attempts = []

    def scenario(sim):
        def dial(endpoint, connect_timeout, io_timeout):
            attempts.append(sim.monotonic())
            opened = SimSocket(sim)
            opened.arrive(struct.pack("!H", code), CLOSE)
            return opened

        source = source_in(sim, dial, backoff=Backoff(jitter=0.0))
        source.start()
        sim.sleep(pause + 0.1)
        source.stop()

    simulate(scenario)
    assert attempts[1] - attempts[0] == pytest.approx(pause)


def test_a_connection_that_brought_something_starts_the_pauses_anew():
    attempts = []

    def scenario(sim):
        def dial(endpoint, connect_timeout, io_timeout):
            attempts.append(sim.monotonic())
            if len(attempts) in (1, 2, 3, 5):
                raise OSError("no route")
            opened = SimSocket(sim)
            opened.arrive(frame())
            opened.arrive(b"", CLOSE)
            return opened

        source = source_in(sim, dial, backoff=Backoff(jitter=0.0))
        source.start()
        sim.sleep(16.0)
        source.stop()

    simulate(scenario)
    pauses = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert pauses[:5] == pytest.approx([1.5, 3.0, 6.0, 2.0, 3.0])


def test_heartbeats_go_out_every_ten_to_twelve_seconds():
    opened = []

    def scenario(sim):
        def dial(endpoint, connect_timeout, io_timeout):
            opened.append(SimSocket(sim))
            return opened[0]

        source = source_in(sim, dial, silence=1e6)
        source.start()
        sim.sleep(3600.0)
        assert source.statistics().heartbeats == len(opened[0].sent)
        source.stop()

    simulate(scenario)
    times = [at for at, _ in opened[0].sent]
    assert {payload for _, payload in opened[0].sent} == {HEARTBEAT}
    assert 3600 / 12 - 1 <= len(times) <= 3600 / 10
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 10.0 <= min(gaps) <= max(gaps) <= 12.0
    assert max(gaps) - min(gaps) > 0.5


def test_silence_ends_a_connection_exactly_when_it_has_lasted_long_enough():
    states = []

    def scenario(sim):
        sockets = [SimSocket(sim), SimSocket(sim)]
        left = iter(sockets)
        source = source_in(
            sim,
            lambda *_: next(left),
            on_state=lambda state, sentence: states.append((sim.monotonic(), state, sentence)),
            silence=45.0,
        )
        began = sim.monotonic()
        source.start()
        sim.sleep(30.0)
        sockets[0].arrive(frame())
        sim.sleep(50.0)
        source.stop()
        at, _, sentence = next(item for item in states if item[1] is FeedState.WAITING)
        assert at - began == pytest.approx(75.0)
        assert "nothing came for 45 s" in sentence
        assert sockets[0].closed

    simulate(scenario)


def test_a_heartbeat_that_cannot_be_sent_ends_the_connection():
    sentences = []

    def scenario(sim):
        class Broken(SimSocket):
            def send_binary(self, payload):
                raise BrokenPipeError("broken pipe")

        source = source_in(
            sim, lambda *_: Broken(sim), on_state=lambda state, sentence: sentences.append(sentence)
        )
        source.start()
        sim.sleep(12.5)
        source.stop()

    simulate(scenario)
    assert any("the heartbeat could not be sent: broken pipe" in line for line in sentences)


def test_the_cursor_of_the_last_response_is_used_to_return():
    asked = []

    def scenario(sim):
        def dial(endpoint, connect_timeout, io_timeout):
            asked.append(endpoint.url)
            opened = SimSocket(sim)
            opened.arrive(frame(cursor="c1", internal_ext="e1"))
            opened.arrive(b"", CLOSE)
            return opened

        source = source_in(sim, dial)
        source.start()
        sim.sleep(3.0)
        source.stop()

    simulate(scenario)
    assert asked[:2] == ["ws://room/", "ws://room/?cursor=c1&internal_ext=e1"]


def test_a_response_is_acknowledged_only_after_its_events_were_handed_over():
    order = []

    def scenario(sim):
        class Watched(SimSocket):
            def reply(self, payload):
                order.append(read_frame(payload).payload_type)

        opened = Watched(sim)
        opened.arrive(frame(Chat(id="1", text="x"), need_ack=True, internal_ext="e"))
        opened.arrive(frame(Chat(id="2", text="x")))
        source = source_in(sim, lambda *_: opened, emit=lambda event: order.append(event.id))
        source.start()
        sim.sleep(1.0)
        source.stop()

    simulate(scenario)
    assert order == ["1", "ack", "2"]


@pytest.mark.parametrize(
    ("backlog_bytes", "kinds"),
    [
        (0, ["chat", "gift", "like"]),
        (64 * 1024, ["chat", "gift"]),
        (256 * 1024, ["gift"]),
    ],
)
def test_what_is_worth_least_is_shed_when_the_reader_is_behind(backlog_bytes, kinds):
    heard = []

    def scenario(sim):
        opened = SimSocket(sim)
        opened.backlog_bytes = backlog_bytes
        events = (Chat(id="1", text="x"), Gift(id="2", gift_id="1"), Like(id="3"))
        opened.arrive(frame(*events, Control(id="4", action=3, ended=True)))
        source = source_in(sim, lambda *_: opened, emit=heard.append)
        source.start()
        sim.sleep(1.0)
        assert source.state is FeedState.ENDED
        statistics = source.statistics()
        assert sum(statistics.received.values()) == 4
        assert sum(statistics.shed.values()) == 3 - len(kinds)
        source.stop()

    simulate(scenario)
    assert [event.kind for event in heard[:-1]] == kinds
    assert heard[-1].ended


def test_log_lines_about_malformed_frames_are_rare_and_say_how_many(caplog):
    def scenario(sim):
        opened = SimSocket(sim)
        source = source_in(sim, lambda *_: opened, silence=1e6)
        source.start()
        for _ in range(25):
            opened.arrive(b"\x07")
            sim.sleep(1.0)
        assert source.statistics().malformed == 25
        source.stop()

    simulate(scenario)
    lines = [r.getMessage() for r in caplog.records if "malformed" in r.getMessage()]
    assert len(lines) == 3
    assert "and 9 more since the last such line" in lines[1]


def test_an_on_state_that_raises_is_logged_and_hurts_nothing(caplog):
    def on_state(state, sentence):
        raise RuntimeError("a broken dashboard")

    def scenario(sim):
        source = source_in(sim, lambda *_: SimSocket(sim), on_state=on_state)
        source.start()
        sim.sleep(1.0)
        assert source.state is FeedState.CONNECTED
        source.stop()

    simulate(scenario)
    assert "on_state failed" in caplog.text


# -- many schedules -----------------------------------------------------------------------------


def check_stop(sim, *, stuck, delay):
    """Stop at some moment; nothing may be left running or open, whatever the moment was."""
    opened = []

    def dial(endpoint, connect_timeout, io_timeout):
        sim.sleep(0.3)
        if len(opened) % 2:
            opened.append(None)
            raise OSError("no route")
        opened.append(SimSocket(sim, stuck=stuck))
        opened[-1].arrive(frame())
        opened[-1].arrive(struct.pack("!H", 1012), CLOSE)
        return opened[-1]

    source = source_in(sim, dial, heartbeat_every=0.5, backoff=Backoff(1.0, 4.0))
    source.start()
    sim.sleep(delay)
    began = sim.monotonic()
    source.stop()
    assert sim.monotonic() - began < 1.0
    assert source.state is FeedState.STOPPED
    assert all(sock.closed for sock in opened if sock is not None)


@pytest.mark.parametrize("stuck", [False, True])
@pytest.mark.parametrize("delay", [0.0, 0.2, 0.7, 3.2])
def test_stop_ends_everything_at_any_moment(stuck, delay):
    explore(lambda sim: check_stop(sim, stuck=stuck, delay=delay), seeds=25)


def test_a_keeper_that_is_stuck_in_a_send_is_woken_by_stop():
    def scenario(sim):
        source = source_in(sim, lambda *_: SimSocket(sim, stuck=True), heartbeat_every=1.0)
        source.start()
        sim.sleep(5.0)
        source.stop()
        assert source.state is FeedState.STOPPED

    explore(scenario, seeds=25)


def test_a_connection_that_opens_after_stop_is_closed_at_once():
    def scenario(sim):
        opened = SimSocket(sim)

        def dial(endpoint, connect_timeout, io_timeout):
            sim.sleep(2.0)
            return opened

        source = source_in(sim, dial)
        source.start()
        sim.sleep(1.0)
        source.stop()
        assert not opened.closed
        sim.sleep(1.0)
        assert opened.closed
        assert source.statistics().connections == 0

    simulate(scenario)


def test_a_keeper_that_is_stuck_in_a_send_does_not_keep_the_next_connection_waiting():
    def scenario(sim):
        stuck, fresh = SimSocket(sim, stuck=True), SimSocket(sim)
        left = iter([stuck, fresh])
        source = source_in(sim, lambda *_: next(left), heartbeat_every=1.0)
        source.start()
        sim.sleep(5.0)
        stuck.arrive(struct.pack("!H", 1012), CLOSE)
        sim.sleep(5.0)
        assert source.state is FeedState.CONNECTED
        assert source.statistics().reconnects == 1
        source.stop()

    simulate(scenario)


# -- real sockets -------------------------------------------------------------------------------


@contextlib.contextmanager
def served(handler, **options):
    server = serve(handler, "127.0.0.1", 0, **options)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()
        thread.join(WITHIN)


def run_until(state, url, *, then=lambda source: None, **options):
    """A source that runs until it reaches `state`; returns what it said about it."""
    reached, sentences = threading.Event(), []

    def on_state(now, sentence):
        if now is state and not reached.is_set():
            sentences.append(sentence)
            reached.set()

    events = []
    source = DouyinSource(
        url,
        emit=events.append,
        on_state=on_state,
        options=FeedOptions(backoff=Backoff(0.01, 0.05), **options),
    )
    source.start()
    try:
        assert reached.wait(WITHIN), source.statistics()
        then(source)
    finally:
        source.stop()
    return sentences[0], events


def test_a_message_over_the_limit_is_refused_by_its_announced_length():
    """Only the header is ever sent: a reader that trusted it would wait, or swell."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def lie():
            sock, _ = listener.accept()
            with sock:
                shake_hands(sock)
                sock.sendall(struct.pack("!BBQ", 0x82, 127, MESSAGE_LIMIT_BYTES + 1))
                sock.recv(1)

        thread = threading.Thread(target=lie)
        thread.start()
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        sentence, _ = run_until(FeedState.WAITING, url)
        thread.join(WITHIN)
    assert "is over the limit of 16777216" in sentence


def shake_hands(sock):
    request = b""
    while b"\r\n\r\n" not in request:
        request += sock.recv(4096)
    key = next(
        line.split(b": ")[1]
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key")
    )
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False)
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest.digest()) + b"\r\n\r\n"
    )


def test_a_fragmented_message_over_the_limit_is_refused():
    def handler(connection):
        with contextlib.suppress(Exception):
            connection.send(bytes(1024 * 1024) for _ in range(20))

    with served(handler, compression=None) as port:
        sentence, _ = run_until(FeedState.WAITING, f"ws://127.0.0.1:{port}/")
    assert "is over the limit of 16777216" in sentence


def test_a_host_that_accepts_and_says_nothing_times_out_or_is_stopped():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        sentence, _ = run_until(FeedState.WAITING, url, connect_timeout=0.1)
    assert "timed out" in sentence


def test_stop_does_not_wait_for_a_host_that_does_not_answer(caplog):
    calling, answer = threading.Event(), threading.Event()

    def dial(endpoint, connect_timeout, io_timeout):
        calling.set()
        answer.wait(WITHIN)
        raise TimeoutError("no answer")

    source = DouyinSource("ws://room/", emit=print, options=FeedOptions(dial=dial))
    source.start()
    assert calling.wait(WITHIN)
    with caplog.at_level(logging.WARNING):
        source.stop()
    assert "that thread ends by itself" in caplog.text
    assert source.state is FeedState.STOPPED
    answer.set()


def test_a_peer_that_never_reads_cannot_block_stop():
    """Acknowledgements fill the peer's buffers until a send blocks; stop must wake it."""
    flooding = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def flood():
            sock, _ = listener.accept()
            with sock, contextlib.suppress(OSError):
                shake_hands(sock)
                data = frame(need_ack=True, internal_ext="x" * 60_000)
                header = struct.pack("!BBQ", 0x82, 127, len(data))
                flooding.set()
                for _ in range(2000):
                    sock.sendall(header + data)

        thread = threading.Thread(target=flood)
        thread.start()
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        source = DouyinSource(url, emit=print)
        source.start()
        assert flooding.wait(WITHIN)
        frames = -1
        while frames != source.statistics().frames:  # until it reads no more: it is blocked
            frames = source.statistics().frames
            threading.Event().wait(0.2)
        source.stop()
        thread.join(WITHIN)
    assert source.state is FeedState.STOPPED
    assert frames < 2000


def test_it_speaks_tls_and_stop_wakes_it_there_too(tmp_path, monkeypatch):
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    origins = []

    def handler(connection):
        origins.append(connection.request.headers["Origin"])
        connection.send(frame(Chat(id="1", text="x")))
        with contextlib.suppress(Exception):
            connection.recv()

    with served(handler, ssl=context) as port:
        url = f"wss://localhost:{port}/"
        arrived = threading.Event()
        source = DouyinSource(url, emit=lambda event: arrived.set())
        source.start()
        assert arrived.wait(WITHIN)
        source.stop()
    assert source.state is FeedState.STOPPED
    assert origins == ["https://live.douyin.com"]


@pytest.mark.parametrize("tls", [False, True])
def test_a_reader_that_fell_behind_sheds_likes_and_catches_up(tls, tmp_path, monkeypatch):
    """The first event is held up until everything was sent; what piled up is then too much."""
    bundle, context = tmp_path / "ca.pem", None
    if tls:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(bundle)
        monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(bundle))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
    all_sent, heard = threading.Event(), []

    def handler(connection):
        connection.send(frame(Chat(id="1", text="x")))
        filler = "x" * 1000
        for n in range(2, 602, 2):
            like, gift = Like(id=str(n)), Gift(id=str(n + 1), gift_id="1", name=filler)
            connection.send(pack_plain(like, gift))
        all_sent.set()
        connection.send(frame(Control(id="9999", action=3, ended=True)))
        with contextlib.suppress(Exception):
            connection.recv()

    ended = threading.Event()

    def emit(event):
        heard.append(event.kind)
        assert all_sent.wait(WITHIN)
        if event.kind == "control":
            ended.set()

    with served(handler, ssl=context, compression=None) as port:
        url = f"{'wss' if tls else 'ws'}://localhost:{port}/"
        source = DouyinSource(url, emit=emit)
        source.start()
        assert ended.wait(WITHIN)
        source.stop()
    assert heard.count("gift") == 300
    shed = source.statistics().shed["WebcastLikeMessage"]
    assert shed >= 100
    assert heard.count("like") == 300 - shed


def pack_plain(*events):
    messages = [encode(event) for event in events]
    return pack(webcast.Response(messages=messages), compress=False)


def test_a_certificate_nobody_vouches_for_is_refused(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with served(lambda connection: None, ssl=context) as port:
        sentence, _ = run_until(FeedState.WAITING, f"wss://localhost:{port}/")
    assert "CERTIFICATE_VERIFY_FAILED" in sentence


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"first": 0}, "first must be above 0"),
        ({"first": 5, "most": 1}, "at most 1, not 5"),
        ({"factor": 0.5}, "factor must be 1 or more"),
        ({"jitter": 2}, "jitter must be from 0 to 1, not 2"),
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        Backoff(**settings)


@pytest.mark.parametrize("name", ["heartbeat_every", "silence"])
def test_a_duration_of_nothing_is_refused(name):
    with pytest.raises(ValueError, match="must be above 0 seconds, not 0"):
        DouyinSource("ws://h/", emit=print, options=FeedOptions(**{name: 0}))


def test_an_endpoint_without_a_host_is_refused():
    with pytest.raises(ValueError, match="url must begin with"):
        Endpoint("wss:///path")
