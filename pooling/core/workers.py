"""Threads for the calls that may hang: connecting, testing, closing."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable

from pooling.core import forks

logger = logging.getLogger("pooling")

Job = Callable[[], None]

IDLE_SECONDS = 5.0
"""How long a worker without a job waits for the next one before it ends."""


class Workers:
    """Run jobs in daemon threads, which are used again while there is work and then end.

    A caller of the pool never makes a network call that it cannot walk away from: it waits in the
    queue, where its deadline holds, while a worker is stuck in the driver. The cache of threads is
    that of Trio's `_thread_cache`: a dictionary is a thread-safe stack (`popitem` is atomic), and
    who removes the worker from it, a new job or the worker itself, decides what becomes of it.
    """

    def __init__(self) -> None:
        self._idle: dict[_Worker, None] = {}
        self._numbers = itertools.count(1)
        forks.register(self)

    def run(self, job: Job) -> None:
        """Run `job` soon in another thread, or here and now when no thread can be had.

        The latter happens when the interpreter is about to end, and when the machine is out of
        threads: then late is better than never. Errors of a job are logged.
        """
        try:
            worker, _ = self._idle.popitem()
        except KeyError:
            worker = _Worker(self._idle, job)
            try:
                worker.start(f"pooling-worker-{next(self._numbers)}")
            except RuntimeError:
                worker.work()
        else:
            worker.job = job
            worker.bell.release()

    def after_fork_in_child(self) -> None:
        """Forget the parent's threads."""
        self._idle = {}


def _nothing() -> None:
    """Do no job."""


class _Worker:
    """One thread of the cache."""

    __slots__ = ("_idle", "bell", "job")

    def __init__(self, idle: dict[_Worker, None], job: Job) -> None:
        self._idle = idle
        self.job = job
        self.bell = threading.Lock()
        self.bell.acquire()

    def start(self, name: str) -> None:
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def work(self) -> None:
        """Do the job at hand."""
        try:
            self.job()
        except Exception:
            logger.exception("a background job of the connection pool failed")
        finally:
            self.job = _nothing  # keep nothing alive while idle

    def _run(self) -> None:
        while True:
            self.work()
            self._idle[self] = None
            if self.bell.acquire(timeout=IDLE_SECONDS):
                continue
            try:
                del self._idle[self]
            except KeyError:
                # 1. The wait for a job ran out. 2. `run` took this worker off the stack. 3. We
                # are here: the job is ours and the bell will ring at once.
                self.bell.acquire()
            else:
                return


WORKERS = Workers()
"""The process's workers, for all pools."""
