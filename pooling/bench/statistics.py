"""Statistics: ratios with intervals, percentiles, fairness, histograms."""

from __future__ import annotations

import math
from bisect import bisect_left
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95

# So many are all on the same side of the true median in 1 of 64 runs, by chance. With five, no
# interval reaches the confidence.
ENOUGH_ROUNDS = 7

# Database, contender and load share the machine: what differs by less is called equal.
MARGIN = 1.05

# A percentile is known from so many values beyond it: p99 from 1,000 in all, p99.9 from 10,000.
BEYOND = 10

# Upper bounds in milliseconds, from 1 µs to more than a minute; six for each power of ten.
BOUNDS = tuple(float(f"{0.001 * 10 ** (step / 6):.4g}") for step in range(48))


class Ratio(NamedTuple):
    """How many times the baseline's rate, with an interval of at least 95 %.

    The value is the median over the rounds; above 1 is faster than the baseline.
    """

    value: float
    low: float
    high: float

    @property
    def is_tie(self) -> bool:
        """Whether the interval holds a difference that is smaller than the margin."""
        return self.low <= MARGIN and self.high >= 1 / MARGIN


def ratio(baseline: Sequence[float], other: Sequence[float]) -> Ratio:
    """Compare two lists of rates whose n-th entries come from the same round.

    Each round gives one ratio: its two rates were taken shortly one after the other, so whatever
    slowed the machine down slowed both.
    """
    if len(baseline) != len(other) or not baseline:
        raise ValueError(f"one rate per side and round wanted, got {len(baseline)}, {len(other)}")
    rounds = [after / before for before, after in zip(baseline, other, strict=True)]
    low, high = median_interval(rounds)
    return Ratio(median(rounds), low, high)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the two values between which the median of the population is, at 95 % or more.

    They are as far inside the sorted values as the confidence allows, by the binomial distribution
    of how many values are below the median, whatever the distribution of the values: of 7 the
    outermost (98.4 %), of 15 the fourth from each end (96.5 %). W. J. Conover, "Practical
    Nonparametric Statistics", 1999. Fewer than six have none: the outermost are returned.
    """
    ordered, number = sorted(values), len(values)
    missed = [2 * sum(math.comb(number, i) for i in range(k + 1)) for k in range(number // 2)]
    allowed = [k for k, ways in enumerate(missed) if ways <= (1 - CONFIDENCE) * 2**number]
    place = max(allowed, default=0)
    return ordered[place], ordered[-place - 1]


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that is not exceeded by the given share of the sorted values."""
    if not ordered:
        raise ValueError("a percentile of nothing")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def known_percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return a percentile of sorted values; None where there are too few of them to know it."""
    enough = round(len(ordered) * (1 - share), 6) >= BEYOND
    return percentile(ordered, share) if enough else None


def jain(amounts: Sequence[float]) -> float | None:
    """Return Jain's index of fairness: 1 if all have the same, 1/n if one of n has everything.

    Jain, Chiu and Hawe, "A quantitative measure of fairness and discrimination", 1984. None if
    there was nothing to share.
    """
    squares = sum(amount * amount for amount in amounts)
    if not squares:
        return None
    return sum(amounts) ** 2 / (len(amounts) * squares)


def histogram(values: Sequence[float]) -> list[tuple[float, int]]:
    """Count values in milliseconds between logarithmic bounds, without empty ones at the ends.

    Each count goes with its upper bound; the last bound takes everything that is above it.
    """
    counts = [0] * len(BOUNDS)
    for value in values:
        counts[min(bisect_left(BOUNDS, value), len(BOUNDS) - 1)] += 1
    found = [number for number, count in enumerate(counts) if count]
    if not found:
        return []
    shown = slice(found[0], found[-1] + 1)
    return list(zip(BOUNDS[shown], counts[shown], strict=True))
