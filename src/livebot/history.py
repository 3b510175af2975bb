"""What the bot did over the last minutes: figures at a fixed rate, and changes with their reason.

Everything is bounded, and written by few: however many pages look, the pipeline is asked once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from livebot.sources import FeedState
from threadkit import REAL, Context, Runtime, SizeChange

__all__ = ["FeedChange", "History", "PoolChange", "Sample"]

_SAMPLES = 450  # a quarter of an hour at one each two seconds
_CHANGES = 100


@dataclass(frozen=True, slots=True)
class Sample:
    """Figures at one moment.

    Attributes:
        at: Seconds since the epoch.
        figures: By name, such as `queue.texts` or `p95.text`; what is unknown is absent.
    """

    at: float
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PoolChange:
    """A pool was given more or fewer workers.

    Attributes:
        at: Seconds since the epoch.
        pool: Its name.
        before: Workers wanted until then.
        after: Workers wanted from then on.
        reason: Why.
    """

    at: float
    pool: str
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True)
class FeedChange:
    """The feed's connection went to another state.

    Attributes:
        at: Seconds since the epoch.
        state: The state.
        sentence: What there is to say about it.
    """

    at: float
    state: FeedState
    sentence: str


class History:
    """The latest figures and changes.

    >>> history = History(lambda: {"queue.texts": 3.0})
    >>> history.sample()
    >>> [sample.figures for sample in history.samples()]
    [{'queue.texts': 3.0}]

    Thread safety: every method from any thread. The deques are appended to and copied under a
    lock; `figures` is called without it.

    Lifetime: give `run` to a manager as a service.

    Args:
        figures: Reads every figure now; called on the service's thread only.
        period: Seconds between two samples.
        runtime: Clocks and lock.
    """

    def __init__(
        self,
        figures: Callable[[], Mapping[str, float]],
        *,
        period: float = 2.0,
        runtime: Runtime = REAL,
    ) -> None:
        self._figures = figures
        self.period = period
        self._time = runtime.time
        # Guards the deques; held for an append or a copy.
        self._lock = runtime.lock()
        self._samples: deque[Sample] = deque(maxlen=_SAMPLES)
        self._pool_changes: deque[PoolChange] = deque(maxlen=_CHANGES)
        self._feed_changes: deque[FeedChange] = deque(maxlen=_CHANGES)

    def run(self, ctx: Context) -> None:
        """Sample until the manager asks to stop."""
        while ctx.sleep(self.period):
            self.sample()

    def sample(self) -> None:
        """Take one sample now."""
        sample = Sample(self._time(), self._figures())
        with self._lock:
            self._samples.append(sample)

    def follow(self, pool: str) -> Callable[[SizeChange], None]:
        """A listener for `DynamicThreadPool.subscribe` that remembers the changes of this pool."""

        def changed(change: SizeChange) -> None:
            news = PoolChange(self._time(), pool, change.before, change.after, change.reason)
            with self._lock:
                self._pool_changes.append(news)

        return changed

    def feed_changed(self, state: FeedState, sentence: str) -> None:
        """Remember a state of the feed."""
        news = FeedChange(self._time(), state, sentence)
        with self._lock:
            self._feed_changes.append(news)

    def samples(self) -> tuple[Sample, ...]:
        """The samples, the oldest first."""
        with self._lock:
            return tuple(self._samples)

    def pool_changes(self) -> tuple[PoolChange, ...]:
        """The latest changes of pool sizes, the oldest first."""
        with self._lock:
            return tuple(self._pool_changes)

    def feed_changes(self) -> tuple[FeedChange, ...]:
        """The latest states of the feed, the oldest first."""
        with self._lock:
            return tuple(self._feed_changes)
