"""The platform's source against the simulated room, over a real socket."""

from __future__ import annotations

import dataclasses
import queue
import socket
import threading
import time
from collections import Counter

import pytest

from livebot.messages import Chat, Control, Gift, User
from livebot.sources import (
    Backoff,
    DouyinSource,
    Endpoint,
    Faults,
    FeedOptions,
    FeedState,
    Simulator,
    read_recording,
    shipped_room,
)
from livebot.sources import webcast_pb2 as webcast
from livebot.sources.wire import pack

FAST = Backoff(first=0.01, most=0.05)
WITHIN = 10.0  # seconds until a real wait of these tests counts as failed


class Listener:
    """Collects events and states, and waits for them."""

    def __init__(self):
        self.events = []
        self.states = queue.Queue()
        self.arrived = threading.Condition()

    def emit(self, event):
        with self.arrived:
            self.events.append(event)
            self.arrived.notify_all()

    def on_state(self, state, sentence):
        self.states.put((state, sentence))

    def wait_events(self, count):
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.events) >= count, WITHIN), self.events

    def wait_state(self, wanted):
        while True:
            state, sentence = self.states.get(timeout=WITHIN)
            if state is wanted:
                return sentence


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def open_room(listener):
    """Opens a simulated room and a source in it; closes both afterwards."""
    opened = []

    def open_room(events, *, source=None, **options):
        simulator = Simulator(events, **{"speed": 1000.0, "seed": 1, **options})
        url = simulator.start()
        opened.append(simulator)
        feed = DouyinSource(
            url,
            emit=listener.emit,
            on_state=listener.on_state,
            options=FeedOptions(**{"backoff": FAST, "seed": 1, **(source or {})}),
        )
        opened.append(feed)
        feed.start()
        return simulator, feed

    yield open_room
    for part in reversed(opened):
        part.stop()


def chats(count, *, every=1.0):
    return [
        (n * every, Chat(id=str(10**18 + n), user=User(id=str(n + 1), name=f"n{n}"), text=f"t{n}"))
        for n in range(count)
    ]


def test_the_shipped_room_arrives_whole_in_order_and_ends(listener, open_room):
    room = list(read_recording(shipped_room()))
    simulator, source = open_room(room)
    assert listener.wait_state(FeedState.ENDED) == "the broadcast has ended"
    got = [event for event in listener.events if not isinstance(event, Control)]
    assert [event.id for event in got] == [event.id for _, event in room]
    assert all(event.received_at > 0 for event in got)
    assert isinstance(listener.events[-1], Control)
    assert listener.events[-1].ended
    source.stop()
    served = everything_read(simulator)
    statistics = source.statistics()
    assert statistics.decoded == served.sent == dict(Counter(e.kind for e in listener.events))
    assert statistics.acks == served.acked == served.responses == statistics.frames
    assert served.protocol_errors == 0
    assert len(room) >= 500


def everything_read(simulator):
    """The server's statistics once it has seen the client leave; a socket gives no other sign."""
    deadline = time.monotonic() + WITHIN
    while simulator.statistics().watching:
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)
    return simulator.statistics()


def test_what_a_viewer_says_arrives_unchanged(listener, open_room):
    user = User(id="18446744073709551615", name="小鱼🐟", level=33, fan_level=12, fan_club="鱼塘")
    gift = Gift(
        id="9223372036854775807",
        user=user,
        gift_id="463",
        name="小心心",
        diamond_count=1,
        repeat_count=13,
        combo_count=13,
        group_id="7632000000000000001",
        repeat_end=True,
        send_type=4,
        to_user=User(id="5", name="主播"),
        sent_at=1763900000.123,
    )
    open_room([(0.0, gift)])
    listener.wait_events(1)
    assert dataclasses.replace(listener.events[0], received_at=0.0) == gift


def test_a_cut_connection_goes_on_where_it_was(listener, open_room):
    cut_at = {"t50", "t120", "t200"}
    emit = listener.emit

    def emit_and_cut(event):
        emit(event)
        if getattr(event, "text", "") in cut_at:
            simulator.cut()

    listener.emit = emit_and_cut
    simulator, source = open_room(chats(300, every=0.5), speed=100.0)
    listener.wait_state(FeedState.ENDED)
    texts = [event.text for event in listener.events if isinstance(event, Chat)]
    assert texts == [f"t{n}" for n in range(300)]
    assert 1 <= source.statistics().reconnects <= 3
    assert source.statistics().duplicates > 0
    assert simulator.statistics().repeated > 0


