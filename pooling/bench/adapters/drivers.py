"""Below the ORM: drivers and pools by themselves. Each imports its library only when it is used."""

from __future__ import annotations

import sqlite3
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pooling.bench.statements import AsyncpgStatements, SqlStatements

from .base import Place, Way

if TYPE_CHECKING:
    from collections.abc import Callable

# What Django understands among OPTIONS, and libpq does not.
DJANGO_OPTIONS = (
    "pool",
    "isolation_level",
    "assume_role",
    "server_side_binding",
    "prepare_threshold",
)
RECYCLE = 3600


def libpq_parameters(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a connection from an entry of Django's `DATABASES`."""
    named = {
        "dbname": entry.get("NAME"),
        "user": entry.get("USER"),
        "password": entry.get("PASSWORD"),
        "host": entry.get("HOST"),
        "port": entry.get("PORT"),
    }
    options = entry.get("OPTIONS", {})
    kept = {key: value for key, value in options.items() if key not in DJANGO_OPTIONS}
    return {**{key: value for key, value in named.items() if value}, **kept}


def postgres_driver() -> str:
    """Return the name of the driver that Django would use."""
    return "psycopg" if find_spec("psycopg") else "psycopg2"


class SqlWay(Way):
    """A way to plain connections of PEP 249."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.statements = SqlStatements("?" if place.vendor == "sqlite" else "%s")

    def connector(self) -> Callable[[], Any]:
        """Return what opens a connection in autocommit, with the driver that Django would use."""
        if self.place.vendor == "sqlite":
            return partial(
                sqlite3.connect,
                self.place.entry["NAME"],
                isolation_level=None,
                check_same_thread=False,
                **self.sqlite_options(),
            )
        parameters = libpq_parameters(self.place.entry)
        name = postgres_driver()
        if name == "psycopg":
            return partial(import_module(name).connect, **parameters, autocommit=True)
        return partial(connect_psycopg2, **parameters)


def connect_psycopg2(**parameters: Any) -> Any:
    connection = import_module("psycopg2").connect(**parameters)
    connection.autocommit = True
    return connection


class Bare(SqlWay):
    """A connection for each operation."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._connect = self.connector()

    def acquire(self) -> Any:
        return self._connect()

    def release(self, connection: Any) -> None:
        connection.close()


class Psycopg2Simple(SqlWay):
    """psycopg2's pool for a single thread. It opens all its connections when it is made."""

    pool_class = "SimpleConnectionPool"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        psycopg2 = import_module("psycopg2")

        class Autocommitting(psycopg2.extensions.connection):  # type: ignore[misc, name-defined]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.autocommit = True

        size = place.pool_size
        self._pool = getattr(import_module("psycopg2.pool"), self.pool_class)(
            size,
            size,
            connection_factory=Autocommitting,
            **libpq_parameters(place.entry),
        )

    def acquire(self) -> Any:
        connection = self._pool.getconn()
        if self.place.health_checks:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        return connection

    def release(self, connection: Any) -> None:
        self._pool.putconn(connection)

    def close(self) -> None:
        self._pool.closeall()


class Psycopg2Threaded(Psycopg2Simple):
    """psycopg2's pool for several threads."""

    pool_class = "ThreadedConnectionPool"


class PsycopgPool(SqlWay):
    """psycopg_pool's ConnectionPool."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        pool_class = import_module("psycopg_pool").ConnectionPool
        self._pool = pool_class(
            min_size=1,
            max_size=place.pool_size,
            timeout=place.timeout,
            kwargs={**libpq_parameters(place.entry), "autocommit": True},
            check=pool_class.check_connection if place.health_checks else None,
            open=True,
        )

    def acquire(self) -> Any:
        return self._pool.getconn()

    def release(self, connection: Any) -> None:
        self._pool.putconn(connection)

    def close(self) -> None:
        self._pool.close()


class SqlAlchemy(SqlWay):
    """SQLAlchemy's QueuePool, as its engines use it."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        sqlalchemy = import_module("sqlalchemy")
        dialect = "sqlite" if place.vendor == "sqlite" else f"postgresql+{postgres_driver()}"
        self._engine = sqlalchemy.create_engine(
            f"{dialect}://",
            creator=self.connector(),
            poolclass=sqlalchemy.pool.QueuePool,
            pool_size=place.pool_size,
            max_overflow=0,
            pool_timeout=place.timeout,
            pool_pre_ping=place.health_checks,
            pool_recycle=RECYCLE,
        )

    def acquire(self) -> Any:
        return self._engine.raw_connection()

    def release(self, connection: Any) -> None:
        connection.close()

    def close(self) -> None:
        self._engine.dispose()


class Asyncpg(Way):
    """asyncpg's pool, with a task for each thread of the others."""

    uses_tasks = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.statements = AsyncpgStatements()
        parameters = libpq_parameters(place.entry)
        parameters["database"] = parameters.pop("dbname", None)
        if "sslmode" in parameters:
            parameters["ssl"] = parameters.pop("sslmode")
        self._parameters = parameters
        self._pool: Any = None

    async def open(self) -> None:
        """Make the pool, without connections; it has to happen in the tasks' loop."""
        self._pool = await import_module("asyncpg").create_pool(
            **self._parameters, min_size=0, max_size=self.place.pool_size
        )

    async def acquire(self) -> Any:
        connection = await self._pool.acquire(timeout=self.place.timeout)
        if self.place.health_checks:
            await connection.execute("SELECT 1")
        return connection

    async def release(self, connection: Any) -> None:
        await self._pool.release(connection)

    async def close(self) -> None:
        await self._pool.close()
