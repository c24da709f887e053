"""The pooled SQLite backend."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Any

from django.db.backends.sqlite3 import base
from django.utils.asyncio import async_unsafe

from pooling.backends.base import PooledDatabaseWrapper, frozen
from pooling.backends.sqlite3.creation import DatabaseCreation
from pooling.backends.sqlite3.driver import SERIAL_CLOSER, SQLiteDriver
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

    @async_unsafe
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Open the file, and close it again if one of the statements fails that Django begins with.

        Django leaves that to the garbage collector, and an error that is kept keeps the file open.
        """
        factory = conn_params.get("factory")
        opened = []

        def make(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            del kwargs["factory"]
            if factory is not None:
                kwargs["factory"] = factory
            opened.append((factory or sqlite3.Connection)(*args, **kwargs))
            return opened[0]

        try:
            return super().get_new_connection({**conn_params, "factory": make})
        except BaseException:
            for connection in opened:
                SERIAL_CLOSER.close(connection)
            raise

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
