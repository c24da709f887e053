"""MySQL drivers: open, test, reset and close connections with mysqlclient or PyMySQL."""

from __future__ import annotations

import abc
import contextlib
import math
import os
import re
import socket
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

import MySQLdb

from pooling.backends.driver import DatabaseDriver
from pooling.backends.mysql import session_tracking
from pooling.backends.postgresql import polling
from pooling.backends.postgresql.deadlines import DEADLINES

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.backends.base.base import BaseDatabaseWrapper

    from pooling.backends.base import PooledDatabaseWrapper
    from pooling.core.config import PoolConfig

MAX_CONNECT_TIMEOUT = 10
"""Seconds. A connect without an answer occupies a slot of the pool until then."""

TRANSIENT = frozenset(
    {
        1040,  # too many connections
        1053,  # the server shuts down
        1077,  # normal shutdown
        1079,  # shutdown complete
        1135,  # no thread can be made
        1152,  # aborted connection
        1158,  # errors of the network while packets are read and written
        1159,
        1160,
        1161,
        1203,  # max_user_connections
        1927,  # MariaDB: the connection was killed
        2002,  # no socket
        2003,  # refused, or no route
        2006,  # the server has gone away
        2012,  # error in the handshake
        2013,  # lost while it was being made
        2055,  # lost, with the system's error
        4031,  # MySQL: closed for inactivity
    }
)
"""Numbers of connect errors that are worth a retry. Any other error counts as permanent, and the
caller gets it at once: 1044 (no right to the database), 1045 (wrong password), 1049 (no such
database), 1129 (host blocked), 2005 (unknown host)."""

REFUSED_LOGIN = 1045
USER_LIMITS, LIMIT_OF_SESSIONS = 1226, "max_user_connections"
"""A limit of the account's is exceeded; only that of its sessions changes in a moment."""

COM_RESET_CONNECTION = 0x1F


def program_name() -> str:
    """Return the name of this process's sessions on the server: pooling host:pid."""
    host = socket.gethostname().encode("ascii", "replace").decode()
    return f"pooling {host[:200]}:{os.getpid()}"


