"""The pool's record of one physical connection, and the lease of it that a caller holds."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Generic

from pooling.core.driver import C
from pooling.core.errors import LeaseError

if TYPE_CHECKING:
    import threading
    from traceback import StackSummary
    from types import TracebackType
    from weakref import ref

    from pooling.core.pool import Pool
    from pooling.core.waiter import Waiter


class State(enum.Enum):
    """Where a connection is in its life."""

    CONNECTING = "connecting"
    """A worker opens it, or tests or cleans it before it may be used; nobody else touches it."""
    IDLE = "idle"
    LEASED = "leased"
    CLOSED = "closed"
    """It is out of the pool's state; a worker closes it, or has done so."""


LEASED = State.LEASED
"""Every acquire and release asks for this one, and looking it up in the class takes its time."""


class DiscardReason(enum.StrEnum):
    """Why a connection was thrown away."""

    RECYCLED = "recycled"
    """It reached the age `recycle`."""
    IDLE = "idle"
    """Nobody needed it for `max_idle`."""
    BROKEN = "broken"
    """It failed a test or its reset, or its holder said so."""
    USED_UP = "used_up"
    """It had `max_uses` leases."""
    DRAINED = "drained"
    """It is older than the last `drain`."""
    SURPLUS = "surplus"
    """The pool was made smaller by `resize`."""
    CLOSED = "closed"
    """The pool was closed."""
    LEAKED = "leaked"
    """Its holder went away without giving it back, and it could not be cleaned."""


class PooledConnection(Generic[C]):
    """One physical connection as the pool knows it.

    All attributes are the pool's, changed under its lock, except for `uses`, `stack`,
    `leak_reported` and `context`: those belong to whoever holds the connection.
    """

    __slots__ = (
        "connection",
        "context",
        "expires_at",
        "generation",
        "leak_reported",
        "note",
        "owner",
        "ping_due_at",
        "since",
        "stack",
        "state",
        "thread",
        "thread_bound",
        "uses",
    )

    connection: C
    """The driver's own object; the attribute is not there before the connection is open."""

    def __init__(self, generation: int, now: float) -> None:
        self.state = State.CONNECTING
        self.generation = generation
        """Which `drain` of the pool it has seen; older than the pool's own means outdated."""
        self.since = now
        """When it came into its present state (the pool's clock)."""
        self.ping_due_at = now
        """Until when it may be used without a test, apart from the free one of its socket."""
        self.expires_at = float("inf")
        """When `recycle` is over for it."""
        self.uses = 0
        """How many leases reached their caller."""
        self.owner: object = None
        """Whose it is: a lease's (a reference to it, which is dead when nobody has the lease any
        more), an task's (its number), or the state' (None). Whoever has a stale handle sees that
        the owner is another."""
        self.thread: threading.Thread | None = None
        """Who holds it. The object, since thread idents are used again after a thread's end."""
        self.thread_bound = False
        self.note: str | None = None
        """What the current lease was acquired for, in its caller's words."""
        self.stack: StackSummary | None = None
        """Where the current lease was acquired, when `leak_after` asks for it."""
        self.leak_reported = False
        self.context: Any = None
        """What the pool's user wants to remember of this physical connection."""


class Lease(Generic[C]):
    """One caller's turn with one connection; a context manager that gives the raw connection.

    A lease belongs to its caller from `acquire` to `release`. When the caller loses it, the pool
    sees that it was garbage-collected and takes the connection back: late, but nothing is lost. It
    has no finaliser: that could be interrupted, and run in a thread that has the pool's lock.
    """

    __slots__ = ("__weakref__", "owned", "pool", "reference", "waiter")

    def __init__(self, pool: Pool[C]) -> None:
        self.owned: PooledConnection[C] | None = None
        """What the lease owns, as long as `reference` is the owner there. The pool's business."""
        self.reference: ref[Lease[C]] | None = None
        self.pool = pool
        self.waiter: Waiter[C] | None = None
        """Where this lease stands in the pool's queue, while it does."""

    @property
    def current(self) -> bool:
        """Whether the lease has begun and is not over."""
        record = self.owned
        return record is not None and record.owner is self.reference

    @property
    def record(self) -> PooledConnection[C]:
        """The pool's record of the leased connection.

        Raises:
            LeaseError: when the lease is over.
        """
        record = self.owned
        if record is None or record.owner is not self.reference:
            raise self.over()
        return record

    def over(self) -> LeaseError:
        """Return the error for who uses the lease after its end."""
        return LeaseError(
            f"pool {self.pool.name!r}: this lease is over; acquire a new one for more work"
        )

    @property
    def connection(self) -> C:
        """The driver's own connection object, until the lease ends.

        Raises:
            LeaseError: when the lease is over.
        """
        record = self.owned
        if record is None or record.owner is not self.reference:
            raise self.over()
        return record.connection

    def release(self) -> None:
        """Give the connection back; see `Pool.release`."""
        self.pool.release(self)

    def discard(self) -> None:
        """Give the connection up as broken; see `Pool.discard`."""
        self.pool.discard(self)

    def __enter__(self) -> C:
        return self.connection

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Lease of pool {self.pool.name!r}: {'current' if self.current else 'over'}>"
