"""The pooled SQLite backend."""

from __future__ import annotations

import sqlite3
import sys
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar

from django.db.backends.sqlite3 import base
from django.utils.asyncio import async_unsafe

from pooling.backends.base import PooledDatabaseWrapper
from pooling.backends.creation import PooledDatabaseCreation
from pooling.backends.identity import frozen
from pooling.backends.sqlite3 import database_files
from pooling.backends.sqlite3.database_files import OPEN_FILES
from pooling.backends.sqlite3.driver import SERIAL_CLOSER, SQLiteDriver
from pooling.backends.sqlite3.features import PooledFeatures

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping


class _Cursor(base.SQLiteCursorWrapper):
    """Django's cursor, which notes on its wrapper that a statement is being compiled and run.

    SQLite calls the authorizer meanwhile, a function of Python's, and so signal handlers and
    finalisers may run in the middle of SQLite's own code. It crashes if they use the connection.
    """

    wrapper: PooledSQLite

    def execute(self, query: Any, params: Any = None) -> Any:
        """Run a statement."""
        wrapper = self.wrapper
        wrapper._executing_in = get_ident()
        try:
            return super().execute(query, params)
        finally:
            wrapper._executing_in = None

    def executemany(self, query: Any, param_list: Any) -> Any:
        """Run a statement once for each set of parameters."""
        wrapper = self.wrapper
        wrapper._executing_in = get_ident()
        try:
            return super().executemany(query, param_list)
        finally:
            wrapper._executing_in = None


_EXECUTING = (_Cursor.execute.__code__, _Cursor.executemany.__code__)


if TYPE_CHECKING:
    _Wrapper = base.DatabaseWrapper
else:
    _Wrapper = object


class PooledSQLite(PooledDatabaseWrapper, _Wrapper):
    """Mixed into a SQLite wrapper, of Django's or another package, it leases connections."""

    driver_class = SQLiteDriver
    pool_defaults: ClassVar[Mapping[str, Any]] = {"max_idle": 1.0}
    """A file must not be open for long while it is not used: another process that opens what has
    replaced it in WAL mode would find the old log. To open it again takes about a millisecond."""
    mixins: ClassVar[Mapping[str, type]] = {
        "creation_class": PooledDatabaseCreation,
        "features_class": PooledFeatures,
    }
    init_commands: list[str]
    opened_file: database_files.FileId | None = None
    """The file at the path just before this wrapper opened it, None if there was none."""

    def pool_follows_settings(self) -> bool:
        """Tell whether equal settings lead to the same pool: a relative `NAME` follows `chdir`."""
        name = self.settings_dict["NAME"]
        return database_files.absolute_name(name) == name and super().pool_follows_settings()

    def stock_cursor(self, name: str | None = None) -> Any:  # noqa: ARG002 - SQLite names none
        """Make a cursor; refuse if this thread is in the middle of a statement."""
        if self._executing_in is not None and self._is_executing():
            raise self.Database.InterfaceError(
                "a signal handler or finaliser used the connection in the middle of its statement"
            )
        cursor = self.connection.cursor(factory=_Cursor)
        cursor.wrapper = self
        return cursor

    def _is_executing(self) -> bool:
        """Tell whether this thread is in the middle of a statement of this wrapper.

        The note of it may be left from one that was interrupted: only the thread's stack is sure.
        """
        if self._executing_in != get_ident():
            return False
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code in _EXECUTING and frame.f_locals["self"].wrapper is self:
                return True
            frame = frame.f_back  # type: ignore[assignment]
        self._executing_in = None
        return False

    def can_be_pooled(self) -> bool:
        """Leave databases in memory to the stock backend: each connection is one of its own."""
        return not database_files.is_in_memory(self.settings_dict["NAME"])

    def get_connection_params(self) -> dict[str, Any]:
        """Return the parameters, with the file as the current directory has it."""
        params = super().get_connection_params()
        return {**params, "database": database_files.absolute_name(params["database"])}

    @async_unsafe
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Open the file, and close it again if one of Django's first statements fails.

        Django leaves that to the garbage collector, and an error that is kept keeps the file open.
        """
        factory = conn_params.get("factory")
        opened = []

        def make(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            path = database_files.path_of(conn_params["database"])
            OPEN_FILES.prepare_to_open(path)
            self.opened_file = database_files.file_id(path)
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
        """Return `name` with the current directory filled in."""
        return str(database_files.absolute_name(name))


class DatabaseWrapper(PooledSQLite, base.DatabaseWrapper):
    """Django's SQLite wrapper, leasing its connections from a pool."""
