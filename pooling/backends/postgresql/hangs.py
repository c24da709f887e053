"""An end to round trips that hang, when the network or the server has gone without a word.

A pool asks a server something of its own accord: a ping, a rollback for who left a transaction
open. Without an answer the driver would wait until TCP gives up, which takes a quarter of an hour,
and until then the connection would take somebody's place in the pool. So such a round trip is
given `ANSWER_PATIENCE` seconds. Then the connection's socket is shut down, which works for every
driver and from any thread: the call fails, and the pool replaces the connection.

What users ask is not touched. How long a query of theirs may take is for them to say, with
`statement_timeout`, `tcp_user_timeout` and keepalives.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

from pooling.core.clock import SYSTEM_CLOCK, Clock
from pooling.core.maintenance import MAINTENANCE, Maintenance

if TYPE_CHECKING:
    from typing import Self

ANSWER_PATIENCE = 5.0
"""Seconds that the pool waits for the answer to something it asked for itself. TCP has repeated a
lost packet four times by then."""


class Hangs:
    """The round trips in progress; maintenance comes by when one of them is overdue."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK, maintenance: Maintenance = MAINTENANCE) -> None:
        self._clock = clock
        self._maintenance = maintenance
        self.bounds: dict[Bound, None] = {}

    def bound(self, connection: Any) -> Bound:
        """Return a context in which a call of `connection`'s driver takes bounded time."""
        return Bound(self, connection, self._clock.now() + ANSWER_PATIENCE)

    def expect(self, bound: Bound) -> None:
        """Come back when its time is up."""
        self.bounds[bound] = None
        self._maintenance.call(self, bound.deadline)

    def maintain(self) -> float | None:
        """Cut what is overdue; return when to come again, None if there is nothing to wait for."""
        now, later = self._clock.now(), []
        for bound in list(self.bounds):
            if bound.deadline > now:
                later.append(bound.deadline)
            else:
                bound.cut()
                self.bounds.pop(bound, None)
        return min(later, default=None)


class Bound:
    """One round trip; a context manager.

    In a forked child it is over: the socket is the parent's.
    """

    __slots__ = ("_connection", "_hangs", "_lock", "_over", "_pid", "deadline")

    def __init__(self, hangs: Hangs, connection: Any, deadline: float) -> None:
        self._hangs = hangs
        self._connection = connection
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._over = False
        self.deadline = deadline

    def __enter__(self) -> Self:
        self._hangs.expect(self)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:  # from here on the descriptor may be closed, and given to another file
            self._over = True
        self._hangs.bounds.pop(self, None)

    def cut(self) -> None:
        """Shut the socket down, unless the round trip has ended meanwhile.

        An interrupt may have kept `__exit__` from saying so. Then the connection was discarded, and
        a closed one has no descriptor to tell.
        """
        if self._pid != os.getpid():
            return  # a thread of the parent's may have had the lock when this process was forked
        with self._lock, contextlib.suppress(Exception):
            if not self._over:
                with socket.socket(fileno=os.dup(self._connection.fileno())) as copy:
                    copy.shutdown(socket.SHUT_RDWR)


HANGS = Hangs()
"""The process's."""
