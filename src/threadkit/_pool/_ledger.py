"""A pool's books: what became of its tasks, summed over workers past and present."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from threadkit._pool._records import Record, Totals
from threadkit._pool._statistics import PoolStatistics, RunningTask, SizeChange
from threadkit._runtime import Runtime

if TYPE_CHECKING:
    from threadkit._pool._crew import Crew

__all__ = ["Ledger", "Sums"]

CHANGES_KEPT = 64
NOTES_KEPT = 256  # before a writer counts them, if nobody else is at it. Arbitrary


class Sums(NamedTuple):
    """What a sizing policy is told, summed since the pool was made."""

    arrivals: int
    started: int
    ended: int
    wait_time: float
    run_time: float
    cpu_time: float


class Ledger:
    """The books of one crew."""

    def __init__(self, runtime: Runtime) -> None:
        self._clock = runtime.monotonic
        self._made_at = self._clock()
        self.changes: deque[SizeChange] = deque(maxlen=CHANGES_KEPT)
        # What is to be counted. Writers wait for nobody: they come with a future's condition or
        # the intake's lock held, and a finalizer in the middle of `sums` may want one of these.
        self._notes: deque[tuple[str, int]] = deque()
        # Guards the rest, and the records; held for sums only, O(workers).
        # Re-entrant, for a finalizer may ask for the statistics in the middle of it.
        self.lock = runtime.rlock()
        self._folding = False
        self._records: set[Record] = set()
        self._gone = Totals()  # records of workers that left
        self._counts: Counter[str] = Counter()

    # -- writing ----------------------------------------------------------------------------

    def open(self, record: Record) -> None:
        """A worker begins to write."""
        with self.lock:
            self._records.add(record)

    def close(self, record: Record) -> None:
        """A worker has written its last."""
        totals = record.totals()
        with self.lock:
            self._records.discard(record)
            self._gone = self._gone + totals

    def count(self, reason: str) -> None:
        """One more task that ended without a worker, or was refused."""
        self._note(reason, 1)

    def removed(self, tasks: int) -> None:
        """So many tasks were taken out of the backlog by others than workers."""
        self._note("removed", tasks)

    def _note(self, what: str, number: int) -> None:
        self._notes.append((what, number))
        if len(self._notes) >= NOTES_KEPT and self.lock.acquire(False):
            try:
                self._fold_locked()
            finally:
                self.lock.release()

    def _fold_locked(self) -> None:
        """Count what was noted; not in the middle of itself, where a finalizer may bring it."""
        if self._folding:
            return
        self._folding = True
        try:
            while self._notes:
                what, number = self._notes.popleft()
                self._counts[what] += number
        finally:
            self._folding = False

    # -- reading ----------------------------------------------------------------------------

    def _totals_locked(self) -> Totals:
        out = self._gone
        for record in self._records:
            out = out + record.totals()
        return out

    def sums(self, backlog: Callable[[], int]) -> Sums:
        """What a policy is told, cheaply."""
        with self.lock:
            self._fold_locked()
            gone = self._gone
            started, wait = gone.waits.count, gone.waits.total
            ended, run = gone.runs.count + gone.late, gone.runs.total
            cpu, skipped = gone.cpu_time, gone.skipped
            for record in self._records:
                sums = record.sums()
                started += sums[0]
                wait += sums[1]
                ended += sums[2] + record.late
                run += sums[3]
                cpu += sums[4]
                skipped += record.skipped
            # Last, so that a task taken meanwhile is counted by nobody rather than twice.
            arrivals = started + skipped + self._counts["removed"] + backlog()
        return Sums(arrivals, started, ended, wait, run, cpu)

    def running(self, crew: Crew) -> tuple[RunningTask, ...]:
        """The tasks that run, the oldest first. Workers write nothing down for it."""
        now = self._clock()
        found: list[RunningTask] = []
        for worker in (*crew.roster.workers.copy(), *crew.roster.abandoned.copy()):
            began_at = worker.since
            for task in worker.tasks()[:1]:  # what else is there runs in place of its wait
                origin: Any = task._origin
                label, ident = origin and origin.label, worker.thread.ident
                found.append(RunningTask(label, worker.name, ident, began_at, now - began_at))
        return tuple(sorted(found, key=lambda task: task.began_at))

    def statistics(self, crew: Crew) -> PoolStatistics:
        """The pool as of now."""
        with self.lock:
            self._fold_locked()
            total = self._totals_locked()
            counts = self._counts.copy()
            queued = crew.backlog.sizes()
        roster = crew.roster
        alive, parked = len(roster.workers), len(crew.parked)
        ended = total.runs.count
        return PoolStatistics(
            min_workers=roster.min_workers,
            max_workers=roster.max_workers,
            wanted=roster.wanted,
            alive=alive,
            busy=max(0, alive - parked),
            idle=min(alive, parked),
            lent=roster.lent,
            abandoned=len(roster.abandoned),
            queued=queued,
            running=total.waits.count - ended - total.late,
            submitted=total.waits.count + total.skipped + counts["removed"] + sum(queued),
            completed=ended - total.failed,
            failed=total.failed,
            cancelled=counts["cancelled"],
            expired=counts["expired"],
            timed_out=counts["timed_out"],
            dropped=counts["dropped"],
            superseded=counts["superseded"],
            rejected=counts["rejected"],
            starts_refused=counts["start_refused"],
            wait=total.waits,
            run=total.runs,
            cpu_share=min(1.0, total.cpu_time / total.runs.total) if total.runs.total else 0.0,
            throughput=ended / max(1e-9, self._clock() - self._made_at),
            changes=tuple(self.changes),
        )
