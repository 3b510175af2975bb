"""The simulated room: it speaks the protocol, checks its clients, and misbehaves on command."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest
import websocket

from livebot.messages import Chat, Control, Gift, User
from livebot.moderation import Moderator, Outcome, Rules
from livebot.sources import Crowd, Faults, Played, Simulator
from livebot.sources import webcast_pb2 as webcast
from livebot.sources.decoding import decode
from livebot.sources.wire import HEARTBEAT, MalformedFrame, ack, read_frame, read_response

WITHIN = 10.0  # seconds until a real wait of these tests counts as failed


def chats(count, every=1.0):
    return [
        (n * every, Chat(id=str(10**18 + n), user=User(id=str(n + 1)), text=f"t{n}"))
        for n in range(count)
    ]


@pytest.fixture
def room():
    """Opens simulated rooms and plain clients in them; closes all afterwards."""
    with contextlib.ExitStack() as stack:

        def room(events, **options):
            simulator = Simulator(events, **{"speed": 1000.0, "seed": 1, **options})
            simulator.start()
            stack.callback(simulator.stop)
            return simulator

        def connect(simulator, cursor=""):
            client = websocket.create_connection(f"{simulator.url}&cursor={cursor}", timeout=WITHIN)
            stack.callback(client.shutdown)
            return client

        room.connect = connect
        yield room


def frames(client):
    """Frames with their responses, until the room ends."""
    while True:
        frame = read_frame(client.recv())
        response = read_response(frame)
        yield frame, response
        if any(m.method == "WebcastControlMessage" for m in response.messages):
            return


def settle(condition):
    """Wait for what the server's thread does next; real sockets give no other sign."""
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_responses_are_gzipped_frames_that_want_an_acknowledgement(room):
    simulator = room(chats(30))
    client = room.connect(simulator)
    seen = []
    for frame, response in frames(client):
        assert frame.payload_type == "msg"
        assert frame.payload.startswith(b"\x1f\x8b")
        assert {h.key: h.value for h in frame.headers}["compress_type"] == "gzip"
        assert response.need_ack
        assert response.cursor
        seen += [decode(message, 0.0) for message in response.messages]
        client.send_binary(ack(frame, response.internal_ext))
    assert [event.text for event in seen if isinstance(event, Chat)] == [f"t{n}" for n in range(30)]
    assert isinstance(seen[-1], Control)
    assert simulator.wait_played_out(WITHIN)
    settle(lambda: simulator.statistics().acked == simulator.statistics().responses)
    assert simulator.statistics().protocol_errors == 0


def test_heartbeats_are_counted_and_wrong_frames_too(room):
    simulator = room(chats(1), speed=0.001)
    client = room.connect(simulator)
    frame = read_frame(client.recv())
    client.send_binary(HEARTBEAT)
    client.send_binary(ack(frame, "not the one that was sent"))
    client.send_binary(b"\x07rubbish")
    client.send_binary(webcast.PushFrame(payload_type="gossip").SerializeToString())
    settle(lambda: simulator.statistics().protocol_errors == 3)
    assert simulator.statistics().heartbeats == 1
    assert simulator.statistics().acked == 0


def test_a_cursor_brings_back_what_was_missed_and_the_last_fifteen(room):
    simulator = room(chats(100), speed=100_000.0)
    client = room.connect(simulator)
    *_, (_, last) = frames(client)
    resumed = last.cursor.replace("fh-101", "fh-60")
    assert resumed != last.cursor
    again = room.connect(simulator, resumed)
    texts = [m.msg_id - 10**18 for _, r in frames(again) for m in r.messages][:-1]
    assert texts == list(range(45, 100))
    assert simulator.statistics().repeated == 56


def test_the_clock_of_the_room_starts_with_the_first_viewer(room):
    simulator = room(chats(3, every=0.0))
    assert simulator.statistics().sent == {}
    client = room.connect(simulator)
    assert len(next(frames(client))[1].messages) == 4
    assert simulator.statistics().connections == 1


