"""Formatting of statistics and options, and the health sentence of a pool."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from pooling.core.budget import BudgetUse
from pooling.fleet.aggregate import budget_is_used_up
from pooling.fleet.snapshots import QUANTILES, application_name
from pooling.formatting import NOTHING, duration, milliseconds, plural

FRESH = 15.0
"""Age in seconds of a server's answer up to which it says something about now."""

LONG = 30.0
"""Seconds after which a lease is unusual for a request."""

OLD = 10.0
"""Seconds after which leases are counted in the line of the longest one."""


def quantiles(measured: dict[str, Any]) -> str:
    """Return the quantiles of a histogram in milliseconds, or a dash."""
    if not measured["count"]:
        return NOTHING
    return " / ".join(milliseconds(measured[name]) for name in QUANTILES)


def by_reason(counts: dict[str, int]) -> str:
    """Return the reasons that occurred, with their counts."""
    found = [
        f"{number:,} {reason.replace('_', ' ')}" for reason, number in counts.items() if number
    ]
    return ", ".join(found) or "none"


def option_value(value: object) -> str:
    """Return an option's value as text."""
    if value is None:
        return "no limit"
    return f"{value:g}" if isinstance(value, float) else str(value)


def clock(time: float) -> str:
    """Return a time of the last 24 hours, with the date if it was longer ago."""
    then, now = datetime.fromtimestamp(time, UTC), datetime.now(UTC)
    return then.strftime("%H:%M:%S UTC" if now - then < timedelta(days=1) else "%Y-%m-%d %H:%M UTC")


def ago(seconds: float) -> str:
    """Return how long ago something was."""
    return "just now" if seconds < 1 else f"{duration(seconds)} ago"


def outage(outage: dict[str, Any]) -> str:
    """Return an outage as sentences."""
    since = clock(time.time() - outage["seconds"])
    what = "The server refuses connections" if outage["answered"] else "Server unreachable"
    refused = plural(outage["refused"], "caller") + " refused"
    attempt = "with the next caller"
    if outage["next_attempt"] is not None:
        later = outage["next_attempt"]
        attempt = "now" if later < 0.1 else f"in {duration(later)}"
    return (
        f"{what} since {since}, for {duration(outage['seconds'])}: {refused} since then. "
        f"Next attempt {attempt}."
    )


def health(pool: dict[str, Any]) -> tuple[str, str]:
    """Return a pool's health as one of "good", "busy", "bad", and as a sentence.

    Args:
        pool: an entry of the result of `pooling.fleet.aggregate.aggregate`.
    """
    stats = pool["stats"]
    waiting = stats["waiting"]
    parts = len(pool["live"])
    queue = plural(waiting, "caller waits", "callers wait") if waiting else "no caller waits"

    def within(number: int) -> str:
        return "" if number == parts else f" in {number} of {plural(parts, 'process', 'processes')}"

    if not parts:
        return "bad", "No process has been heard of lately: see their last numbers below."
    if stats["outage"] is not None:
        text = outage(stats["outage"])
        where = within(pool["down_in"])
        return "bad", text if not where else f"{text} So it is{where}."
    if pool["suspended_in"]:
        return "bad", (
            f"Suspended{within(pool['suspended_in'])}: no connection is lent until the pool is "
            f"resumed; {queue}."
        )
    full = sum(is_full(part["stats"]) for _, part in pool["live"])
    if full and waiting:
        longest = f", the first for {duration(stats['max_wait'])}"
        return "bad", (f"Exhausted{within(full)}: all connections are in use and {queue}{longest}.")
    if waiting and not stats["idle"] and budget_is_used_up(stats):
        longest = f", the first for {duration(stats['max_wait'])}"
        return "bad", f"Exhausted: {BudgetUse(**stats['budget'])}, and {queue}{longest}."
    if waiting:
        return "busy", f"{queue} for a connection that is being opened."
    silent = len(pool["parts"]) - parts
    if silent:
        return "busy", (
            f"{plural(silent, 'process', 'processes')} not heard of lately. In the others "
            f"{stats['leased']} of {stats['max_size']} connections in use, no caller waits."
        )
    if full:
        return "busy", f"All connections are in use{within(full)}, but no caller waits."
    return "good", f"{stats['leased']} of {stats['max_size']} connections in use, no caller waits."


def diagnosis(pool: dict[str, Any], answers: list[dict[str, Any]]) -> list[str]:
    """Return why connections are scarce, where the numbers tell.

    Args:
        pool: an entry of the result of `pooling.fleet.aggregate.aggregate`.
        answers: those of the server; see `pooling.fleet.server_sessions`.
    """
    stats = pool["stats"]
    leased = stats["leased"]
    if stats["outage"] is not None or not leased or 5 * leased < 4 * stats["max_size"]:
        return []
    found = []
    held = f"{leased} of {stats['max_size']} held"
    names = {application_name(process) for process, _ in pool["live"]}
    for answer in answers:
        if answer["sessions"] is None or answer["age"] > FRESH:
            continue
        states: Counter[str] = Counter()
        for session in answer["sessions"]:
            if session["own_database"] and session["application_name"] in names:
                states[session["state"]] += session["count"]
        active = states["active"]
        resting = min(max(states.total() - active - stats["idle"], 0), leased)
        if 4 * resting >= 3 * leased:
            found.append(
                f"{held}, {resting} of them idle on the server: held by Python, not by SQL; "
                "more connections will not help. See who holds them, below."
            )
        elif 2 * active >= leased:
            found.append(
                f"{held}, {min(active, leased)} of them running SQL: the server is at work; look "
                "for slow queries before adding connections."
            )
    old = [holder for holder in pool["holders"] if holder["seconds"] >= LONG]
    if 2 * len(old) >= leased:
        what = old[0]["note"] or "an unknown purpose"
        found.append(
            f"{len(old)} of {leased} leases are older than {duration(LONG)}, most of all for "
            f"{what}: they look like leaks."
        )
    return found


def is_full(stats: dict[str, Any]) -> bool:
    """Tell whether the next caller of this pool has to wait for a release."""
    return not stats["idle"] and stats["leased"] >= stats["max_size"]


def longest_lease(pool: dict[str, Any]) -> str | None:
    """Describe the longest lease, `None` if there is none."""
    if not pool["holders"]:
        return None
    holder = pool["holders"][0]
    purpose = f" for {holder['note']}" if holder["note"] else ""
    old = sum(each["seconds"] >= OLD for each in pool["holders"])
    more = f" {old} leases are older than {duration(OLD)}." if old > 1 else ""
    return (
        f"Longest lease: {duration(holder['seconds'])}{purpose}, "
        f"thread {holder['thread']} of {holder['process']}.{more}"
    )
