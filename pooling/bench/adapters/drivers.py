"""Adapters below the ORM: drivers and other pools. Each imports its library when it is used."""

from __future__ import annotations

import sqlite3
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from django.db.utils import load_backend

from pooling.bench.statements import Action, BenchUser, parameters, statements_with

from .base import MYSQL, POSTGRESQL, SQLITE, PoolAdapter, RunConfig, mysql_driver, postgres_driver
from .orm import STOCK_ENGINES, completed, plain_entry

if TYPE_CHECKING:
    from collections.abc import Callable

# What Django understands among OPTIONS, and libpq does not.
DJANGO_OPTIONS = frozenset(
    ["pool", "isolation_level", "assume_role", "server_side_binding", "prepare_threshold"]
)


def libpq_parameters(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a connection from an entry of Django's `DATABASES`."""
    named = {
        key.lower(): entry[key] for key in ("USER", "PASSWORD", "HOST", "PORT") if entry.get(key)
    }
    if entry.get("NAME"):
        named["dbname"] = entry["NAME"]
    options = entry.get("OPTIONS", {})
    return {**named, **{key: options[key] for key in options.keys() - DJANGO_OPTIONS}}


AFTER_FIVE = "with psycopg 3 after 5 uses, its default"


class SqlAdapter(PoolAdapter):
    """The base of those with connections of PEP 249, in autocommit, as Django uses them."""

    level = "driver"
    driver = postgres_driver()

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._sql = dict(statements_with(*["?" if config.vendor == SQLITE else "%s"] * 6))
        if config.vendor == MYSQL:  # MariaDB has it, MySQL has not
            self._sql["insert"] = self._sql["insert"].removesuffix(" RETURNING id")

    def perform(self, action: Action, connection: Any, user: BenchUser | None) -> None:
        cursor = connection.cursor()
        try:
            cursor.execute(self._sql[action], parameters(action, user))
            if action in ("trivial", "read", "first"):
                cursor.fetchall()
            elif action == "insert" and user is not None:
                mysql = self.config.vendor == MYSQL
                user.pk = cursor.lastrowid if mysql else cursor.fetchall()[0][0]
        finally:
            cursor.close()

    def connector(self) -> Callable[[], Any]:
        """Return what opens a connection in autocommit, with the driver that Django would use."""
        if self.config.vendor == SQLITE:
            return partial(
                sqlite3.connect,
                self.config.entry["NAME"],
                isolation_level=None,
                check_same_thread=False,
                **self.sqlite_options(),
            )
        if self.config.vendor == MYSQL:
            # `mysql_driver` first: the import of Django's wrapper looks for it.
            connect = mysql_driver().connect
            wrapper = load_backend(STOCK_ENGINES[MYSQL]).DatabaseWrapper
            entry = completed(plain_entry(MYSQL, self.config.entry))
            return partial(connect, **wrapper(entry).get_connection_params(), autocommit=True)
        entry = self.config.entry
        if (driver := postgres_driver()) == "psycopg2":
            return partial(import_module(driver).connect, **psycopg2_parameters(entry))
        return partial(import_module(driver).connect, **libpq_parameters(entry), autocommit=True)


def psycopg2_parameters(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a connection of psycopg2 in autocommit."""
    base: Any = import_module("psycopg2").extensions.connection

    class Autocommitting(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.autocommit = True

    return {**libpq_parameters(entry), "connection_factory": Autocommitting}


class Bare(SqlAdapter):
    name = "bare"
    title = "A bare connection"
    version_from = postgres_driver()
    settings = ("none", AFTER_FIVE, "on", "closed", "one for each operation")

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._connect = self.connector()

    def acquire(self) -> Any:
        return self._connect()

    def release(self, connection: Any) -> None:
        connection.close()


class Psycopg2Simple(SqlAdapter):
    name = "psycopg2-simple"
    title = "psycopg2's SimpleConnectionPool"
    driver = "psycopg2"
    vendors = (POSTGRESQL,)
    needs = ("psycopg2",)
    has_pool = True
    most_threads: ClassVar[int | None] = 1
    settings = ("none", "never", "on", "rollback if needed", "all opened beforehand")
    pool_class = "SimpleConnectionPool"

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        pool_class = getattr(import_module("psycopg2.pool"), self.pool_class)
        self._pool = pool_class(
            config.pool_size, config.pool_size, **psycopg2_parameters(config.entry)
        )

    def acquire(self) -> Any:
        connection = self._pool.getconn()
        if self.config.health_checks:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        return connection

    def release(self, connection: Any) -> None:
        self._pool.putconn(connection)

    def close(self) -> None:
        self._pool.closeall()


class Psycopg2Threaded(Psycopg2Simple):
    name = "psycopg2-threaded"
    title = "psycopg2's ThreadedConnectionPool"
    unequal = "It cannot wait: with all connections in use it raises an error."
    most_threads = None
    pool_class = "ThreadedConnectionPool"


class PsycopgPool(SqlAdapter):
    name = "psycopg-pool"
    title = "psycopg_pool's ConnectionPool"
    vendors = (POSTGRESQL,)
    needs = ("psycopg_pool", "psycopg")
    has_pool = True
    settings = ("none", AFTER_FIVE, "on", "rollback if needed", "min_size=1, at most max_size")

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        pool_class = import_module("psycopg_pool").ConnectionPool
        self._pool = pool_class(
            min_size=1,
            max_size=config.pool_size,
            timeout=config.timeout,
            kwargs={**libpq_parameters(config.entry), "autocommit": True},
            check=pool_class.check_connection if config.health_checks else None,
            open=True,
        )
        self.acquire, self.release = self._pool.getconn, self._pool.putconn

    def close(self) -> None:
        self._pool.close()


class SqlAlchemy(SqlAdapter):
    name = "sqlalchemy"
    title = "SQLAlchemy's QueuePool"
    usual: ClassVar[tuple[str, ...]] = (MYSQL,)
    needs = ("sqlalchemy",)
    has_pool = True
    settings = ("none", AFTER_FIVE, "on", "rollback", "at most pool_size, no overflow")

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        sqlalchemy = import_module("sqlalchemy")
        dialect = {
            SQLITE: "sqlite",
            MYSQL: "mysql+mysqldb",  # whatever is imported by that name
            POSTGRESQL: f"postgresql+{postgres_driver()}",
        }[config.vendor]
        self._engine = sqlalchemy.create_engine(
            f"{dialect}://",
            creator=self.connector(),
            poolclass=sqlalchemy.pool.QueuePool,
            pool_size=config.pool_size,
            max_overflow=0,
            pool_timeout=config.timeout,
            pool_pre_ping=config.health_checks,
            pool_recycle=3600,
        )
        self.acquire = self._engine.raw_connection

    def release(self, connection: Any) -> None:
        connection.close()

    def close(self) -> None:
        self._engine.dispose()


class SqlAlchemySession(SqlAlchemy):
    name = "sqlalchemy-session"
    title = "SQLAlchemy's QueuePool through a Session"
    vendors = (SQLITE, POSTGRESQL)
    usual = ()

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        session = import_module("sqlalchemy.orm").Session
        self.acquire = lambda: session(self._engine)

    def perform(self, action: Action, connection: Any, user: BenchUser | None) -> None:
        given = parameters(action, user)
        found = connection.connection().exec_driver_sql(self._sql[action], given)
        if action in ("trivial", "read", "first"):
            found.fetchall()
        elif action == "insert" and user is not None:
            [[user.pk]] = found.fetchall()


class Asyncpg(PoolAdapter):
    name = "asyncpg"
    title = "asyncpg's pool"
    level = "driver"
    driver = "asyncpg"
    vendors = (POSTGRESQL,)
    needs = ("asyncpg",)
    has_pool = True
    is_async = True
    settings = ("none", "each statement, cached", "on", "a query", "at most max_size")
    unequal = "It resets the session with a query whenever a connection is released."

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._sql = statements_with(*(f"${number}" for number in range(1, 7)))
        parameters = libpq_parameters(config.entry)
        parameters["database"] = parameters.pop("dbname", None)
        if "sslmode" in parameters:
            parameters["ssl"] = parameters.pop("sslmode")
        self._parameters = parameters
        self._pool: Any = None

    async def aopen(self) -> None:
        """Make the pool, without connections; it has to happen in the tasks' loop."""
        self._pool = await import_module("asyncpg").create_pool(
            **self._parameters, min_size=0, max_size=self.config.pool_size
        )

    async def perform(self, action: Action, connection: Any, user: BenchUser | None) -> None:
        run = connection.execute if action in ("update", "delete") else connection.fetch
        rows = await run(self._sql[action], *parameters(action, user))
        if action == "insert" and user is not None:
            [[user.pk]] = rows

    async def acquire(self) -> Any:
        connection = await self._pool.acquire(timeout=self.config.timeout)
        if self.config.health_checks:
            await connection.execute("SELECT 1")
        return connection

    async def release(self, connection: Any) -> None:
        await self._pool.release(connection)

    async def aclose(self) -> None:
        """Close the pool."""
        await self._pool.close()
