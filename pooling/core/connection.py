"""A physical connection as the pool knows it, and the lease of it that a caller holds."""

from __future__ import annotations

import enum
from threading import current_thread
from typing import TYPE_CHECKING, Any, Generic
from weakref import ref

from pooling.core.driver import C
from pooling.core.errors import LeaseError

if TYPE_CHECKING:
    import threading
    from traceback import StackSummary
    from types import TracebackType

    from pooling.core.pool import Pool
    from pooling.core.queue import Waiter


class State(enum.Enum):
    """Where a connection is in its life."""

    CONNECTING = "connecting"
    """A worker opens, tests or cleans it; no other thread touches it."""
    IDLE = "idle"
    LEASED = "leased"
    CLOSED = "closed"
    """The pool no longer counts it; a worker closes it or has closed it."""


LEASED = State.LEASED
"""Used by every acquire and release: a global is cheaper than the attribute of the class."""


class DiscardReason(enum.StrEnum):
    """Why a connection was thrown away."""

    RECYCLED = "recycled"
    """It reached the age `recycle`."""
    IDLE = "idle"
    """It was not needed for `max_idle`."""
    BROKEN = "broken"
    """A test or its reset failed, or its holder discarded it."""
    USED_UP = "used_up"
    """It had `max_uses` leases."""
    DRAINED = "drained"
    """It is older than the last `drain`."""
    SURPLUS = "surplus"
    """The pool was made smaller by `resize`."""
    BUDGET = "budget"
    """Another process needed it more; see the option `budget`."""
    CLOSED = "closed"
    """The pool was closed."""
    LEAKED = "leaked"
    """Its holder ended without releasing it, and it could not be cleaned."""


class PooledConnection(Generic[C]):
    """The pool's record of one physical connection.

    All attributes are changed under the pool's lock by its state, except for `uses` and `context`,
    which belong to the holder of the lease.
    """

    __slots__ = (
        "connection",
        "context",
        "expires_at",
        "generation",
        "idle_since",
        "leak_reported",
        "note",
        "owner",
        "pin",
        "ping_due_at",
        "since",
        "stack",
        "state",
        "thread",
        "thread_bound",
        "uses",
    )

    connection: C
    """The driver's own object; the attribute does not exist before the connection is open."""

    def __init__(self, generation: int, now: float) -> None:
        self.state = State.CONNECTING
        self.generation = generation
        """How often the pool had been drained when it was opened; less than now means outdated."""
        self.since = now
        """When it came into its present state (the pool's clock)."""
        self.idle_since = now
        """Since when it was free before the present look at the budget, which is no use."""
        self.ping_due_at = now
        """Until when it may be used with the free liveness test alone."""
        self.expires_at = float("inf")
        """When it reaches its `recycle` age."""
        self.uses = 0
        """How many leases reached their caller."""
        self.owner: object = None
        """The one owner: a lease (a weak reference to it, dead when it was garbage-collected), a
        task (its number), `ABANDONED`, or the pool itself (None). A stale handle is recognised by
        the owner being another one."""
        self.thread: threading.Thread | None = None
        """The thread of the current lease, kept while a lost one is recovered. The object, since
        thread idents are used again."""
        self.thread_bound = False
        self.note: str | None = None
        self.stack: StackSummary | None = None
        self.leak_reported: object = None
        """The owner whose lease was reported as a leak, if one was."""
        self.pin: tuple[object, str] | None = None
        """The owner whose lease is pinned, with the reason."""
        self.context: Any = None
        """What the pool's user wants to remember of this physical connection."""


def _no_lease() -> None:
    """Return what a reference to a lost lease returns."""


ABANDONED = _no_lease
"""Sentinel owner of an abandoned connection; housekeeping recovers it."""


class Lease(Generic[C]):
    """A caller's right to one connection; a context manager that returns the raw connection.

    A lease belongs to its caller from `acquire` to `release`. If the caller loses it, the pool sees
    that it was garbage-collected and takes the connection back: late, but nothing is lost. It has
    no finaliser: that could be interrupted, and could run in a thread that holds the pool's lock.
    """

    __slots__ = (
        "__weakref__",
        "_note",
        "_owned",
        "_pool",
        "_reference",
        "_stack",
        "_thread",
        "_thread_bound",
        "_waiter",
    )

    def __init__(self, pool: Pool[C], thread_bound: bool = False, note: str | None = None) -> None:
        # What the caller asked for stays here for as long as it waits: the queue needs no other
        # object to know it.
        self._pool = pool
        self._thread = current_thread()
        self._thread_bound = thread_bound
        self._note = note
        self._stack: StackSummary | None = None
        """Where it was acquired, when `leak_after` asks for it."""
        self._owned: PooledConnection[C] | None = None
        """What the lease owns, as long as `_reference` is the owner there."""
        self._reference = ref(self)
        self._waiter: Waiter[C] | None = None
        """Its place in the pool's queue, while it has one."""

    @property
    def _current(self) -> bool:
        """Whether the lease has begun and is not over."""
        record = self._owned
        return record is not None and record.owner is self._reference

    @property
    def _record(self) -> PooledConnection[C]:
        """The pool's record of the leased connection; raises `LeaseError` when it is over."""
        record = self._owned
        if record is None or record.owner is not self._reference:
            raise self._over()
        return record

    def _over(self) -> LeaseError:
        return LeaseError(
            f"pool {self._pool.name!r}: this lease is over; acquire a new one for more work"
        )

    @property
    def connection(self) -> C:
        """The driver's own connection object, until the lease ends. Does not block.

        Raises:
            LeaseError: the lease is over.
        """
        record = self._owned
        if record is None or record.owner is not self._reference:
            raise self._over()
        return record.connection

    def release(self) -> None:
        """Give the connection back; see `Pool.release` for what blocks.

        Raises:
            LeaseError: the lease is over.
        """
        self._pool.release(self)

    def discard(self) -> None:
        """Give the connection up as broken; it is closed in the background. Does not block.

        Raises:
            LeaseError: the lease is over.
        """
        self._pool.discard(self)

    def __enter__(self) -> C:
        return self.connection

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._current:  # the block may have released or discarded it
            self.release()

    def __repr__(self) -> str:
        return f"<Lease of pool {self._pool.name!r}: {'current' if self._current else 'over'}>"
