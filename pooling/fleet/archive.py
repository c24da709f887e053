"""History of the fleet, which outlives its processes: a day, in three resolutions.

It is kept in the shared cache. Every few seconds one of the processes, whichever gets the lock,
adds what all have published since: the slots that are over, the totals, and who came and left. The
sum over the processes is made slot by slot before slots are made coarser, so the peaks are those of
the fleet. What a process counts stays when it has left.
"""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from pooling.core.histogram import BUCKETS, HistogramSnapshot
from pooling.core.stats import HISTOGRAMS
from pooling.fleet.history import COLUMNS, GAUGES, RECENT_SLOTS, SLOT_SECONDS, empty_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pooling.fleet.history import Row

TIERS = {"5": (SLOT_SECONDS, 120), "30": (30, 120), "600": (600, 144)}
"""Seconds of a slot, and how many are kept: ten minutes, an hour, a day."""

MAX_POOLS = 20
"""Pools with a history; with more, those seen last."""

MAX_EVENTS = 100
MAX_LEFT = 50
"""Processes that have left and are still named."""

NEW = 60.0
"""Seconds since its start for which a process seen for the first time is one that was started."""

TOTALS = (
    "acquired",
    "waited",
    "timeouts",
    "rejected",
    "connects",
    "connect_errors",
    "recovered",
    "replayed",
)

Archive = dict[str, Any]


BY_REASON = ("discards", "pins")
"""What the statistics of a pool count by reason."""


def new_archive() -> Archive:
    """Return the history of a fleet of which nothing is known."""
    return {"slot": 0, "time": 0, "pools": {}, "processes": {}, "left": [], "events": []}


