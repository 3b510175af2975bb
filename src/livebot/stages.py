"""What stands between two queues: takes entries from one and hands them on, in its own thread."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable
from typing import Any

from livebot.ledger import Entry, Stage
from threadkit import (
    REAL,
    Context,
    DynamicThreadPool,
    MessageQueue,
    PoolClosed,
    QueueClosed,
    QueueEmpty,
    Runtime,
)

__all__ = ["AsyncMessageHandler", "MessageHandler", "VoiceStage"]

logger = logging.getLogger("livebot")

Work = Callable[[Entry], None]
Refuse = Callable[[Entry, str], None]
"""Takes an entry that could not be worked on, and why."""


class _Stage:
    """A thread between two queues: a component that can be begun again after its thread died.

    A restart lets a thread that lives go on: what it does has no state that could be refreshed,
    and its queue must not be closed.
    """

    def __init__(self, name: str, runtime: Runtime) -> None:
        self._name = name
        self._make_thread = runtime.thread
        self._thread: Any = None
        self._ctx: Context | None = None

    def start(self, ctx: Context | None = None, /) -> None:
        """Begin to take from the queue."""
        self._ctx = ctx
        if self._thread is None or not self._thread.is_alive():
            self._thread = self._make_thread(self._run, name=self._name, daemon=True)
            self._thread.start()

    def stop(self, ctx: Context | None = None, /) -> None:
        """Take nothing more, unless it is to be begun again. Blocks: until work in hand is done."""
        if ctx is not None and not ctx.final:
            return
        self._end()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._work_off()
        except Exception as exc:
            if self._ctx is None:
                raise
            self._ctx.fail(exc)

    def _work_off(self) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError


class _QueueHandler(_Stage):
    """What both handlers are: a thread between a queue and a pool."""

    def __init__(
        self,
        queue: MessageQueue[Entry],
        pool: DynamicThreadPool,
        work: Work,
        refused: Refuse,
        *,
        runtime: Runtime = REAL,
    ) -> None:
        super().__init__("livebot-messages", runtime)
        self._queue = queue
        self._pool = pool
        self._work = work
        self._refused = refused

    def _end(self) -> None:
        self._queue.close(drain=False)


class MessageHandler(_QueueHandler):
    """The handler made of a thread: it waits while the bounded pool is full.

    Thread safety: `work` and `refused` are called from several threads.

    Lifetime: a component. `stop` leaves what is still in the queue where it is counted.

    Args:
        queue: Where entries come from; closed by `stop`.
        pool: Does the work; its `overflow` should be "block".
        work: Done with each entry, on the pool.
        refused: Called with an entry that the pool would not take, and why.
        runtime: The thread.
    """

    def _work_off(self) -> None:
        while True:
            try:
                entry = self._queue.get()
            except QueueClosed:
                return
            try:
                self._pool.submit(self._work, entry)
            except PoolClosed:
                self._refused(entry, "stopping")
            except Exception:
                self._refused(entry, "error while answering")
                raise


class AsyncMessageHandler(_QueueHandler):
    """The handler made of coroutines: the same promises, for programs built around asyncio.

    One coroutine takes entries, each is looked after by a task of its own, and at most
    `concurrency` tasks exist at a time: beyond that, entries wait in the queue, where the least
    important can still be dropped. Blocking work runs on the pool.

    Thread safety, lifetime: as of `MessageHandler`. The event loop runs in a thread of its own and
    ends with it; `stop` waits for the tasks under way.

    Args:
        queue: As of `MessageHandler`, and the same for the rest.
        pool: Does the blocking work.
        work: Done with each entry, on the pool.
        refused: Called with an entry that the pool would not take, and why.
        concurrency: Tasks at a time, at least 1.
        runtime: The thread.

    Raises:
        ValueError: `concurrency` is less than 1.
    """

    def __init__(
        self,
        queue: MessageQueue[Entry],
        pool: DynamicThreadPool,
        work: Work,
        refused: Refuse,
        *,
        concurrency: int = 16,
        runtime: Runtime = REAL,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency!r}")
        super().__init__(queue, pool, work, refused, runtime=runtime)
        self._concurrency = concurrency

    def _work_off(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        room = asyncio.Semaphore(self._concurrency)
        tasks: set[asyncio.Task[None]] = set()

        def done(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            room.release()

        while True:
            await room.acquire()
            try:
                entry = await self._queue.aget()
            except QueueClosed:
                break
            task = asyncio.create_task(self._look_after(entry))
            tasks.add(task)
            task.add_done_callback(done)
        if tasks:
            await asyncio.wait(tasks)

    async def _look_after(self, entry: Entry) -> None:
        try:
            await self._pool.run(self._work, entry)
        except (PoolClosed, asyncio.CancelledError):  # the pool is stopping
            self._refused(entry, "stopping")
        except Exception:
            logger.exception("the work on %s failed", entry.event.id)
            if entry.stage is Stage.RECEIVED:  # it was never begun
                self._refused(entry, "error while answering")


class VoiceStage(_Stage):
    """Takes the best entry whenever there is room ahead of the player, not before.

    An entry that waits in the queue can still be overtaken or dropped as stale; one that was taken
    cannot. So only `lookahead` sentences are on their way to the ear at a time. The sentences of
    one entry follow one another, also while the last of them are still being written; an entry
    whose next sentence does not come within `stall` seconds is over.

    Lifetime: a component. `stop` leaves what is still in the queue where it is counted.

    Args:
        queue: Entries to speak, closed by `stop`.
        speak: Takes each sentence with its number in the order of the room: 0, 1, ...
        complete: Told when no more sentences of an entry will come.
        lookahead: Sentences between the queue and the ear.
        stall: Seconds to wait for the next sentence of an entry.
        runtime: Thread and queue.
    """

    def __init__(
        self,
        queue: MessageQueue[Entry],
        speak: Callable[[int, Entry, str], None],
        complete: Work,
        *,
        lookahead: int,
        stall: float,
        runtime: Runtime = REAL,
    ) -> None:
        super().__init__("livebot-voice", runtime)
        self._queue = queue
        self._speak = speak
        self._complete = complete
        self._stall = stall
        self._numbers = itertools.count()
        self._room: Any = runtime.simple_queue()  # one True for each sentence that may be taken
        for _ in range(lookahead):
            self._room.put(True)
        self._has_room = False  # whether the thread holds room for a sentence; touched by it alone
        self._current: Entry | None = None  # whose sentences are being taken
        self.stopping = False

    def next(self) -> None:
        """One sentence is done with: another may be taken. Any thread may call it."""
        self._room.put(True)

    def _end(self) -> None:
        """Take nothing more, also of the entry in hand, however slowly it is being written.

        Its sentences are closed by whoever comes second of this and the stage's thread: one sets
        the flag and then looks for an entry, the other shows its entry and then looks at the flag.
        """
        self.stopping = True
        self._queue.close(drain=False)
        self._room.put(False)
        current = self._current
        if current is not None:
            current.sentences.close(drain=False)

    def _work_off(self) -> None:
        while self._room.get():
            self._has_room = True
            try:
                entry = self._queue.get()
            except QueueClosed:
                return
            try:
                self._speak_all(entry)
            except Exception:
                self._give_up(entry)
                raise

    def _speak_all(self, entry: Entry) -> None:
        """Hand on every sentence of `entry`, the first into the room that was taken for it."""
        self._current = entry
        while not self.stopping:
            try:
                sentence = entry.sentences.get(timeout=self._stall)
            except (QueueClosed, QueueEmpty):
                break
            if not (self._has_room or self._room.get()):
                break  # stopping
            self._has_room = True
            self._speak(next(self._numbers), entry, sentence)
            self._has_room = False
        entry.sentences.close(drain=False)
        if self.stopping:
            return  # it stays pending: the bot was stopped before its end
        self._complete(entry)
        self._give_room_back()

    def _give_room_back(self) -> None:
        if self._has_room:
            self._has_room = False
            self._room.put(True)

    def _give_up(self, entry: Entry) -> None:
        """Before the thread dies of `entry`: its successor finds room, and the books are right."""
        entry.sentences.close(drain=False)
        self._give_room_back()
        with contextlib.suppress(Exception):  # it may be what failed; the first failure is told
            self._complete(entry)
