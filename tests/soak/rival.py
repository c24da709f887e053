# ruff: noqa: T201 - it reports on stdout
"""A process that shares the budget of a run: threads lease and release until stdin is closed.

It is started with its entry for `DATABASES` in the environment, and writes what it has done as a
line of JSON now and then, and at its end. A line on its stdin tells that no faults come any more.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import threading
from contextlib import suppress

from tests.support.servers import choose_driver

THREADS = 3
REPORT_EVERY = 0.3
LEASES, PAUSED = 15, 1.5
"""How many leases a thread wants in a row, and for how many seconds none after that, at most."""
HELD = 0.1
"""Seconds for which it has one, at most: it competes for connections rather than for processors."""


class RivalLoad:
    """Threads that lease one connection each, again and again, and look at its slot."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.calm = threading.Event()
        self.over = threading.Event()
        self.leases = self.leases_in_calm = self.failed = 0
        self.problems: list[str] = []
        self.threads = [threading.Thread(target=self._run) for _ in range(THREADS)]

    def _run(self) -> None:
        from django.db import DatabaseError

        while not self.over.wait(random.random() * PAUSED):
            for _ in range(random.randint(1, LEASES)):
                calm = self.calm.is_set()
                try:
                    self._lease()
                    self.leases += 1
                    self.leases_in_calm += calm
                except DatabaseError as error:
                    self.failed += 1
                    if calm:
                        self.problems.append(f"a rival failed without a fault: {error}")
                if self.over.wait(random.random() * 0.02):
                    return

    def _lease(self) -> None:
        from django.db import DatabaseError, connection

        from tests.soak.slots import own_slots

        try:
            with connection.cursor() as cursor:
                if (count := own_slots(cursor, self.budget)) != 1:
                    self.problems.append(f"a rival's session has {count} slots")
                self.over.wait(random.random() * HELD)
                if random.random() < 0.05:
                    cursor.execute("SELECT pg_advisory_unlock_all()")
        finally:
            with suppress(DatabaseError):
                connection.close()

    def report(self) -> None:
        problems, self.problems = self.problems, []
        counts = [self.leases, self.leases_in_calm, self.failed]
        print(json.dumps([counts, problems]), flush=True)


def main() -> None:
    choose_driver()
    import django
    from django.conf import settings

    entry = json.loads(os.environ["SOAK_DATABASE"])
    settings.configure(DATABASES={"default": entry}, USE_TZ=True)
    django.setup()
    from pooling.registry import REGISTRY

    logging.getLogger("pooling").setLevel(logging.CRITICAL)
    load = RivalLoad(entry["OPTIONS"]["pool"]["budget"])

    def listen() -> None:
        for _ in sys.stdin:
            load.calm.set()
        load.over.set()

    for thread in (*load.threads, threading.Thread(target=listen)):
        thread.start()
    while not load.over.wait(REPORT_EVERY):
        load.report()
    for thread in load.threads:
        thread.join()
    REGISTRY.close_database(str(entry["NAME"]))
    load.report()


if __name__ == "__main__":
    main()
