"""The contenders, as data. Their code is in `adapters`, and runs in their own processes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pooling

if TYPE_CHECKING:
    from .results import ContenderInfo, LeftOut, Level

POSTGRESQL = "postgresql"
SQLITE = "sqlite"
SIMULATED = "simulated"
VENDORS = (SQLITE, POSTGRESQL, SIMULATED)

# From the name of a module to that of its package.
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
        name: in tables and on the command line.
        title: for people.
        how: how it is used here, in a neutral sentence.
        level: what stands between it and the database.
        adapter: where its class is, as `module:name`.
        vendors: the databases that it works with.
        needs: the modules it needs.
        version_from: the module whose version is shown; by default the first of those.
        blocked: modules hidden from it.
        has_pool: whether the size of a pool concerns it.
        most_threads: with how many threads it works, if that is limited.
        on_request: whether it takes part only if it is named.
    """

    name: str
    title: str
    how: str
    level: Level
    adapter: str
    vendors: tuple[str, ...]
    needs: tuple[str, ...] = ()
    version_from: str = ""
    blocked: tuple[str, ...] = ()
    has_pool: bool = False
    most_threads: int | None = None
    on_request: bool = False

    @property
    def info(self) -> ContenderInfo:
        module = next(iter(filter(None, (self.version_from, *self.needs))), "pooling")
        found = pooling.__version__ if module == "pooling" else version_of(module)
        return {
            "name": self.name,
            "title": self.title,
            "version": f"{PACKAGES.get(module, module)} {found}",
            "how": self.how,
            "level": self.level,
        }

    def missing(self) -> LeftOut | None:
        """Say what it lacks, if anything."""
        reason = missing_modules(self.needs)
        return {"contender": self.name, "reason": reason} if reason else None


def missing_modules(modules: tuple[str, ...]) -> str:
    """Say which packages are not installed; "" if none is missing."""
    lacking = [PACKAGES.get(name, name) for name in modules if find_spec(name) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def version_of(module: str) -> str:
    """Return the version of the package that a module comes from."""
    package = PACKAGES.get(module, module)
    for name in (package, f"{package}-binary"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "?"


def _contender(
    level: Level, adapter: str, name: str, title: str, how: str, **more: Any
) -> Contender:
    more = {"vendors": (SQLITE, POSTGRESQL), **more}
    adapter = f"pooling.bench.adapters.{adapter}"
    return Contender(level=level, adapter=adapter, name=name, title=title, how=how, **more)


POOL: dict[str, Any] = {"has_pool": True}
POSTGRESQL_POOL: dict[str, Any] = {"vendors": (POSTGRESQL,), "has_pool": True}
DEFAULTS = "and the defaults but for max_size."

# In the order of the tables. The first one with a database is its baseline, if no other is chosen.
CONTENDERS = {
    contender.name: contender
    for contender in (
        _contender(
            *("orm", "orm:Stock", "stock", "Django, CONN_MAX_AGE=0"),
            "Django's own backend; every request opens a connection and closes it.",
            needs=("django",),
        ),
        _contender(
            *("orm", "orm:Persistent", "persistent", "Django, CONN_MAX_AGE=None"),
            "Django's own backend; every thread keeps its connection.",
            needs=("django",),
        ),
        _contender(
            *("orm", "orm:Pooled", "pooled", "pooling"),
            f"pooling's backend, with psycopg 3 on PostgreSQL, {DEFAULTS}",
            **POOL,
        ),
        _contender(
            *("orm", "orm:Pooled", "pooled-psycopg2", "pooling with psycopg2"),
            f"pooling's backend with psycopg2, {DEFAULTS}",
            needs=("psycopg2",),
            version_from="pooling",
            blocked=("psycopg",),
            **POSTGRESQL_POOL,
        ),
        _contender(
            *("orm", "watched:Watched", "pooled-watched", "pooling, watched"),
            "As pooling, with snapshots published to a file cache and all of them read ten times a "
            "second, twenty times as often as an open admin page does.",
            on_request=True,
            **POOL,
        ),
        _contender(
            *("orm", "orm:Native", "native", "Django's native pool"),
            "Django's own backend with OPTIONS['pool'], min_size=1.",
            needs=("psycopg_pool", "psycopg"),
            version_from="django",
            **POSTGRESQL_POOL,
        ),
        _contender(
            *("orm", "orm:DjangoDbConnectionPool"),
            *("django-db-connection-pool", "django-db-connection-pool"),
            "dj_db_conn_pool.backends.postgresql with MAX_OVERFLOW=0; PRE_PING for health checks.",
            needs=("dj_db_conn_pool",),
            **POSTGRESQL_POOL,
        ),
        _contender(
            *("driver", "drivers:Bare", "bare", "A bare connection"),
            "The driver alone; every operation opens a connection and closes it.",
            version_from="psycopg" if find_spec("psycopg") else "psycopg2",
        ),
        _contender(
            *("driver", "drivers:Psycopg2Simple"),
            *("psycopg2-simple", "psycopg2's SimpleConnectionPool"),
            "getconn and putconn in a single thread, minconn = maxconn; all are opened beforehand.",
            needs=("psycopg2",),
            most_threads=1,
            **POSTGRESQL_POOL,
        ),
        _contender(
            *("driver", "drivers:Psycopg2Threaded"),
            *("psycopg2-threaded", "psycopg2's ThreadedConnectionPool"),
            "getconn and putconn, minconn = maxconn; all are opened beforehand.",
            needs=("psycopg2",),
            **POSTGRESQL_POOL,
        ),
        _contender(
            *("driver", "drivers:PsycopgPool", "psycopg-pool", "psycopg_pool's ConnectionPool"),
            "getconn and putconn, min_size=1; check_connection for health checks.",
            needs=("psycopg_pool", "psycopg"),
            **POSTGRESQL_POOL,
        ),
        _contender(
            *("driver", "drivers:SqlAlchemy", "sqlalchemy", "SQLAlchemy's QueuePool"),
            "An engine's raw_connection, max_overflow=0, recycle=3600; pre_ping for health checks.",
            needs=("sqlalchemy",),
            **POOL,
        ),
        _contender(
            *("driver", "drivers:Asyncpg", "asyncpg", "asyncpg's pool"),
            "One event loop in one thread, with a task for each thread of the others; min_size=0.",
            needs=("asyncpg",),
            **POSTGRESQL_POOL,
        ),
        _contender(
            *("simulated", "simulated:Unpooled", "simulated-unpooled", "No pool"),
            "Every operation opens a simulated connection, and another if that is unhealthy.",
            vendors=(SIMULATED,),
        ),
        _contender(
            *("simulated", "simulated:Pooled", "simulated-pooled", "pooling.Pool"),
            "pooling's core with a simulated driver.",
            vendors=(SIMULATED,),
            **POOL,
        ),
    )
}
USUAL = tuple(contender for contender in CONTENDERS.values() if not contender.on_request)
