"""The benchmark makes databases of its own, so its tests need none of pytest-django's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pooling.bench.databases import (
    DatabaseProvider,
    PostgresProvider,
    SimulatedProvider,
    SqliteProvider,
)
from pooling.bench.polling import wait_until
from tests.support.servers import settings_from_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django.plugin import DjangoDbBlocker


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
def simulated_provider() -> SimulatedProvider:
    return SimulatedProvider()


@pytest.fixture(params=["sqlite", "postgresql"])
def provider(request: pytest.FixtureRequest) -> DatabaseProvider:
    fixture = {"sqlite": "sqlite_provider", "postgresql": "postgres_provider"}[request.param]
    return request.getfixturevalue(fixture)


def leftovers(provider: DatabaseProvider) -> list[str]:
    """Return what this process's benchmarks have left behind on a server, or in a folder."""
    if isinstance(provider, PostgresProvider):
        found = provider.execute(
            "SELECT datname FROM pg_database WHERE shobj_description(oid, 'pg_database') LIKE %s",
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
