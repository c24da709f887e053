"""PostgreSQL drivers: open, test, reset and close connections with psycopg 3 or psycopg2."""

from __future__ import annotations

import abc
import contextlib
import math
import os
import re
import socket
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

from django.db.backends.postgresql.psycopg_any import IsolationLevel, is_psycopg3

from pooling.backends.cursors import OpenCursors
from pooling.backends.driver import DatabaseDriver
from pooling.backends.postgresql import polling, server_cursors, session_tracking
from pooling.backends.postgresql.budget import LOST, Budget
from pooling.backends.postgresql.deadlines import DEADLINES
from pooling.backends.postgresql.sql_classifier import is_plain_read

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from django.db.backends.base.base import BaseDatabaseWrapper

    from pooling.backends.base import PooledDatabaseWrapper
    from pooling.core.budget import Probe
    from pooling.core.config import PoolConfig

IDLE, IN_TRANSACTION, IN_ERROR = 0, 2, 3
"""libpq's PGTransactionStatusType, in both drivers; 1 means "active", 4 "unknown"."""

BEGUN, PREPARED = 2, 5
"""psycopg2's STATUS_BEGIN and STATUS_PREPARED; its status may differ from libpq's."""

OPEN_BLOCKS = ("_pipeline", "_tpc", "_num_transactions", "_notifies_backlog")
"""Attributes of psycopg 3's connections that show an open `pipeline()`, two-phase transaction,
`transaction()` or `notifies()`; libpq calls the connection idle in each of them."""

HANDLERS = ("_notice_handlers", "_notify_handlers")
"""Attributes of psycopg 3's connections that hold functions of the user's."""

MIN_CONNECT_TIMEOUT, MAX_CONNECT_TIMEOUT = 2, 10
"""Seconds. libpq takes whole ones for `connect_timeout` and rounds 1 up to 2. A connect without an
answer occupies a slot of the pool until then, so the pool's `timeout` may be too long for it."""

TRANSIENT = (
    "connection refused",
    "no such file or directory",  # the Unix socket of a server that is not running
    "connection reset",
    "broken pipe",
    "connection timed out",
    "timeout expired",
    "closed the connection unexpectedly",
    "eof detected",  # the same, in the middle of TLS
    "unexpected eof",
    "starting up",
    "shutting down",
    "terminating connection",  # by an administrator, or after a crash of another session
    "in recovery mode",
    "not yet accepting connections",
    "not accepting connections",
    "too many clients already",
    "remaining connection slots are reserved",
    "too many connections for",
    # PgBouncer: it is full, or has no connection to the server yet.
    *("no more connections allowed", "query_wait_timeout", "client_login_timeout"),
    "server login has been failing",
    "could not fork new process",
    "canceling authentication due to timeout",
    "resource temporarily unavailable",  # a Unix socket whose backlog is full
    "network is unreachable",
    "no route to host",
    "host is unreachable",
    "temporary failure in name resolution",
)
"""Parts of the messages of transient connect errors. Neither driver has the SQLSTATE of a failed
connect, so this goes by the English text: messages of a server with other `lc_messages` are not
recognised. Any other error counts as permanent, and the caller gets it at once."""

ENDED = frozenset({"57P01", "57P02", "57P03", "57P05"})
"""SQLSTATEs with which a server ends a session: an administrator, a crash of another session, a
shutdown, `idle_session_timeout`."""

CANCEL_TIMEOUT = 5.0
"""Seconds that a request to cancel a query may take."""

TRANSIENT_LOGIN = ("authentication failed", "is not permitted to log in", "does not exist")
"""The same where `connect_params` supplies credentials, which may change at this very moment."""

READ_ONLY = ("in_hot_standby", "default_transaction_read_only")
"""Parameters with which a session refuses writes (SQLSTATE 25006). PostgreSQL reports both, since
14: a change comes with the answer to the next query."""

LONGEST_NAME = 63
"""PostgreSQL truncates `application_name` after so many bytes."""


def application_name() -> str:
    """Return the name of this process's sessions on the server: pooling host:pid."""
    pid = f":{os.getpid()}"
    host = socket.gethostname().encode("ascii", "replace").decode()
    return f"pooling {host}"[: LONGEST_NAME - len(pid)] + pid


