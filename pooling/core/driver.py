"""The driver interface: the only seam between a pool and a database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from pooling.core.budget import Probe

C = TypeVar("C")


class Driver(Protocol[C]):
    """Open, test, clean and close connections of one kind to one place.

    The pool calls these methods from several threads at once, always without holding its lock, and
    never two of them at the same time for the same connection. A driver holds frozen parameters,
    since it outlives the thread that made it.
    """

    operational_error: type[Exception]
    """The driver's `OperationalError` (PEP 249), which the pool's own errors subclass too."""

    def connect(self) -> C:
        """Open a connection and set up its session, once and for all. Blocks; may raise anything.

        It must time out by itself: nothing else can end it.
        """
        ...

    def is_alive(self, connection: C) -> bool:
        """Tell without a round trip whether an idle connection may be used as it is.

        Called before every lease, so it must cost about a microsecond. `False` means "look
        closer": the pool will `ping` the connection, not throw it away.
        """
        ...

    def ping(self, connection: C) -> None:
        """Make one round trip; raise if the connection does not work. Blocks."""
        ...

    def reset(self, connection: C) -> None:
        """Clean the connection for its next lease. If this raises, the connection is discarded.

        Called on every release; it should make no round trip when there is nothing to undo.
        """
        ...

    def close(self, connection: C) -> None:
        """Close the connection. Errors are logged and otherwise ignored. May block."""
        ...

    def is_transient(self, error: BaseException) -> bool:
        """Tell whether a failed `connect` is worth another try in a moment.

        A server that restarts is; a wrong password is not.
        """
        ...


class BudgetedDriver(Driver[C], Protocol):
    """A driver for the option `budget`: its `connect` may raise `BudgetExhausted`."""

    def probe(self, connection: C, *, in_demand: bool) -> Probe:
        """Look whether other processes need this process's connections. Blocks; may raise.

        Args:
            in_demand: whether callers wait for the connection.
        """
        ...
