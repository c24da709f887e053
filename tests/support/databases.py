"""A real database of the test's own, seen through Django and, past it, from the server."""

from __future__ import annotations

import abc
import copy
import os
import sqlite3
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import django
import psutil
import pytest
from django.db import connections
from django.db.utils import load_backend

from pooling.registry import REGISTRY
from tests.support.servers import SESSION_ID, driver, execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper

PATIENCE = 20.0
"""Seconds after which a test gives up; nothing that works takes nearly as long."""

SERVERS = pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
"""For tests of what there is with a server only."""
SERVERS_MARIADB_SLOW = pytest.mark.parametrize(
    "database",
    ["postgresql", pytest.param("mariadb", marks=pytest.mark.slow)],
    indirect=True,
)
"""The same, where `make test` has had one of the kind on MariaDB already."""
MARIADB_SLOW = pytest.mark.parametrize(
    "database",
    ["postgresql", "sqlite", pytest.param("mariadb", marks=pytest.mark.slow)],
    indirect=True,
)
"""For tests that take many seconds with PyMySQL, whose every call is Python."""

OBSERVER = "observer"
"""The name of our own sessions at the server, some of which may not have ended quite yet."""


def checks_connect(database: Database) -> bool:
    """Tell whether Django's own checks ask the server: those of 6.1 ask MySQL for its features."""
    return database.vendor == "mysql" and django.VERSION >= (6, 1)


def eventually(condition: Callable[[], Any]) -> Any:
    """Poll until the condition holds, for what another process or thread does in its own time."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.002)
    return result


def in_thread(function: Callable[[], Any]) -> Any:
    """Return what `function` returns, or raise what it raises, in a thread of its own."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function).result(PATIENCE)


def in_threads(count: int, function: Callable[[], Any]) -> list[Any]:
    """Call `function` in so many threads that all begin at the same moment."""
    barrier = threading.Barrier(count)

    def run() -> Any:
        barrier.wait(PATIENCE)
        return function()

    with ThreadPoolExecutor(count) as executor:
        futures = [executor.submit(run) for _ in range(count)]
        return [future.result(PATIENCE * 2) for future in futures]


