"""What rules that only know how to grow share: letting go of workers nobody used."""

from __future__ import annotations

from threadkit.sizing._snapshot import Decision, PoolSnapshot

__all__ = ["rest"]


def rest(snapshot: PoolSnapshot, window: float | None = None) -> Decision:
    """The present size, without the workers that were idle for the window.

    Args:
        snapshot: The present state, in which no task lacks a worker.
        window: Seconds; None means the pool's `idle_timeout`.
    """
    window = snapshot.idle_timeout if window is None else window
    surplus = sum(age >= window for age in snapshot.idle_ages)
    if surplus:
        return Decision(snapshot.workers - surplus, f"{surplus} idle for {window:g} s")
    return Decision(snapshot.workers, "no task lacks a worker")
