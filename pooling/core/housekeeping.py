"""What time, lost holders and interrupts do to the state, put right.

Functions on the state of a pool, called with its lock held like their methods.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from pooling.core import stats
from pooling.core.backoff import FIRST_PAUSE
from pooling.core.connection import LEASED, DiscardReason, PooledConnection, State
from pooling.core.state import PoolState, TaskKind

if TYPE_CHECKING:
    from pooling.core.driver import C
    from pooling.core.stats import Holder

RECOVERY_PAUSE = 20e-6
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


def maintain(state: PoolState[C]) -> tuple[list[Holder], float | None]:
    """Do what is due; return the leaks to report, and when to come again."""
    now = state.now()
    retire_idle(state, now)
    recover_lost_leases(state, now)
    mark_stalled(state, now)
    state.fill()
    return leaks(state, now), due(state, now)


def retire_idle(state: PoolState[C], now: float) -> None:
    """Throw away idle connections that are too old, and those that nobody needed for long."""
    max_idle = state.config.max_idle
    kept: deque[PooledConnection[C]] = deque()
    for record in state.idle:  # the coldest first
        reason = state.retirement(record, now)
        if (
            reason is None
            and max_idle is not None
            and now - record.since >= max_idle
            and len(state.records) > state.config.min_size
        ):
            reason = DiscardReason.IDLE
        if reason is None:
            kept.append(record)
        else:
            state.discard(record, reason)
    state.idle = kept


def mark_stalled(state: PoolState[C], now: float) -> None:
    """Give up hope in workers that take too long, while somebody waits for them."""
    if state.waiters and state.connecting:
        for record in state.records:
            if record.state is State.CONNECTING and now - record.since >= STALL:
                state.stalled.add(record)


def recover_lost_leases(state: PoolState[C], now: float) -> None:
    """Take back the leases that were garbage-collected, and those of threads that ended."""
    state.next_recovery = now + RECOVERY_PAUSE * len(state.records)
    for record in state.records:
        if record.state is LEASED and _is_lost(record):
            _recover(state, record)


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


def _recover(state: PoolState[C], record: PooledConnection[C]) -> None:
    state.totals.recovered += 1
    state.start_task(TaskKind.RECOVER, record)  # the lease is over, should anybody still have it


def restore_invariants(state: PoolState[C]) -> None:
    """Restore the invariants after an interrupt; what counts is who owns the records."""
    state.set_config(state.config)
    for task in list(state.pending):
        record = task.record
        if task.number != record.owner:
            continue
        if task.task is TaskKind.CLOSE:
            state.closing.add(record)
            record.state = State.CLOSED
            state.records.discard(record)
        else:
            record.state = State.CONNECTING
            state.records.add(record)
    for record in state.records:
        if record.owner is None:
            record.state = State.IDLE
        elif callable(record.owner):
            record.state = LEASED
    idle = dict.fromkeys(record for record in state.idle if record.state is State.IDLE)
    idle.update(dict.fromkeys(each for each in state.records if each.state is State.IDLE))
    state.idle = deque(idle)
    busy = [record for record in state.records if record.state is State.CONNECTING]
    state.connecting = len(busy)
    state.opening = sum(not hasattr(record, "connection") for record in busy)
    state.stalled.intersection_update(busy)
    now = state.now()
    for waiter in list(state.waiters):
        if waiter.resolved or waiter.lease.current:
            state.resolve(waiter, now, waiter.error)
    state.fill()


def leaks(state: PoolState[C], now: float) -> list[Holder]:
    """Return those who hold a connection for longer than `leak_after`, each once."""
    leak_after = state.config.leak_after
    found = []
    if leak_after is not None:
        for record in state.records:
            overdue = record.state is LEASED and now - record.since >= leak_after
            if overdue and not record.leak_reported:
                record.leak_reported = True
                found.append(stats.holder(record, now))
    return found


def due(state: PoolState[C], now: float) -> float | None:
    """Return when the pool next needs maintenance, None if it does not."""
    config = state.config
    if state.closed:  # what is still leased may get lost, and has to be closed then
        return now + STALL if state.records else None
    if not (state.used and (state.records or state.waiters or config.min_size)):
        return None
    due = [now + HOUSEKEEPING]
    if state.waiters:
        due.append(now + LOST_PAUSE)
        if state.backoff.next_attempt > now:
            due.append(state.backoff.next_attempt)
    if len(state.records) < config.min_size and not state.opening:
        due.append(max(state.backoff.next_attempt, state.backoff.next_refill, now + FIRST_PAUSE))
    if config.max_idle is not None:
        due.append(now + config.max_idle)
    if config.leak_after is not None:
        due.append(now + config.leak_after)
    for record in state.records:
        if record.state is State.IDLE:
            due.append(record.expires_at)
            if config.max_idle is not None and len(state.records) > config.min_size:
                due.append(record.since + config.max_idle)
        elif record.state is LEASED and config.leak_after is not None and not record.leak_reported:
            due.append(record.since + config.leak_after)
    return max(min(due), now + SHORTEST_PAUSE)  # whatever happens, maintenance does not spin
