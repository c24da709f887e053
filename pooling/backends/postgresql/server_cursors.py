"""Server-side cursors of psycopg 3: they end with their lease, and their `close` never waits.

`ServerCursor.close` takes the connection's lock before it looks whether there is anything to do.
The lock is not re-entrant: a half-read `QuerySet.iterator()` in a reference cycle is closed by the
garbage collector at any allocation, perhaps in a query of the same thread, and would wait for ever.
psycopg2 looks first.
"""

from __future__ import annotations

import contextlib
import os
from functools import cache
from typing import Any


class OpenServerCursors(list[Any]):
    """The server-side cursors that a lease has open; on the connection, None if there are none.

    They are kept alive, so that one that could not be closed at once is closed by the release.
    """

    __slots__ = ("pid",)

    def __init__(self) -> None:
        super().__init__()
        self.pid = os.getpid()


class _LeasedServerCursor:
    """Mixed into a class of server-side cursors, it changes how these are closed."""

    __slots__ = ()
    closed: bool
    connection: Any

    def __init__(self, connection: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(connection, *args, **kwargs)  # type: ignore[call-arg]
        remember(connection, self)

    def close(self) -> None:
        """Close the cursor. Return at once if it is closed, if its lease is over, or in a fork.

        While the connection is in use this is left to the release: the query that is running may
        be the one of this thread that garbage collection has interrupted.
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
        """Raise before psycopg, which finds out after it has sent a statement, or not at all."""
        if self.closed:
            from psycopg import InterfaceError

            raise InterfaceError("the cursor is closed")

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Run the cursor's statement, or another one."""
        self._check_open()
        return super().execute(*args, **kwargs)  # type: ignore[misc]

    def scroll(self, *args: Any, **kwargs: Any) -> None:
        """Move in the rows."""
        self._check_open()
        super().scroll(*args, **kwargs)  # type: ignore[misc]


def remember(connection: Any, cursor: Any) -> None:
    """Remember a cursor until it is closed."""
    if connection.pooling_server_cursors is None:
        connection.pooling_server_cursors = OpenServerCursors()
    connection.pooling_server_cursors.append(cursor)
    if changes := getattr(connection, "pooling_changes", None):
        changes.dirty = True  # its statements are not classified


@cache
def leased(base: type) -> type:
    """Return a class of server-side cursors like `base`, with its name, that ends with a lease."""
    if issubclass(base, _LeasedServerCursor):
        return base
    namespace = {"__slots__": (), "__module__": base.__module__}
    return type(base.__name__, (_LeasedServerCursor, base), namespace)


def is_leased(factory: object) -> bool:
    """Tell whether the cursors of a class are remembered."""
    return isinstance(factory, type) and issubclass(factory, _LeasedServerCursor)


def prepare(connection: Any) -> None:
    """Have a new connection remember the server-side cursors that it makes."""
    connection.pooling_server_cursors = None
    if isinstance(connection.server_cursor_factory, type):
        connection.server_cursor_factory = leased(connection.server_cursor_factory)


def adopt(connection: Any, cursor: Any) -> None:
    """Remember a cursor that was not made by the connection's own factory."""
    from psycopg import ServerCursor

    kind = type(cursor)
    if issubclass(kind, ServerCursor) and not is_leased(kind):
        cursor.__class__ = leased(kind)  # type: ignore[arg-type]
        remember(connection, cursor)
