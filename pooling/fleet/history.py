"""Recent history of a pool in this process: slots of five seconds, until the fleet's has them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pooling.core.histogram import HistogramSnapshot
    from pooling.core.stats import PoolStats

SLOT_SECONDS = 5
"""Length of a slot. Slots are counted from the epoch, so those of all processes coincide."""

RECENT_SLOTS = 24
"""Slots kept here; see `pooling.fleet.archive` for the longer history of all processes."""

GAUGES = ("leased", "idle", "connecting", "waiting", "max_size")
COUNTS = ("acquired", "timeouts", "rejected", "connect_errors")
COLUMNS = (*GAUGES, *COUNTS, "down", "waits")

Row = list[Any]
"""The number of the slot, then the `COLUMNS`: the highest of the gauges, what was counted during
the slot, 1 if connecting failed, and the finished waits as a mapping of buckets to counts."""


def empty_row(slot: int) -> Row:
    """Return a row of zeros."""
    return [slot, *[0] * (len(COLUMNS) - 1), {}]


class History:
    """The slots of the last two minutes."""

    def __init__(self) -> None:
        self._rows: deque[Row] = deque(maxlen=RECENT_SLOTS)
        self._before: PoolStats | None = None

    def sample(self, stats: PoolStats, peaks: tuple[int, int], now: float) -> None:
        """Add `stats`, taken at `now` (seconds since the epoch).

        Args:
            stats: the numbers of this instant.
            peaks: the most leases and waiting callers since the last sample.
            now: when they were taken.
        """
        slot = int(now // SLOT_SECONDS)
        rows = self._rows
        if rows and slot < rows[-1][0]:  # the clock was set back
            rows.clear()
        if not rows or slot > rows[-1][0]:
            rows.append(empty_row(slot))
        row = rows[-1]
        before, self._before = self._before, stats
        if before is not None and _cleared(before, stats):
            before = None
        leased, waiting = peaks
        gauges = (leased, max(stats.size - leased, 0), stats.connecting, waiting, stats.max_size)
        for place, value in enumerate(gauges, 1):
            row[place] = max(row[place], value)
        for place, name in enumerate(COUNTS, 1 + len(gauges)):
            row[place] += getattr(stats, name) - (getattr(before, name) if before else 0)
        row[-2] = max(row[-2], int(stats.outage is not None))
        _count(row[-1], stats.waits if before is None else stats.waits - before.waits)

    def rows(self) -> list[Row]:
        """Return the rows, oldest first; slots without a sample are missing."""
        return [[*row[:-1], dict(row[-1])] for row in self._rows]


def _cleared(before: PoolStats, after: PoolStats) -> bool:
    """Tell whether the totals were cleared in between."""
    return after.waits.count < before.waits.count or any(
        getattr(after, name) < getattr(before, name) for name in COUNTS
    )


def _count(buckets: dict[str, int], waits: HistogramSnapshot) -> None:
    for bucket, count in enumerate(waits.buckets):
        if count:
            buckets[str(bucket)] = buckets.get(str(bucket), 0) + count
