"""Adapters through Django: what differs is the entry in `DATABASES`."""

from __future__ import annotations

import itertools
from importlib import import_module
from typing import Any

from django.db import connections
from django.db.utils import DEFAULT_DB_ALIAS, ConnectionHandler

import pooling
from pooling.bench.polling import wait_until
from pooling.bench.statements import OrmStatements

from .base import PoolAdapter, RunConfig

STOCK_ENGINES = {
    "postgresql": "django.db.backends.postgresql",
    "sqlite": "django.db.backends.sqlite3",
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
    """Django as it comes: each request opens a connection and closes it."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.statements = OrmStatements()
        # A new alias each time: some pools are found by it, and would be the old ones.
        self.alias = f"poolbench_{next(_numbers)}"
        entry = plain_entry(config.vendor, config.entry)
        self.adapt(entry)
        if config.vendor == "sqlite":
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

    def leave(self) -> None:
        connections[self.alias].close()
        del connections[self.alias]

    def close(self) -> None:
        self.leave()
        del connections.settings[self.alias]


class Persistent(Stock):
    """Each thread keeps its connection."""

    def adapt(self, entry: dict[str, Any]) -> None:
        entry["CONN_MAX_AGE"] = None
        entry["CONN_HEALTH_CHECKS"] = self.config.health_checks


class Pooled(Stock):
    """This project's backends."""

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


class Native(Stock):
    """Django's own pool."""

    def adapt(self, entry: dict[str, Any]) -> None:
        pool = {"max_size": self.config.pool_size, "timeout": self.config.timeout}
        entry["OPTIONS"]["pool"] = {"min_size": 1, **pool}
        entry["CONN_HEALTH_CHECKS"] = self.config.health_checks

    def close(self) -> None:
        connections[self.alias].close_pool()  # type: ignore[attr-defined]
        super().close()


class DjangoDbConnectionPool(Stock):
    """The package of that name."""

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
