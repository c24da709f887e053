"""Session tracking: note what a lease may change in its PostgreSQL session, and undo it.

The cursors of a tracked connection classify each statement before they run it. With
`reset="session"` the release of a lease whose statements were all neutral costs no round trip.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pooling.backends.postgresql import server_cursors
from pooling.backends.postgresql.sql_classifier import change_of, is_session_neutral

if TYPE_CHECKING:
    from collections.abc import Callable

RESTORE_SESSION = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; UNLISTEN *; "
    "SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES; "
)
"""`DISCARD ALL` without `DEALLOCATE ALL`, and with the role, which the connection's options may
set and not every server restores together with the user. One message is one round trip."""

PREPARED_BY_SQL = "SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql"
"""The prepared statements of the lease. Those of the driver were prepared through the protocol and
must stay: it would not notice that they are gone."""


MAY_UNLOCK = re.compile(r"unlock|discard", re.IGNORECASE)
"""Statements that may free the session's slot of a budget."""

UNTRACKED = "cursor class that is not tracked"
ATTRIBUTE = "attribute of the driver's connection"
"""Changes that are no statement."""


class SessionChanges:
    """What was noted of a session."""

    __slots__ = ("dirty", "keep_slot", "named_cursors", "reason", "restored")

    def __init__(self) -> None:
        self.dirty = False
        """A statement may have changed something that outlives its transaction."""
        self.reason = ""
        """What has done that first, in a few words."""
        self.named_cursors = 0
        """psycopg2's server-side cursors that are not closed; those declared `WITH HOLD` stay."""
        self.keep_slot: Callable[[Any], object] | None = None
        """Takes the session's slot of a budget again."""
        self.restored = False
        """The session was restored: what receivers of `connection_created` set is gone, too."""

    def mark(self, reason: str) -> None:
        """Note that something may have changed the session."""
        self.dirty = True
        self.reason = reason

    def note(self, statement: object) -> None:
        """Note a statement that is about to run, if it may change the session."""
        if not self.dirty and not is_session_neutral(statement):
            self.mark(change_of(statement))


def restoring(time_zone: str | None, before_answer: str = "") -> str:
    """Return the message that restores a session, and answers with `PREPARED_BY_SQL`.

    Args:
        time_zone: what Django would set next, in a round trip of its own.
        before_answer: what comes before that.
    """
    if not time_zone:
        return RESTORE_SESSION + before_answer + PREPARED_BY_SQL
    name = time_zone.replace("'", "''")
    zone = f"SELECT pg_catalog.set_config('TimeZone', '{name}', false); "
    return RESTORE_SESSION + zone + before_answer + PREPARED_BY_SQL


def deallocating(names: list[str]) -> str:
    """Return the message that deallocates prepared statements."""
    quoted = (name.replace('"', '""') for name in names)
    return "; ".join(f'DEALLOCATE "{name}"' for name in quoted)


