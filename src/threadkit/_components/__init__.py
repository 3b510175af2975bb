"""Components and their manager: started by need, watched, restarted by rule, stopped in time.

* `_states`: the states, and the only moves between them.
* `_rules`: what a component is, and what the manager may be told of health and restarts.
* `_context`: what an instance sees of its manager; `_fences`: what it cannot do once replaced.
* `_graph`: orders and circles of needs.
* `_actor`: one thread that thinks, short-lived ones that do what may block; `_timers`.
* `_supervisor`: which component starts or stops next, and why.
* `_starting`, `_stopping`: how it does; `_restarts`: how often; `_watching`: probes and beats.
* `_journal`: states and failures written down, and who waits for them.
* `_events`, `_reports`: what happened, and how things stand.
* `_parts`: pools, caches, queues, functions and managers as components; `_registry`: by name.
* `_requests`: what ends a program; `_exit`: managers that nobody stopped.
* `_manager`: `ComponentManager`, the door.
"""

from threadkit._components._context import Context
from threadkit._components._events import ComponentEvent
from threadkit._components._fences import FencedPool, FencedQueue
from threadkit._components._handle import Handle
from threadkit._components._manager import ComponentManager
from threadkit._components._reports import ComponentReport, ManagerReport
from threadkit._components._rules import Backoff, Component, Health, Intensity, Probe
from threadkit._components._states import ComponentState

__all__ = [
    "Backoff",
    "Component",
    "ComponentEvent",
    "ComponentManager",
    "ComponentReport",
    "ComponentState",
    "Context",
    "FencedPool",
    "FencedQueue",
    "Handle",
    "Health",
    "Intensity",
    "ManagerReport",
    "Probe",
]
