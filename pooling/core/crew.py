"""Who does what takes time: opening, testing, cleaning and closing connections."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Generic

from pooling.core import report
from pooling.core.books import Errand, Task
from pooling.core.connection import DiscardReason, PooledConnection
from pooling.core.driver import C, Driver

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooling.core.clock import Clock
    from pooling.core.listener import Listener
    from pooling.core.pool import Pool
    from pooling.core.workers import Workers

logger = logging.getLogger("pooling")

REST_PATIENCE = 5.0
"""Seconds that `drain` and `close` wait at most for workers: one may hang, and an exit must not."""


class Crew(Generic[C]):
    """Does the errands of a pool, in the threads of its workers.

    Each errand is a call of the driver without the pool's lock, and a decision on what came of it.
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

    def run_errands(self) -> None:
        """Have the workers do what was decided under the lock.

        They take the errands themselves: so none is lost if this is interrupted, and what another
        thread has written down in the meantime is done as well.
        """
        for _ in range(len(self._pool.books.errands)):
            self._workers.run(self._run_next)

    def _run_next(self) -> None:
        """Do the next errand, if another worker was not quicker.

        It is in `hands` from the instant it is off the list: whatever ends this thread, the books
        hear of it, and the connection does not stay where nobody looks for it.
        """
        hands: list[Errand[C]] = []
        try:
            self._pool.decide(partial(self._pool.books.take_errand, hands))
            for errand in hands:
                self._do(*errand)
        except BaseException:
            for errand in hands:
                self._pool.decide(partial(self._pool.books.give_up, errand))
            raise

    def _do(
        self, task: Task, record: PooledConnection[C], number: int, reason: DiscardReason | None
    ) -> None:
        if record.owner != number:
            return
        if task is Task.CLOSE:
            self._close_connection(record, reason)
        elif task is Task.OPEN:
            self._open_connection(record)
        elif task is Task.PING:
            self._examine(record, self._driver.ping, DiscardReason.BROKEN)
        else:
            holder = record.thread.name if record.thread else "(unknown)"
            logger.warning("%r: thread %r went away with a connection", self._pool, holder)
            self._examine(record, self._driver.reset, DiscardReason.LEAKED)

    def finish_errands(self) -> None:
        """Have the workers do what was decided, and wait until they rest, in bounded time."""
        self.run_errands()
        bell = threading.Lock()
        bell.acquire()
        if self._pool.decide(lambda: self._pool.books.await_rest(bell)):
            self._clock.wait(bell, REST_PATIENCE)

    def _open_connection(self, record: PooledConnection[C]) -> None:
        try:
            connection = self._driver.connect()
        except BaseException as error:
            words = report.words(error)
            server_down = self._pool.server_down if self._is_transient(error) else None
            self._pool.decide(
                partial(self._pool.books.not_opened, record, error, words, server_down)
            )
            logger.warning("%r: could not connect: %s", self._pool, words)
            if not isinstance(error, Exception):
                raise
        else:
            try:
                self._pool.decide(lambda: self._pool.books.opened(record, connection))
            except BaseException:
                if not hasattr(record, "connection"):  # nobody else knows of it
                    self._driver.close(connection)
                raise
            logger.info("%r: opened a connection", self._pool)
            self._pool.tell(self._listener.connection_opened)
        finally:
            self.run_errands()
            self._pool.call_maintenance()

    def _is_transient(self, error: BaseException) -> bool:
        try:
            return self._driver.is_transient(error)
        except Exception:
            logger.exception("%r: cannot tell what kind of error this is", self._pool)
            return False

    def _examine(
        self, record: PooledConnection[C], proof: Callable[[C], None], reason: DiscardReason
    ) -> None:
        """Put a connection back into service if `proof` goes well; else throw it away."""
        verdict: DiscardReason | None = reason
        try:
            proof(record.connection)
            verdict = None
        except Exception as error:
            logger.info(
                "%r: a connection turned out to be dead: %s", self._pool, report.words(error)
            )
        finally:
            self._pool.decide(lambda: self._pool.books.examined(record, verdict))
            self.run_errands()

    def _close_connection(self, record: PooledConnection[C], reason: DiscardReason | None) -> None:
        logger.info("%r: closing a connection (%s)", self._pool, reason)
        try:
            self._driver.close(record.connection)
        except Exception:
            logger.debug("%r: closing a connection failed", self._pool, exc_info=True)
        finally:
            self._pool.decide(lambda: self._pool.books.closed_one(record))
        self._pool.tell(self._listener.connection_closed, reason)
