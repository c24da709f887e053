"""The pools of all processes as a table of text, like PgBouncer's SHOW POOLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from pooling.conf import pool_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pooling.core.config import PoolConfig

HOLDERS = 10
"""How many of the leases are listed under the table, those that last longest."""

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
"""The headings, and whether a column holds numbers."""

DISPENSABLE = (8, 11, 10, 13, 9, 12, 6, 15)
"""The columns that a terminal which is too narrow does without, one after the other."""


def config_of(alias: str) -> PoolConfig:
    """Return the options of an alias. Makes no pool, which would then be one more to see.

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
    """Tell whether a pool in a snapshot is the one of an alias.

    A pool that several aliases share has the name of the one that came first, which may be another
    one in each process; so the aliases count as well.
    """
    return alias in pool["aliases"] or pool["name"] == config.name


def selected(
    processes: Iterable[Mapping[str, Any]], wanted: Callable[[Mapping[str, Any]], bool]
) -> list[dict[str, Any]]:
    """Return the processes with those of their pools that are wanted, without those that have none.

    A process that has used no database yet, such as the one that asks, has no pools.
    """
    found = [
        {**process, "pools": [pool for pool in process["pools"] if wanted(pool)]}
        for process in processes
    ]
    return [process for process in found if process["pools"]]


def render(
    processes: Sequence[Mapping[str, Any]],
    *,
    alone: str | None,
    problem: str | None,
    width: int | None = None,
) -> str:
    """Return the table, who holds connections, and what the reader has to know.

    Args:
        processes: see `selected`.
        alone: see `pooling.fleet.Fleet`.
        problem: likewise.
        width: of the terminal, for a table that fits if it can; None for the whole table.
    """
    parts = []
    if processes:
        parts += [_table(processes, width), _holders(processes), _errors(processes)]
    else:
        parts.append("No process has a pool in use.")
    if alone is not None:
        parts.append(f"Only this process can be seen: {alone}.")
    if problem is not None:
        parts.append(f"Other processes may be missing: {problem}.")
    return "\n\n".join(filter(None, parts)) + "\n"


def as_rows(processes: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Return the cells of the table: one row for each pool of each process."""
    return [_row(process, pool) for process in processes for pool in process["pools"]]


def seconds(value: float | None) -> str:
    """Return a duration in few characters."""
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
    for column in DISPENSABLE:
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
    lines = ["Who holds a connection, longest first:"]
    for lease, pool, host, pid in leases[:HOLDERS]:
        what = _plain(lease["note"] or "(unknown)")
        where = _plain(f"thread {lease['thread']!r}, {host} {pid}, pool {pool!r}")
        lines.append(f"  {seconds(lease['seconds']):>8}  {what}  ({where})")
    unnamed = sum(pool.get("more_holders", 0) for process in processes for pool in process["pools"])
    if (more := len(leases) - HOLDERS + unnamed) > 0:
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
    return "\n".join(["Why connecting failed the last time it did:", *lines])


def _plain(value: object) -> str:
    """Keep what another process has written from moving the cursor of the terminal."""
    return "".join(each if each.isprintable() else " " for each in str(value).strip())
