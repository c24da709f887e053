"""How many connections a contender opens, as counted by the server and not by the contender."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError

from .measurements import ConnectionCounts
from .polling import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable


class ConnectionCounter:
    """Reads the server's statistics: `pg_stat_database` and `pg_stat_activity`.

    The total is exact. The peak is what was sampled: every 20 ms during the trials, and at the end
    of each, when a pool still holds what it has opened. A session that was closed a moment ago may
    still be there, as it is for the server.

    Args:
        execute: runs a query in another database, so that the questions do not count.
        database: the database whose connections are counted.
    """

    def __init__(self, execute: Callable[..., list[tuple[Any, ...]]], database: str) -> None:
        self._execute, self._database = execute, database
        self._before = self._peak = 0

    def begin(self) -> None:
        """Begin to count. No connection is open."""
        wait_until(lambda: self._count() == 0)
        self._before, self._peak = self._sessions(), 0

    def end(self) -> ConnectionCounts:
        """Return the counts since the beginning. All connections have to be closed by now."""
        # A session reports its last numbers before it disappears from the activity.
        wait_until(lambda: self._count() == 0)
        opened = self._sessions() - self._before
        # All may have come and gone between two samples.
        return ConnectionCounts(opened, max(self._peak, min(opened, 1)))

    def sample(self) -> None:
        """Count the connections that are open now, if the server answers."""
        with suppress(DatabaseError):  # the contenders meet it, too, and report it
            self._count()

    def _count(self) -> int:
        query = "count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname"
        now = self._number(query)
        self._peak = max(self._peak, now)
        return now

    def _sessions(self) -> int:
        return self._number("sessions FROM pg_stat_database WHERE datname")

    def _number(self, query: str) -> int:
        [[number]] = self._execute(f"SELECT {query} = %s", self._database)
        return int(number)
