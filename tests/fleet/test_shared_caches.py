"""Real Redis and Memcached between processes: many of them, and a cache that fails them.

Scenario 74.
"""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches

from pooling.core.config import PoolConfig
from pooling.fleet.aggregate import aggregate
from pooling.fleet.cache_store import CacheStore
from pooling.fleet.options import FleetOptions
from tests.fleet.conftest import FAST
from tests.fleet.members import Member
from tests.fleet.test_processes import TOTALS
from tests.metrics.samples import pool, process
from tests.support.cache_servers import SERVERS, CacheServer
from tests.support.databases import eventually
from tests.support.freezing import suspended

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.conf import LazySettings

    from tests.conftest import DatabaseSettings

PROCESSES = 200
PROBLEM = "fleet.read_all().problem"
HANGING = "__import__('pooling.fleet.cache_store').fleet.cache_store.CALLS.running"
"""The calls of readers that have not come back."""


@pytest.fixture(scope="module", params=SERVERS, ids=lambda server: server.program)
def server(request: pytest.FixtureRequest) -> Iterator[CacheServer]:
    if reason := request.param.missing():
        pytest.skip(reason)
    with request.param() as server:
        yield server


def caches(server: CacheServer) -> dict[str, Any]:
    """Return `CACHES`; pymemcache leaves a server alone for a minute after a failure, usually."""
    options = {"dead_timeout": 0.2} if server.package == "pymemcache" else {}
    return {"default": {**server.caches, "OPTIONS": options}}


@pytest.fixture
def members(server: CacheServer, database_settings: DatabaseSettings) -> Iterator[list[Member]]:
    """Two processes on one database, and one of another project with keys of its own."""
    server.empty()
    entry = database_settings("pooling.backends.sqlite3", OPTIONS={"pool": {"max_size": 2}})
    prefixes = ("shop", "shop", "another-project")
    options = [{**FAST, "prefix": prefix} for prefix in prefixes]
    members = [Member(entry, caches(server), each) for each in options]
    for member in members:
        member.use()
    wait_for(members)
    yield members
    for member in members:
        member.end()


def wait_for(members: list[Member]) -> None:
    """Wait until the first two see each other, and nobody else."""
    first, second, alone = members
    for member in (first, second):
        eventually(lambda member=member: member.sees() == {first.pid, second.pid})
    eventually(lambda: alone.sees() == {alone.pid})


def test_processes_meet_in_it_and_those_of_another_prefix_do_not(members: list[Member]) -> None:
    first, second, alone = members
    first.ask("fleet.send('resize', 'default', max_size=7)")
    eventually(lambda: second.ask("get_pool().config.max_size") == 7)
    assert alone.ask("get_pool().config.max_size") == 2
    assert [member.ask(PROBLEM) for member in members] == [None, None, None]


def test_a_cache_that_was_emptied_is_filled_again(
    members: list[Member], server: CacheServer
) -> None:
    first, second, _ = members
    for _ in range(3):
        second.use()
    before = first.ask(TOTALS)["acquired"]
    server.empty()
    wait_for(members)
    eventually(lambda: first.ask(TOTALS)["acquired"] >= before)


def test_leases_do_not_wait_for_a_cache_that_hangs(
    members: list[Member], server: CacheServer
) -> None:
    first, second, _ = members
    with suspended(server.pid):
        for member in members:
            member.use()
        assert "did not answer" in first.ask(PROBLEM)
        [seen] = first.ask("fleet.processes()")
        assert seen["pid"] == first.pid
        for member in members:
            member.use()
        assert first.ask(f"len({HANGING})") == 2
        assert second.end() == "", "nor does the end of a process"
    eventually(lambda: first.sees() == {first.pid})
    assert first.ask(PROBLEM) is None
    assert first.ask(f"len({HANGING})") == 0


def test_a_cache_that_is_away_is_said_and_comes_back(
    members: list[Member], server: CacheServer
) -> None:
    first = members[0]
    server.end()
    try:
        problem = eventually(lambda: first.ask(PROBLEM))
        assert problem.startswith("the cache failed: ")
        assert first.sees() == {first.pid}
        for member in members:
            member.use()
    finally:
        server.start()
    wait_for(members)
    eventually(lambda: first.ask(PROBLEM) is None)


def test_two_hundred_processes(server: CacheServer, settings: LazySettings) -> None:
    """All begin at the same moment, so their entries in the index overwrite each other's."""
    server.empty()
    settings.CACHES = caches(server)
    # Not by the settings: this process would publish under that prefix, too.
    options = FleetOptions(prefix="many")
    shown = {**pool("default", acquired=3), "options": dataclasses.asdict(PoolConfig())}
    now = time.time()
    entries = [
        {**process(shown), "id": f"p{number}", "pid": number, "time": now}
        for number in range(PROCESSES)
    ]

    def publish(entry: dict[str, Any]) -> None:
        CacheStore(options).publish(entry)
        django_caches.close_all()  # the thread's own

    store = CacheStore(options)
    with ThreadPoolExecutor(16) as executor:
        for _ in range(50):  # every two seconds, in a process
            list(executor.map(publish, entries))
            if len(store.read()) == PROCESSES:
                break
    store.roll_archive([])
    found, archive, _ = store.read_all()
    assert {each["id"] for each in found} == {entry["id"] for entry in entries}
    [seen] = aggregate(found, archive)
    django_caches.close_all()
    assert seen["stats"]["acquired"] == 3 * PROCESSES
