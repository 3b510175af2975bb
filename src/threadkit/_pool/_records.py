"""What a worker writes down about its tasks, cheaply enough to do it for every one of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from threadkit._pool._histogram import Histogram, buckets_of
from threadkit._runtime import Lock, Runtime

__all__ = ["Record", "Totals"]

FOLD_EVERY = 0.005  # s; long enough to count in batches, short enough to keep the batches small
# Only tasks much shorter than this allows come in larger batches. Each is still timed, and counts
# in the number, the sum and the maximum; the quantiles take an evenly spaced sample of the batch.
SAMPLE = 64


@dataclass(slots=True)
class Totals:
    """Sums over tasks: what records add up to."""

    waits: Histogram = field(default_factory=Histogram)
    runs: Histogram = field(default_factory=Histogram)
    failed: int = 0
    skipped: int = 0
    late: int = 0
    cpu_time: float = 0.0

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.waits + other.waits,
            self.runs + other.runs,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.late + other.late,
            self.cpu_time + other.cpu_time,
        )


class _Durations:
    """A histogram in the making: single durations first, counted in batches."""

    __slots__ = ("_count", "_counts", "_max", "_total", "pending")

    def __init__(self) -> None:
        self.pending: list[float] = []
        self._counts: Counter[int] = Counter()
        self._count = 0
        self._total = 0.0
        self._max = 0.0

    def fold(self) -> None:
        pending = self.pending
        count = len(pending)
        if not count:
            return
        self._count += count
        self._total += sum(pending)
        self._max = max(self._max, max(pending))  # noqa: PLW3301 - without a tuple of them
        if count <= SAMPLE:
            self._counts.update(buckets_of(pending))
        else:
            self._fold_sample(pending, count)
        pending.clear()

    def _fold_sample(self, pending: list[float], count: int) -> None:
        """Let every `step`th stand for its neighbours; the last for those left over, too."""
        step = count // SAMPLE
        sample = buckets_of(pending[::step])
        counts = self._counts
        for bucket in sample:
            counts[bucket] += step
        counts[sample[-1]] += count - step * len(sample)

    def histogram(self) -> Histogram:
        folded = Histogram(Counter(self._counts), self._total, self._max)
        return folded + Histogram.of(self.pending.copy())

    def sums(self) -> tuple[int, float]:
        pending = self.pending.copy()
        return self._count + len(pending), self._total + sum(pending)


class Record:
    """One worker's book: it alone writes, anybody may read.

    The worker appends to two lists, which needs no lock; now and then it folds them into counts,
    under a lock, because a reader must not see a duration in both or in neither.
    """

    __slots__ = (
        "_cpu_clock",
        "_cpu_since",
        "_runs",
        "_waits",
        "cpu_time",
        "failed",
        "late",
        "lock",
        "skipped",
    )

    def __init__(self, runtime: Runtime, lock: Lock) -> None:
        # Guards the folding; held for one batch, calls no user code. It is the ledger's: of two, a
        # reader would take the one inside the other, and a finalizer in the middle of a folding,
        # which asks for the statistics, the other way round.
        self.lock = lock
        self._waits = _Durations()
        self._runs = _Durations()
        self._cpu_clock = runtime.thread_time
        self._cpu_since: float | None = None
        self.cpu_time = 0.0
        self.failed = 0
        self.skipped = 0  # taken from the backlog, but ended before: cancelled, expired, dropped
        self.late = 0  # ended after their timeout had ended the future

    @property
    def waits(self) -> list[float]:
        """Append the seconds from submit to start here. Always the same list."""
        return self._waits.pending

    @property
    def runs(self) -> list[float]:
        """Append the seconds from start to end here. Always the same list."""
        return self._runs.pending

    def note_failure(self, seconds: float) -> None:
        """A task raised after so many seconds."""
        self.failed += 1
        self._runs.pending.append(seconds)

    def begin(self) -> None:
        """Called by the worker's own thread: CPU time counts from here."""
        self._cpu_since = self._cpu_clock()

    def fold(self, now: float) -> float:
        """Count what was appended, on the worker's own thread; when to do it again."""
        cpu = self._cpu_clock()
        with self.lock:
            self._waits.fold()
            self._runs.fold()
            if self._cpu_since is not None:
                self.cpu_time += cpu - self._cpu_since
            self._cpu_since = cpu
        return now + FOLD_EVERY

    def sums(self) -> tuple[int, float, int, float, float]:
        """Started, their wait, ended, their run time, CPU time: what a policy wants to know."""
        with self.lock:
            return *self._waits.sums(), *self._runs.sums(), self.cpu_time

    def totals(self) -> Totals:
        """Everything, as of now."""
        with self.lock:
            return Totals(
                self._waits.histogram(),
                self._runs.histogram(),
                self.failed,
                self.skipped,
                self.late,
                self.cpu_time,
            )
