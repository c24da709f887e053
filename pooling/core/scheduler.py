"""The process's one background thread: calls each pool's housekeeping when it is due."""

from __future__ import annotations

import logging
import threading
import weakref
from functools import partial
from typing import Any, Protocol

from pooling.core import forks
from pooling.core.clock import SYSTEM_CLOCK, Clock
from pooling.core.threads import DAEMONS, has_ended

logger = logging.getLogger("pooling")

RETRY_PAUSE = 1.0
"""Seconds until `maintain` is called again after it failed."""

EXIT_TIMEOUT = 0.1
"""Seconds that a caller waits for the scheduler's lock while the process exits."""


class Maintainable(Protocol):
    """Something with work to do from time to time."""

    def maintain(self) -> float | None:
        """Do what is due now; return when to call again at the latest, or None for never."""
        ...


class Scheduler:
    """Call `maintain` of everything that was scheduled, when it is due.

    The thread starts with the first pool that is used and ends when nothing is scheduled. Pools are
    referenced weakly: housekeeping does not keep an unused pool alive.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._periodic: list[Maintainable] = []
        self._reset()
        forks.register(self)

    def _reset(self) -> None:
        # Re-entrant: a finaliser may run at any allocation, and it may use a pool.
        self._lock = threading.RLock()
        self._wakeup = threading.Lock()
        self._wakeup.acquire()
        self._thread: threading.Thread | None = None
        self._token: object = None
        """Identifies the current thread: an interrupted start may have left another one."""
        self._due: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        self._wakes_at = float("inf")

    def schedule(self, what: Maintainable, when: float) -> None:
        """Have `what` maintained at `when` (the clock's seconds) or sooner.

        Blocks at most while a thread is started. Not to be called under a pool's lock.
        """
        if DAEMONS.exiting and not self._is_responsive():
            return
        with self._lock:
            sooner = when < self._due.get(what, float("inf"))
            if sooner:
                self._due[what] = when
                for each in self._periodic:
                    if each not in self._due:
                        self._due[each] = when = min(when, self._clock.now())
            if self._thread is None or has_ended(self._thread):
                self._start_locked()
            elif sooner and when < self._wakes_at:
                self._wakes_at = when
                self._wake_locked()

    def _is_responsive(self) -> bool:
        """Tell whether the lock can be had: threads that end with the process never release it."""
        free = self._lock.acquire(timeout=EXIT_TIMEOUT)
        if free:
            self._lock.release()
        return free

    def add_periodic(self, what: Maintainable) -> None:
        """Have `what` maintained as well, from the next use of a pool on, and in forked children.

        It may be called sooner than it asked for; if it asked for no more calls, it is called again
        when a pool is scheduled sooner than before.
        """
        with self._lock:
            if what not in self._periodic:
                self._periodic.append(what)

    def run_once(self) -> float | None:
        """Maintain what is due; return when the next call is due, None if nothing is scheduled."""
        now = self._clock.now()
        due: list[Any] = []
        try:
            with self._lock:
                due += [what for what, when in list(self._due.items()) if when <= now]
                for what in due:
                    del self._due[what]
            while due:
                self._maintain(due[-1], now)
                due.pop()
        except BaseException:  # this thread ends: the next one does the rest
            with self._lock:
                self._due.update(dict.fromkeys(due, now))
            raise
        with self._lock:
            return min(self._due.values(), default=None)

    def _maintain(self, what: Any, now: float) -> None:
        try:
            again = what.maintain()
        except Exception:
            logger.exception("housekeeping of %r failed and will be tried again", what)
            again = now + RETRY_PAUSE
        if again is not None:
            with self._lock:
                self._due[what] = min(again, self._due.get(what, float("inf")))

    def after_fork_in_child(self) -> None:
        """Forget the parent's thread, and its pools until they are used here."""
        self._reset()

    def _start_locked(self) -> None:
        # `start` waits until the new thread runs, not until it has this lock: no deadlock. Without
        # a thread (the process exits, or has no more of them) the next call tries again; until
        # then pools serve their callers, and only housekeeping waits.
        self._token = token = object()
        self._thread = DAEMONS.start(partial(self._run, token), "pooling-maintenance")

    def _wake_locked(self) -> None:
        if self._wakeup.locked():
            self._wakeup.release()

    def _run(self, token: object) -> None:
        wakeup = self._wakeup
        while True:
            self.run_once()
            with self._lock:
                if self._token is not token:
                    return
                due = min(self._due.values(), default=None)
                if due is None:
                    self._thread = None
                    return
                self._wakes_at = due
                pause = max(due - self._clock.now(), 0.0)
            self._clock.wait(wakeup, pause)


SCHEDULER = Scheduler()
"""The process's scheduler, for all pools."""
