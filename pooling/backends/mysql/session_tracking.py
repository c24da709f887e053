"""Session tracking: note what a lease may change in its session, and in which state it leaves it.

Every statement of either driver goes through the connection's method `query`, so the connection
gets a subclass of its own class. The driver's connection object stays the same.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from pooling.backends.mysql import sql_classifier

READ_ONLY_ERRORS = frozenset({1290, 1792, 1836})
"""The server runs with `read_only`, the transaction is read-only, or the whole server is."""
IN_TRANSACTION, AUTOCOMMIT = 1, 2
"""Bits of the status that the server sends with each answer."""
METHOD = "method of the driver's connection"
OUT_OF_SYNC = 2014
CLIENT_ERRORS = range(2000, 3000)
"""What a driver reports by itself; all other numbers are answers of the server."""


class SessionChanges:
    """What was noted of a session."""

    __slots__ = ("dirty", "may_be_reset", "reason", "restored")

    def __init__(self) -> None:
        self.dirty = False
        """Something may have changed what outlives its transaction."""
        self.may_be_reset = True
        """Resetting the connection undoes all of it; else it has to be replaced."""
        self.reason = ""
        """What has done that first, in a few words."""
        self.restored = False
        """The session was restored: what receivers of `connection_created` set is gone, too."""

    def note(self, statement: object) -> None:
        """Note a statement that is about to run, if it may change the session."""
        if not sql_classifier.is_session_neutral(statement):
            self.mark(sql_classifier.change_of(statement), sql_classifier.is_resettable(statement))

    def mark(self, reason: str, may_be_reset: bool = True) -> None:
        """Note that something may have changed the session."""
        if not self.dirty:
            self.reason = reason
        self.dirty = True
        self.may_be_reset = self.may_be_reset and may_be_reset

    def clear(self, restored: bool) -> None:
        """Begin anew."""
        self.dirty, self.may_be_reset, self.restored = False, True, restored


class TrackedConnection:
    """Mixed into a driver's class of connections, it notes what its statements may leave behind.

    The attributes are set by `track`.
    """

    pooling_changes: SessionChanges | None
    """None if releases do not restore the session."""
    pooling_uncertain: bool
    """A statement may have begun a transaction, as far as the text tells."""
    pooling_failed: bool
    """The server has refused a write: it is read-only, after a fail-over perhaps."""
    pooling_role: Any
    """The role that leases begin with, if releases restore the session."""
    get_autocommit: Any

    @property
    def pooling_in_transaction(self) -> bool:
        """Whether a transaction may be open."""
        raise NotImplementedError

    @property
    def pooling_autocommit(self) -> bool:
        """The autocommit mode, as the server last told."""
        return bool(self.get_autocommit())

    def query(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        changes = self.pooling_changes
        if changes is not None and changes.may_be_reset:
            changes.note(query)
        if not self.pooling_uncertain:
            # Set before the statement runs, which may fail half-way.
            self.pooling_uncertain = self._may_begin(query)
        try:
            result = super().query(query, *args, **kwargs)  # type: ignore[misc]
        except Exception as error:
            if error.args and error.args[0] in READ_ONLY_ERRORS and "read" in str(error).lower():
                self.pooling_failed = True
            raise
        if self.pooling_uncertain and sql_classifier.ends_transaction(query):
            self.pooling_uncertain = False
        return result

    def _may_begin(self, query: Any) -> bool:
        """Tell whether a statement may leave a transaction open that the status does not show."""
        raise NotImplementedError

    def commit(self) -> None:
        super().commit()  # type: ignore[misc]
        self.pooling_uncertain = False

    def rollback(self) -> None:
        super().rollback()  # type: ignore[misc]
        self.pooling_uncertain = False

    def _note(self, may_be_reset: bool = True) -> None:
        if self.pooling_changes is not None:
            self.pooling_changes.mark(METHOD, may_be_reset)

    def select_db(self, *args: Any, **kwargs: Any) -> Any:
        self._note()
        return super().select_db(*args, **kwargs)  # type: ignore[misc]

    def set_character_set(self, *args: Any, **kwargs: Any) -> Any:
        self._note()
        return super().set_character_set(*args, **kwargs)  # type: ignore[misc]


class PyMySQLConnection(TrackedConnection):
    """PyMySQL's, which keeps the server's status.

    It closes itself if an exception ends the wait for the server, but not if one comes between
    sending a command and waiting (an interrupt, a time limit by a signal). Then the next command
    would get the answer of that one, for another caller perhaps: so what is sent has to be
    answered first.
    """

    server_status: int
    server_thread_id: tuple[int]
    pooling_unanswered: bool
    """A command was sent, and its answer was not read."""
    Error: type[Exception]
    OperationalError: type[Exception]
    _sock: Any
    _result: Any
    _force_close: Any

    @property
    def pooling_in_transaction(self) -> bool:
        """Whether a transaction is open.

        An error comes without a status: with autocommit off the statement may have begun one.
        """
        status = self.server_status
        return bool(status & IN_TRANSACTION or self.pooling_uncertain)

    @property
    def pooling_autocommit(self) -> bool:
        """The autocommit mode, as the server last told."""
        return bool(self.server_status & AUTOCOMMIT)

    @property
    def pooling_number(self) -> int:
        """The session's number on the server."""
        return self.server_thread_id[0]

    @property
    def pooling_unread(self) -> bool:
        """Whether an answer is left that was not read, or not all of it."""
        result = self._result
        return self.pooling_unanswered or (
            result is not None and bool(result.unbuffered_active or result.has_next)
        )

    def fileno(self) -> int:
        """Return the socket's descriptor; OSError if it is closed."""
        sock = self._sock  # read once: another thread may close the connection
        if sock is None:
            raise OSError("the connection is closed")
        return sock.fileno()  # type: ignore[no-any-return]

    def _may_begin(self, query: Any) -> bool:
        if not self.server_status & AUTOCOMMIT:
            return True
        return not sql_classifier.is_one_statement(query)

    def connect(self, *args: Any, **kwargs: Any) -> None:
        self._note(may_be_reset=False)  # `ping(reconnect=True)`, for instance
        super().connect(*args, **kwargs)  # type: ignore[misc]

    def _request_authentication(self) -> None:
        super()._request_authentication()  # type: ignore[misc]
        self.pooling_unanswered = False

    def _execute_command(self, command: int, sql: Any) -> None:
        if self.pooling_unanswered and self._sock is not None:
            self._force_close()
            raise self.OperationalError(
                OUT_OF_SYNC, "the statement before was interrupted; the connection is closed"
            )
        super()._execute_command(command, sql)  # type: ignore[misc]

    def autocommit(self, value: Any) -> None:
        # Django ends a transaction with it: an error here would hide the interrupt.
        if not self.pooling_unanswered:
            super().autocommit(value)  # type: ignore[misc]

    def _write_bytes(self, data: Any) -> None:
        self.pooling_unanswered = True
        super()._write_bytes(data)  # type: ignore[misc]

    def _read_ok_packet(self) -> Any:
        try:
            packet = super()._read_ok_packet()  # type: ignore[misc]
        except self.Error as error:
            self.pooling_unanswered = not _is_answer(error)
            raise
        self.pooling_unanswered = False
        return packet

    def _read_query_result(self, unbuffered: bool = False) -> Any:
        self.pooling_unanswered = True  # also for the next result of a statement that has several
        try:
            rows = super()._read_query_result(unbuffered)  # type: ignore[misc]
        except self.Error as error:
            self.pooling_unanswered = not _is_answer(error)
            raise
        self.pooling_unanswered = False
        return rows

    def set_character_set(self, *args: Any, **kwargs: Any) -> Any:
        super().set_character_set(*args, **kwargs)
        self.pooling_unanswered = False

    def show_warnings(self) -> Any:
        rows = super().show_warnings()  # type: ignore[misc]
        self.pooling_unanswered = False
        return rows