class Database(abc.ABC):
    """One database. Wrappers made here are closed after the test, and their pools with them."""

    vendor: str
    raw_class: type
    """The driver's own class of connections."""
    pool_options: ClassVar[dict[str, Any]] = {"min_size": 0}
    """What differs from the defaults, unless a test says otherwise."""

    def __init__(self, entry: dict[str, Any]) -> None:
        entry = copy.deepcopy(entry)
        # Without housekeeping the sessions at the server are those that the test asked for.
        entry["OPTIONS"].setdefault("pool", {**self.pool_options})
        self.entry = entry
        self._wrappers: weakref.WeakSet[BaseDatabaseWrapper] = weakref.WeakSet()
        # Those without a pool own their connection: lost, it would be closed by nobody.
        self._unpooled: list[BaseDatabaseWrapper] = []

    def settings(self, pool: Any = None, **changes: Any) -> dict[str, Any]:
        """Return the entry of `DATABASES`; options of the pool and others are added to it."""
        options = {**self.entry["OPTIONS"], **changes.pop("OPTIONS", {})}
        if isinstance(pool, dict):
            options["pool"] = {**self.pool_options, **pool}
        elif pool is not None:
            options["pool"] = pool
        return copy.deepcopy({**self.entry, **changes, "OPTIONS": options})

    def wrapper(self, alias: str = "default", **changes: Any) -> BaseDatabaseWrapper:
        """Return a new wrapper: what another thread, or another request, works with."""
        settings = self.settings(**changes)
        wrapper = load_backend(settings["ENGINE"]).DatabaseWrapper(settings, alias)
        self._wrappers.add(wrapper)
        if settings["OPTIONS"]["pool"] is False:
            self._unpooled.append(wrapper)
        return wrapper

    def stock(self, **changes: Any) -> BaseDatabaseWrapper:
        """Return a wrapper of Django's own backend, without a pool."""
        engine = self.entry["ENGINE"].replace("pooling.backends", "django.db.backends")
        settings = self.settings(ENGINE=engine, **changes)
        del settings["OPTIONS"]["pool"]
        wrapper = load_backend(engine).DatabaseWrapper(settings, "stock")
        self._unpooled.append(wrapper)
        return wrapper

    def warm(self, wrapper: BaseDatabaseWrapper) -> None:
        """Open the pool's first connection: in its own time, however short `timeout` is."""
        with wrapper.resolve_pool().acquire(PATIENCE):
            pass

    @contextmanager
    def alias(self, alias: str, **changes: Any) -> Iterator[BaseDatabaseWrapper]:
        """Make the database known to Django under an alias, for the time of the context."""
        connections.settings[alias] = self.settings(**changes)
        try:
            wrapper = connections[alias]
            self._wrappers.add(wrapper)
            yield wrapper
        finally:
            connections[alias].close()
            del connections[alias]
            del connections.settings[alias]

    def close(self) -> None:
        """End what the test has left."""
        for wrapper in {*self._wrappers, *self._unpooled}:
            wrapper.inc_thread_sharing()
            if wrapper.in_atomic_block:
                wrapper.in_atomic_block = False
                wrapper.connection = None
            wrapper.close()

    @contextmanager
    def known_as(self, alias: str, wrapper: BaseDatabaseWrapper) -> Iterator[None]:
        """Make a wrapper known to Django under an alias in this thread."""
        connections.settings[alias] = wrapper.settings_dict
        connections[alias] = wrapper
        try:
            yield
        finally:
            del connections[alias]
            del connections.settings[alias]

    @abc.abstractmethod
    def session(self, wrapper: BaseDatabaseWrapper) -> Any:
        """Return what identifies the wrapper's physical connection."""

    @abc.abstractmethod
    def sessions(self) -> list[Any]:
        """Return the sessions that the server, or the operating system, sees now."""

    @abc.abstractmethod
    def break_connection(self, wrapper: BaseDatabaseWrapper) -> None:
        """Make the wrapper's connection useless behind its back."""

    @abc.abstractmethod
    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements on a connection that has nothing to do with Django; return the rows."""


class PostgresDatabase(Database):
    """A database on the session's server."""

    vendor = "postgresql"

    def __init__(self, entry: dict[str, Any], url: str) -> None:
        super().__init__(entry)
        self.url = f"{url}{'&' if '?' in url else '?'}application_name={OBSERVER}"
        module = driver()
        if module.__name__ == "psycopg":
            self.raw_class = module.Connection
        else:
            self.raw_class = module.extensions.connection

    def close(self) -> None:
        super().close()
        REGISTRY.close_database(self.entry["NAME"])

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        return execute(self.url, *statements)

    def session(self, wrapper: BaseDatabaseWrapper) -> int:
        with wrapper.cursor() as cursor:
            cursor.execute(SESSION_ID[self.vendor])
            return cursor.fetchone()[0]

    def sessions(self) -> list[int]:
        rows = self.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            f"AND backend_type = 'client backend' AND application_name <> '{OBSERVER}'"
        )
        return [pid for (pid,) in rows]

    def terminate(self, pid: int) -> None:
        """End a session at the server, and wait until it is gone."""
        self.execute(f"SELECT pg_terminate_backend({pid}, 10000)")

    def break_connection(self, wrapper: BaseDatabaseWrapper) -> None:
        connection = wrapper.connection
        if driver().__name__ == "psycopg":
            self.terminate(connection.info.backend_pid)
        else:
            self.terminate(connection.get_backend_pid())


class FragileConnection(sqlite3.Connection):
    """A SQLite connection that can fail: nobody can end its session from outside."""

    broken = False

    def rollback(self) -> None:
        if self.broken:
            raise sqlite3.OperationalError("disk I/O error")
        super().rollback()

    def execute(self, *args: Any) -> Any:
        if self.broken:
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(*args)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        if self.broken:
            raise sqlite3.OperationalError("disk I/O error")
        return super().cursor(*args, **kwargs)


class SqliteDatabase(Database):
    """A file."""

    vendor = "sqlite"
    raw_class = sqlite3.Connection
    pool_options: ClassVar[dict[str, Any]] = {"min_size": 0, "max_idle": 600}  # slow machines

    def __init__(self, entry: dict[str, Any]) -> None:
        super().__init__(entry)
        self.entry["OPTIONS"].setdefault("factory", FragileConnection)

    def close(self) -> None:
        super().close()
        REGISTRY.close_database(self.entry["NAME"])

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.entry["NAME"], isolation_level=None)
        try:
            for statement in statements:
                rows = connection.execute(statement).fetchall()
            return rows
        finally:
            connection.close()

    def session(self, wrapper: BaseDatabaseWrapper) -> sqlite3.Connection:
        wrapper.ensure_connection()
        return wrapper.connection

    def sessions(self) -> list[int]:
        path = os.path.realpath(self.entry["NAME"])
        return [
            file.fd for file in psutil.Process().open_files() if file.path.split(" (")[0] == path
        ]

    def break_connection(self, wrapper: BaseDatabaseWrapper) -> None:
        wrapper.connection.broken = True
