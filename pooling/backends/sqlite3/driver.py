"""The SQLite driver: open, test, reset and close connections."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pooling.backends.driver import DatabaseDriver
from pooling.backends.sqlite3 import database_files, session_tracking
from pooling.backends.sqlite3.database_files import OPEN_FILES, OpenFile
from pooling.core import forks

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooling.backends.base import PooledDatabaseWrapper
    from pooling.backends.identity import HiddenDict
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


VERSION_UNKNOWN = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOTADB)
"""Errors that say nothing about the connection: others write, or a key is still to be set."""
UNKNOWN = -1
"""A number that no file and no connection has."""
REPLACED = "the database file was replaced while it was opened"
CLOSE_TIMEOUT = 5.0
"""Seconds that a connection waits for its turn to be closed."""


class SerialCloser:
    """Close connections one at a time.

    The last connection of a file in WAL mode writes the log into the file, if it gets exclusive
    access. Two that are closed at the same moment prevent each other from that: a copy of the file
    made now, as of a test database, would lack its tables.

    The lock is for nothing else. A close that hangs, or was interrupted, delays others once: after
    `timeout` seconds the next one goes ahead, and those behind it use a new lock.
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

    def interrupt(self, connection: sqlite3.Connection) -> None:
        """Interrupt the running statement. Blocks while a connection is being closed.

        SQLite must not free a connection meanwhile, and without the interpreter's lock nothing
        else keeps it from that. If the turn does not come in time nothing is interrupted.
        """
        lock = self._lock
        if lock.acquire(timeout=self._timeout):
            try:
                connection.interrupt()
            finally:
                lock.release()

    def after_fork_in_child(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()


SERIAL_CLOSER = SerialCloser()
"""The process's, since pools with different options may have the same file."""

FileState = tuple[int, int, int, int, int]
"""Device, inode, size, and the times of the last change of the content and of the inode."""
_state_of: Callable[[os.stat_result], FileState] = attrgetter(
    "st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"
)
_stat = os.stat  # every lease asks, and Path.stat takes three times as long


def _file_state(path: str) -> FileState | None:
    """Return what changes when the file at `path` is replaced or written; None without a file."""
    try:
        return _state_of(_stat(path))
    except OSError:
        return None


class _Session:
    """A connection's session: its file, its state when opened, and the changes of this lease.

    Attributes:
        path: the path that was opened, symbolic links not resolved; empty if there is none.
        file: the file behind it, with its log.
        state: the state of the file when the connection last used it. None if the connection must
            not be used any more.
        version: what `PRAGMA data_version` said then. SQLite changes it when it sees, by the
            counter in the file, that another connection has written.
        changes: how many rows the connection had changed then.
        schemas, pragmas: what a release goes back to.
        tracker: what notes the changes of this lease; dead if an authorizer of the user's has
            taken its place.
    """

    __slots__ = ("changes", "file", "path", "pragmas", "schemas", "state", "tracker", "version")

    def __init__(self, connection: sqlite3.Connection, path: str, pragmas: dict[str, int]) -> None:
        databases = _databases(connection)
        main = next(file for _, schema, file in databases if schema == "main")
        self.path = path if _file_state(path) else main
        self.state = _file_state(self.path)
        self.version = _data_version(connection)  # which opens the log, too
        self.file = OpenFile(main)
        self.schemas = _names(databases)
        self.pragmas = pragmas
        self.changes = connection.total_changes
        if self.version is None and self.state is not None:
            # The file was locked, so that its log may not be open yet: look again at the next use.
            self.state = (*self.state[:2], UNKNOWN, UNKNOWN, UNKNOWN)
            self.changes = UNKNOWN
        self.tracker: Callable[[], session_tracking.ChangeAuthorizer | None]
        self.tracker = session_tracking.track(connection)

    @property
    def notes(self) -> set[str] | None:
        """The changes noted in this lease; None if they are not tracked, so that all may be."""
        tracker = self.tracker()
        return None if tracker is None else tracker.notes

    def note_writes(self, connection: sqlite3.Connection) -> None:
        """Note the state in which a lease leaves the file, unless it was replaced meanwhile."""
        self.changes = connection.total_changes
        state, before = _file_state(self.path), self.state
        if state != before and state and before and state[:2] == before[:2]:
            self.state = state
            self.file.find_logs()

    def follow(self, connection: sqlite3.Connection) -> bool:
        """Tell whether SQLite will notice what has changed the file since the last use.

        It looks at the counter that each transaction increments. A file that was overwritten in
        place may have the same counter, and the connection would mix its pages with cached ones.
        """
        if not self.path:
            return True
        state, before = _file_state(self.path), self.state
        self.state = None  # an interrupt in here leaves it like this
        if state is None or before is None or state[:2] != before[:2]:
            return False
        version = _data_version(connection)
        if notes := self.notes:
            notes.discard("busy_timeout")
        if version is None:  # another connection is writing, which will increment the counter
            self.state = before
        elif version != self.version:
            self.version = version
            self.file.find_logs()
            self.state = state
        return self.state is not None


class SQLiteDriver(DatabaseDriver):
    """Open, test, reset and close SQLite connections."""

    disruptions = ("cancel",)
    no_budget = "a file has no server that would count the sessions of all processes"
    session_functions = re.compile(
        r"\b(last_insert_rowid|changes|total_changes)\s*\(", re.IGNORECASE
    )
    transaction_attributes = ("in_transaction", "isolation_level")
    baseline_attributes = ("isolation_level",)
    lease_attributes = (
        *("row_factory", "text_factory"),
        *(("autocommit",) if hasattr(sqlite3.Connection, "autocommit") else ()),  # Python 3.12
    )

    def __init__(self, wrapper: PooledDatabaseWrapper, config: PoolConfig) -> None:
        self._sessions: dict[sqlite3.Connection, _Session] = {}
        self._path = ""
        super().__init__(wrapper, config)

    def settings_of(self, wrapper: PooledDatabaseWrapper) -> HiddenDict:
        """Return a copy of a wrapper's settings, with the file as its caller's directory has it."""
        settings = super().settings_of(wrapper)
        settings["NAME"] = os.fspath(database_files.absolute_name(settings["NAME"]))
        return settings

    def connection_params(self) -> dict[str, Any]:
        """Return the parameters of the next connection, and note the path it opens."""
        params = super().connection_params()
        self._path = database_files.path_of(params["database"])
        mixin: type[session_tracking.WatchedConnection] | None = None
        if self.config.scope == "transaction":
            mixin = session_tracking.TrackedConnection
        elif session_tracking.FREE_THREADED:
            mixin = session_tracking.WatchedConnection
        if mixin is not None:
            factory = params.get("factory", sqlite3.Connection)
            params["factory"] = session_tracking.with_mixin(mixin, factory)
        return params

    def on_connect(self, connection: sqlite3.Connection, opener: Any) -> None:
        """Note what the session is like; raise if the file was replaced while it was opened."""
        session = _Session(connection, self._path, self._pragmas(connection))
        state, opened = session.state, opener.opened_file
        if state and opened and (state[:2] != opened or session.file.file != opened):
            raise sqlite3.OperationalError(f"{REPLACED}: {self._path}")
        if isinstance(connection, session_tracking.TrackedConnection):
            connection.pooling_changed = False  # what Django registers is part of every session
        if isinstance(connection, session_tracking.WatchedConnection):
            connection.pooling_session = session
        elif session_tracking.FREE_THREADED:
            session.tracker = session_tracking.untracked
        self._sessions[connection] = session
        OPEN_FILES.add(session.file)

    def _pragmas(self, connection: sqlite3.Connection) -> dict[str, int]:
        """Read the pragmas that a release sets back, without those this SQLite does not have."""
        names = SESSION_PRAGMAS if self.restores else ("foreign_keys",)
        cursor = sqlite3.Cursor(connection)  # whose rows are tuples, whatever receivers have set
        rows = {name: cursor.execute(f"PRAGMA {name}").fetchone() for name in names}
        return {name: int(row[0]) for name, row in rows.items() if row is not None}

    def reset(self, connection: sqlite3.Connection) -> None:
        """End the transaction, and undo the changes noted in this lease."""
        session = self._sessions[connection]
        tracker = session.tracker()
        if tracker is None or tracker.notes:
            self.clean(connection)
            super().reset(connection)
            session.note_writes(connection)
            return
        # The same is asked there; here it spares a read the call.
        if (
            not self.only_rolls_back
            or self._fingerprint(connection) != self._clean_fingerprints[connection]
        ):
            super().reset(connection)
        if connection.total_changes != session.changes:
            session.note_writes(connection)

    def is_alive(self, connection: sqlite3.Connection) -> bool:
        """Tell whether the connection would read what is in the file at its path.

        A file that was deleted or replaced stays readable for connections that have it open, and
        one that was overwritten in place is read in part from their caches.
        """
        session = self._sessions[connection]
        try:
            if _state_of(_stat(session.path)) == session.state:
                return True
        except OSError:
            pass
        return session.follow(connection)

    def ping(self, connection: sqlite3.Connection) -> None:
        """Raise if the file was replaced or overwritten, or cannot be read.

        The connection is closed then, before the pool opens another one: that would share the
        index of the log with it, in which an overwritten file has the size that it had.
        """
        path = self._sessions[connection].path
        try:
            is_alive = self.is_alive(connection)
        except sqlite3.Error:
            self.close(connection)
            raise
        if not is_alive:
            self.close(connection)
            raise sqlite3.OperationalError(f"the database file {path} was replaced or overwritten")
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()

    def end_transaction(self, connection: sqlite3.Connection) -> None:
        """Roll back what is open; restore autocommit, foreign keys and the attached databases."""
        if connection.in_transaction:
            connection.rollback()
        connection.isolation_level = self.baseline(connection, "isolation_level")
        notes = self._sessions[connection].notes
        if notes or notes is None:
            self._end_changes(connection, notes)

    def _end_changes(self, connection: sqlite3.Connection, notes: set[str] | None) -> None:
        """Set `foreign_keys` back and detach databases, if the lease changed any of them."""
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
        """Set back the pragmas that differ; raise if another change of the lease remains.

        Dropping temporary tables one by one, in the order of their dependencies, costs more than a
        new connection, and the pool opens one after an error.
        """
        if getattr(connection, "pooling_changed", False):
            raise sqlite3.OperationalError(f"the session has a {session_tracking.METHOD}")
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

    def session_change(self, connection: sqlite3.Connection) -> str | None:
        """Return what the lease may have left in the session; None if nothing."""
        notes = self._sessions[connection].notes
        if notes is None:
            return "authorizer"
        if not isinstance(connection, session_tracking.TrackedConnection):
            return "connection class that is not tracked"
        if connection.pooling_changed:
            return session_tracking.METHOD
        if notes - session_tracking.OF_THE_FILE:
            if session_tracking.SCHEMAS in notes:
                return "ATTACH or DETACH"
            return "temporary table" if session_tracking.TEMPORARY in notes else "PRAGMA"
        if connection.isolation_level != self.baseline(connection, "isolation_level"):
            return "attribute of the driver's connection"
        return super().session_change(connection)

    def mark_baseline(self, connection: sqlite3.Connection) -> None:
        """Take the session, as receivers have set it up, for what leases begin with."""
        super().mark_baseline(connection)
        session = self._sessions[connection]
        notes = session.notes
        if notes or notes is None:
            session.schemas = _schemas(connection)
            session.pragmas = self._pragmas(connection)
        if notes is not None:
            notes.clear()

    def needs_connection_created(self, connection: sqlite3.Connection) -> bool:  # noqa: ARG002
        """Return False: a reset restores what receivers have set up (see `mark_baseline`)."""
        return False

    def close(self, connection: sqlite3.Connection) -> None:
        """Close the file, with all that was committed in it, even if it was replaced meanwhile.

        As SQLite closes the last connection of a file, it writes the log into the file, but not if
        the file has moved; and its former owner may have kept it under another name.
        """
        session = self._sessions.pop(connection, None)
        if session is not None and OPEN_FILES.remove(session.file):
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self.forget(connection)
        SERIAL_CLOSER.close(connection)

    def cancel(self, connection: sqlite3.Connection) -> None:
        """Interrupt the running statement."""
        SERIAL_CLOSER.interrupt(connection)

    def is_transient(self, error: BaseException) -> bool:
        """Tell whether others were only in the way: with a lock, or by replacing the file."""
        return isinstance(error, sqlite3.OperationalError) and (
            "locked" in str(error) or REPLACED in str(error)
        )


def _data_version(connection: sqlite3.Connection) -> int | None:
    """Return `PRAGMA data_version`, None if the file is locked or no database. Does not wait."""
    cursor = sqlite3.Cursor(connection)
    timeout = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
    cursor.execute("PRAGMA busy_timeout = 0")
    try:
        return int(cursor.execute("PRAGMA data_version").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in VERSION_UNKNOWN:
            return None
        raise
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {timeout}")


def _databases(connection: sqlite3.Connection) -> list[tuple[int, str, str]]:
    """Return the attached databases, whatever factories receivers have set."""
    text_factory = connection.text_factory
    connection.text_factory = str
    try:
        return sqlite3.Cursor(connection).execute("PRAGMA database_list").fetchall()
    finally:
        connection.text_factory = text_factory


def _schemas(connection: sqlite3.Connection) -> frozenset[str]:
    """Return the names of the attached databases."""
    return _names(_databases(connection))


def _names(databases: list[tuple[int, str, str]]) -> frozenset[str]:
    """Return the names of databases, without "temp", which comes by itself."""
    return frozenset(schema for _, schema, _ in databases if schema != "temp")


def _has_temporary(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_temp_master LIMIT 1").fetchone() is not None


def _set_back(connection: sqlite3.Connection, pragma: str, value: int) -> None:
    now = sqlite3.Cursor(connection).execute(f"PRAGMA {pragma}").fetchone()[0]
    if int(now) != value:
        connection.execute(f"PRAGMA {pragma} = {value}")
