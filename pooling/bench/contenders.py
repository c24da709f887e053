"""The contenders, in the order of the tables.

The first one of a driver is the baseline of those that use it, if no other is chosen.
"""

from __future__ import annotations

from typing import TypeAlias

from .adapters import drivers, orm, simulated
from .adapters.base import PoolAdapter

Contender: TypeAlias = type[PoolAdapter]

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        *(orm.Stock, orm.Persistent, orm.Pooled, orm.PooledTransaction),
        *(orm.Native, orm.DjangoDbConnectionPool, orm.PgBouncer),
        *(orm.StockPsycopg2, orm.PersistentPsycopg2, orm.PooledPsycopg2),
        orm.DjangoDbConnectionPoolPsycopg2,
        *(drivers.Bare, drivers.Psycopg2Simple, drivers.Psycopg2Threaded, drivers.PsycopgPool),
        *(drivers.SqlAlchemy, drivers.SqlAlchemySession, drivers.Asyncpg),
        *(simulated.Unpooled, simulated.Pooled),
    )
}
