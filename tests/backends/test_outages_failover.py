"""Fail-over: the server that answers is another one, and may be read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import Error, InternalError

from pooling import DiscardReason
from tests.support.databases import PATIENCE, PostgresDatabase, eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.faulty_servers import Standby, primary_and_standby
from tests.support.servers import execute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import DatabaseSettings
    from tests.support.postgres import PrivatePostgres

READ_ONLY = "25006"


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[PrivatePostgres, Standby]]:
    """A primary and its standby; whoever promotes the standby comes last."""
    with primary_and_standby() as (primary, standby):
        execute(primary.url, "CREATE TABLE visits (id serial)")
        standby.wait_for(primary)
        yield primary, standby


@pytest.fixture
def primary(pair: tuple[PrivatePostgres, Standby]) -> PrivatePostgres:
    return pair[0]


@pytest.fixture
def standby(pair: tuple[PrivatePostgres, Standby]) -> Standby:
    return pair[1]


@pytest.fixture
def endpoint(primary: PrivatePostgres) -> Iterator[FaultProxy]:
    """The address that leads to the primary, whichever server that is."""
    with FaultProxy(primary.host, primary.port) as proxy:
        yield proxy


@pytest.fixture
def clustered(
    primary: PrivatePostgres, endpoint: FaultProxy, database_settings: DatabaseSettings
) -> Iterator[PostgresDatabase]:
    """The cluster's database, by way of its endpoint."""
    settings = primary.database_settings("pooling.backends.postgresql")
    settings.update(HOST=endpoint.host, PORT=str(endpoint.port))
    database = PostgresDatabase(database_settings(settings.pop("ENGINE"), **settings), primary.url)
    yield database
    database.close()


def read(wrapper: Any) -> int:
    """Make a request that reads."""
    try:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM visits")
            return cursor.fetchone()[0]
    finally:
        wrapper.close()


def write(wrapper: Any) -> int:
    """Make a request that writes."""
    try:
        with wrapper.cursor() as cursor:
            cursor.execute("INSERT INTO visits DEFAULT VALUES RETURNING id")
            return cursor.fetchone()[0]
    finally:
        wrapper.close()


def sqlstate(error: Error) -> str | None:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def idle_sessions(database: PostgresDatabase, count: int, **pool: Any) -> list[Any]:
    """Return wrappers that share a pool with so many idle connections."""
    wrappers = [
        database.wrapper(pool={"timeout": PATIENCE, "fail_fast": None, **pool})
        for _ in range(count)
    ]
    for wrapper in wrappers:
        wrapper.ensure_connection()
    for wrapper in wrappers:
        wrapper.close()
    return wrappers


def test_sessions_that_turned_read_only_are_replaced_after_one_failed_write(
    clustered: PostgresDatabase,
    endpoint: FaultProxy,
    primary: PrivatePostgres,
    standby: Standby,
) -> None:
    """scenario 25: the endpoint led to the read-only server for a while, and does so no more.

    The sessions there are work, and stay read-only for ever. One failed write tells.
    """
    [wrapper] = idle_sessions(clustered, 1)
    write(wrapper)
    standby.wait_for(primary)
    pool = wrapper.resolve_pool()
    endpoint.aim(standby.host, standby.port)
    endpoint.drop()
    idle_sessions(clustered, 3)
    assert pool.stats().idle == 3
    assert read(wrapper) >= 1
    endpoint.aim(primary.host, primary.port)
    with pytest.raises(InternalError) as caught:
        write(wrapper)
    assert sqlstate(caught.value) == READ_ONLY
    assert [write(wrapper) > 0 for _ in range(5)] == [True] * 5
    assert read(wrapper) > 5
    assert pool.stats().discards[DiscardReason.BROKEN] == 4  # the first one and these three


def test_a_pool_of_a_replica_keeps_its_sessions(
    standby: Standby, database_settings: DatabaseSettings
) -> None:
    """scenario 25: a pool that has never met anything but a standby is meant to."""
    settings = standby.database_settings("pooling.backends.postgresql")
    replica = PostgresDatabase(database_settings(settings.pop("ENGINE"), **settings), standby.url)
    wrapper = replica.wrapper(pool={"timeout": PATIENCE, "ping_after": 0})
    try:
        for _ in range(3):
            read(wrapper)
            with pytest.raises(InternalError):
                write(wrapper)
        stats = wrapper.resolve_pool().stats()
        assert (stats.connects, stats.discards[DiscardReason.BROKEN]) == (1, 0)
    finally:
        replica.close()


def test_a_session_made_read_only_by_a_lease_does_not_stay_so_after_a_failed_write(
    clustered: PostgresDatabase,
) -> None:
    """scenario 25: by its cousin `default_transaction_read_only`, which operators set, too."""
    [wrapper] = idle_sessions(clustered, 1, max_size=1)
    with wrapper.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    wrapper.close()
    with pytest.raises(InternalError):
        write(wrapper)
    assert write(wrapper) > 0


def test_a_fail_over_is_survived(
    clustered: PostgresDatabase,
    endpoint: FaultProxy,
    primary: PrivatePostgres,
    standby: Standby,
) -> None:
    """scenario 25: the primary dies, reads go on at the standby, which takes over in the end.

    The last test with these servers: a promotion is for ever.
    """
    wrappers = idle_sessions(clustered, 3)
    pool = wrappers[0].resolve_pool()
    count = write(wrappers[0])
    standby.wait_for(primary)
    primary.stop("immediate")
    eventually(lambda: endpoint.connections == 0)
    endpoint.aim(standby.host, standby.port)

    reads = [read(wrapper) for wrapper in wrappers * 2]
    assert reads == [reads[0]] * 6
    with pytest.raises(InternalError) as caught:
        write(wrappers[0])
    assert sqlstate(caught.value) == READ_ONLY
    assert read(wrappers[0]) == reads[0]

    [wrapper] = idle_sessions(clustered, 1)
    session = clustered.session(wrapper)
    wrapper.close()
    standby.promote()
    assert write(wrappers[0]) > count
    assert read(wrappers[0]) == reads[0] + 1
    # It was read-only, and as it no longer is, there is no reason to replace it.
    assert clustered.session(wrapper) == session
    wrapper.errors_occurred = True  # so the release looks at it once more
    wrapper.close()
    assert clustered.session(wrapper) == session
    wrapper.close()
    assert pool.stats().leased == 0
