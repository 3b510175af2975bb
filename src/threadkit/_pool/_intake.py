"""The long way into the backlog: bounds, levels, keys.

A plain pool's `submit` puts a task into the backlog without a lock. Once a pool is bounded, has
levels or is closing, or a task has a key, tasks come this way.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Protocol

from threadkit._errors import Rejected
from threadkit._futures import Future
from threadkit._pool._options import TaskOptions, options_of
from threadkit._pool._settings import bounded
from threadkit._pool._worker import blocking, current_worker

if TYPE_CHECKING:
    from threadkit._pool._crew import Crew

__all__ = ["Intake"]

SUPERSEDED = "superseded by a newer task with the same key"
DROPPED = "dropped for a newer task"


class _Ticket(Protocol):
    """A producer that waits for room; `release` wakes it, once."""

    def release(self) -> None: ...


class _Coroutine:
    """A coroutine that waits for room."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.woken = asyncio.Event()

    def release(self) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self.woken.set)


class Intake:
    """Puts tasks into one crew's backlog, and makes or waits for the room they need."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self.limit = crew.settings.queue_limit
        self.overflow = crew.settings.overflow
        self.timeout = bounded(crew.settings.overflow_timeout)
        # Producers that wait for room, longest first. Whoever pops one has to release it.
        self.blocked: deque[_Ticket] = deque()
        # Pops and releases in one call in C, which no signal can interrupt.
        self._admit_first = map(methodcaller("release"), iter(self.blocked.popleft, None)).__next__
        # The accepted task with a key that came last, until it is collected.
        self._keys: weakref.WeakValueDictionary[Any, Future[Any]] = weakref.WeakValueDictionary()
        self.start_anew()

    def start_anew(self) -> None:
        """In the child of a fork: nobody waits, and nobody holds the lock."""
        self.blocked.clear()
        # Tasks with a key whose producers wait for room, in the order of their coming; false when
        # a newer one with the same key has come in.
        self._outside: dict[Future[Any], bool] = {}
        # Guards the decision whether there is room, with the put that follows from it, and the
        # keys. Held for bookkeeping (finding a victim: O(levels)); never across a wait, user code
        # or callbacks. Taken before the ledger's lock.
        self._lock = self._crew.runtime.rlock()
        # So many tasks may be put in without a look at the backlog: there was room for them, and
        # who takes tasks out only makes more.
        self._room = 0

    # -- in ---------------------------------------------------------------------------------

    def door(self, options: TaskOptions) -> Callable[[Future[Any]], None]:
        """`put` for tasks with these options, as short as it may be."""
        crew, length = self._crew, self._crew.backlog.__len__
        append = crew.backlog.door(options.level)
        limit = self.limit
        if limit is None:
            return append

        def put(future: Future[Any]) -> None:
            with self._lock:
                room = self._room or limit - length()
                if room > 0 and not crew.refusing:
                    self._room = room - 1
                    append(future)
                    return
            self.put(future, options)

        return put

    def way_out(self) -> Callable[[], Future[Any]]:
        """`take` for workers, as short as it may be: out of a bounded backlog it gives room."""
        crew, take, blocked = self._crew, self._crew.backlog.take, self.blocked
        if self.limit is None:
            return take

        def take_and_give_room() -> Future[Any]:
            # The worker looks again; here it keeps the task's place from being given away.
            if crew.paused and not crew.closing:
                raise IndexError
            roster = crew.roster
            if roster.abandoned and roster.is_abandoned(current_worker()):
                raise IndexError  # it was given up in the middle of its last task, and is to leave
            future = take()
            if blocked:
                self.give_room()
            return future

        return take_and_give_room

    def put(self, future: Future[Any], options: TaskOptions) -> None:
        """Put the task into the backlog, or do what the rule says when that is full.

        Blocks: while the queue is full, if that is the rule.

        Raises:
            Rejected: There is no room, and none came in time.
            PoolClosed: The pool closed meanwhile.
        """
        if self.may_block():
            self._put_or_wait(future, options)
        elif not self._try_put(future, options, None):
            if self.overflow != "caller_runs":
                raise self._rejected(options, "the queue is full")
            self._crew.run_in_caller(future)

    def _put_or_wait(self, future: Future[Any], options: TaskOptions) -> None:
        crew = self._crew
        deadline = None if self.timeout is None else crew.clock() + self.timeout
        while True:
            ticket = crew.runtime.lock()
            ticket.acquire()
            if self._try_put(future, options, ticket):
                return
            left = -1.0 if deadline is None else max(0.0, deadline - crew.clock())
            # A task that waits for room in its own pool must not keep the others from making it.
            try:
                with blocking(crew):
                    came = ticket.acquire(True, left)
            except BaseException:  # a signal handler's
                self._give_up(ticket, future)
                raise
            if not came:
                if self._give_up(ticket, future):
                    return
                raise self._rejected(options, f"no room within {self.timeout:g} s")

    def may_block(self) -> bool:
        """Whether `put` waits for room."""
        return self.overflow == "block" and self.limit is not None

    async def put_from_coroutine(self, future: Future[Any], options: TaskOptions) -> None:
        """As `put` where the rule is to block, without blocking the event loop."""
        loop = asyncio.get_running_loop()
        deadline = None if self.timeout is None else loop.time() + self.timeout
        while True:
            ticket = _Coroutine(loop)
            if self._try_put(future, options, ticket):
                return
            left = None if deadline is None else deadline - loop.time()
            try:
                await asyncio.wait_for(ticket.woken.wait(), left)
            except asyncio.TimeoutError:
                if self._give_up(ticket, future):
                    return
                reason = f"no room within {self.timeout:g} s"
                raise self._rejected(options, reason) from None
            except BaseException:
                self._give_up(ticket, future)
                raise

    def _try_put(self, future: Future[Any], options: TaskOptions, ticket: _Ticket | None) -> bool:
        """Put the task in if there is room or room can be made; else queue the ticket."""
        crew = self._crew
        superseded: list[Future[Any]] = []
        with self._lock:
            if crew.refusing:
                self._outside.pop(future, None)
                raise crew.refusal()
            if (
                self._outside.get(future) is False
            ):  # a newer one with its key came in while its producer waited
                del self._outside[future]
                self.give_room()
                return True
            if options.key is not None:
                superseded += self._queued_with_key_locked(options.key)
            victim = None if superseded else self._victim_locked(options)
            full = not superseded and self.limit is not None and len(crew.backlog) >= self.limit
            if not full:
                self._room = 0  # look again
                crew.backlog.put(future)
                if options.key is not None:
                    self._keys[options.key] = future
                    superseded += self._came_before_locked(future, options.key)
                    self._outside.pop(future, None)
            elif ticket is not None:
                self._queue_locked(ticket, future, options)
        for older in superseded:
            crew.drop(older, self._rejected(options_of(older), SUPERSEDED), "superseded")
        if victim is not None:
            crew.drop(victim, self._rejected(options_of(victim), DROPPED), "dropped")
        return not full

    def _queue_locked(self, ticket: _Ticket, future: Future[Any], options: TaskOptions) -> None:
        """Let the producer wait.

        1. A worker takes a task, then looks for a ticket.
        2. A ticket is queued, then room is looked for. One of the two sees the other.
        """
        if options.key is not None:
            self._outside.setdefault(future, True)
        self.blocked.append(ticket)
        if self.limit is not None and len(self._crew.backlog) < self.limit:
            self.give_room()

    # -- keys -------------------------------------------------------------------------------

    def _queued_with_key_locked(self, key: object) -> list[Future[Any]]:
        """The task with this key that waits for a worker, taken out of the backlog."""
        older = self._keys.get(key)
        return [] if older is None or not self._crew.remove(older) else [older]

    def _came_before_locked(self, future: Future[Any], key: object) -> list[Future[Any]]:
        """Tasks with this key whose producers wait, and have done so for longer than this one's.

        They are counted as if they had been in the queue: their producers get their futures.
        """
        before: list[Future[Any]] = []
        for other, waits in list(self._outside.items()):
            if other is future:
                break
            if waits and options_of(other).key == key:
                self._outside[other] = False
                before.append(other)
        self._crew.ledger.removed(len(before))
        return before

    def _victim_locked(self, options: TaskOptions) -> Future[Any] | None:
        """A task taken out of the full backlog to make room, if the rule says so."""
        backlog = self._crew.backlog
        if self.limit is None or len(backlog) < self.limit:
            return None
        if self.overflow == "drop_oldest":
            victim = backlog.oldest()
        elif self.overflow == "drop_lowest":
            victim = backlog.lowest(options.level)
        else:
            return None
        return victim if victim is not None and self._crew.remove(victim) else None

    def _rejected(self, options: TaskOptions, reason: str) -> Rejected:
        if reason not in (SUPERSEDED, DROPPED):
            self._crew.count("rejected")
        return Rejected(
            component=self._crew.name, reason=reason, limit=self.limit or 0, task=options.label
        )

    # -- room -------------------------------------------------------------------------------

    def give_room(self) -> None:
        """A task has left the backlog: let the producer that waited longest try."""
        if self.blocked:
            with suppress(IndexError):
                self._admit_first()

    def give_up_all(self) -> None:
        """The pool takes no more: let every producer that waits find out."""
        while self.blocked:
            self.give_room()

    def _give_up(self, ticket: _Ticket, future: Future[Any]) -> bool:
        """Take a ticket back; whether its task was superseded meanwhile.

        If it was served just now, the next in line gets the room.
        """
        try:
            self.blocked.remove(ticket)
        except ValueError:
            self.give_room()
        with self._lock:
            return self._outside.pop(future, True) is False
