"""The pool: who gets which connection, and when.

Everything is decided under one lock, and nothing that may take time happens under it. What a
decision entails (open a connection, close one, clean one) is written down as an errand while the
lock is held and handed to the workers after it; an errand that an interrupt kept from being handed
over is still written down, and whoever comes next does it.

The invariants, whenever the lock is free:

* size = connecting + idle + leased <= max_size (until a `resize` to less has taken effect).
* A connection has one owner: a worker (connecting, closed), the pool (idle), or a lease (leased).
* Nobody waits while something is idle, unless a worker is at work for each of those who wait.
"""

from __future__ import annotations

import dataclasses
import logging
import random
import threading
from collections import OrderedDict, deque
from functools import partial
from typing import TYPE_CHECKING, Generic

from pooling.core import forks, report
from pooling.core.clock import SYSTEM_CLOCK, Clock
from pooling.core.config import PoolConfig
from pooling.core.connection import DiscardReason, Lease, PooledConnection, State
from pooling.core.driver import C, Driver
from pooling.core.errors import (
    LeaseError,
    PoolClosed,
    PoolError,
    PoolTimeout,
    TooManyWaiters,
    as_driver_error,
)
from pooling.core.maintenance import MAINTENANCE, Maintenance
from pooling.core.stats import Holder, PoolStats, Totals
from pooling.core.waiter import Waiter
from pooling.core.workers import WORKERS, Workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from traceback import StackSummary

logger = logging.getLogger("pooling")

OPENERS = 2
"""How many connections a pool opens at a time. A spike of callers is mostly served by the first few
connections coming back, long before a connection for each of them could be open; more openers would
only press a server that is busy enough."""

