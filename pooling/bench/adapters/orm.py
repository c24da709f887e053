"""Adapters through Django: what differs is the entry in `DATABASES`."""

from __future__ import annotations

import itertools
from importlib import import_module
from typing import Any, ClassVar

from django.db import connections
from django.db.utils import DEFAULT_DB_ALIAS, ConnectionHandler

import pooling
from pooling.bench.polling import wait_until
from pooling.bench.statements import FIRST, Action, BenchUser

from .base import POSTGRESQL, SQLITE, PoolAdapter, RunConfig

STOCK_ENGINES = {
    POSTGRESQL: "django.db.backends.postgresql",
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
    how = "Django's own backend; every request opens a connection and closes it."
    level = "orm"
    needs: ClassVar[tuple[str, ...]] = ("django",)

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        # A new alias each time: some pools are found by it, and would be the old ones.
        self.alias = f"poolbench_{next(_numbers)}"
        entry = plain_entry(config.vendor, config.entry)
        self.adapt(entry)
        if config.vendor == SQLITE:
            entry["OPTIONS"].update(self.sqlite_options())
        connections.settings[self.alias] = completed(entry)

    def adapt(self, entry: dict[str, Any]) -> None:
        """Change Django's defaults into this contender's settings."""

    def acquire(self) -> Any:
        connection = connections[self.alias]
        connection.ensure_connection()
        return connection

    def release(self, connection: Any) -> None:
        # What Django does with every connection between two requests.
        connection.close_if_unusable_or_obsolete()

    def perform(self, action: Action, connection: Any, user: Any) -> None:
        if action == "trivial":
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

    def leave(self) -> None:
        connections[self.alias].close()
        del connections[self.alias]

    def close(self) -> None:
        self.leave()
        del connections.settings[self.alias]


class Persistent(Stock):
    name = "persistent"
    title = "Django, CONN_MAX_AGE=None"
    how = "Django's own backend; every thread keeps its connection."

    def adapt(self, entry: dict[str, Any]) -> None:
        entry["CONN_MAX_AGE"] = None
        entry["CONN_HEALTH_CHECKS"] = self.config.health_checks


class Pooled(Stock):
    name = "pooled"
    title = "pooling"
    how = "pooling's backend, with psycopg 3 on PostgreSQL, and the defaults but for max_size."
    needs: ClassVar[tuple[str, ...]] = ()
    has_pool = True

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


class PooledPsycopg2(Pooled):
    name = "pooled-psycopg2"
    title = "pooling with psycopg2"
    how = "pooling's backend with psycopg2, and the defaults but for max_size."
    vendors = (POSTGRESQL,)
    needs = ("psycopg2",)
    version_from = "pooling"
    blocked = ("psycopg",)


class Native(Stock):
    name = "native"
    title = "Django's native pool"
    how = "Django's own backend with OPTIONS['pool'], min_size=1."
    vendors = (POSTGRESQL,)
    needs = ("psycopg_pool", "psycopg")
    version_from = "django"
    has_pool = True

    def adapt(self, entry: dict[str, Any]) -> None:
        pool = {"max_size": self.config.pool_size, "timeout": self.config.timeout}
        entry["OPTIONS"]["pool"] = {"min_size": 1, **pool}
        entry["CONN_HEALTH_CHECKS"] = self.config.health_checks

    def close(self) -> None:
        connections[self.alias].close_pool()  # type: ignore[attr-defined]
        super().close()


class DjangoDbConnectionPool(Stock):
    name = title = "django-db-connection-pool"
    how = "dj_db_conn_pool.backends.postgresql with MAX_OVERFLOW=0; PRE_PING for health checks."
    vendors = (POSTGRESQL,)
    needs = ("dj_db_conn_pool",)
    has_pool = True

    def adapt(self, entry: dict[str, Any]) -> None:
        entry["ENGINE"] = "dj_db_conn_pool.backends.postgresql"
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