def test_a_viewer_without_a_heartbeat_is_cut(room, monkeypatch):
    monkeypatch.setattr("livebot.sources.room_server._HEARTBEAT_WITHIN", 0.1)
    simulator = room(chats(2, every=1e6))
    client = room.connect(simulator)
    client.recv()
    with pytest.raises((websocket.WebSocketException, OSError)):
        client.recv()
    assert simulator.statistics().faults["cut_without_heartbeat"] == 1


def test_a_viewer_that_does_not_answer_pings_is_cut(room, monkeypatch):
    monkeypatch.setattr("livebot.sources.room_server._PONG_WITHIN", 0.1)
    simulator = room(chats(2, every=1e6))
    client = room.connect(simulator)  # reads nothing, so it answers nothing
    settle(lambda: simulator.statistics().faults.get("cut_without_pong") == 1)
    client.shutdown()


def test_pings_measure_how_long_a_pong_takes(room):
    simulator = room(chats(2, every=1e6))
    client = room.connect(simulator)
    client.recv()
    client.settimeout(0.2)
    with pytest.raises(websocket.WebSocketTimeoutException):
        client.recv()  # answers the ping on the way
    settle(lambda: simulator.statistics().pongs == 1)
    assert 0 < simulator.statistics().slowest_pong < WITHIN


def test_a_cut_is_a_reset_and_a_coded_one_a_close_frame(room):
    simulator = room(chats(2, every=1e6))
    for code in (None, 1013):
        client = room.connect(simulator)
        client.recv()
        simulator.cut(code)
        if code is None:
            with pytest.raises((websocket.WebSocketException, OSError)):
                client.recv()
        else:
            opcode, data = client.recv_data()
            assert (opcode, int.from_bytes(data[:2], "big")) == (websocket.ABNF.OPCODE_CLOSE, code)
    assert simulator.statistics().faults == {"cuts": 2}


def test_a_silent_room_answers_nothing_but_stays_open(room):
    simulator = room(chats(2, every=1e6))
    client = room.connect(simulator)
    client.recv()
    simulator.go_silent()
    settle(lambda: simulator.statistics().faults == {"silences": 1})
    client.ping()
    client.settimeout(0.1)
    with pytest.raises(websocket.WebSocketTimeoutException):
        client.recv()
    assert simulator.statistics().watching == 1
    assert client.connected


def test_malformed_and_truncated_frames_cannot_be_read(room):
    simulator = room(chats(40), faults=Faults(malformed=1.0, truncated=1.0))
    client = room.connect(simulator)
    broken, ended = 0, False
    while not ended:
        try:
            response = read_response(read_frame(client.recv()))
        except MalformedFrame:
            broken += 1
        else:
            ended = any(m.method == "WebcastControlMessage" for m in response.messages)
    made = simulator.statistics().faults
    assert broken == made["malformed"] + made["truncated"] > 0


def test_a_slow_reader_reads_slowly(room):
    simulator = room(chats(2, every=1e6), faults=Faults(read_bytes_per_second=200.0))
    client = room.connect(simulator)
    client.recv()
    for _ in range(100):
        client.send_binary(HEARTBEAT)  # ten bytes each on the wire, masked
    settle(lambda: simulator.statistics().heartbeats >= 2)
    assert simulator.statistics().heartbeats < 100


def test_a_refused_handshake_is_an_http_answer(room):
    simulator = room(chats(1), faults=Faults(refused=1))
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        room.connect(simulator)
    assert caught.value.status_code == 503
    room.connect(simulator).recv()


def test_rubbish_instead_of_a_handshake_hurts_nobody(room):
    simulator = room(chats(1))
    host, port = simulator.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=WITHIN) as raw:
        raw.sendall(b"\x00\xff\r\n\r\n")
        with contextlib.suppress(OSError):
            while raw.recv(1000):
                pass
    assert room.connect(simulator).recv()


def test_several_viewers_watch_the_same_room(room):
    simulator = room(chats(20))
    clients = [room.connect(simulator) for _ in range(3)]
    for client in clients:
        ids = [m.msg_id for _, response in frames(client) for m in response.messages]
        assert 10**18 + 19 in ids
    assert sum(simulator.statistics().sent.values()) == 21


