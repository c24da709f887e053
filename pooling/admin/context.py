"""Template context of the page, computed from the snapshots."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pooling.admin import charts, formatting
from pooling.fleet.aggregate import aggregate, pool_state
from pooling.fleet.archive import TIERS, fold, wait_quantile
from pooling.fleet.history import COLUMNS
from pooling.fleet.server_sessions import SERVER_SESSIONS
from pooling.fleet.snapshots import identity_of
from pooling.formatting import duration, milliseconds, plural
from pooling.formatting import number as number_text
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from pooling.fleet import Fleet
    from pooling.fleet.archive import Archive

MAX_HOLDERS = 50
"""Leases that the page lists for each pool."""

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
    "leak_after": "seconds after which a lease is reported, with its stack",
    "name": "",
}


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
    pools = [_pool(pool, history) for pool in found]
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


def _pool(pool: dict[str, Any], history: str) -> dict[str, Any]:
    stats = pool["stats"]
    level, health = formatting.health(pool)
    cleared = pool["cleared_at"]
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
        "leased": stats["leased"],
        "holders": [_caller(holder) for holder in pool["holders"][:MAX_HOLDERS]],
        "more_holders": max(len(pool["holders"]) - MAX_HOLDERS, 0) + pool["more_holders"],
        "stacks": pool["options"]["leak_after"] is not None,
        "parts": [_part(process, part) for process, part in pool["parts"]],
        "servers": _servers(pool),
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
    vendor = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}.get(pool["vendor"], pool["vendor"])
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
        ("Leases", f"{stats['acquired']:,}", f"{stats['waited']:,} had to wait"),
        ("Timeouts", f"{stats['timeouts']:,}", "callers that waited in vain"),
        ("Rejected", f"{stats['rejected']:,}", "callers that failed at once"),
        ("Connect errors", f"{stats['connect_errors']:,}", f"{stats['connects']:,} opened"),
        ("Discarded", f"{discarded:,}", formatting.discard_reasons(stats["discards"])),
        ("Recovered", f"{stats['recovered']:,}", "from holders that ended"),
    ]
    return [{"label": label, "value": value, "note": note} for label, value, note in facts]


def _caller(caller: dict[str, Any]) -> dict[str, Any]:
    return {**caller, "age": number_text(caller["seconds"])}


def _part(process: dict[str, Any], pool: dict[str, Any]) -> dict[str, Any]:
    stats = pool["stats"]
    uptime = duration(max(time.time() - process["started"], 0))
    return {
        "process": f"{process['host']}:{process['pid']}",
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
        "discards": formatting.discard_reasons(stats["discards"]),
        "leased": stats["leased"],
        "size": stats["size"],
        "max_size": stats["max_size"],
    }


def _servers(pool: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sessions on the servers, as far as this process can query them."""
    if pool["vendor"] != "postgresql":
        return []
    answers = [
        SERVER_SESSIONS.read(own)
        for own in REGISTRY.pools()
        if identity_of(own)["id"] == pool["id"]
    ]
    unused = {"problem": "the process that rendered this page does not use it", "rows": None}
    return [_sessions(answer) for answer in answers if answer is not None] or [unused]


def _sessions(answer: dict[str, Any]) -> dict[str, Any]:
    if answer["sessions"] is None:
        return {"problem": answer["problem"], "rows": None}
    rows: dict[tuple[str, bool], dict[str, int]] = {}
    for session in answer["sessions"]:
        states = rows.setdefault((session["application_name"], session["own_database"]), {})
        states[session["state"]] = session["count"]
    room = answer["max_connections"] - answer["reserved"]
    return {
        "problem": answer["problem"],
        "age": formatting.ago(answer["age"]),
        "summary": (
            f"{answer['total']} of {answer['max_connections']} connections, of which "
            f"{answer['reserved']} are reserved: {max(room - answer['total'], 0)} are left."
        ),
        "version": answer["version"],
        "rows": [
            {
                "name": name or "(no name)",
                "own": own,
                "states": ", ".join(f"{number} {state}" for state, number in states.items()),
                "total": sum(states.values()),
            }
            for (name, own), states in rows.items()
        ],
    }
