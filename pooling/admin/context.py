"""Template context of the page, computed from the snapshots."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pooling.admin import charts, formatting
from pooling.fleet.aggregate import aggregate, pool_state
from pooling.fleet.archive import TIERS, fold, wait_quantile
from pooling.fleet.history import COLUMNS
from pooling.fleet.server_sessions import SERVER_SESSIONS, VENDORS, grouped, occupancy
from pooling.fleet.snapshots import application_name, identity_of
from pooling.formatting import duration, milliseconds, plural
from pooling.formatting import number as number_text
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pooling.fleet import Fleet
    from pooling.fleet.archive import Archive

MAX_HOLDERS = 50
"""Leases that the page lists for each pool."""

MAX_QUEUE = 10
"""Waiting callers listed for each pool, those that have waited longest."""

MAX_ORDERS = 3
"""Actions listed for each pool, the last ones."""

MAX_TOP = 8
"""Purposes listed as top holders."""

LEFT_SECONDS, MAX_LEFT = 600, 5
"""For how long, and how many, processes that have left are named."""

OPTION_HELP = {
    "min_size": "connections kept open, in each process",
    "max_size": "the most connections, in each process",
    "timeout": "seconds a caller waits at most",
    "recycle": "seconds after which a connection is replaced",
    "max_idle": "seconds after which a surplus idle connection is closed",
    "fail_fast": "seconds of an outage after which callers fail at once",
    "max_waiting": "callers that may wait; more fail at once",
    "max_uses": "leases after which a connection is replaced",
    "ping_after": "idle seconds after which a connection is tested",
    "reset": "what is reset when a connection is released",
    "scope": "whether a lease lasts as long as its request or as its transaction",
    "connect_params": "the function that supplies parameters for each connect",
    "replay_reads": "whether a read whose session has ended is run again",
    "budget": "the most connections of all processes together",
    "leak_after": "seconds after which a lease is reported, with its stack",
    "name": "",
}


TITLES = {"postgresql": "PostgreSQL", "mysql": "MySQL", "sqlite": "SQLite"}
"""Names of the vendors."""

RANGES = (
    # label, tier of the archive, seconds and number of the rows in the table
    ("10 min", "5", 30, 20),
    ("1 h", "30", 180, 20),
    ("1 day", "600", 3600, 24),
)


def page(fleet: Fleet, history: str = "5") -> dict[str, Any]:
    """Return the context of the part of the page that is updated.

    Args:
        fleet: all processes.
        history: the tier whose table is shown; see `RANGES`.
    """
    found = aggregate(fleet.processes, fleet.archive)
    pools = [_pool(pool, history, fleet.archive["events"]) for pool in found]
    pools.sort(key=lambda pool: ("bad", "busy", "good").index(pool["level"]))
    hosts = {process["host"] for process in fleet.processes}
    processes = plural(len(fleet.processes), "process", "processes")
    unhealthy = [pool for pool in pools if pool["level"] != "good"]
    summary = " ".join(f"{pool['name']}: {pool['health']}" for pool in unhealthy)
    return {
        "isolation_reason": fleet.isolation_reason,
        "problem": fleet.problem,
        "scope": f"{processes} on {plural(len(hosts), 'host')}",
        "time": datetime.now(UTC).strftime("%H:%M:%S UTC"),
        "summary": summary or "All pools have free connections, no caller waits.",
        "unhealthy": unhealthy,
        "pools": pools,
        "left": _left(fleet.archive),
        "ranges": [(label, tier, tier == history) for label, tier, _, _ in RANGES],
    }


def history(fleet: Fleet, tier: str) -> dict[str, Any]:
    """Return the columns of the graphs for each pool, and the events of that time."""
    pools = {
        id_: {"name": pool["name"], **_columns(pool["tiers"].get(tier, []), tier)}
        for id_, pool in fleet.archive["pools"].items()
    }
    ids = {pool["name"]: id_ for id_, pool in fleet.archive["pools"].items()}
    events = [
        {
            "time": event["time"],
            "kind": event["kind"],
            "text": event["text"],
            "pool": ids.get(event["pool"], event["pool"]),
        }
        for event in fleet.archive["events"]
    ]
    now = time.time()
    seconds, slots = TIERS[tier]
    return {"from": now - seconds * slots, "to": now, "pools": pools, "events": events}


def _columns(rows: list[list[Any]], tier: str) -> dict[str, list[Any]]:
    """Return rows as columns, with gaps where a slot has none."""
    seconds = TIERS[tier][0]
    names = COLUMNS[:-2]
    columns: dict[str, list[Any]] = {name: [] for name in ("times", *names, "rate", "p50", "p95")}
    by_slot = {row[0]: row for row in rows}
    for slot in range(rows[0][0], rows[-1][0] + 1) if rows else ():
        row = by_slot.get(slot)
        columns["times"].append(slot * seconds)
        for place, name in enumerate(names, 1):
            columns[name].append(None if row is None else row[place])
        columns["rate"].append(
            None if row is None else row[1 + COLUMNS.index("acquired")] / seconds
        )
        for name, part in (("p50", 0.5), ("p95", 0.95)):
            wait = None if row is None else wait_quantile(row[-1], part)
            columns[name].append(None if wait is None else wait * 1e3)
    return columns


def _left(archive: Archive) -> list[str]:
    """Return the processes that left within the last ten minutes, as sentences."""
    now = time.time()
    return [
        _departure(process, now)
        for process in sorted(archive["left"], key=lambda each: -float(each["time"]))
        if now - process["time"] < LEFT_SECONDS
    ][:MAX_LEFT]


def _departure(process: dict[str, Any], now: float) -> str:
    many = process["totals"].values()
    failures = [
        plural(number, word)
        for key, word in (("timeouts", "timeout"), ("rejected", "rejected caller"))
        if (number := sum(total[key] for total in many))
    ]
    errors = sum(total["connect_errors"] for total in many)
    failures += [plural(errors, "failed connect")] if errors else []
    return (
        f"Process {process['host']}:{process['pid']} ({process['command']}) left "
        f"{formatting.ago(now - process['time'])}, with {' and '.join(failures) or 'no failures'}."
    )


def _pool(pool: dict[str, Any], history: str, events: list[dict[str, Any]]) -> dict[str, Any]:
    stats = pool["stats"]
    level, health = formatting.health(pool)
    cleared = pool["cleared_at"]
    answers = servers(pool)
    return {
        "id": pool["id"],
        "name": pool["name"],
        "level": level,
        "health": health,
        "longest": formatting.longest_lease(pool),
        "location": _location(pool),
        "bar": charts.bar(stats, down=stats["outage"] is not None),
        "facts": _facts(stats),
        "since": f"since {formatting.clock(cleared)}" if cleared else "since the beginning",
        "error": _error(stats),
        "history": _history(pool["tiers"], history),
        "changed": _changed(pool),
        "orders": _orders(pool, events),
        "diagnosis": formatting.diagnosis(pool, answers),
        "queue": _queue(pool),
        "more_waiting": max(stats["waiting"] - MAX_QUEUE, 0),
        "top": _top(pool["held"]),
        "leased": stats["leased"],
        "holders": [_caller(holder) for holder in pool["holders"][:MAX_HOLDERS]],
        "more_holders": max(len(pool["holders"]) - MAX_HOLDERS, 0) + pool["more_holders"],
        "stacks": pool["options"]["leak_after"] is not None,
        "parts": [_part(process, part) for process, part in pool["parts"]],
        "servers": [_sessions(answer, pool) for answer in answers],
        "options": [
            {
                "name": name,
                "value": formatting.option_value(value),
                "meaning": OPTION_HELP.get(name, ""),
                "differs": name in pool["differing"],
            }
            for name, value in pool["options"].items()
        ],
        "limits": {name: pool["options"][name] for name in ("min_size", "max_size")},
        "suspended": bool(pool["suspended_in"]),
        "all_suspended": pool["suspended_in"] == len(pool["parts"]),
    }


def _changed(pool: dict[str, Any]) -> dict[str, str] | None:
    """Return how the sizes differ from the settings, and the line that would make them last."""
    old, options = pool["configured"], pool["options"]
    changes = {name: options[name] for name in old if options[name] != old[name]}
    if not changes:
        return None
    what = ", ".join(f"{name} {old[name]} → {size}" for name, size in changes.items())
    return {"what": what, "setting": setting_line(changes)}


def setting_line(sizes: Mapping[str, int]) -> str:
    """Return what to write into the settings for sizes to last."""
    text = ", ".join(f'"{name}": {size}' for name, size in sizes.items())
    return f'"OPTIONS": {{"pool": {{{text}, ...}}}}'


def _orders(pool: dict[str, Any], events: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the last actions on a pool: what, when, by whom, and how far it got."""
    mine = [
        event
        for event in events
        if event["kind"] == "command" and event["pool"] in (pool["id"], pool["name"])
    ]
    found = []
    for event in reversed(mine[-MAX_ORDERS:]):
        wanted = 1 if event["process"] else max(len(pool["live"]), event["done"])
        by = f" by {event['user']}" if event["user"] else ""
        found.append(
            {
                "id": event["id"],
                "text": f"{formatting.clock(event['time'])}: {event['text']}{by}, "
                f"{event['done']} of {plural(wanted, 'process', 'processes')} done",
            }
        )
    return found


