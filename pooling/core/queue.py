"""The queue of waiting callers: first come, first served.

`PoolState.keep_or_discard` serves its head with each connection that becomes free, and
`PoolState.fill` opens or tests one for each caller that waits.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic

from pooling.core.driver import C

if TYPE_CHECKING:
    from pooling.core.connection import Lease


class Waiter(Generic[C]):
    """A caller in the queue, resolved once: with a connection or with an error.

    It is taken out of the queue and resolved under the pool's lock. The connection it is served
    with belongs to its lease at once, so it has an owner at every instant: if the waiting thread is
    gone by then, its lease is as well, and housekeeping recovers the connection.
    """

    __slots__ = ("error", "lease", "resolved", "since", "tested", "wakeup")

    def __init__(self, lease: Lease[C], since: float) -> None:
        self.lease = lease
        self.since = since
        """When the caller began to wait (the pool's clock)."""
        self.error: BaseException | None = None
        self.resolved = False
        self.tested = False
        """Whether the connection it is served with has just been opened or tested by a worker."""
        # A lock that another thread releases is the cheapest one-shot signal of the standard
        # library; `threading.Event` consists of three objects.
        self.wakeup = threading.Lock()
        self.wakeup.acquire()

    def resolve(self, error: BaseException | None = None) -> None:
        """Wake the waiting thread; `error` is what it raises."""
        self.error = error
        self.resolved = True
        if self.wakeup.locked():
            self.wakeup.release()


class WaitQueue(OrderedDict[Waiter[C], None]):
    """Waiting callers in the order in which they are served; used under the pool's lock."""

    def join(self, waiter: Waiter[C], *, first: bool = False) -> None:
        """Put a caller at the end, or at the head if it had been there before."""
        waiter.lease._waiter = waiter
        self[waiter] = None
        if first:
            self.move_to_end(waiter, last=False)

    def head(self) -> Waiter[C]:
        """Return the caller that is served next."""
        return next(iter(self))

    def resolve(self, waiter: Waiter[C], error: BaseException | None) -> None:
        """Take a caller out that is served, or raises `error`."""
        waiter.resolve(error)
        del self[waiter]
