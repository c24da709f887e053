"""The process's one background thread: calls each pool's housekeeping when it is due."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from functools import partial
from typing import Any, Protocol

from pooling.core import forks
from pooling.core.clock import LONG_AGO, SYSTEM_CLOCK, Clock
from pooling.core.threads import DAEMONS, has_ended, register_lock

logger = logging.getLogger("pooling")

RETRY_PAUSE = 1.0
"""Seconds until `maintain` is called again after it failed."""

START_TIMEOUT = 1.0
"""Seconds after which a thread that is being started no longer counts: an interrupt may have kept
its starter from it."""

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
        register_lock(self)

    def _reset(self) -> None:
        # Re-entrant: a finaliser may run at any allocation, and it may use a pool.
        self._lock = threading.RLock()
        self._wakeup = threading.Lock()
        self._wakeup.acquire()
        self._thread: threading.Thread | None = None
        self._started_at = LONG_AGO
        """When a caller has begun to start the thread, while it does."""
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
            token = self._token_of_new_thread()
            if token is None and sooner and when < self._wakes_at:
                self._wakes_at = when
                self._wake_locked()
        if token is not None:
            self._start(token)

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
                due += [what for what, when in self._scheduled() if when <= now]
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
            return self._next_due()

    def _scheduled(self) -> list[tuple[Any, float]]:
        """Return what is scheduled; a finaliser of this thread may schedule more meanwhile."""
        while True:
            with contextlib.suppress(RuntimeError):  # the dictionary changed size
                return list(self._due.items())

    def _next_due(self) -> float | None:
        return min((when for _, when in self._scheduled()), default=None)

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

    def _token_of_new_thread(self) -> object | None:
        """Return the token of a thread that the caller has to start, None if there is one."""
        if self._thread is not None and not has_ended(self._thread):
            return None
        now = self._clock.now()
        if now - self._started_at < START_TIMEOUT:
            return None  # another caller is starting it
        self._started_at = now
        self._token = object()
        return self._token

    def _start(self, token: object) -> None:
        """Start the thread. Not under the lock: `DAEMONS` has its own, and waits for the thread.

        Without a thread (the process exits, or has no more of them) a later call tries again; until
        then pools serve their callers, and only housekeeping waits.
        """
        thread = None
        try:
            thread = DAEMONS.start(partial(self._run, token), "pooling-maintenance")
        finally:
            with self._lock:
                if self._token is token:
                    self._thread = thread
                    self._started_at = LONG_AGO

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
                due = self._next_due()
                if due is None:
                    self._thread = None
                    return
                self._wakes_at = due
                pause = max(due - self._clock.now(), 0.0)
            self._clock.wait(wakeup, pause)


SCHEDULER = Scheduler()
"""The process's scheduler, for all pools."""
