"""The listener interface: notifications of a pool's rare events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pooling.core.connection import DiscardReason
    from pooling.core.errors import PoolError
    from pooling.core.pool import Pool
    from pooling.core.stats import Holder


class Listener:
    """Receives the rare events of a pool; this one ignores them.

    The pool calls these methods without its lock, in the thread that noticed the event: a worker,
    the scheduler's, or the caller's. They should be quick. Their errors are logged and go no
    further.
    """

    def connection_opened(self, pool: Pool[Any]) -> None:
        """A physical connection was opened."""

    def connection_closed(self, pool: Pool[Any], reason: DiscardReason | None) -> None:
        """A physical connection was closed, for `reason`."""

    def acquire_timed_out(self, pool: Pool[Any], error: PoolError) -> None:
        """A caller timed out and is about to get `error`."""

    def lease_leaked(self, pool: Pool[Any], holder: Holder) -> None:
        """A lease is older than `leak_after`; called once for each lease."""


NULL_LISTENER = Listener()
"""Ignores every event."""
