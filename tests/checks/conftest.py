"""Databases of the tests' own, as for the backends."""

from __future__ import annotations

from tests.backends.conftest import (  # noqa: F401 - fixtures
    _allow_databases,
    _database_name,
    database,
    postgresql,
    project,
    sqlite,
)
