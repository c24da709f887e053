"""The sentences in which a pool tells an operator what is wrong."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pooling.core.stats import Holder, PoolStats

HOLDERS_NAMED = 5
"""How many holders an error message names; `Pool.holders` knows them all."""

_CORE = str(Path(__file__).parent)


def timeout(
    stats: PoolStats,
    seconds: float | None,
    holders: Sequence[Holder],
    *,
    own: int,
    last_connect_error: str | None,
) -> str:
    """Say why a caller got no connection: the numbers, the holders, and what the server said.

    Args:
        stats: the pool at that moment, the caller still counted among the waiting.
        seconds: how long the caller waited.
        holders: who holds connections.
        own: how many of them the waiting thread itself holds.
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


def server_down(pool: str, seconds: float, last_connect_error: str) -> str:
    """Say why a caller was not made to wait."""
    return (
        f"pool {pool!r}: the server has been away for {seconds:.1f} s, so nobody waits for it; "
        f"the last attempt to connect failed: {last_connect_error}"
    )


def reentrant_use(pool: str) -> str:
    """Say why code that runs in the middle of something of this thread's own is refused."""
    return (
        f"pool {pool!r}: a finaliser or a signal handler wanted to use the pool at a moment when "
        "its thread was itself busy in it; such code must leave the database alone"
    )


def leak(pool: str, holder: Holder) -> str:
    """Say who has kept a connection for longer than `leak_after`."""
    where = f", acquired here:\n{holder.stack}" if holder.stack else ""
    return (
        f"{pool}: thread {holder.thread!r} has held a connection for {holder.seconds:.1f} s{where}"
    )


def error_text(error: BaseException) -> str:
    """Return what an error says, or its name if it says nothing or cannot say it."""
    try:
        return str(error).strip() or type(error).__name__
    except Exception:
        return type(error).__name__


def stack() -> traceback.StackSummary:
    """Return where the caller's caller is, without the pool's own frames; lines are read late."""
    frame = sys._getframe(1)  # noqa: SLF001 - the documented way to walk a stack cheaply
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
    if len(named) > HOLDERS_NAMED:
        named[HOLDERS_NAMED:] = [f"{len(named) - HOLDERS_NAMED} more"]
    return ", ".join(named)
