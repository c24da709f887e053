"""What a PostgreSQL server says about its limits, and what stands before it."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from django.db import connections

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_TIMEOUT = 5
"""Seconds, unless the settings say otherwise."""

LIMITS = (
    "SELECT name, setting::int FROM pg_settings WHERE name IN "
    "('max_connections', 'superuser_reserved_connections', 'reserved_connections')"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL server.

    Attributes:
        max_connections: the server's own setting.
        reserved: how many of them are not for everybody.
        pooler: the mode of the PgBouncer before the server ("session", "transaction",
            "statement"), "unknown" if there is some proxy that does not tell, None without one.
    """

    max_connections: int
    reserved: int
    pooler: str | None

    @property
    def room(self) -> int:
        """Connections there are for everybody."""
        return self.max_connections - self.reserved


def ask(alias: str) -> Server:
    """Ask the server behind an alias, over a connection that is opened and closed for it.

    Raises:
        django.db.Error: what the driver says if it does not go well.
    """
    wrapper: Any = connections[alias]
    params = wrapper.get_connection_params()
    with wrapper.wrap_database_errors, _connected(wrapper.Database, params) as connection:
        limits = {name: int(value) for name, value in _rows(connection, LIMITS)}
        ((pid,),) = _rows(connection, "SELECT pg_backend_pid()")
        # PostgreSQL tells a client its process id twice: on connecting, as part of the key for
        # cancelling, and when asked. PgBouncer has keys of its own, the half of which stands there.
        told = _told_pid(connection)
    pooler = None
    if told != pid:
        pooler = _mode(wrapper.Database, params) or "unknown"
    return Server(
        limits.pop("max_connections"),
        sum(limits.values()),
        pooler,
    )


def _mode(module: Any, params: dict[str, Any]) -> str | None:
    """Ask PgBouncer's console for the mode of our database, if it lets us in.

    It lets in those whom `admin_users` or `stats_users` name.
    """
    name = str(params.get("dbname") or params.get("database") or "")
    console: dict[str, Any] = {
        key: params[key] for key in ("host", "port", "user", "password") if key in params
    }
    console["dbname"] = "pgbouncer"
    with (
        contextlib.suppress(Exception),
        _connected(module, console) as connection,
    ):
        for row in _named_rows(connection, "SHOW DATABASES"):
            if row.get("name") == name and row.get("pool_mode"):
                return str(row["pool_mode"])
        for row in _named_rows(connection, "SHOW CONFIG"):
            if row.get("key") == "pool_mode":
                return str(row["value"])
    return None


@contextlib.contextmanager
def _connected(module: Any, params: dict[str, Any]) -> Iterator[Any]:
    connection = module.connect(**{"connect_timeout": CONNECT_TIMEOUT, **params})
    try:
        connection.autocommit = True
        yield connection
    finally:
        connection.close()


def _rows(connection: Any, statement: str) -> list[Any]:
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def _named_rows(connection: Any, statement: str) -> list[dict[str, Any]]:
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _told_pid(connection: Any) -> int:
    if hasattr(connection, "get_backend_pid"):  # psycopg2
        return int(connection.get_backend_pid())
    return int(connection.info.backend_pid)
