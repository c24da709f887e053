"""How to open, test, clean and close PostgreSQL connections, with psycopg 3 or psycopg2."""

from __future__ import annotations

import abc
import math
import os
import select
import socket
from typing import TYPE_CHECKING, Any

from django.db.backends.postgresql.psycopg_any import IsolationLevel, is_psycopg3

from pooling.backends.driver import DatabaseDriver

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

IDLE, IN_TRANSACTION, IN_ERROR = 0, 2, 3
"""libpq's PGTransactionStatusType, in both drivers; 1 is "a query is active", 4 "unknown"."""

SHORTEST_CONNECT_TIMEOUT = 2
"""libpq counts `connect_timeout` in whole seconds and rounds 1 up to 2."""

TRANSIENT = (
    "connection refused",
    "no such file or directory",  # the Unix socket of a server that is not running
    "connection reset",
    "broken pipe",
    "connection timed out",
    "timeout expired",
    "closed the connection unexpectedly",
    "starting up",
    "shutting down",
    "in recovery mode",
    "not yet accepting connections",
    "not accepting connections",
    "too many clients already",
    "remaining connection slots are reserved",
    "too many connections for",
    "network is unreachable",
    "no route to host",
    "host is unreachable",
    "temporary failure in name resolution",
)
"""What libpq and the server say when trying again in a moment makes sense. Neither driver tells the
SQLSTATE of a failed connect, so this is by text. Anything else counts as permanent: then the caller
has the server's words at once, which is the better mistake of the two."""

RESTORE_SESSION = (
    b"CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; "
    b"SELECT pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"
)
"""`DISCARD ALL` without its `DEALLOCATE ALL`: prepared statements are the driver's, which would not
know that they are gone. As one message this is one round trip."""


LONGEST_NAME = 63
"""PostgreSQL cuts `application_name` after so many bytes."""


def application_name() -> str:
    """Return what this process's sessions are called on the server: pooling host:pid."""
    pid = f":{os.getpid()}"
    host = socket.gethostname().encode("ascii", "replace").decode()
    return f"pooling {host}"[: LONGEST_NAME - len(pid)] + pid


class PsycopgDriver(DatabaseDriver):
    """What both drivers have in common."""

    def __init__(self, *args: Any) -> None:
        self._pollers: dict[Any, select.poll] = {}
        super().__init__(*args)

    def adopt(self, wrapper: Any) -> None:
        """Take over settings, and the time zone that Django derived from them."""
        super().adopt(wrapper)
        self._time_zone = wrapper.timezone, wrapper.timezone_name

    def opener(self) -> BaseDatabaseWrapper:
        """Return a wrapper that sets up sessions in this pool's time zone, whatever is set now."""
        opener = super().opener()
        opener.timezone, opener.timezone_name = self._time_zone
        return opener

    def connection_params(self, opener: BaseDatabaseWrapper) -> dict[str, Any]:
        """Return the parameters; a connect that hangs must end at some time.

        The session says in `pg_stat_activity` whose it is, unless the user's parameters, PGAPPNAME
        or a service file name it: libpq uses the fallback last.
        """
        params = super().connection_params(opener)
        if "application_name" not in f"{params.get('options')} {os.environ.get('PGOPTIONS')}":
            params.setdefault("fallback_application_name", application_name())
        if self.config.timeout is not None:
            bound = max(math.ceil(self.config.timeout), SHORTEST_CONNECT_TIMEOUT)
            params.setdefault("connect_timeout", bound)
        return params

    def connect(self) -> Any:
        """Open a connection, and prepare the liveness test of its socket."""
        connection = super().connect()
        if hasattr(select, "poll"):
            poller = select.poll()
            poller.register(connection.fileno(), select.POLLIN | select.POLLPRI)
            self._pollers[connection] = poller
        return connection

    def is_alive(self, connection: Any) -> bool:
        """Tell whether the idle socket is silent.

        A server says nothing unasked but goodbye, a notification or a TLS record: all of them are
        reasons to look closer.
        """
        if connection.closed:
            return False
        poller = self._pollers.get(connection)
        if poller is None:  # no poll() on this platform
            readable, _, failed = select.select([connection], [], [connection], 0)
            return not readable and not failed
        return not poller.poll(0)

    def end_transaction(self, connection: Any) -> None:
        """Roll back what is open and restore the autocommit mode."""
        status = self.transaction_status(connection)
        if status in (IN_TRANSACTION, IN_ERROR):
            self.roll_back(connection)
            status = self.transaction_status(connection)
        if status != IDLE:
            raise self.operational_error("the connection is closed or a query is still running")
        if connection.autocommit != self._settings["AUTOCOMMIT"]:
            connection.autocommit = self._settings["AUTOCOMMIT"]

    def roll_back(self, connection: Any) -> None:
        """Roll back the transaction, whoever began it."""
        connection.rollback()

    @abc.abstractmethod
    def transaction_status(self, connection: Any) -> int:
        """Return libpq's account of the transaction, without a round trip."""

    def restore_session(self, connection: Any) -> None:
        """Undo what a lease can change, then set up the session as after connecting."""
        self.send(connection, RESTORE_SESSION)
        opener = self.opener()
        opener.connection = connection
        opener.autocommit = connection.autocommit
        opener.init_connection_state()
        opener.connection = None
        self.restore_attributes(connection, self.session_attributes)

    def close(self, connection: Any) -> None:
        """Close the connection."""
        self._pollers.pop(connection, None)
        connection.close()

    def is_transient(self, error: BaseException) -> bool:
        """Tell whether a failed connect is worth another try; see `TRANSIENT`."""
        if not isinstance(error, self.operational_error):
            return False
        text = str(error).lower()
        return any(words in text for words in TRANSIENT)

    @abc.abstractmethod
    def send(self, connection: Any, sql: bytes) -> None:
        """Run statements without parameters in one round trip, outside any transaction."""