def test_a_simulator_that_never_started_can_be_stopped_and_has_no_address():
    simulator = Simulator(chats(1))
    with pytest.raises(RuntimeError, match="has not been started"):
        _ = simulator.url
    simulator.stop()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Simulator(chats(1), speed=0), "speed must be above 0"),
        (lambda: Simulator([]), "at least one event"),
        (lambda: Played(chats(1), rounds=0), "rounds must be 1 or more, or None, not 0"),
        (lambda: Faults(repeat=2), "repeat must be a share from 0 to 1, not 2"),
        (lambda: Faults(cut_every=0), "cut_every must be above 0 or None, not 0"),
    ],
)
def test_wrong_arguments_are_named(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


# -- timelines ----------------------------------------------------------------------------------


def test_a_recording_played_twice_has_its_own_ids_each_time():
    gift = Gift(id="10", gift_id="1", group_id="20")
    single = Gift(id="11", gift_id="1", group_id="0")
    played = Played([(0.0, gift), (2.0, single)], rounds=2)
    assert [played.at(n) for n in range(6)] == [0.0, 2.0, 3.0, 5.0, 5.0, float("inf")]
    events = [played.event(n) for n in range(5)]
    assert len({event.id for event in events}) == 5
    assert events[0].group_id != events[2].group_id
    assert events[3].group_id == "0"
    assert events[4].ended


@pytest.mark.parametrize("rounds", [1, 3])
def test_as_many_are_due_as_have_happened(rounds):
    played = Played([(float(n), Gift(id=str(n), gift_id="1")) for n in range(5)], rounds=rounds)
    count = 5 * rounds + 1
    for t in range(5 * rounds + 3):
        expected = sum(played.at(n) <= t for n in range(count))
        assert played.due(float(t)) == expected


def test_an_end_in_the_recording_is_left_to_the_timeline():
    control = Control(id="2", action=3, ended=True)
    played = Played([(0.0, control), (1.0, Gift(id="1", gift_id="1"))])
    assert [played.event(n).kind for n in range(2)] == ["gift", "control"]


def test_a_crowd_is_the_same_for_the_same_seed():
    first, second, other = Crowd(100, seed=1), Crowd(100, seed=1), Crowd(100, seed=2)
    events = [first.event(n) for n in range(500)]
    assert events == [second.event(n) for n in range(500)]
    assert events != [other.event(n) for n in range(500)]
    assert len({event.id for event in events}) == 500
    assert {"chat", "gift", "like", "member", "social", "stats"} == {e.kind for e in events}


def test_a_crowd_has_its_rate_and_its_end():
    crowd = Crowd(100, seconds=2)
    assert [crowd.due(t) for t in (0.0, 0.5, 1.0, 9.0)] == [1, 51, 101, 201]
    assert crowd.event(200).ended
    assert crowd.at(201) == float("inf")


def test_a_crowds_combos_are_of_three():
    crowd = Crowd(100)
    gifts = [e for e in map(crowd.event, range(160)) if isinstance(e, Gift)]
    judge = Moderator(Rules(cool_down=0))
    verdicts = [judge.consider(gift) for gift in gifts]
    spoken = [v.event.repeat_count for v in verdicts if v.outcome is Outcome.SPEAK]
    assert sum(spoken) == 3 * 10
    assert len(gifts) == 4 * 10


@pytest.mark.parametrize(
    "wrong", [{"rate": 0}, {"rate": 1, "seconds": 0}, {"rate": 1, "viewers": 0}]
)
def test_a_crowd_of_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="must be above 0"):
        Crowd(**wrong)


def test_events_the_protocol_cannot_hold_are_counted_and_the_room_goes_on(room, caplog):
    absurd = [
        Gift(id="1", user=User(id="1"), gift_id="5", diamond_count=10**30),
        Chat(id="2", user=User(id="1"), text="half a \ud83d character"),
        Chat(id="3", user=User(id="1"), text="你好"),
    ]
    simulator = room([(0.0, event) for event in absurd])
    client = room.connect(simulator)
    response = read_response(read_frame(client.recv()))
    assert decode(response.messages[0], 1.0).text == "你好"
    assert simulator.statistics().faults["unsayable"] == 2
    assert len(caplog.records) == 2
