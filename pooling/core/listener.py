"""Who wants to hear what happens in a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pooling.core.connection import DiscardReason
    from pooling.core.errors import PoolError
    from pooling.core.pool import Pool
    from pooling.core.stats import Holder


class Listener:
    """Told of the rare events of a pool; this one does nothing with them.

    The pool calls these methods without its lock, in the thread where the event came to light: a
    worker, maintenance, or the caller. They should be quick. What they raise is logged and goes no
    further.
    """

    def connection_opened(self, pool: Pool[Any]) -> None:
        """A physical connection was opened."""

    def connection_closed(self, pool: Pool[Any], reason: DiscardReason | None) -> None:
        """A physical connection was closed, for `reason`."""

    def acquire_timed_out(self, pool: Pool[Any], error: PoolError) -> None:
        """A caller waited in vain and is about to get `error`."""

    def lease_leaked(self, pool: Pool[Any], holder: Holder) -> None:
        """A lease is older than `leak_after`; told once for each."""


NULL_LISTENER = Listener()
"""Hears nothing."""
