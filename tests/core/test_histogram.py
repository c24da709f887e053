"""Durations are counted in buckets, and quantiles are computed from these."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from pooling.core.histogram import BUCKETS, Histogram, HistogramSnapshot

if TYPE_CHECKING:
    from tests.support.fakes import PoolHarness


@pytest.mark.parametrize("seconds", [0.0, 1e-7, 3e-6, 0.001, 0.25, 1.0, 59.9, 86_400.0])
def test_a_quantile_is_at_most_forty_one_percent_above_the_truth(seconds: float) -> None:
    histogram = Histogram()
    histogram.add(seconds)
    quantile = histogram.snapshot().quantile(0.5)
    assert quantile is not None
    assert seconds <= quantile <= max(seconds * 1.4143, 1.5e-6)


def test_quantiles_order_what_was_counted() -> None:
    histogram = Histogram()
    durations = [random.Random(7).expovariate(100.0) for _ in range(1000)]
    for seconds in durations:
        histogram.add(seconds)
    counted = histogram.snapshot()
    for part in (0.5, 0.95, 0.99, 1.0):
        truth = sorted(durations)[int(part * 1000) - 1]
        quantile = counted.quantile(part)
        assert quantile is not None
        assert truth <= quantile <= truth * 1.4143


def test_nothing_counted_has_no_quantile() -> None:
    assert Histogram().snapshot().quantile(0.5) is None


def test_longer_than_the_last_bucket_is_counted_in_it() -> None:
    histogram = Histogram()
    histogram.add(1e12)
    assert histogram.snapshot().buckets[-1] == 1
    assert histogram.snapshot().quantile(1.0) == HistogramSnapshot.upper_bound(BUCKETS - 1)


def test_the_difference_is_what_was_counted_between() -> None:
    histogram = Histogram()
    histogram.add(1.0)
    before = histogram.snapshot()
    histogram.add(0.001)
    between = histogram.snapshot() - before
    assert (between.count, round(between.seconds, 6)) == (1, 0.001)
    assert between.quantile(1.0) == pytest.approx(0.001, rel=0.42)


def test_holds_last_from_acquire_to_release(harness: PoolHarness) -> None:
    pool = harness.pool()
    with pool.acquire():
        harness.clock.advance(2.0)
    lease = pool.acquire()
    harness.clock.advance(3.0)
    lease.discard()
    assert (pool.stats().holds.count, pool.stats().holds.seconds) == (2, 5.0)
