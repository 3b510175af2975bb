"""A manager's hold on one component."""

from __future__ import annotations

from collections.abc import Callable

from threadkit._components._actor import Call
from threadkit._components._context import Context
from threadkit._components._rules import Component, Options
from threadkit._components._states import MOVES, ComponentState
from threadkit._components._timers import Timer


class Handle:
    """A component of a manager: what became of it so far.

    Thread safety: reading is safe from any thread. Only the manager's supervisor writes.

    Attributes:
        name: Its name in the manager.
        needs: Names of what it needs.
        generation: How many instances there were.
        restarts: How many of these replaced one that failed or was told to restart.
        error: The last thing that went wrong, as text.
        ready_at: The monotonic instant at which it last became ready.
        asked_at: The monotonic instant at which it was last asked to stop.
        stuck_at: Where the thread stands that did not start or stop it in time.
    """

    def __init__(
        self, name: str, make: Callable[[], Component], needs: tuple[str, ...], options: Options
    ) -> None:
        self.name = name
        self.needs = needs
        self.options = options
        self.make = make
        self.component: Component | None = None
        self.ctx: Context | None = None
        self._state = ComponentState.NEW
        self.generation = 0
        self.restarts = 0
        self.error: str | None = None
        self.ready_at = 0.0
        self.asked_at = 0.0
        self.stuck_at: str | None = None
        # What the supervisor wants of it: to be up, and if so, to go down first; never to come
        # back; how long to wait before it does.
        self.is_wanted = False
        self.is_bouncing = False
        self.is_given_up = False
        self.has_ended = False  # by itself, and well
        self.delay = 0.0
        self.attempt = 0  # failures in a row
        self.crash: BaseException | None = None  # came before start had returned
        self.call: Call | None = None  # of its start or stop
        self.timers: list[Timer] = []  # probe, watchdog and restart; cancelled when it goes down

    @property
    def state(self) -> ComponentState:
        """Where it is in its life."""
        return self._state

    @property
    def is_leaving(self) -> bool:
        """Whether its present instance has to go."""
        return self.is_bouncing or not self.is_wanted

    @property
    def is_ready(self) -> bool:
        """Whether those that need it may start."""
        return self.has_ended or (self._state.is_ready and not self.is_leaving)

    def want(self, wanted: bool) -> None:
        """Forget the past, and let it be wanted or not."""
        self.is_wanted = wanted
        self.is_bouncing = self.is_given_up = self.has_ended = False
        self.delay = 0.0
        self.attempt = 0
        self.cancel_timers()

    def give_call_up(self) -> bool:
        """Let whatever its start or stop comes to be too late; False: it is done already."""
        return self.call is None or self.call.claim()

    def move(self, state: ComponentState) -> ComponentState:
        """The only way from one state to another; the state before."""
        before = self._state
        if state not in MOVES[before]:
            raise AssertionError(f"{self.name} cannot go from {before.value} to {state.value}")
        self._state = state
        return before

    def cancel_timers(self) -> None:
        """Forget what was to be done for the present instance."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()

    def __repr__(self) -> str:
        return f"<Handle of {self.name}: {self._state.value}, generation {self.generation}>"
