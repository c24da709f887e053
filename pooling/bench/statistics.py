"""What the measured times say, and how sure one may be of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

RESAMPLES = 2_000

# With fewer rounds the interval is narrower than the truth, down to a single point for one round.
ENOUGH_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times faster than the baseline, with a 95 % interval.

    Attributes:
        value: the median over the rounds; above 1 is faster than the baseline.
        low: the lower end of the interval.
        high: its upper end.
        rounds: how many there were.
    """

    value: float
    low: float
    high: float
    rounds: int

    @property
    def is_clear(self) -> bool:
        """Whether there is a difference larger than the noise, after enough rounds to tell."""
        return self.rounds >= ENOUGH_ROUNDS and not self.low <= 1.0 <= self.high


def ratio(baseline: Sequence[float], other: Sequence[float], *, seed: int = 1) -> Ratio:
    """Compare two lists of times whose n-th entries come from the same round.

    Each round gives one ratio: its two times were taken one right after the other, so whatever
    slowed the machine down slowed both. The interval is a percentile bootstrap over the rounds
    (Efron, 1979); with few rounds it is a rough one.
    """
    if len(baseline) != len(other) or not baseline:
        raise ValueError(f"one time per side and round wanted, got {len(baseline)}, {len(other)}")
    rounds = [before / after for before, after in zip(baseline, other, strict=True)]
    draw = random.Random(seed)
    medians = sorted(median(draw.choices(rounds, k=len(rounds))) for _ in range(RESAMPLES))
    tail = round(RESAMPLES * 0.025)
    return Ratio(median(rounds), medians[tail], medians[-tail - 1], len(rounds))
