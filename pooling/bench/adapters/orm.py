"""Adapters through Django: what differs is the entry in `DATABASES`."""

from __future__ import annotations

import itertools
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

from django.db import close_old_connections, connections
from django.db.utils import DEFAULT_DB_ALIAS, ConnectionHandler

import pooling
from pooling.bench.polling import wait_until
from pooling.bench.statements import FIRST, Action, BenchUser

from .base import MYSQL, POSTGRESQL, SQLITE, PoolAdapter, RunConfig, postgres_driver
from .own import OwnWork
from .pgbouncer import PrivatePgBouncer

STOCK_ENGINES = {
    POSTGRESQL: "django.db.backends.postgresql",
    MYSQL: "django.db.backends.mysql",
    SQLITE: "django.db.backends.sqlite3",
}

# What the base entry says about the life of connections is each contender's own choice.
CONNECTION_LIFE = {
    "ATOMIC_REQUESTS": False,
    "AUTOCOMMIT": True,
    "CONN_HEALTH_CHECKS": False,
    "CONN_MAX_AGE": 0,
}

_numbers = itertools.count(1)


def plain_entry(vendor: str, base: dict[str, Any]) -> dict[str, Any]:
    """Return a `DATABASES` entry for Django's own backend, with its defaults."""
    options = {key: value for key, value in base.get("OPTIONS", {}).items() if key != "pool"}
    kept = {key: value for key, value in base.items() if key not in ("TEST", "POOL_OPTIONS")}
    return {**kept, **CONNECTION_LIFE, "ENGINE": STOCK_ENGINES[vendor], "OPTIONS": options}


