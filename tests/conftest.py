"""Fixtures that every part of the suite may use."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from django.db.utils import ConnectionHandler

from pooling.registry import REGISTRY
from tests.support.postgres import PrivatePostgres
from tests.support.servers import execute, settings_from_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest_plugins = ["tests.support.database_fixtures"]


class DatabaseSettings(Protocol):
    def __call__(self, engine: str, **overrides: Any) -> dict[str, Any]: ...


@pytest.fixture(scope="session")
def postgresql_url() -> str:
    """The session's PostgreSQL server, as a URL. Tests share it: it is not theirs to stop."""
    return os.environ["TEST_POSTGRESQL_URL"]


@pytest.fixture
def private_postgres() -> Iterator[PrivatePostgres]:
    """A server of the test's own, to be stopped, restarted and frozen."""
    with PrivatePostgres() as server:
        yield server


@pytest.fixture
def new_database(postgresql_url: str) -> Iterator[Callable[[], str]]:
    """A function that creates an empty database on the session's server and returns its name."""
    names: list[str] = []

    def create() -> str:
        names.append(f"test_{uuid.uuid4().hex}")
        execute(postgresql_url, f"CREATE DATABASE {names[-1]}")
        return names[-1]

    yield create
    for name in names:
        REGISTRY.close_database(name)
        execute(postgresql_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def database_settings(
    tmp_path: Path, postgresql_url: str, new_database: Callable[[], str]
) -> DatabaseSettings:
    """A function that makes complete settings for a wrapper on a fresh database of its own.

    `database_settings("pooling.backends.postgresql", OPTIONS={"pool": {"max_size": 2}})`: what is
    given replaces the entry of that name, and `NAME` or `HOST` keep the fresh database from
    being made.
    """

    def make(engine: str, **overrides: Any) -> dict[str, Any]:
        if "sqlite3" in engine:
            entry = {"ENGINE": engine, "NAME": str(tmp_path / f"{uuid.uuid4().hex}.sqlite3")}
        else:
            entry = settings_from_url(postgresql_url, engine)
            if not {"NAME", "HOST", "PORT"} & overrides.keys():
                entry["NAME"] = new_database()
        # The handler adds what Django's wrappers expect to find.
        return ConnectionHandler({"default": entry | overrides}).settings["default"]

    return make
