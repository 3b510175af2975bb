"""Whether one restart more is one too many, and how long it waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from threadkit._components._handle import Handle
from threadkit._components._rules import Intensity
from threadkit._errors import RestartsExhausted


class Restarts:
    """Those of one manager, within its intensity. For the supervisor's thread."""

    def __init__(
        self, intensity: Intensity, clock: Callable[[], float], random: Callable[[], float]
    ) -> None:
        self._intensity = intensity
        self._clock = clock
        self._random = random
        self._counted_at: deque[float] = deque()

    def forget(self) -> None:
        """Begin anew, with the manager."""
        self._counted_at.clear()

    def count(self, handle: Handle) -> RestartsExhausted | None:
        """Count one; the exception if it is one too many."""
        now = self._clock()
        while self._counted_at and self._counted_at[0] <= now - self._intensity.per:
            self._counted_at.popleft()
        if len(self._counted_at) >= self._intensity.restarts:
            return RestartsExhausted(
                component=handle.name,
                restarts=len(self._counted_at),
                per=self._intensity.per,
            )
        self._counted_at.append(now)
        return None

    def delay(self, handle: Handle) -> float:
        """Seconds before the next one of a component; a healthy spell is forgiven."""
        backoff = handle.options.backoff
        if handle.ready_at and self._clock() - handle.ready_at >= backoff.reset_after:
            handle.attempt = 0
        handle.attempt += 1
        return backoff.delay(handle.attempt - 1, self._random)
