"""A recording as a source: at its own pace, faster, or event by event."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from livebot.messages import Event
from livebot.sources.connection import OnState
from livebot.sources.feed import Emit
from livebot.sources.tally import Batch, FeedState, SourceStatistics, Tally
from threadkit import REAL, Runtime

__all__ = ["ReplaySource"]

logger = logging.getLogger("livebot.sources")


class ReplaySource:
    """Hands over recorded events as if they came from a room, without a network.

    ```
    source = ReplaySource(read_recording("evening.jsonl"), speed=10.0, emit=queue.put)
    source.start()
    ```

    Or event by event, on the calling thread and without `start`:

    >>> from livebot.messages import Chat
    >>> heard = []
    >>> source = ReplaySource([(0.0, Chat(id="1", text="你好"))], emit=heard.append)
    >>> source.step(), heard[0].text, source.step(), source.state.value
    (1, '你好', 0, 'ended')

    Thread safety: any thread may call anything. `emit` and `on_state` are called on the replay's
    own thread, or on that of `step`.

    Lifetime: whoever starts it stops it; a recording is played once.

    Args:
        events: (seconds, event) pairs in order of time, read as they are needed.
        emit: Takes each event. Other than a live feed's it may block: the recording waits.
        speed: Seconds of the recording in one of ours; infinity for no pauses at all.
        on_state: Told each new state and a sentence about it.
        name: Begins log lines and names the thread.

    Raises:
        ValueError: `speed` is not above 0.
    """

    def __init__(
        self,
        events: Iterable[tuple[float, Event]],
        *,
        emit: Emit,
        speed: float = 1.0,
        on_state: OnState | None = None,
        name: str = "replay",
        runtime: Runtime = REAL,
    ) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be above 0, not {speed}")
        self._events: Iterator[tuple[float, Event]] = iter(events)
        self._emit = emit
        self._speed = speed
        self._on_state = on_state
        self._name = name
        self._runtime = runtime
        self._monotonic = runtime.monotonic
        self._tally = Tally(name, runtime=runtime)
        self._stopping = runtime.event()
        # Guards _events, which is a generator over a file: two threads must not enter it at once.
        self._reading = runtime.lock()
        self._thread: Any = None
        self.state = FeedState.NEW
        """What it is doing."""

    def start(self, ctx: object = None) -> None:
        """Begin to play, on a thread of its own.

        Args:
            ctx: A ComponentManager's context; not needed.
        """
        del ctx
        self._become(FeedState.CONNECTED, "playing the recording")
        self._thread = self._runtime.thread(self._run, name=f"livebot-{self._name}", daemon=True)
        self._thread.start()

    def stop(self, ctx: object = None) -> None:
        """End it, in the middle of a pause too. `emit` may call it. Blocks: as long as `emit` does.

        Args:
            ctx: A ComponentManager's context; not needed.
        """
        del ctx
        self._stopping.set()
        if self._thread is not None and self._thread.ident != self._runtime.get_ident():
            self._thread.join()

    def step(self, count: int = 1) -> int:
        """Hand over the next `count` events now. Returns how many there were.

        Raises:
            ValueError: A line of the recording cannot be read.
        """
        for handed in range(count):
            item = self._next()
            if item is None:
                self._end("the recording has ended")
                return handed
            self._hand_over(item[1])
        return count

    def statistics(self) -> SourceStatistics:
        """What it did so far."""
        return self._tally.snapshot(self.state)

    def _run(self) -> None:
        try:
            self._play()
        except ValueError as exc:  # a line that cannot be read
            logger.error("%s: %s", self._name, exc)  # noqa: TRY400 - the line says it all
            self._end(str(exc))

    def _play(self) -> None:
        began_at: float | None = None
        while (item := self._next()) is not None:
            t, event = item
            if began_at is None:
                began_at = self._monotonic() - t / self._speed
            pause = began_at + t / self._speed - self._monotonic()
            if self._stopping.wait(max(0.0, pause)):
                self._become(FeedState.STOPPED, "stopped")
                return
            self._hand_over(event)
        self._end("the recording has ended")

    def _next(self) -> tuple[float, Event] | None:
        with self._reading:
            return next(self._events, None)

    def _hand_over(self, event: Event) -> None:
        batch = Batch()
        batch.received[event.kind] += 1
        now = self._monotonic()
        self._tally.deliver(dataclasses.replace(event, received_at=now), self._emit, batch)
        self._tally.add(batch)

    def _end(self, sentence: str) -> None:
        if self.state is not FeedState.ENDED:
            self._become(FeedState.ENDED, sentence)

    def _become(self, state: FeedState, sentence: str) -> None:
        self.state = state
        if self._on_state is not None:
            self._on_state(state, sentence)
