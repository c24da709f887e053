"""A caller that waits in the pool's queue."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic

from pooling.core.driver import C

if TYPE_CHECKING:
    from pooling.core.connection import Lease


class Waiter(Generic[C]):
    """A place in the queue, resolved once: with a connection or with an error.

    It is resolved as it is taken out of the queue, under the pool's lock. The connection it
    is served with belongs to its lease at once, so it has an owner at every instant: if the waiting
    thread is gone by then, its lease is as well, and housekeeping recovers the connection.
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
        """Wake the waiting thread; `error` is what it raises. Caller holds the pool's lock."""
        self.error = error
        self.resolved = True
        if self.wakeup.locked():
            self.wakeup.release()
