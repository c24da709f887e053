"""The connection pool: its public methods, and the lock.

This is the only file that takes the pool's lock. Under the lock the state decides; without it
drivers work, callers wait, and tasks are submitted to the workers.
"""

from __future__ import annotations

import logging
import random as random_module
import threading
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from pooling.core import forks, housekeeping, messages, stats
from pooling.core.clock import LONG_AGO, SYSTEM_CLOCK, Clock
from pooling.core.config import PoolConfig
from pooling.core.connection import ABANDONED, DiscardReason, Lease, PooledConnection
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
from pooling.core.open_test_close import QUIESCENCE_TIMEOUT, TaskRunner
from pooling.core.queue import Waiter
from pooling.core.scheduler import SCHEDULER, Scheduler
from pooling.core.state import PoolState
from pooling.core.threads import in_nested_call
from pooling.core.worker_threads import WORKERS, Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pooling.core.stats import Holder, PoolStats, QueuedCaller

logger = logging.getLogger("pooling")

BROKEN = DiscardReason.BROKEN

T = TypeVar("T")


class Pool(Generic[C]):
    """A thread-safe pool of connections of one kind to one server.

    Waiting callers are served first come, first served, by hand-off; idle connections are used last
    in, first out, so that those the load does not need stay idle and can be closed.

    Args:
        driver: opens, tests and closes the connections.
        config: the options.
        listener: is notified of rare events.
        clock, workers, scheduler, random: the sources of time, threads and randomness; tests
            replace them.
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
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._driver = driver
        self._listener = listener
        self._clock = clock
        self._now = clock.now
        self._reset_lock()
        self._state: PoolState[C] = PoolState(config or PoolConfig(), clock.now, random)
        """Owners and queue; used by the core alone, and only with the lock."""
        self._tasks = TaskRunner(self, driver, listener, clock, workers, scheduler)
        forks.register(self._tasks)

    # ---- leases ----------------------------------------------------------------------------------

    def acquire(
        self,
        timeout: float | None = None,
        *,
        thread_bound: bool = False,
        note: str | None = None,
    ) -> Lease[C]:
        """Lease a connection; the caller owns the lease until it releases it.

        Blocks while no connection is free, at most `timeout` seconds, everything included:
        queueing, opening, testing. `None` means the pool's own `timeout`.

        `with pool.acquire() as connection:` gives the raw connection and releases it at the end.

        Args:
            timeout: seconds; 0 takes only what is free now.
            thread_bound: only the acquiring thread will use the lease, so the end of the thread
                ends it. Other leases come back when they are garbage-collected.
            note: what it is for, in a few words, for `holders` and error messages.

        Raises:
            PoolTimeout: no connection became free in time. Its cause is the last connect error.
            TooManyWaiters: `max_waiting` was reached.
            ServerDown: the server has been down for `fail_fast` seconds, and there is no connection
                that could become free. Its cause is the last connect error.
            PoolClosed: the pool is closed.
            TypeError, ValueError: `timeout` is not a number of seconds.
            Exception: the driver's own error when it could not connect and retrying is useless.

        The pool's own errors are also instances of the driver's `OperationalError`.
        """
        if timeout is not None:
            _check_timeout(timeout)
        lease: Lease[C] = Lease(self, thread_bound, note)
        try:
            record = self._try_acquire(lease) or self._wait(lease, timeout)
            record.uses += 1
        except BaseException:
            self._abandon(lease)
            raise
        return lease

    def release(self, lease: Lease[C], *, ping: bool = False) -> None:
        """Give a connection back. Blocks for a round trip only if the session has to be cleaned.

        A connection that cannot be cleaned is discarded; that is not an error of the caller's.

        Args:
            ping: test the connection with a round trip, after errors for instance.

        Raises:
            LeaseError: the lease is over, or belongs to another pool. Nothing has changed then.
        """
        record = lease._owned
        if record is None or record.owner is not lease._reference or lease._pool is not self:
            raise self._not_ours(lease)
        reason: DiscardReason | None = BROKEN
        try:
            self._driver.reset(record.connection)
            if ping:
                self._driver.ping(record.connection)
            reason = None
        except Exception as error:  # whatever it is, the connection cannot be trusted any more
            logger.debug("%r: a connection could not be reset: %s", self, error)
        finally:
            self._return(record, lease, reason)

    def discard(self, lease: Lease[C]) -> None:
        """Give a leased connection up as broken. It is closed in the background. Does not block.

        Raises:
            LeaseError: the lease is over, or belongs to another pool.
        """
        record = lease._owned
        if record is None or record.owner is not lease._reference or lease._pool is not self:
            raise self._not_ours(lease)
        self._return(record, lease, BROKEN)

    def _pin(self, lease: Lease[C], reason: str) -> None:
        """Count a lease that lasts until the end of its request, and show it in `holders`."""
        self._run_locked(lambda: self._state.pin(lease._record, reason))

    def _count_replay(self) -> None:
        """Count a read that is run again, since its session had ended."""
        self._run_locked(self._state.count_replay)

    def _disrupt(self, lease_id: str, act: Callable[[C], None]) -> bool:
        """Call `act` with the connection of somebody's lease, while that is in use.

        The connection is replaced when the lease ends, so whatever `act` does, or does too late,
        concerns no other lease. Blocks as long as `act` does, and raises what it raises.

        Returns:
            Whether there was such a lease; see `Holder.id`.
        """
        connection = self._run_locked(lambda: self._state.last_lease(lease_id))
        if connection is not None:
            act(connection)
        return connection is not None

    # ---- management ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What logs, errors and metrics call this pool."""
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

        Idle connections and those of lost leases are closed now, leased ones when they come back,
        and those being opened as soon as they are open. Blocks until workers have closed and opened
        what they can, at most 5 seconds.
        """
        self._run_locked(self._state.drain)
        self._tasks.wait_quiescent()

    def resize(self, *, min_size: int | None = None, max_size: int | None = None) -> None:
        """Change the pool's limits while it runs; `None` leaves one as it is. Does not block.

        A smaller pool closes idle connections at once and leased ones when they come back; a larger
        one opens connections for waiting callers.

        Raises:
            PoolConfigError: the limits contradict each other. Nothing has changed then.
        """
        self._run_locked(lambda: self._state.resize(min_size=min_size, max_size=max_size))
        self._tasks.submit_pending()

    def suspend(self) -> None:
        """Make callers wait, each at most its own timeout, until `resume`. Does not block.

        For a planned fail-over: existing leases go on and come back, new ones are not granted.
        """
        self._run_locked(self._state.suspend)

    def resume(self) -> None:
        """Grant leases again after `suspend`, to waiting callers first. Does not block.

        Idle connections are tested before waiting callers get them.
        """
        self._run_locked(self._state.resume)
        self._tasks.submit_pending()

    def clear_stats(self) -> None:
        """Count all totals from zero again. Does not block."""
        self._run_locked(self._state.clear_counters)

    def close(self) -> None:
        """End the pool for good; may be called again.

        Waiting callers get `PoolClosed`. Idle connections are closed now, leased ones when they
        come back. Blocks while idle connections and those being opened are closed, at most
        5 seconds.
        """
        close_all([self])

    def stats(self) -> PoolStats:
        """Return the pool's numbers at this instant. Never waits for a connection."""
        with self._lock:
            return stats.snapshot(self._state)

    def holders(self) -> tuple[Holder, ...]:
        """Return the holders of connections at this instant, longest first. Does not block."""
        with self._lock:
            return stats.holders(self._state)

    def queue(self) -> tuple[QueuedCaller, ...]:
        """Return the callers that wait, in the order in which they are served. Does not block."""
        with self._lock:
            return stats.queue(self._state)

    def _peaks(self, seconds: float) -> tuple[int, int]:
        """Return the most leases and waiting callers of the last `seconds`; see `stats.peaks`."""
        with self._lock:
            return stats.peaks(self._state, seconds)

    def __repr__(self) -> str:
        # No lock: logs and debuggers may call this at any moment.
        state = self._state
        return (
            f"<Pool {self.name!r} {len(state.records)}/{state.config.max_size}: "
            f"{state.leased} leased, {len(state.idle)} idle, {len(state.waiters)} waiting"
            + f", {state.connecting} connecting" * bool(state.connecting)
            + ", suspended" * state.suspended
            + ", closed" * state.closed
            + ">"
        )

    # ---- acquiring -------------------------------------------------------------------------------

    def _try_acquire(self, lease: Lease[C]) -> PooledConnection[C] | None:
        """Lease an idle connection that may be used as it is; if there is none, join the queue."""
        state = self._state
        if state.leak_after is not None:
            lease._stack = messages.stack()  # it looks at files: not for the lock
        now = self._now()
        if self._lock_is_mine():
            raise self._reentrant_use()
        with self._lock:
            try:
                if state.idle and not state.waiters and not state.suspended:
                    record = state.idle[-1]
                    state.lease(record, lease, now)
                    state.idle.pop()
                else:
                    record = None
                    refusal = self._queue_locked(lease, now)
            except BaseException:
                state.restore_invariants()
                raise
        if record is None:
            if refusal is not None:
                raise refusal
            self._tasks.serve_soon(now)
            return None
        try:
            if (
                now < record.ping_due_at
                and now < record.expires_at
                and self._driver.is_alive(record.connection)
            ):
                return record
        except Exception:
            logger.debug("%r: the liveness test failed", self, exc_info=True)
        self._test(record, lease, now)
        return None

    def _queue_locked(self, lease: Lease[C], now: float) -> PoolError | None:
        """Put `lease` into the queue, or return why it cannot be served."""
        state = self._state
        if state.closed:
            return self._closed_error()
        if now >= state.next_search:
            housekeeping.recover_lost_leases(state, now)
        if state.queue_is_full():
            state.counters.rejected += 1
            return self._error(TooManyWaiters, messages.too_many_waiters(stats.snapshot(state)))
        if state.should_fail_fast(now) and not state.may_open(now):
            state.counters.rejected += 1
            return self._server_down()
        state.enqueue(Waiter(lease, now))
        return None

    def _test(self, record: PooledConnection[C], lease: Lease[C], since: float) -> None:
        """Have a doubtful connection tested, or replaced if it is outdated, while `lease` waits.

        The caller had reached the head of the queue, so it goes there again.
        """
        if not self._run_locked(lambda: self._state.requeue_for_test(record, lease, since)):
            raise self._closed_error()
        self._tasks.serve_soon(self._now())

    def _wait(self, lease: Lease[C], timeout: float | None) -> PooledConnection[C]:
        """Block until the lease in the queue is served, and return its connection.

        A waiter may be served at the very moment it times out: 1. its wait ends without a
        connection; 2. another thread takes it out of the queue and resolves it; 3. this thread gets
        the lock, sees that it is resolved, and uses the connection. From 2 on the lease owns the
        connection, so it cannot get lost.

        A connection that was handed over may have died since its last query. So it is tested like
        an idle one, and if it fails the caller is at the head of the queue again.
        """
        if timeout is None:
            timeout = self._state.config.timeout
        while True:
            waiter = lease._waiter
            if waiter is None:
                raise LeaseError(f"pool {self.name!r}: this lease does not wait for a connection")
            if not waiter.resolved and in_nested_call():
                raise self._reentrant_use()
            left = None if timeout is None else waiter.since + timeout - self._now()
            self._clock.wait(waiter.wakeup, left)
            if not waiter.resolved:
                self._run_locked(partial(self._time_out_locked, waiter, timeout))
            lease._waiter = None
            error, waiter.error = waiter.error, None
            if error is not None:
                if isinstance(error, PoolTimeout):
                    self._notify(self._listener.acquire_timed_out, error)
                try:
                    raise error
                finally:
                    del error  # its traceback holds this frame: without this, a cycle
            record = lease._record
            try:
                if waiter.tested or self._driver.is_alive(record.connection):
                    return record
            except Exception:
                logger.debug("%r: the liveness test failed", self, exc_info=True)
            self._test(record, lease, waiter.since)

    def _time_out_locked(self, waiter: Waiter[C], timeout: float | None) -> None:
        """Take a waiter out of the queue with a `PoolTimeout`, unless it was served by now."""
        state = self._state
        if waiter.resolved or waiter.lease._current:
            return
        cause = state.connect_error()
        error = self._error(
            PoolTimeout,
            messages.timeout(
                stats.snapshot(state),
                timeout,
                stats.holders(state),
                own=stats.held_by(state, waiter.lease._thread),
                last_connect_error=None if cause is None else state.backoff.error_text,
            ),
        )
        error.__cause__ = cause
        waiter.error = error
        state.withdraw(waiter)
        state.counters.timeouts += 1

    def _abandon(self, lease: Lease[C]) -> None:
        """Clean up after an acquire that failed or was interrupted."""
        if lease._waiter is not None:
            self._run_locked(partial(self._state.withdraw, lease._waiter))
            lease._waiter = None
        if lease._current:
            self._return(lease._record, lease, None)
        self._tasks.submit_pending()

    # ---- releasing -------------------------------------------------------------------------------

    def _not_ours(self, lease: Lease[C]) -> LeaseError:
        """Return the error for a lease that cannot be released here."""
        if lease._pool is self:
            return lease._over()
        return LeaseError(
            f"pool {self.name!r} cannot take back a connection of pool {lease._pool.name!r}"
        )

    def _return(
        self, record: PooledConnection[C], lease: Lease[C], reason: DiscardReason | None
    ) -> None:
        """Take `record` from `lease`, and keep it unless there is a `reason` not to."""
        state = self._state
        now = self._now()
        if self._lock_is_mine():
            # A nested call in the middle of a decision of this thread: it must not decide as well,
            # but it can leave the connection to the next search for lost leases.
            if record.owner is lease._reference:
                if reason is not None:
                    record.expires_at = LONG_AGO
                record.owner = ABANDONED
            lease._owned = None
            return
        with self._lock:
            if record.owner is not lease._reference:
                raise lease._over()
            try:
                state.return_(record, reason, now)
                lease._owned = None
            except BaseException:
                state.restore_invariants()
                raise
        if state.pending:
            self._tasks.submit_pending()

    # ---- the lock --------------------------------------------------------------------------------

    def _run_locked(self, decision: Callable[[], T]) -> T:
        """Make a decision under the lock; restore the invariants if it is interrupted.

        `_try_acquire` and `_return`, part of every lease, do the same without a call. (This is a
        function, since a context manager written in Python can be interrupted between taking the
        lock and protecting it.)
        """
        if self._lock_is_mine():
            raise self._reentrant_use()
        with self._lock:
            try:
                return decision()
            except BaseException:
                self._state.restore_invariants()
                raise

    def _reset_lock(self) -> None:
        """Make the lock. It knows its owner: a finaliser or a signal handler may run in the middle
        of a decision and call the pool as well."""
        self._lock = threading.RLock()
        self._lock_is_mine: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]

    def _leave_leases(self) -> None:
        """Leave leased connections to the operating system, at the very end of the process."""
        with self._lock:
            for record in self._state.records:
                forks.immortalise(record)

    def _forget_inherited(self) -> None:
        """Leave all connections to the parent process and begin with an empty state, after a fork.

        They are forgotten without being closed, and kept from ever being collected: either would
        end the parent's sessions. Leases that the fork copied are over in the child.
        """
        inherited = self._state
        forks.immortalise(inherited)
        for record in inherited.records:
            record.owner = ABANDONED
        self._reset_lock()
        self._state = PoolState(inherited.config, inherited.now, inherited.random)
        self._state.closed = inherited.closed  # not `suspended`: no code here would resume it

    # ---- events and errors -----------------------------------------------------------------------

    def _notify(self, event: Callable[..., None], *arguments: object) -> None:
        """Call a method of the listener; its errors are logged."""
        try:
            event(self, *arguments)
        except Exception:
            logger.exception("%r: a listener failed", self)

    def _server_down(self) -> PoolError:
        """Return the error for callers rejected by `fail_fast`. Caller holds the lock."""
        backoff, config = self._state.backoff, self._state.config
        seconds = max(backoff.down_for(self._now()), 0.0)
        text = messages.server_down(self.name, seconds, config.fail_fast, backoff.error_text)
        error = self._error(ServerDown, text)
        error.__cause__ = backoff.error
        return error

    def _reentrant_use(self) -> PoolError:
        return self._error(PoolError, messages.reentrant_use(self.name))

    def _closed_error(self) -> PoolError:
        return self._error(PoolClosed, messages.closed(self.name))

    def _error(self, error: type[PoolError], message: str) -> PoolError:
        """Make an error that user code may also catch as the driver's `OperationalError`."""
        return as_driver_error(error, self._driver.operational_error)(message)


def close_all(pools: Iterable[Pool[Any]], timeout: float = QUIESCENCE_TIMEOUT) -> None:
    """Close pools together; see `Pool.close`. Blocks at most `timeout` seconds for all of them."""
    closing = [(pool, pool._now() + timeout) for pool in pools]
    for pool, _ in closing:
        pool._run_locked(partial(pool._state.close, pool._closed_error))
        pool._tasks.submit_pending()
    for pool, end in closing:
        pool._tasks.wait_quiescent(max(end - pool._now(), 0.0))
        pool._tasks.schedule_maintenance()


def _check_timeout(timeout: object) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(
            "acquire(timeout): must be a number of seconds or None for the pool's own timeout, "
            f"not {timeout!r}"
        )
    if timeout != timeout:  # NaN is the only number that differs from itself
        raise ValueError("acquire(timeout): must be a number of seconds, not NaN")
