"""Who takes part, as data. What they do is in `ways`, and happens in their own processes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pooling

if TYPE_CHECKING:
    from .results import ContenderInfo, LeftOut, Level

POSTGRESQL = "postgresql"
SQLITE = "sqlite"
SIMULATED = "simulated"
VENDORS = (SQLITE, POSTGRESQL, SIMULATED)

# From the name of a module to that of the package that brings it.
PACKAGES = {
    "asyncpg": "asyncpg",
    "dj_db_conn_pool": "django-db-connection-pool",
    "django": "Django",
    "psycopg": "psycopg",
    "psycopg2": "psycopg2",
    "psycopg_pool": "psycopg-pool",
    "sqlalchemy": "SQLAlchemy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to get a connection.

    Attributes:
        name: as it appears in tables, and as it is called on the command line.
        title: what people call it.
        how: how it is used here, in a neutral sentence.
        level: what stands between it and the database.
        way: where its class is, as `module:name`.
        vendors: the databases that it works with.
        needs: the modules it needs.
        version_from: the module whose version is shown; the first of these, if nothing is said.
        blocked: modules hidden from it.
        has_pool: whether the size of a pool is of interest to it.
        most_threads: with how many threads it works, if that is limited.
        on_request: whether it takes part only if it is named.
    """

    name: str
    title: str
    how: str
    level: Level
    way: str
    vendors: tuple[str, ...]
    needs: tuple[str, ...] = ()
    version_from: str = ""
    blocked: tuple[str, ...] = ()
    has_pool: bool = False
    most_threads: int | None = None
    on_request: bool = False

    @property
    def version(self) -> str:
        """The version of what it is named after."""
        module = next(iter(filter(None, (self.version_from, *self.needs))), "pooling")
        if module == "pooling":
            return f"pooling {pooling.__version__}"
        return f"{PACKAGES.get(module, module)} {version_of(module)}"

    @property
    def info(self) -> ContenderInfo:
        return {
            "name": self.name,
            "title": self.title,
            "version": self.version,
            "how": self.how,
            "level": self.level,
        }

    def missing(self) -> LeftOut | None:
        """Say what it lacks, if anything."""
        lacking = [PACKAGES.get(name, name) for name in self.needs if find_spec(name) is None]
        if not lacking:
            return None
        return {"contender": self.name, "reason": f"not installed: {', '.join(lacking)}"}


