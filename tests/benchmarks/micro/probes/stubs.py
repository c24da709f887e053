"""Stub connections that cost nothing, with all that a pool expects of them."""

from __future__ import annotations

import socket
import time
from typing import Any

from pooling.backends.postgresql import polling


class StubError(Exception):
    """What the stub calls its `OperationalError`."""


class Stub:
    """A connection to nowhere whose socket is silent.

    All share one socket: polling costs the same, and a thousand of them need no file descriptors.
    """

    __slots__ = ("closed", "is_readable", "status")

    _sockets = socket.socketpair()

    def __init__(self) -> None:
        self.closed = False
        self.status = 0
        self.is_readable = polling.readable(self._sockets[0].fileno())

    def rollback(self) -> None:
        """SQLAlchemy does this on every return."""

    def close(self) -> None:
        self.closed = True


class StubDriver:
    """What pooling needs to know of them: the same as of PostgreSQL's, liveness test included."""

    operational_error: type[Exception] = StubError

    def __init__(self, connect_seconds: float = 0.0) -> None:
        self.connect_seconds = connect_seconds
        self.connects = 0

    def connect(self) -> Stub:
        self.connects += 1
        if self.connect_seconds:
            time.sleep(self.connect_seconds)
        return Stub()

    def is_alive(self, connection: Stub) -> bool:
        """Ask the operating system whether the socket is silent."""
        if connection.closed:
            return False
        return not connection.is_readable()

    def ping(self, connection: Stub) -> None:
        """There is no server to answer."""

    def reset(self, connection: Stub) -> None:
        """Look whether a transaction is open; none is."""
        if connection.status:
            raise StubError("a transaction is open")

    def close(self, connection: Stub) -> None:
        connection.close()

    def is_transient(self, error: BaseException) -> bool:
        return False


class _PgConn:
    """psycopg_pool looks at the state of the transaction."""

    __slots__ = ("transaction_status",)

    def __init__(self) -> None:
        from psycopg.pq import TransactionStatus

        self.transaction_status = TransactionStatus.IDLE


class PsycopgStub:
    """A connection to nowhere, as psycopg_pool wants it. It is not tested at all."""

    connect_seconds = 0.0
    connects = 0
    autocommit = True

    def __init__(self) -> None:
        self.pgconn = _PgConn()
        self.closed = False
        self._pool: Any = None

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> PsycopgStub:
        cls.connects += 1
        if cls.connect_seconds:
            time.sleep(cls.connect_seconds)
        return cls()

    def rollback(self) -> None:
        """There is nothing to roll back."""

    def close(self) -> None:
        self.closed = True
