"""Template context of the page, computed from the snapshots."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pooling.admin import charts, formatting
from pooling.fleet.aggregate import aggregate
from pooling.fleet.server_sessions import SERVER_SESSIONS
from pooling.formatting import duration, plural
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from pooling.fleet import Fleet

MAX_HOLDERS = 50
"""Leases that the page lists for each pool."""

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


def page(fleet: Fleet) -> dict[str, Any]:
    """Return the context of the part of the page that is updated."""
    pools = [_pool(number, pool) for number, pool in enumerate(aggregate(fleet.processes))]
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
    }


def _pool(number: int, pool: dict[str, Any]) -> dict[str, Any]:
    stats = pool["stats"]
    level, health = formatting.health(pool)
    return {
        "id": f"pool-{number}",
        "name": pool["name"],
        "level": level,
        "health": health,
        "longest": formatting.longest_lease(pool),
        "location": _location(pool),
        "bar": charts.bar(stats),
        "facts": _facts(stats),
        "last_error": stats["last_error"],
        "charts": charts.charts(pool["history"]),
        "leased": stats["leased"],
        "holders": [_holder(holder) for holder in pool["holders"][:MAX_HOLDERS]],
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


def _location(pool: dict[str, Any]) -> str:
    """Return the databases and the aliases of a pool."""
    vendor = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}.get(pool["vendor"], pool["vendor"])
    databases = []
    for database, host, port in pool["databases"]:
        server = ":".join(filter(None, (host, port)))
        databases.append(f"{database} on {server}" if server else database)
    aliases = ", ".join(pool["aliases"])
    return f"{vendor}, {'; '.join(databases)}" + (f", used as {aliases}" if aliases else "")


def _facts(stats: dict[str, Any]) -> list[dict[str, str]]:
    """Return the totals of a pool, each with a note."""
    discarded = sum(stats["discards"].values())
    facts = [
        ("Waiting now", plural(stats["waiting"], "caller"), ""),
        ("Wait time", formatting.quantiles(stats["waits"]), "p50 / p95 / p99, upper bounds"),
        ("Hold time", formatting.quantiles(stats["holds"]), "p50 / p95 / p99, upper bounds"),
        ("Leases", f"{stats['acquired']:,}", f"{stats['waited']:,} had to wait"),
        ("Timeouts", f"{stats['timeouts']:,}", f"{stats['rejected']:,} rejected at once"),
        ("Connect errors", f"{stats['connect_errors']:,}", f"{stats['connects']:,} opened"),
        ("Discarded", f"{discarded:,}", formatting.discard_reasons(stats["discards"])),
        ("Recovered", f"{stats['recovered']:,}", "from holders that ended"),
    ]
    return [{"label": label, "value": value, "note": note} for label, value, note in facts]


def _holder(holder: dict[str, Any]) -> dict[str, Any]:
    return {**holder, "age": duration(holder["seconds"])}


def _part(process: dict[str, Any], pool: dict[str, Any]) -> dict[str, Any]:
    stats = pool["stats"]
    uptime = duration(max(time.time() - process["started"], 0))
    return {
        "process": f"{process['host']}:{process['pid']}",
        "command": process["command"],
        "about": f"{plural(process['threads'], 'thread')}, up {uptime}",
        "age": duration(process["age"]) if process["age"] else None,
        "bar": charts.bar(stats),
        "suspended": stats["suspended"],
        "waiting": stats["waiting"],
        "waits": formatting.quantiles(stats["waits"]),
        "holds": formatting.quantiles(stats["holds"]),
        "timeouts": stats["timeouts"],
        "connect_errors": stats["connect_errors"],
        "last_error": stats["last_error"],
        "discards": formatting.discard_reasons(stats["discards"]),
        "leased": stats["leased"],
        "size": stats["size"],
        "max_size": stats["max_size"],
    }


def _servers(pool: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sessions on the servers, as far as this process can query them."""
    if pool["vendor"] != "postgresql":
        return []
    answers = [SERVER_SESSIONS.read(own) for own in REGISTRY.pools() if own.name == pool["name"]]
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
        "age": "just now" if answer["age"] < 1 else f"{duration(answer['age'])} ago",
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
