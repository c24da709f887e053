"""Daemon threads: whether one has ended, and how to start one without crashing at exit."""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING, Any

from pooling.core import forks

if TYPE_CHECKING:
    from collections.abc import Callable

START_TIMEOUT = 1.0
"""Seconds that the end of the process waits at most for a thread that is just being started."""

_threading: Any = threading


def has_ended(thread: threading.Thread) -> bool:
    """Tell whether a thread has ended, without believing `Thread.is_alive()`.

    In CPython <= 3.12 an exception that arrives inside `is_alive()` or `join()` marks a running
    thread as stopped for good (python/cpython#90882), and a subclass may answer anything. The list
    behind `threading.enumerate()` has the thread from before its first line until after its last;
    it is read without its lock, which this thread may hold. gevent keeps it for greenlets, too.
    """
    ident = thread.ident
    return ident is None or (
        thread not in _threading._limbo and _threading._active.get(ident) is not thread
    )


class DaemonStarter:
    """Start daemon threads until the process begins to exit, and none from then on.

    A daemon thread that is started while the interpreter ends crashes it (CPython 3.11) or makes
    its starter hang, which waits for the new thread to run. `atexit` calls come after all other
    threads have been joined, so daemon threads are the only ones that can still start any.
    """

    def __init__(self) -> None:
        self.exiting = False
        """Whether the process has begun to exit: what is left has to be done without threads."""
        self._starting = threading.RLock()  # a finaliser or signal handler may start one, too
        forks.register(self)
        atexit.register(self.stop)

    def start(self, target: Callable[[], None], name: str) -> threading.Thread | None:
        """Start a daemon thread, or return None if none can be had. Blocks until it runs."""
        thread = threading.Thread(target=target, name=name, daemon=True)
        with self._starting:
            if self.exiting:
                return None
            try:
                thread.start()
            except RuntimeError:  # the machine is out of threads
                return None
        return thread

    def stop(self) -> None:
        """Start no more threads. Blocks while one is being started, at most `START_TIMEOUT`."""
        self.exiting = True
        if self._starting.acquire(timeout=START_TIMEOUT):
            self._starting.release()

    def after_fork_in_child(self) -> None:
        """Take a new lock: another thread of the parent may have held this one."""
        self._starting = threading.RLock()


DAEMONS = DaemonStarter()
"""The process's, for all pools."""
