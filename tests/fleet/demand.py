"""Threads of a process that use its pool, as requests do."""

from __future__ import annotations

import threading
import time
from typing import Any

from django.db import OperationalError, connection


class Demand:
    """So many threads, each of which leases a connection again and again.

    Args:
        threads: how many.
        hold: seconds for which each lease lasts on the server.
    """

    def __init__(self, threads: int, hold: float = 0.02) -> None:
        self.hold = hold
        self.served = 0
        self.failures: list[str] = []
        self.longest = 0.0
        """Seconds that one has waited at most, its lease included."""
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            begin = time.monotonic()
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_sleep(%s)", [self.hold])
                self.served += 1
            except OperationalError as error:
                self.failures.append(str(error))
            finally:
                connection.close()
            self.longest = max(self.longest, time.monotonic() - begin)

    def stop(self) -> dict[str, Any]:
        """End the threads, and return what they have seen."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        return {"served": self.served, "failures": self.failures, "longest": self.longest}
