"""The interface of a contender: what it is, how it gets connections, and where it runs."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from pooling.bench.environment import PACKAGES, missing_modules, missing_programs, version_of
from pooling.bench.measurements import ConnectionCounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooling.bench.results import Level

POSTGRESQL = "postgresql"
MYSQL = "mysql"
SQLITE = "sqlite"
SIMULATED = "simulated"
VENDORS = (POSTGRESQL, MYSQL, SQLITE, SIMULATED)
FAIR = ("health check", "prepared", "autocommit", "reset on release", "connections")
"""What decides whether contenders are compared on equal terms: columns of a table."""


def postgres_driver() -> str:
    """Return the name of the driver that Django would use."""
    return "psycopg" if find_spec("psycopg") else "psycopg2"


def mysql_driver() -> Any:
    """Return the module that Django uses for MySQL: mysqlclient, or else PyMySQL in its place."""
    if find_spec("MySQLdb") is None and find_spec("pymysql") is not None:
        import_module("pymysql").install_as_MySQLdb()
    return import_module("MySQLdb")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Where and how a contender works; the same for all of them.

    Attributes:
        vendor: one of `VENDORS`.
        entry: the database, as an entry of Django's `DATABASES`.
        pool_size: the most connections a pool may have.
        threads: how many clients ask for connections.
        timeout: how long a pool may let a caller wait, in seconds.
        health_checks: whether each connection is tested with a round trip before it is used.
        simulated_open, simulated_query: seconds that the simulated database takes.
        simulated_unhealthy: the share of its connections that is broken.
        seed: for the simulated database.
        alias, work: the project's alias and its own work, if that is measured.
        cpus: the processors it may use, if not all of them.
    """

    vendor: str
    entry: dict[str, Any]
    pool_size: int
    threads: int = 1
    timeout: float = 30.0
    health_checks: bool = False
    simulated_open: float = 0.1
    simulated_query: float = 0.01
    simulated_unhealthy: float = 0.05
    seed: str = ""
    alias: str = ""
    work: str = ""
    cpus: tuple[int, ...] = ()


class Count:
    """Counts connections, for databases that do not count them themselves. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.open = self.opened = self.peak = 0

    def total(self) -> ConnectionCounts:
        """Return how many were opened, and how many were open at the same time."""
        return ConnectionCounts(self.opened, self.peak)

    def change(self, by: int) -> None:
        with self._lock:
            self.open += by
            self.opened += by > 0
            self.peak = max(self.peak, self.open)

    def watch_mysql(self) -> None:
        """Count the connections that this process opens from now on, with Django's driver."""
        module, seen = mysql_driver(), weakref.WeakSet[Any]()
        # mysqlclient's own `connect` would import it, and that is replaced below.
        connections = import_module(f"{module.__name__}.connections")

        def connect(*args: Any, **kwargs: Any) -> Any:
            connection = connections.Connection(*args, **kwargs)
            with self._lock:
                seen.add(connection)
                self.open, self.opened = sum(bool(each.open) for each in seen), self.opened + 1
                self.peak = max(self.peak, self.open)
            return connection

        module.connect = connect


class PoolAdapter:
    """A contender: one way to get a connection, used by several threads. Making it makes a pool.

    Attributes:
        name: in tables and on the command line.
        title: for people.
        level: what stands between it and the database.
        driver: with PostgreSQL; contenders with the same one share a table.
        vendors: the databases that it works with.
        usual: those with which it takes part without being named.
        only: the workloads in which it does so, if not in all of them.
        kinds: the kinds of workloads it can do.
        needs: the modules it needs, and `programs` the programs.
        version_from: the module whose version is shown; by default the first of those.
        blocked: modules hidden from it.
        has_pool: whether the size of a pool concerns it.
        most_threads: with how many threads it works, if that is limited.
        settings: what decides whether a comparison is fair, in the order of `FAIR`.
        unequal: what it does that the others do not.
        acquire: takes a connection that is ready for use.
        release: ends the request: returns the connection to the pool, or closes it.
        perform: does an action on a connection; `insert` sets the user's `pk`.
        is_async: these three are coroutines, and so are `aopen` and `aclose`, which take the place
            of the constructor and of `close`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    level: ClassVar[Level]
    driver: ClassVar[str] = "psycopg"
    vendors: ClassVar[tuple[str, ...]] = (SQLITE, POSTGRESQL, MYSQL)
    usual: ClassVar[tuple[str, ...]] = ()
    only: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[tuple[str, ...]] = ("steady", "spike", "exhaustion")
    needs: ClassVar[tuple[str, ...]] = ()
    programs: ClassVar[tuple[str, ...]] = ()
    version_from: ClassVar[str] = ""
    blocked: ClassVar[tuple[str, ...]] = ()
    has_pool: ClassVar[bool] = False
    most_threads: ClassVar[int | None] = None
    settings: ClassVar[tuple[str, str, str, str, str]]
    unequal: ClassVar[str] = ""

    acquire: Callable[[], Any]
    release: Callable[[Any], Any]
    perform: Callable[[Any, Any, Any], Any]
    is_async = False

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.count: Count | None = None if config.vendor == POSTGRESQL else Count()
        if self.count is not None and config.vendor == MYSQL:
            self.count.watch_mysql()

    @classmethod
    def path(cls) -> str:
        """Return where the class is, as `module:name`."""
        return f"{cls.__module__}:{cls.__qualname__}"

    @classmethod
    def info(cls) -> dict[str, Any]:
        """Return what reports say of it."""
        module = cls.version_from or next(iter(cls.needs), "pooling")
        return {
            "name": cls.name,
            "title": cls.title,
            "version": f"{PACKAGES.get(module, module)} {version_of(module)}",
            "level": cls.level,
            "has_pool": cls.has_pool,
            "settings": dict(zip(FAIR, cls.settings, strict=True)),
            "unequal": cls.unequal,
        }

    @classmethod
    def missing(cls) -> dict[str, str] | None:
        """Say what it lacks, if anything."""
        reason = missing_modules(cls.needs) or missing_programs(cls.programs)
        return {"contender": cls.name, "reason": reason} if reason else None

    def leave(self) -> None:
        """Close what the calling thread still has; it does not come again."""

    def clean_up(self) -> None:
        """Undo what the project's own work has set up."""

    def close(self) -> None:
        """Close everything. All threads have left."""

    def sqlite_options(self) -> dict[str, Any]:
        """Return what makes SQLite's connections count themselves."""
        if self.count is None:
            return {}
        count: Count = self.count

        class CountedConnection(sqlite3.Connection):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self._counted = True
                count.change(1)

            def close(self) -> None:
                super().close()
                if self._counted:
                    self._counted = False
                    count.change(-1)

        return {"factory": CountedConnection}
