"""Puts up this process's snapshot every few seconds, and obeys orders."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from pooling.core import forks
from pooling.core.workers import WORKERS
from pooling.fleet.board import Board, sees_one_process
from pooling.fleet.history import History
from pooling.fleet.options import fleet_options
from pooling.fleet.orders import DESK
from pooling.fleet.snapshots import snapshot
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from pooling.core.pool import Pool

logger = logging.getLogger("pooling")

LOOK_AGAIN = 5.0
"""Seconds between samples where nothing is published."""


class Publisher:
    """Accompanies the maintenance of the pools; see `Scheduler.add_periodic`.

    The maintenance thread only reads numbers. What may take time, talking to the cache, is done by
    a worker, one at a time: a cache that hangs costs a thread and delays nothing else.
    """

    def __init__(self) -> None:
        self._start_over()
        forks.register(self)

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._histories: weakref.WeakKeyDictionary[Pool[Any], History] = weakref.WeakKeyDictionary()
        self._busy = False
        self._failing = False
        self._next = float("-inf")

    def after_fork_in_child(self) -> None:
        """Forget what the parent has measured and said."""
        self._start_over()

    def histories(self) -> dict[Pool[Any], History]:
        """Return the last minutes of each pool, as far as they were watched."""
        with self._lock:
            return dict(self._histories)

    def maintain(self) -> float | None:
        """Measure, and have the snapshot put up if it is time. The maintenance thread calls this.

        Returns:
            When to come again, by the monotonic clock; `None` if the process has no pool.
        """
        pools = REGISTRY.pools()
        if not pools:
            return None
        now = time.monotonic()
        if now < self._next:
            return self._next
        every = fleet_options().publish_every
        self._next = now + (LOOK_AGAIN if every is None else every)
        self._measure(pools)
        if every is not None and not self._busy:
            self._busy = True
            WORKERS.run(self._exchange)
        return self._next

    def _measure(self, pools: list[Pool[Any]]) -> None:
        now = time.time()
        for pool in pools:
            stats = pool.stats()
            with self._lock:
                self._histories.setdefault(pool, History()).sample(stats, now)

    def _exchange(self) -> None:
        """Put up the snapshot and look for orders. Runs in a worker and raises nothing."""
        try:
            if not sees_one_process():
                board = Board(fleet_options())
                DESK.obey(*DESK.put_up(board))
                board.publish(snapshot())  # which shows already what the orders have done
            if self._failing:
                logger.info("the connection pools are published again")
            self._failing = False
        except Exception as error:
            # Once, not every two seconds; and no text, which may quote the cache's address.
            if not self._failing:
                kind = type(error).__name__
                logger.warning("the connection pools cannot be published: %s", kind)
                logger.debug("publishing failed", exc_info=True)
            self._failing = True
        finally:
            self._busy = False


PUBLISHER = Publisher()
"""The process's publisher."""
