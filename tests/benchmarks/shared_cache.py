"""What a shared cache costs a fleet: simulated processes that publish to a real Redis or Memcached.

    python -m tests.benchmarks.shared_cache

prints the table of docs/observing.md. Each simulated process does what `pooling.fleet.publisher`
does in each of its cycles, with a snapshot of the size of a busy process's. All of them share this
process's CPU, so the figures are of the work done and the bytes moved, not of waiting.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import json
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import django
from django.conf import settings
from django.core.cache import caches
from django.test import override_settings

from tests.support.cache_servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.cache_servers import CacheServer

FLEETS = (1, 20, 200)
EVERY = 2.0
"""Seconds between two cycles of a process, as by default."""

HOLDERS = 10
"""Leases in each snapshot, with their stacks."""


class Cost(NamedTuple):
    """What a fleet costs."""

    snapshot: int
    """Bytes of a snapshot."""
    processor: float
    """Seconds of CPU of a process per second."""
    sent: float
    """Bytes that a process sends to the cache per second."""
    received: float
    """Bytes that it gets."""
    page: float
    """Seconds of CPU to read everything, as for a page."""


def snapshots(count: int) -> list[dict[str, Any]]:
    """Return those of processes with one pool and `HOLDERS` leases each."""
    from pooling.core.config import PoolConfig
    from pooling.fleet import snapshot
    from pooling.fleet.history import RECENT_SLOTS, SLOT_SECONDS, empty_row
    from tests.metrics.samples import holder, pool

    own = snapshot()
    now = int(time.time() // SLOT_SECONDS)
    stack = "".join(
        f'  File "/srv/shop/views/orders.py", line {line}, in checkout\n' for line in range(40)
    )
    busy = {
        **pool("default", acquired=100_000, connects=12),
        "options": dataclasses.asdict(PoolConfig()),
        "holders": [{**holder("GET /orders/*/", 0.2), "stack": stack} for _ in range(HOLDERS)],
        "recent": [empty_row(slot) for slot in range(now - RECENT_SLOTS, now)],
    }
    return [{**own, "id": f"web1:{pid}:0", "pid": pid, "pools": [busy]} for pid in range(count)]


def measure(server: CacheServer, processes: int, seconds: float) -> Cost:
    """Let so many processes publish for so long."""
    from pooling.fleet.aggregate import aggregate
    from pooling.fleet.archive import roll
    from pooling.fleet.cache_store import CacheStore
    from pooling.fleet.commands import CommandLog
    from pooling.fleet.options import fleet_options

    server.empty()
    entries = snapshots(processes)
    # Another prefix: this process may publish, too.
    options = dataclasses.replace(fleet_options(), prefix="simulated")
    store, log = CacheStore(options), CommandLog()

    def cycle(entry: dict[str, Any]) -> None:
        log.publish(store)
        store.publish({**entry, "time": time.time()})
        store.roll_archive([])

    due = [(EVERY * number / processes, number) for number in range(processes)]
    for _, number in due:
        cycle(entries[number])
    before, processor = server.traffic(), time.thread_time()
    began, cycles = time.monotonic(), 0
    while due[0][0] < seconds:
        at, number = heapq.heappop(due)
        time.sleep(max(began + at - time.monotonic(), 0.0))
        cycle(entries[number])
        heapq.heappush(due, (at + EVERY, number))
        cycles += 1
    processor = time.thread_time() - processor
    total = cycles * EVERY
    sent, received = (after - start for after, start in zip(server.traffic(), before, strict=True))
    page = time.thread_time()
    found, archive, _ = store.read_all()
    assert len(found) == processes
    aggregate(found, roll(archive, found, [], time.time()))
    page = time.thread_time() - page
    caches.close_all()
    return Cost(
        len(json.dumps(entries[0])), processor / total, sent / total, received / total, page
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each fleet")
    parser.add_argument("--processes", type=int, nargs="+", default=FLEETS)
    given = parser.parse_args(arguments)
    if not settings.configured:
        settings.configure(INSTALLED_APPS=["pooling"])
        django.setup()
    write = sys.stdout.write
    write(
        "| cache | processes | a snapshot | CPU of each | sent by each | received by each "
        "| CPU to read all |\n| --- |" + " ---: |" * 6 + "\n"
    )
    for kind in SERVERS:
        if reason := kind.missing():
            write(f"left out: {reason}\n")
            continue
        with kind() as server, override_settings(CACHES={"default": server.caches}):
            for processes in given.processes:
                cost = measure(server, processes, given.seconds)
                write(
                    f"| {kind.title} | {processes} | {cost.snapshot / 1000:.1f} kB "
                    f"| {cost.processor * 1000:.1f} ms/s | {cost.sent / 1000:.1f} kB/s "
                    f"| {cost.received / 1000:.1f} kB/s | {cost.page * 1000:.0f} ms |\n"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
