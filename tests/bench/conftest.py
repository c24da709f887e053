"""The benchmark makes databases of its own, so its tests need none of pytest-django's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pooling.bench.databases import (
    DatabaseProvider,
    MySQLProvider,
    PostgresProvider,
    SimulatedProvider,
    SqliteProvider,
)
from pooling.bench.polling import wait_until
from tests.support.mariadb import without_tls
from tests.support.servers import settings_from_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django.plugin import DjangoDbBlocker

    from tests.support.mariadb import PrivateMariaDB


@pytest.fixture(autouse=True)
def database_access(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def sqlite_provider(tmp_path: Path) -> SqliteProvider:
    return SqliteProvider({"NAME": tmp_path / "project.sqlite3"})


@pytest.fixture
def postgres_provider(postgresql_url: str) -> Iterator[PostgresProvider]:
    provider = PostgresProvider(settings_from_url(postgresql_url, "pooling.backends.postgresql"))
    yield provider
    provider.close()


@pytest.fixture
def mysql_provider(mariadb_server: PrivateMariaDB) -> Iterator[MySQLProvider]:
    entry = mariadb_server.database_settings("pooling.backends.mysql")
    provider = MySQLProvider({**entry, "OPTIONS": without_tls()})
    yield provider
    provider.close()


@pytest.fixture
def simulated_provider() -> SimulatedProvider:
    return SimulatedProvider()


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def provider(request: pytest.FixtureRequest) -> DatabaseProvider:
    fixtures = {"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mysql"}
    return request.getfixturevalue(f"{fixtures[request.param]}_provider")


def leftovers(provider: DatabaseProvider) -> list[str]:
    """Return what this process's benchmarks have left behind on a server, or in a folder."""
    if isinstance(provider, PostgresProvider):
        found = provider.execute(
            "SELECT datname FROM pg_database WHERE shobj_description(oid, 'pg_database') LIKE %s",
            f"poolbench on %, process {os.getpid()}, %",
        )
        return [name for (name,) in found]
    if isinstance(provider, MySQLProvider):
        found = provider.execute(
            "SELECT table_schema FROM information_schema.tables WHERE table_comment LIKE %s",
            f"poolbench on %, process {os.getpid()}, %",
        )
        return [name for (name,) in found]
    return [path.name for path in Path(provider.base["NAME"]).parent.iterdir()]


def is_gone(pid: int) -> bool:
    """Whether a process ends soon. It must not be a child that is yet to be reaped."""

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    return wait_until(gone)