class PsycopgDriver(DatabaseDriver):
    """The common part of both drivers."""

    no_budget = None
    can_replay = True
    disruptions = ("cancel", "terminate")
    session_functions = re.compile(r"\b(currval|lastval)\s*\(", re.IGNORECASE)
    _status: ClassVar[attrgetter[int]]
    """Read what is not 0 if a connection is closed or broken, as far as its driver knows."""

    def __init__(self, wrapper: PooledDatabaseWrapper, config: PoolConfig) -> None:
        self._readable: dict[Any, Callable[[], object]] = {}
        """For each open connection, a function that tells whether its socket is readable."""
        self.budget = None if config.budget is None else Budget(self, config.budget, config.timeout)
        self._seen_writable = False
        """Whether any session of this pool has ever accepted writes."""
        if config.reset == "session":
            # Restored later: at the lease's end it shows whether all cursors were tracked.
            self.lease_attributes = self.lease_attributes[:-1]  # type: ignore[misc]
            self.session_attributes = (*self.session_attributes, "cursor_factory")  # type: ignore[misc]
        super().__init__(wrapper, config)
        self._interface_error = wrapper.Database.InterfaceError

    def update_settings(self, wrapper: Any) -> None:
        """Take over settings, and the time zone that Django derived from them."""
        super().update_settings(wrapper)
        self._time_zone = wrapper.timezone, wrapper.timezone_name

    def opener(self) -> PooledDatabaseWrapper:
        """Return a wrapper that sets up sessions in this pool's time zone, whatever is set now."""
        opener = super().opener()
        opener.timezone, opener.timezone_name = self._time_zone
        return opener

    def connection_params(self) -> dict[str, Any]:
        """Return the parameters, with a timeout and a name for the session.

        The name is shown in `pg_stat_activity`. libpq uses it if neither the user's parameters, nor
        PGAPPNAME, nor a service file have one.
        """
        params = super().connection_params()
        if "application_name" not in f"{params.get('options')} {os.environ.get('PGOPTIONS')}":
            params.setdefault("fallback_application_name", application_name())
        if self.config.timeout is not None:
            bound = min(math.ceil(self.config.timeout), MAX_CONNECT_TIMEOUT)
            params.setdefault("connect_timeout", max(bound, MIN_CONNECT_TIMEOUT))
        return params

    def know_demand(self, has_demand: Callable[[], bool]) -> None:
        """Take a function that tells whether callers wait for a connection."""
        if self.budget is not None:
            self.budget.has_demand = has_demand

    def connecting(self) -> AbstractContextManager[object]:
        """Hold what keeps the connects of this process to this database apart, with a budget."""
        if self.budget is None:
            return super().connecting()
        return self.budget.connecting(*(self._settings[name] for name in ("HOST", "PORT", "NAME")))

    def on_connect(
        self,
        connection: Any,
        opener: PooledDatabaseWrapper,  # noqa: ARG002
    ) -> None:
        """Prepare the liveness test of the connection's socket; note if the session is writable."""
        if not self.read_only_because(connection):
            self._seen_writable = True
        self._readable[connection] = polling.readable(connection.fileno())

    def close_cursors(self, connection: Any, cursors: list[Any]) -> None:
        """Close cursors, in bounded time: server-side ones cost a round trip each."""
        with DEADLINES.limit(connection):
            super().close_cursors(connection, cursors)
        if not all(getattr(cursor, "closed", True) for cursor in cursors):
            raise self.operational_error("a cursor could not be closed: the connection is in use")

    def set_up_session(self, opener: BaseDatabaseWrapper) -> None:
        """Do what Django does with a new connection, in bounded time."""
        if self.budget is not None:
            self.budget.take(opener.connection)
        with DEADLINES.limit(opener.connection):
            super().set_up_session(opener)
        if self.config.reset == "session":
            self.track(opener.connection)
            if self.budget is not None:
                session_tracking.keep_slot(opener.connection, self.budget.keep)

    def is_alive(self, connection: Any) -> bool:
        """Return False if the idle socket is readable.

        What a server sends unasked is the end of the session, a notification or a TLS record: all
        of them are reasons for a ping.
        """
        return not self._status(connection) and not self._readable[connection]()

    def end_transaction(self, connection: Any) -> None:
        """Roll back what is open and restore the autocommit mode."""
        if self.needs_rollback(connection):
            with DEADLINES.limit(connection):
                self.roll_back(connection)
        if self.transaction_status(connection) != IDLE:
            raise self.operational_error("the connection is closed or a query is still running")
        if connection.autocommit != self._settings["AUTOCOMMIT"]:
            connection.autocommit = self._settings["AUTOCOMMIT"]

    def terminate(self, connection: Any) -> None:
        """Shut the socket down: the server rolls back, and the next use raises."""
        number = connection.fileno()
        copy = socket.socket(fileno=os.dup(number))
        with copy, contextlib.suppress(OSError):
            # Its holder may have closed it before it was copied, and the number may be another's.
            if not connection.closed and connection.fileno() == number:
                copy.shutdown(socket.SHUT_RDWR)

    def needs_rollback(self, connection: Any) -> bool:
        """Return True if a transaction is open. Raise if the driver could not roll it back."""
        return self.transaction_status(connection) in (IN_TRANSACTION, IN_ERROR)

    def roll_back(self, connection: Any) -> None:
        """Roll back the transaction."""
        connection.rollback()

    def ensure_writable(self, connection: Any) -> None:
        """Raise if the server accepts no writes any more: after a fail-over, a new session may.

        A pool that has only ever reached a standby keeps its sessions. No round trip.
        """
        reason = self.read_only_because(connection)
        if reason and self._seen_writable:
            raise self.operational_error(f"the server is read-only now ({reason} is on)")

    def read_only_because(self, connection: Any) -> str | None:
        """Return which of `READ_ONLY` is on for the session, as the server last reported."""
        for parameter in READ_ONLY:
            if self.parameter_status(connection, parameter) == "on":
                return parameter
        return None

    @abc.abstractmethod
    def parameter_status(self, connection: Any, parameter: str) -> str | None:
        """Return what the server last reported of a parameter, without a round trip."""

    @abc.abstractmethod
    def transaction_status(self, connection: Any) -> int:
        """Return libpq's transaction status, without a round trip."""

    @abc.abstractmethod
    def track(self, connection: Any) -> None:
        """Track what the connection's cursors may change in the session; see `session_tracking`."""

    def session_change(self, connection: Any) -> str | None:
        """Return what the lease may have left in the session; None if nothing."""
        changes = session_tracking.changes_of(connection)
        if changes is None:
            return session_tracking.UNTRACKED
        return changes.reason if changes.dirty else super().session_change(connection)

    def may_replay(self, connection: Any, sql: object, params: object) -> bool:
        """Return True if a statement is a plain read, and nothing is known to be in its session."""
        changes = session_tracking.changes_of(connection)
        return (
            (changes is None or not changes.dirty)
            and is_plain_read(sql, params)
            and not self.is_in_transaction(connection)
            and self._attributes(connection) == self._clean_attributes[connection]
        )

    def has_ended(self, connection: Any, error: BaseException | None) -> bool:
        """Return True if a session has ended, as its driver or the server's error says."""
        if not isinstance(error, (self.operational_error, self._interface_error)):
            return False
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or ""
        return bool(self._status(connection)) or state in ENDED

    def mark_baseline(self, connection: Any) -> None:
        """Take the session's state, as receivers have set it up, for what leases begin with."""
        super().mark_baseline(connection)
        if changes := session_tracking.changes_of(connection):
            changes.dirty = changes.restored = False

    def needs_connection_created(self, connection: Any) -> bool:
        """Return True if the session was restored: what receivers had set up is gone."""
        changes = session_tracking.changes_of(connection)
        return changes is None or changes.restored

    def restore_session(self, connection: Any) -> None:
        """Undo what the lease changed in the session. No round trip if it changed nothing."""
        changes = session_tracking.changes_of(connection)
        if self._attributes(connection) != self._clean_attributes[connection]:
            # With psycopg2 an attribute that was changed costs a round trip to set back.
            with DEADLINES.limit(connection):
                self.restore_attributes(connection, self.session_attributes)
        if changes is not None and not changes.dirty:
            return
        with DEADLINES.limit(connection):
            self.restore(connection)
        if changes := session_tracking.changes_of(connection):
            changes.dirty, changes.restored = False, True

    def restore(self, connection: Any) -> None:
        """Restore the session to its state after connecting.

        The message that restores it sets the time zone as well: Django finds it set, and sends
        nothing.
        """
        _, time_zone = self._time_zone
        hold, again = ("", "") if self.budget is None else self.budget.around(connection)
        names = self.ask(connection, hold + session_tracking.restoring(time_zone, again))
        if LOST in names and self.budget is not None:
            names.remove(LOST)
            if not self.budget.keep(connection):
                raise self.operational_error("another session has taken its slot of the budget")
        if names:
            self.send(connection, session_tracking.deallocating(names).encode())
        opener = self.opener()
        opener.connection = connection
        opener.autocommit = connection.autocommit
        opener.init_connection_state()
        if not connection.autocommit:
            connection.commit()
        opener.connection = None

    def probe(self, connection: Any, *, in_demand: bool) -> Probe:
        """Look whether other processes need this process's connections."""
        if self.budget is None:
            return super().probe(connection, in_demand=in_demand)
        return self.budget.probe(connection, in_demand=in_demand)

    def forget(self, connection: Any) -> None:
        """Forget what was noted of a connection that is about to be closed."""
        super().forget(connection)
        if self.budget is not None:
            self.budget.forget(connection)

    def close(self, connection: Any) -> None:
        """Close the connection."""
        self._readable.pop(connection, None)
        super().close(connection)

    def is_transient(self, error: BaseException) -> bool:
        """Return True if a failed connect is worth a retry; see `TRANSIENT`."""
        if not isinstance(error, self.operational_error):
            return False
        text = str(error).lower()
        words = TRANSIENT if self._connect_params is None else TRANSIENT + TRANSIENT_LOGIN
        return getattr(error, "is_transient", False) or any(each in text for each in words)

    @abc.abstractmethod
    def send(self, connection: Any, sql: bytes) -> None:
        """Run statements without parameters in one round trip, outside any transaction."""

    @abc.abstractmethod
    def ask(self, connection: Any, sql: str) -> list[str]:
        """Run statements like `send`; return the first column of the last one's answer."""


