"""What ends a program: signals, requests, or its manager's own end. For its main thread."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import socket
from collections.abc import Generator, Sequence

from threadkit._platform import signal_wait_slice
from threadkit._runtime import Runtime

_log = logging.getLogger("threadkit.components")


class Requests:
    """A queue of them, in the order they came.

    Thread safety: `ask` and `tell_over` may be called from any thread and from a signal handler;
    the rest belongs to the main thread.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        # Signal numbers, None for a request, and _OVER. Putting is all a signal handler may do:
        # Event.set and Queue.put can deadlock there.
        self._queue = runtime.simple_queue()

    def ask(self) -> None:
        """Somebody wants the program to end."""
        self._queue.put(None)

    def tell_over(self) -> None:
        """The manager has come to its end."""
        self._queue.put(_OVER)

    def wait_first(self) -> bool:
        """Wait until the program is to end; false when the manager is over by itself."""
        first = self._next()
        if isinstance(first, int):
            _log.info("%s: the program is to end", signal.Signals(first).name)
        return first is not _OVER

    def wait_over(self) -> None:
        """Wait until the manager is over, or another signal comes. Asking again is none."""
        while self._next() is None:
            pass

    def forget(self) -> None:
        """Whatever came too late for this run is no request to the next."""
        self._queue = self._runtime.simple_queue()

    def _next(self) -> object:
        wait = signal_wait_slice()
        while True:
            with contextlib.suppress(queue.Empty):
                if (request := self._queue.get(timeout=wait)) is not _LOOK:
                    return request

    @contextlib.contextmanager
    def heeding(self, signals: Sequence[signal.Signals]) -> Generator[None]:
        """Take signals in meanwhile."""
        with contextlib.ExitStack() as undo:
            if signals:
                undo.enter_context(self._woken())
            for number in signals:
                # None stands for a handler that was not set from Python: nothing can restore it.
                before = signal.signal(number, self._on_signal) or signal.SIG_DFL
                undo.callback(signal.signal, number, before)
            yield

    @contextlib.contextmanager
    def _woken(self) -> Generator[None]:
        """Wake the main thread whenever a signal came, so that it runs the handler.

        Without that one can be lost: 1. The main thread has looked for signals and is about to
        block. 2. A signal comes, or another thread is given it: the interpreter only notes it.
        3. The main thread blocks, and nothing interrupts it. But what the interpreter notes it
        writes to a socket as well.
        """
        ours, noted = socket.socketpair()
        with ours, noted:
            noted.setblocking(False)  # it may not hold up a signal
            reader = self._runtime.thread(
                self._pass_on, args=(ours,), name="threadkit-signals", daemon=True
            )
            reader.start()
            before = signal.set_wakeup_fd(noted.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                signal.set_wakeup_fd(before)
                noted.close()
                reader.join()

    def _pass_on(self, ours: socket.socket) -> None:
        while ours.recv(64):
            self._queue.put(_LOOK)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._queue.put(number)


_OVER = object()
_LOOK = object()  # a signal came: its handler runs when the main thread wakes
