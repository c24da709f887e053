"""Database connection pooling for Django.

Change `ENGINE` to `pooling.backends.postgresql`, or to the engine of another database there;
everything else is optional. Importing this package imports no Django.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooling.core.config import PoolConfig
from pooling.core.connection import DiscardReason, Lease
from pooling.core.errors import (
    LeaseError,
    PoolClosed,
    PoolConfigError,
    PoolError,
    PoolTimeout,
    ServerDown,
    TooManyWaiters,
)
from pooling.core.histogram import HistogramSnapshot
from pooling.core.listener import Listener
from pooling.core.pool import Pool
from pooling.core.stats import Holder, Outage, PoolStats, QueuedCaller

if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

__all__ = [
    "DiscardReason",
    "HistogramSnapshot",
    "Holder",
    "Lease",
    "LeaseError",
    "Listener",
    "Outage",
    "Pool",
    "PoolClosed",
    "PoolConfig",
    "PoolConfigError",
    "PoolError",
    "PoolStats",
    "PoolTimeout",
    "QueuedCaller",
    "ServerDown",
    "TooManyWaiters",
    "get_pool",
]


def get_pool(alias: str = "default") -> Pool[Any]:
    """Return the pool that the database `alias` of Django's settings uses in this process.

    Does not connect. Aliases of one and the same database share a pool.

    Raises:
        django.db.utils.ConnectionDoesNotExist: there is no such alias.
        django.core.exceptions.ImproperlyConfigured: the alias has no pool, or wrong options.
    """
    from pooling.registry import pool_of_alias

    return pool_of_alias(alias)
