"""Who does what takes time: opening, testing, cleaning and closing connections."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Generic

from pooling.core import messages
from pooling.core.connection import DiscardReason, PooledConnection
from pooling.core.driver import C, Driver
from pooling.core.state import Task, TaskKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooling.core.clock import Clock
    from pooling.core.listener import Listener
    from pooling.core.pool import Pool
    from pooling.core.workers import Workers

logger = logging.getLogger("pooling")

QUIESCENCE_TIMEOUT = 5.0
"""Seconds that `drain` and `close` wait at most for workers: one may hang, and an exit must not."""


class TaskRunner(Generic[C]):
    """Does the pending of a pool, in the threads of its workers.

    Each task is a call of the driver without the pool's lock, and a decision on what came of it.
    """

    def __init__(
        self,
        pool: Pool[C],
        driver: Driver[C],
        listener: Listener,
        clock: Clock,
        workers: Workers,
    ) -> None:
        self._pool = pool
        self._driver = driver
        self._listener = listener
        self._clock = clock
        self._workers = workers

    def submit_pending(self) -> None:
        """Have the workers do what was decided under the lock.

        They take the pending themselves: so none is lost if this is interrupted, and what another
        thread has written down in the meantime is done as well.
        """
        for _ in range(len(self._pool._state.pending)):
            self._workers.run(self._run_one)

    def _run_one(self) -> None:
        """Do the next task, if another worker was not quicker.

        It is in `claimed` from the instant it is off the list: whatever ends this thread, the state
        hear of it, and the connection does not stay where nobody looks for it.
        """
        claimed: list[Task[C]] = []
        try:
            self._pool.run_locked(partial(self._pool._state.claim_task, claimed))
            for task in claimed:
                self._do(*task)
        except BaseException:
            for task in claimed:
                self._pool.run_locked(partial(self._pool._state.abort_task, task))
            raise

    def _do(
        self, task: TaskKind, record: PooledConnection[C], number: int, reason: DiscardReason | None
    ) -> None:
        if record.owner != number:
            return
        if task is TaskKind.CLOSE:
            self._close_connection(record, reason)
        elif task is TaskKind.OPEN:
            self._open_connection(record)
        elif task is TaskKind.PING:
            self._test(record, self._driver.ping, DiscardReason.BROKEN)
        else:
            holder = record.thread.name if record.thread else "(unknown)"
            logger.warning("%r: thread %r went away with a connection", self._pool, holder)
            self._test(record, self._driver.reset, DiscardReason.LEAKED)

    def wait_quiescent(self) -> None:
        """Have the workers do what was decided, and wait until they rest, in bounded time."""
        self.submit_pending()
        wakeup = threading.Lock()
        wakeup.acquire()
        if self._pool.run_locked(lambda: self._pool._state.notify_when_quiescent(wakeup)):
            self._clock.wait(wakeup, QUIESCENCE_TIMEOUT)

    def _open_connection(self, record: PooledConnection[C]) -> None:
        try:
            connection = self._driver.connect()
        except BaseException as error:
            words = messages.error_text(error)
            server_down = self._pool.server_down if self._is_transient(error) else None
            self._pool.run_locked(
                partial(self._pool._state.not_opened, record, error, words, server_down)
            )
            logger.warning("%r: could not connect: %s", self._pool, words)
            if not isinstance(error, Exception):
                raise
        else:
            try:
                self._pool.run_locked(lambda: self._pool._state.opened(record, connection))
            except BaseException:
                if not hasattr(record, "connection"):  # nobody else knows of it
                    self._driver.close(connection)
                raise
            logger.info("%r: opened a connection", self._pool)
            self._pool.notify(self._listener.connection_opened)
        finally:
            self.submit_pending()
            self._pool.schedule_maintenance()

    def _is_transient(self, error: BaseException) -> bool:
        try:
            return self._driver.is_transient(error)
        except Exception:
            logger.exception("%r: cannot tell what kind of error this is", self._pool)
            return False

    def _test(
        self, record: PooledConnection[C], proof: Callable[[C], None], reason: DiscardReason
    ) -> None:
        """Put a connection back into service if `proof` goes well; else throw it away."""
        verdict: DiscardReason | None = reason
        try:
            proof(record.connection)
            verdict = None
        except Exception as error:
            logger.info(
                "%r: a connection turned out to be dead: %s", self._pool, messages.error_text(error)
            )
        finally:
            self._pool.run_locked(lambda: self._pool._state.tested(record, verdict))
            self.submit_pending()

    def _close_connection(self, record: PooledConnection[C], reason: DiscardReason | None) -> None:
        logger.info("%r: closing a connection (%s)", self._pool, reason)
        try:
            self._driver.close(record.connection)
        except Exception:
            logger.debug("%r: closing a connection failed", self._pool, exc_info=True)
        finally:
            self._pool.run_locked(lambda: self._pool._state.connection_closed(record))
        self._pool.notify(self._listener.connection_closed, reason)
