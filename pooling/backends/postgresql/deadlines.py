"""Deadlines for the pool's own round trips, for when packets vanish without an error.

The pool sends statements of its own: a ping, a rollback of a transaction that was left open.
Without an answer the driver would wait until TCP gives up, about fifteen minutes, and until then
the connection would occupy a slot of the pool. So each such round trip has `ANSWER_TIMEOUT`
seconds. After that the socket is shut down, which works for every driver and from any thread: the
call fails and the pool replaces the connection.

Users' queries have no such deadline; for those there are `statement_timeout`, `tcp_user_timeout`
and keepalives.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

from pooling.core.clock import SYSTEM_CLOCK, Clock
from pooling.core.scheduler import SCHEDULER, Scheduler

if TYPE_CHECKING:
    from typing import Self

ANSWER_TIMEOUT = 5.0
"""Seconds until a round trip of the pool's own is given up. By then TCP has sent a lost packet five
times."""


class DeadlineMonitor:
    """Expire round trips that take too long. The scheduler calls `maintain` when one is due."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK, scheduler: Scheduler = SCHEDULER) -> None:
        self._clock = clock
        self._scheduler = scheduler
        self.deadlines: dict[Deadline, None] = {}
        """The round trips in progress."""

    def limit(self, connection: Any) -> Deadline:
        """Return a context manager in which a call of `connection`'s driver takes bounded time."""
        return Deadline(self, connection, self._clock.now() + ANSWER_TIMEOUT)

    def watch(self, deadline: Deadline) -> None:
        """Expire `deadline` when it is due."""
        self.deadlines[deadline] = None
        self._scheduler.schedule(self, deadline.due_at)

    def maintain(self) -> float | None:
        """Expire what is due; return when the next one is, None if there is none."""
        now, later = self._clock.now(), []
        for deadline in list(self.deadlines):
            if deadline.due_at > now:
                later.append(deadline.due_at)
            else:
                deadline.expire()
                self.deadlines.pop(deadline, None)
        return min(later, default=None)


class Deadline:
    """The deadline of one round trip; a context manager around it.

    It has no effect in a forked child: the socket is the parent's.
    """

    __slots__ = ("_connection", "_lock", "_monitor", "_over", "_pid", "due_at")

    def __init__(self, monitor: DeadlineMonitor, connection: Any, due_at: float) -> None:
        self._monitor = monitor
        self._connection = connection
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._over = False
        self.due_at = due_at

    def __enter__(self) -> Self:
        self._monitor.watch(self)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:  # after this the descriptor may be closed and belong to another file
            self._over = True
        self._monitor.deadlines.pop(self, None)

    def expire(self) -> None:
        """Shut the socket down, unless the round trip has ended.

        If an interrupt kept `__exit__` from running, the connection was discarded, and a closed
        connection has no descriptor any more.
        """
        if self._pid != os.getpid():
            return  # a thread of the parent may have held the lock at the fork
        with self._lock, contextlib.suppress(Exception):
            if not self._over:
                with socket.socket(fileno=os.dup(self._connection.fileno())) as copy:
                    copy.shutdown(socket.SHUT_RDWR)


DEADLINES = DeadlineMonitor()
"""The process's monitor."""
