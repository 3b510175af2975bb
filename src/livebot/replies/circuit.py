"""When to leave a failing service alone, and how often it may be asked at all."""

from __future__ import annotations

from collections import deque

from threadkit import REAL, Runtime

__all__ = ["Budget", "Circuit"]


class Circuit:
    """A circuit breaker (Nygard, Release It!, 2007).

    Closed: calls pass. After `failures` in a row it opens: calls are refused for `cool_off`
    seconds. Then one call may try; its success closes the circuit, its failure opens it again.

    Thread safety: any thread may call anything.

    Args:
        failures: How many in a row open it.
        cool_off: Seconds it stays open.
        runtime: Clock and lock.
    """

    def __init__(
        self, failures: int = 3, cool_off: float = 30.0, *, runtime: Runtime = REAL
    ) -> None:
        self._limit = failures
        self._cool_off = cool_off
        self._monotonic = runtime.monotonic
        # Guards what is below; held for a comparison.
        self._lock = runtime.lock()
        self._failures = 0
        self._opened_at: float | None = None
        self._trying = False

    def allows(self) -> bool:
        """Whether a call may be made now. Who gets True says how it went, or that it forwent it."""
        with self._lock:
            if self._opened_at is None:
                return True
            if self._trying or self._monotonic() < self._opened_at + self._cool_off:
                return False
            self._trying = True
            return True

    def succeeded(self) -> None:
        """A call went well: the circuit is closed."""
        with self._lock:
            self._failures = 0
            self._opened_at = None
            self._trying = False

    def failed(self) -> None:
        """A call failed: the circuit may open."""
        with self._lock:
            self._failures += 1
            self._trying = False
            if self._failures >= self._limit:
                self._opened_at = self._monotonic()

    def forgone(self) -> None:
        """The call was not made, or not waited for: nothing was learnt."""
        with self._lock:
            self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, but for the one that may try."""
        with self._lock:
            return self._opened_at is not None


class Budget:
    """At most so many calls in any minute.

    Thread safety: any thread may call `spend`.

    Args:
        per_minute: How many; 0 allows none.
        runtime: Clock and lock.
    """

    def __init__(self, per_minute: int, *, runtime: Runtime = REAL) -> None:
        self._per_minute = per_minute
        self._monotonic = runtime.monotonic
        # Guards the instants of the last minute's calls, oldest first; held for a few pops.
        self._lock = runtime.lock()
        self._spent_at: deque[float] = deque()

    def spend(self) -> bool:
        """Take one call out of the budget; False when there is none left."""
        now = self._monotonic()
        with self._lock:
            while self._spent_at and self._spent_at[0] <= now - 60.0:
                self._spent_at.popleft()
            if len(self._spent_at) >= self._per_minute:
                return False
            self._spent_at.append(now)
            return True