def totals(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the statistics of a pool count from its beginning."""
    histograms = {
        name: {key: stats[name][key] for key in ("count", "seconds", "buckets")}
        for name in HISTOGRAMS
    }
    counts = {name: stats[name] for name in TOTALS}
    return {**counts, **{name: dict(stats[name]) for name in BY_REASON}, **histograms}


def plus(one: Any, other: Any, sign: int = 1) -> Any:
    """Add numbers, lists and mappings of numbers; a missing part is zero."""
    if isinstance(one, dict) or isinstance(other, dict):
        one, other = one or {}, other or {}
        return {key: plus(one.get(key, 0), other.get(key, 0), sign) for key in {**one, **other}}
    if isinstance(one, list) or isinstance(other, list):
        pairs = zip_longest(one or [], other or [], fillvalue=0)
        return [plus(first, second, sign) for first, second in pairs]
    return one + sign * other


def roll(
    archive: Archive,
    processes: Iterable[dict[str, Any]],
    commands: Iterable[dict[str, Any]],
    now: float,
    *,
    lag: float = 0.0,
) -> Archive:
    """Add to an archive what was published since, and return it.

    Args:
        archive: is changed.
        processes: the snapshots of all processes, those that have left included.
        commands: the commands of the last minute.
        now: seconds since the epoch.
        lag: seconds that a slot has to be over before it is added, for processes to publish it.
    """
    processes = list(processes)
    _add_slots(archive, processes, now, lag)
    _add_totals(archive, processes)
    _add_commands(archive, processes, commands)
    archive["time"] = now
    archive["events"] = sorted(archive["events"], key=lambda event: float(event["time"]))
    del archive["events"][:-MAX_EVENTS], archive["left"][:-MAX_LEFT]
    by_age = sorted(archive["pools"], key=lambda id_: -float(archive["pools"][id_]["seen"]))
    for id_ in by_age[MAX_POOLS:]:
        del archive["pools"][id_]
    return archive


def counted(archive: Archive, pool_id: str) -> dict[str, Any]:
    """Return the totals of a pool, of all processes and since they were cleared."""
    known = archive["pools"].get(pool_id)
    if known is None:
        return {}
    total = _total(archive, pool_id)
    found: dict[str, Any] = plus(total, known["cleared"], -1) if known["cleared"] else total
    return found


def wait_quantile(waits: Mapping[str, int], part: float) -> float | None:
    """Return a quantile of the waits in a row, in seconds; None if no caller waited."""
    buckets = [0] * BUCKETS
    for bucket, count in waits.items():
        buckets[int(bucket)] = count
    return HistogramSnapshot(sum(buckets), 0.0, tuple(buckets)).quantile(part)


def _total(archive: Archive, pool_id: str) -> dict[str, Any]:
    total: dict[str, Any] = archive["pools"][pool_id]["departed"]
    for process in archive["processes"].values():
        if pool_id in process["totals"]:
            total = plus(total, process["totals"][pool_id])
    return total


def _pool(archive: Archive, id_: str, name: str, now: float) -> dict[str, Any]:
    pool: dict[str, Any] = archive["pools"].setdefault(
        id_,
        {
            "name": name,
            "tiers": {tier: [] for tier in TIERS},
            "departed": {},
            "cleared": {},
            "cleared_at": 0,
            "down": 0,
        },
    )
    pool["seen"] = now
    return pool


def _event(archive: Archive, time: float, kind: str, text: str, **more: Any) -> None:
    archive["events"].append({"time": time, "kind": kind, "text": text, "pool": "", **more})


def _add_slots(archive: Archive, processes: list[dict[str, Any]], now: float, lag: float) -> None:
    last = int((now - lag) // SLOT_SECONDS) - 1
    first = max(archive["slot"] + 1, last - RECENT_SLOTS)
    if archive["slot"] > last + RECENT_SLOTS:  # the clock was set back
        first = last
    archive["slot"] = max(last, archive["slot"] if first > last else 0)
    sums: dict[str, dict[int, Row]] = {}
    for process in processes:
        for pool in process["pools"]:
            _pool(archive, pool["id"], pool["name"], now)
            rows = sums.setdefault(pool["id"], {})
            for row in pool["recent"]:
                if first <= row[0] <= last:
                    _add(rows.setdefault(row[0], empty_row(row[0])), row, peak=False)
    for id_, rows in sums.items():
        pool = archive["pools"][id_]
        for slot in sorted(rows):
            row = rows[slot]
            for tier, (seconds, most) in TIERS.items():
                fold(pool["tiers"][tier], row, slot * SLOT_SECONDS // seconds, most)
            if row[-2] != pool["down"]:
                pool["down"] = row[-2]
                text = "server unreachable" if row[-2] else "server reachable again"
                _event(archive, slot * SLOT_SECONDS, "outage", text, pool=id_)


def fold(rows: list[Row], row: Row, slot: int, most: int) -> None:
    """Add a row to the last one of coarser `rows`, or begin another one with the number `slot`."""
    if rows and rows[-1][0] > slot:  # the clock was set back
        rows.clear()
    if not rows or rows[-1][0] < slot:
        rows.append(empty_row(slot))
        del rows[:-most]
    _add(rows[-1], row, peak=True)


def _add(row: Row, other: Row, *, peak: bool) -> None:
    """Add a row of another process, or of a later slot: of gauges that is the higher one."""
    for place in range(1, len(COLUMNS)):
        higher = place == len(COLUMNS) - 1 or (peak and place <= len(GAUGES))
        value = max(row[place], other[place]) if higher else row[place] + other[place]
        row[place] = value
    row[-1] = plus(row[-1], other[-1])


def _add_totals(archive: Archive, processes: list[dict[str, Any]]) -> None:
    known = archive["processes"]
    present = {each["id"]: each for each in processes if not each["left"]}
    gone = {each["id"] for each in archive["left"]}
    for process in processes:
        if process["id"] in present or process["id"] not in gone:
            _update(archive, process)
    for id_ in [id_ for id_ in known if id_ not in present]:
        process = known.pop(id_)
        seen = [each["time"] for each in processes if each["id"] == id_]
        process["time"] = seen[0] if seen else process["time"]
        for pool_id, total in process["totals"].items():
            if pool_id in archive["pools"]:
                pool = archive["pools"][pool_id]
                pool["departed"] = plus(pool["departed"], total)
        archive["left"].append({**process, "id": id_})
        _event(archive, process["time"], "end", f"process {process['pid']} left")


def _update(archive: Archive, process: dict[str, Any]) -> None:
    """Take over the totals of a process that is there, or that has published its last ones."""
    known, id_ = archive["processes"], process["id"]
    for left in [each for each in archive["left"] if each["id"] == id_]:
        # It was silent for so long that it counted as one that has left.
        archive["left"].remove(left)
        for pool_id, total in left["totals"].items():
            if pool_id in archive["pools"]:
                pool = archive["pools"][pool_id]
                pool["departed"] = plus(pool["departed"], total, -1)
    if id_ not in known:
        if process["time"] - process["started"] < NEW:
            _event(archive, process["started"], "start", f"process {process['pid']} started")
        known[id_] = {"totals": {}}
    entry = known[id_]
    entry.update({key: process[key] for key in ("host", "pid", "command", "started", "time")})
    now: dict[str, Any] = {}
    for pool in process["pools"]:
        now[pool["id"]] = plus(totals(pool["stats"]), now.get(pool["id"], {}))
    for pool_id, total in entry["totals"].items():
        new = now.get(pool_id)
        if pool_id in archive["pools"] and (new is None or _fell(total, new)):
            pool = archive["pools"][pool_id]
            pool["departed"] = plus(pool["departed"], total)
    entry["totals"] = now


def _fell(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return any(after[name] < before[name] for name in TOTALS) or any(
        after[name]["count"] < before[name]["count"] for name in HISTOGRAMS
    )


def _add_commands(
    archive: Archive, processes: list[dict[str, Any]], commands: Iterable[dict[str, Any]]
) -> None:
    known = {event.get("id"): event for event in archive["events"] if "id" in event}
    ids = {pool["id"] for process in processes for pool in process["pools"]}
    for command in commands:
        if command["id"] not in known:
            target = str(command["pool"])
            text = str(command["action"])
            if command["arguments"]:
                sizes = (f"{name}={size}" for name, size in command["arguments"].items())
                text += f" ({', '.join(sizes)})"
            about = {"id": command["id"], "user": str(command.get("user") or "")}
            about["process"] = str(command.get("process") or "")
            _event(archive, command["time"], "command", text, pool=target, **about)
            for id_, pool in archive["pools"].items():
                if command["action"] == "clear" and target in (id_, pool["name"]):
                    pool["cleared"], pool["cleared_at"] = _total(archive, id_), command["time"]
    for event in archive["events"]:
        if "id" in event:
            done = {
                process["id"]
                for process in processes
                if event["id"] in process["done"]
                and (event["pool"] not in ids or _has(process, event["pool"]))
            }
            event["done"] = max(len(done), event.get("done", 0))


def _has(process: dict[str, Any], pool_id: str) -> bool:
    return any(pool["id"] == pool_id for pool in process["pools"])


def is_archive(data: object) -> bool:
    """Tell whether data from the cache is an archive in the format of this version."""
    try:
        return (
            isinstance(data, dict)
            and all(_is_number(data[key]) for key in ("slot", "time"))
            and all(_is_process(each) for each in [*data["processes"].values(), *data["left"]])
            and all(_is_event(event) for event in data["events"])
            and all(_is_pool(pool) for pool in data["pools"].values())
        )
    except (AttributeError, IndexError, KeyError, TypeError):
        return False


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _is_process(data: dict[str, Any]) -> bool:
    return (
        isinstance(data["host"], str)
        and all(_is_number(data[key]) for key in ("pid", "started", "time"))
        and all(map(_is_totals, data["totals"].values()))
    )


def _is_totals(data: dict[str, Any]) -> bool:
    """Tell whether these are totals, or nothing."""
    return not data or (
        all(_is_number(data[name]) for name in TOTALS)
        and all(_is_number(count) for name in BY_REASON for count in data[name].values())
        and all(
            _is_number(data[name][key]) and all(map(_is_number, data[name]["buckets"]))
            for name in HISTOGRAMS
            for key in ("count", "seconds")
        )
    )


def _is_event(event: dict[str, Any]) -> bool:
    return _is_number(event["time"]) and all(
        isinstance(event[key], str) for key in ("kind", "text", "pool")
    )


def _is_pool(pool: dict[str, Any]) -> bool:
    return (
        isinstance(pool["name"], str)
        and all(_is_number(pool[key]) for key in ("seen", "cleared_at", "down"))
        and _is_totals(pool["departed"])
        and _is_totals(pool["cleared"])
        and all(is_row(row) for tier in TIERS for row in pool["tiers"][tier])
    )


def is_row(row: object) -> bool:
    """Tell whether data from the cache is a row of a history."""
    return (
        isinstance(row, list)
        and len(row) == 1 + len(COLUMNS)
        and isinstance(row[-1], dict)
        and all(map(_is_number, row[:-1]))
        and all(
            bucket.isdecimal() and int(bucket) < BUCKETS and _is_number(row[-1][bucket])
            for bucket in row[-1]
        )
    )
