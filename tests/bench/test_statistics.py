"""The statistics find a difference that is there, and none that is not."""

from __future__ import annotations

import random

import pytest

from pooling.bench.statistics import ratio


def noisy(draw: random.Random, seconds: float, rounds: int = 15) -> list[float]:
    return [seconds * draw.uniform(0.8, 1.2) for _ in range(rounds)]


def test_finds_a_known_difference() -> None:
    draw = random.Random(3)
    found = ratio(noisy(draw, 3.0), noisy(draw, 1.0))
    assert found.low < 3.0 < found.high
    assert found.low < found.value < found.high
    assert found.is_clear


def test_finds_that_the_other_side_is_slower() -> None:
    draw = random.Random(4)
    found = ratio(noisy(draw, 1.0), noisy(draw, 2.0))
    assert found.value == pytest.approx(0.5, rel=0.2)
    assert found.is_clear


def test_mostly_finds_no_difference_where_there_is_none() -> None:
    draw = random.Random(5)
    runs = [ratio(noisy(draw, 1.0), noisy(draw, 1.0)) for _ in range(40)]
    # A 95 % interval is wrong in 2 of 40 runs on average; a percentile bootstrap in a few more.
    assert sum(found.is_clear for found in runs) <= 8


def test_compares_within_rounds_so_that_a_slow_phase_of_the_machine_does_not_count() -> None:
    weather = [1.0, 1.0, 5.0, 40.0, 1.0, 7.0, 1.0]
    found = ratio([2 * factor for factor in weather], weather)
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_is_not_sure_of_anything_after_a_few_rounds() -> None:
    assert not ratio([2.0] * 4, [1.0] * 4).is_clear
    assert ratio([2.0] * 5, [1.0] * 5).is_clear


def test_gives_the_same_interval_twice() -> None:
    draw = random.Random(6)
    baseline, other = noisy(draw, 2.0), noisy(draw, 1.0)
    assert ratio(baseline, other) == ratio(baseline, other)


@pytest.mark.parametrize(("baseline", "other"), [([], []), ([1.0], [1.0, 2.0])])
def test_wants_one_time_per_side_and_round(baseline: list[float], other: list[float]) -> None:
    with pytest.raises(ValueError, match="one time per side and round"):
        ratio(baseline, other)