RECYCLE_SPREAD = 0.2
"""The part of `recycle` over which the ages drawn are spread (HikariCP: 0.25, psycopg_pool: 0.05)."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
"""Seconds between attempts to connect to a server that is away: doubled each time, then jittered
down by up to a half. The longest is short enough that a returning server is noticed in a second."""

UPKEEP_PAUSE = 30.0
"""Seconds until `min_size` is tried again after a failure that trying again does not mend."""

SEARCH_PAUSE, LOST_PAUSE = 0.005, 0.1
"""Seconds between searches for holders that are gone: at the least when callers keep arriving at an
exhausted pool, and at the most while some are waiting."""

HOUSEKEEPING = 30.0
"""The longest time between two rounds of maintenance of a pool that has connections."""


class Pool(Generic[C]):
    """A thread-safe pool of connections of one kind to one place.

    Waiting callers are served first come, first served, by hand-off; idle connections are used last
    in, first out, so that those the load does not need grow cold and can be closed.

    Args:
        driver: opens, tests and closes the connections.
        config: the options.
        clock, workers, maintenance, draw: where time, threads and randomness come from; tests
            bring their own.
    """

    def __init__(
        self,
        driver: Driver[C],
        config: PoolConfig | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        workers: Workers = WORKERS,
        maintenance: Maintenance = MAINTENANCE,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._driver = driver
        self._config = config or PoolConfig()
        self._clock = clock
        self._now = clock.now
        self._workers = workers
        self._maintenance = maintenance
        self._draw = draw
        self._closed = False
        self._start_over()
        forks.register(self)

    def _start_over(self) -> None:
        """Begin with empty books."""
        self._lock = threading.Lock()
        self._records: set[PooledConnection[C]] = set()
        self._idle: deque[PooledConnection[C]] = deque()  # the right end is the warm one
        self._waiters: OrderedDict[Waiter[C], None] = OrderedDict()
        self._errands: deque[Callable[[], None]] = deque()
        self.orphans: deque[tuple[PooledConnection[C], int]] = deque()
        """Leases that were garbage-collected, with their turns; appended to without a lock."""
        self._connecting = 0
        self._opening = 0  # the part of `_connecting` that is new, not being tested
        self._generation = 0
        self._suspect_since = float("-inf")
        self._totals = Totals()
        self._failures = 0
        self._next_attempt = float("-inf")
        self._next_upkeep = float("-inf")
        self._next_search = float("-inf")
        self._last_error: BaseException | None = None

    # ---- what callers do -----------------------------------------------------------------------

    def acquire(self, timeout: float | None = None, *, thread_bound: bool = False) -> Lease[C]:
        """Take a connection; the caller owns the lease until it releases it.

        Blocks while no connection is free, at most `timeout` seconds: that covers queueing, opening
        and testing. `None` means the pool's own `timeout`.

        `with pool.acquire() as connection:` gives the raw connection and releases it at the end.

        Args:
            timeout: seconds; 0 takes only what is there.
            thread_bound: only the acquiring thread will use the lease, so its death ends it. Other
                leases come back by garbage collection when they are forgotten.

        Raises:
            PoolTimeout: nothing became free in time. Its cause is the last failure to connect.
            TooManyWaiters: `max_waiting` was reached.
            PoolClosed: the pool is closed.
            Exception: what the driver said when it could not connect and trying again is useless.

        The pool's own errors are at the same time the driver's `OperationalError`.
        """
        lease: Lease[C] = Lease(self)
        try:
            record = self._take_or_queue(lease, timeout, thread_bound)
            if record is None:
                record = self._wait(lease, timeout)
            elif not self._fit(record):
                self._test(record, lease)
                record = self._wait(lease, timeout)
            record.uses += 1
        except BaseException:
            self._abandon(lease)
            raise
        return lease

    def release(self, lease: Lease[C], *, ping: bool = False) -> None:
        """Give a connection back. Blocks for a round trip only if the session has to be cleaned.

        Args:
            ping: pay a round trip to learn whether the connection still works, after errors.

        Raises:
            LeaseError: the lease is over, or another pool's. Nothing has changed then.
        """
        record = self._owned(lease)
        reason: DiscardReason | None = DiscardReason.BROKEN
        try:
            self._driver.reset(record.connection)
            if ping:
                self._driver.ping(record.connection)
            reason = None
        except Exception as error:  # whatever it is, the connection cannot be trusted any more
            logger.debug("%r: a connection could not be reset: %s", self, error)
        finally:
            self._give_back(lease, reason, proven=True)

    def discard(self, lease: Lease[C]) -> None:
        """Give up a leased connection as broken. It is closed in the background.

        Raises:
            LeaseError: the lease is over, or another pool's.
        """
        self._owned(lease)
        self._give_back(lease, DiscardReason.BROKEN)

    # ---- what operators do ---------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What logs and errors call this pool."""
        return self._config.name

    @property
    def config(self) -> PoolConfig:
        """The options in force."""
        return self._config

    @property
    def driver(self) -> Driver[C]:
        """What opens this pool's connections."""
        return self._driver

    @property
    def closed(self) -> bool:
        """Whether the pool was closed for good."""
        return self._closed

    def drain(self) -> None:
        """Replace all connections and keep serving. Blocks while the idle ones are closed.

        Idle connections are closed now, leased ones when they come back, and those being opened
        as soon as they are open.
        """
        with self._lock:
            self._generation += 1
            drained = self._take_all_idle_locked(DiscardReason.DRAINED)
            self._provide_locked()
        for record in drained:
            self._close_connection(record, DiscardReason.DRAINED)
        self._run_errands()

    def resize(self, *, min_size: int | None = None, max_size: int | None = None) -> None:
        """Change the pool's limits while it runs. Does not block.

        A smaller pool closes idle connections at once and leased ones when they come back; a larger
        one opens connections for those who wait.

        Raises:
            PoolConfigError: the new limits make no sense. Nothing has changed then.
        """
        with self._lock:
            self._config = dataclasses.replace(
                self._config,
                min_size=self._config.min_size if min_size is None else min_size,
                max_size=self._config.max_size if max_size is None else max_size,
            )
            while self._idle and len(self._records) > self._config.max_size:
                self._discard_locked(self._idle.popleft(), DiscardReason.SURPLUS)
            self._provide_locked()
        self._run_errands()

    def close(self) -> None:
        """End the pool for good. Blocks while idle connections are closed; may be called again.

        Waiting callers get `PoolClosed`. Leased connections are closed when they come back.
        """
        with self._lock:
            self._closed = True
            waiters = list(self._waiters)
            self._waiters.clear()
            for waiter in waiters:
                waiter.settle(self._error(PoolClosed, f"pool {self.name!r} was closed"))
            closed = self._take_all_idle_locked(DiscardReason.CLOSED)
        for record in closed:
            self._close_connection(record, DiscardReason.CLOSED)
        self._run_errands()

    def stats(self) -> PoolStats:
        """Return the pool's numbers at this instant. Never waits for a connection."""
        with self._lock:
            return self._stats_locked()

    def holders(self) -> tuple[Holder, ...]:
        """Return who holds connections at this instant, longest first."""
        with self._lock:
            return self._holders_locked()

    def __repr__(self) -> str:
        # No lock: this is for logs and debuggers, which may come by at any moment.
        size, idle, connecting = len(self._records), len(self._idle), self._connecting
        return (
            f"<Pool {self.name!r} {size}/{self._config.max_size}: "
            f"{size - idle - connecting} leased, {idle} idle, {len(self._waiters)} waiting"
            + f", {connecting} connecting" * bool(connecting)
            + ", closed" * self._closed
            + ">"
        )

    # ---- acquiring -----------------------------------------------------------------------------

    def _take_or_queue(
        self, lease: Lease[C], timeout: float | None, thread_bound: bool
    ) -> PooledConnection[C] | None:
        """Put an idle connection into `lease` and return it, or else put `lease` into the queue."""
        thread = threading.current_thread()
        stack = None if self._config.leak_after is None else report.stack()
        now = self._now()
        with self._lock:
            if self._idle and not self._waiters:
                record = self._idle.pop()
                self._lease_locked(record, lease, now, thread, thread_bound, stack)
                return record
            if self._closed:
                raise self._error(PoolClosed, f"pool {self.name!r} is closed")
            self._search_for_lost_locked(now)
            self._limit_the_queue_locked()
            self._queue_locked(Waiter(lease, now, thread, thread_bound, stack))
        self._run_errands()
        return None

    def _lease_locked(
        self,
        record: PooledConnection[C],
        lease: Lease[C],
        now: float,
        thread: threading.Thread,
        thread_bound: bool,
        stack: StackSummary | None,
    ) -> None:
        """Make `lease` the owner of `record`."""
        record.state = State.LEASED
        record.since = now
        record.thread = thread
        record.thread_bound = thread_bound
        record.stack = stack
        record.turn += 1
        lease.begin(record)

    def _queue_locked(self, waiter: Waiter[C], *, first: bool = False) -> None:
        waiter.lease.waiter = waiter
        self._waiters[waiter] = None
        if first:
            self._waiters.move_to_end(waiter, last=False)
        self._totals.waited += 1
        self._provide_locked()
        if len(self._waiters) > self._connecting:
            self._maintenance.call(self, waiter.since + LOST_PAUSE)

    def _limit_the_queue_locked(self) -> None:
        limit = self._config.max_waiting
        if limit is None:
            return
        # Those for whom the pool has a place do not count: they only wait for the server.
        room = self._config.max_size - self._leased_locked()
        if len(self._waiters) - room >= limit:
            self._totals.rejected += 1
            raise self._error(TooManyWaiters, report.too_many_waiters(self._stats_locked(), limit))

    def _fit(self, record: PooledConnection[C]) -> bool:
        """Tell without a round trip whether a connection that was idle may be used as it is."""
        now = record.since
        if record.expires_at is not None and now >= record.expires_at:
            return False
        ping_after = self._config.ping_after
        if ping_after is not None and now - record.proven_at >= ping_after:
            return False
        if record.proven_at <= self._suspect_since:
            return False
        try:
            return self._driver.is_alive(record.connection)
        except Exception:
            logger.debug("%r: the liveness test failed", self, exc_info=True)
            return False

    def _test(self, record: PooledConnection[C], lease: Lease[C]) -> None:
        """Have a doubtful connection tested, or replaced if it is too old, while `lease` waits.

        The caller had come to its turn, so it becomes the first in the queue.
        """
        now = self._now()
        with self._lock:
            waiter = Waiter(
                lease, now, threading.current_thread(), record.thread_bound, record.stack
            )
            self._end_lease_locked(record, lease)
            reason = self._retirement_locked(record, now)
            if reason is None:
                self._work_on_locked(record, self._ping)
            else:
                self._discard_locked(record, reason)
            self._queue_locked(waiter, first=True)
        self._run_errands()

    def _wait(self, lease: Lease[C], timeout: float | None) -> PooledConnection[C]:
        """Block until the lease in the queue is served, and return what it is served with.

        A waiter may be served at the very moment its time is up: 1. its wait ends empty-handed;
        2. somebody takes it out of the queue and settles it; 3. we get the lock, find it settled,
        and use what came. From 2 on the lease owns the connection, so it cannot get lost.
        """
        waiter = lease.waiter
        assert waiter is not None
        if timeout is None:
            timeout = self._config.timeout
        left = None if timeout is None else waiter.since + timeout - self._now()
        self._clock.wait(waiter.bell, left)
        if not waiter.settled:
            with self._lock:
                if not waiter.settled:
                    waiter.error = self._timeout_locked(waiter, timeout)
                    self._withdraw_locked(waiter)
                    self._totals.timeouts += 1
        lease.waiter = None
        error, waiter.error = waiter.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback holds this frame: without this, a cycle
        return lease.record

    def _timeout_locked(self, waiter: Waiter[C], timeout: float | None) -> PoolError:
        error = self._error(
            PoolTimeout,
            report.timeout(
                self._stats_locked(),
                timeout,
                self._holders_locked(),
                own=sum(record.thread is waiter.thread for record in self._records),
                last_error=self._last_error,
            ),
        )
        error.__cause__ = self._last_error
        return error

    def _withdraw_locked(self, waiter: Waiter[C]) -> None:
        if self._waiters.pop(waiter, self) is None:
            self._totals.wait_seconds += self._now() - waiter.since

    def _abandon(self, lease: Lease[C]) -> None:
        """Clean up after an acquire that failed or was interrupted."""
        waiter, lease.waiter = lease.waiter, None
        if waiter is not None:
            with self._lock:
                self._withdraw_locked(waiter)
        if lease.current:
            self._give_back(lease, None)

    # ---- giving back ---------------------------------------------------------------------------

    def _owned(self, lease: Lease[C]) -> PooledConnection[C]:
        if lease.pool is not self:
            raise LeaseError(
                f"pool {self.name!r} cannot take back a connection of pool {lease.pool.name!r}"
            )
        return lease.record

    def _give_back(
        self, lease: Lease[C], reason: DiscardReason | None, *, proven: bool = False
    ) -> None:
        """Take the connection out of `lease`, and keep it unless there is a `reason` not to."""
        now = self._now()
        with self._lock:
            record = self._owned(lease)
            self._end_lease_locked(record, lease)
            if proven:
                record.proven_at = now
            self._keep_or_discard_locked(record, reason, now)
        if self._errands:
            self._run_errands()

    def _end_lease_locked(self, record: PooledConnection[C], lease: Lease[C]) -> None:
        lease.end()
        record.turn += 1
        record.thread = None
        record.stack = None
        record.leak_reported = False

    def _keep_or_discard_locked(
        self, record: PooledConnection[C], reason: DiscardReason | None, now: float
    ) -> None:
        """Decide on a connection that nobody uses at the moment."""
        reason = reason or self._retirement_locked(record, now)
        if reason is None:
            self._offer_locked(record, now)
        else:
            self._discard_locked(record, reason)
            self._provide_locked()

    def _retirement_locked(self, record: PooledConnection[C], now: float) -> DiscardReason | None:
        """Return why a connection that works must not be used any more, if so."""
        if self._closed:
            return DiscardReason.CLOSED
        if record.generation != self._generation:
            return DiscardReason.DRAINED
        if record.expires_at is not None and now >= record.expires_at:
            return DiscardReason.RECYCLED
        if len(self._records) > self._config.max_size:
            return DiscardReason.SURPLUS
        max_uses = self._config.max_uses
        if max_uses is not None and record.uses >= max_uses:
            return DiscardReason.USED_UP
        return None

    def _offer_locked(self, record: PooledConnection[C], now: float) -> None:
        """Hand a good connection to the first in the queue, or put it to the idle ones."""
        if not self._waiters:
            record.state = State.IDLE
            record.since = now
            self._idle.append(record)
            return
        waiter, _ = self._waiters.popitem(last=False)
        self._totals.wait_seconds += now - waiter.since
        self._lease_locked(
            record, waiter.lease, now, waiter.thread, waiter.thread_bound, waiter.stack
        )
        waiter.settle()

    def _discard_locked(self, record: PooledConnection[C], reason: DiscardReason) -> None:
        """Take a connection out of the books and have it closed."""
        self._write_off_locked(record, reason)
        self._errands.append(partial(self._close_connection, record, reason))

    def _write_off_locked(self, record: PooledConnection[C], reason: DiscardReason) -> None:
        self._records.discard(record)
        record.state = State.CLOSED
        self._totals.discards[reason] += 1
        self._totals.retired_uses += record.uses

    def _take_all_idle_locked(self, reason: DiscardReason) -> list[PooledConnection[C]]:
        taken = list(self._idle)
        self._idle.clear()
        for record in taken:
            self._write_off_locked(record, reason)
        return taken

    # ---- providing connections -----------------------------------------------------------------

    def _provide_locked(self) -> None:
        """See to it that somebody is at work for everyone who waits, and for `min_size`."""
        if self._closed:
            return
        now = self._now()
        while len(self._waiters) > self._connecting:
            if self._idle:
                self._work_on_locked(self._idle.pop(), self._ping)
            elif self._may_open_locked(now):
                self._open_locked(now)
            else:
                break
        while len(self._records) < self._config.min_size and self._may_open_locked(now):
            if now < self._next_upkeep:
                break
            self._open_locked(now)

    def _may_open_locked(self, now: float) -> bool:
        return (
            len(self._records) < self._config.max_size
            and self._opening < OPENERS
            and now >= self._next_attempt
        )

    def _open_locked(self, now: float) -> None:
        """Reserve a place and have a connection opened for it."""
        record: PooledConnection[C] = PooledConnection(self._generation, now)
        self._records.add(record)
        self._opening += 1
        self._work_on_locked(record, self._connect)
        self._maintenance.call(self, now + HOUSEKEEPING)

    def _work_on_locked(
        self, record: PooledConnection[C], work: Callable[[PooledConnection[C]], None]
    ) -> None:
        """Give a connection into the hands of a worker."""
        record.state = State.CONNECTING
        record.since = self._now()
        self._connecting += 1
        self._errands.append(partial(work, record))

    def _run_errands(self) -> None:
        """Hand over to the workers what was decided under the lock."""
        while self._errands:
            try:
                errand = self._errands.popleft()
            except IndexError:  # another thread was quicker
                return
            self._workers.run(errand)

    # ---- what the workers do -------------------------------------------------------------------

    def _connect(self, record: PooledConnection[C]) -> None:
        try:
            connection = self._driver.connect()
        except BaseException as error:
            self._connect_failed(record, error)
            if not isinstance(error, Exception):
                raise
            return
        now = self._now()
        with self._lock:
            record.connection = connection
            record.opened_at = record.proven_at = now
            if self._config.recycle is not None:
                age = self._config.recycle * (1 - RECYCLE_SPREAD * self._draw())
                record.expires_at = now + age
            self._opening -= 1
            self._connecting -= 1
            self._totals.connects += 1
            self._failures = 0
            self._next_attempt = self._next_upkeep = float("-inf")
            self._last_error = None
            self._keep_or_discard_locked(record, None, now)
            self._provide_locked()
            self._maintenance.call(self, self._due_locked(now))
        logger.info("%r: opened a connection", self)
        self._run_errands()

    def _connect_failed(self, record: PooledConnection[C], error: BaseException) -> None:
        """Decide what becomes of those who wait for a connection that could not be opened.

        When the server is away for the moment, they go on waiting: for the next attempt, or for
        somebody's release. When trying again is useless, the first in the queue gets the error, and
        an attempt is made for the next one, who may have more luck (a password that just changed).
        """
        transient = self._driver.is_transient(error)
        with self._lock:
            now = self._now()
            self._records.discard(record)
            record.state = State.CLOSED
            self._opening -= 1
            self._connecting -= 1
            self._totals.connect_errors += 1
            self._failures += 1
            self._last_error = error
            if transient:
                pause = min(FIRST_PAUSE * 2 ** min(self._failures - 1, 16), LONGEST_PAUSE)
                self._next_attempt = now + pause * (1 - self._draw() / 2)
                self._maintenance.call(self, self._next_attempt)
            else:
                self._next_upkeep = now + UPKEEP_PAUSE
                if self._waiters:
                    waiter, _ = self._waiters.popitem(last=False)
                    self._totals.wait_seconds += now - waiter.since
                    waiter.settle(error)
            self._provide_locked()
        logger.warning("%r: could not connect: %s", self, error)
        self._run_errands()

    def _ping(self, record: PooledConnection[C]) -> None:
        self._examine(record, self._driver.ping, DiscardReason.BROKEN)

    def _recover(self, record: PooledConnection[C]) -> None:
        logger.warning(
            "%r: thread %r went away without giving back its connection",
            self,
            record.thread.name if record.thread else "(unknown)",
        )
        self._examine(record, self._driver.reset, DiscardReason.LEAKED)

    def _examine(
        self,
        record: PooledConnection[C],
        proof: Callable[[C], None],
        reason: DiscardReason,
    ) -> None:
        """Put a connection back into service if `proof` goes well; else throw it away."""
        try:
            proof(record.connection)
        except BaseException as error:
            with self._lock:
                self._connecting -= 1
                # Where one connection died, others may have: from now on each has to be pinged.
                self._suspect_since = self._now()
                self._discard_locked(record, reason)
                self._provide_locked()
            logger.info("%r: a connection turned out to be dead: %s", self, error)
            self._run_errands()
            if not isinstance(error, Exception):
                raise
            return
        now = self._now()
        with self._lock:
            self._connecting -= 1
            record.thread = None
            record.proven_at = now
            self._keep_or_discard_locked(record, None, now)
            self._provide_locked()
        self._run_errands()

    def _close_connection(self, record: PooledConnection[C], reason: DiscardReason) -> None:
        logger.info("%r: closing a connection (%s)", self, reason)
        try:
            self._driver.close(record.connection)
        except Exception:
            logger.debug("%r: closing a connection failed", self, exc_info=True)

    # ---- maintenance ---------------------------------------------------------------------------

    def maintain(self) -> float | None:
        """Do what is due: close, open, recover, report. The maintenance thread calls this.

        Returns:
            When to come again at the latest, by the pool's clock; `None` if never.
        """
        leaks: list[str] = []
        with self._lock:
            now = self._now()
            self._retire_idle_locked(now)
            self._search_for_lost_locked(now)
            self._provide_locked()
            leaks = self._leaks_locked(now)
            due = self._due_locked(now) if self._records or self._waiters else None
        for leak in leaks:
            logger.warning("%s", leak)
        self._run_errands()
        return due

    def _retire_idle_locked(self, now: float) -> None:
        """Throw away idle connections that are too old, and those that nobody needed for long."""
        max_idle = self._config.max_idle
        for record in list(self._idle):  # the coldest first
            reason = self._retirement_locked(record, now)
            if (
                reason is None
                and max_idle is not None
                and now - record.since >= max_idle
                and len(self._records) > self._config.min_size
            ):
                reason = DiscardReason.IDLE
            if reason is not None:
                self._idle.remove(record)
                self._discard_locked(record, reason)

    def _search_for_lost_locked(self, now: float) -> None:
        """Take back the leases that were garbage-collected, and those of threads that ended."""
        while self.orphans:
            record, turn = self.orphans.popleft()
            if record.turn == turn and record.state is State.LEASED:
                self._recover_locked(record)
        if now >= self._next_search:
            self._next_search = now + SEARCH_PAUSE
            for record in self._records:
                if (
                    record.state is State.LEASED
                    and record.thread_bound
                    and record.thread is not None
                    and not record.thread.is_alive()
                ):
                    self._recover_locked(record)

    def _recover_locked(self, record: PooledConnection[C]) -> None:
        record.turn += 1  # from here on the old lease is over, should anybody still have it
        self._totals.recovered += 1
        self._work_on_locked(record, self._recover)

    def _leaks_locked(self, now: float) -> list[str]:
        leak_after = self._config.leak_after
        found = []
        if leak_after is not None:
            for record in self._records:
                if (
                    record.state is State.LEASED
                    and not record.leak_reported
                    and now - record.since >= leak_after
                ):
                    record.leak_reported = True
                    found.append(report.leak(repr(self), self._holder_locked(record, now)))
        return found

    def _due_locked(self, now: float) -> float:
        """Return when this pool next needs maintenance."""
        config = self._config
        due = now + HOUSEKEEPING
        if self._waiters:
            due = min(due, max(self._next_attempt, now + LOST_PAUSE))
        elif len(self._records) < config.min_size:
            due = min(due, max(self._next_attempt, self._next_upkeep, now + FIRST_PAUSE))
        for pause in (config.max_idle, config.leak_after):
            if pause is not None:
                due = min(due, now + pause)
        for record in self._records:
            if record.expires_at is not None and record.state is State.IDLE:
                due = min(due, record.expires_at)
            if config.leak_after is not None and record.state is State.LEASED:
                if not record.leak_reported:
                    due = min(due, record.since + config.leak_after)
            elif config.max_idle is not None and record.state is State.IDLE:
                if len(self._records) > config.min_size:
                    due = min(due, record.since + config.max_idle)
        return due

    # ---- forks ---------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Leave all connections to the parent and begin with empty books.

        They are forgotten without being closed, and kept from ever being collected: either would
        say goodbye on the parent's behalf. Leases that the fork copied are over in the child.
        """
        for record in self._records:
            record.turn += 1
            forks.immortalise(record)
        self._start_over()

    # ---- numbers and errors --------------------------------------------------------------------

    def _leased_locked(self) -> int:
        return len(self._records) - len(self._idle) - self._connecting

    def _stats_locked(self) -> PoolStats:
        totals = self._totals
        return PoolStats(
            name=self._config.name,
            min_size=self._config.min_size,
            max_size=self._config.max_size,
            size=len(self._records),
            idle=len(self._idle),
            leased=self._leased_locked(),
            connecting=self._connecting,
            waiting=len(self._waiters),
            closed=self._closed,
            acquired=totals.retired_uses + sum(record.uses for record in self._records),
            waited=totals.waited,
            wait_seconds=totals.wait_seconds,
            timeouts=totals.timeouts,
            rejected=totals.rejected,
            connects=totals.connects,
            connect_errors=totals.connect_errors,
            recovered=totals.recovered,
            discards=totals.discards_now(),
        )

    def _holders_locked(self) -> tuple[Holder, ...]:
        now = self._now()
        leased = [record for record in self._records if record.state is State.LEASED]
        leased.sort(key=lambda record: record.since)
        return tuple(self._holder_locked(record, now) for record in leased)

    def _holder_locked(self, record: PooledConnection[C], now: float) -> Holder:
        return Holder(
            thread=record.thread.name if record.thread else "(unknown)",
            seconds=now - record.since,
            stack=None if record.stack is None else "".join(record.stack.format()),
        )

    def _error(self, error: type[PoolError], message: str) -> PoolError:
        """Make an error that user code may also catch as the driver's `OperationalError`."""
        return as_driver_error(error, self._driver.operational_error)(message)
