"""Daemon threads: whether one has ended, and how to start one without crashing at exit."""

from __future__ import annotations

import atexit
import threading
import weakref
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pooling.core import forks

if TYPE_CHECKING:
    from collections.abc import Callable

START_TIMEOUT = 1.0
"""Seconds that the end of the process waits at most for a thread that is just being started."""

_threading: Any = threading


class Guarded(Protocol):
    """An object with a re-entrant lock that workers need."""

    _lock: Any


_guarded: tuple[weakref.ref[Any], ...] = ()
"""Replaced as a whole: threads look through it while another one imports an engine, say."""
_registering = threading.RLock()


def register_lock(guarded: Guarded) -> None:
    """Make `in_nested_call` look at the lock of an object that all pools of the process share."""
    global _guarded
    with _registering:
        present = [each for each in _guarded if each() is not None]
        _guarded = (*present, weakref.ref(guarded))


def in_nested_call() -> bool:
    """Tell whether this thread holds a lock of the process that workers may need.

    Then this is a signal handler or a finaliser in the middle of the locked code. The lock lets it
    pass, since it is re-entrant, but a worker would wait for it, so it must not wait for a worker.
    """
    guarded = [each() for each in _guarded]
    return any(each is not None and each._lock._is_owned() for each in guarded)


def has_ended(thread: threading.Thread) -> bool:
    """Tell whether a thread has ended, without `Thread.is_alive()`, which can be wrong.

    In CPython <= 3.12 an exception that arrives inside `is_alive()` or `join()` marks a running
    thread as stopped for good (python/cpython#90882), and a subclass may override it. The list
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
        self._lock = threading.RLock()  # a finaliser or signal handler may start one, too
        forks.register(self)
        register_lock(self)
        atexit.register(self.stop)

    def start(self, target: Callable[[], None], name: str) -> threading.Thread | None:
        """Start a daemon thread, or return None if none can be had. Blocks until it runs.

        It runs in an empty context: where threads inherit their starter's (the free-threaded Python
        3.14), it would work with the context variables of whichever request has started it.
        """
        thread = threading.Thread(target=partial(Context().run, target), name=name, daemon=True)
        with self._lock:
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
        if self._lock.acquire(timeout=START_TIMEOUT):
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Take a new lock: another thread of the parent may have held this one."""
        self._lock = threading.RLock()


DAEMONS = DaemonStarter()
"""The process's starter of daemon threads."""
