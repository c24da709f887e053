"""The benchmark makes databases of its own, so its tests need none of pytest-django's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pooling.bench.databases import Arena, PostgresArena, SimulatedArena, SqliteArena
from pooling.bench.polling import wait_until
from tests.servers import settings_from_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_django.plugin import DjangoDbBlocker


@pytest.fixture(autouse=True)
def database_access(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def sqlite_arena(tmp_path: Path) -> SqliteArena:
    return SqliteArena({"NAME": tmp_path / "project.sqlite3"})


@pytest.fixture
def postgres_arena(postgresql_url: str) -> Iterator[PostgresArena]:
    arena = PostgresArena(settings_from_url(postgresql_url, "pooling.backends.postgresql"))
    yield arena
    arena.close()


@pytest.fixture
def simulated_arena() -> SimulatedArena:
    return SimulatedArena()


@pytest.fixture(params=["sqlite", "postgresql"])
def arena(request: pytest.FixtureRequest) -> Arena:
    fixture = {"sqlite": "sqlite_arena", "postgresql": "postgres_arena"}[request.param]
    return request.getfixturevalue(fixture)


def leftovers(arena: Arena) -> list[str]:
    """Return what benchmarks have left behind in an arena."""
    if isinstance(arena, PostgresArena):
        found = arena.execute("SELECT datname FROM pg_database WHERE datname LIKE 'poolbench%%'")
        return [name for (name,) in found]
    assert isinstance(arena, SqliteArena)
    return [path.name for path in arena._folder.iterdir()]


def is_gone(pid: int) -> bool:
    """Whether a process ends soon. It has to be somebody else's child, or reaped."""

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    return wait_until(gone)
