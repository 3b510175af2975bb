"""What becomes of managers that nobody stopped: dropped while they run, or there at the exit."""

from __future__ import annotations

import atexit
import warnings

from threadkit._components._supervisor import Supervisor, running

_EXIT_BUDGET = 5.0  # seconds managers nobody stopped may hold up the interpreter's exit


def forgotten(name: str, supervisor: Supervisor) -> None:
    """A manager was collected; if it runs, that is a mistake, and it is stopped all the same."""
    if not supervisor.is_over:
        supervisor.begin_stop(_EXIT_BUDGET, final=True)
        warnings.warn(f"{name} was dropped while running: stop() it", ResourceWarning, stacklevel=2)


def _stop_at_exit() -> None:
    """Managers nobody stopped: their threads are daemons, so nothing else would."""
    stopping = running.copy()
    for supervisor in stopping:
        supervisor.is_exiting = True
        supervisor.begin_stop(_EXIT_BUDGET, final=True)
    for supervisor in stopping:
        supervisor.wait_until(lambda: False, _EXIT_BUDGET)


atexit.register(_stop_at_exit)
