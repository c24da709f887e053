"""Aggregation of the same pool in several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pooling.core.histogram import BUCKETS, HistogramSnapshot
from pooling.core.stats import HISTOGRAMS
from pooling.fleet.archive import BY_REASON, TOTALS, counted, new_archive, plus, totals
from pooling.fleet.snapshots import durations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pooling.fleet.archive import Archive

GAUGES = ("min_size", "max_size", "size", "idle", "leased", "connecting", "waiting")

Part = tuple[dict[str, Any], dict[str, Any]]
"""A process and its entry of the pool."""


def aggregate(
    processes: Iterable[dict[str, Any]], archive: Archive | None = None
) -> list[dict[str, Any]]:
    """Return one entry per pool for all processes, in the format of a snapshot's pools.

    Pools are the same if their name, vendor, database, host, port and user are (the `id`). What is
    counted since the beginning comes from the archive, which knows ended processes as well. Numbers
    of this moment are those of the processes that are not silent.

    Additional keys: `parts`, pairs of a process and its own entry; `live`, those of processes that
    are not silent; `process` in each of `holders` and `queue`; `differing`, the options that are
    not the same in all processes (`options` are those of the first one); `suspended_in` and
    `down_in`, in how many processes the pool is; `cleared_at`, since when totals are counted.
    """
    by_id: dict[str, list[Part]] = {}
    for process in processes:
        for pool in process["pools"]:
            by_id.setdefault(pool["id"], []).append((process, pool))
    archive = archive or new_archive()
    pools = [_sum(id_, parts, archive) for id_, parts in by_id.items()]
    return sorted(pools, key=lambda pool: (pool["name"], pool["database"], pool["id"]))


def pool_state(process: dict[str, Any], stats: dict[str, Any]) -> str:
    """Return the state of a pool in a process as one word."""
    if process.get("silent"):
        return "silent"
    if stats["outage"] is not None:
        return "down"
    if stats["suspended"]:
        return "suspended"
    full = stats["leased"] >= stats["max_size"] or budget_is_used_up(stats)
    return "exhausted" if stats["waiting"] and full else "ok"


def budget_is_used_up(stats: dict[str, Any]) -> bool:
    """Tell whether all processes together had all connections that a budget allows."""
    budget = stats["budget"]
    return budget is not None and budget["used"] >= budget["limit"]


def with_states(processes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the snapshots with the `state` of each pool."""
    return [
        {
            **process,
            "pools": [
                {**pool, "state": pool_state(process, pool["stats"])} for pool in process["pools"]
            ],
        }
        for process in processes
    ]


def _sum(id_: str, parts: list[Part], archive: Archive) -> dict[str, Any]:
    live = [part for part in parts if not part[0].get("silent")]
    pools = [pool for _, pool in parts]
    first = pools[0]
    stats = [pool["stats"] for _, pool in live]
    known = archive["pools"].get(id_, {"tiers": {}, "cleared_at": 0})
    held: dict[str, float] = {}
    for _, pool in live:
        held = plus(held, pool["held"])
    return {
        **{key: first[key] for key in ("id", "name", "vendor", "database", "host", "port", "user")},
        "aliases": sorted({alias for pool in pools for alias in pool["aliases"]}),
        "options": first["options"],
        "configured": first["configured"],
        "differing": sorted(
            option
            for option, value in first["options"].items()
            if any(pool["options"].get(option) != value for pool in pools)
        ),
        "suspended_in": sum(bool(each["suspended"]) for each in stats),
        "down_in": sum(each["outage"] is not None for each in stats),
        "stats": {**_now(live), **_totals(id_, pools, archive)},
        "holders": _callers("holders", live),
        "queue": _callers("queue", live),
        "more_holders": sum(pool["more_holders"] for _, pool in live),
        "held": dict(sorted(held.items(), key=lambda each: -each[1])),
        "tiers": known["tiers"],
        "cleared_at": known["cleared_at"],
        "parts": parts,
        "live": live,
    }


def _callers(key: str, parts: list[Part]) -> list[dict[str, Any]]:
    """Return holders or waiting callers of all processes, longest first.

    For how long is said as of the snapshot: most leases have ended since, and would look long if
    the snapshot's age was added.
    """
    callers = [
        {
            **caller,
            "process": f"{process['host']}:{process['pid']}",
            "process_id": process["id"],
            "disruptions": pool["disruptions"],
        }
        for process, pool in parts
        for caller in pool[key]
    ]
    return sorted(callers, key=lambda caller: -float(caller["seconds"]))


def _now(parts: list[Part]) -> dict[str, Any]:
    """Return the numbers of this moment: sums, and the worst of what cannot be summed."""
    many = [(process.get("age", 0.0), pool["stats"]) for process, pool in parts]
    errors = [
        ((stats["last_error_age"] or 0.0) + age, stats["last_error"])
        for age, stats in many
        if stats["last_error"] is not None
    ]
    newest = min(errors, default=(None, None))
    return {
        **{number: sum(stats[number] for _, stats in many) for number in GAUGES},
        "max_wait": max((stats["max_wait"] for _, stats in many if stats["waiting"]), default=0.0),
        "suspended": all(stats["suspended"] for _, stats in many),
        "outage": _outage([(age, stats["outage"]) for age, stats in many if stats["outage"]]),
        "budget": max(
            (stats["budget"] for _, stats in many if stats["budget"]),
            key=lambda budget: int(budget["processes"]),
            default=None,
        ),
        "last_error": newest[1],
        "last_error_age": newest[0],
    }


def _outage(many: list[tuple[float, dict[str, Any]]]) -> dict[str, Any] | None:
    if not many:
        return None
    attempts = [
        max(outage["next_attempt"] - age, 0.0)
        for age, outage in many
        if outage["next_attempt"] is not None
    ]
    return {
        "seconds": max(outage["seconds"] + age for age, outage in many),
        "refused": sum(outage["refused"] for _, outage in many),
        "next_attempt": min(attempts, default=None),
        "answered": all(outage["answered"] for _, outage in many),
    }


def _totals(id_: str, pools: list[dict[str, Any]], archive: Archive) -> dict[str, Any]:
    total = counted(archive, id_)
    if not total:
        for pool in pools:
            total = plus(total, totals(pool["stats"]))
    histograms = {}
    for name in HISTOGRAMS:
        buckets = [max(count, 0) for count in total[name]["buckets"][:BUCKETS]]
        buckets += [0] * (BUCKETS - len(buckets))
        seconds = max(total[name]["seconds"], 0.0)
        histograms[name] = durations(HistogramSnapshot(sum(buckets), seconds, tuple(buckets)))
    counts = {name: max(total[name], 0) for name in TOTALS}
    return {**counts, **{name: total[name] for name in BY_REASON}, **histograms}