def completed(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry with what Django's wrappers expect to find in it."""
    found: dict[str, Any] = ConnectionHandler({DEFAULT_DB_ALIAS: entry}).settings[DEFAULT_DB_ALIAS]
    return found


class Stock(PoolAdapter):
    name = "stock"
    title = "Django, CONN_MAX_AGE=0"
    level = "orm"
    driver = postgres_driver()
    usual: ClassVar[tuple[str, ...]] = (POSTGRESQL, MYSQL, SQLITE)
    kinds: ClassVar[tuple[str, ...]] = ("steady", "spike", "exhaustion", "own")
    needs: ClassVar[tuple[str, ...]] = ("django",)
    settings = ("none", "never", "on", "closed", "one for each operation")

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        # A new alias each time: some pools are found by it, and would be the old ones.
        self.alias = config.alias or f"poolbench_{next(_numbers)}"
        entry = plain_entry(config.vendor, config.entry)
        if config.work:  # the project's, not the benchmark's
            entry["ATOMIC_REQUESTS"] = config.entry.get("ATOMIC_REQUESTS", False)
        self.adapt(entry)
        if config.vendor == SQLITE:
            entry["OPTIONS"].update(self.sqlite_options())
        with suppress(AttributeError):  # this thread's, with other settings
            del connections[self.alias]
        connections.settings[self.alias] = completed(entry)
        self._work = OwnWork(config.work) if config.work else None
        close_old_connections()

    def adapt(self, entry: dict[str, Any]) -> None:
        """Change Django's defaults into this contender's settings."""

    def acquire(self) -> Any:
        connection = connections[self.alias]
        if self._work is None:
            connection.ensure_connection()
        return connection

    def release(self, connection: Any) -> None:
        # What Django does with every connection between two requests.
        if self._work is None:
            connection.close_if_unusable_or_obsolete()
        else:
            close_old_connections()

    def perform(self, action: Action, connection: Any, user: Any) -> None:
        if self._work is not None:
            self._work()
        elif action == "trivial":
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchone()
        elif action == "insert":
            user.save(using=self.alias, force_insert=True)
        elif action == "read":
            BenchUser.objects.using(self.alias).get(pk=user.pk)
        elif action == "update":
            user.logins += 1
            user.save(using=self.alias, force_update=True)
        elif action == "delete":
            user.delete(using=self.alias)
        else:
            list(BenchUser.objects.using(self.alias).filter(pk__lt=FIRST))

    def clean_up(self) -> None:
        if self._work is not None:
            self._work.clean_up()

    def leave(self) -> None:
        connections[self.alias].close()
        del connections[self.alias]

    def close(self) -> None:
        self.leave()
        del connections.settings[self.alias]


class Persistent(Stock):
    name = "persistent"
    title = "Django, CONN_MAX_AGE=None"
    usual: ClassVar[tuple[str, ...]] = (POSTGRESQL, MYSQL)
    settings = ("none", "never", "on", "none", "one for each thread")
    unequal = "It has as many connections as there are threads, also where a pool may have fewer."

    def adapt(self, entry: dict[str, Any]) -> None:
        entry["CONN_MAX_AGE"] = None
        entry["CONN_HEALTH_CHECKS"] = self.config.health_checks


class Pooled(Stock):
    name = "pooled"
    title = "pooling"
    needs: ClassVar[tuple[str, ...]] = ()
    has_pool = True
    settings = (
        *("socket test; a round trip after 30 s idle", "never", "on", "rollback if needed"),
        "min_size=1, at most max_size",
    )

    def adapt(self, entry: dict[str, Any]) -> None:
        entry["ENGINE"] = entry["ENGINE"].replace("django.db", "pooling")
        pool = {"max_size": self.config.pool_size, "timeout": self.config.timeout}
        if self.config.health_checks:
            pool["ping_after"] = 0
        entry["OPTIONS"]["pool"] = pool

    def close(self) -> None:
        pool = pooling.get_pool(self.alias)
        pool.close()
        wait_until(lambda: pool.stats().size == 0)
        super().close()


class PooledTransaction(Pooled):
    name = "pooled-transaction"
    title = "pooling per transaction"
    usual = (POSTGRESQL, MYSQL, SQLITE)
    only = ("think", "own")
    kinds = ("steady", "own")
    settings = (
        *("socket test; a round trip after 30 s idle", "never", "on", "what a session changed"),
        "min_size=1, at most max_size",
    )

    def adapt(self, entry: dict[str, Any]) -> None:
        super().adapt(entry)
        entry["OPTIONS"]["pool"]["scope"] = "transaction"

    def acquire(self) -> Any:
        return connections[self.alias]  # `ensure_connection` would hold one until the end


class Native(Stock):
    name = "native"
    title = "Django's native pool"
    vendors = usual = (POSTGRESQL,)
    needs = ("psycopg_pool", "psycopg")
    version_from = "django"
    has_pool = True
    settings = ("none", "never", "on", "rollback if needed", "min_size=1, at most max_size")

    def adapt(self, entry: dict[str, Any]) -> None:
        pool = {"max_size": self.config.pool_size, "timeout": self.config.timeout}
        entry["OPTIONS"]["pool"] = {"min_size": 1, **pool}
        entry["CONN_HEALTH_CHECKS"] = self.config.health_checks

    def close(self) -> None:
        connections[self.alias].close_pool()  # type: ignore[attr-defined]
        super().close()


class DjangoDbConnectionPool(Stock):
    name: ClassVar[str] = "django-db-connection-pool"
    title: ClassVar[str] = "django-db-connection-pool"
    vendors = usual = (POSTGRESQL, MYSQL)
    needs: ClassVar[tuple[str, ...]] = ("dj_db_conn_pool",)
    has_pool = True
    settings = ("none", "never", "on", "rollback", "at most POOL_SIZE")
    unequal = "PRE_PING, a round trip before each use, is its default, and off here."

    def adapt(self, entry: dict[str, Any]) -> None:
        entry["ENGINE"] = f"dj_db_conn_pool.backends.{self.config.vendor}"
        entry["POOL_OPTIONS"] = {
            "POOL_SIZE": self.config.pool_size,
            "MAX_OVERFLOW": 0,
            "TIMEOUT": self.config.timeout,
            "PRE_PING": self.config.health_checks,
        }

    def close(self) -> None:
        pools = import_module("dj_db_conn_pool.core").pool_container
        if pools.has(self.alias):
            pools.pop(self.alias).dispose()
        super().close()


class PgBouncer(Stock):
    name = "pgbouncer"
    title = "PgBouncer in transaction mode"
    vendors = usual = (POSTGRESQL,)
    only = ("think", "own")
    programs = ("pgbouncer",)
    has_pool = True
    settings = ("a query after 30 s idle", "never", "on", "none", "at most default_pool_size")
    unequal = "Another process: a hop more, and processor time that is not counted here."

    def adapt(self, entry: dict[str, Any]) -> None:
        self._bouncer = PrivatePgBouncer(entry, self.config.pool_size, self.config.threads)
        entry.update(self._bouncer.address, CONN_MAX_AGE=None, DISABLE_SERVER_SIDE_CURSORS=True)

    def close(self) -> None:
        super().close()
        self._bouncer.close()


def with_psycopg2(base: type[Stock]) -> type[Stock]:
    """Return the same contender with psycopg2, which the others use already without psycopg 3."""
    changes = {
        "__module__": __name__,
        "name": f"{base.name}-psycopg2",
        "title": f"{base.title} (psycopg2)",
        "driver": "psycopg2",
        "vendors": (POSTGRESQL,),
        "usual": (POSTGRESQL,) if find_spec("psycopg") else (),
        "needs": (*base.needs, "psycopg2"),
        "version_from": base.version_from or next(iter(base.needs), "pooling"),
        "blocked": ("psycopg",),
    }
    return type(f"{base.__name__}Psycopg2", (base,), changes)


StockPsycopg2 = with_psycopg2(Stock)
PersistentPsycopg2 = with_psycopg2(Persistent)
PooledPsycopg2 = with_psycopg2(Pooled)
DjangoDbConnectionPoolPsycopg2 = with_psycopg2(DjangoDbConnectionPool)
