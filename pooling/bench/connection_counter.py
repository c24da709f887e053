"""How many connections a contender opens, as counted by the server and not by the contender."""

from __future__ import annotations

import threading
import time
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
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def sampling(self, counter: ConnectionCounter) -> Iterator[None]:
        """Let a counter take a sample now and then, until the end of the block."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="poolbench-sampler", daemon=True)
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
        thread, self._thread = self._thread, None
        if thread is not None:
            self._closed = True
            self._wake.set()
            if thread.is_alive():  # an interrupt may have come before it was started
                thread.join()

    def _run(self) -> None:
        try:
            while self._wake.wait() and not self._closed:
                time.sleep(SAMPLE_EVERY)
                if (counter := self._counter) is not None:
                    with suppress(DatabaseError):  # the contenders meet it, too, and report it
                        counter.sample()
        finally:
            self._disconnect()


class ConnectionCounter:
    """Reads the server's statistics: `pg_stat_database` for the total, `pg_stat_activity` for the
    peak.

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
        self._execute = execute
        self._sampler = sampler
        self._database = database
        self._before = 0
        self._peak = 0

    def begin(self) -> None:
        """Begin to count. No connection is open."""
        wait_until(lambda: self.sample() == 0)
        self._before = self._sessions()
        self._peak = 0

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
        [[now]] = self._execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = %s AND backend_type = 'client backend'",
            self._database,
        )
        self._peak = max(self._peak, now)
        return int(now)

    def _sessions(self) -> int:
        [[sessions]] = self._execute(
            "SELECT sessions FROM pg_stat_database WHERE datname = %s", self._database
        )
        return int(sessions)