class MySQLDriverBase(DatabaseDriver):
    """The common part of both drivers."""

    disruptions = ("cancel", "terminate")
    no_budget = (
        "its sessions cannot see who holds a lock (GET_LOCK), so nobody would know whose "
        "connection to give up"
    )
    session_functions = re.compile(
        r"\b(last_insert_id|row_count|found_rows|lastval)\s*\(", re.IGNORECASE
    )
    transaction_attributes = (
        *("pooling_in_transaction", "pooling_autocommit", "pooling_unread", "pooling_failed"),
    )
    lease_attributes = ("cursorclass",)
    session_attributes = ("encoders",)
    tracked_class: ClassVar[type]
    _is_open = attrgetter("open")

    def __init__(self, wrapper: PooledDatabaseWrapper, config: PoolConfig) -> None:
        self._readable: dict[Any, Callable[[], object]] = {}
        """For each open connection, a function that tells whether its socket is readable."""
        self._server_data: Any = None
        """What Django asks of the server once for each wrapper, openers included."""
        self._error: type[Exception] = wrapper.Database.Error
        super().__init__(wrapper, config)

    def opener(self) -> PooledDatabaseWrapper:
        """Return a wrapper that need not ask for the server's version again."""
        opener = super().opener()
        if self._server_data is not None:
            vars(opener)["mysql_server_data"] = self._server_data
        return opener

    def connection_params(self) -> dict[str, Any]:
        """Return the parameters, with a timeout."""
        params = super().connection_params()
        if self.config.timeout is not None:
            bound = min(math.ceil(self.config.timeout), MAX_CONNECT_TIMEOUT)
            params.setdefault("connect_timeout", max(bound, 1))
        return params

    def set_up_session(self, opener: BaseDatabaseWrapper) -> None:
        """Do what Django does with a new connection, in bounded time; track its statements."""
        connection = opener.connection
        session_tracking.track(connection, self.tracked_class, notes_changes=False)
        with DEADLINES.limit(connection):
            super().set_up_session(opener)
        session_tracking.track(connection, self.tracked_class, self.restores)
        if self.restores:
            with DEADLINES.limit(connection):
                connection.pooling_role = _role(connection)
        self._server_data = vars(opener).get("mysql_server_data", self._server_data)

    def on_connect(
        self,
        connection: Any,
        opener: PooledDatabaseWrapper,  # noqa: ARG002
    ) -> None:
        """Prepare the liveness test of the connection's socket."""
        self._readable[connection] = polling.readable(connection.fileno())

    def is_alive(self, connection: Any) -> bool:
        """Return False if the idle socket is readable: what a server sends unasked is the end."""
        return bool(self._is_open(connection)) and not self._readable[connection]()

    def ping(self, connection: Any) -> None:
        """Send COM_PING."""
        with DEADLINES.limit(connection):
            connection.ping()

    def end_transaction(self, connection: Any) -> None:
        """Roll back what is open and restore the autocommit mode."""
        if not connection.open:
            raise self.operational_error("the connection is closed")
        if connection.pooling_failed:
            raise self.operational_error("the server has refused a write: it is read-only")
        self.finish_results(connection)
        if connection.pooling_in_transaction:
            with DEADLINES.limit(connection):
                connection.rollback()
        if connection.pooling_autocommit != self._settings["AUTOCOMMIT"]:
            with DEADLINES.limit(connection):
                connection.autocommit(self._settings["AUTOCOMMIT"])

    @abc.abstractmethod
    def finish_results(self, connection: Any) -> None:
        """Raise if the lease has left rows that were not read."""

    def close_cursors(self, connection: Any, cursors: list[Any]) -> None:
        """Close cursors, in bounded time: what they have not read is read."""
        with DEADLINES.limit(connection):
            super().close_cursors(connection, cursors)

    def session_change(self, connection: Any) -> str | None:
        """Return what the lease may have left in the session; None if nothing."""
        changes = connection.pooling_changes
        if changes is not None and changes.dirty:
            reason: str = changes.reason
            return reason
        if connection.pooling_unread:
            return "an answer that was not read"
        return super().session_change(connection)

    def mark_baseline(self, connection: Any) -> None:
        """Take the session's state, as receivers have set it up, for what leases begin with."""
        super().mark_baseline(connection)
        changes = connection.pooling_changes
        if changes is not None and changes.dirty:
            with DEADLINES.limit(connection):
                connection.pooling_role = _role(connection)
        if changes is not None:
            changes.clear(restored=False)

    def needs_connection_created(self, connection: Any) -> bool:
        """Return True if the session was restored: what receivers had set up is gone."""
        changes = connection.pooling_changes
        return changes is not None and changes.restored

    def restore_session(self, connection: Any) -> None:
        """Undo what the lease changed in the session. No round trip if it changed nothing."""
        self.restore_attributes(connection, self.session_attributes)
        changes = connection.pooling_changes
        if not changes.dirty and self.config.reset == "session":
            return
        if not changes.may_be_reset:
            raise self.operational_error(f"the session cannot be reset after: {changes.reason}")
        with DEADLINES.limit(connection):
            self.restore(connection)
        changes.clear(restored=True)

    def restore(self, connection: Any) -> None:
        """Restore the session to its state after connecting, as the driver and Django set it."""
        params = self.connection_params()
        self.reset_on_server(connection, params)
        connection.set_character_set(params["charset"], params.get("collation"))
        with contextlib.closing(connection.cursor()) as cursor:
            if mode := params.get("sql_mode"):
                cursor.execute("SET SESSION sql_mode = %s", (mode,))
            if command := params.get("init_command"):
                cursor.execute(command)
        if _role(connection) != connection.pooling_role:
            # Left by SET ROLE in a stored function, which MariaDB's reset does not undo.
            raise self.operational_error("the session has another role than at its beginning")
        opener = self.opener()
        opener.connection = connection
        opener.set_autocommit(self._settings["AUTOCOMMIT"])
        opener.init_connection_state()
        if not self._settings["AUTOCOMMIT"]:
            connection.commit()
        opener.connection = None

    @abc.abstractmethod
    def reset_on_server(self, connection: Any, params: dict[str, Any]) -> None:
        """Have the server forget all that the session has; select the database again."""

    def is_transient(self, error: BaseException) -> bool:
        """Return True if a failed connect is worth a retry; see `TRANSIENT`."""
        if getattr(error, "is_transient", False):
            return True
        if not isinstance(error, self._error) or not error.args:
            return False
        number = error.args[0]
        if self._connect_params is not None and number == REFUSED_LOGIN:
            return True  # the next call may supply what is valid by now
        if number == USER_LIMITS:
            return LIMIT_OF_SESSIONS in str(error)
        return number in TRANSIENT and not _is_unknown_host(error)

    def cancel(self, connection: Any) -> None:
        """Ask the server to stop the running statement, over a connection of its own."""
        connection.fileno()  # raises if it is closed
        number = connection.pooling_number
        opener = self.opener()
        other: Any = opener.get_new_connection(self.connection_params())
        with contextlib.closing(other), contextlib.closing(other.cursor()) as cursor:
            cursor.execute(f"KILL QUERY {number:d}")

    def terminate(self, connection: Any) -> None:
        """Shut the socket down: the server rolls back, and the next use raises."""
        with contextlib.suppress(OSError):
            number = connection.fileno()
            with socket.socket(fileno=os.dup(number)) as copy:
                # Its holder may have closed it before it was copied.
                if connection.open and connection.fileno() == number:
                    copy.shutdown(socket.SHUT_RDWR)

    def close(self, connection: Any) -> None:
        """Close the connection, unless its holder has."""
        self._readable.pop(connection, None)
        self.forget(connection)
        if connection.open:
            connection.close()


