"""Several hosts in `HOST`, as libpq understands them: sessions spread again when one comes back.

Scenario 71.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import Error

from tests.support.databases import PostgresDatabase, eventually
from tests.support.faulty_servers import Standby, primary_and_standby

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import DatabaseSettings
    from tests.support.postgres import PrivatePostgres

SESSIONS = 12
"""All on the same one of two hosts by chance: once in two thousand times."""

# Soon old enough to be replaced.
POOL = {"min_size": SESSIONS, "max_size": SESSIONS, "recycle": 0.5}


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[PrivatePostgres, Standby]]:
    with primary_and_standby() as (primary, standby):
        yield primary, standby


@pytest.fixture
def database(
    servers: tuple[PrivatePostgres, Standby],
    allow_databases: None,
    database_settings: DatabaseSettings,
) -> Iterator[PostgresDatabase]:
    """The database of both servers under one alias."""
    primary, standby = servers
    settings = primary.database_settings("pooling.backends.postgresql")
    settings.update(HOST=f"{primary.host},{standby.host}", PORT=f"{primary.port},{standby.port}")
    database = PostgresDatabase(database_settings(settings.pop("ENGINE"), **settings), primary.url)
    yield database
    database.close()


def ports(database: PostgresDatabase, **options: Any) -> set[int]:
    """Return which servers the sessions of a full pool are on; none if that cannot be said now."""
    wrappers = [database.wrapper(pool=POOL, OPTIONS=options) for _ in range(SESSIONS)]
    found = set()
    try:
        for wrapper in wrappers:
            with wrapper.cursor() as cursor:
                cursor.execute("SELECT inet_server_port()")
                found.add(cursor.fetchone()[0])
    except Error:  # one that ended meanwhile
        return set()
    finally:
        for wrapper in wrappers:
            wrapper.close()
    return found


@pytest.mark.parametrize("how", ["random", "disable"])
def test_sessions_spread_again_when_a_host_comes_back(
    database: PostgresDatabase, servers: tuple[PrivatePostgres, Standby], how: str
) -> None:
    """Without a restart: libpq chooses for each new connection, and `recycle` makes them new.

    `load_balance_hosts=random` spreads them over both; without it the first host is preferred.
    """
    first, second = servers
    leaving, staying = (second, first) if how == "random" else (first, second)
    usual = {first.port, second.port} if how == "random" else {first.port}

    def current() -> set[int]:
        return ports(database, load_balance_hosts=how)

    eventually(lambda: current() == usual)
    leaving.stop("immediate")
    try:
        eventually(lambda: current() == {staying.port})
    finally:
        leaving.start()
    eventually(lambda: current() == usual)
