"""Server-side cursors of psycopg 3: close them with their lease, and never block in `close`.

`ServerCursor.close` takes the connection's lock before it checks whether there is anything to do.
The lock is not re-entrant, and the garbage collector may close a half-read `QuerySet.iterator()` at
any allocation: during a query of the same thread it would deadlock. psycopg2 checks first.
"""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache
from typing import Any


class OpenServerCursors(list[Any]):
    """The open server-side cursors of a lease; an attribute of its connection, or None.

    The list keeps them alive: the release closes those that could not be closed at once.
    """

    __slots__ = ("pid",)

    def __init__(self) -> None:
        super().__init__()
        self.pid = os.getpid()


class _TrackedServerCursor:
    """Mixed into a class of server-side cursors, it makes `close` return at once."""

    __slots__ = ()
    closed: bool
    connection: Any

    def __init__(self, connection: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(connection, *args, **kwargs)  # type: ignore[call-arg]
        _add(connection, self)

    def close(self) -> None:
        """Close the cursor. Does nothing if it is closed, if its lease is over, or in a fork.

        While the connection is in use this is left to the release: the query in progress may be
        this thread's own, interrupted by garbage collection.
        """
        if self.closed:
            return
        connection = self.connection
        cursors = getattr(connection, "pooling_server_cursors", None)
        if connection.closed or not cursors or self not in cursors or cursors.pid != os.getpid():
            self._close_locally()
        elif not connection.lock.locked():
            super().close()  # type: ignore[misc]
            with contextlib.suppress(ValueError):  # closed by two threads at once
                cursors.remove(self)

    def _close_locally(self) -> None:
        from psycopg import Cursor

        Cursor.close(self)  # type: ignore[arg-type]

    def _check_open(self) -> None:
        """Raise if the cursor is closed: psycopg would send a statement first, or check nothing."""
        if self.closed:
            from psycopg import InterfaceError

            raise InterfaceError("the cursor is closed")

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """Declare the cursor for a statement."""
        self._check_open()
        if changes := getattr(self.connection, "pooling_changes", None):
            changes.note(query)
        return super().execute(query, *args, **kwargs)  # type: ignore[misc]

    def scroll(self, *args: Any, **kwargs: Any) -> None:
        """Move the cursor."""
        self._check_open()
        super().scroll(*args, **kwargs)  # type: ignore[misc]


def _add(connection: Any, cursor: Any) -> None:
    """Track a cursor until it is closed."""
    if connection.pooling_server_cursors is None:
        connection.pooling_server_cursors = OpenServerCursors()
    connection.pooling_server_cursors.append(cursor)


@lru_cache(128)  # classes may be made per connection
def tracked_class(base: type) -> type:
    """Return a subclass of `base` with its name, whose cursors are tracked."""
    if issubclass(base, _TrackedServerCursor):
        return base
    namespace = {"__slots__": (), "__module__": base.__module__}
    return type(base.__name__, (_TrackedServerCursor, base), namespace)


def is_tracked(factory: object) -> bool:
    """Return True if the cursors of a class are tracked."""
    return isinstance(factory, type) and issubclass(factory, _TrackedServerCursor)


def track_connection(connection: Any) -> None:
    """Track the server-side cursors of a new connection."""
    connection.pooling_server_cursors = None
    if isinstance(connection.server_cursor_factory, type):
        connection.server_cursor_factory = tracked_class(connection.server_cursor_factory)


def track_cursor(connection: Any, cursor: Any) -> None:
    """Track a cursor that was not made by the connection's own factory."""
    from psycopg import ServerCursor

    kind = type(cursor)
    if issubclass(kind, ServerCursor) and not is_tracked(kind):
        cursor.__class__ = tracked_class(kind)  # type: ignore[arg-type]
        _add(connection, cursor)
