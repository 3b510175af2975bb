"""The states of a component, and the only moves between them."""

from __future__ import annotations

import enum


class ComponentState(enum.Enum):
    """Where a component is in its life.

    ::

        NEW --> STARTING --> RUNNING <--> DEGRADED
                 |   ^          |
                 |   |          v
                 |  BACKOFF  DRAINING --> STOPPING --> STOPPED
                 v   ^          |            |
               FAILED           +------------+--> ABANDONED

    A component that is restarted goes from STOPPING to BACKOFF and STARTING again, under a new
    generation. STOPPED, FAILED and ABANDONED are ends, until somebody starts it again.
    """

    NEW = "new"
    """It was added and never started."""
    STARTING = "starting"
    """Its start was called and is not done."""
    RUNNING = "running"
    """It is ready: those that need it may start."""
    DEGRADED = "degraded"
    """It runs, but says it is not ready, or is about to be restarted."""
    DRAINING = "draining"
    """It finishes what it has begun before it is stopped."""
    STOPPING = "stopping"
    """Its stop was called and is not done."""
    STOPPED = "stopped"
    """It has stopped."""
    BACKOFF = "backoff"
    """It failed and waits for its restart."""
    FAILED = "failed"
    """It did not start, or failed and is not restarted, or raised while stopping."""
    ABANDONED = "abandoned"
    """It did not stop in time; its thread may still run. Its successor is fenced off from it."""

    @property
    def is_up(self) -> bool:
        """Whether there is an instance that was told to start and is not done stopping."""
        return self in _UP

    @property
    def is_ready(self) -> bool:
        """Whether those that need it may start."""
        return self is ComponentState.RUNNING


_UP = frozenset(
    {
        ComponentState.STARTING,
        ComponentState.RUNNING,
        ComponentState.DEGRADED,
        ComponentState.DRAINING,
        ComponentState.STOPPING,
    }
)


def _moves(text: str) -> frozenset[ComponentState]:
    return frozenset(ComponentState[name] for name in text.split())


MOVES: dict[ComponentState, frozenset[ComponentState]] = {
    ComponentState.NEW: _moves("STARTING"),
    ComponentState.STARTING: _moves("RUNNING BACKOFF FAILED ABANDONED"),
    ComponentState.RUNNING: _moves("DEGRADED DRAINING STOPPING"),
    ComponentState.DEGRADED: _moves("RUNNING DRAINING STOPPING"),
    ComponentState.DRAINING: _moves("STOPPING"),
    ComponentState.STOPPING: _moves("STOPPED BACKOFF FAILED ABANDONED"),
    ComponentState.STOPPED: _moves("STARTING"),
    ComponentState.BACKOFF: _moves("STARTING STOPPED"),
    ComponentState.FAILED: _moves("STARTING"),
    ComponentState.ABANDONED: _moves("STARTING BACKOFF"),
}