class Psycopg3Driver(PsycopgDriver):
    """psycopg 3."""

    _status = attrgetter("pgconn.status")  # libpq's ConnStatusType
    transaction_attributes = ("pgconn.transaction_status", "autocommit", "pooling_server_cursors")
    lease_attributes = ("row_factory", "cursor_factory")
    session_attributes = (
        *("isolation_level", "read_only", "deferrable"),
        *("prepare_threshold", "prepared_max", "server_cursor_factory"),
    )

    def cancel(self, connection: Any) -> None:
        """Ask the server to cancel the running query, over a connection of libpq's own."""
        connection.cancel_safe(timeout=CANCEL_TIMEOUT)

    def transaction_status(self, connection: Any) -> int:
        """Return libpq's transaction status."""
        return connection.pgconn.transaction_status  # type: ignore[no-any-return]

    def parameter_status(self, connection: Any, parameter: str) -> str | None:
        """Return what the server last reported of a parameter."""
        value = connection.pgconn.parameter_status(parameter.encode())
        return None if value is None else value.decode()

    def ping(self, connection: Any) -> None:
        """Send an empty query, which begins no transaction in either autocommit mode."""
        self.send(connection, b"")
        self.ensure_writable(connection)

    def send(self, connection: Any, sql: bytes) -> None:
        """Run statements as one simple query of libpq's."""
        self._run(connection, sql)

    def ask(self, connection: Any, sql: str) -> list[str]:
        """Run statements; return the first column of the last answer."""
        result = self._run(connection, sql.encode())
        return [result.get_value(row, 0).decode() for row in range(result.ntuples)]

    def _run(self, connection: Any, sql: bytes) -> Any:
        from psycopg import errors, generators, pq

        with DEADLINES.limit(connection):
            # Not libpq's PQexec, in which nothing but this would run under gevent.
            connection.pgconn.send_query(sql)
            results = connection.wait(generators.execute(connection.pgconn))
        for result in results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise errors.error_from_result(result)
        return results[-1]

    def track(self, connection: Any) -> None:
        """Track what the connection's cursors may change in the session."""
        session_tracking.track_psycopg3(connection)

    def set_up_session(self, opener: BaseDatabaseWrapper) -> None:
        """Do what Django does with a new connection; track its server-side cursors."""
        server_cursors.track_connection(opener.connection)
        super().set_up_session(opener)

    def on_connect(
        self,
        connection: Any,
        opener: PooledDatabaseWrapper,
    ) -> None:
        """Prepare the tests of the connection; read those `OPEN_BLOCKS` that this psycopg has."""
        super().on_connect(connection, opener)
        names = [name for name in OPEN_BLOCKS if hasattr(connection, name)]
        self._left_open = attrgetter(*names, *HANDLERS)
        attributes = self.transaction_attributes + self.lease_attributes
        self._fingerprint = attrgetter(*attributes, *names)

    def add_server_cursor(self, connection: Any, cursor: Any) -> None:
        """Note a server-side cursor, to be closed when the lease ends."""
        server_cursors.track_cursor(connection, cursor)

    def session_change(self, connection: Any) -> str | None:
        """Return what the lease may have left in the session; None if nothing."""
        if connection.pooling_server_cursors:
            return "server-side cursor"
        if any(self._left_open(connection)):
            return session_tracking.ATTRIBUTE
        return super().session_change(connection)

    def clean(self, connection: Any) -> None:
        """Close server-side cursors, end the transaction and set attributes back."""
        if cursors := connection.pooling_server_cursors:
            self.close_cursors(connection, list(cursors))
        connection.pooling_server_cursors = None
        super().clean(connection)

    def needs_rollback(self, connection: Any) -> bool:
        """Return True if a transaction is open. Raise if the driver could not roll it back."""
        if connection.pgconn.pipeline_status:
            raise self.operational_error("the lease left the connection in pipeline mode")
        if connection.lock.locked():
            raise self.operational_error("the lease left a generator of the connection's half-read")
        if getattr(connection, "_tpc", None) or getattr(connection, "_num_transactions", 0):
            raise self.operational_error("the lease left a transaction context open")
        return super().needs_rollback(connection)

    def restore_session(self, connection: Any) -> None:
        """Undo what the lease changed; drop the notifications that it has not read."""
        super().restore_session(connection)
        if backlog := getattr(connection, "_notifies_backlog", None):
            backlog.clear()


