"""Worker threads for the calls that may hang: connecting, testing, closing."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable

from pooling.core import forks
from pooling.core.threads import DAEMONS, in_nested_call, register_lock

logger = logging.getLogger("pooling")

Job = Callable[[], None]

IDLE_TIMEOUT = 5.0
"""Seconds that a worker without a job waits for the next one before it ends."""

FORK_TIMEOUT = 1.0
"""Seconds that a fork waits at most for jobs in progress: one may hang, and a fork must not."""


class Workers:
    """Run jobs in daemon threads, which are used again while there is work and then end.

    A caller of the pool never blocks in a call of the driver without its deadline: it waits in the
    queue, where the deadline holds, while a worker is stuck in the driver. The cache of threads is
    that of Trio's `_thread_cache`: a dictionary is a thread-safe stack (`popitem` is atomic), and
    the thread that removes a worker from it, to give it a job or to end it, decides.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._reset()
        forks.register_pausable(self)
        register_lock(self)

    def _reset(self) -> None:
        self._idle: dict[_Worker, None] = {}
        # `with` takes the lock itself: a Condition's own `__enter__` and `__exit__` are written in
        # Python, and an interrupt inside them would leave the lock taken for ever.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._running: set[object] = set()
        """One token for each job in progress."""
        self._forking: set[int] = set()
        """The threads that are about to fork."""

    def run(self, job: Job) -> None:
        """Run `job` soon in another thread, or here and now when no thread can be had.

        The latter happens when the process exits, when the machine is out of threads, and in nested
        calls (see `in_nested_call`): the caller then runs it, which may exceed its timeout. Errors
        of a job are logged.
        """
        # At exit idle workers are still there and may never run again.
        if DAEMONS.exiting or in_nested_call():
            _attempt(job)
            return
        try:
            worker, _ = self._idle.popitem()
        except KeyError:
            worker = _Worker(self, self._idle, job)
            if DAEMONS.start(worker.run, f"pooling-worker-{next(self._numbers)}") is None:
                worker.work()
        else:
            worker.job = job
            worker.wakeup.release()

    def perform(self, job: Job) -> None:
        """Do a job in this thread, when no fork is under way."""
        token = object()
        try:
            with self._lock:
                self._changed.wait_for(lambda: not self._forking, FORK_TIMEOUT)
                self._running.add(token)
            _attempt(job)
        finally:
            try:
                self._end(token)
            except BaseException:  # what ends this thread must not make every fork wait for it
                self._end(token)
                raise

    def _end(self, token: object) -> None:
        with self._lock:
            self._running.discard(token)
            self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait until no worker is inside a driver, and let none begin.

        A library's own locks are copied as they are: a child that was forked while a worker was
        opening a SQLite file would wait for ever for SQLite's.
        """
        with self._lock:
            self._forking.add(threading.get_ident())
            self._changed.wait_for(lambda: not self._running, FORK_TIMEOUT)

    def after_fork_in_parent(self) -> None:
        """Let the workers go on."""
        with self._lock:
            self._forking.discard(threading.get_ident())
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Forget the parent's threads."""
        self._reset()


def _attempt(job: Job) -> None:
    try:
        job()
    except Exception:
        logger.exception("a background job of the connection pool failed")


def _no_job() -> None:
    """Do nothing."""


class _Worker:
    """One thread of the cache."""

    __slots__ = ("_idle", "_workers", "job", "wakeup")

    def __init__(self, workers: Workers, idle: dict[_Worker, None], job: Job) -> None:
        self._workers = workers
        self._idle = idle
        self.job = job
        self.wakeup = threading.Lock()
        self.wakeup.acquire()

    def work(self) -> None:
        """Do the present job."""
        job, self.job = self.job, _no_job  # an idle worker keeps nothing alive
        self._workers.perform(job)

    def run(self) -> None:
        """Do jobs until there has been none for `IDLE_TIMEOUT`."""
        while True:
            self.work()
            self._idle[self] = None
            if self.wakeup.acquire(timeout=IDLE_TIMEOUT):
                continue
            try:
                del self._idle[self]
            except KeyError:
                # 1. The wait for a job ran out. 2. `Workers.run` took this worker off the stack.
                # 3. This thread finds that: the job is its own, and the wakeup comes at once, if no
                # interrupt has kept `Workers.run` from it.
                if not self.wakeup.acquire(timeout=IDLE_TIMEOUT):
                    return
            else:
                return


WORKERS = Workers()
"""The process's workers, for all pools."""
