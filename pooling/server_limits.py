"""Connection limits of a database server, and detection of a PgBouncer in front of it."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from django.db import connections

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_TIMEOUT = 5
"""Seconds; `OPTIONS["connect_timeout"]` takes precedence."""

LIMITS = (
    "SELECT name, setting::int FROM pg_settings WHERE name IN "
    "('max_connections', 'superuser_reserved_connections', 'reserved_connections')"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """Limits of a PostgreSQL, MySQL or MariaDB server.

    Attributes:
        max_connections: the server's setting.
        reserved: connections reserved for superusers and special roles.
        pooler: pool mode of the PgBouncer in front of the server ("session", "transaction",
            "statement"), "unknown" for a proxy whose mode cannot be read, None without a proxy.
        pooler_size: connections that PgBouncer opens for the database and a user; None if unknown.
        prepares: whether PgBouncer keeps track of prepared statements (`max_prepared_statements`).
        max_user_connections: MySQL's limit of the user, None without one.
        wait_timeout: after how many seconds MySQL ends an idle session.
    """

    max_connections: int
    reserved: int
    pooler: str | None = None
    pooler_size: int | None = None
    prepares: bool = False
    max_user_connections: int | None = None
    wait_timeout: int | None = None

    @property
    def room(self) -> int:
        """Connections available to ordinary users, all together."""
        return self.max_connections - self.reserved


def query_server(alias: str) -> Server:
    """Query the server of an alias over a connection of its own, which is closed afterwards.

    Raises:
        django.db.Error: connecting or a query failed.
    """
    wrapper: Any = connections[alias]
    params = wrapper.get_connection_params()
    if wrapper.vendor == "mysql":
        return _query_mysql(wrapper, params)
    with wrapper.wrap_database_errors, _connected(wrapper.Database, params) as connection:
        limits = {name: int(value) for name, value in _rows(connection, LIMITS)}
        ((pid,),) = _rows(connection, "SELECT pg_backend_pid()")
        # On connecting, a server sends its process id as part of the cancellation key. PgBouncer
        # sends a key of its own instead, so the id differs from that of pg_backend_pid().
        key_pid = _key_pid(connection)
    server = Server(limits.pop("max_connections"), sum(limits.values()), None)
    return server if key_pid == pid else _with_pooler(server, wrapper.Database, params)


def _query_mysql(wrapper: Any, params: dict[str, Any]) -> Server:
    params = {"connect_timeout": CONNECT_TIMEOUT, **params}
    with (
        wrapper.wrap_database_errors,
        contextlib.closing(wrapper.Database.connect(**params)) as connection,
    ):
        statement = "SELECT @@max_connections, @@max_user_connections, @@wait_timeout"
        ((most, most_of_user, wait_timeout),) = _rows(connection, statement)
    return Server(most, 0, max_user_connections=most_of_user or None, wait_timeout=wait_timeout)


def _with_pooler(server: Server, module: Any, params: dict[str, Any]) -> Server:
    """Add what PgBouncer's console tells of the database; the mode is "unknown" without access.

    The console admits the users in `admin_users` and `stats_users`.
    """
    server = dataclasses.replace(server, pooler="unknown")
    name = str(params.get("dbname") or params.get("database") or "")
    console: dict[str, Any] = {
        key: params[key] for key in ("host", "port", "user", "password") if key in params
    }
    console["dbname"] = "pgbouncer"
    with (
        contextlib.suppress(Exception),
        _connected(module, console) as connection,
    ):
        database: dict[str, Any] = {}
        for row in _named_rows(connection, "SHOW DATABASES"):
            if row.get("name") == name:
                database = row
        config = {row["key"]: row["value"] for row in _named_rows(connection, "SHOW CONFIG")}
        size = database.get("pool_size")
        reserve = database.get("reserve_pool_size", database.get("reserve_pool"))  # before 1.24
        return dataclasses.replace(
            server,
            pooler=str(database.get("pool_mode") or config["pool_mode"]),
            pooler_size=None if size is None else int(size) + int(reserve or 0),
            prepares=int(config.get("max_prepared_statements", 0)) > 0,
        )
    return server


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


def _key_pid(connection: Any) -> int:
    if hasattr(connection, "get_backend_pid"):  # psycopg2
        return int(connection.get_backend_pid())
    return int(connection.info.backend_pid)