class Psycopg2Driver(PsycopgDriver):
    """psycopg2."""

    _status = attrgetter("closed")
    transaction_attributes = ("info.transaction_status", "autocommit", "status")
    lease_attributes = ("cursor_factory",)
    session_attributes = ("isolation_level", "readonly", "deferrable")

    def cancel(self, connection: Any) -> None:
        """Ask the server to cancel the running query, over a connection of libpq's own."""
        connection.cancel()

    def __init__(self, wrapper: PooledDatabaseWrapper, config: PoolConfig) -> None:
        self._named_cursors: dict[Any, OpenCursors] = {}
        """Server-side cursors of the present leases, to close those of threads that have ended."""
        super().__init__(wrapper, config)

    def add_server_cursor(self, connection: Any, cursor: Any) -> None:
        """Note a server-side cursor, to be closed when the lease ends."""
        self._named_cursors.setdefault(connection, OpenCursors()).add(cursor)
        self._clean_fingerprints[connection] = None  # so that the release calls `clean`

    def clean(self, connection: Any) -> None:
        """Close server-side cursors, end the transaction and set attributes back."""
        if cursors := self._named_cursors.pop(connection, None):
            self.close_cursors(connection, cursors.take())
        super().clean(connection)

    def close(self, connection: Any) -> None:
        """Close the connection."""
        self._named_cursors.pop(connection, None)
        super().close(connection)

    def needs_rollback(self, connection: Any) -> bool:
        """Return True if a transaction is open, or if psycopg2 takes it for open.

        It does after a COMMIT that was executed as a statement, and begins no other one then.
        """
        if connection.status == PREPARED:
            raise self.operational_error("the lease left a prepared two-phase transaction")
        return super().needs_rollback(connection) or connection.status == BEGUN

    def session_change(self, connection: Any) -> str | None:
        """Return what the lease may have left in the session; None if nothing."""
        self._note_lost_cursors(connection)
        return super().session_change(connection)

    def _note_lost_cursors(self, connection: Any) -> None:
        """Note server-side cursors that nobody has closed: those `WITH HOLD` are still there."""
        changes = session_tracking.changes_of(connection)
        if changes is not None and changes.named_cursors:
            changes.named_cursors = 0
            changes.mark("server-side cursor")

    def restore_session(self, connection: Any) -> None:
        """Undo what the lease changed; drop the notifications and notices that it has not read."""
        self._note_lost_cursors(connection)
        super().restore_session(connection)
        if connection.notifies:
            connection.notifies = []
        if connection.notices:
            connection.notices = []

    def transaction_status(self, connection: Any) -> int:
        """Return libpq's transaction status."""
        return connection.get_transaction_status()  # type: ignore[no-any-return]

    def parameter_status(self, connection: Any, parameter: str) -> str | None:
        """Return what the server last reported of a parameter."""
        return connection.get_parameter_status(parameter)  # type: ignore[no-any-return]

    def roll_back(self, connection: Any) -> None:
        """Roll back, also a transaction begun with a plain BEGIN, which psycopg2 does not see."""
        connection.rollback()
        if self.transaction_status(connection) != IDLE:
            self.send(connection, b"ROLLBACK")

    def connection_params(self) -> dict[str, Any]:
        """Return the parameters, with a class of connections whose own methods are tracked."""
        params = super().connection_params()
        if self.config.reset == "session":
            factory = (
                params.get("connection_factory")
                or self._wrapper_class.Database.extensions.connection
            )
            params["connection_factory"] = session_tracking.tracked_connection(factory)
        return params

    def track(self, connection: Any) -> None:
        """Track what the connection's cursors may change in the session."""
        session_tracking.track_psycopg2(connection)

    def set_up_session(self, opener: BaseDatabaseWrapper) -> None:
        """Do what Django does with a new connection; note its encoding, for `restore`."""
        super().set_up_session(opener)
        self._encoding = opener.connection.encoding

    def restore(self, connection: Any) -> None:
        """Restore the session, and the encoding and isolation level that psycopg2 keeps itself."""
        autocommit = connection.autocommit
        connection.autocommit = True
        super().restore(connection)
        if connection.encoding != self._encoding:
            connection.set_client_encoding(self._encoding)
        connection.autocommit = autocommit
        if level := self._settings["OPTIONS"].get("isolation_level"):
            connection.isolation_level = IsolationLevel(level)

    def ask(self, connection: Any, sql: str) -> list[str]:
        """Run statements; return the first column of the last answer.

        They are the pool's own: no cursor of the user's tracks them.
        """
        extensions: Any = self._wrapper_class.Database.extensions
        begins = not connection.autocommit and self.transaction_status(connection) == IDLE
        if begins:  # else psycopg2 would begin a transaction, and that would have to be ended
            connection.autocommit = True
        with (
            DEADLINES.limit(connection),
            extensions.connection.cursor(connection, cursor_factory=extensions.cursor) as cursor,
        ):
            cursor.execute(sql)
            rows = cursor.fetchall()
        if begins:
            connection.autocommit = False
        return [row[0] for row in rows]

    def ping(self, connection: Any) -> None:
        """Send a trivial query; psycopg2 rejects empty ones."""
        self.send(connection, b"SELECT 1")
        self.ensure_writable(connection)

    def send(self, connection: Any, sql: bytes) -> None:
        """Run statements, and end the transaction psycopg2 may have begun for them."""
        with DEADLINES.limit(connection), connection.cursor() as cursor:
            cursor.execute(sql)
            if not connection.autocommit:
                connection.rollback()


PostgresDriver: type[PsycopgDriver] = Psycopg3Driver if is_psycopg3 else Psycopg2Driver
"""The driver Django uses: psycopg 3 if it is installed, else psycopg2."""
