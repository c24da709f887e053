"""Real databases for the tests of the backends, which look past pytest-django's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection as default_connection
from django.db.models import AutoField, CharField, Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.databases import Database


@pytest.fixture(autouse=True)
def _allow_databases(allow_databases: None) -> None:
    """Some of these tests use Django's connections without a fixture for the database."""


@pytest.fixture(scope="package", autouse=True)
def left_open() -> Any:
    """What the tests before these have left open of pytest-django's default database."""
    return default_connection.connection


class Thing(Model):
    """A table for tests that need one; `things` creates it."""

    id = AutoField(primary_key=True)
    name = CharField(max_length=100, unique=True)

    class Meta:
        app_label = "backends"

    def __str__(self) -> str:
        return self.name


@pytest.fixture
def things() -> Callable[[Database], type[Thing]]:
    """A function that creates the table of `Thing` in a database."""

    def create(database: Database) -> type[Thing]:
        keys = {"postgresql": "serial", "mysql": "integer AUTO_INCREMENT"}
        key = keys.get(database.vendor, "integer")
        column = f"id {key} PRIMARY KEY" + " AUTOINCREMENT" * (database.vendor == "sqlite")
        database.execute(
            f"CREATE TABLE backends_thing ({column}, name varchar(100) NOT NULL UNIQUE)"
        )
        return Thing

    return create
