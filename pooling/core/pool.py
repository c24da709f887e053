"""The pool: everything that happens around its state.

This is the only file that takes the pool's lock. Under the lock the state decide; without it,
drivers work, callers wait, and pending are handed to the workers.
"""

from __future__ import annotations

import logging
import random
import threading
from functools import partial
from threading import current_thread
from typing import TYPE_CHECKING, Generic, TypeVar

from pooling.core import forks, housekeeping, messages, stats
from pooling.core.backoff import NEVER
from pooling.core.clock import SYSTEM_CLOCK, Clock
from pooling.core.config import PoolConfig
from pooling.core.connection import DiscardReason, Lease, PooledConnection
from pooling.core.driver import C, Driver
from pooling.core.errors import (
    LeaseError,
    PoolClosed,
    PoolError,
    PoolTimeout,
    ServerDown,
    TooManyWaiters,
    as_driver_error,
)
from pooling.core.listener import NULL_LISTENER, Listener
from pooling.core.scheduler import SCHEDULER, Scheduler
from pooling.core.state import PoolState
from pooling.core.tasks import TaskRunner
from pooling.core.waiter import Waiter
from pooling.core.workers import WORKERS, Workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from traceback import StackSummary

    from pooling.core.stats import Holder, PoolStats

logger = logging.getLogger("pooling")

BROKEN = DiscardReason.BROKEN

T = TypeVar("T")


def _abandoned() -> None:
    """Return what a reference to a lease that is gone returns."""


ABANDONED = _abandoned
"""Sentinel owner of an abandoned connection; housekeeping recovers it."""