def version_of(module: str) -> str:
    """Return the version of the package that a module comes from."""
    package = PACKAGES.get(module, module)
    for name in (package, f"{package}-binary"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "?"


ORM = "pooling.bench.adapters.orm"
DRIVERS = "pooling.bench.adapters.drivers"
SIMULATION = "pooling.bench.adapters.simulated"

STOCK = Contender(
    name="stock",
    title="Django, CONN_MAX_AGE=0",
    how="Django's own backend; every request opens a connection and closes it.",
    level="orm",
    way=f"{ORM}:Stock",
    vendors=(SQLITE, POSTGRESQL),
    needs=("django",),
)
PERSISTENT = Contender(
    name="persistent",
    title="Django, CONN_MAX_AGE=None",
    how="Django's own backend; every thread keeps its connection.",
    level="orm",
    way=f"{ORM}:Persistent",
    vendors=(SQLITE, POSTGRESQL),
    needs=("django",),
)
POOLED = Contender(
    name="pooled",
    title="pooling",
    how="pooling's backend, with psycopg 3 on PostgreSQL, and the defaults but for max_size.",
    level="orm",
    way=f"{ORM}:Pooled",
    vendors=(SQLITE, POSTGRESQL),
    has_pool=True,
)
POOLED_PSYCOPG2 = Contender(
    name="pooled-psycopg2",
    title="pooling with psycopg2",
    how="pooling's backend with psycopg2, and the defaults but for max_size.",
    level="orm",
    way=f"{ORM}:Pooled",
    vendors=(POSTGRESQL,),
    needs=("psycopg2",),
    version_from="pooling",
    blocked=("psycopg",),
    has_pool=True,
)
POOLED_WATCHED = Contender(
    name="pooled-watched",
    title="pooling, watched",
    how=(
        "As pooling, with snapshots published to a file cache and all of them read ten times a "
        "second, twenty times as often as an open admin page does."
    ),
    level="orm",
    way="pooling.bench.adapters.watched:Watched",
    vendors=(SQLITE, POSTGRESQL),
    version_from="pooling",
    has_pool=True,
    on_request=True,
)
NATIVE = Contender(
    name="native",
    title="Django's native pool",
    how="Django's own backend with OPTIONS['pool'], min_size=1.",
    level="orm",
    way=f"{ORM}:Native",
    vendors=(POSTGRESQL,),
    needs=("psycopg_pool", "psycopg"),
    version_from="django",
    has_pool=True,
)
DJANGO_DB_CONNECTION_POOL = Contender(
    name="django-db-connection-pool",
    title="django-db-connection-pool",
    how="dj_db_conn_pool.backends.postgresql with MAX_OVERFLOW=0; PRE_PING for health checks.",
    level="orm",
    way=f"{ORM}:DjangoDbConnectionPool",
    vendors=(POSTGRESQL,),
    needs=("dj_db_conn_pool",),
    has_pool=True,
)
BARE = Contender(
    name="bare",
    title="A bare connection",
    how="The driver alone; every operation opens a connection and closes it.",
    level="driver",
    way=f"{DRIVERS}:Bare",
    vendors=(SQLITE, POSTGRESQL),
    version_from="psycopg" if find_spec("psycopg") else "psycopg2",
)
PSYCOPG2_SIMPLE = Contender(
    name="psycopg2-simple",
    title="psycopg2's SimpleConnectionPool",
    how="getconn and putconn in a single thread, minconn = maxconn; all are opened beforehand.",
    level="driver",
    way=f"{DRIVERS}:Psycopg2Simple",
    vendors=(POSTGRESQL,),
    needs=("psycopg2",),
    has_pool=True,
    most_threads=1,
)
PSYCOPG2_THREADED = Contender(
    name="psycopg2-threaded",
    title="psycopg2's ThreadedConnectionPool",
    how="getconn and putconn, minconn = maxconn; all are opened beforehand.",
    level="driver",
    way=f"{DRIVERS}:Psycopg2Threaded",
    vendors=(POSTGRESQL,),
    needs=("psycopg2",),
    has_pool=True,
)
PSYCOPG_POOL = Contender(
    name="psycopg-pool",
    title="psycopg_pool's ConnectionPool",
    how="getconn and putconn, min_size=1; check_connection for health checks.",
    level="driver",
    way=f"{DRIVERS}:PsycopgPool",
    vendors=(POSTGRESQL,),
    needs=("psycopg_pool", "psycopg"),
    has_pool=True,
)
SQLALCHEMY = Contender(
    name="sqlalchemy",
    title="SQLAlchemy's QueuePool",
    how="An engine's raw_connection, max_overflow=0, recycle=3600; pre_ping for health checks.",
    level="driver",
    way=f"{DRIVERS}:SqlAlchemy",
    vendors=(SQLITE, POSTGRESQL),
    needs=("sqlalchemy",),
    has_pool=True,
)
ASYNCPG = Contender(
    name="asyncpg",
    title="asyncpg's pool",
    how="One event loop in one thread, with a task for each thread of the others; min_size=0.",
    level="driver",
    way=f"{DRIVERS}:Asyncpg",
    vendors=(POSTGRESQL,),
    needs=("asyncpg",),
    has_pool=True,
)
UNPOOLED_SIMULATION = Contender(
    name="simulated-unpooled",
    title="No pool",
    how="Every operation opens a simulated connection, and another one if that is unhealthy.",
    level="simulated",
    way=f"{SIMULATION}:Unpooled",
    vendors=(SIMULATED,),
)
POOLED_SIMULATION = Contender(
    name="simulated-pooled",
    title="pooling.Pool",
    how="pooling's core with a simulated driver.",
    level="simulated",
    way=f"{SIMULATION}:Pooled",
    vendors=(SIMULATED,),
    has_pool=True,
)

# In the order of the tables. The first one with a database is its baseline, if no other is chosen.
CONTENDERS = {
    contender.name: contender
    for contender in (
        STOCK,
        PERSISTENT,
        POOLED,
        POOLED_PSYCOPG2,
        POOLED_WATCHED,
        NATIVE,
        DJANGO_DB_CONNECTION_POOL,
        BARE,
        PSYCOPG2_SIMPLE,
        PSYCOPG2_THREADED,
        PSYCOPG_POOL,
        SQLALCHEMY,
        ASYNCPG,
        UNPOOLED_SIMULATION,
        POOLED_SIMULATION,
    )
}
USUAL = tuple(contender for contender in CONTENDERS.values() if not contender.on_request)