class MySQLdbConnection(TrackedConnection):
    """mysqlclient's, which does not tell whether a transaction is open: the statements do."""

    pooling_unread: bool
    """An answer may be left that was not read."""
    Error: type[Exception]
    pooling_socket: tuple[int, int, int]
    """The descriptor of the session's socket, and what tells that it is still this socket."""
    pooling_number: int
    """The session's number on the server."""
    open: bool

    @property
    def pooling_in_transaction(self) -> bool:
        """Whether a transaction may be open."""
        return self.pooling_uncertain

    def fileno(self) -> int:
        """Return the socket's descriptor; OSError if it is closed.

        mysqlclient 2.3 refuses to while another thread waits for an answer, which is when a
        deadline of the pool's, or a caller of `terminate`, needs it.
        """
        number, *identity = self.pooling_socket
        status = os.fstat(number)
        if not self.open or identity != [status.st_dev, status.st_ino]:
            raise OSError("the connection is closed")
        return number

    def remember_socket(self) -> None:
        """Note what is asked from other threads while no other thread uses the connection."""
        number = super().fileno()  # type: ignore[misc]
        status = os.fstat(number)
        self.pooling_socket = number, status.st_dev, status.st_ino
        self.pooling_number = super().thread_id()  # type: ignore[misc]

    def _may_begin(self, query: Any) -> bool:
        return not self.get_autocommit() or not sql_classifier.keeps_transaction(query)

    def query(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        # Until the cursor takes the answer: an interrupt may come first.
        self.pooling_unread = True
        try:
            return super().query(query, *args, **kwargs)
        except Exception as error:
            if isinstance(error, self.Error):
                self.pooling_unread = False  # this is the answer
            raise

    def store_result(self) -> Any:
        try:
            result = super().store_result()  # type: ignore[misc]
        except Exception as error:
            if isinstance(error, self.Error):  # INSERT ... RETURNING fails here
                self.pooling_unread = False
            raise
        self.pooling_unread = False
        return result

    def use_result(self) -> Any:
        self.pooling_unread = True
        return super().use_result()  # type: ignore[misc]

    def change_user(self, *args: Any, **kwargs: Any) -> Any:
        self._note(may_be_reset=False)
        return super().change_user(*args, **kwargs)  # type: ignore[misc]


def _is_answer(error: Exception) -> bool:
    """Tell whether the server has answered with this error."""
    number = error.args[0] if error.args else None
    return isinstance(number, int) and number > 0 and number not in CLIENT_ERRORS


@lru_cache(128)  # classes may be made per connection
def _tracked(mixin: type, base: type) -> type:
    return type(base.__name__, (mixin, base), {"__module__": base.__module__})


def track(connection: Any, mixin: type, notes_changes: bool) -> None:
    """Track the statements of a connection from now on."""
    if not isinstance(connection, TrackedConnection):
        driver_class: Any = type(connection)
        connection.__class__ = _tracked(mixin, driver_class)
    connection.pooling_changes = SessionChanges() if notes_changes else None
    connection.pooling_uncertain = False
    connection.pooling_failed = False
    if mixin is MySQLdbConnection:
        connection.pooling_unread = False
        connection.remember_socket()
    else:
        connection.pooling_unanswered = False
