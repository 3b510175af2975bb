"""Threads that run when the scheduler says so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from threadkit.testing._preemption import Preemption
from threadkit.testing._scheduler import Actor, Scheduler

__all__ = ["SimThread"]


class SimThread(threading.Thread):
    """A `threading.Thread` of a `SimRuntime`: a real one, that waits for its turn.

    `ident` is a small number, the same in every replay.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        preemption: Preemption,
        refuse_start: Callable[[], bool],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._scheduler = scheduler
        self._preemption = preemption
        self._refuse_start = refuse_start
        self._actor: Actor | None = None

    @property
    def ident(self) -> int | None:
        return self._actor.ident if self._actor is not None else None

    def start(self) -> None:
        scheduler = self._scheduler
        scheduler.point("starts", self)
        if scheduler.current is None:
            raise RuntimeError("a simulated thread can only be started inside SimRuntime.run")
        if self._actor is not None:
            raise RuntimeError("threads can only be started once")
        if self._refuse_start():
            raise RuntimeError("can't start new thread")
        self._actor = scheduler.spawn(self.name, self, daemon=self.daemon)
        super().start()
        scheduler.point("started", self)

    def run(self) -> None:
        if self._actor is not None:
            self._scheduler.body(self._actor, self._traced)

    def _traced(self) -> None:
        with self._preemption():
            super().run()

    def join(self, timeout: float | None = None) -> None:
        scheduler = self._scheduler
        scheduler.point("joins", self)
        actor = self._actor
        if actor is None:
            raise RuntimeError("cannot join thread before it is started")
        if actor is scheduler.current:
            raise RuntimeError("cannot join current thread")
        if not actor.dead:
            waiter = scheduler.waiter()
            actor.joiners.append(waiter)
            scheduler.park(waiter, "joins", self, None if timeout is None else max(timeout, 0.0))

    def is_alive(self) -> bool:
        self._scheduler.point("looks at", self)
        return self._actor is not None and not self._actor.dead

    def label(self) -> str:
        return f"thread {self.name!r}"

    describe = label

    def __repr__(self) -> str:
        state = "initial" if self._actor is None else "stopped" if self._actor.dead else "started"
        return f"<SimThread {self.name!r} {state}>"
