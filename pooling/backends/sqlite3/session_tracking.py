"""What a lease does to its SQLite session, noted as it happens.

SQLite asks an *authorizer* about each thing that a statement is going to do, when it is compiled.
Ours permits everything and notes what outlives a transaction: so a release after ordinary
statements has nothing to look up. It misses no way to run a statement, and statements that come
from the cache cost nothing.
"""

from __future__ import annotations

import sqlite3
import weakref

SCHEMAS = "ATTACH"
"""The note for databases that were attached or detached."""
TEMPORARY = "TEMPORARY"
"""The note for temporary tables and the like."""

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
NOTEWORTHY = ATTACHING | CREATING | {sqlite3.SQLITE_PRAGMA}

OF_THE_FILE = frozenset(
    {
        *("application_id", "foreign_key_check", "foreign_key_list", "incremental_vacuum"),
        *("index_info", "index_list", "index_xinfo", "integrity_check", "optimize"),
        *("quick_check", "table_info", "table_list", "table_xinfo", "user_version"),
        "wal_checkpoint",
    }
)
"""Pragmas that take an argument and do nothing to the session."""


class ChangeAuthorizer:
    """The authorizer of one connection, and its notes.

    SQLite calls it from C, which loses what it raises and refuses the statement instead. It cannot
    fail, but an interrupt (Ctrl-C) that arrives while it runs shows as "not authorized".
    """

    __slots__ = ("__weakref__", "notes")

    def __init__(self) -> None:
        self.notes: set[str] = set()
        """`SCHEMAS`, `TEMPORARY`, and the names of pragmas that were set: those of another schema
        than "main" with the name of the schema before them."""

    def __call__(
        self, action: int, name: str | None, value: str | None, schema: str | None, _by: str | None
    ) -> int:
        if action in NOTEWORTHY:
            if action == sqlite3.SQLITE_PRAGMA:
                if name and value is not None:
                    name = name.lower()
                    elsewhere = schema and schema.lower() != "main" and name not in OF_THE_FILE
                    self.notes.add(f"{schema}.{name}" if elsewhere else name)
            elif action in ATTACHING:
                self.notes.add(SCHEMAS)
            elif action in CREATING_TEMPORARY or schema == "temp":
                self.notes.add(TEMPORARY)
        return sqlite3.SQLITE_OK


def track(connection: sqlite3.Connection) -> weakref.ref[ChangeAuthorizer]:
    """Begin to take notes of a connection.

    The connection alone keeps its watcher alive: so the reference is dead if somebody has put an
    authorizer of their own in its place, and nobody takes notes any more.
    """
    watcher = ChangeAuthorizer()
    connection.set_authorizer(watcher)
    return weakref.ref(watcher)
