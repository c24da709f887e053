"""Open, test, clean and close connections in the background; and housekeeping."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Generic, cast

from pooling.core import housekeeping, messages
from pooling.core.connection import DiscardReason, PooledConnection
from pooling.core.driver import C, Driver
from pooling.core.errors import BudgetExhausted
from pooling.core.state import Task, TaskKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooling.core.budget import Probe
    from pooling.core.clock import Clock
    from pooling.core.driver import BudgetedDriver
    from pooling.core.listener import Listener
    from pooling.core.pool import Pool
    from pooling.core.scheduler import Scheduler
    from pooling.core.worker_threads import Workers

logger = logging.getLogger("pooling")

SUBMISSION_TIMEOUT = 1.0
"""Seconds after which a submitted job that has not begun no longer counts: a fork keeps jobs
waiting for up to a second, and an interrupt may have lost one."""

QUIESCENCE_TIMEOUT = 5.0
"""Seconds that `drain` and `close` wait at most for workers: one may hang, and an exit must not."""


class TaskRunner(Generic[C]):
    """Run the tasks of a pool in worker threads.

    Each task is a call of the driver without the pool's lock, and a decision on its outcome.
    """

    def __init__(
        self,
        pool: Pool[C],
        driver: Driver[C],
        listener: Listener,
        clock: Clock,
        workers: Workers,
        scheduler: Scheduler,
    ) -> None:
        self._pool = pool
        self._driver = driver
        self._listener = listener
        self._clock = clock
        self._workers = workers
        self._scheduler = scheduler
        self._submitted: dict[object, float] = {}
        """When each job was submitted that has not claimed a task yet."""

    # ---- pending tasks ---------------------------------------------------------------------------

    def submit_pending(self) -> None:
        """Have a worker for each pending task, and no more, however many callers ask for it.

        Workers claim tasks themselves: so none is lost if this is interrupted, and tasks that
        another thread has added meanwhile are run as well. A job that takes long to begin (a fork
        may keep it waiting) does not count for ever: then another one is submitted.

        A job takes its token back before it claims a task, and here the tasks are counted before
        the tokens: so no token stands for two tasks, whatever another thread does in between.
        """
        if self._pool._lock_is_mine():
            return  # a nested call: what it interrupted submits them
        now = self._clock.now()
        pending = self._pool._state.pending
        while waiting := len(pending):
            for job, since in self._submitted.copy().items():
                if since < now - SUBMISSION_TIMEOUT:
                    self._submitted.pop(job, None)
            if len(self._submitted) >= waiting:
                break
            token = object()
            try:
                self._submitted[token] = now
                self._workers.run(partial(self._run_one, token))
            except BaseException:
                self._submitted.pop(token, None)
                raise

    def _run_one(self, token: object) -> None:
        """Run the next task, if no other worker has claimed it.

        It is in `claimed` from the instant it stops being pending: whatever ends this thread, the
        state is told, and the connection is not lost.
        """
        claimed: list[Task[C]] = []
        try:
            self._pool._run_locked(partial(self._claim, token, claimed))
            for task in claimed:
                self._run(*task)
        except BaseException:
            self._submitted.pop(token, None)
            for task in claimed:
                self._pool._run_locked(partial(self._pool._state.abort_task, task))
            raise

    def _claim(self, token: object, claimed: list[Task[C]]) -> None:
        """Claim the next task; its job counts no longer. Caller holds the lock."""
        self._submitted.pop(token, None)
        self._pool._state.claim_task(claimed)

    def _run(
        self, kind: TaskKind, record: PooledConnection[C], number: int, reason: DiscardReason | None
    ) -> None:
        if record.owner != number:
            return
        if kind is TaskKind.CLOSE:
            self._close(record, reason)
        elif kind is TaskKind.OPEN:
            self._open(record)
        elif kind is TaskKind.PROBE:
            self._probe(record)
        elif kind is TaskKind.PING:
            self._test(record, self._driver.ping, DiscardReason.BROKEN)
        else:
            holder = record.thread.name if record.thread else "(unknown)"
            logger.warning("%r: thread %r lost its lease; recovering it", self._pool, holder)
            self._test(record, self._driver.reset, DiscardReason.LEAKED)

    def wait_quiescent(self, timeout: float = QUIESCENCE_TIMEOUT) -> None:
        """Run what is pending, and block until no worker has a connection, at most `timeout`."""
        self.submit_pending()
        wakeup = threading.Lock()
        wakeup.acquire()
        state = self._pool._state
        if self._pool._run_locked(lambda: state.notify_when_quiescent(wakeup)) and (
            not self._clock.wait(wakeup, timeout)
        ):
            self._pool._run_locked(lambda: state.forget_quiescence_waiter(wakeup))

    # ---- the tasks -------------------------------------------------------------------------------

    def _open(self, record: PooledConnection[C]) -> None:
        pool = self._pool
        # Kept until the lock is released: its traceback holds frames, whose locals have finalisers.
        previous_error = pool._state.backoff.error
        try:
            connection = self._driver.connect()
        except BaseException as error:
            text = messages.error_text(error)
            if isinstance(error, BudgetExhausted):
                pool._run_locked(partial(pool._state.turned_away, record, error, text))
                logger.info("%r: could not connect: %s", pool, text)
                return
            server_down = pool._server_down if self._is_transient(error) else None
            pool._run_locked(partial(pool._state.not_opened, record, error, text, server_down))
            logger.warning("%r: could not connect: %s", pool, text)
            if not isinstance(error, Exception):
                raise
        else:
            try:
                pool._run_locked(lambda: pool._state.opened(record, connection))
            except BaseException:
                if not hasattr(record, "connection"):  # the state does not have it
                    self._driver.close(connection)
                raise
            logger.info("%r: opened a connection", pool)
            pool._notify(self._listener.connection_opened)
        finally:
            del previous_error  # the next error's traceback holds this frame
            self.submit_pending()
            self.schedule_maintenance()

    def _is_transient(self, error: BaseException) -> bool:
        try:
            return self._driver.is_transient(error)
        except Exception:
            logger.exception("%r: the driver cannot classify a connect error", self._pool)
            return False

    def _test(
        self, record: PooledConnection[C], test: Callable[[C], None], failed: DiscardReason
    ) -> None:
        """Put a connection back into service if `test` passes, else discard it as `failed`."""
        reason: DiscardReason | None = failed
        try:
            test(record.connection)
            reason = None
        except Exception as error:
            logger.info("%r: a connection is broken: %s", self._pool, messages.error_text(error))
        finally:
            self._pool._run_locked(lambda: self._pool._state.tested(record, reason))
            self.submit_pending()

    def _probe(self, record: PooledConnection[C]) -> None:
        """Look at the budget with a connection, and give up what others need more."""
        state = self._pool._state
        probe: Probe | None = None
        try:
            driver = cast("BudgetedDriver[C]", self._driver)
            probe = driver.probe(record.connection, in_demand=bool(state.waiters))
        except Exception as error:
            logger.info("%r: a connection is broken: %s", self._pool, messages.error_text(error))
        finally:
            self._pool._run_locked(lambda: state.probed(record, probe))
            self.submit_pending()
            self.schedule_maintenance()

    def _close(self, record: PooledConnection[C], reason: DiscardReason | None) -> None:
        logger.info("%r: closing a connection (%s)", self._pool, reason)
        try:
            self._driver.close(record.connection)
        except Exception:
            logger.debug("%r: closing a connection failed", self._pool, exc_info=True)
        finally:
            state = self._pool._state
            if self._pool._run_locked(lambda: state.connection_closed(record, reason)):
                self.submit_pending()
        self._pool._notify(self._listener.connection_closed, reason)

    # ---- housekeeping ----------------------------------------------------------------------------

    def maintain(self) -> float | None:
        """Do the housekeeping that is due. The scheduler calls this.

        Returns:
            When to call again at the latest, by the pool's clock; None for never.
        """
        pool = self._pool
        leaks, due = pool._run_locked(lambda: housekeeping.maintain(pool._state))
        for holder in leaks:
            logger.warning("%s", messages.leak(repr(pool), holder))
            pool._notify(self._listener.lease_leaked, holder)
        self.submit_pending()
        return due

    def schedule_maintenance(self) -> None:
        """Have `maintain` called when it is next due, which may be sooner than before."""
        pool = self._pool
        due = pool._run_locked(lambda: housekeeping.next_due(pool._state, self._clock.now()))
        if due is not None:
            self._scheduler.schedule(self, due)

    def serve_soon(self, now: float) -> None:
        """Start what serves a caller that has just begun to wait."""
        self.submit_pending()
        self._scheduler.schedule(self, now + housekeeping.LOST_PAUSE)

    def after_fork_in_child(self) -> None:
        """Leave all connections to the parent process."""
        self._submitted = {}
        self._pool._forget_inherited()
