"""The rendezvous between a thread that waits and whoever serves it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic

from pooling.core.driver import C

if TYPE_CHECKING:
    from traceback import StackSummary

    from pooling.core.connection import Lease


class Waiter(Generic[C]):
    """A caller in the queue, which is resolved once: with a connection or with an error.

    `settle` is called under the pool's lock by the one who took the waiter out of the queue. What a
    waiter is served with lands in its lease, so that it has an owner at every instant: should the
    waiting thread be gone by then, the lease goes with it, and the pool sees that it is lost.
    """

    __slots__ = (
        "error",
        "lease",
        "note",
        "resolved",
        "since",
        "stack",
        "tested",
        "thread",
        "thread_bound",
        "wakeup",
    )

    def __init__(
        self,
        lease: Lease[C],
        now: float,
        thread: threading.Thread,
        thread_bound: bool,
        note: str | None,
        stack: StackSummary | None,
    ) -> None:
        self.lease = lease
        self.since = now
        self.thread = thread
        self.thread_bound = thread_bound
        self.note = note
        self.stack = stack
        self.error: BaseException | None = None
        self.resolved = False
        self.tested = False
        """Whether a worker has just opened or tested what the waiter is served with."""
        # A lock that is released by another thread is the cheapest one-shot signal of the standard
        # library; `threading.Event` has three objects where this has one.
        self.wakeup = threading.Lock()
        self.wakeup.acquire()

    def resolve(self, error: BaseException | None = None) -> None:
        """Wake the waiting thread; `error` is what it shall raise. Caller holds the pool's lock."""
        self.error = error
        self.resolved = True
        if self.wakeup.locked():
            self.wakeup.release()
