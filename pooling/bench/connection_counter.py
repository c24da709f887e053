"""How many connections a contender opens, as counted by the server and not by the contender."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError

from .measurements import ConnectionCounts
from .polling import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMPLE_EVERY = 0.02


class Sampler:
    """A thread that samples the sessions of one database at a time.

    The thread and its connection stay: opening one for every trial would be work for the server
    that is being measured.
    """

    def __init__(self, disconnect: Callable[[], None]) -> None:
        self._disconnect = disconnect
        self._counter: ConnectionCounter | None = None
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poolbench-sampler", daemon=True)

    @contextmanager
    def sampling(self, counter: ConnectionCounter) -> Iterator[None]:
        """Let a counter take a sample now and then, until the end of the block."""
        if not self._thread.is_alive():
            self._thread.start()
        self._counter = counter
        self._wake.set()
        try:
            yield
        finally:
            self._counter = None
            self._wake.clear()

    def close(self) -> None:
        """End the thread and its connection."""
        self._closed.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            while self._wake.wait() and not self._closed.wait(SAMPLE_EVERY):
                if (counter := self._counter) is not None:
                    with suppress(DatabaseError):  # the contenders meet it, too, and report it
                        counter.sample()
        finally:
            self._disconnect()


class ConnectionCounter:
    """Reads the server's statistics: `pg_stat_database` and `pg_stat_activity`.

    The total is exact. The peak is what was sampled: every 20 ms during the trials, and at the end
    of each, when a pool still holds what it has opened. A session that was closed a moment ago may
    still be there, as it is for the server.

    Args:
        execute: runs a query in another database, so that the questions do not count.
        database: the database whose connections are counted.
        sampler: takes the samples during the trials.
    """

    def __init__(
        self, execute: Callable[..., list[tuple[Any, ...]]], database: str, sampler: Sampler
    ) -> None:
        self._execute, self._database, self._sampler = execute, database, sampler
        self._before = self._peak = 0

    def begin(self) -> None:
        """Begin to count. No connection is open."""
        wait_until(lambda: self.sample() == 0)
        self._before, self._peak = self._sessions(), 0

    def end(self) -> ConnectionCounts:
        """Return the counts since the beginning. All connections have to be closed by now."""
        # A session reports its last numbers before it disappears from the activity.
        wait_until(lambda: self.sample() == 0)
        opened = self._sessions() - self._before
        # All may have come and gone between two samples.
        return ConnectionCounts(opened, max(self._peak, min(opened, 1)))

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Enclose a trial: connections are open during trials only."""
        with self._sampler.sampling(self):
            yield
        self.sample()

    def sample(self) -> int:
        """Return how many connections are open now, and keep the highest number."""
        query = "count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname"
        now = self._number(query)
        self._peak = max(self._peak, now)
        return now

    def _sessions(self) -> int:
        return self._number("sessions FROM pg_stat_database WHERE datname")

    def _number(self, query: str) -> int:
        [[number]] = self._execute(f"SELECT {query} = %s", self._database)
        return int(number)