class _TrackingCursor:
    """Mixed into a driver's class of cursors, it classifies statements before they run."""

    __slots__ = ()
    connection: Any
    name: Any

    def _classify(self, statement: object) -> None:
        changes = getattr(self.connection, "pooling_changes", None)
        if changes is not None and not changes.dirty and not is_session_neutral(statement):
            changes.mark(change_of(statement))

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        self._classify(query)
        return super().execute(query, *args, **kwargs)  # type: ignore[misc]

    def executemany(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        self._classify(query)
        return super().executemany(query, *args, **kwargs)  # type: ignore[misc]


class _Psycopg3TrackingCursor(_TrackingCursor):
    __slots__ = ()

    def stream(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        self._classify(query)
        return super().stream(query, *args, **kwargs)  # type: ignore[misc]

    def copy(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        self._classify(statement)
        return super().copy(statement, *args, **kwargs)  # type: ignore[misc]


class _Psycopg2TrackingCursor(_TrackingCursor):
    __slots__ = ()
    closed: bool

    def copy_expert(self, sql: Any, *args: Any, **kwargs: Any) -> Any:
        self._classify(sql)
        return super().copy_expert(sql, *args, **kwargs)  # type: ignore[misc]

    def close(self) -> None:
        was_open = not self.closed
        super().close()  # type: ignore[misc]
        if was_open and self.name is not None:
            self.connection.pooling_changes.named_cursors -= 1

    def callproc(self, procname: Any, *args: Any, **kwargs: Any) -> Any:
        self.connection.pooling_changes.mark("callproc()")
        return super().callproc(procname, *args, **kwargs)  # type: ignore[misc]


class _Psycopg2Connection:
    """Mixed into psycopg2's class of connections, it tracks what does not use a cursor."""

    cursor_factory: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.pooling_changes = SessionChanges()
        super().__init__(*args, **kwargs)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        cursor = super().cursor(*args, **kwargs)  # type: ignore[misc]
        if not isinstance(cursor, _TrackingCursor):
            self.pooling_changes.mark(UNTRACKED)
        elif cursor.name is not None:
            self.pooling_changes.named_cursors += 1
        return cursor

    def reset(self) -> None:
        self.pooling_changes.mark(ATTRIBUTE)
        super().reset()  # type: ignore[misc]

    def set_client_encoding(self, encoding: str) -> None:
        self.pooling_changes.mark(ATTRIBUTE)
        super().set_client_encoding(encoding)  # type: ignore[misc]

    def set_session(self, *args: Any, **kwargs: Any) -> None:
        self.pooling_changes.mark(ATTRIBUTE)
        super().set_session(*args, **kwargs)  # type: ignore[misc]


@lru_cache(128)  # classes may be made per connection
def _mixed(mixin: type, base: type) -> type:
    """Return a subclass of `base` with its name, whose objects take no more memory."""
    return type(base.__name__, (mixin, base), {"__slots__": (), "__module__": base.__module__})


class _SlotKeepingCursor:
    """Mixed into a class of cursors, it takes a session's slot again that a statement may free."""

    __slots__ = ()
    connection: Any

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().execute(query, *args, **kwargs)  # type: ignore[misc]
        if MAY_UNLOCK.search(query if isinstance(query, str) else repr(query)):
            self.connection.pooling_changes.keep_slot(self.connection)
        return result


def keep_slot(connection: Any, keep: Callable[[Any], object]) -> None:
    """Call `keep` with the tracked connection after each statement that may free its slot."""
    changes = getattr(connection, "pooling_changes", None)
    if changes is not None and isinstance(connection.cursor_factory, type):
        changes.keep_slot = keep
        connection.cursor_factory = _mixed(_SlotKeepingCursor, connection.cursor_factory)


def track_psycopg3(connection: Any) -> None:
    """Track the statements of a connection's cursors from now on."""
    connection.pooling_changes = SessionChanges()
    if isinstance(connection.cursor_factory, type):
        connection.cursor_factory = _mixed(_Psycopg3TrackingCursor, connection.cursor_factory)


def track_psycopg2(connection: Any) -> None:
    """Track the statements of a connection's cursors from now on."""
    if not isinstance(connection, _Psycopg2Connection):
        return  # made by a function of the user's: not tracked, so its session is always restored
    connection.pooling_changes = SessionChanges()
    if isinstance(connection.cursor_factory, type):
        connection.cursor_factory = _mixed(_Psycopg2TrackingCursor, connection.cursor_factory)


def tracked_connection(factory: Any) -> Any:
    """Return a tracked subclass of a class of connections; a user's function unchanged."""
    return _mixed(_Psycopg2Connection, factory) if isinstance(factory, type) else factory


def changes_of(connection: Any) -> SessionChanges | None:
    """Return what was noted of a session; None if some of its cursors were not tracked."""
    factory = connection.cursor_factory
    if not (isinstance(factory, type) and issubclass(factory, _TrackingCursor)):
        return None
    server_cursor_factory = getattr(connection, "server_cursor_factory", None)  # of psycopg 3 only
    if server_cursor_factory is not None and not server_cursors.is_tracked(server_cursor_factory):
        return None
    return getattr(connection, "pooling_changes", None)