def _error(stats: dict[str, Any]) -> dict[str, Any] | None:
    """Return the last connect error, and whether a connection was opened since."""
    if stats["last_error"] is None:
        return None
    return {
        "text": stats["last_error"],
        "when": formatting.ago(stats["last_error_age"]),
        "recovered": stats["outage"] is None,
    }


def _history(tiers: dict[str, list[list[Any]]], tier: str) -> list[dict[str, Any]]:
    """Return the rows of the table, newest first."""
    _, _, seconds, number = next(each for each in RANGES if each[1] == tier)
    rows: list[list[Any]] = []
    own = TIERS[tier][0]
    for row in tiers.get(tier, []):
        fold(rows, row, row[0] * own // seconds, number)
    return [
        {
            "time": formatting.clock(row[0] * seconds),
            **dict(zip(COLUMNS, row[1:], strict=True)),
            "rate": number_text(values["acquired"] / seconds),
            "p50": milliseconds(wait_quantile(row[-1], 0.5)),
            "p95": milliseconds(wait_quantile(row[-1], 0.95)),
        }
        for row in reversed(rows)
        for values in [dict(zip(COLUMNS, row[1:], strict=True))]
    ]


def _location(pool: dict[str, Any]) -> str:
    """Return the database and the aliases of a pool."""
    vendor = TITLES.get(pool["vendor"], pool["vendor"])
    server = ":".join(filter(None, (pool["host"], pool["port"])))
    parts = [f"{vendor}, {pool['database']}"]
    parts += [f"on {server}"] if server else []
    parts += [f"as {pool['user']}"] if pool["user"] else []
    aliases = ", ".join(pool["aliases"])
    return " ".join(parts) + (f", used as {aliases}" if aliases else "")


def _facts(stats: dict[str, Any]) -> list[dict[str, str]]:
    """Return the totals of a pool, each with a note."""
    discarded = sum(stats["discards"].values())
    facts = [
        ("Wait time, ms", formatting.quantiles(stats["waits"]), "p50 / p95 / p99, upper bounds"),
        ("Hold time, ms", formatting.quantiles(stats["holds"]), "p50 / p95 / p99, upper bounds"),
        (
            "Time to connect, ms",
            formatting.quantiles(stats["opens"]),
            "p50 / p95 / p99, upper bounds",
        ),
        ("Leases", f"{stats['acquired']:,}", f"{stats['waited']:,} had to wait"),
        ("Timeouts", f"{stats['timeouts']:,}", "callers that waited in vain"),
        ("Rejected", f"{stats['rejected']:,}", "callers that failed at once"),
        ("Connect errors", f"{stats['connect_errors']:,}", f"{stats['connects']:,} opened"),
        ("Discarded", f"{discarded:,}", formatting.by_reason(stats["discards"])),
        ("Pinned", f"{sum(stats['pins'].values()):,}", formatting.by_reason(stats["pins"])),
        *_budget(stats["budget"]),
        ("Recovered", f"{stats['recovered']:,}", "from holders that ended"),
        ("Replayed reads", f"{stats['replayed']:,}", "whose session had ended"),
    ]
    return [{"label": label, "value": value, "note": note} for label, value, note in facts]


def _budget(use: dict[str, int] | None) -> list[tuple[str, str, str]]:
    if use is None:
        return []
    note = f"used by {plural(use['processes'], 'process', 'processes')}"
    if use["wanting"]:
        note += f", {use['wanting']} of them {'wants' if use['wanting'] == 1 else 'want'} more"
    return [("Budget", f"{use['used']:,} of {use['limit']:,}", note)]


def _unheard(name: str, pool: dict[str, Any]) -> str:
    """Return what is wrong with the process of an application name, if it is one of a pool's."""
    if not name.startswith("pooling "):
        return ""
    ages = {
        application_name(process): process["age"] if process["silent"] else None
        for process, _ in pool["parts"]
    }
    if name not in ages:
        return "not heard of"
    age = ages[name]
    return "" if age is None else f"not heard of since {formatting.clock(time.time() - age)}"


def _queue(pool: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the waiting callers, those that have waited longest first."""
    found = []
    for process, part in pool["live"]:
        longest = max(part["holders"], key=lambda each: float(each["seconds"]), default=None)
        for place, caller in enumerate(part["queue"]):
            behind = plural(place, "caller")
            if place == 0:
                behind = "a connection that is being opened"
                if longest is not None:
                    held = duration(longest["seconds"] + process["age"])
                    others = plural(part["stats"]["leased"], "lease")
                    behind = f"{others}, the longest for {longest['note'] or 'unknown'}, {held}"
            seconds = caller["seconds"] + process["age"]
            where = {"process": f"{process['host']}:{process['pid']}", "place": place}
            found.append({**_caller({**caller, "seconds": seconds}), **where, "behind": behind})
    return sorted(found, key=lambda caller: -float(caller["seconds"]))[:MAX_QUEUE]


def _top(held: dict[str, float]) -> list[dict[str, Any]]:
    """Return the purposes that held connections longest, with their share."""
    total = sum(held.values()) or 1.0
    return [
        {
            "purpose": purpose,
            "share": f"{100 * seconds / total:.0f}",
            "seconds": number_text(seconds),
        }
        for purpose, seconds in list(held.items())[:MAX_TOP]
    ]


def _caller(caller: dict[str, Any]) -> dict[str, Any]:
    return {**caller, "age": number_text(caller["seconds"])}


def _part(process: dict[str, Any], pool: dict[str, Any]) -> dict[str, Any]:
    stats = pool["stats"]
    uptime = duration(max(time.time() - process["started"], 0))
    return {
        "process": f"{process['host']}:{process['pid']}",
        "id": process["id"],
        "command": process["command"],
        "about": f"{plural(process['threads'], 'thread')}, up {uptime}",
        "silent": duration(process["age"]) if process["silent"] else None,
        "state": pool_state(process, stats),
        "bar": charts.bar(stats, down=stats["outage"] is not None),
        "waiting": stats["waiting"],
        "waits": formatting.quantiles(stats["waits"]),
        "holds": formatting.quantiles(stats["holds"]),
        "timeouts": stats["timeouts"],
        "rejected": stats["rejected"],
        "connect_errors": stats["connect_errors"],
        "discards": formatting.by_reason(stats["discards"]),
        "leased": stats["leased"],
        "size": stats["size"],
        "max_size": stats["max_size"],
    }


def servers(pool: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the answers of the servers, as far as this process can query them."""
    if pool["vendor"] not in VENDORS:
        return []
    mine = [own for own in REGISTRY.pools() if identity_of(own)["id"] == pool["id"]]
    answers = [SERVER_SESSIONS.read(own) for own in mine]
    unused = {"problem": "the process that rendered this page does not use it", "sessions": None}
    return [answer for answer in answers if answer is not None] or [unused]


def _sessions(answer: dict[str, Any], pool: dict[str, Any]) -> dict[str, Any]:
    if answer["sessions"] is None:
        return {"problem": answer["problem"], "rows": None}
    return {
        "problem": answer["problem"],
        "age": formatting.ago(answer["age"]),
        "summary": occupancy(answer),
        "rows": [
            {**row, "unheard": _unheard(row["name"], pool)} for row in grouped(answer["sessions"])
        ],
    }
