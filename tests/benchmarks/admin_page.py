"""What a refresh of the admin page costs the server, with many processes and a day of history.

    python -m tests.benchmarks.admin_page

prints the median of the time in which the view of the page's numbers, the one that the page fetches
every two seconds, and the data of its graphs are answered; the processes are simulated, in a real
Redis or Memcached.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import django

from tests.benchmarks.shared_cache import snapshots
from tests.support.cache_servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.test import Client


def fill(processes: int) -> None:
    """Write the snapshots of so many processes, and a day of their pool's history."""
    from pooling.fleet.archive import TIERS, new_archive, roll
    from pooling.fleet.cache_store import CacheStore
    from pooling.fleet.history import empty_row
    from pooling.fleet.options import fleet_options

    store, entries, now = CacheStore(fleet_options()), snapshots(processes), time.time()
    for entry in entries:
        store.publish({**entry, "time": now})
    archive = roll(new_archive(), entries, [], now)
    for pool in archive["pools"].values():
        for tier, (seconds, most) in TIERS.items():
            slot = int(now // seconds)
            pool["tiers"][tier] = [
                [*empty_row(number)[:-1], {"3": 40, "17": 5}] for number in range(slot - most, slot)
            ]
    store._set_archive(archive)


def log_in() -> Client:
    """Return a client of somebody who may see the page."""
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    call_command("migrate", verbosity=0)
    users: Any = get_user_model()
    user = users.objects.create_superuser("benchmark", "benchmark@example.com", "benchmark")
    client = Client()
    client.force_login(user)
    return client


def seconds(client: Client, url: str, times: int) -> float:
    """Return the median of how long an answer takes, the first one left out."""
    found = []
    for _ in range(times + 1):
        began = time.perf_counter()
        assert client.get(url).status_code == 200
        found.append(time.perf_counter() - began)
    return median(found[1:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--times", type=int, default=20)
    given = parser.parse_args(arguments)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    from django.core.cache import caches
    from django.test import override_settings
    from django.test.utils import setup_test_environment
    from django.urls import reverse

    setup_test_environment()
    client = log_in()
    live, history = (
        reverse(f"admin:pooling_connectionpool_{name}") for name in ("live", "history")
    )
    urls = (live, f"{history}?range=600")
    write = sys.stdout.write
    write("| cache | processes | numbers | graphs of a day |\n| --- |" + " ---: |" * 3 + "\n")
    for kind in SERVERS:
        if reason := kind.missing():
            write(f"left out: {reason}\n")
            continue
        with kind() as server, override_settings(CACHES={"default": server.caches}):
            fill(given.processes)
            shown = f"{given.processes + 1} processes on 1 host"  # with this one
            assert shown in client.get(live).content.decode()
            numbers, day = (seconds(client, url, given.times) for url in urls)
            caches.close_all()
        times = f"{numbers * 1000:.0f} ms | {day * 1000:.0f} ms"
        write(f"| {kind.title} | {given.processes} | {times} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
