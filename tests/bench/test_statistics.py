"""The statistics find a difference that is there, and none that is not."""

from __future__ import annotations

import random

import pytest

from pooling.bench.statistics import (
    BOUNDS,
    histogram,
    jain,
    median_interval,
    percentile,
    ratio,
)


def noisy(draw: random.Random, rate: float, rounds: int = 15) -> list[float]:
    return [rate * draw.uniform(0.8, 1.2) for _ in range(rounds)]


def test_finds_a_known_difference() -> None:
    draw = random.Random(3)
    found = ratio(noisy(draw, 1.0), noisy(draw, 3.0))
    assert found.low < 3.0 < found.high
    assert found.low < found.value < found.high
    assert not found.low <= 1 <= found.high


def test_finds_that_the_other_side_is_slower() -> None:
    draw = random.Random(4)
    found = ratio(noisy(draw, 2.0), noisy(draw, 1.0))
    assert found.value == pytest.approx(0.5, rel=0.2)
    assert not found.low <= 1 <= found.high


def test_mostly_finds_no_difference_where_there_is_none() -> None:
    draw = random.Random(5)
    runs = [ratio(noisy(draw, 1.0, 7), noisy(draw, 1.0, 7)) for _ in range(1_000)]
    # An interval from seven rounds is wrong in 1 of 64 runs: 16 of 1,000 on average.
    assert 4 <= sum(not found.low <= 1 <= found.high for found in runs) <= 32


def test_compares_within_rounds_so_that_a_slow_phase_of_the_machine_does_not_count() -> None:
    weather = [1.0, 1.0, 5.0, 40.0, 1.0, 7.0, 1.0]
    found = ratio(weather, [2 * factor for factor in weather])
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("rounds", "left_out"), [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (15, 3), (25, 7), (30, 9)]
)
def test_an_interval_leaves_out_what_the_confidence_allows(rounds: int, left_out: int) -> None:
    """As printed tables have it: 96.9 % of 6, 96.1 % of 9, 96.5 % of 15."""
    values = range(rounds)
    assert median_interval(values) == (left_out, rounds - 1 - left_out)


@pytest.mark.parametrize(("baseline", "other"), [([], []), ([1.0], [1.0, 2.0])])
def test_wants_one_rate_per_side_and_round(baseline: list[float], other: list[float]) -> None:
    with pytest.raises(ValueError, match="one rate per side and round"):
        ratio(baseline, other)


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.5, 50), (0.95, 95), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, value: int) -> None:
    assert percentile(range(1, 101), share) == value


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="of nothing"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("amounts", "index"),
    [([5.0], 1.0), ([3, 3, 3], 1.0), ([9, 0, 0], 1 / 3), ([1, 2_664], 0.5)],
)
def test_jains_index_is_1_for_equal_shares_and_less_the_fewer_get_most(
    amounts: list[float], index: float
) -> None:
    assert jain(amounts) == pytest.approx(index, rel=0.01)


def test_where_nothing_was_shared_out_nothing_was_unfair() -> None:
    assert jain([0, 0]) is None


def test_a_histogram_counts_every_value_below_its_bound() -> None:
    found = histogram([0.0, 0.5, 0.5, 1.0, 1e9])
    assert [count for _, count in found if count] == [1, 2, 1, 1]
    assert found[0][0] == BOUNDS[0]
    assert found[-1][0] == BOUNDS[-1]
    assert dict(found)[1.0] == 1
    assert histogram([]) == []


def test_a_histogram_has_no_empty_ends() -> None:
    found = histogram([1.2, 90.0])
    assert (found[0][1], found[-1][1]) == (1, 1)
    assert sum(count for _, count in found) == 2
