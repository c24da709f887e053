"""Aggregation of the same pool in several processes."""

from __future__ import annotations

from typing import Any

from pooling.core.histogram import BUCKETS, HistogramSnapshot
from pooling.fleet.history import COLUMNS, SLOT_SECONDS, SLOTS
from pooling.fleet.snapshots import durations

SUMMED = (
    "min_size",
    "max_size",
    "size",
    "idle",
    "leased",
    "connecting",
    "waiting",
    "acquired",
    "waited",
    "timeouts",
    "rejected",
    "connects",
    "connect_errors",
    "recovered",
)

MAXIMUM = ("wait_p95", "hold_p95")
"""Columns of the history that cannot be summed: the slowest process counts."""


def aggregate(processes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry per pool name for all processes, in the format of a snapshot's pools.

    Additional keys: `parts`, pairs of a process and its own entry; `process` in each of `holders`;
    `differing`, the options that are not the same in all processes (`options` are those of the
    first one); `suspended_in`, the number of processes where the pool is suspended.
    """
    by_name: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for process in processes:
        for pool in process["pools"]:
            by_name.setdefault(pool["name"], []).append((process, pool))
    return [_sum(name, parts) for name, parts in sorted(by_name.items())]


def _sum(name: str, parts: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    pools = [pool for _, pool in parts]
    first = pools[0]
    holders = [
        {**holder, "process": f"{process['host']}:{process['pid']}"}
        for process, pool in parts
        for holder in pool["holders"]
    ]
    holders.sort(key=lambda holder: -float(holder["seconds"]))
    return {
        "name": name,
        "aliases": sorted({alias for pool in pools for alias in pool["aliases"]}),
        "vendor": first["vendor"],
        "databases": sorted({(pool["database"], pool["host"], pool["port"]) for pool in pools}),
        "options": first["options"],
        "differing": sorted(
            option
            for option, value in first["options"].items()
            if any(pool["options"].get(option) != value for pool in pools)
        ),
        "suspended_in": sum(pool["stats"]["suspended"] for pool in pools),
        "stats": sum_stats([pool["stats"] for pool in pools]),
        "holders": holders,
        "more_holders": sum(pool["more_holders"] for pool in pools),
        "history": sum_histories([pool["history"] for pool in pools if pool["history"]]),
        "parts": parts,
    }


def sum_stats(many: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum the statistics of several pools; quantiles are computed from the summed histograms."""
    reasons = dict.fromkeys(reason for stats in many for reason in stats["discards"])
    errors = [stats["last_error"] for stats in many if stats["last_error"]]
    return {
        **{number: sum(stats[number] for stats in many) for number in SUMMED},
        "name": many[0]["name"],
        "suspended": all(stats["suspended"] for stats in many),
        "closed": all(stats["closed"] for stats in many),
        "waits": sum_durations([stats["waits"] for stats in many]),
        "holds": sum_durations([stats["holds"] for stats in many]),
        "last_error": errors[0] if errors else None,
        "discards": {
            reason: sum(stats["discards"].get(reason, 0) for stats in many) for reason in reasons
        },
    }


def sum_durations(many: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum histograms in the format of a snapshot."""
    buckets = [0] * BUCKETS
    for one in many:
        for bucket, count in enumerate(one["buckets"]):
            buckets[bucket] += count
    seconds = sum(one["seconds"] for one in many)
    return durations(HistogramSnapshot(sum(buckets), seconds, tuple(buckets)))


def sum_histories(many: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum the histories slot by slot; a slot without samples stays None.

    The newest slot is left out: it is not complete, and not all processes have published it.
    """
    last = max((history["last"] for history in many), default=0) - 1
    columns: dict[str, list[float | None]] = {name: [None] * SLOTS for name in COLUMNS}
    for history in many:
        begin = SLOTS - (last - history["last"]) - len(history["size"])
        for name in COLUMNS:
            column = columns[name]
            for slot, value in enumerate(history[name], begin):
                if value is None or not 0 <= slot < SLOTS:
                    continue
                old = column[slot]
                if old is None:
                    column[slot] = value
                else:
                    column[slot] = max(old, value) if name in MAXIMUM else old + value
    return {"every": SLOT_SECONDS, "last": last, **columns}
