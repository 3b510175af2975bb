"""Durations counted in buckets: exact counts, quantiles to within 3 %, merged by adding."""

from __future__ import annotations

import struct
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from typing_extensions import Self

__all__ = ["Histogram", "buckets_of"]

# A bucket is named by the top 16 bits of a float: sign, exponent, and the first four bits of the
# fraction, so 16 buckets to an octave. Counting a batch is then C code only: an array of doubles
# is looked at as 16-bit numbers, every fourth of which is counted. (The idea of HdrHistogram,
# with the exponent the floating-point format already holds.)
_TOP = 3 if sys.byteorder == "little" else 0


def buckets_of(durations: list[float]) -> list[int]:
    """The bucket of each duration, none of them negative."""
    return memoryview(array("d", durations)).cast("B").cast("H")[_TOP::4].tolist()


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long things took, as counts per bucket of time.

    >>> waits = Histogram.of([0.010, 0.010, 0.011, 0.500])
    >>> waits.count, round(waits.quantile(0.5), 3), round(waits.p99, 1)
    (4, 0.01, 0.5)
    >>> (waits + waits).count
    8

    Thread safety: immutable.

    Attributes:
        counts: Bucket to number of durations; the keys mean nothing outside this class.
        total: Sum of the durations, in seconds.
        max: The longest, in seconds; 0 without any.
    """

    counts: Mapping[int, int] = field(default_factory=dict[int, int])
    total: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, durations: Iterable[float]) -> Self:
        """Count these durations, in seconds. Negative ones count as zero."""
        values = [max(0.0, value) for value in durations]
        if not values:
            return cls()
        return cls(Counter(buckets_of(values)), sum(values), max(values))

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts.values())

    @property
    def mean(self) -> float:
        """Their mean in seconds; 0 without any."""
        return self.total / count if (count := self.count) else 0.0

    @property
    def p50(self) -> float:
        """The median in seconds."""
        return self.quantile(0.50)

    @property
    def p95(self) -> float:
        """The duration 95 of 100 do not exceed, in seconds."""
        return self.quantile(0.95)

    @property
    def p99(self) -> float:
        """The duration 99 of 100 do not exceed, in seconds."""
        return self.quantile(0.99)

    def quantile(self, share: float) -> float:
        """The duration that this share (0 to 1) of them do not exceed; 0 without any.

        Raises:
            ValueError: `share` is not between 0 and 1.
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share must be between 0 and 1, not {share!r}")
        rank = share * self.count
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return min(self.max, (_lower_edge(bucket) + _lower_edge(bucket + 1)) / 2)
        return 0.0

    def at_most(self, duration: float) -> int:
        """How many did not exceed `duration` seconds, which is rounded up by at most 6 %."""
        # The number of a bucket grows with its durations, so one comparison decides for all of it.
        last = buckets_of([duration])[0]
        return sum(count for bucket, count in self.counts.items() if bucket <= last)

    def __add__(self, other: Histogram) -> Histogram:
        counts = Counter(self.counts)
        counts.update(other.counts)
        return Histogram(counts, self.total + other.total, max(self.max, other.max))


def _lower_edge(bucket: int) -> float:
    edge: float = struct.unpack(">d", struct.pack(">Hxxxxxx", bucket))[0]
    return edge
