"""The PostgreSQL servers that the tests talk to, and the drivers: theirs, and that of MySQL."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from types import ModuleType

DRIVERS = ("psycopg", "psycopg2")
SESSION_ID = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
"""What the server calls the session that asks, by the wrapper's vendor."""
PASS_GATE = {
    "postgresql": (
        "SELECT pg_backend_pid(), pg_advisory_lock_shared(1)",
        "SELECT pg_advisory_unlock_shared(1)",
    ),
    "mysql": (
        "SELECT CONNECTION_ID(), GET_LOCK(DATABASE(), 100)",
        "SELECT RELEASE_LOCK(DATABASE())",
    ),
}
"""How sessions wait at `tests.support.serving.Gate`, which tells their number, and go on."""


def choose_driver() -> None:
    """Do what `TEST_DRIVER` asks for, before Django looks which driver there is.

    Django prefers psycopg 3 and falls back on psycopg2, so psycopg2's turn comes when psycopg 3
    cannot be imported. Test processes call this through `tests.settings` as well.
    """
    wanted = os.environ.get("TEST_DRIVER") or "psycopg"
    if wanted not in DRIVERS:
        raise ValueError(f"TEST_DRIVER={wanted!r}: choose one of {', '.join(DRIVERS)}")
    if wanted == "psycopg2":
        sys.modules["psycopg"] = None  # type: ignore[assignment]


def choose_mysql_driver(databases: dict[str, dict[str, Any]]) -> None:
    """Make the driver of `TEST_MYSQL_DRIVER` known as `MySQLdb`, if a database needs one."""
    if any(entry["ENGINE"].endswith(".mysql") for entry in databases.values()):
        mysql_driver()


def uses_mysqlclient() -> bool:
    return os.environ.get("TEST_MYSQL_DRIVER") == "mysqlclient"


def mysql_driver() -> ModuleType:
    """Return the driver module, known as `MySQLdb` from now on."""
    if not uses_mysqlclient() and "MySQLdb" not in sys.modules:
        import_module("pymysql").install_as_MySQLdb()
    return import_module("MySQLdb")


def driver() -> ModuleType:
    """Return the driver module that Django's PostgreSQL backend uses in this process."""
    try:
        return import_module("psycopg")
    except ImportError:
        return import_module("psycopg2")


def settings_from_url(url: str, engine: str) -> dict[str, Any]:
    """Return the `DATABASES` entry for a URL such as `TEST_POSTGRESQL_URL`."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ValueError(f"TEST_POSTGRESQL_URL: not a postgresql:// URL: {parts.scheme}://...")
    return {
        "ENGINE": engine,
        "NAME": unquote(parts.path.removeprefix("/")) or "postgres",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "OPTIONS": dict(parse_qsl(parts.query)),
    }


def execute(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements in autocommit on a connection of its own; return the last one's rows."""
    connection = driver().connect(url, connect_timeout=10)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()
