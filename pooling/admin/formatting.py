"""Formatting of statistics and options, and the health sentence of a pool."""

from __future__ import annotations

from typing import Any

from pooling.fleet.snapshots import QUANTILES
from pooling.formatting import NOTHING, duration, plural


def quantiles(measured: dict[str, Any]) -> str:
    """Return the quantiles of a histogram, or a dash."""
    if not measured["count"]:
        return NOTHING
    shown = (duration(measured[name]).replace(" ", "\N{NO-BREAK SPACE}") for name in QUANTILES)
    return " / ".join(shown)


def discard_reasons(discards: dict[str, int]) -> str:
    """Return the reasons that occurred, with their counts."""
    found = [
        f"{number:,} {reason.replace('_', ' ')}" for reason, number in discards.items() if number
    ]
    return ", ".join(found) or "none"


def option_value(value: object) -> str:
    """Return an option's value as text."""
    if value is None:
        return "no limit"
    return f"{value:g}" if isinstance(value, float) else str(value)


def health(pool: dict[str, Any]) -> tuple[str, str]:
    """Return a pool's health as one of "good", "busy", "bad", and as a sentence.

    Args:
        pool: an entry of the result of `pooling.fleet.aggregate.aggregate`.
    """
    stats = pool["stats"]
    waiting = stats["waiting"]
    parts = len(pool["parts"])
    queue = plural(waiting, "caller waits", "callers wait") if waiting else "no caller waits"
    if pool["suspended_in"]:
        where = (
            ""
            if pool["suspended_in"] == parts
            else f" in {pool['suspended_in']} of {parts} processes"
        )
        return "bad", f"Suspended{where}: no connection is lent until the pool is resumed; {queue}."
    full = sum(is_full(part["stats"]) for _, part in pool["parts"])
    where = "" if full == parts else f" in {full} of {plural(parts, 'process', 'processes')}"
    if full and waiting:
        return "bad", f"Exhausted{where}: all connections are in use and {queue}."
    if waiting and not stats["idle"] + stats["leased"] and stats["last_error"]:
        return "bad", f"No connection to the server: {queue}."
    if waiting:
        return "busy", f"{queue} for a connection that is being opened."
    if full:
        return "busy", f"All connections are in use{where}, but no caller waits."
    return "good", f"{stats['leased']} of {stats['max_size']} connections in use, no caller waits."


def is_full(stats: dict[str, Any]) -> bool:
    """Tell whether the next caller of this pool has to wait for a release."""
    return not stats["idle"] and stats["leased"] >= stats["max_size"]


def longest_lease(pool: dict[str, Any]) -> str | None:
    """Describe the longest lease, `None` if there is none."""
    if not pool["holders"]:
        return None
    holder = pool["holders"][0]
    purpose = f" for {holder['note']}" if holder["note"] else ""
    return (
        f"Longest lease: {duration(holder['seconds'])}{purpose}, "
        f"thread {holder['thread']} of {holder['process']}."
    )
