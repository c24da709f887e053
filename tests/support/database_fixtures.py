"""Fixtures: databases of a test's own, past those of pytest-django, and a project that uses one."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from django.db.utils import ConnectionHandler

from tests.support.databases import Database, PostgresDatabase, SqliteDatabase
from tests.support.mariadb import MariaDatabase, PrivateMariaDB, create_user, missing
from tests.support.projects import THINGS_TABLE, Project
from tests.support.servers import execute, mysql_driver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import DatabaseSettings


@pytest.fixture
def allow_databases(django_db_blocker: Any) -> Iterator[None]:
    """Let a test use databases that are not pytest-django's."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture(scope="session")
def _database_name(postgresql_url: str) -> Iterator[str]:
    """Creating a database takes a tenth of a second, emptying one a hundredth."""
    name = f"test_{uuid.uuid4().hex}"
    execute(postgresql_url, f"CREATE DATABASE {name}")
    yield name
    execute(postgresql_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgresql(
    postgresql_url: str,
    _database_name: str,
    database_settings: DatabaseSettings,
    allow_databases: None,
) -> Iterator[PostgresDatabase]:
    """A database on the session's server, empty and without sessions."""
    entry = database_settings("pooling.backends.postgresql", NAME=_database_name)
    url = urlsplit(postgresql_url)._replace(path=f"/{_database_name}").geturl()
    database = PostgresDatabase(entry, url)
    yield database
    database.close()
    database.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
    )


@pytest.fixture
def role(postgresql: PostgresDatabase) -> Iterator[str]:
    """A role that may log in, with the password "first"."""
    name = f"role_{uuid.uuid4().hex}"
    postgresql.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'first'")
    yield name
    postgresql.close()
    postgresql.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@pytest.fixture
def sqlite(database_settings: DatabaseSettings, allow_databases: None) -> Iterator[SqliteDatabase]:
    """A file that does not exist yet."""
    database = SqliteDatabase(database_settings("pooling.backends.sqlite3"))
    yield database
    database.close()


@pytest.fixture(params=["postgresql", "sqlite", "mariadb"])
def database(request: pytest.FixtureRequest) -> Database:
    """A database of the backend in turn: the contract is the same for both."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def project(database: Database, tmp_path: Path) -> Project:
    """A Django project whose only database is `database`, with a table `things_thing`."""
    database.entry["OPTIONS"].pop("factory", None)
    project = Project(tmp_path / "project", {"default": database.entry})
    database.execute(THINGS_TABLE[database.vendor])
    return project


@pytest.fixture(scope="session")
def psycopg2() -> bool:
    """Whether this run is the one with psycopg2."""
    return os.environ.get("TEST_DRIVER") == "psycopg2"


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[PrivateMariaDB]:
    """A private MariaDB for the whole test session."""
    if reason := missing():
        pytest.skip(reason)
    mysql_driver()
    with PrivateMariaDB() as server:
        yield server


@pytest.fixture
def mariadb(mariadb_server: PrivateMariaDB, allow_databases: None) -> Iterator[MariaDatabase]:
    """An empty database on it."""
    name = f"test_{uuid.uuid4().hex}"
    mariadb_server.execute(f"CREATE DATABASE {name}")
    database = MariaDatabase(mariadb_entry(mariadb_server, name), mariadb_server)
    yield database
    database.close()
    mariadb_server.execute(f"DROP DATABASE IF EXISTS {name}")


@pytest.fixture
def mariadb_user(mariadb: MariaDatabase) -> Iterator[dict[str, str]]:
    """The login of a user with few rights, and seven sessions at most."""
    name = f"user_{uuid.uuid4().hex[:12]}"
    mariadb.execute(*create_user(name))
    yield {"USER": name, "PASSWORD": name}
    mariadb.close()
    mariadb.execute(f"DROP USER {name}")


def mariadb_entry(server: PrivateMariaDB, name: str) -> dict[str, Any]:
    """Return a complete entry of `DATABASES`."""
    entry = server.database_settings("pooling.backends.mysql", name)
    return ConnectionHandler({"default": entry}).settings["default"]