class PyMySQLDriver(MySQLDriverBase):
    """PyMySQL."""

    tracked_class = session_tracking.PyMySQLConnection

    def connection_params(self) -> dict[str, Any]:
        """Return the parameters, with a name for the session and a timeout for the handshake.

        PyMySQL's `connect_timeout` ends when TCP is connected.
        """
        params = super().connection_params()
        params.setdefault("program_name", program_name())
        if params.get("read_timeout") is None and "connect_timeout" in params:
            params["read_timeout"] = params["connect_timeout"]
        return params

    def set_up_session(self, opener: BaseDatabaseWrapper) -> None:
        """Do what Django does with a new connection; users' queries have no timeout of ours."""
        connection: Any = opener.connection
        connection._read_timeout = self._login.params.get("read_timeout")
        super().set_up_session(opener)

    def ping(self, connection: Any) -> None:
        """Send COM_PING; do not reconnect, as older versions do unless they are told."""
        with DEADLINES.limit(connection):
            connection.ping(reconnect=False)

    def finish_results(self, connection: Any) -> None:
        """Raise if the lease has left an answer that was not read."""
        if connection.pooling_unread:
            raise self.operational_error("the lease has left an answer that was not read")

    def reset_on_server(self, connection: Any, params: dict[str, Any]) -> None:
        """Send COM_RESET_CONNECTION, which leaves the database as it is."""
        connection._execute_command(COM_RESET_CONNECTION, b"")
        connection._read_ok_packet()
        if database := params.get("database") or params.get("db"):
            connection.select_db(database)


class MySQLdbDriver(MySQLDriverBase):
    """mysqlclient."""

    tracked_class = session_tracking.MySQLdbConnection

    def finish_results(self, connection: Any) -> None:
        """Make a round trip, which fails if rows are left, after a cursor that does not buffer."""
        if connection.pooling_unread:
            self.ping(connection)
            connection.pooling_unread = False

    def reset_on_server(self, connection: Any, params: dict[str, Any]) -> None:
        """Log in again, for want of a call for COM_RESET_CONNECTION."""
        if "user" not in params or {"read_default_file", "auth_plugin"} & params.keys():
            raise self.operational_error("this session cannot be reset: the login is not known")
        password = params.get("password") or params.get("passwd") or ""
        database = params.get("database") or params.get("db") or ""
        MySQLdb.connections.Connection.change_user(connection, params["user"], password, database)


MySQLDriver: type[MySQLDriverBase] = (
    PyMySQLDriver if MySQLdb.__name__ == "pymysql" else MySQLdbDriver
)
"""The driver Django uses: the one that is imported as `MySQLdb`."""


def _role(connection: Any) -> Any:
    """Return the session's role."""
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute("SELECT CURRENT_ROLE()")
        return cursor.fetchone()[0]


def _is_unknown_host(error: BaseException) -> bool:
    """Tell whether PyMySQL failed since there is no host of that name."""
    origin = getattr(error, "original_exception", None)
    return isinstance(origin, socket.gaierror) and origin.errno != socket.EAI_AGAIN
