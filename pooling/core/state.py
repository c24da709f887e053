"""The pool's state and every decision about it: owners, queue, and the tasks that follow.

Every method is called with the pool's lock held, and none blocks. What a decision entails (open,
test, clean or close a connection) is noted as a pending task, which the pool submits to its workers
after it has released the lock. A task that an interrupt kept from being submitted is still pending,
and the next caller submits it.

Invariants between any two calls:

* size = connecting + idle + leased <= max_size (after a `resize` to less, as leases end).
* A connection has one owner: a task (connecting, closed), the pool (idle), or a lease (leased).
* No caller waits while a connection is idle, unless a task is under way for each waiting caller.

An interrupt (Ctrl-C) can arrive between any two lines of this file. So the lines are ordered such
that each connection has an owner after every one of them: the new owner gets its reference before
the old one loses its own, and the assignment of `record.owner` is the moment at which ownership
passes. `restore_invariants` then corrects what is counted twice or not at all.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import sys
from collections import deque
from typing import TYPE_CHECKING, Generic, NamedTuple

from pooling.core import housekeeping
from pooling.core.backoff import ConnectBackoff
from pooling.core.budget import CEILING, PROBE_PAUSE
from pooling.core.clock import LONG_AGO
from pooling.core.connection import LEASED, DiscardReason, PooledConnection, State
from pooling.core.driver import C
from pooling.core.queue import Waiter, WaitQueue
from pooling.core.stats import Counters, lease_id

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from pooling.core.budget import BudgetUse, Probe
    from pooling.core.config import PoolConfig
    from pooling.core.connection import Lease
    from pooling.core.errors import BudgetExhausted

MAX_CONCURRENT_TESTS = 2
"""How many distrusted idle connections are tested at a time, beside those for waiting callers."""

RECYCLE_SPREAD = 0.2
"""The part of `recycle` over which ages are spread (HikariCP: 0.25, psycopg_pool: 0.05)."""

LONGEST_PROBE = 10.0
"""Seconds after which another look at the budget is begun although the last one has not ended."""

IDLE = State.IDLE

INFINITE = float("inf")


class TaskKind(enum.Enum):
    """What a worker can do with a connection."""

    OPEN = enum.auto()
    PING = enum.auto()
    RECOVER = enum.auto()
    """Clean what a lost lease has left behind."""
    PROBE = enum.auto()
    """Look whether other processes need a connection of the budget."""
    CLOSE = enum.auto()


class Task(NamedTuple, Generic[C]):
    """Something to be done without the lock."""

    kind: TaskKind
    record: PooledConnection[C]
    number: int
    """Identifies the task as the record's owner; with another owner the task is void."""
    reason: DiscardReason | None = None
    """Why the connection is closed, for `CLOSE`."""


