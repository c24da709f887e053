"""Through Django: what differs is the entry in `DATABASES`."""

from __future__ import annotations

import itertools
from typing import Any

from django.db import connections
from django.db.utils import DEFAULT_DB_ALIAS, ConnectionHandler

import pooling
from pooling.bench.statements import OrmStatements
from pooling.bench.polling import wait_until

from .base import Place, Way

STOCK_ENGINES = {
    "postgresql": "django.db.backends.postgresql",
    "sqlite": "django.db.backends.sqlite3",
}
POOLED_ENGINES = {
    "postgresql": "pooling.backends.postgresql",
    "sqlite": "pooling.backends.sqlite3",
}

# What these say about the life of connections is the contender's to say, and nobody else's.
LIFE_OF_CONNECTIONS = {
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
    engine = STOCK_ENGINES[vendor]
    return {**kept, **LIFE_OF_CONNECTIONS, "ENGINE": engine, "OPTIONS": options}


class Stock(Way):
    """Django as it comes: each request opens a connection and closes it."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.statements = OrmStatements()
        # A new alias each time: some pools are found by it, and would be the old ones.
        self.alias = f"poolbench_{next(_numbers)}"
        entry = plain_entry(place.vendor, place.entry)
        self.adapt(entry)
        if place.vendor == "sqlite":
            entry["OPTIONS"].update(self.sqlite_options())
        # A handler of its own adds what Django's wrappers expect to find in an entry.
        handler = ConnectionHandler({DEFAULT_DB_ALIAS: entry})
        connections.settings[self.alias] = handler.settings[DEFAULT_DB_ALIAS]

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
        entry["CONN_HEALTH_CHECKS"] = self.place.health_checks


class Pooled(Stock):
    """This project's backends."""

    def adapt(self, entry: dict[str, Any]) -> None:
        entry["ENGINE"] = POOLED_ENGINES[self.place.vendor]
        pool = {"max_size": self.place.pool_size, "timeout": self.place.timeout}
        entry["OPTIONS"]["pool"] = {
            **pool,
            **({"ping_after": 0} if self.place.health_checks else {}),
        }

    def close(self) -> None:
        pool = pooling.get_pool(self.alias)
        pool.close()
        wait_until(lambda: pool.stats().size == 0)
        super().close()


class Native(Stock):
    """Django's own pool."""

    def adapt(self, entry: dict[str, Any]) -> None:
        place = self.place
        entry["OPTIONS"]["pool"] = {
            "min_size": 1,
            "max_size": place.pool_size,
            "timeout": place.timeout,
        }
        entry["CONN_HEALTH_CHECKS"] = place.health_checks

    def close(self) -> None:
        connections[self.alias].close_pool()  # type: ignore[attr-defined]
        super().close()


class DjangoDbConnectionPool(Stock):
    """The package of that name."""

    def adapt(self, entry: dict[str, Any]) -> None:
        entry["ENGINE"] = "dj_db_conn_pool.backends.postgresql"
        entry["POOL_OPTIONS"] = {
            "POOL_SIZE": self.place.pool_size,
            "MAX_OVERFLOW": 0,
            "TIMEOUT": self.place.timeout,
            "PRE_PING": self.place.health_checks,
        }

    def close(self) -> None:
        from dj_db_conn_pool.core import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
            pool_container,
        )

        if pool_container.has(self.alias):
            pool_container.pop(self.alias).dispose()
        super().close()
