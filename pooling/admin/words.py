"""Numbers as people read them."""

from __future__ import annotations

from typing import Any

from pooling.fleet.snapshots import QUANTILES

NOTHING = "–"  # noqa: RUF001 - a dash stands for "no value"


def duration(seconds: float | None) -> str:
    """Return seconds in a unit that fits, with two or three digits."""
    if seconds is None:
        return NOTHING
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.01:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    if seconds < 86400:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
    return f"{seconds // 86400:.0f} d {seconds % 86400 // 3600:.0f} h"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return "1 caller", "2 callers"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def quantiles(measured: dict[str, Any]) -> str:
    """Return the three quantiles of durations, or a dash."""
    if not measured["count"]:
        return NOTHING
    shown = (duration(measured[name]).replace(" ", "\N{NO-BREAK SPACE}") for name in QUANTILES)
    return " / ".join(shown)


def reasons(discards: dict[str, int]) -> str:
    """Return the reasons that occurred, with how often."""
    there = [
        f"{number:,} {reason.replace('_', ' ')}" for reason, number in discards.items() if number
    ]
    return ", ".join(there) or "none"


def option(value: object) -> str:
    """Return the value of an option."""
    if value is None:
        return "no limit"
    return f"{value:g}" if isinstance(value, float) else str(value)


def verdict(pool: dict[str, Any]) -> tuple[str, str]:
    """Say how a pool is, as one of "good", "busy", "bad", and in a sentence.

    Args:
        pool: an entry of `pooling.fleet.aggregate`.
    """
    stats = pool["stats"]
    waiting = stats["waiting"]
    parts = len(pool["parts"])
    queue = f"{count(waiting, 'caller waits', 'callers wait')}" if waiting else "nobody waits"
    if pool["suspended_in"]:
        where = (
            ""
            if pool["suspended_in"] == parts
            else f" in {pool['suspended_in']} of {parts} processes"
        )
        return "bad", f"Suspended{where}: nobody gets a connection until it is resumed; {queue}."
    full = sum(is_full(part["stats"]) for _, part in pool["parts"])
    where = "" if full == parts else f" in {full} of {count(parts, 'process', 'processes')}"
    if full and waiting:
        return "bad", f"Exhausted{where}: every place is taken and {queue}."
    if waiting and not stats["idle"] + stats["leased"] and stats["last_error"]:
        return "bad", f"There is no connection to the server: {queue}."
    if waiting:
        return "busy", f"{queue[0].upper()}{queue[1:]} for a connection that is being opened."
    if full:
        return "busy", f"Every place is taken{where}, but nobody waits."
    used = f"{stats['leased']} of {stats['max_size']} places are in use"
    return "good", f"{used}, nobody waits."


def is_full(stats: dict[str, Any]) -> bool:
    """Tell whether the next caller of this pool would have to wait for somebody's release."""
    return not stats["idle"] and stats["leased"] >= stats["max_size"]


def longest(pool: dict[str, Any]) -> str | None:
    """Say who has held a connection longest."""
    if not pool["holders"]:
        return None
    holder = pool["holders"][0]
    what = f" for {holder['note']}" if holder["note"] else ""
    return (
        f"Held longest: {duration(holder['seconds'])}{what}, "
        f"by thread {holder['thread']} of {holder['process']}."
    )
