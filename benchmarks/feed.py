"""What does a live room's feed cost: bytes to events, and reading beside busy threads?

    python -m benchmarks.feed [--quick] [--json FILE] [--plot FILE]

| metric | workload | by hand |
|---|---|---|
| decode | frames of 1, 10 and 100 messages to typed events, deduped and counted | \
protobuf alone: gunzip and parse every message, build nothing |
| receive | 10,000 gifts in 1,000 frames, acknowledged, beside so many busy threads | \
`websocket-client` as its manual shows it: recv, the same decoder, send the acknowledgement |

The messages are those of the shipped room, with a new id each time; gifts, because livebot may shed
other kinds when it is behind, and all contenders must do the same work. The server is a process of
its own. Every contender's events are counted. `decode` is CPU time of the thread, `receive` is wall
time until the last event has arrived.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import websocket

from benchmarks.harness import Benchmark, main, seconds
from livebot.messages import KINDS
from livebot.sources import DouyinSource, read_recording, shipped_room
from livebot.sources import webcast_pb2 as webcast
from livebot.sources.decoding import METHODS, decode
from livebot.sources.encoding import encode
from livebot.sources.wire import ack, pack, read_frame, read_response

Frames = list[bytes]


def frames_of(size: int, count: int, kinds: tuple[str, ...] = tuple(KINDS)) -> Frames:
    """The shipped room in `count` frames of `size` messages, over and over under new ids."""
    room = [event for _, event in read_recording(shipped_room()) if event.kind in kinds]
    frames: Frames = []
    for number in range(count):
        first = number * size
        messages = [
            encode(room[index % len(room)], msg_id=10**18 + index)
            for index in range(first, first + size)
        ]
        response = webcast.Response(messages=messages, need_ack=True, internal_ext="seq:1")
        frames.append(pack(response, log_id=number + 1))
    return frames


# -- decode -------------------------------------------------------------------------------------


class Ignored:
    """A socket that takes every reply and is never behind."""

    backlog_bytes = 0

    def recv_data(self) -> tuple[int, bytes]:
        raise NotImplementedError

    def reply(self, payload: bytes) -> None:
        del payload

    def flush(self) -> None: ...
    def abort(self) -> None: ...
    def shutdown(self) -> None: ...

    send_binary = reply


def by_livebot(frames: Frames) -> int:
    """All a source does with a frame."""
    events: list[object] = []
    source = DouyinSource("ws://nowhere/", emit=events.append)
    for frame in frames:
        source._receive(frame, Ignored())  # noqa: SLF001 - what is measured
    return len(events)


def by_protobuf(frames: Frames) -> int:
    """The least that must be done to look into every message."""
    count = 0
    for frame in frames:
        for message in read_response(read_frame(frame)).messages:
            METHODS[message.method].payload.FromString(message.payload)
            count += 1
    return count


def decoding(work: Callable[[Frames], int], frames: Frames, events: int) -> float:
    """Microseconds of CPU for each event."""
    start = time.thread_time()
    assert work(frames) == events
    return (time.thread_time() - start) / events * 1e6


# -- receive ------------------------------------------------------------------------------------

SERVER = """
import contextlib, sys
from benchmarks.feed import frames_of
from websockets.sync.server import serve
frames = frames_of(10, int(sys.argv[1]), ("gift",))
def handler(connection):
    for frame in frames:
        connection.send(frame)
    with contextlib.suppress(Exception):
        while True:
            connection.recv()
server = serve(handler, "127.0.0.1", 0, compression=None)
print(server.socket.getsockname()[1], flush=True)
server.serve_forever()
"""


class Server:
    """The process that sends, started when it is first needed."""

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._process: subprocess.Popen[str] | None = None
        self._url = ""

    def url(self) -> str:
        """Where it listens."""
        if self._process is None:
            command = [sys.executable, "-c", SERVER, str(self._frames)]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert self._process.stdout is not None
            self._url = f"ws://127.0.0.1:{self._process.stdout.readline().strip()}/"
        return self._url

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


@contextlib.contextmanager
def busy(threads: int) -> Iterator[None]:
    """So many threads that compute all the time, as a pool does in a flood."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            sum(range(1000))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def source_receives(url: str, events: int) -> None:
    """A `DouyinSource`, until so many events have arrived."""
    seen, done = [0], threading.Event()

    def emit(_: object) -> None:
        seen[0] += 1
        if seen[0] == events:
            done.set()

    source = DouyinSource(url, emit=emit)
    source.start()
    assert done.wait(120), source.statistics()
    source.stop()


def manual_receives(url: str, events: int) -> None:
    """`websocket-client` by its manual."""
    client = websocket.create_connection(url, timeout=120)
    seen = 0
    while seen < events:
        frame = read_frame(client.recv())
        response = read_response(frame)
        for message in response.messages:
            seen += decode(message, time.monotonic()) is not None
        if response.need_ack:
            client.send_binary(ack(frame, response.internal_ext))
    client.shutdown()


def receiving(work: Callable[[str, int], None], server: Server, events: int, threads: int) -> float:
    """Microseconds for each event."""
    url = server.url()
    with busy(threads):
        return seconds(lambda: work(url, events)) / events * 1e6


def build(options: argparse.Namespace) -> Benchmark:
    """The cases."""
    bench = Benchmark(
        "feed", baseline="by hand", packages=["protobuf", "websocket-client", "websockets"]
    )
    total = 2_000 if options.quick else 20_000
    for size in (1, 10, 100):
        frames = frames_of(size, total // size)
        for name, work in (("by hand", by_protobuf), ("livebot", by_livebot)):
            bench.add(
                name,
                "decode",
                lambda work=work, frames=frames: decoding(work, frames, total),
                unit="us/event",
                workload=f"{size} a frame",
            )
    frame_count = 200 if options.quick else 1_000
    server = Server(frame_count)
    atexit.register(server.close)
    for threads in (0, 4):
        for name, receive in (("by hand", manual_receives), ("livebot", source_receives)):
            bench.add(
                name,
                "receive",
                lambda receive=receive, n=threads: receiving(receive, server, frame_count * 10, n),
                unit="us/event",
                workload=f"{threads} busy threads",
            )
    return bench


if __name__ == "__main__":
    main(build)
