"""What the page shows, worked out from the snapshots, so that the templates need not think."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pooling.admin import figures, words
from pooling.fleet.aggregate import aggregate
from pooling.fleet.server_sessions import SERVER_SESSIONS
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from pooling.fleet import Fleet

MOST_HOLDERS = 50
"""How many leases the page lists."""

EXPLAINED = {
    "min_size": "connections kept open, in each process",
    "max_size": "the most connections, in each process",
    "timeout": "seconds a caller waits at most",
    "recycle": "seconds after which a connection is replaced",
    "max_idle": "seconds after which a surplus idle connection is closed",
    "fail_fast": "seconds of an outage after which callers no longer wait",
    "max_waiting": "callers that may wait; more fail at once",
    "max_uses": "leases after which a connection is replaced",
    "ping_after": "idle seconds after which a connection is tested",
    "reset": "what is undone when a connection comes back",
    "leak_after": "seconds after which a lease is reported, with its stack",
    "name": "",
}


def page(fleet: Fleet) -> dict[str, Any]:
    """Return everything that changes."""
    pools = [_pool(number, pool) for number, pool in enumerate(aggregate(fleet.processes))]
    hosts = {process["host"] for process in fleet.processes}
    processes = words.count(len(fleet.processes), "process", "processes")
    troubles = [pool for pool in pools if pool["level"] != "good"]
    news = [f"{pool['name']}: {pool['verdict']}" for pool in troubles]
    return {
        "alone": fleet.isolation_reason,
        "problem": fleet.problem,
        "where": f"{processes} on {words.count(len(hosts), 'host')}",
        "time": datetime.now(UTC).strftime("%H:%M:%S UTC"),
        "news": " ".join(news) or "All pools have free places, nobody waits.",
        "troubles": troubles,
        "pools": pools,
    }


def _pool(number: int, pool: dict[str, Any]) -> dict[str, Any]:
    stats = pool["stats"]
    level, verdict = words.verdict(pool)
    return {
        "id": f"pool-{number}",
        "name": pool["name"],
        "level": level,
        "verdict": verdict,
        "longest": words.longest(pool),
        "place": _place(pool),
        "bar": figures.bar(stats),
        "facts": _facts(stats),
        "last_error": stats["last_error"],
        "charts": figures.charts(pool["history"]),
        "leased": stats["leased"],
        "holders": [_holder(holder) for holder in pool["holders"][:MOST_HOLDERS]],
        "more_holders": max(len(pool["holders"]) - MOST_HOLDERS, 0) + pool["more_holders"],
        "stacks": pool["options"]["leak_after"] is not None,
        "parts": [_part(process, part) for process, part in pool["parts"]],
        "servers": _servers(pool),
        "options": [
            {
                "name": name,
                "value": words.option(value),
                "meaning": EXPLAINED.get(name, ""),
                "differs": name in pool["differing"],
            }
            for name, value in pool["options"].items()
        ],
        "limits": {name: pool["options"][name] for name in ("min_size", "max_size")},
        "suspended": bool(pool["suspended_in"]),
        "all_suspended": pool["suspended_in"] == len(pool["parts"]),
    }


def _place(pool: dict[str, Any]) -> str:
    """Say which database it is."""
    vendor = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}.get(pool["vendor"], pool["vendor"])
    databases = []
    for database, host, port in pool["databases"]:
        server = ":".join(filter(None, (host, port)))
        databases.append(f"{database} on {server}" if server else database)
    aliases = ", ".join(pool["aliases"])
    return f"{vendor}, {'; '.join(databases)}" + (f", used as {aliases}" if aliases else "")


def _facts(stats: dict[str, Any]) -> list[dict[str, str]]:
    """Return the numbers of a pool, each with what it counts."""
    facts = [
        ("Waiting now", words.count(stats["waiting"], "caller"), ""),
        ("Waiting took", words.quantiles(stats["waits"]), "p50 / p95 / p99, upper bounds"),
        ("Holding took", words.quantiles(stats["holds"]), "p50 / p95 / p99, upper bounds"),
        ("Leases", f"{stats['acquired']:,}", f"{stats['waited']:,} had to wait"),
        ("Timeouts", f"{stats['timeouts']:,}", f"{stats['rejected']:,} turned away at once"),
        ("Connect errors", f"{stats['connect_errors']:,}", f"{stats['connects']:,} were opened"),
        ("Discarded", f"{sum(stats['discards'].values()):,}", words.reasons(stats["discards"])),
        ("Recovered", f"{stats['recovered']:,}", "from holders that went away"),
    ]
    return [{"label": label, "value": value, "note": note} for label, value, note in facts]


def _holder(holder: dict[str, Any]) -> dict[str, Any]:
    return {**holder, "age": words.duration(holder["seconds"])}


def _part(process: dict[str, Any], pool: dict[str, Any]) -> dict[str, Any]:
    stats = pool["stats"]
    uptime = words.duration(max(time.time() - process["started"], 0))
    return {
        "process": f"{process['host']}:{process['pid']}",
        "command": process["command"],
        "about": f"{words.count(process['threads'], 'thread')}, up {uptime}",
        "age": words.duration(process["age"]) if process["age"] else None,
        "bar": figures.bar(stats),
        "suspended": stats["suspended"],
        "waiting": stats["waiting"],
        "waits": words.quantiles(stats["waits"]),
        "holds": words.quantiles(stats["holds"]),
        "timeouts": stats["timeouts"],
        "connect_errors": stats["connect_errors"],
        "last_error": stats["last_error"],
        "discards": words.reasons(stats["discards"]),
        "leased": stats["leased"],
        "size": stats["size"],
        "max_size": stats["max_size"],
    }


def _servers(pool: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the servers themselves say, as far as this process can ask them."""
    if pool["vendor"] != "postgresql":
        return []
    looks = [SERVER_SESSIONS.read(own) for own in REGISTRY.pools() if own.name == pool["name"]]
    server_sessions = [_account(account) for account in looks if account is not None]
    unused = {"problem": "the process that made this page does not use it", "rows": None}
    return server_sessions or [unused]


def _account(account: dict[str, Any]) -> dict[str, Any]:
    if account["sessions"] is None:
        return {"problem": account["problem"], "rows": None}
    rows: dict[tuple[str, bool], dict[str, int]] = {}
    for session in account["sessions"]:
        states = rows.setdefault((session["application_name"], session["own_database"]), {})
        states[session["state"]] = session["count"]
    room = account["max_connections"] - account["reserved"]
    return {
        "problem": account["problem"],
        "age": "just now" if account["age"] < 1 else f"{words.duration(account['age'])} ago",
        "summary": (
            f"{account['total']} of {account['max_connections']} connections, of which "
            f"{account['reserved']} are reserved: {max(room - account['total'], 0)} are left."
        ),
        "version": account["version"],
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
