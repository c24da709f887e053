"""How to open, test, clean and close SQLite connections."""

from __future__ import annotations

import os
import sqlite3
import threading
from typing import TYPE_CHECKING, NamedTuple

from pooling.backends.driver import DatabaseDriver
from pooling.backends.sqlite3 import session_tracking
from pooling.core import forks

if TYPE_CHECKING:
    import weakref

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


CLOSE_TIMEOUT = 5.0
"""Seconds that a connection waits for its turn to be closed."""


class SerialCloser:
    """Lets connections out one by one.

    The last one of a file in WAL mode writes the log into the file, if it can have the file for
    itself. Two that close at the same moment are in each other's way, and then neither does it: who
    copies the file now, as a clone of a test database is made, finds it without its tables.

    So connections are closed under a lock, which is for nothing else. One that hangs there, or was
    interrupted, holds the others up once: who has waited for `timeout` seconds leaves all the
    same, and those behind it have another lock.
    """

    def __init__(self, timeout: float = CLOSE_TIMEOUT) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        forks.register(self)

    def close(self, connection: sqlite3.Connection) -> None:
        """Close a connection. Blocks while another one is being closed, in bounded time."""
        lock = self._lock
        has_turn = lock.acquire(timeout=self._timeout)
        try:
            if not has_turn and self._lock is lock:
                self._lock = threading.Lock()
            connection.close()
        finally:
            if has_turn:
                lock.release()

    def after_fork_in_child(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()


SERIAL_CLOSER = SerialCloser()
"""The process's, since pools with different options may have the same file."""


class _Session(NamedTuple):
    """What a connection was like when it was opened, and what happened to it in this lease."""

    path: str
    file: tuple[int, int] | None
    schemas: frozenset[str]
    pragmas: dict[str, int]
    watcher: weakref.ref[session_tracking.ChangeAuthorizer]

    @property
    def notes(self) -> set[str] | None:
        """What was noted of the lease; None if nobody watches, so that everything is possible."""
        watcher = self.watcher()
        return None if watcher is None else watcher.notes


class SQLiteDriver(DatabaseDriver):
    """SQLite."""

    transaction_attributes = ("in_transaction", "isolation_level")
    lease_attributes = (
        *("row_factory", "text_factory"),
        *(("autocommit",) if hasattr(sqlite3.Connection, "autocommit") else ()),  # Python 3.12
    )

    def __init__(self, wrapper: PooledDatabaseWrapper, config: PoolConfig) -> None:
        self._sessions: dict[sqlite3.Connection, _Session] = {}
        super().__init__(wrapper, config)

    def on_connect(self, connection: sqlite3.Connection) -> None:
        """Note what the session is like."""
        databases = connection.execute("PRAGMA database_list").fetchall()
        path = next(file for _, schema, file in databases if schema == "main")
        self._sessions[connection] = _Session(
            path=path,
            file=_identity(path),
            schemas=_schemas(connection),
            pragmas=self._pragmas(connection),
            watcher=session_tracking.track(connection),
        )

    def _pragmas(self, connection: sqlite3.Connection) -> dict[str, int]:
        """Read the pragmas that a release sets back, without those this SQLite does not have."""
        names = SESSION_PRAGMAS if self.restores else ("foreign_keys",)
        rows = {name: connection.execute(f"PRAGMA {name}").fetchone() for name in names}
        return {name: int(row[0]) for name, row in rows.items() if row is not None}

    def reset(self, connection: sqlite3.Connection) -> None:
        """End the transaction, and undo what the lease was seen to change in the session."""
        notes = self._sessions[connection].notes
        if notes or notes is None:
            self.clean(connection)
        super().reset(connection)

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
        # As Django's own `_set_autocommit` does it.
        level = None if self._settings["AUTOCOMMIT"] else ""
        connection.isolation_level = level  # type: ignore[assignment]
        notes = self._sessions[connection].notes
        if notes or notes is None:
            self._end_changes(connection, notes)

    def _end_changes(self, connection: sqlite3.Connection, notes: set[str] | None) -> None:
        """Set `foreign_keys` back and detach databases, if the lease did such a thing."""
        session = self._sessions[connection]
        if notes is None or "foreign_keys" in notes:
            _set_back(connection, "foreign_keys", session.pragmas["foreign_keys"])
        if notes is None or session_tracking.SCHEMAS in notes:
            for schema in _schemas(connection) - session.schemas:
                quoted = schema.replace('"', '""')
                connection.execute(f'DETACH DATABASE "{quoted}"')
        if notes is not None and not self.restores:
            notes.clear()

    def restore_session(self, connection: sqlite3.Connection) -> None:
        """Set back the pragmas that differ; raise if something else remains of the lease.

        Dropping temporary tables one by one, in the order of their dependencies, costs more than a
        new connection, which is what the pool answers an error with.
        """
        session = self._sessions[connection]
        noted = session.notes
        notes = set() if noted is None else {*noted}
        if noted is None or self.config.reset == "always":
            notes |= {*session.pragmas, session_tracking.SCHEMAS, session_tracking.TEMPORARY}
        if session_tracking.SCHEMAS in notes and _schemas(connection) != session.schemas:
            raise sqlite3.OperationalError("the session has other databases than at its beginning")
        if session_tracking.TEMPORARY in notes and _has_temporary(connection):
            raise sqlite3.OperationalError("the session has temporary tables")
        for name in (
            notes
            - session_tracking.OF_THE_FILE
            - {session_tracking.SCHEMAS, session_tracking.TEMPORARY}
        ):
            if name not in session.pragmas:
                raise sqlite3.OperationalError(f"the pragma {name} cannot be set back")
            _set_back(connection, name, session.pragmas[name])
        if noted is not None:
            noted.clear()

    def mark_baseline(self, connection: sqlite3.Connection) -> None:
        """Take the session as it is for what leases begin with: receivers have set it up."""
        session = self._sessions[connection]
        notes = session.notes
        if notes or notes is None:
            self._sessions[connection] = session._replace(
                schemas=_schemas(connection), pragmas=self._pragmas(connection)
            )
        if notes is not None:
            notes.clear()

    def needs_connection_created(self, connection: sqlite3.Connection) -> bool:  # noqa: ARG002
        """Tell that the session is as receivers have left it: see `mark_baseline`."""
        return False

    def close(self, connection: sqlite3.Connection) -> None:
        """Close the file."""
        self._sessions.pop(connection, None)
        SERIAL_CLOSER.close(connection)

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


def _schemas(connection: sqlite3.Connection) -> frozenset[str]:
    """Return the names of the attached databases, without "temp", which comes by itself."""
    databases = connection.execute("PRAGMA database_list").fetchall()
    return frozenset(schema for _, schema, _ in databases if schema != "temp")


def _has_temporary(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_temp_master LIMIT 1").fetchone() is not None


def _set_back(connection: sqlite3.Connection, pragma: str, value: int) -> None:
    (now,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    if int(now) != value:
        connection.execute(f"PRAGMA {pragma} = {value}")
