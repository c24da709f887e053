"""The pool's state: who owns which connection, who waits, and what has to be done about it.

Everything here is a decision and none of it takes time. Every method is called with the pool's lock
held. What a decision entails (open a connection, test one, clean one, close one) is written down as
an task, which the pool claimed to its workers when it has let go of the lock; an task that an
interrupt kept from being handed over is still written down, and whoever comes next does it.

The invariants between any two calls:

* size = connecting + idle + leased <= max_size (after a `resize` to less, as soon as leases end).
* A connection has one owner: a worker (connecting, closed), the state (idle), or a lease (leased).
* Nobody waits while something is idle, unless a worker is at work for each of those who wait.

An interrupt (Ctrl-C) can strike between any two lines, also here. So the lines stand in an order in
which each connection has an owner after every one of them: who gets it is written down before who
had it is crossed out, and the change of a record's `owner` is the moment at which it passes from
one to the other. `housekeeping.mend` then puts right what such a moment left double or uncounted.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import sys
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Generic, NamedTuple
from weakref import ref

from pooling.core.backoff import NEVER, ConnectBackoff
from pooling.core.connection import LEASED, DiscardReason, Lease, PooledConnection, State
from pooling.core.driver import C
from pooling.core.stats import Totals
from pooling.core.waiter import Waiter

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from pooling.core.config import PoolConfig

MOST_TESTS = 2
"""How many distrusted are tested at a time, beside those for which somebody waits."""

RECYCLE_SPREAD = 0.2
"""The part of `recycle` over which ages are spread (HikariCP: 0.25, psycopg_pool: 0.05)."""

IDLE = State.IDLE

INFINITE = float("inf")


class TaskKind(enum.Enum):
    """What a worker can do with a connection."""

    OPEN = enum.auto()
    PING = enum.auto()
    RECOVER = enum.auto()
    """Clean what a holder that is gone has left behind."""
    CLOSE = enum.auto()


class Task(NamedTuple, Generic[C]):
    """Something to be done without the lock."""

    task: TaskKind
    record: PooledConnection[C]
    number: int
    """What names it as the record's owner; if another one does, the task never came to be."""
    reason: DiscardReason | None = None
    """Why the connection is closed, if that is the task."""


