"""Publisher: write this process's snapshot every few seconds, and run commands."""

from __future__ import annotations

import contextlib
import copy
import logging
import re
import threading
import time
import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from pooling.core import forks
from pooling.core.worker_threads import WORKERS
from pooling.fleet.archive import Archive, new_archive, roll
from pooling.fleet.cache_store import (
    CacheStore,
    FleetError,
    close_caches,
    load_cache,
    sees_one_process,
    with_timeout,
)
from pooling.fleet.commands import COMMAND_LOG
from pooling.fleet.history import History
from pooling.fleet.options import fleet_options
from pooling.fleet.snapshots import redacted, snapshot
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from pooling.core.pool import Pool
    from pooling.fleet.history import Row

logger = logging.getLogger("pooling")

SAMPLE_EVERY = 2.0
"""Seconds between two samples if nothing is published."""

LEAVE_TIMEOUT = 1.0
"""Seconds that the end of a process waits for the cache at most."""

HOLDER_SECONDS, HOLDER_SLOTS = 30, 20
"""The slots in which held seconds are added up by purpose: ten minutes in all."""

MAX_PURPOSES = 15
"""Purposes published for each pool, those that held connections longest."""

VARIABLE = re.compile(r"(?<=/)(?:\d+|[0-9a-fA-F-]{16,})(?=/|$)")
"""Parts of a path that differ from request to request: they are shown as `*`."""


class HeldTimes:
    """How long connections were held in the last ten minutes, by purpose.

    Estimated from samples: the holder at the time of a sample counts as the holder since the last
    one. Nothing is added to the path of a lease.
    """

    def __init__(self) -> None:
        self._slots: deque[tuple[int, Counter[str]]] = deque(maxlen=HOLDER_SLOTS)

    def sample(self, pool: Pool[Any], seconds: float, now: float) -> None:
        """Count the present holders for the `seconds` since the last sample."""
        slot = int(now // HOLDER_SECONDS)
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append((slot, Counter()))
        for holder in pool.holders():
            purpose = VARIABLE.sub("*", redacted(pool, holder.note or ""))
            self._slots[-1][1][purpose] += seconds  # type: ignore[assignment]

    def seconds(self) -> dict[str, float]:
        """Return the purposes with their seconds, the longest first."""
        total: Counter[str] = Counter()
        oldest = time.time() // HOLDER_SECONDS - HOLDER_SLOTS
        for slot, counter in list(self._slots):
            if slot > oldest:
                total.update(counter)
        return {purpose: round(seconds, 1) for purpose, seconds in total.most_common(MAX_PURPOSES)}


class Observed:
    """What the publisher remembers of a pool."""

    def __init__(self) -> None:
        self.history = History()
        self.holders = HeldTimes()


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
        self._observed: weakref.WeakKeyDictionary[Pool[Any], Observed] = weakref.WeakKeyDictionary()
        self._archive = new_archive()
        """The history, if there is no cache to keep it."""
        self._sampled = time.monotonic()
        self._over = False
        self._busy = False
        self._failing = False
        self._next = float("-inf")

    def after_fork_in_child(self) -> None:
        """Drop the parent's samples and state."""
        self._start_over()

    def recent(self, pool: Pool[Any]) -> tuple[list[Row], dict[str, float]]:
        """Return the history of a pool, and for how long it was held for what."""
        with self._lock:  # the scheduler's thread may be adding a sample
            observed = self._observed.get(pool)
            if observed is None:
                return [], {}
            return observed.history.rows(), observed.holders.seconds()

    def archive(self) -> Archive:
        """Return the history of this process, if there is no cache that processes share."""
        own = snapshot()
        with self._lock:
            return copy.deepcopy(roll(self._archive, [own], COMMAND_LOG.sent(), time.time()))

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
        if every is not None and not self._busy and not self._over:
            self._busy = True
            WORKERS.run(self._exchange)
        return self._next

    def _sample(self, pools: list[Pool[Any]]) -> None:
        now, since, self._sampled = time.time(), self._sampled, time.monotonic()
        seconds = self._sampled - since
        for pool in pools:
            stats, peaks = pool.stats(), pool._peaks(seconds)  # noqa: SLF001
            with self._lock:
                observed = self._observed.setdefault(pool, Observed())
                observed.history.sample(stats, peaks, now)
                observed.holders.sample(pool, seconds, now)
        if sees_one_process():
            self.archive()

    def _exchange(self) -> None:
        """Publish the snapshot and run new commands. Runs in a worker and raises nothing."""
        try:
            load_cache(fleet_options().cache)
            if not sees_one_process():
                store = CacheStore(fleet_options())
                COMMAND_LOG.execute(*COMMAND_LOG.publish(store))
                store.publish(snapshot())  # taken afterwards, so it shows the commands' effect
                store.roll_archive(COMMAND_LOG.sent())
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
            close_caches()
            self._busy = False

    def leave(self) -> None:
        """Publish the last numbers of this process, which ends."""
        if self._over or not self._observed:
            return
        self._over = True
        with contextlib.suppress(Exception):  # it may be too late for threads, or for the cache
            self._sample(REGISTRY.pools())
            if not sees_one_process():
                last = {**snapshot(), "left": True}
                with_timeout(lambda: CacheStore(fleet_options()).publish(last), LEAVE_TIMEOUT)


PUBLISHER = Publisher()
"""The process's publisher."""

# Before the interpreter waits for threads, since no thread can be started later. The functions of
# `atexit` come after that, and close the pools.
threading._register_atexit(PUBLISHER.leave)  # type: ignore[attr-defined]  # noqa: SLF001
