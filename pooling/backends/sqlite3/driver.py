"""How to open, test, clean and close SQLite connections."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from pooling.backends.driver import DatabaseDriver

if TYPE_CHECKING:
    from pooling.backends.base import PooledDatabaseWrapper
    from pooling.core.config import PoolConfig

SESSION_PRAGMAS = (
    "automatic_index",
    "busy_timeout",
    "cache_size",
    "cache_spill",
    "cell_size_check",
    "defer_foreign_keys",
    "foreign_keys",
    "fullfsync",
    "ignore_check_constraints",
    "legacy_alter_table",
    "mmap_size",
    "query_only",
    "read_uncommitted",
    "recursive_triggers",
    "reverse_unordered_selects",
    "synchronous",
    "temp_store",
    "trusted_schema",
    "wal_autocheckpoint",
)
"""The pragmas that belong to a connection, not to the file, and can be read and set back."""


class _Session(NamedTuple):
    """What a connection was like when it was opened."""

    path: str
    file: tuple[int, int] | None
    foreign_keys: int
    schemas: frozenset[str]
    pragmas: dict[str, int]


class SQLiteDriver(DatabaseDriver):
    """SQLite."""

    lease_attributes = ("row_factory", "text_factory")

    def __init__(self, wrapper: PooledDatabaseWrapper, config: PoolConfig) -> None:
        self._sessions: dict[sqlite3.Connection, _Session] = {}
        super().__init__(wrapper, config)

    def connect(self) -> sqlite3.Connection:
        """Open the file, and note what the session was like then."""
        connection: sqlite3.Connection = super().connect()
        databases = connection.execute("PRAGMA database_list").fetchall()
        path = next(file for _, schema, file in databases if schema == "main")
        self._sessions[connection] = _Session(
            path=path,
            file=_identity(path),
            foreign_keys=_pragma(connection, "foreign_keys"),
            schemas=frozenset(schema for _, schema, _ in databases) | {"temp"},
            pragmas=_pragmas(connection) if self.config.reset == "session" else {},
        )
        return connection

    def is_alive(self, connection: sqlite3.Connection) -> bool:
        """Tell whether the open file is still the one at the path.

        A file that was deleted or replaced stays readable for whoever has it open: without this the
        pool would go on serving the old data.
        """
        session = self._sessions[connection]
        return _identity(session.path) == session.file

    def ping(self, connection: sqlite3.Connection) -> None:
        """Raise if the file was replaced or cannot be read."""
        if not self.is_alive(connection):
            path = self._sessions[connection].path
            raise sqlite3.OperationalError(f"the database file {path} was replaced")
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()

    def end_transaction(self, connection: sqlite3.Connection) -> None:
        """Roll back what is open; restore autocommit, foreign keys and the attached databases."""
        if connection.in_transaction:
            connection.rollback()
        if self._settings["AUTOCOMMIT"]:
            connection.isolation_level = None
        session = self._sessions[connection]
        if _pragma(connection, "foreign_keys") != session.foreign_keys:
            connection.execute(f"PRAGMA foreign_keys = {session.foreign_keys}")
        for _, schema, _ in connection.execute("PRAGMA database_list").fetchall():
            if schema not in session.schemas:
                quoted = schema.replace('"', '""')
                connection.execute(f'DETACH DATABASE "{quoted}"')

    def restore_session(self, connection: sqlite3.Connection) -> None:
        """Set back the pragmas that differ; raise if there are temporary tables or the like.

        Dropping those one by one, in the order of their dependencies, costs more than a new
        connection, which is what the pool answers an error with.
        """
        for name, value in self._sessions[connection].pragmas.items():
            if _pragma(connection, name) != value:
                connection.execute(f"PRAGMA {name} = {value}")
        if connection.execute("SELECT 1 FROM sqlite_temp_master LIMIT 1").fetchone():
            raise sqlite3.OperationalError("the session has temporary tables")

    def close(self, connection: sqlite3.Connection) -> None:
        """Close the file."""
        self._sessions.pop(connection, None)
        connection.close()

    def is_transient(self, error: BaseException) -> bool:
        """Tell whether another connection was only in the way (a pragma that needs a lock)."""
        return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells the file at `path` from one that replaces it; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a third of the time of Path.stat
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _pragmas(connection: sqlite3.Connection) -> dict[str, int]:
    """Read the session's pragmas, without those this SQLite was built without."""
    rows = {name: connection.execute(f"PRAGMA {name}").fetchone() for name in SESSION_PRAGMAS}
    return {name: int(row[0]) for name, row in rows.items() if row is not None}


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