class PoolState(Generic[C]):
    """The state of a pool, and its rules."""

    def __init__(
        self, config: PoolConfig, now: Callable[[], float], random: Callable[[], float]
    ) -> None:
        self.ceiling: float = INFINITE
        """The most connections that the budget leaves to this process for now."""
        self.ceiling_ends = LONG_AGO
        """Until when."""
        self.set_config(config)
        self.next_probe = INFINITE if config.budget is None else LONG_AGO
        """When to look at the budget again."""
        self.budget_use: BudgetUse | None = None
        """What was seen then."""
        self.now = now
        self.random = random
        """Returns a random number from 0 to 1."""
        self.closed = False
        self.suspended = False
        self.used = False
        """Whether callers need connections: not before the first use, nor after a long rest."""
        self.holds_seen = 0
        """How many leases had ended when housekeeping last looked."""
        self.unused_since = now()
        """Since when there have been neither leases nor callers, as far as housekeeping saw."""
        self.records: set[PooledConnection[C]] = set()
        self.idle: deque[PooledConnection[C]] = deque()
        """The right end is used first: what was returned last."""
        self.waiters: WaitQueue[C] = WaitQueue()
        self.pending: deque[Task[C]] = deque()
        """Tasks that no worker has claimed yet."""
        self.connecting = 0
        self.opening = 0
        """The part of `connecting` that is new, not being tested or cleaned."""
        self.stalled: set[PooledConnection[C]] = set()
        """The part of `connecting` that takes too long to rely on."""
        self.closing: set[PooledConnection[C]] = set()
        """Discarded connections that no worker has closed yet."""
        self.quiescence_waiters: list[threading.Lock] = []
        """To be released as soon as nothing is connecting and nothing closing."""
        self.numbers = itertools.count(1)
        """Numbers of tasks. None is used twice, so a task that an interrupt kept from becoming an
        owner never becomes one by coincidence."""
        self.generation = 0
        self.counters = Counters()
        self.backoff = ConnectBackoff(random)
        self.next_search = LONG_AGO
        """When callers look for lost leases again."""
        self.has_distrusted = False
        """Whether idle connections need a test because another one was found dead."""

    def set_config(self, config: PoolConfig) -> None:
        """Use these options, with those that every release reads in their cheapest form."""
        self.config = config
        self.max_size = int(min(config.max_size, self.ceiling))
        self.max_uses = sys.maxsize if config.max_uses is None else config.max_uses
        self.ping_after = INFINITE if config.ping_after is None else config.ping_after
        self.leak_after = config.leak_after
        self.fail_fast = INFINITE if config.fail_fast is None else config.fail_fast

    @property
    def leased(self) -> int:
        """How many connections are leased."""
        return len(self.records) - len(self.idle) - self.connecting

    @property
    def has_unserved_waiters(self) -> bool:
        """Whether a caller waits for whom no task is under way."""
        return bool(self.waiters) and len(self.waiters) > self.connecting - len(self.stalled)

    # ---- leases and the queue --------------------------------------------------------------------

    def lease(self, record: PooledConnection[C], lease: Lease[C], now: float) -> None:
        """Make `lease` the owner of `record`, which ends the lease that had it before."""
        record.since = now
        record.thread = lease._thread
        record.thread_bound = lease._thread_bound
        record.note = lease._note
        record.stack = lease._stack
        lease._owned = record
        record.owner = lease._reference
        record.state = LEASED

    def enqueue(self, waiter: Waiter[C], *, first: bool = False) -> None:
        """Put a caller into the queue, and start what is needed to serve it."""
        self.used = True
        self.waiters.join(waiter, first=first)
        self.counters.waited += 1
        self.counters.peak_waiting = max(self.counters.peak_waiting, len(self.waiters))
        self.fill()

    def withdraw(self, waiter: Waiter[C]) -> None:
        """Take a caller out of the queue, if it is still there."""
        if waiter in self.waiters:
            del self.waiters[waiter]
            self.counters.waits.add(max(self.now() - waiter.since, 0.0))

    def resolve(self, waiter: Waiter[C], now: float, error: BaseException | None = None) -> None:
        """Take a caller out of the queue that is served, or raises `error`."""
        self.waiters.resolve(waiter, error)
        self.counters.waits.add(max(now - waiter.since, 0.0))

    def queue_is_full(self) -> bool:
        """Tell whether `max_waiting` turns the next caller away.

        Callers for which the pool has room do not count: they only wait for the server.
        """
        limit = self.config.max_waiting
        return (
            limit is not None and len(self.waiters) - max(self.max_size - self.leased, 0) >= limit
        )

    # ---- what becomes of a connection ------------------------------------------------------------

    def return_(
        self, record: PooledConnection[C], reason: DiscardReason | None, now: float
    ) -> None:
        """End the lease of a connection: discard it if there is a `reason`, else keep it."""
        self.counters.holds.add(now - record.since)
        record.ping_due_at = now + self.ping_after
        self.keep_or_discard(record, reason, now)

    def keep_or_discard(
        self, record: PooledConnection[C], reason: DiscardReason | None, now: float
    ) -> None:
        """Hand a free connection to the first in the queue, keep it idle, or discard it."""
        if reason is None and (
            now >= record.expires_at
            or record.uses >= self.max_uses
            or record.generation != self.generation
            or len(self.records) > self.max_size
            or now >= self.next_probe
        ):
            reason = housekeeping.retirement_reason(self, record, now)
            if reason is None and now >= self.next_probe:
                self.start_probe(record, now)
                return
        if reason is not None:
            if reason is DiscardReason.BROKEN:
                self._distrust_idle(record)
            self.discard(record, reason)
            self.fill()
        elif self.waiters and not self.suspended:
            waiter = self.waiters.head()
            waiter.tested = record.state is State.CONNECTING
            self.lease(record, waiter.lease, now)
            self.resolve(waiter, now)
        else:
            record.since = now
            record.thread = None
            record.owner = None
            record.state = IDLE
            self.idle.append(record)

    def _distrust_idle(self, dead: PooledConnection[C]) -> None:
        """Have idle connections tested before they are used, since one was found dead.

        Those that have proved alive since then are left alone.
        """
        found = dead.since if dead.state is State.CONNECTING else INFINITE
        for record in self.idle:
            if record.since < found:
                record.ping_due_at = LONG_AGO
                self.has_distrusted = True

    def _test_distrusted(self) -> None:
        """Test distrusted connections, a few at a time, beginning with those that are used last."""
        distrusted = [record for record in self.idle if record.ping_due_at == LONG_AGO]
        self.has_distrusted = bool(distrusted)
        for record in distrusted[: max(MAX_CONCURRENT_TESTS - (self.connecting - self.opening), 0)]:
            self.start_task(TaskKind.PING, record)
            self.idle.remove(record)

    def discard(self, record: PooledConnection[C], reason: DiscardReason) -> None:
        """Stop counting a connection and have it closed."""
        number = next(self.numbers)
        self.pending.append(Task(TaskKind.CLOSE, record, number, reason))
        record.owner = number
        self.closing.add(record)
        record.state = State.CLOSED
        self.records.discard(record)
        self.counters.discards[reason] += 1
        self.counters.retired_uses += record.uses

    def connection_closed(self, record: PooledConnection[C], reason: DiscardReason | None) -> bool:
        """Note that a worker has closed a discarded connection.

        Its room in a budget is free again, if it was not given up for others. Without any other
        connection the pool could not look for room, and would wait until its pause is over.

        Returns:
            Whether tasks were started for that room.
        """
        self.closing.discard(record)
        has_room = reason is not DiscardReason.BUDGET and self.backoff.room_was_seen()
        if has_room:
            self.fill()
        self._notify_if_quiescent()
        return has_room

    def notify_when_quiescent(self, wakeup: threading.Lock) -> bool:
        """Release `wakeup` as soon as no worker has a connection; return False if none has now."""
        if self.closing or self.connecting:
            self.quiescence_waiters.append(wakeup)
            return True
        return False

    def forget_quiescence_waiter(self, wakeup: threading.Lock) -> None:
        """Do not release `wakeup` any more: its thread has stopped waiting."""
        if wakeup in self.quiescence_waiters:
            self.quiescence_waiters.remove(wakeup)

    def _notify_if_quiescent(self) -> None:
        if not (self.closing or self.connecting):
            for wakeup in self.quiescence_waiters:
                if wakeup.locked():  # not released yet, by a call that was interrupted
                    wakeup.release()
            self.quiescence_waiters.clear()

    def count_replay(self) -> None:
        """Count a read that is run again."""
        self.counters.replayed += 1

    def last_lease(self, wanted: str) -> C | None:
        """Return the connection of a lease after which no other one will get it; None if over."""
        for record in self.records:
            if record.state is LEASED and lease_id(record) == wanted:
                record.expires_at = LONG_AGO
                return record.connection
        return None

    # ---- management ------------------------------------------------------------------------------

    def close(self, error: Callable[[], BaseException]) -> None:
        """Serve no caller any more; `error` makes what waiting callers raise."""
        self.closed = True
        self.generation += 1
        now = self.now()
        for waiter in list(self.waiters):
            self.resolve(waiter, now, error())
        self._discard_all_idle(DiscardReason.CLOSED)

    def drain(self) -> None:
        """Replace all connections: idle ones and lost ones now, the others when they come back."""
        self.generation += 1
        self._discard_all_idle(DiscardReason.DRAINED)
        housekeeping.recover_lost_leases(self, self.now())
        self.fill()

    def _discard_all_idle(self, reason: DiscardReason) -> None:
        for record in self.idle:
            self.discard(record, reason)
        self.idle.clear()

    def resize(self, *, min_size: int | None, max_size: int | None) -> None:
        """Change the limits; None leaves one as it is."""
        self.set_config(
            dataclasses.replace(
                self.config,
                min_size=self.config.min_size if min_size is None else min_size,
                max_size=self.config.max_size if max_size is None else max_size,
            )
        )
        self._discard_surplus(DiscardReason.SURPLUS)
        self.fill()

    def _discard_surplus(self, reason: DiscardReason) -> None:
        while self.idle and len(self.records) > self.max_size:
            self.discard(self.idle[0], reason)
            self.idle.popleft()

    def suspend(self) -> None:
        """Serve no caller until `resume`."""
        self.suspended = True

    def resume(self) -> None:
        """Serve again, waiting callers first; idle connections are tested before they are used."""
        self.suspended = False
        for record in self.idle:
            record.ping_due_at = LONG_AGO
            self.has_distrusted = True
        self.fill()

    def clear_counters(self) -> None:
        """Count from zero again."""
        self.counters = self.counters.cleared(-sum(record.uses for record in self.records))

    # ---- filling the pool ------------------------------------------------------------------------

    def fill(self) -> None:
        """Start a task for each caller that waits without one, and open up to `min_size`."""
        if self.closed or self.suspended or not self.used:
            return
        now = self.now()
        while self.has_unserved_waiters:
            if self.idle:
                self.start_task(TaskKind.PING, self.idle[-1])
                self.idle.pop()
            elif self.may_open(now):
                self._open(now)
            else:
                break
        if self.has_distrusted:
            self._test_distrusted()
        while (
            len(self.records) < self.config.min_size
            and now >= self.backoff.next_refill
            and self.may_open(now)
        ):
            self._open(now)

    @property
    def max_opening(self) -> int:
        """How many connections may be opened at a time; with a budget, one may be turned away."""
        return 1 if self.config.budget is not None else self.backoff.max_concurrent_connects

    def may_open(self, now: float) -> bool:
        """Tell whether a connect may be attempted now."""
        return (
            len(self.records) < self.max_size
            and self.opening < self.max_opening + len(self.stalled)
            and now >= self.backoff.next_attempt
        )

    def should_fail_fast(self, now: float) -> bool:
        """Tell whether waiting is useless: down for `fail_fast`, and nothing could be freed."""
        return (
            self.backoff.down_for(now) >= self.fail_fast
            and len(self.records) == self.opening
            and not self.suspended
        )

    def connect_error(self) -> BaseException | None:
        """Return why the pool cannot grow, if it would and the server does not let it."""
        return self.backoff.error if len(self.records) < self.config.max_size else None

    # ---- tasks -----------------------------------------------------------------------------------

    def _open(self, now: float) -> None:
        """Reserve a slot and have a connection opened for it."""
        if not self.opening:
            self.backoff.begin(now)
        record: PooledConnection[C] = PooledConnection(self.generation, now)
        self.start_task(TaskKind.OPEN, record)
        self.opening += 1
        self.records.add(record)

    def start_task(self, kind: TaskKind, record: PooledConnection[C]) -> None:
        """Make a task the owner of a connection; the worker that has done it ends it."""
        number = next(self.numbers)
        self.pending.append(Task(kind, record, number))
        record.since = self.now()
        record.owner = number
        record.state = State.CONNECTING
        self.connecting += 1

    def claim_task(self, claimed: list[Task[C]]) -> None:
        """Move the next pending task, if there is one, to the list of a worker."""
        if self.pending:
            claimed.append(self.pending[0])
            self.pending.popleft()

    def abort_task(self, task: Task[C]) -> None:
        """Take back a task whose worker ended before the task did."""
        kind, record, number, _ = task
        if record.owner != number or task in self.pending:
            return
        if kind is TaskKind.CLOSE:
            if record in self.closing:
                self.pending.append(task)
        elif record in self.records:
            if kind is TaskKind.OPEN and not hasattr(record, "connection"):
                self.opening -= 1
                self._end_task(record)
                self.records.discard(record)
                record.state = State.CLOSED
            else:
                self.tested(record, DiscardReason.BROKEN)
        self.fill()
        self._notify_if_quiescent()

    def _end_task(self, record: PooledConnection[C]) -> None:
        self.connecting -= 1
        self.stalled.discard(record)

    def opened(self, record: PooledConnection[C], connection: C) -> None:
        """Add a connection that a worker has opened."""
        now = self.now()
        self.records.add(record)  # missing only if an interrupt came before it was added
        record.connection = connection
        if self.config.recycle is not None:
            record.expires_at = now + self.config.recycle * (1 - RECYCLE_SPREAD * self.random())
        record.ping_due_at = now + self.ping_after
        if self.next_probe == LONG_AGO:
            self.next_probe = now + PROBE_PAUSE
        self.opening -= 1
        self.counters.connected(now - record.since)
        self._end_task(record)
        self.backoff.succeeded()
        self.keep_or_discard(record, None, now)
        self.fill()
        self._notify_if_quiescent()

    def not_opened(
        self,
        record: PooledConnection[C],
        error: BaseException,
        error_text: str,
        server_down: Callable[[], BaseException] | None,
    ) -> None:
        """Decide what waiting callers get after a failed connect.

        If the server is down for the moment, they go on waiting: for the next attempt or for a
        release, until `fail_fast`. If another attempt is useless, the first in the queue gets the
        error, and the next one gets its own attempt (a password may just have been changed).

        Args:
            error_text: the error as text. Converted by the caller: `str()` may run any code.
            server_down: makes what waiting callers raise when the server counts as down; None if
                another attempt is useless.
        """
        now = self.now()
        self.records.discard(record)
        record.state = State.CLOSED
        self.opening -= 1
        self._end_task(record)
        self.counters.not_connected(error_text, now)
        if server_down is None:
            self.backoff.refused(error_text, now)
            if self.waiters:
                self.resolve(self.waiters.head(), now, error)
        else:
            self.backoff.failed(error, error_text, now)
            if self.should_fail_fast(now):
                for waiter in list(self.waiters):
                    self.counters.rejected += 1
                    self.resolve(waiter, now, server_down())
        self.fill()
        self._notify_if_quiescent()

    def tested(self, record: PooledConnection[C], reason: DiscardReason | None) -> None:
        """Take back a connection that was tested or cleaned; discard it if there is a `reason`."""
        now = self.now()
        self._end_task(record)
        if reason is None:
            record.ping_due_at = now + self.ping_after
        self.keep_or_discard(record, reason, now)
        self.fill()
        self._notify_if_quiescent()

    def turned_away(
        self, record: PooledConnection[C], error: BudgetExhausted, error_text: str
    ) -> None:
        """Note that the budget allowed no connection. Callers go on waiting, as in a full pool."""
        self.records.discard(record)
        record.state = State.CLOSED
        self.opening -= 1
        self._end_task(record)
        self.budget_use = error.use or self.budget_use
        self.backoff.turned_away(error, error_text, self.now())
        self._notify_if_quiescent()

    def start_probe(self, record: PooledConnection[C], now: float) -> None:
        """Have a worker look at the budget with a connection that is free."""
        record.idle_since = record.since if record.state is IDLE else now
        self.start_task(TaskKind.PROBE, record)
        self.next_probe = now + LONGEST_PROBE

    def probe_idle(self, now: float) -> None:
        """Look at the budget, if that is due, with the idle connection that is needed least."""
        if self.idle and now >= self.next_probe:
            self.start_probe(self.idle[0], now)
            self.idle.popleft()

    def probed(self, record: PooledConnection[C], probe: Probe | None) -> None:
        """Take a connection back, and give up what the probe says; None if it failed."""
        now = self.now()
        self._end_task(record)
        self.next_probe = now + PROBE_PAUSE
        reason: DiscardReason | None = DiscardReason.BROKEN
        if probe is not None:
            self.next_probe = now + probe.pause
            if probe.use is not None:
                self.budget_use = probe.use
                if probe.use.used < probe.use.limit:
                    self.backoff.room_was_seen()
            self._set_ceiling(INFINITE if probe.ceiling is None else probe.ceiling)
            self.ceiling_ends = self.next_probe + CEILING
            reason = DiscardReason.BUDGET if probe.give_up else None
        self.keep_or_discard(record, reason, now)
        if record.state is IDLE:  # a look is no use: it is as old as before, and again the first
            record.since = record.idle_since
            self.idle.rotate()
        self._discard_surplus(DiscardReason.BUDGET)
        self.fill()
        self._notify_if_quiescent()

    def _set_ceiling(self, ceiling: float) -> None:
        self.ceiling = ceiling
        self.set_config(self.config)

    def lift_ceiling(self, now: float) -> None:
        """Allow as many connections as the options do, if the last look was too long ago."""
        if now >= self.ceiling_ends and self.ceiling != INFINITE:
            self._set_ceiling(INFINITE)

    def requeue_for_test(self, record: PooledConnection[C], lease: Lease[C], since: float) -> bool:
        """Take a doubtful connection from `lease`, which waits again; False if the pool is closed.

        The connection is tested, or replaced if it is outdated. Its lease had reached the head of
        the queue, so it goes there again; `since` is when it began to wait.
        """
        reason = housekeeping.retirement_reason(self, record, self.now())
        if reason is None:
            self.start_task(TaskKind.PING, record)
        else:
            self.discard(record, reason)
        lease._owned = None
        if not self.closed:
            self.enqueue(Waiter(lease, since), first=True)
        return not self.closed

    # ---- housekeeping ----------------------------------------------------------------------------

    def note_use(self, now: float) -> None:
        """Note whether the pool has been used since the last call."""
        holds = self.counters.holds.count
        if holds != self.holds_seen or self.waiters or self.leased:
            self.holds_seen = holds
            self.unused_since = now

    def stop_refilling(self) -> None:
        """Stop keeping `min_size` connections, until the pool is used again."""
        self.used = False

    def discard_idle(self, outdated: Iterable[tuple[PooledConnection[C], DiscardReason]]) -> None:
        """Discard these idle connections."""
        for record, reason in outdated:
            self.discard(record, reason)
        self.idle = deque(record for record in self.idle if record.state is IDLE)

    def recover(self, lost: Iterable[PooledConnection[C]], *, next_search: float) -> None:
        """Take back the connections of lost leases, and have them cleaned."""
        self.next_search = next_search
        for record in lost:
            self.counters.recovered += 1
            self.start_task(TaskKind.RECOVER, record)

    def note_leak(self, record: PooledConnection[C]) -> None:
        """Note that the present lease of a connection has been reported as a leak."""
        record.leak_reported = record.owner

    def pin(self, record: PooledConnection[C], reason: str) -> None:
        """Note that the present lease of a connection lasts until the end of its request."""
        record.pin = record.owner, reason
        self.counters.pins[reason] = self.counters.pins.get(reason, 0) + 1

    def mark_stalled(self, records: Iterable[PooledConnection[C]]) -> None:
        """Stop relying on the tasks of these connections: `fill` starts replacements."""
        self.stalled.update(records)

    def restore_invariants(self) -> None:
        """Correct counts and collections after an interrupt, by who owns each connection."""
        self.set_config(self.config)
        for task in list(self.pending):
            record = task.record
            if task.number != record.owner:
                continue
            if task.kind is TaskKind.CLOSE:
                self.closing.add(record)
                record.state = State.CLOSED
                self.records.discard(record)
            else:
                record.state = State.CONNECTING
                self.records.add(record)
        for record in self.records:
            if record.owner is None:
                record.state = State.IDLE
            elif callable(record.owner):
                record.state = LEASED
        idle = dict.fromkeys(record for record in self.idle if record.state is State.IDLE)
        idle.update(dict.fromkeys(each for each in self.records if each.state is State.IDLE))
        self.idle = deque(idle)
        busy = [record for record in self.records if record.state is State.CONNECTING]
        self.connecting = len(busy)
        self.opening = sum(not hasattr(record, "connection") for record in busy)
        self.stalled.intersection_update(busy)
        now = self.now()
        for waiter in list(self.waiters):
            if waiter.resolved or waiter.lease._current:
                self.resolve(waiter, now, waiter.error)
        self.fill()
