"""Text table of the pools of all processes, like PgBouncer's SHOW POOLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from pooling.conf import pool_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pooling.core.config import PoolConfig

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
    ("wait p50", True),
    ("wait p95", True),
    ("wait p99", True),
    ("hold p50", True),
    ("hold p95", True),
    ("hold p99", True),
    ("timeouts", True),
    ("errors", True),
    ("state", False),
)
"""Headings, and whether a column is numeric."""

DROP_ORDER = (8, 11, 10, 13, 9, 12, 6, 15)
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
    processes: Sequence[Mapping[str, Any]],
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
        parts += [_table(processes, width), _holders(processes), _errors(processes)]
    else:
        parts.append("No process has a pool in use.")
    if isolation_reason is not None:
        parts.append(f"Only this process is shown: {isolation_reason}.")
    if problem is not None:
        parts.append(f"Other processes may be missing: {problem}.")
    return "\n\n".join(filter(None, parts)) + "\n"


def as_rows(processes: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Return the cells of the table: one row per pool and process."""
    return [_row(process, pool) for process in processes for pool in process["pools"]]


def seconds(value: float | None) -> str:
    """Format a duration in few characters."""
    if value is None:
        return "-"
    if value < 0.0995:
        return f"{value * 1e3:.3g} ms" if value >= 0.001 else f"{value * 1e6:.0f} us"
    return f"{value:.3g} s" if value < 100 else f"{value:.0f} s"


def _row(process: Mapping[str, Any], pool: Mapping[str, Any]) -> list[str]:
    stats = pool["stats"]
    numbers = ("max_size", "leased", "idle", "connecting", "waiting")
    quantiles = [
        seconds(stats[kind][part]) for kind in ("waits", "holds") for part in ("p50", "p95", "p99")
    ]
    cells = [
        process["host"],
        process["pid"],
        pool["name"],
        *(stats[name] for name in numbers),
        *quantiles,
        stats["timeouts"] + stats["rejected"],
        stats["connect_errors"],
        _state(process, stats),
    ]
    return [_plain(cell) for cell in cells]


def _state(process: Mapping[str, Any], stats: Mapping[str, Any]) -> str:
    if stats["suspended"]:
        return "suspended"
    if stats["waiting"] and stats["leased"] >= stats["max_size"]:
        return "exhausted"
    return f"ok, {seconds(process['age'])} ago" if process["age"] >= 5 else "ok"


def _table(processes: Sequence[Mapping[str, Any]], width: int | None) -> str:
    rows = as_rows(processes)
    totals = [str(sum(int(row[column]) for row in rows)) for column in range(3, 8)]
    failures = [str(sum(int(row[column]) for row in rows)) for column in (14, 15)]
    rows.append(["total", "", "", *totals, *[""] * 6, *failures, ""])
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
        where = _plain(f"thread {lease['thread']!r}, {host} {pid}, pool {pool!r}")
        lines.append(f"  {seconds(lease['seconds']):>8}  {purpose}  ({where})")
    unnamed = sum(pool.get("more_holders", 0) for process in processes for pool in process["pools"])
    if (more := len(leases) - MAX_HOLDERS + unnamed) > 0:
        lines.append(f"  ... and {more} more")
    return "\n".join(lines)


def _errors(processes: Sequence[Mapping[str, Any]]) -> str:
    errors = {
        (pool["name"], pool["stats"]["last_error"])
        for process in processes
        for pool in process["pools"]
        if pool["stats"]["last_error"]
    }
    if not errors:
        return ""
    lines = [f"  pool {name!r}: {_plain(error)}" for name, error in sorted(errors)]
    return "\n".join(["Last connect errors:", *lines])


def _plain(value: object) -> str:
    """Replace control characters: text of other processes must not control the terminal."""
    return "".join(each if each.isprintable() else " " for each in str(value).strip())
