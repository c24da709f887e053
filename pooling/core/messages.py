"""Error and log messages of a pool, written for an operator."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pooling.core.stats import Holder, PoolStats

MAX_NAMED_HOLDERS = 5
"""How many holders an error message names; `Pool.holders` returns all of them."""

_CORE = str(Path(__file__).parent)


def timeout(
    stats: PoolStats,
    seconds: float | None,
    holders: Sequence[Holder],
    *,
    own: int,
    last_connect_error: str | None,
) -> str:
    """Say why a caller got no connection: the counts, the holders, the last connect error.

    Args:
        stats: the pool at that moment, the caller still counted as waiting.
        seconds: how long the caller waited.
        holders: the holders of connections.
        own: how many connections the waiting thread itself holds.
        last_connect_error: why the last attempt to connect failed, if it did.
    """
    within = "" if seconds is None else f" within {seconds:g} s"
    parts = [f"pool {stats.name!r}: no connection{within} ({_counts(stats)})"]
    if last_connect_error is not None:
        parts.append(f"the last attempt to connect failed: {last_connect_error}")
    if holders:
        parts.append(f"held by {_named(holders)}")
    if own:
        parts.append(
            f"this thread holds {own} of them itself and would wait for its own release: "
            "a second alias of the same database, a connection.copy() or a nested acquire "
            "needs a larger max_size"
        )
    return "; ".join(parts)


def too_many_waiters(stats: PoolStats) -> str:
    """Say why a caller was turned away."""
    return f"pool {stats.name!r}: max_waiting callers are waiting already ({_counts(stats)})"


def server_down(pool: str, seconds: float, fail_fast: float | None, last_error: str) -> str:
    """Say why a caller was not made to wait."""
    return (
        f"pool {pool!r}: server unreachable for {seconds:.1f} s (fail_fast={fail_fast}): not "
        f"waiting; the last attempt to connect failed: {last_error}"
    )


def closed(pool: str) -> str:
    """Say why a closed pool serves no caller."""
    return f"pool {pool!r} is closed"


def reentrant_use(pool: str) -> str:
    """Say why a nested call is refused."""
    return (
        f"pool {pool!r}: re-entrant use: a finaliser or signal handler called the pool while its "
        "thread held the pool's lock; do not use the database there"
    )


def leak(pool: str, holder: Holder) -> str:
    """Say which caller has held a connection for longer than `leak_after`."""
    where = f", acquired here:\n{holder.stack}" if holder.stack else ""
    return (
        f"{pool}: thread {holder.thread!r} has held a connection for {holder.seconds:.1f} s{where}"
    )


def error_text(error: BaseException) -> str:
    """Return an error as text, or its class name if it has none or cannot be converted."""
    try:
        return str(error).strip() or type(error).__name__
    except Exception:
        return type(error).__name__


def stack() -> traceback.StackSummary:
    """Return the calling stack without the core's own frames; source lines are read later."""
    frame = sys._getframe(1)  # the documented way to walk a stack cheaply
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_CORE):
        frame = frame.f_back
    frames = traceback.walk_stack(frame)
    summary = traceback.StackSummary.extract(frames, limit=20, lookup_lines=False)
    summary.reverse()
    return summary


def _counts(stats: PoolStats) -> str:
    counts = "suspended, " * stats.suspended
    counts += f"max_size={stats.max_size}, leased={stats.leased}, idle={stats.idle}"
    if stats.connecting:
        counts += f", connecting={stats.connecting}"
    return f"{counts}, waiting={stats.waiting}"


def _named(holders: Sequence[Holder]) -> str:
    named = [
        f"thread {holder.thread!r} for {holder.seconds:.1f} s"
        + (f" ({holder.note})" if holder.note else "")
        for holder in holders
    ]
    if len(named) > MAX_NAMED_HOLDERS:
        named[MAX_NAMED_HOLDERS:] = [f"{len(named) - MAX_NAMED_HOLDERS} more"]
    return ", ".join(named)
