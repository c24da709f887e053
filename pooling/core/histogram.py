"""Histograms of durations."""

from __future__ import annotations

import dataclasses

BUCKETS = 80
"""Bucket k counts durations below 2 ** (k / 2) microseconds: 80 of them reach beyond a week."""


@dataclasses.dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """Durations counted so far. The difference of two snapshots is what was counted between them.

    Attributes:
        count: how many durations.
        seconds: their sum.
        buckets: how many were below `upper_bound(k)` seconds and not below the bound before.
    """

    count: int
    seconds: float
    buckets: tuple[int, ...]

    @staticmethod
    def upper_bound(bucket: int) -> float:
        """Return the upper bound of a bucket in seconds."""
        return float(2.0 ** (bucket / 2) * 1e-6)

    def quantile(self, part: float) -> float | None:
        """Return the quantile `part` (0 to 1) in seconds, None if nothing was counted.

        It is the upper bound of a bucket: at most 1.41 times the true value.
        """
        if not self.count:
            return None
        rank = part * self.count
        seen = 0
        for bucket, count in enumerate(self.buckets):
            seen += count
            if count and seen >= rank:
                return self.upper_bound(bucket)
        return self.upper_bound(BUCKETS - 1)

    def __sub__(self, earlier: HistogramSnapshot) -> HistogramSnapshot:
        """Return what was counted since `earlier`."""
        return HistogramSnapshot(
            self.count - earlier.count,
            self.seconds - earlier.seconds,
            tuple(now - then for now, then in zip(self.buckets, earlier.buckets, strict=True)),
        )


class Histogram:
    """The counter behind `HistogramSnapshot`. Changed only under the pool's lock."""

    __slots__ = ("_buckets", "_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._buckets = [0] * BUCKETS

    def add(self, seconds: float) -> None:
        """Count a duration."""
        # The bit length of the squared microseconds is twice their logarithm to base 2: two buckets
        # for each doubling, for the price of a multiplication.
        microseconds = seconds * 1e6
        bucket = int(microseconds * microseconds).bit_length()
        self._seconds += seconds
        self._buckets[bucket if bucket < BUCKETS else BUCKETS - 1] += 1

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self._buckets)

    def snapshot(self) -> HistogramSnapshot:
        """Return what was counted so far."""
        return HistogramSnapshot(self.count, self._seconds, tuple(self._buckets))
