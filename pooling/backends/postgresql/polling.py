"""Liveness: see whether a socket is readable, without letting go of the interpreter's lock.

`select.poll` releases the lock for each call, even if it does not wait. Where several threads
compute, the caller then gets it back after up to `sys.getswitchinterval()`, 5 ms, and that on each
lease. A poll that does not wait needs no such thing: `ctypes.PyDLL` calls it with the lock held.

A free-threaded build has no such lock, and the call is as good there: it shares nothing with other
threads, and is too short to delay a stop of all threads, for which it cannot be interrupted.
"""

from __future__ import annotations

import select
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    import ctypes

    _poll = ctypes.PyDLL(None).poll
except (ImportError, AttributeError, OSError, TypeError):  # no ctypes, or a system without poll()
    _poll = None  # type: ignore[assignment]
else:

    class _PollFd(ctypes.Structure):
        """POSIX's `struct pollfd`."""

        _fields_ = (
            ("fd", ctypes.c_int),
            ("events", ctypes.c_short),
            ("revents", ctypes.c_short),
        )


def readable(descriptor: int) -> Callable[[], object]:
    """Return a function that tells whether a descriptor is readable, or in error. Never waits."""
    if _poll is not None:
        entry = _PollFd(descriptor, select.POLLIN | select.POLLPRI, 0)
        # Without `argtypes`, whose conversion costs as much as the call.
        return partial(_poll, ctypes.byref(entry), ctypes.c_ulong(1), 0)
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(descriptor, select.POLLIN | select.POLLPRI)
        return partial(poller.poll, 0)
    return partial(_select, descriptor)


def _select(descriptor: int) -> list[int]:
    found, _, failed = select.select([descriptor], [], [descriptor], 0)
    return found + failed
