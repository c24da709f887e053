"""Housekeeping: retire old and surplus connections, recover lost leases, report leaks.

The rules of age, and what is done for a pool at regular intervals. Every function is called with
the pool's lock held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooling.core.backoff import FIRST_PAUSE
from pooling.core.connection import LEASED, DiscardReason, PooledConnection, State
from pooling.core.stats import holder
from pooling.core.threads import has_ended

if TYPE_CHECKING:
    from pooling.core.driver import C
    from pooling.core.state import PoolState
    from pooling.core.stats import Holder

RECOVERY_PAUSE = 20e-6
"""Seconds per connection between two searches for lost leases, at least: with callers arriving at
an exhausted pool, a few hundredths of the time are spent on it."""

LOST_PAUSE = 0.1
"""Seconds between such searches at most, while callers wait."""

SHORTEST_PAUSE = 0.005
"""Seconds between two rounds of housekeeping of a pool, at least."""

STALL = 1.0
"""Seconds after which a task that opens, tests or cleans a connection is taken to hang: from then
on another one is started for the callers that wait."""

LONGEST_PAUSE = 30.0
"""Seconds between two rounds of housekeeping of a pool that has connections, at most."""


def maintain(state: PoolState[C]) -> tuple[list[Holder], float | None]:
    """Do what is due; return the leaks to report, and when to come again (None: never)."""
    now = state.now()
    state.note_use(now)
    retire_idle(state, now)
    recover_lost_leases(state, now)
    mark_stalled(state, now)
    state.lift_ceiling(now)
    state.probe_idle(now)
    state.fill()
    return leaks(state, now), next_due(state, now)


# ---- age -----------------------------------------------------------------------------------------


def retirement_reason(
    state: PoolState[C], record: PooledConnection[C], now: float
) -> DiscardReason | None:
    """Return why a connection that works must not be used any more, if so."""
    if state.closed:
        return DiscardReason.CLOSED
    if record.generation != state.generation:
        return DiscardReason.DRAINED
    if now >= record.expires_at:
        return DiscardReason.RECYCLED
    if len(state.records) > state.max_size:
        return DiscardReason["SURPLUS" if len(state.records) > state.config.max_size else "BUDGET"]
    if record.uses >= state.max_uses:
        return DiscardReason.USED_UP
    return None


def retire_idle(state: PoolState[C], now: float) -> None:
    """Discard idle connections that are too old, and those that are not needed.

    Above `min_size` a connection is not needed after `max_idle` without a lease of its own; after
    `max_idle` without a lease of the whole pool none is, since `min_size` is for pools in use.
    """
    max_idle = state.config.max_idle
    unused = max_idle is not None and now - state.unused_since >= max_idle
    surplus = len(state.records) - (0 if unused else state.config.min_size)
    outdated: list[tuple[PooledConnection[C], DiscardReason]] = []
    for record in state.idle:  # those that are used last come first
        reason = retirement_reason(state, record, now)
        if (
            reason is None
            and max_idle is not None
            and len(outdated) < surplus
            and (unused or now - record.since >= max_idle)
        ):
            reason = DiscardReason.IDLE
        if reason is not None:
            outdated.append((record, reason))
    if outdated:
        state.discard_idle(outdated)
    if unused and not state.records:
        state.stop_refilling()


# ---- lost leases and hanging tasks ---------------------------------------------------------------


def recover_lost_leases(state: PoolState[C], now: float) -> None:
    """Take back leases that were garbage-collected, and those of threads that have ended."""
    lost = [each for each in state.records if each.state is LEASED and _is_lost(each)]
    state.recover(lost, next_search=now + RECOVERY_PAUSE * len(state.records))


def _is_lost(record: PooledConnection[C]) -> bool:
    """Tell whether no code can release a leased connection any more."""
    owner, thread = record.owner, record.thread
    if callable(owner) and owner() is None:
        return True
    return record.thread_bound and thread is not None and has_ended(thread)


def mark_stalled(state: PoolState[C], now: float) -> None:
    """Stop relying on tasks that take too long, while callers wait for them."""
    if state.waiters and state.connecting:
        state.mark_stalled(
            record
            for record in state.records
            if record.state is State.CONNECTING and now - record.since >= STALL
        )


def leaks(state: PoolState[C], now: float) -> list[Holder]:
    """Return the holders of leases older than `leak_after`, each lease once."""
    leak_after = state.config.leak_after
    found: list[Holder] = []
    if leak_after is not None:
        for record in state.records:
            overdue = record.state is LEASED and now - record.since >= leak_after
            if overdue and record.leak_reported is not record.owner:
                state.note_leak(record)
                found.append(holder(record, now))
    return found


# ---- when ----------------------------------------------------------------------------------------


def next_due(state: PoolState[C], now: float) -> float | None:
    """Return when the pool next needs housekeeping, None if it does not."""
    config = state.config
    if state.closed:  # what is still leased may get lost, and has to be closed then
        return now + STALL if state.records else None
    if not (state.used and (state.records or state.waiters or config.min_size)):
        return None
    due = [now + LONGEST_PAUSE]
    if state.waiters:
        due.append(now + LOST_PAUSE)
        if state.backoff.next_attempt > now:
            due.append(state.backoff.next_attempt)
    if len(state.records) < config.min_size and not state.opening:
        due.append(max(state.backoff.next_attempt, state.backoff.next_refill, now + FIRST_PAUSE))
    if config.max_idle is not None:
        due.append(max(state.unused_since + config.max_idle, now + FIRST_PAUSE))
    if config.leak_after is not None:
        due.append(now + config.leak_after)
    if state.idle:
        due.append(state.next_probe)
    if state.waiters and state.ceiling_ends > now:
        due.append(state.ceiling_ends)
    for record in state.records:
        if record.state is State.IDLE:
            due.append(record.expires_at)
            if config.max_idle is not None and len(state.records) > config.min_size:
                due.append(record.since + config.max_idle)
        elif (
            record.state is LEASED
            and config.leak_after is not None
            and record.leak_reported is not record.owner
        ):
            due.append(record.since + config.leak_after)
    return max(min(due), now + SHORTEST_PAUSE)  # it never spins
