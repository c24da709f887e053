"""What time, lost holders and interrupts do to the books, put right.

Functions on the books of a pool, called with its lock held like their methods.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from pooling.core import survey
from pooling.core.books import Books, Task
from pooling.core.connection import LEASED, DiscardReason, PooledConnection, State
from pooling.core.reach import FIRST_PAUSE

if TYPE_CHECKING:
    from pooling.core.driver import C
    from pooling.core.stats import Holder

SEARCH_PAUSE = 20e-6
"""Seconds per connection between searches for holders that are gone, at the least: when callers
keep arriving at an exhausted pool, some hundredths of the time are spent on that."""

LOST_PAUSE = 0.1
"""Seconds between such searches at the most, while somebody waits."""

SHORTEST_PAUSE = 0.005
"""Seconds between two rounds of maintenance of a pool, at the least."""

STALL = 1.0
"""Seconds after which a worker that opens, tests or cleans a connection is taken to hang: from then
on somebody else is put to work for those who wait."""

HOUSEKEEPING = 30.0
"""The longest time between two rounds of maintenance of a pool that has connections."""


def maintain(books: Books[C]) -> tuple[list[Holder], float | None]:
    """Do what is due; return the leaks to report, and when to come again."""
    now = books.now()
    retire_idle(books, now)
    search_for_lost(books, now)
    search_for_stalled(books, now)
    books.provide()
    return leaks(books, now), due(books, now)


def retire_idle(books: Books[C], now: float) -> None:
    """Throw away idle connections that are too old, and those that nobody needed for long."""
    max_idle = books.config.max_idle
    kept: deque[PooledConnection[C]] = deque()
    for record in books.idle:  # the coldest first
        reason = books.retirement(record, now)
        if (
            reason is None
            and max_idle is not None
            and now - record.since >= max_idle
            and len(books.records) > books.config.min_size
        ):
            reason = DiscardReason.IDLE
        if reason is None:
            kept.append(record)
        else:
            books.discard(record, reason)
    books.idle = kept


def search_for_stalled(books: Books[C], now: float) -> None:
    """Give up hope in workers that take too long, while somebody waits for them."""
    if books.waiters and books.connecting:
        for record in books.records:
            if record.state is State.CONNECTING and now - record.since >= STALL:
                books.stalled.add(record)


def search_for_lost(books: Books[C], now: float) -> None:
    """Take back the leases that were garbage-collected, and those of threads that ended."""
    books.next_search = now + SEARCH_PAUSE * len(books.records)
    for record in books.records:
        if record.state is LEASED and _is_lost(record):
            _recover(books, record)


def _is_lost(record: PooledConnection[C]) -> bool:
    """Tell whether nobody can give a leased connection back any more."""
    if callable(record.owner) and record.owner() is None:
        return True
    thread = record.thread
    return record.thread_bound and thread is not None and _is_gone(thread)


def _is_gone(thread: threading.Thread) -> bool:
    """Tell whether a thread has ended.

    gevent calls the stand-ins for its greenlets alive for ever, and takes them off the list of
    threads when they end. That is asked of stand-ins only, and past `threading.enumerate`, which
    would take a lock of the standard library's under the pool's.
    """
    try:
        return not thread.is_alive() or (
            isinstance(thread, threading._DummyThread)  # noqa: SLF001
            and threading._active.get(thread.ident) is not thread  # type: ignore[attr-defined]  # noqa: SLF001
        )
    except RuntimeError:  # what Python 3.13 says of a stand-in whose thread has ended
        return True


def _recover(books: Books[C], record: PooledConnection[C]) -> None:
    books.totals.recovered += 1
    books.employ(Task.RECOVER, record)  # the lease is over, should anybody still have it


def mend(books: Books[C]) -> None:
    """Restore the invariants after an interrupt; what counts is who owns the records."""
    books.adopt(books.config)
    for errand in list(books.errands):
        record = errand.record
        if errand.number != record.owner:
            continue
        if errand.task is Task.CLOSE:
            books.closing.add(record)
            record.state = State.CLOSED
            books.records.discard(record)
        else:
            record.state = State.CONNECTING
            books.records.add(record)
    for record in books.records:
        if record.owner is None:
            record.state = State.IDLE
        elif callable(record.owner):
            record.state = LEASED
    idle = dict.fromkeys(record for record in books.idle if record.state is State.IDLE)
    idle.update(dict.fromkeys(each for each in books.records if each.state is State.IDLE))
    books.idle = deque(idle)
    busy = [record for record in books.records if record.state is State.CONNECTING]
    books.connecting = len(busy)
    books.opening = sum(not hasattr(record, "connection") for record in busy)
    books.stalled.intersection_update(busy)
    now = books.now()
    for waiter in list(books.waiters):
        if waiter.settled or waiter.lease.current:
            books.settle(waiter, now, waiter.error)
    books.provide()


def leaks(books: Books[C], now: float) -> list[Holder]:
    """Return those who hold a connection for longer than `leak_after`, each once."""
    leak_after = books.config.leak_after
    found = []
    if leak_after is not None:
        for record in books.records:
            overdue = record.state is LEASED and now - record.since >= leak_after
            if overdue and not record.leak_reported:
                record.leak_reported = True
                found.append(survey.holder(record, now))
    return found


def due(books: Books[C], now: float) -> float | None:
    """Return when the pool next needs maintenance, None if it does not."""
    config = books.config
    if books.closed:  # what is still leased may get lost, and has to be closed then
        return now + STALL if books.records else None
    if not (books.used and (books.records or books.waiters or config.min_size)):
        return None
    due = [now + HOUSEKEEPING]
    if books.waiters:
        due.append(now + LOST_PAUSE)
        if books.reach.next_attempt > now:
            due.append(books.reach.next_attempt)
    if len(books.records) < config.min_size and not books.opening:
        due.append(max(books.reach.next_attempt, books.reach.next_upkeep, now + FIRST_PAUSE))
    if config.max_idle is not None:
        due.append(now + config.max_idle)
    if config.leak_after is not None:
        due.append(now + config.leak_after)
    for record in books.records:
        if record.state is State.IDLE:
            due.append(record.expires_at)
            if config.max_idle is not None and len(books.records) > config.min_size:
                due.append(record.since + config.max_idle)
        elif record.state is LEASED and config.leak_after is not None and not record.leak_reported:
            due.append(record.since + config.leak_after)
    return max(min(due), now + SHORTEST_PAUSE)  # whatever happens, maintenance does not spin
