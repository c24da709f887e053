"""What can be seen of a pool's books: the numbers, and who holds what.

Functions on the books, called with the pool's lock held like their methods. They change nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooling.core.connection import LEASED, PooledConnection
from pooling.core.stats import Holder, PoolStats

if TYPE_CHECKING:
    import threading

    from pooling.core.books import Books
    from pooling.core.driver import C


def stats(books: Books[C]) -> PoolStats:
    """Return the numbers of this instant."""
    totals = books.totals
    return PoolStats(
        name=books.config.name,
        min_size=books.config.min_size,
        max_size=books.max_size,
        size=len(books.records),
        idle=len(books.idle),
        leased=books.leased,
        connecting=books.connecting,
        waiting=len(books.waiters),
        suspended=books.suspended,
        closed=books.closed,
        acquired=totals.retired_uses + sum(record.uses for record in books.records),
        waited=totals.waited,
        waits=totals.waits.read(),
        holds=totals.holds.read(),
        timeouts=totals.timeouts,
        rejected=totals.rejected,
        connects=totals.connects,
        connect_errors=totals.connect_errors,
        recovered=totals.recovered,
        last_error=totals.last_error,
        discards=totals.discards_now(),
    )


def obstacle(books: Books[C]) -> BaseException | None:
    """Return why the pool cannot grow, if it should and the server does not let it."""
    return books.reach.error if len(books.records) < books.max_size else None


def holders(books: Books[C]) -> tuple[Holder, ...]:
    """Return who holds connections, longest first."""
    now = books.now()
    leased = [record for record in books.records if record.state is LEASED]
    leased.sort(key=lambda record: record.since)
    return tuple(holder(record, now) for record in leased)


def holder(record: PooledConnection[C], now: float) -> Holder:
    """Return who holds a leased connection."""
    return Holder(
        thread=record.thread.name if record.thread else "(unknown)",
        seconds=now - record.since,
        note=record.note,
        frames=record.stack,
    )


def held_by(books: Books[C], thread: threading.Thread) -> int:
    """Return how many connections `thread` holds."""
    return sum(record.thread is thread and record.state is LEASED for record in books.records)
