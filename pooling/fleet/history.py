"""History of a pool: samples of the last ten minutes, in slots of five seconds."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pooling.core.histogram import HistogramSnapshot
    from pooling.core.stats import PoolStats

SLOT_SECONDS = 5
"""Length of a slot. Slots are counted from the epoch, so those of all processes coincide."""

SLOTS = 120
"""Slots kept: ten minutes."""

COLUMNS = (
    "size",
    "leased",
    "waiting",
    "acquired",
    "failed",
    "wait_p95",
    "hold_p95",
)


class History:
    """Samples in the slots of the last ten minutes.

    `size`, `leased` and `waiting` are the highest seen in a slot; `acquired` counts leases and
    `failed` timeouts, rejections and failed connects during it; `wait_p95` and `hold_p95` are
    milliseconds, of the waits and leases that ended in it.
    """

    def __init__(self) -> None:
        self._rows: deque[tuple[int, list[float | None]]] = deque(maxlen=SLOTS)
        self._before: PoolStats | None = None
        """The totals at the beginning of the slot."""
        self._latest: PoolStats | None = None

    def sample(self, stats: PoolStats, now: float) -> None:
        """Add `stats`, taken at `now` (seconds since the epoch)."""
        slot = int(now // SLOT_SECONDS)
        rows = self._rows
        latest, self._latest = self._latest, stats
        if rows and slot < rows[-1][0]:  # the clock was set back
            rows.clear()
        if not rows or slot > rows[-1][0]:
            self._before = latest
            rows.append((slot, [0] * len(COLUMNS)))
        if latest is None or _cleared(latest, stats):
            self._before = stats
        before = self._before or stats
        row = rows[-1][1]
        gauges = (stats.size, stats.leased, stats.waiting)
        row[:3] = [max(old or 0, new) for old, new in zip(row, gauges, strict=False)]
        row[3:] = [
            stats.acquired - before.acquired,
            _failures(stats) - _failures(before),
            _p95(stats.waits - before.waits),
            _p95(stats.holds - before.holds),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the columns, each a list that ends with the slot `last`; `None` is a gap."""
        if not self._rows:
            return {"every": SLOT_SECONDS, "last": 0, **{name: [] for name in COLUMNS}}
        rows = list(self._rows)
        last = rows[-1][0]
        first = max(rows[0][0], last - SLOTS + 1)
        by_slot = dict(rows)
        nothing: list[float | None] = [None] * len(COLUMNS)
        table = [by_slot.get(slot, nothing) for slot in range(first, last + 1)]
        columns = zip(*table, strict=True)
        return {
            "every": SLOT_SECONDS,
            "last": last,
            **{name: list(column) for name, column in zip(COLUMNS, columns, strict=True)},
        }


def _cleared(before: PoolStats, after: PoolStats) -> bool:
    """Tell whether the totals were cleared in between."""
    return (
        after.acquired < before.acquired
        or after.waits.count < before.waits.count
        or after.holds.count < before.holds.count
        or _failures(after) < _failures(before)
    )


def _failures(stats: PoolStats) -> int:
    return stats.timeouts + stats.rejected + stats.connect_errors


def _p95(durations: HistogramSnapshot) -> float | None:
    seconds = durations.quantile(0.95) if durations.count > 0 else None
    return None if seconds is None else _round(seconds * 1000)


def _round(value: float) -> float:
    """Round to three significant digits."""
    if value <= 0:
        return 0.0
    return round(value, max(2 - math.floor(math.log10(value)), 0))