class Pool(Generic[C]):
    """A thread-safe pool of connections of one kind to one place.

    Waiting callers are served first come, first served, by hand-off; idle connections are used last
    in, first out, so that those the load does not need grow cold and can be closed.

    Args:
        driver: opens, tests and closes the connections.
        config: the options.
        listener: is told of the rare events.
        clock, workers, maintenance, random: where time, threads and randomness come from; tests
            bring their own.
    """

    def __init__(
        self,
        driver: Driver[C],
        config: PoolConfig | None = None,
        *,
        listener: Listener = NULL_LISTENER,
        clock: Clock = SYSTEM_CLOCK,
        workers: Workers = WORKERS,
        scheduler: Scheduler = SCHEDULER,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.driver = driver
        """What opens this pool's connections."""
        self._listener = listener
        self._clock = clock
        self._now = clock.now
        self._scheduler = scheduler
        self._reset_lock()
        self._state: PoolState[C] = PoolState(config or PoolConfig(), clock.now, random)
        """Who owns what; for the core alone, and only with the lock."""
        self._tasks = TaskRunner(self, driver, listener, clock, workers)
        forks.register(self)

    # ---- what callers do -----------------------------------------------------------------------

    def acquire(
        self,
        timeout: float | None = None,
        *,
        thread_bound: bool = False,
        note: str | None = None,
    ) -> Lease[C]:
        """Take a connection; the caller owns the lease until it releases it.

        Blocks while no connection is free, at most `timeout` seconds: that covers queueing, opening
        and testing. `None` means the pool's own `timeout`.

        `with pool.acquire() as connection:` gives the raw connection and releases it at the end.

        Args:
            timeout: seconds; 0 takes only what is there.
            thread_bound: only the acquiring thread will use the lease, so its death ends it. Other
                leases come back by garbage collection when they are forgotten.
            note: what it is for, in a few words, for those who look at `holders`.

        Raises:
            PoolTimeout: nothing became free in time. Its cause is the last failure to connect.
            TooManyWaiters: `max_waiting` was reached.
            ServerDown: the server has been away for `fail_fast` seconds, and nobody has a
                connection that could become free. Its cause is the last failure to connect.
            PoolClosed: the pool is closed.
            Exception: what the driver said when it could not connect and trying again is useless.

        The pool's own errors are at the same time the driver's `OperationalError`.
        """
        lease: Lease[C] = Lease(self)
        try:
            record = self._try_acquire(lease, thread_bound, note) or self._wait(lease, timeout)
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
        record = lease.owned
        if record is None or record.owner is not lease.reference or lease.pool is not self:
            raise self._not_ours(lease)
        reason: DiscardReason | None = BROKEN
        try:
            self.driver.reset(record.connection)
            if ping:
                self.driver.ping(record.connection)
            reason = None
        except Exception as error:  # whatever it is, the connection cannot be trusted any more
            logger.debug("%r: a connection could not be reset: %s", self, error)
        finally:
            self._return(record, lease, reason)

    def discard(self, lease: Lease[C]) -> None:
        """Give up a leased connection as broken. It is closed in the background.

        Raises:
            LeaseError: the lease is over, or another pool's.
        """
        record = lease.owned
        if record is None or record.owner is not lease.reference or lease.pool is not self:
            raise self._not_ours(lease)
        self._return(record, lease, BROKEN)

    # ---- what operators do ---------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What logs and errors call this pool."""
        return self._state.config.name

    @property
    def config(self) -> PoolConfig:
        """The options in force."""
        return self._state.config

    @property
    def closed(self) -> bool:
        """Whether the pool was closed for good."""
        return self._state.closed

    def drain(self) -> None:
        """Replace all connections and keep serving.

        Blocks while the idle ones are closed and others opened, at most `QUIESCENCE_TIMEOUT` seconds.

        Idle connections are closed now, leased ones when they come back, and those being opened
        as soon as they are open.
        """
        self.run_locked(self._state.drain)
        self._tasks.wait_quiescent()

    def resize(self, *, min_size: int | None = None, max_size: int | None = None) -> None:
        """Change the pool's limits while it runs. Does not block.

        A smaller pool closes idle connections at once and leased ones when they come back; a larger
        one opens connections for those who wait.

        Raises:
            PoolConfigError: the new limits make no sense. Nothing has changed then.
        """
        self.run_locked(lambda: self._state.resize(min_size=min_size, max_size=max_size))
        self._tasks.submit_pending()

    def suspend(self) -> None:
        """Make callers wait, each at most its own timeout, until `resume`. Does not block.

        For a planned failover: what is leased goes on and comes back, nothing new is lent out.
        """
        self.run_locked(self._state.suspend)

    def resume(self) -> None:
        """Go on after `suspend`; connections are tested before those who waited get them."""
        self.run_locked(self._state.resume)
        self._tasks.submit_pending()

    def clear_stats(self) -> None:
        """Count all totals from zero again."""
        self.run_locked(self._state.clear_totals)

    def close(self) -> None:
        """End the pool for good; may be called again.

        Blocks while idle connections, and those just being opened, are closed: at most
        `QUIESCENCE_TIMEOUT` seconds.

        Waiting callers get `PoolClosed`. Leased connections are closed when they come back.
        """
        self.run_locked(lambda: self._state.close(self._closed_error))
        self._tasks.wait_quiescent()
        self.schedule_maintenance()

    def leave_leases(self) -> None:
        """Leave what is still leased to the operating system, at the very end of the process."""
        with self._lock:
            for record in self._state.records:
                forks.immortalise(record)

    def stats(self) -> PoolStats:
        """Return the pool's numbers at this instant. Never waits for a connection."""
        with self._lock:
            return stats.snapshot(self._state)

    def holders(self) -> tuple[Holder, ...]:
        """Return who holds connections at this instant, longest first."""
        with self._lock:
            return stats.holders(self._state)

    def __repr__(self) -> str:
        # No lock: this is for logs and debuggers, which may come by at any moment.
        state = self._state
        return (
            f"<Pool {self.name!r} {len(state.records)}/{state.config.max_size}: "
            f"{state.leased} leased, {len(state.idle)} idle, {len(state.waiters)} waiting"
            + f", {state.connecting} connecting" * bool(state.connecting)
            + ", suspended" * state.suspended
            + ", closed" * state.closed
            + ">"
        )

    # ---- acquiring -----------------------------------------------------------------------------

    def _try_acquire(
        self, lease: Lease[C], thread_bound: bool, note: str | None
    ) -> PooledConnection[C] | None:
        """Lease an idle connection that may be used as it is; if there is none, queue up."""
        state = self._state
        thread = current_thread()
        # Here, since it looks at source files, which is not for the lock.
        stack = None if state.leak_after is None else messages.stack()
        now = self._now()
        if self._lock_is_mine():
            raise self._reentrant_use_error()
        with self._lock:
            try:
                if state.idle and not state.waiters and not state.suspended:
                    record = state.idle[-1]
                    state.lease(record, lease, now, thread, thread_bound, note)
                    state.idle.pop()
                else:
                    record = None
                    refusal = self._queue_locked(lease, now, thread, thread_bound, note, stack)
            except BaseException:
                housekeeping.restore_invariants(state)
                raise
        if record is None:
            if refusal is not None:
                raise refusal
            self._expect_service(now)
            return None
        if stack is not None:
            record.stack = stack
            record.leak_reported = False
        try:
            if (
                now < record.ping_due_at
                and now < record.expires_at
                and self.driver.is_alive(record.connection)
            ):
                return record
        except Exception:
            logger.debug("%r: the liveness test failed", self, exc_info=True)
        self._test(record, lease, now)
        return None

    def _queue_locked(
        self,
        lease: Lease[C],
        now: float,
        thread: threading.Thread,
        thread_bound: bool,
        note: str | None,
        stack: StackSummary | None,
    ) -> PoolError | None:
        """Put `lease` into the queue, or return why it cannot be served."""
        state = self._state
        if state.closed:
            return self._closed_error()
        if now >= state.next_recovery:
            housekeeping.recover_lost_leases(state, now)
        if state.queue_is_full():
            state.totals.rejected += 1
            return self._error(TooManyWaiters, messages.too_many_waiters(stats.snapshot(state)))
        if state.should_fail_fast(now) and not state.may_open(now):
            state.totals.rejected += 1
            return self.server_down()
        state.queue(Waiter(lease, now, thread, thread_bound, note, stack))
        return None

    def _expect_service(self, now: float) -> None:
        """Set to work those who can serve somebody that has just begun to wait."""
        self._tasks.submit_pending()
        self._scheduler.schedule(self, now + housekeeping.LOST_PAUSE)

    def _test(self, record: PooledConnection[C], lease: Lease[C], since: float) -> None:
        """Have a doubtful connection tested, or replaced if it is too old, while `lease` waits.

        The caller had come to its turn, so it becomes the first in the queue.
        """
        thread = current_thread()
        if not self.run_locked(lambda: self._state.requeue_for_test(record, lease, thread, since)):
            raise self._closed_error()
        self._expect_service(self._now())

    def _wait(self, lease: Lease[C], timeout: float | None) -> PooledConnection[C]:
        """Block until the lease in the queue is served, and return what it is served with.

        A waiter may be served at the very moment its time is up: 1. its wait ends empty-handed;
        2. somebody takes it out of the queue and settles it; 3. we get the lock, find it resolved,
        and use what came. From 2 on the lease owns the connection, so it cannot get lost.

        What came may have died in the claimed it came from, after their last query. So it is tested
        like one that was idle, and if need be we are the first in the queue again.
        """
        if timeout is None:
            timeout = self._state.config.timeout
        while True:
            waiter = lease.waiter
            if waiter is None:
                raise LeaseError(f"pool {self.name!r}: this lease does not wait for anything")
            left = None if timeout is None else waiter.since + timeout - self._now()
            self._clock.wait(waiter.wakeup, left)
            if not waiter.resolved:
                self.run_locked(partial(self._time_out_locked, waiter, timeout))
            lease.waiter = None
            error, waiter.error = waiter.error, None
            if error is not None:
                if isinstance(error, PoolTimeout):
                    self.notify(self._listener.acquire_timed_out, error)
                try:
                    raise error
                finally:
                    del error  # its traceback holds this frame: without this, a cycle
            record = lease.record
            try:
                if waiter.tested or self.driver.is_alive(record.connection):
                    return record
            except Exception:
                logger.debug("%r: the liveness test failed", self, exc_info=True)
            self._test(record, lease, waiter.since)

    def _time_out_locked(self, waiter: Waiter[C], timeout: float | None) -> None:
        """Take a waiter out of the queue and say why it got nothing, unless it did by now."""
        state = self._state
        if waiter.resolved or waiter.lease.current:
            return
        obstacle = stats.obstacle(state)
        error = self._error(
            PoolTimeout,
            messages.timeout(
                stats.snapshot(state),
                timeout,
                stats.holders(state),
                own=stats.held_by(state, waiter.thread),
                last_connect_error=None if obstacle is None else state.backoff.error_text,
            ),
        )
        error.__cause__ = obstacle
        waiter.error = error
        state.withdraw(waiter)
        state.totals.timeouts += 1

    def _abandon(self, lease: Lease[C]) -> None:
        """Clean up after an acquire that failed or was interrupted."""
        if lease.waiter is not None:
            self.run_locked(partial(self._state.withdraw, lease.waiter))
            lease.waiter = None
        if lease.current:
            self._return(lease.record, lease, None)
        self._tasks.submit_pending()

    # ---- giving back ---------------------------------------------------------------------------

    def _not_ours(self, lease: Lease[C]) -> LeaseError:
        """Return the error for who wants to give back what `lease` does not own."""
        if lease.pool is self:
            return lease.over()
        return LeaseError(
            f"pool {self.name!r} cannot take back a connection of pool {lease.pool.name!r}"
        )

    def _return(
        self, record: PooledConnection[C], lease: Lease[C], reason: DiscardReason | None
    ) -> None:
        """Take `record` out of `lease`, and keep it unless there is a `reason` not to."""
        state = self._state
        now = self._now()
        if self._lock_is_mine():
            # It cannot join in, but it can leave the connection to the next search for lost ones.
            if record.owner is lease.reference:
                if reason is not None:
                    record.expires_at = NEVER
                record.owner = ABANDONED
            lease.owned = None
            return
        with self._lock:
            if record.owner is not lease.reference:
                raise lease.over()
            try:
                state.return_(record, reason, now)
                lease.owned = None
            except BaseException:
                housekeeping.restore_invariants(state)
                raise
        if state.pending:
            self._tasks.submit_pending()

    def run_locked(self, decision: Callable[[], T]) -> T:
        """Have something decided under the lock; an interrupt meanwhile leaves the state in order.

        `_try_acquire` and `_return`, through which every use of the pool comes, do the same by hand. (A
        function, since a context manager written in Python can be interrupted between taking the
        lock and protecting it.)
        """
        if self._lock_is_mine():
            raise self._reentrant_use_error()
        with self._lock:
            try:
                return decision()
            except BaseException:
                housekeeping.restore_invariants(self._state)
                raise

    # ---- maintenance and forks -----------------------------------------------------------------

    def maintain(self) -> float | None:
        """Do what is due: close, open, recover, report. The maintenance thread calls this.

        Returns:
            When to come again at the latest, by the pool's clock; `None` if never.
        """
        leaks, due = self.run_locked(lambda: housekeeping.maintain(self._state))
        for holder in leaks:
            logger.warning("%s", messages.leak(repr(self), holder))
            self.notify(self._listener.lease_leaked, holder)
        self._tasks.submit_pending()
        return due

    def schedule_maintenance(self) -> None:
        """Have maintenance come when it is next due, which may be sooner than it thinks."""
        with self._lock:
            due = housekeeping.due(self._state, self._now())
        if due is not None:
            self._scheduler.schedule(self, due)

    def after_fork_in_child(self) -> None:
        """Leave all connections to the parent and begin with empty state.

        They are forgotten without being closed, and kept from ever being collected: either would
        say goodbye on the parent's behalf. Leases that the fork copied are over in the child.
        """
        inherited = self._state
        forks.immortalise(inherited)
        for record in inherited.records:
            record.owner = ABANDONED
        self._reset_lock()
        self._state = PoolState(inherited.config, inherited.now, inherited.random)
        self._state.closed = inherited.closed  # but not suspended: nobody would resume it here

    def _reset_lock(self) -> None:
        """Make the lock. It knows its owner, since code may run in the middle of a decision that
        wants to use the pool as well: a finaliser, or a signal's handler."""
        self._lock = threading.RLock()
        self._lock_is_mine: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]  # noqa: SLF001

    def notify(self, event: Callable[..., None], *what: object) -> None:
        """Tell the listener; what it raises is logged."""
        try:
            event(self, *what)
        except Exception:
            logger.exception("%r: a listener failed", self)

    def server_down(self) -> PoolError:
        """Return the error for who would wait in vain. Caller holds the lock."""
        backoff = self._state.backoff
        seconds = max(backoff.down_for(self._now()), 0.0)
        error = self._error(
            ServerDown, messages.server_down(self.name, seconds, backoff.error_text)
        )
        error.__cause__ = backoff.error
        return error

    def _reentrant_use_error(self) -> PoolError:
        return self._error(PoolError, messages.reentrant_use(self.name))

    def _closed_error(self) -> PoolError:
        return self._error(PoolClosed, f"pool {self.name!r} is closed")

    def _error(self, error: type[PoolError], message: str) -> PoolError:
        """Make an error that user code may also catch as the driver's `OperationalError`."""
        return as_driver_error(error, self.driver.operational_error)(message)
