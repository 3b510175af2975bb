"""Do the tasks compute or wait? Growth helps only those that wait."""

from __future__ import annotations

from threadkit.sizing._snapshot import PoolSnapshot

__all__ = ["Saturation"]


class Saturation:
    """Tells whether the usable cores are busy, from CPU times.

    Finished tasks tell most, but the first burst of a pool has none. So the CPU time of the whole
    process is watched for a few milliseconds while tasks lack workers: enough to see whether
    those that run compute or wait.

    Args:
        limit: Share of the usable cores above which they count as saturated.
        probe: Seconds the process is watched.
    """

    HORIZON = 0.5  # seconds after which what was seen has faded
    FEED = 1.5  # times as many tasks as run must the cores be able to feed, not to be asked about
    SHORT = 0.1  # seconds; less is too short to see that tasks release the GIL

    def __init__(self, *, limit: float, probe: float) -> None:
        self.limit = limit
        self.probe = probe
        self._watched: float | None = None  # seconds of the probe so far; None: no probe
        self._watched_cpu = 0.0
        # Fading sums over the horizon: CPU of finished tasks, their run time, CPU of the process.
        self._task_cpu = self._run_time = self._process_cpu = self._span = 0.0

    def observe(self, snapshot: PoolSnapshot) -> None:
        """Add what happened since the last snapshot."""
        keep = max(0.0, 1.0 - snapshot.interval / self.HORIZON)
        self._task_cpu = self._task_cpu * keep + snapshot.cpu_time
        self._run_time = self._run_time * keep + snapshot.run_time
        self._process_cpu = self._process_cpu * keep + snapshot.process_time
        self._span = self._span * keep + snapshot.interval
        if self._watched is not None:
            self._watched += snapshot.interval
            self._watched_cpu += snapshot.process_time

    def forget(self) -> None:
        """End the probe: the tasks that run next may be of another kind."""
        self._watched = None

    def verdict(self, snapshot: PoolSnapshot, *, few: bool) -> bool | None:
        """Whether the cores are saturated; None while that is being found out.

        Args:
            snapshot: The present state.
            few: Whether few workers are lacking, so that a quick answer is worth a mistake.
        """
        cores = self._cores(snapshot)
        waiting = self._task_cpu < 0.5 * self._run_time
        calm = self._process_cpu < 0.5 * self.limit * cores * self._span
        others = self._task_cpu < 0.3 * self._process_cpu  # it is not these tasks that compute
        # Tasks like those that ended need so little of a core each that many more could run.
        few_for_cores = self.FEED * snapshot.busy * self._task_cpu < cores * self._run_time
        if waiting and (others or few_for_cores or (few and calm)):
            return False
        if self._watched is None or self._watched < self.probe:
            if self._watched is None:
                self._watched = self._watched_cpu = 0.0
            return None
        share = self._watched_cpu / self._watched
        self._watched = self._watched_cpu = 0.0
        return share >= self.limit * cores

    def _cores(self, snapshot: PoolSnapshot) -> float:
        """More than one under a GIL only if the process is seen to use more."""
        clearly_more = 1.2 * snapshot.usable_cores * max(self._span, self.SHORT)
        return snapshot.cores if self._process_cpu > clearly_more else snapshot.usable_cores
