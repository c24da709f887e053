"""How many connections a contender makes, as counted by the server and not by the contender."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from django.db import DatabaseError

from .measurements import Opened
from .polling import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .databases import PostgresArena

SAMPLE_EVERY = 0.02


class Lookout:
    """A thread that looks at what is going on, at one database at a time.

    It stays, as its connection does: opening one for every turn would be work for the server that
    is being measured.
    """

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._watched: PostgresCensus | None = None
        self._wake = threading.Event()
        self._over = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, census: PostgresCensus) -> Iterator[None]:
        """Look at a census's database now and then, until the end of the block."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._watch, name="poolbench-lookout", daemon=True
            )
            self._thread.start()
        self._watched = census
        self._wake.set()
        try:
            yield
        finally:
            self._watched = None
            self._wake.clear()

    def close(self) -> None:
        """End the thread and its connection."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._over = True
            self._wake.set()
            if thread.is_alive():  # an interrupt may have come before it was started
                thread.join()

    def _watch(self) -> None:
        try:
            while self._wake.wait() and not self._over:
                time.sleep(SAMPLE_EVERY)
                if (census := self._watched) is not None:
                    with suppress(DatabaseError):  # the others see it, too, and say so
                        census.look()
        finally:
            self._leave()


class PostgresCensus:
    """Reads the server's books: `pg_stat_database` for the total, `pg_stat_activity` for the peak.

    The total is exact. The peak is what was seen: by looking every 20 ms during the turns, and at
    the end of each, when a pool still holds what it has opened. A session that has been closed a
    moment ago may still be there, as it is for the server.

    Args:
        arena: where to ask; from a database of its own, so that the questions do not count.
        database: the database whose connections are counted.
        lookout: who looks during the turns.
    """

    def __init__(self, arena: PostgresArena, database: str, lookout: Lookout) -> None:
        self._arena = arena
        self._lookout = lookout
        self._database = database
        self._before = 0
        self._peak = 0

    def begin(self) -> None:
        """Begin to count. Nobody is connected."""
        wait_until(lambda: self.look() == 0)
        self._before = self._sessions()
        self._peak = 0

    def end(self) -> Opened:
        """Return the counts since the beginning. All connections have to be closed by now."""
        # A session enters its last numbers into the books before it disappears from the activity.
        wait_until(lambda: self.look() == 0)
        opened = self._sessions() - self._before
        # All may have come and gone between two looks.
        return Opened(opened, max(self._peak, min(opened, 1)))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Enclose the contender's turns; outside of them there is nothing to see."""
        with self._lookout.watching(self):
            yield
        self.look()

    def look(self) -> int:
        """Return how many are connected now, and keep the highest number."""
        [[now]] = self._arena.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = %s AND backend_type = 'client backend'",
            self._database,
        )
        self._peak = max(self._peak, now)
        return int(now)

    def _sessions(self) -> int:
        [[sessions]] = self._arena.execute(
            "SELECT sessions FROM pg_stat_database WHERE datname = %s", self._database
        )
        return int(sessions)
