"""Text table of the pools of all processes, like PgBouncer's SHOW POOLS."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from pooling.conf import pool_config
from pooling.core.budget import BudgetUse
from pooling.fleet.aggregate import aggregate, pool_state
from pooling.fleet.archive import counted
from pooling.fleet.server_sessions import grouped, occupancy
from pooling.fleet.snapshots import QUANTILES
from pooling.formatting import duration, milliseconds, number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pooling.core.config import PoolConfig
    from pooling.fleet import Fleet

MAX_HOLDERS = 10
"""Leases listed under the table, the longest ones."""

COLUMNS = (
    ("host", False),
    ("pid", True),
    ("pool", False),
    ("max", True),
    ("used", True),
    ("idle", True),
    ("conn", True),
    ("wait", True),
    ("maxwait s", True),
    *((f"{kind} {part} ms", True) for kind in ("wait", "hold") for part in QUANTILES),
    ("timeouts", True),
    ("rejected", True),
    ("errors", True),
    ("state", False),
)
"""Headings, and whether a column is numeric."""

RATES = {
    "acquired": "leases",
    "timeouts": "timeouts",
    "rejected": "rejected",
    "connect_errors": "failed connects",
}
"""What is shown as rates, and how it is called."""

DROP_ORDER = (9, 12, 11, 14, 10, 13, 6, 17, 8, 16)
"""Columns left out one after the other until the table fits the terminal."""


def config_of(alias: str) -> PoolConfig:
    """Return the pool options of an alias, without creating its pool.

    Raises:
        ConnectionDoesNotExist: there is no such alias.
        ImproperlyConfigured: it has no pool, or wrong options.
    """
    entry = connections.settings.get(alias)
    if entry is None:
        raise ConnectionDoesNotExist(f"there is no DATABASES[{alias!r}]")
    config = None
    if str(entry["ENGINE"]).startswith("pooling.backends."):
        config = pool_config(entry, alias)
    if config is None:
        raise ImproperlyConfigured(f"DATABASES[{alias!r}] has no pool")
    return config


def is_of(pool: Mapping[str, Any], alias: str, config: PoolConfig) -> bool:
    """Tell whether a pool in a snapshot is that of an alias.

    A pool shared by several aliases is named after the first one used, which may differ between
    processes; so the aliases count as well.
    """
    return alias in pool["aliases"] or pool["name"] == config.name


def selected(
    processes: Iterable[Mapping[str, Any]], wanted: Callable[[Mapping[str, Any]], bool]
) -> list[dict[str, Any]]:
    """Return the processes with their matching pools only, without processes that have none."""
    found = [
        {**process, "pools": [pool for pool in process["pools"] if wanted(pool)]}
        for process in processes
    ]
    return [process for process in found if process["pools"]]


def render(
    processes: Sequence[dict[str, Any]],
    *,
    isolation_reason: str | None,
    problem: str | None,
    width: int | None = None,
) -> str:
    """Return the table, the longest leases, connect errors and notes.

    Args:
        processes: see `selected`.
        isolation_reason: see `pooling.fleet.Fleet`.
        problem: see `pooling.fleet.Fleet`.
        width: columns of the terminal, to leave out table columns; None for the whole table.
    """
    parts = []
    if processes:
        parts += [_table(processes, width), _budgets(processes)]
        parts += [_holders(processes), _errors(processes)]
    else:
        parts.append("No process has a pool in use.")
    if isolation_reason is not None:
        parts.append(f"Only this process is shown: {isolation_reason}.")
    if problem is not None:
        parts.append(f"Other processes may be missing: {problem}.")
    return "\n\n".join(filter(None, parts)) + "\n"


def _budgets(processes: Sequence[dict[str, Any]]) -> str:
    """Return a line for each pool with a budget."""
    return "\n".join(
        f"pool {_plain(pool['name'])!r}: {BudgetUse(**pool['stats']['budget'])}"
        for pool in aggregate(processes)
        if pool["stats"]["budget"] is not None
    )


def clock_and_rates(
    seen: Fleet, before: Fleet | None, wanted: Callable[[Mapping[str, Any]], bool]
) -> str:
    """Return the time, and what each pool counted since the fleet was seen last."""
    lines = [datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")]
    if before is not None:
        seconds = max(seen.archive["time"] - before.archive["time"], 1e-3)
        for id_, pool in seen.archive["pools"].items():
            old, new = counted(before.archive, id_), counted(seen.archive, id_)
            if old and new and wanted({**pool, "aliases": []}):
                rates = (
                    f"{number((new[key] - old[key]) / seconds)} {label}/s"
                    for key, label in RATES.items()
                )
                lines.append(f"  pool {_plain(pool['name'])!r}: {', '.join(rates)}")
    return "\n".join(lines) + "\n"


def server(answer: Mapping[str, Any]) -> str:
    """Return the sessions on a server; see `pooling.fleet.server_sessions`."""
    lines = [f"Sessions on the server of pool {_plain(answer['name'])!r}:"]
    if "sessions" not in answer:
        return f"{lines[0]} {_plain(answer['problem'])}\n"
    lines.append(f"  {occupancy(dict(answer))}")
    for row in grouped(answer["sessions"]):
        other = "" if row["own"] else ", other databases"
        lines.append(f"  {row['total']:>5}  {_plain(row['name'])}: {_plain(row['states'])}{other}")
    return "\n".join(lines) + "\n"


def as_rows(processes: Iterable[dict[str, Any]]) -> list[list[str]]:
    """Return the cells of the table: one row per pool and process."""
    return [_row(process, pool) for process in processes for pool in process["pools"]]


def _row(process: dict[str, Any], pool: Mapping[str, Any]) -> list[str]:
    stats = pool["stats"]
    numbers = ("max_size", "leased", "idle", "connecting", "waiting")
    cells = [
        process["host"],
        process["pid"],
        pool["name"],
        *(stats[name] for name in numbers),
        number(stats["max_wait"]),
        *(milliseconds(stats[kind][part]) for kind in ("waits", "holds") for part in QUANTILES),
        stats["timeouts"],
        stats["rejected"],
        stats["connect_errors"],
        _state(process, stats),
    ]
    return [_plain(cell) for cell in cells]


def _state(process: dict[str, Any], stats: dict[str, Any]) -> str:
    state = pool_state(process, stats)
    if state == "silent":
        return f"silent for {duration(process['age'])}"
    return state


def _table(processes: Sequence[dict[str, Any]], width: int | None) -> str:
    rows = as_rows(processes)
    # What silent processes had is not known to be there now.
    now = as_rows([process for process in processes if not process["silent"]])
    totals = [str(sum(int(row[column]) for row in now)) for column in range(3, 8)]
    failures = [str(sum(int(row[column]) for row in rows)) for column in range(15, 18)]
    rows.append(["total", "", "", *totals, *[""] * 7, *failures, ""])
    widths = [
        max(len(heading), *(len(row[column]) for row in rows))
        for column, (heading, _) in enumerate(COLUMNS)
    ]
    shown = list(range(len(COLUMNS)))
    for column in DROP_ORDER:
        if width is None or sum(widths[each] + 2 for each in shown) - 2 <= width:
            break
        shown.remove(column)
    lines = [[heading for heading, _ in COLUMNS], ["-" * each for each in widths], *rows]
    return "\n".join(
        "  ".join(
            line[each].rjust(widths[each]) if COLUMNS[each][1] else line[each].ljust(widths[each])
            for each in shown
        ).rstrip()
        for line in lines
    )


def _holders(processes: Sequence[Mapping[str, Any]]) -> str:
    leases = [
        (lease, pool["name"], process["host"], process["pid"])
        for process in processes
        for pool in process["pools"]
        for lease in pool["holders"]
    ]
    if not leases:
        return ""
    leases.sort(key=lambda each: -each[0]["seconds"])
    lines = ["Leases, longest first:"]
    for lease, pool, host, pid in leases[:MAX_HOLDERS]:
        purpose = _plain(lease["note"] or "(unknown)")
        if lease["pinned"]:
            purpose += _plain(f", pinned: {lease['pinned']}")
        where = _plain(f"thread {lease['thread']!r}, {host} {pid}, pool {pool!r}")
        lines.append(f"  {duration(lease['seconds']):>10}  {purpose}  ({where})")
    unnamed = sum(pool.get("more_holders", 0) for process in processes for pool in process["pools"])
    if (more := len(leases) - MAX_HOLDERS + unnamed) > 0:
        lines.append(f"  ... and {more} more")
    return "\n".join(lines)


def _errors(processes: Sequence[dict[str, Any]]) -> str:
    """Return the last connect error of each pool, with its age, and the outages."""
    lines = []
    for pool in aggregate(processes):
        stats = pool["stats"]
        if stats["last_error"] is not None:
            about = "" if stats["outage"] else ", recovered since"
            when = duration(stats["last_error_age"])
            error = _plain(stats["last_error"])
            lines.append(f"  pool {pool['name']!r}, {when} ago{about}: {error}")
        if stats["outage"] is not None:
            outage = stats["outage"]
            what = "refuses connections" if outage["answered"] else "unreachable"
            lines.append(
                f"  pool {pool['name']!r}: server {what} for {duration(outage['seconds'])}, "
                f"{outage['refused']:,} callers refused"
            )
    return "\n".join(["Last connect errors:", *lines]) if lines else ""


def _plain(value: object) -> str:
    """Replace control characters: text of other processes must not control the terminal."""
    return "".join(each if each.isprintable() else " " for each in str(value).strip())
