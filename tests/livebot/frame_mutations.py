"""Frames of a real room, broken in every way a seed can think of."""

from __future__ import annotations

import gzip
import itertools

from livebot.sources import read_recording, shipped_room
from livebot.sources import webcast_pb2 as webcast
from livebot.sources.encoding import encode
from livebot.sources.wire import pack


def real_frames():
    """Every event of the shipped room in frames of one to ten messages, some of them plain."""
    events = [event for _, event in read_recording(shipped_room())]
    frames = []
    sizes = itertools.cycle(range(1, 11))
    while events:
        size = next(sizes)
        batch, events = events[:size], events[size:]
        response = webcast.Response(
            messages=[encode(event) for event in batch],
            cursor="d-1_u-1_fh-7_t-1_r-1",
            internal_ext="internal_src:dim|seq:1",
            need_ack=True,
        )
        frames.append(pack(response, log_id=size, compress=size % 2 == 0))
    return frames


def mutated(frames, draw, count):
    """`count` broken frames: `draw` is a random.Random."""
    for _ in range(count):
        yield draw.choice(_MUTATIONS)(draw, draw.choice(frames))


def _flip(draw, frame):
    broken = bytearray(frame)
    for _ in range(draw.randint(1, 8)):
        broken[draw.randrange(len(broken))] = draw.randrange(256)
    return bytes(broken)


def _cut(draw, frame):
    return frame[: draw.randrange(len(frame))]


def _lose(draw, frame):
    start = draw.randrange(len(frame))
    return frame[:start] + frame[start + draw.randint(1, 20) :]


def _insert(draw, frame):
    start = draw.randrange(len(frame))
    return frame[:start] + draw.randbytes(draw.randint(1, 20)) + frame[start:]


def _splice(draw, frame):
    return frame[: draw.randrange(len(frame))] + frame[draw.randrange(len(frame)) :]


def _rubbish(draw, _frame):
    return draw.randbytes(draw.randint(0, 200))


def _inside(draw, frame):
    """Break what is in the gzip stream or the plain payload, and wrap it well again."""
    outer = webcast.PushFrame.FromString(frame)
    payload = outer.payload
    if payload.startswith(b"\x1f\x8b"):
        broken = _within(draw, gzip.decompress(payload))
        outer.payload = gzip.compress(broken, compresslevel=1)
    else:
        outer.payload = _within(draw, payload)
    return outer.SerializeToString()


def _message(draw, frame):
    """Break one message's payload, or give it another method, and wrap all of it well again."""
    outer = webcast.PushFrame.FromString(frame)
    payload = outer.payload
    plain = gzip.decompress(payload) if payload.startswith(b"\x1f\x8b") else payload
    response = webcast.Response.FromString(plain)
    if response.messages:
        message = draw.choice(response.messages)
        message.payload = _within(draw, message.payload) if message.payload else draw.randbytes(9)
        if draw.random() < 0.3:
            message.method = draw.choice(response.messages).method
        message.msg_id = draw.getrandbits(64)
    outer.payload = response.SerializeToString()
    return outer.SerializeToString()


def _within(draw, data):
    return draw.choice((_flip, _cut, _lose, _insert))(draw, data) if data else data


_MUTATIONS = (_flip, _cut, _lose, _insert, _splice, _rubbish, _inside, _inside, _message, _message)