class Psycopg3Driver(PsycopgDriver):
    """psycopg 3."""

    lease_attributes = ("row_factory", "cursor_factory")
    session_attributes = ("isolation_level", "read_only", "deferrable")

    def transaction_status(self, connection: Any) -> int:
        """Return libpq's account of the transaction."""
        return connection.pgconn.transaction_status  # type: ignore[no-any-return]

    def ping(self, connection: Any) -> None:
        """Send an empty query. It leaves no transaction behind, whatever the autocommit mode."""
        self.send(connection, b"")

    def send(self, connection: Any, sql: bytes) -> None:
        """Run statements as one simple query of libpq's."""
        from psycopg import errors, pq

        result = connection.pgconn.exec_(sql)
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise errors.error_from_result(result)


class Psycopg2Driver(PsycopgDriver):
    """psycopg2."""

    lease_attributes = ("cursor_factory",)
    session_attributes = ("isolation_level", "readonly", "deferrable")

    def transaction_status(self, connection: Any) -> int:
        """Return libpq's account of the transaction."""
        return connection.get_transaction_status()  # type: ignore[no-any-return]

    def roll_back(self, connection: Any) -> None:
        """Roll back; psycopg2 leaves transactions alone that somebody began with a plain BEGIN."""
        connection.rollback()
        if self.transaction_status(connection) != IDLE:
            self.send(connection, b"ROLLBACK")

    def restore_session(self, connection: Any) -> None:
        """Undo what a lease can change; the isolation level is part of psycopg2's sessions."""
        super().restore_session(connection)
        if level := self._settings["OPTIONS"].get("isolation_level"):
            connection.isolation_level = IsolationLevel(level)

    def ping(self, connection: Any) -> None:
        """Send a trivial query; psycopg2 refuses empty ones."""
        self.send(connection, b"SELECT 1")

    def send(self, connection: Any, sql: bytes) -> None:
        """Run statements, and end the transaction psycopg2 may have begun for them."""
        with connection.cursor() as cursor:
            cursor.execute(sql)
        if not connection.autocommit:
            connection.rollback()


PostgresDriver: type[PsycopgDriver] = Psycopg3Driver if is_psycopg3 else Psycopg2Driver
"""The driver Django uses: psycopg 3 if it is installed, else psycopg2."""