class PoolState(Generic[C]):
    """The state of a pool, and its rules."""

    def __init__(
        self, config: PoolConfig, now: Callable[[], float], random: Callable[[], float]
    ) -> None:
        self.set_config(config)
        self.now = now
        self.random = random
        """Returns a random number from 0 to 1."""
        self.closed = False
        self.suspended = False
        self.used = False
        """Whether anybody has asked for a connection yet; before that, none is opened."""
        self.records: set[PooledConnection[C]] = set()
        self.idle: deque[PooledConnection[C]] = deque()
        """The right end is the warm one: what came back last is used first."""
        self.waiters: OrderedDict[Waiter[C], None] = OrderedDict()
        self.pending: deque[Task[C]] = deque()
        self.connecting = 0
        self.opening = 0
        """The part of `connecting` that is new, not being tested or cleaned."""
        self.stalled: set[PooledConnection[C]] = set()
        """The part of `connecting` on which nobody should rely any more."""
        self.closing: set[PooledConnection[C]] = set()
        """Discarded connections that no worker has closed yet."""
        self.quiescence_waiters: list[threading.Lock] = []
        """To be released as soon as nothing is connecting and nothing closing."""
        self.numbers = itertools.count(1)
        """Numbers the owners of all connections. No number comes twice, so what an interrupt kept
        from becoming an owner never does so by chance later."""
        self.generation = 0
        self.totals = Totals()
        self.backoff = ConnectBackoff(random)
        """What is known of the server: whether to try, and whether to wait."""
        self.next_recovery = NEVER
        self.has_distrusted = False
        """Whether idle connections wait for a test because others were found dead."""

    def set_config(self, config: PoolConfig) -> None:
        """Take over options, those that every release asks for in the handiest form."""
        self.config = config
        self.max_size = config.max_size
        self.max_uses = sys.maxsize if config.max_uses is None else config.max_uses
        self.ping_after = INFINITE if config.ping_after is None else config.ping_after
        self.leak_after = config.leak_after
        self.fail_fast = INFINITE if config.fail_fast is None else config.fail_fast

    @property
    def leased(self) -> int:
        """How many connections are in somebody's claimed."""
        return len(self.records) - len(self.idle) - self.connecting

    @property
    def has_unserved_waiters(self) -> bool:
        """Whether somebody waits for whom no worker is at work."""
        return bool(self.waiters) and len(self.waiters) > self.connecting - len(self.stalled)

    # ---- leases --------------------------------------------------------------------------------

    def lease(
        self,
        record: PooledConnection[C],
        lease: Lease[C],
        now: float,
        thread: threading.Thread,
        thread_bound: bool,
        note: str | None,
    ) -> None:
        """Make `lease` the owner of `record`, whose former lease, if any, is over with that."""
        record.since = now
        record.thread = thread
        record.thread_bound = thread_bound
        record.note = note
        lease.reference = ref(lease)
        lease.owned = record
        record.owner = lease.reference
        record.state = LEASED

    def queue(self, waiter: Waiter[C], *, first: bool = False) -> None:
        """Put a waiter into the queue, and see to it that somebody is at work for it."""
        self.used = True
        waiter.lease.waiter = waiter
        self.waiters[waiter] = None
        if first:
            self.waiters.move_to_end(waiter, last=False)
        self.totals.waited += 1
        self.fill()

    def withdraw(self, waiter: Waiter[C]) -> None:
        """Take a waiter out of the queue, if it is still there."""
        if waiter in self.waiters:
            del self.waiters[waiter]
            self.totals.waits.count(max(self.now() - waiter.since, 0.0))

    def queue_is_full(self) -> bool:
        """Tell whether `max_waiting` turns the next caller away.

        Those for whom the pool has a place do not count: they only wait for the server.
        """
        limit = self.config.max_waiting
        return (
            limit is not None and len(self.waiters) - max(self.max_size - self.leased, 0) >= limit
        )

    # ---- what becomes of a connection ----------------------------------------------------------

    def return_(
        self, record: PooledConnection[C], reason: DiscardReason | None, now: float
    ) -> None:
        """Decide on a connection whose lease ends; unless there is a `reason`, it works."""
        self.totals.holds.count(now - record.since)
        record.ping_due_at = now + self.ping_after
        self.keep_or_discard(record, reason, now)

    def keep_or_discard(
        self, record: PooledConnection[C], reason: DiscardReason | None, now: float
    ) -> None:
        """Decide on a connection that nobody needs any more.

        Unless there is a reason against it, it goes to the first in the queue, or becomes idle.
        """
        if reason is None and (
            now >= record.expires_at
            or record.uses >= self.max_uses
            or record.generation != self.generation
            or len(self.records) > self.max_size
        ):
            reason = self.retirement(record, now)
        if reason is not None:
            if reason is DiscardReason.BROKEN:
                self._distrust_idle(record)
            self.discard(record, reason)
            self.fill()
        elif self.waiters and not self.suspended:
            waiter = next(iter(self.waiters))
            waiter.tested = record.state is State.CONNECTING
            self.lease(record, waiter.lease, now, waiter.thread, waiter.thread_bound, waiter.note)
            record.stack = waiter.stack
            record.leak_reported = False
            self.resolve(waiter, now)
        else:
            record.since = now
            record.thread = None
            record.owner = None
            record.state = IDLE
            self.idle.append(record)

    def _distrust_idle(self, dead: PooledConnection[C]) -> None:
        """Have idle connections tested, before anybody gets them: where one died, others may have.

        Those that have shown since then that they live are left alone.
        """
        found = dead.since if dead.state is State.CONNECTING else INFINITE
        for record in self.idle:
            if record.since < found:
                record.ping_due_at = NEVER
                self.has_distrusted = True

    def _test_distrusted(self) -> None:
        """Have distrusted tested, a few at a time, beginning with those that are used last."""
        distrusted = [record for record in self.idle if record.ping_due_at == NEVER]
        self.has_distrusted = bool(distrusted)
        for record in distrusted[: max(MOST_TESTS - (self.connecting - self.opening), 0)]:
            self.start_task(TaskKind.PING, record)
            self.idle.remove(record)

    def resolve(self, waiter: Waiter[C], now: float, error: BaseException | None = None) -> None:
        """Take a waiter out of the queue that is served, or will raise `error`."""
        waiter.resolve(error)
        del self.waiters[waiter]
        self.totals.waits.count(max(now - waiter.since, 0.0))

    def retirement(self, record: PooledConnection[C], now: float) -> DiscardReason | None:
        """Return why a connection that works must not be used any more, if so."""
        if self.closed:
            return DiscardReason.CLOSED
        if record.generation != self.generation:
            return DiscardReason.DRAINED
        if now >= record.expires_at:
            return DiscardReason.RECYCLED
        if len(self.records) > self.max_size:
            return DiscardReason.SURPLUS
        if record.uses >= self.max_uses:
            return DiscardReason.USED_UP
        return None

    def discard(self, record: PooledConnection[C], reason: DiscardReason) -> None:
        """Take a connection out of the state and have it closed."""
        number = next(self.numbers)
        self.pending.append(Task(TaskKind.CLOSE, record, number, reason))
        record.owner = number
        self.closing.add(record)
        record.state = State.CLOSED
        self.records.discard(record)
        self.totals.discards[reason] += 1
        self.totals.retired_uses += record.uses

    def connection_closed(self, record: PooledConnection[C]) -> None:
        """Note that a worker has closed a connection that was discarded."""
        self.closing.discard(record)
        self._notify_if_quiescent()

    def notify_when_quiescent(self, wakeup: threading.Lock) -> bool:
        """Have `wakeup` rung when no worker has a connection any more; False if none has one now."""
        if self.closing or self.connecting:
            self.quiescence_waiters.append(wakeup)
            return True
        return False

    def _notify_if_quiescent(self) -> None:
        if not (self.closing or self.connecting):
            for wakeup in self.quiescence_waiters:
                if wakeup.locked():  # an interrupt may have come before they were forgotten
                    wakeup.release()
            self.quiescence_waiters.clear()

    def discard_idle(self, reason: DiscardReason) -> None:
        """Take all idle connections out of the state and have them closed."""
        for record in self.idle:
            self.discard(record, reason)
        self.idle.clear()

    def close(self, error: Callable[[], BaseException]) -> None:
        """Serve nobody any more; `error` makes what those who wait shall raise."""
        self.closed = True
        self.generation += 1
        now = self.now()
        for waiter in list(self.waiters):
            self.resolve(waiter, now, error())
        self.discard_idle(DiscardReason.CLOSED)

    def drain(self) -> None:
        """Have all connections replaced: the idle ones now, the others when they come back."""
        self.generation += 1
        self.discard_idle(DiscardReason.DRAINED)
        self.fill()

    def resize(self, *, min_size: int | None, max_size: int | None) -> None:
        """Go on with other limits; None leaves one as it is."""
        self.set_config(
            dataclasses.replace(
                self.config,
                min_size=self.config.min_size if min_size is None else min_size,
                max_size=self.max_size if max_size is None else max_size,
            )
        )
        while self.idle and len(self.records) > self.max_size:
            self.discard(self.idle[0], DiscardReason.SURPLUS)
            self.idle.popleft()
        self.fill()

    def suspend(self) -> None:
        """Serve nobody until `resume`."""
        self.suspended = True

    def resume(self) -> None:
        """Go on serving, beginning with those who wait; idle connections are tested for them."""
        self.suspended = False
        self.fill()

    def clear_totals(self) -> None:
        """Count from zero again."""
        self.totals = Totals(retired_uses=-sum(record.uses for record in self.records))

    # ---- providing connections -----------------------------------------------------------------

    def fill(self) -> None:
        """See to it that somebody is at work for everyone who waits, and for `min_size`."""
        if self.closed or not self.used:
            return
        now = self.now()
        while self.has_unserved_waiters and not self.suspended:
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

    def may_open(self, now: float) -> bool:
        """Tell whether an attempt to connect may be made now."""
        return (
            len(self.records) < self.max_size
            and self.opening < self.backoff.max_concurrent_connects + len(self.stalled)
            and now >= self.backoff.next_attempt
        )

    def should_fail_fast(self, now: float) -> bool:
        """Tell whether waiting is in vain: `fail_fast` is over, and nobody has a connection."""
        return self.backoff.down_for(now) >= self.fail_fast and len(self.records) == self.opening

    def _open(self, now: float) -> None:
        """Reserve a place and have a connection opened for it."""
        if not self.opening:
            self.backoff.begin(now)
        record: PooledConnection[C] = PooledConnection(self.generation, now)
        self.start_task(TaskKind.OPEN, record)
        self.opening += 1
        self.records.add(record)

    def start_task(self, task: TaskKind, record: PooledConnection[C]) -> None:
        """Give a connection into the claimed of a worker, who reports back when it is done."""
        number = next(self.numbers)
        self.pending.append(Task(task, record, number))
        record.since = self.now()
        record.owner = number
        record.state = State.CONNECTING
        self.connecting += 1

    def claim_task(self, claimed: list[Task[C]]) -> None:
        """Move the next task, if there is one, into the claimed of a worker."""
        if self.pending:
            claimed.append(self.pending[0])
            self.pending.popleft()

    def abort_task(self, task: Task[C]) -> None:
        """Take back an task from a worker that came to its end before the task did."""
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
        """Enter a connection that a worker has opened."""
        now = self.now()
        self.records.add(record)  # it is there, unless an interrupt struck before it was
        record.connection = connection
        if self.config.recycle is not None:
            record.expires_at = now + self.config.recycle * (1 - RECYCLE_SPREAD * self.random())
        record.ping_due_at = now + self.ping_after
        self.opening -= 1
        self._end_task(record)
        self.totals.connects += 1
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
        """Decide what becomes of those who wait for a connection that could not be opened.

        When the server is away for the moment, they go on waiting: for the next attempt, or for
        somebody's release, until the server counts as down. When trying again is useless, the first
        in the queue gets the error, and an attempt is made for the next one, who may have more luck
        (a password that just changed).

        Args:
            words: what the error says. It is not asked here: that would run somebody else's code.
            server_down: makes what those who wait shall raise when the server counts as down; None
                if trying again is useless.
        """
        now = self.now()
        self.records.discard(record)
        record.state = State.CLOSED
        self.opening -= 1
        self._end_task(record)
        self.totals.connect_errors += 1
        self.totals.last_error = error_text
        if server_down is None:
            self.backoff.refused(error_text, now)
            if self.waiters:
                self.resolve(next(iter(self.waiters)), now, error)
        else:
            self.backoff.failed(error, error_text, now)
            if self.should_fail_fast(now):
                for waiter in list(self.waiters):
                    self.totals.rejected += 1
                    self.resolve(waiter, now, server_down())
        self.fill()
        self._notify_if_quiescent()

    def tested(self, record: PooledConnection[C], reason: DiscardReason | None) -> None:
        """Take back a connection that a worker has tested or cleaned; `reason` is what it found."""
        now = self.now()
        self._end_task(record)
        record.thread = None
        if reason is None:
            record.ping_due_at = now + self.ping_after
        self.keep_or_discard(record, reason, now)
        self.fill()
        self._notify_if_quiescent()

    def requeue_for_test(
        self,
        record: PooledConnection[C],
        lease: Lease[C],
        thread: threading.Thread,
        since: float,
    ) -> bool:
        """Take a doubtful connection out of `lease`, which has to wait now; False if it cannot.

        The connection is tested, or replaced if it is too old. Its lease had come to its turn, so
        it becomes the first in the queue; it has waited `since` then.
        """
        now = self.now()
        waiter = Waiter(lease, since, thread, record.thread_bound, record.note, record.stack)
        reason = self.retirement(record, now)
        if reason is None:
            self.start_task(TaskKind.PING, record)
        else:
            self.discard(record, reason)
        lease.owned = None
        if not self.closed:
            self.queue(waiter, first=True)
        return not self.closed
