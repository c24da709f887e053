"""Django signals for the rare events of the pools: opened, closed, timed out, leaked.

They are sent by `Pool` as `sender`, with the pool as `pool`, in the thread where the event came to
light: a worker, the maintenance thread, or the caller that timed out. What a receiver raises is
logged by Django (logger `django.dispatch`) and goes no further. A receiver should be quick, and
must not use the database of that pool, since it could wait for the very event it reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.dispatch import Signal

from pooling.core.listener import Listener

if TYPE_CHECKING:
    from pooling.core.connection import DiscardReason
    from pooling.core.errors import PoolError
    from pooling.core.pool import Pool
    from pooling.core.stats import Holder

connection_opened = Signal()
"""A physical connection was opened. Arguments: `pool`."""

connection_closed = Signal()
"""A physical connection was closed. Arguments: `pool`; `reason`, a `DiscardReason` or None."""

acquire_timed_out = Signal()
"""An acquire timed out. Arguments: `pool`; `error`, the `PoolTimeout` it is about to raise."""

lease_leaked = Signal()
"""A lease is older than `leak_after`; sent once for each. Arguments: `pool`; `holder`."""


class SignalListener(Listener):
    """Sends the signals. It has no state, so one serves all pools."""

    def connection_opened(self, pool: Pool[Any]) -> None:
        """Send `connection_opened`."""
        connection_opened.send_robust(type(pool), pool=pool)

    def connection_closed(self, pool: Pool[Any], reason: DiscardReason | None) -> None:
        """Send `connection_closed`."""
        connection_closed.send_robust(type(pool), pool=pool, reason=reason)

    def acquire_timed_out(self, pool: Pool[Any], error: PoolError) -> None:
        """Send `acquire_timed_out`."""
        acquire_timed_out.send_robust(type(pool), pool=pool, error=error)

    def lease_leaked(self, pool: Pool[Any], holder: Holder) -> None:
        """Send `lease_leaked`."""
        lease_leaked.send_robust(type(pool), pool=pool, holder=holder)
