"""Session tracking: note what a lease changes in its SQLite session, as it happens.

SQLite calls an *authorizer* for each thing that a statement is going to do, when it is compiled.
Ours permits everything and notes what outlives a transaction: so a release after ordinary
statements has nothing to look up. No statement escapes it, however it is run, and statements that
come from the cache cost nothing.
"""

from __future__ import annotations

import sqlite3
import sysconfig
import weakref
from functools import lru_cache
from typing import Any

SCHEMAS = "ATTACH"
"""The note for databases that were attached or detached."""
TEMPORARY = "TEMPORARY"
"""The note for temporary tables and the like."""
FILE = "FILE"
"""The note for changes of the schema in the file, which are none of the session."""

ATTACHING = frozenset({sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH})
CREATING_TEMPORARY = frozenset(
    {
        sqlite3.SQLITE_CREATE_TEMP_INDEX,
        sqlite3.SQLITE_CREATE_TEMP_TABLE,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_CREATE_TEMP_VIEW,
    }
)
CREATING = CREATING_TEMPORARY | {
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_CREATE_TABLE,
    sqlite3.SQLITE_CREATE_TRIGGER,
    sqlite3.SQLITE_CREATE_VIEW,
    sqlite3.SQLITE_CREATE_VTABLE,
}
WRITING = CREATING | {
    sqlite3.SQLITE_ALTER_TABLE,
    sqlite3.SQLITE_ANALYZE,
    sqlite3.SQLITE_DROP_INDEX,
    sqlite3.SQLITE_DROP_TABLE,
    sqlite3.SQLITE_DROP_TRIGGER,
    sqlite3.SQLITE_DROP_VIEW,
    sqlite3.SQLITE_DROP_VTABLE,
    sqlite3.SQLITE_REINDEX,
    *ATTACHING,  # VACUUM attaches its copy
    sqlite3.SQLITE_PRAGMA,
}
"""What may change the session, or the file without changing rows, which the connection counts."""

OF_THE_FILE = frozenset(
    {
        FILE,
        *("application_id", "foreign_key_check", "foreign_key_list", "incremental_vacuum"),
        *("index_info", "index_list", "index_xinfo", "integrity_check", "optimize"),
        *("quick_check", "table_info", "table_list", "table_xinfo", "user_version"),
        "wal_checkpoint",
    }
)
"""Notes that are no change of the session, as of pragmas whose argument is no setting."""


class ChangeAuthorizer:
    """The authorizer of one connection, which notes changes.

    SQLite calls it from C, which swallows what it raises and refuses the statement instead. It
    cannot fail, but an interrupt (Ctrl-C) that arrives while it runs shows as "not authorized".
    """

    __slots__ = ("__weakref__", "notes")

    def __init__(self) -> None:
        self.notes: set[str] = set()
        """`SCHEMAS`, `TEMPORARY`, `FILE`, and the names of pragmas that were set: those of another
        schema than "main" with the name of the schema before them."""

    def __call__(
        self, action: int, name: str | None, value: str | None, schema: str | None, _by: str | None
    ) -> int:
        if action in WRITING:
            if action == sqlite3.SQLITE_PRAGMA:
                if name and value is not None:
                    name = name.lower()
                    elsewhere = schema and schema.lower() != "main" and name not in OF_THE_FILE
                    self.notes.add(f"{schema}.{name}" if elsewhere else name)
            elif action in ATTACHING:
                self.notes.add(SCHEMAS)
            elif action in CREATING_TEMPORARY or (schema == "temp" and action in CREATING):
                self.notes.add(TEMPORARY)
            else:
                self.notes.add(FILE)
        return sqlite3.SQLITE_OK


METHOD = "function or hook of the driver's connection"
"""The change that a call of a method of a `TrackedConnection` makes."""

CHANGING_METHODS = (
    *("create_function", "create_aggregate", "create_window_function", "create_collation"),
    *("set_progress_handler", "set_trace_callback", "enable_load_extension", "load_extension"),
    *("setlimit", "setconfig", "deserialize", "blobopen"),
)
"""Methods whose effect outlives a transaction and cannot be undone: what was there before is not
known."""


FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
"""Whether this is a build of Python in which an object may outlive its last reference: another
thread than the one that made it only leaves it to that thread to free it, which may be waiting."""


def untracked() -> None:
    """Return what a reference to a tracker returns when another authorizer has its place."""


class WatchedConnection:
    """Mixed into a class of connections, it notes when another authorizer is set.

    The end of the tracker tells that as well (see `track`), but too late in a free-threaded build:
    a worker has made the tracker, and a user's thread replaces it.
    """

    pooling_session: Any = None
    """What has the attribute `tracker`."""

    def set_authorizer(self, *args: Any, **kwargs: Any) -> None:
        """Set an authorizer of the user's."""
        if self.pooling_session is not None:
            self.pooling_session.tracker = untracked
        super().set_authorizer(*args, **kwargs)  # type: ignore[misc]


class TrackedConnection(WatchedConnection):
    """Mixed into a class of connections, it notes calls of `CHANGING_METHODS`, too."""

    pooling_changed = False


def _noting(name: str) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.pooling_changed = True
        return getattr(super(TrackedConnection, self), name)(*args, **kwargs)

    method.__name__ = name
    return method


for _name in CHANGING_METHODS:
    if hasattr(sqlite3.Connection, _name):
        setattr(TrackedConnection, _name, _noting(_name))


@lru_cache(128)  # classes may be made per connection
def _mixed(mixin: type, factory: type) -> type:
    return type(factory.__name__, (mixin, factory), {"__module__": factory.__module__})


def with_mixin(mixin: Any, factory: Any) -> Any:
    """Return a subclass of a class of connections; a user's function unchanged."""
    return _mixed(mixin, factory) if isinstance(factory, type) else factory


def track(connection: sqlite3.Connection) -> weakref.ref[ChangeAuthorizer]:
    """Begin to note the changes of a connection.

    Only the connection keeps the tracker alive: the reference is dead if another authorizer has
    taken its place, and changes are not noted any more.
    """
    tracker = ChangeAuthorizer()
    connection.set_authorizer(tracker)
    return weakref.ref(tracker)
