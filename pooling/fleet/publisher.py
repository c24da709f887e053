"""Publisher: write this process's snapshot every few seconds, and run commands."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from pooling.core import forks
from pooling.core.workers import WORKERS
from pooling.fleet.cache_store import CacheStore, FleetError, load_cache, sees_one_process
from pooling.fleet.commands import COMMAND_LOG
from pooling.fleet.history import History
from pooling.fleet.options import fleet_options
from pooling.fleet.snapshots import snapshot
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from pooling.core.pool import Pool

logger = logging.getLogger("pooling")

SAMPLE_EVERY = 5.0
"""Seconds between two samples if nothing is published."""


class Publisher:
    """A periodic job of the scheduler; see `Scheduler.add_periodic`.

    The scheduler's thread only takes the statistics. Cache I/O is done by a worker, one at a time:
    a cache that hangs costs one thread and delays nothing else.
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
        """Drop the parent's samples and state."""
        self._start_over()

    def histories(self) -> dict[Pool[Any], History]:
        """Return the history of each pool that was sampled."""
        with self._lock:
            return dict(self._histories)

    def maintain(self) -> float | None:
        """Sample the pools and start publishing if it is due. The scheduler's thread calls this.

        Returns:
            When to be called again (`time.monotonic()`); `None` if the process has no pool.
        """
        pools = REGISTRY.pools()
        if not pools:
            return None
        now = time.monotonic()
        if now < self._next:
            return self._next
        every = fleet_options().publish_every
        self._next = now + (SAMPLE_EVERY if every is None else every)
        self._sample(pools)
        if every is not None and not self._busy:
            self._busy = True
            WORKERS.run(self._exchange)
        return self._next

    def _sample(self, pools: list[Pool[Any]]) -> None:
        now = time.time()
        for pool in pools:
            stats = pool.stats()
            with self._lock:
                self._histories.setdefault(pool, History()).sample(stats, now)

    def _exchange(self) -> None:
        """Publish the snapshot and run new commands. Runs in a worker and raises nothing."""
        try:
            load_cache(fleet_options().cache)
            if not sees_one_process():
                store = CacheStore(fleet_options())
                COMMAND_LOG.execute(*COMMAND_LOG.publish(store))
                store.publish(snapshot())  # taken afterwards, so it shows the commands' effect
            if self._failing:
                logger.info("the connection pools are published again")
            self._failing = False
        except Exception as error:
            # Logged once. The type only: other texts may quote the cache's address and password.
            if not self._failing:
                reason = error if isinstance(error, FleetError) else type(error).__name__
                logger.warning("the connection pools cannot be published: %s", reason)
                logger.debug("publishing failed", exc_info=True)
            self._failing = True
        finally:
            self._busy = False


PUBLISHER = Publisher()
"""The process's publisher."""
