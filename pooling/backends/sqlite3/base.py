"""The pooled SQLite backend."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from django.db.backends.sqlite3 import base

from pooling.backends.base import PooledDatabaseWrapper, frozen
from pooling.backends.sqlite3.creation import DatabaseCreation
from pooling.backends.sqlite3.driver import SQLiteDriver
from pooling.backends.sqlite3.features import DatabaseFeatures

if TYPE_CHECKING:
    from collections.abc import Hashable


class DatabaseWrapper(PooledDatabaseWrapper, base.DatabaseWrapper):
    """Django's SQLite wrapper, leasing its connections from a pool."""

    driver_class = SQLiteDriver
    creation_class = DatabaseCreation
    features_class = DatabaseFeatures
    init_commands: list[str]

    def can_be_pooled(self) -> bool:
        """Leave databases in memory to the stock backend: each connection is one of its own."""
        name = str(self.settings_dict["NAME"])
        in_memory = any(mark in name for mark in (":memory:", "mode=memory", "vfs=memdb"))
        return not (name == ":memory:" or (name.startswith("file:") and in_memory))

    def session_identity(self, params: dict[str, Any]) -> Hashable:
        """Return the parameters, the file by its path, and what runs after connecting."""
        return frozen(
            {
                **params,
                "database": self.database_identity(params["database"]),
                "init_commands": self.init_commands,
            }
        )

    def database_identity(self, name: Any) -> str:
        """Return the absolute path of a file; URIs are what they are."""
        path: str = os.fspath(name)
        return path if path.startswith("file:") else os.path.abspath(path)  # noqa: PTH100
