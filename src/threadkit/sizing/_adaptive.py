"""The default policy: demand, bounded by saturation and contention; quick up, slow down."""

from __future__ import annotations

import math

from threadkit.sizing._check import at_least, positive
from threadkit.sizing._contention import Contention
from threadkit.sizing._saturation import Saturation
from threadkit.sizing._snapshot import Decision, PoolSnapshot
from threadkit.sizing._trial import Trial

__all__ = ["Adaptive"]

STARVED = 0.5  # seconds without a task taken from the queue, as .NET's starvation gate
TRIM = 1 / 6  # of the workers: a smaller surplus is not worth a change
TRIM_AFTER = 4  # windows, after which even a small surplus goes
LASTING = 1.0  # seconds after which a backlog calls for a trial
RECHECK = 0.02  # seconds between two looks at a backlog that nothing is done about
SOON = 0.005  # the same while the backlog may be a burst's
STEP = 0.25  # of the size: how far a trial goes beyond what the evidence recommends
FIRST_HOLD = 1.0  # seconds until the next trial after one that failed; doubles each time
LONGEST_HOLD = 60.0


class Adaptive:
    """As many workers as the work can use: the default of `DynamicThreadPool`.

    A queue of tasks that no idle worker can take makes it grow at once, by as many as are
    lacking, unless

    * the wait is bearable: a small part of what a task runs anyway;
    * the cores are saturated: tasks that compute would only slow one another down;
    * experience says that tasks take longer the more of them run (a database, a lock, a disk).

    When a backlog stays although the pool is as large as those reasons allow, or run times have
    grown far beyond the best seen, it compares two sizes by their measured throughput and keeps
    the better one. It shrinks to what was used at most during the window.

    >>> from threadkit.sizing import PoolSnapshot
    >>> busy = dict(min_workers=2, max_workers=64, workers=2, busy=2, queued=98)
    >>> policy = Adaptive()
    >>> policy.decide(PoolSnapshot(now=0.0, interval=0.0, **busy)).reason
    'looking whether the tasks compute or wait'
    >>> policy.decide(PoolSnapshot(now=0.003, interval=0.003, process_time=0.0001, **busy))
    Decision(size=100, reason='98 tasks wait for a worker', recheck=None)

    Sources: Little's law (1961) and KeepAlive for the demand, Gunther's Universal Scalability Law
    for the bound, .NET's starvation gate and measured comparisons, Kubernetes' stabilisation
    window for the way down. docs/decisions/0080 tells what was tried.

    Thread safety: none; a pool asks from one thread at a time.

    Lifetime: keeps what it learned of one pool; give every pool its own.

    Args:
        saturation: Share of the usable cores in use from which on it does not grow, unless the
            cores could feed many more tasks like those that ended.
        probe: Seconds for which it watches whether tasks compute, before it grows by many.
        patience: What a task may wait, as a share of the mean run time; and which part of the
            workers may lack. 0 grows for every single task that waits.
        window: Seconds for which workers must have been surplus before they go; None means the
            pool's `idle_timeout`.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        saturation: float = 0.7,
        probe: float = 0.003,
        patience: float = 0.25,
        window: float | None = None,
    ) -> None:
        self.patience = at_least("patience", patience, 0.0)
        self.window = None if window is None else positive("window", window)
        self._saturation = Saturation(
            limit=positive("saturation", saturation), probe=positive("probe", probe)
        )
        self._contention = Contention()
        self._wanted = math.inf
        self._taken_at = 0.0  # when a task was last taken from the queue, or none waited
        self._backlog_at: float | None = None  # since when tasks have lacked workers
        self._cap = math.inf  # the size a trial found to be better than more
        self._trial: Trial | None = None
        self._trial_at = -math.inf  # no trial before
        self._hold = FIRST_HOLD

    def decide(self, snapshot: PoolSnapshot, /) -> Decision:
        self._contention.observe(snapshot)
        self._saturation.observe(snapshot)
        if snapshot.started or not snapshot.queued:
            self._taken_at = snapshot.now
        # Busy workers that are to leave still count as workers, but are no longer wanted.
        size = int(min(snapshot.workers, self._wanted))
        lacking = snapshot.queued - snapshot.idle
        decision = (
            self._under_backlog(snapshot, size, lacking)
            if lacking > 0
            else self._without_backlog(snapshot, size)
        )
        self._wanted = snapshot.clamp(decision.size)
        return decision

    # -- no task lacks a worker -------------------------------------------------------------

    def _without_backlog(self, snapshot: PoolSnapshot, size: int) -> Decision:
        self._saturation.forget()
        self._trial = self._backlog_at = None
        ceiling = self._ceiling()
        if size > ceiling + 1 and snapshot.idle:
            return Decision(max(snapshot.busy, math.ceil(ceiling)), _slower(ceiling))
        window = snapshot.idle_timeout if self.window is None else self.window
        surplus = sum(age >= window for age in snapshot.idle_ages)
        long_since = any(age >= TRIM_AFTER * window for age in snapshot.idle_ages)
        if surplus > TRIM * snapshot.workers or long_since:
            return Decision(snapshot.workers - surplus, f"{surplus} idle for {window:g} s")
        return Decision(size, "the size fits the work")

    # -- tasks lack workers -----------------------------------------------------------------

    def _under_backlog(self, snapshot: PoolSnapshot, size: int, lacking: int) -> Decision:
        if self._backlog_at is None:
            self._backlog_at = snapshot.now
        if self._trial is not None:
            return self._go_on(snapshot, self._trial)
        return (
            self._compensate(snapshot, lacking)
            or self._feed_starved(snapshot, size)
            or self._bear(snapshot, size, lacking)
            or self._doubt(snapshot, size, lacking)
            or self._grow(size, lacking)
        )

    def _compensate(self, snapshot: PoolSnapshot, lacking: int) -> Decision | None:
        """Replace workers that said they wait, as Java's ForkJoinPool.ManagedBlocker does."""
        running = snapshot.busy - snapshot.blocked
        useful = max(snapshot.min_workers, math.ceil(snapshot.usable_cores))
        if not snapshot.blocked or running >= useful:
            return None
        more = min(lacking, useful - running)
        return Decision(snapshot.workers + more, f"{snapshot.blocked} workers said they wait")

    def _feed_starved(self, snapshot: PoolSnapshot, size: int) -> Decision | None:
        """One more when every worker has been stuck for long, whatever it is doing."""
        if snapshot.now - self._taken_at < max(STARVED, 2 * self._contention.run_time):
            return None
        self._taken_at = snapshot.now
        return Decision(size + 1, "no task was taken up for long")

    def _bear(self, snapshot: PoolSnapshot, size: int, lacking: int) -> Decision | None:
        left = self.patience * self._contention.run_time - snapshot.oldest_wait
        if left <= 0 or lacking > self.patience * size:
            return None
        return Decision(size, "a worker will be free soon", left)

    def _doubt(self, snapshot: PoolSnapshot, size: int, lacking: int) -> Decision | None:
        """The reasons against growth. The cheapest to find out comes first."""
        saturated = self._saturation.verdict(snapshot, few=lacking <= max(1, size // 4))
        if saturated is None:
            reason = "looking whether the tasks compute or wait"
            return Decision(size, reason, self._saturation.probe)
        lasting = self._lasting(snapshot)
        if lasting and self._contention.inflated:
            return self._compare(snapshot, size, size // 2, "tasks take far longer than they could")
        if saturated:
            return Decision(size, "the cores are busy", RECHECK if lasting else SOON)
        ceiling = self._ceiling()
        if size < ceiling:
            return None
        far_above = size > (1 + STEP) * ceiling
        other = math.ceil(ceiling) if far_above else size + max(1, int(STEP * size))
        return self._compare(snapshot, size, other, _slower(ceiling))

    def _grow(self, size: int, lacking: int) -> Decision:
        # Those who will be served within the patience need no worker of their own.
        more = max(1, lacking - int(self.patience * size))
        wanted = math.ceil(min(size + more, max(size, self._ceiling())))
        return Decision(wanted, f"{lacking} tasks wait for a worker")

    def _ceiling(self) -> float:
        return min(self._cap, self._contention.peak())

    def _lasting(self, snapshot: PoolSnapshot) -> bool:
        """Whether tasks have lacked workers for longer than a burst takes to be worked off."""
        since = snapshot.now if self._backlog_at is None else self._backlog_at
        return snapshot.now - since > max(LASTING, 2 * self._contention.run_time)

    # -- trials -----------------------------------------------------------------------------

    def _compare(self, snapshot: PoolSnapshot, size: int, other: int, reason: str) -> Decision:
        """Begin a trial of another size, unless the last one failed too recently."""
        other = snapshot.clamp(other)
        if size and other != size and snapshot.now >= self._trial_at:
            self._trial = Trial(size, other, settled=self._lasting(snapshot))
        return Decision(size, reason, RECHECK)

    def _go_on(self, snapshot: PoolSnapshot, trial: Trial) -> Decision:
        gain = trial.observe(snapshot)
        if gain is None:
            return Decision(trial.size, f"measuring {trial.base} against {trial.other}", RECHECK)
        self._trial = None
        if not trial.won(gain):
            self._trial_at = snapshot.now + self._hold
            self._hold = min(LONGEST_HOLD, 2 * self._hold)
            return Decision(trial.base, f"{trial.other} did {gain:.2f} times as much")
        self._hold = FIRST_HOLD
        self._cap = trial.other
        if trial.other > trial.base:  # the evidence against growth was wrong
            self._cap = math.inf
            self._contention.forget()
        return Decision(trial.other, f"{trial.other} did {gain:.2f} times as much")

    def __repr__(self) -> str:
        return f"Adaptive(patience={self.patience}, window={self.window})"


def _slower(ceiling: float) -> str:
    return f"more than {ceiling:.0f} at once slow one another down"
