"""Who takes part: ways to connect Django to a database, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pooling

from .waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# What these say about the life of connections is the contender's to say, and nobody else's.
LIFE_OF_CONNECTIONS = {
    "ATOMIC_REQUESTS": False,
    "AUTOCOMMIT": True,
    "CONN_HEALTH_CHECKS": False,
    "CONN_MAX_AGE": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to get a connection.

    Attributes:
        name: as it appears in tables.
        engines: Django's ENGINE for each database vendor.
        has_pool: whether `OPTIONS["pool"]` is for it.
        end: closes what the contender still keeps open for an alias.
    """

    name: str
    engines: Mapping[str, str]
    has_pool: bool
    end: Callable[[str], None]

    def settings(
        self, vendor: str, base: Mapping[str, Any], *, pool_size: int = 1
    ) -> dict[str, Any]:
        """Return the `DATABASES` entry with which this contender uses the database `base`."""
        options = {key: value for key, value in base.get("OPTIONS", {}).items() if key != "pool"}
        if self.has_pool:
            options["pool"] = {"max_size": pool_size}
        return {
            **base,
            **LIFE_OF_CONNECTIONS,
            "ENGINE": self.engines[vendor],
            "OPTIONS": options,
        }


def close_pool(alias: str) -> None:
    """Close our pool and wait for the connections that were just being opened."""
    pool = pooling.get_pool(alias)
    pool.close()
    wait_until(lambda: pool.stats().size == 0)


STOCK = Contender(
    name="stock",
    engines={
        "postgresql": "django.db.backends.postgresql",
        "sqlite": "django.db.backends.sqlite3",
    },
    has_pool=False,
    end=lambda _alias: None,
)
POOLED = Contender(
    name="pooled",
    engines={
        "postgresql": "pooling.backends.postgresql",
        "sqlite": "pooling.backends.sqlite3",
    },
    has_pool=True,
    end=close_pool,
)

# The first one is the baseline that ratios refer to.
CONTENDERS = (STOCK, POOLED)
