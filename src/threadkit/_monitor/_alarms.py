"""A thread that waits for an alarm, and has a sample taken at each."""

from __future__ import annotations

from collections.abc import Callable

from threadkit._monitor._readings import Alarm
from threadkit._runtime import Runtime, Thread

__all__ = ["AlarmThread"]


class AlarmThread:
    """Sleeps in the alarm until it goes off or is interrupted; then it is closed.

    Thread safety: `stop` and `join` from any thread.

    Lifetime: begins with its making, ends with `stop`, or when the alarm does.

    Raises:
        RuntimeError: The system has no thread to give; the alarm is closed.
    """

    def __init__(
        self, name: str, alarm: Alarm, go_off: Callable[[], object], runtime: Runtime
    ) -> None:
        self._alarm = alarm
        self._go_off = go_off
        # Guards `_is_over`; held while the alarm is interrupted, which never blocks, so that it is
        # not closed in the middle of it.
        self._lock = runtime.lock()
        self._is_over = False
        self._thread: Thread = runtime.thread(self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            alarm.close()
            raise

    @property
    def ident(self) -> int | None:
        """Its thread's identifier."""
        return self._thread.ident

    def stop(self) -> None:
        """Let it end."""
        with self._lock:
            if not self._is_over:
                self._alarm.interrupt()

    def join(self, timeout: float | None) -> bool:
        """Wait for the end; False: it was not in time."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self._alarm.wait():
                self._go_off()
        finally:
            with self._lock:
                self._is_over = True
                self._alarm.close()