def test_a_malformed_frame_is_one_log_line_and_the_feed_goes_on(listener, open_room, caplog):
    room = chats(50)
    faults = Faults(malformed=1.0, truncated=1.0)
    simulator, source = open_room(room, faults=faults)
    listener.wait_state(FeedState.ENDED)
    assert len(listener.events) == 51
    made = simulator.statistics().faults
    statistics = source.statistics()
    assert statistics.malformed == made["malformed"] + made["truncated"]
    assert statistics.last_malformed
    lines = [r.getMessage() for r in caplog.records if "malformed" in r.getMessage()]
    assert len(lines) == 1
    assert "\n" not in lines[0]


def test_a_gzip_bomb_is_refused_and_the_feed_goes_on(listener, open_room):
    _, source = open_room(chats(3), faults=Faults(bombs=1.0))
    listener.wait_state(FeedState.ENDED)
    assert len(listener.events) == 4
    assert source.statistics().malformed >= 1
    assert "inflates past 33554432 bytes" in source.statistics().last_malformed


def test_repeated_messages_are_delivered_once(listener, open_room):
    simulator, source = open_room(chats(200, every=5.0), faults=Faults(repeat=0.5))
    listener.wait_state(FeedState.ENDED)
    assert len(listener.events) == 201
    assert simulator.statistics().repeated > 10
    assert source.statistics().duplicates >= simulator.statistics().repeated - 15


def test_a_half_dead_connection_is_given_up(listener, open_room):
    simulator, source = open_room(
        chats(2000), speed=0.001, source={"silence": 0.2, "heartbeat_every": 0.05}
    )
    listener.wait_state(FeedState.CONNECTED)
    listener.wait_events(1)
    simulator.go_silent()
    assert "nothing came for 0.2 s" in listener.wait_state(FeedState.WAITING)
    listener.wait_state(FeedState.CONNECTED)
    assert source.statistics().heartbeats >= 1


def test_a_server_that_cannot_be_reached_is_one_line_each_attempt(listener, caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused at once
        source = DouyinSource(
            f"ws://127.0.0.1:{taken.getsockname()[1]}/push?signature=secret",
            emit=listener.emit,
            on_state=listener.on_state,
            options=FeedOptions(backoff=FAST),
        )
        source.start()
        for _ in range(3):
            listener.wait_state(FeedState.WAITING)
        source.stop()
    attempts = [r.getMessage() for r in caplog.records]
    assert len(attempts) in (3, 4)
    assert all("cannot reach ws://127.0.0.1" in line for line in attempts)
    assert all("next attempt in" in line and "\n" not in line for line in attempts)
    assert "secret" not in caplog.text
    assert source.state is FeedState.STOPPED


def test_a_refused_handshake_names_the_status(listener, open_room):
    _, source = open_room(chats(1), faults=Faults(refused=2))
    assert "answered HTTP 503" in listener.wait_state(FeedState.WAITING)
    listener.wait_state(FeedState.ENDED)
    assert source.statistics().connections == 1


@pytest.mark.parametrize("code", [1000, 1007, 1008])
def test_after_a_final_close_code_it_does_not_come_back(listener, open_room, code):
    simulator, source = open_room(chats(10), speed=0.001)
    listener.wait_events(1)
    simulator.cut(code)
    assert f"code {code}" in listener.wait_state(FeedState.REFUSED)
    assert source.statistics().connections == 1


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013])
def test_after_any_other_close_code_it_comes_back(listener, open_room, code):
    simulator, source = open_room(chats(10), speed=0.001)
    listener.wait_events(1)
    simulator.cut(code)
    assert f"code {code}" in listener.wait_state(FeedState.WAITING)
    listener.wait_state(FeedState.CONNECTED)
    assert source.statistics().reconnects == 1


def test_stop_wakes_a_pause_at_once_and_leaves_no_thread(listener):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        source = DouyinSource(
            f"ws://127.0.0.1:{taken.getsockname()[1]}/",
            emit=listener.emit,
            on_state=listener.on_state,
            options=FeedOptions(backoff=Backoff(first=500, most=1000)),
        )
        source.start()
        listener.wait_state(FeedState.WAITING)
        source.stop()
    assert not [t for t in threading.enumerate() if t.name.startswith("livebot-douyin")]


