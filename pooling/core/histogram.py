"""How long things took, counted in buckets."""

from __future__ import annotations

import dataclasses

BUCKETS = 80
"""Bucket k counts durations below 2 ** (k / 2) microseconds: 80 of them reach beyond a week."""


@dataclasses.dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """HistogramSnapshot that were counted: how many, their sum, and their distribution.

    Two of them taken one after the other can be subtracted, which gives what was counted between.

    Attributes:
        count: how many.
        seconds: their sum.
        buckets: how many were below `upper_bound(k)` seconds and not below the one before.
    """

    count: int
    seconds: float
    buckets: tuple[int, ...]

    @staticmethod
    def upper_bound(bucket: int) -> float:
        """Return the upper bound of a bucket in seconds."""
        return float(2.0 ** (bucket / 2) * 1e-6)

    def quantile(self, part: float) -> float | None:
        """Return below how many seconds a part of the durations was, None if there are none.

        It is the upper bound of the bucket the part ends in: at most 1.41 times the true value.
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

    def count(self, seconds: float) -> None:
        """Count a duration."""
        # The bit length of the squared microseconds is twice their logarithm to base 2: that makes
        # two buckets for each doubling, for the price of a multiplication.
        microseconds = seconds * 1e6
        bucket = int(microseconds * microseconds).bit_length()
        self._seconds += seconds
        self._buckets[bucket if bucket < BUCKETS else BUCKETS - 1] += 1

    def read(self) -> HistogramSnapshot:
        """Return what was counted so far."""
        return HistogramSnapshot(sum(self._buckets), self._seconds, tuple(self._buckets))
