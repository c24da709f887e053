"""Where on an axis a number belongs, and which numbers to write beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """A straight or logarithmic way from numbers to coordinates."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Return the coordinate of a number; beyond the ends, the nearest end's."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Return round numbers along the axis."""
        return log_ticks(self.low, self.high, most) if self.is_log else ticks(self.high, most)


def linear(values: Iterable[float], start: float, end: float) -> Scale:
    """Return a scale from 0 to just above the largest number."""
    high = max((each for each in values if each > 0), default=1.0)
    return Scale(0.0, high * 1.02, start, end)


def logarithmic(values: Iterable[float], start: float, end: float, margin: float = 1.08) -> Scale:
    """Return a logarithmic scale around the numbers above 0, at least a factor of 2 wide."""
    known = [each for each in values if each > 0] or [1.0]
    low, high = min(known) / margin, max(known) * margin
    if high / low < 2:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(2), middle * math.sqrt(2)
    return Scale(low, high, start, end, is_log=True)


def ticks(high: float, most: int = 5) -> list[float]:
    """Return at most so many round numbers from 0 to `high`, evenly apart."""
    power = 10.0 ** math.floor(math.log10(high / most))
    step = next(each * power for each in STEPS if high / (each * power) <= most)
    return [number * step for number in range(int(high / step) + 1)]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most so many of 1, 2, 5, 10, 20 ..., fewer of each decade on longer axes."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices: list[Sequence[float]] = [
        (1, 1.5, 2, 3, 4, 5, 6, 8),
        (1, 2, 3, 5),
        (1, 2, 5),
        (1, 3),
        (1,),
    ]
    for within in choices:
        found = [m * 10.0**d for d in decades for m in within if low <= m * 10.0**d <= high]
        if len(found) <= most:
            break
    else:
        every = math.ceil(len(found) / most)
        found = found[::every]
    return found


def label(value: float) -> str:
    """Return a tick as text: 0.5, 20, 1.5k, 2M."""
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{unit}"
    return f"{value:.6g}"