def test_stop_wakes_a_read_and_the_keeper(listener, open_room):
    _, source = open_room(chats(10), speed=0.001)
    listener.wait_events(1)
    source.stop()
    assert not [t for t in threading.enumerate() if t.name.startswith("livebot-douyin")]
    assert source.state is FeedState.STOPPED


def test_it_may_be_stopped_by_whom_it_tells(listener, open_room):
    emit, made, stopped = listener.emit, threading.Event(), threading.Event()

    def emit_and_stop(event):
        emit(event)
        assert made.wait(WITHIN)
        source.stop()
        stopped.set()

    listener.emit = emit_and_stop
    _, source = open_room(chats(10), speed=0.001)
    made.set()
    assert stopped.wait(WITHIN)
    listener.wait_state(FeedState.STOPPED)
    assert len(listener.events) == 1


def test_it_can_be_started_again_after_a_stop(listener, open_room):
    _, source = open_room(chats(10), speed=0.001)
    listener.wait_events(1)
    with pytest.raises(RuntimeError, match="already"):
        source.start()
    source.stop()
    source.stop()
    source.start()
    listener.wait_state(FeedState.STOPPED)
    listener.wait_state(FeedState.CONNECTED)
    assert source.statistics().reconnects == 1


def test_an_emit_that_raises_is_counted_and_the_feed_goes_on(open_room, listener):
    def emit(event):
        if getattr(event, "text", "") == "t3":
            raise queue.Full
        listener.emit(event)

    simulator = Simulator(chats(10), speed=1000.0)
    source = DouyinSource(simulator.start(), emit=emit, on_state=listener.on_state)
    source.start()
    try:
        listener.wait_state(FeedState.ENDED)
    finally:
        source.stop()
        simulator.stop()
    assert len(listener.events) == 10
    assert source.statistics().undelivered == 1


def test_unknown_methods_and_payload_types_are_skipped(open_room, listener):
    simulator, source = open_room(chats(2), speed=0.001)
    listener.wait_events(1)
    unknown = webcast.Message(method="WebcastDanceMessage", payload=b"\xff", msg_id=5)
    control = webcast.Message(
        method="WebcastControlMessage",
        payload=webcast.ControlMessage(action=3).SerializeToString(),
        msg_id=6,
    )
    simulator.send(webcast.PushFrame(payload_type="gossip").SerializeToString())
    simulator.send(pack(webcast.Response(messages=[unknown, control]), compress=False))
    listener.wait_state(FeedState.ENDED)
    assert source.statistics().unknown == {"WebcastDanceMessage": 1}
    assert source.statistics().malformed == 0


def test_a_close_frame_of_the_protocol_itself_means_reconnect(open_room, listener):
    simulator, _ = open_room(chats(2), speed=0.001)
    listener.wait_events(1)
    simulator.send(webcast.PushFrame(payload_type="close").SerializeToString())
    assert "asked to close" in listener.wait_state(FeedState.WAITING)
    listener.wait_state(FeedState.CONNECTED)


def test_headers_and_the_cursor_reach_the_server(listener):
    asked = []

    def dial(endpoint, connect_timeout, io_timeout):
        asked.append(endpoint)
        raise OSError("enough")

    source = DouyinSource(
        "ws://h/p?room_id=1&cursor=&signature=a%2Fb",
        headers={"Cookie": "ttwid=1"},
        emit=listener.emit,
        on_state=listener.on_state,
        options=FeedOptions(dial=dial, backoff=FAST),
    )
    source._cursor, source._internal_ext = "d-1_u-1", "a|b"
    source.start()
    listener.wait_state(FeedState.WAITING)
    source.stop()
    assert asked[0] == Endpoint(
        "ws://h/p?room_id=1&cursor=d-1_u-1&signature=a%2Fb&internal_ext=a%7Cb",
        {"Cookie": "ttwid=1", "Origin": "https://live.douyin.com"},
    )


@pytest.mark.parametrize("url", ["", "http://h/", "ws://", "wss:/x", "live.douyin.com"])
def test_an_address_that_is_no_websocket_is_refused(url):
    with pytest.raises(ValueError, match="url must begin with ws:// or wss://"):
        DouyinSource(url, emit=print)


def test_a_header_with_a_line_break_is_refused():
    with pytest.raises(ValueError, match="header 'Cookie' must be one line"):
        DouyinSource("ws://h/", headers={"Cookie": "a\r\nHost: b"}, emit=print)
