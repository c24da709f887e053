"""The one background thread of the process, which does for all pools what is due."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Any, Protocol

from pooling.core import forks
from pooling.core.clock import SYSTEM_CLOCK, Clock

logger = logging.getLogger("pooling")

AFTER_AN_ERROR = 1.0
"""Seconds until a pool whose maintenance failed gets its next turn."""


class Maintainable(Protocol):
    """Something with work to do from time to time."""

    def maintain(self) -> float | None:
        """Do what is due now; return when to come again at the latest, or None for never."""
        ...


class Scheduler:
    """Call every watched pool when it is due.

    The thread starts with the first pool that is used and ends when none is left. It holds pools
    weakly: a pool that nobody uses any more is not kept alive by its own housekeeping.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._companions: list[Maintainable] = []
        self._start_over()
        forks.register(self)

    def _start_over(self) -> None:
        # Re-entrant: a finaliser may run at any allocation, and it may use a pool.
        self._lock = threading.RLock()
        self._bell = threading.Lock()
        self._bell.acquire()
        self._thread: threading.Thread | None = None
        self._due: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        self._wakes_at = float("inf")

    def schedule(self, pool: Maintainable, when: float) -> None:
        """Have `pool` maintained at `when` (the clock's seconds) or sooner.

        Never blocks, so it may be called under a pool's lock.
        """
        with self._lock:
            sooner = when < self._due.get(pool, float("inf"))
            if sooner:
                self._due[pool] = when
                for periodic in self._companions:
                    if periodic not in self._due:
                        self._due[periodic] = when = min(when, self._clock.now())
            if self._thread is None or not self._thread.is_alive():
                self._start_locked()
            elif sooner and when < self._wakes_at:
                self._wakes_at = when
                self._ring_locked()

    def add_periodic(self, periodic: Maintainable) -> None:
        """Have `periodic` maintained as well, from the next use of a pool on.

        In a forked child, too, as soon as a pool is used there. A periodic may be asked sooner
        than it wants; one that wants no more is asked again when a pool is due sooner than before.
        """
        with self._lock:
            if periodic not in self._companions:
                self._companions.append(periodic)

    def run_once(self) -> float | None:
        """Maintain the pools that are due; return when the next one is, None if there is none."""
        now = self._clock.now()
        pools: list[Any] = []
        try:
            with self._lock:
                pools += [pool for pool, when in list(self._due.items()) if when <= now]
                for pool in pools:
                    del self._due[pool]
            while pools:
                self._maintain(pools[-1], now)
                pools.pop()
        except BaseException:  # this thread comes to its end: the next one does what it has left
            with self._lock:
                self._due.update(dict.fromkeys(pools, now))
            raise
        with self._lock:
            return min(self._due.values(), default=None)

    def _maintain(self, pool: Any, now: float) -> None:
        try:
            again = pool.maintain()
        except Exception:
            logger.exception("the maintenance of %r failed and will be tried again", pool)
            again = now + AFTER_AN_ERROR
        if again is not None:
            with self._lock:
                self._due[pool] = min(again, self._due.get(pool, float("inf")))

    def after_fork_in_child(self) -> None:
        """Forget the parent's thread, and the pools until they are used here."""
        self._start_over()

    def _start_locked(self) -> None:
        # `Thread.start` waits until the new thread runs, not until it has our lock: no deadlock.
        self._thread = threading.Thread(target=self._run, name="pooling-maintenance", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            # No thread can be had, at the interpreter's end for instance. The next call tries
            # again; until then pools serve their callers and only their upkeep waits.
            self._thread = None

    def _ring_locked(self) -> None:
        if self._bell.locked():
            self._bell.release()

    def _run(self) -> None:
        wakeup = self._bell
        while True:
            self.run_once()
            with self._lock:
                due = min(self._due.values(), default=None)
                if due is None:
                    self._thread = None
                    return
                self._wakes_at = due
                pause = max(due - self._clock.now(), 0.0)
            self._clock.wait(wakeup, pause)


SCHEDULER = Scheduler()
"""The process's maintenance, for all pools."""
