"""How many connections a contender makes, as counted by the database and not by the contender."""

from __future__ import annotations

import sqlite3
import threading
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from .arenas import PostgresArena

SAMPLE_EVERY = 0.02


class Census(ABC):
    """Counts the connections to one database while it is entered.

    Attributes:
        opened: connections made, in total; final when the census has ended.
        peak: the most that were open at the same time.
    """

    def __init__(self) -> None:
        self.opened = 0
        self.peak = 0

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the final count. All connections have to be closed by now."""

    def instrument(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the contender's settings with what the counting needs."""
        return settings

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Enclose the contender's turns; outside of them there is nothing to see."""
        yield


class SqliteCensus(Census):
    """Counts with a connection class of its own: SQLite keeps no books. Exact.

    Args:
        base: the class that the settings ask for.
    """

    def __init__(self, base: type[sqlite3.Connection] = sqlite3.Connection) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._open = 0
        census = self

        class CountedConnection(base):  # type: ignore[misc, valid-type]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self._counted = True
                census._count(1)

            def close(self) -> None:
                super().close()
                if self._counted:
                    self._counted = False
                    census._count(-1)

        self._factory = CountedConnection

    def instrument(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {**settings, "OPTIONS": {**settings["OPTIONS"], "factory": self._factory}}

    def _count(self, change: int) -> None:
        with self._lock:
            self._open += change
            self.opened += change > 0
            self.peak = max(self.peak, self._open)

    def __exit__(self, *exception: object) -> None:
        # A pool may close connections in a thread of its own; before that their file has to stay.
        wait_until(lambda: self._open == 0)


class PostgresCensus(Census):
    """Reads the server's books: `pg_stat_database` for the total, `pg_stat_activity` for the peak.

    The total is exact. The peak is what was seen: by looking every 20 ms during the turns, and at
    the end of each, when a pool still holds what it has opened. A session that has been closed a
    moment ago may still be there, as it is for the server.

    Args:
        arena: where to ask; from a database of its own, so that the questions do not count.
        database: the database whose connections are counted. One session, which made the table,
            came before and is not counted.
    """

    EARLIER_SESSIONS = 1

    def __init__(self, arena: PostgresArena, database: str) -> None:
        super().__init__()
        self._arena = arena
        self._database = database

    @contextmanager
    def turn(self) -> Iterator[None]:
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over,), name="poolbench-census")
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        self._look()

    def _watch(self, over: threading.Event) -> None:
        try:
            while not over.wait(SAMPLE_EVERY):
                self._look()
        finally:
            self._arena.close()

    def _look(self) -> int:
        [[now]] = self._arena.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = %s AND backend_type = 'client backend'",
            self._database,
        )
        self.peak = max(self.peak, now)
        return int(now)

    def __exit__(self, *exception: object) -> None:
        # A session enters its last numbers into the books before it disappears from the activity.
        wait_until(lambda: self._look() == 0)
        [[sessions]] = self._arena.execute(
            "SELECT sessions FROM pg_stat_database WHERE datname = %s", self._database
        )
        self.opened = sessions - self.EARLIER_SESSIONS
        self.peak = max(self.peak, min(self.opened, 1))  # all may have come and gone between looks
