"""The contenders, in the order of the tables.

The first one with a database is its baseline, if no other is chosen.
"""

from __future__ import annotations

from typing import TypeAlias

from .adapters import drivers, orm, simulated
from .adapters.base import PoolAdapter
from .adapters.watched import Watched

Contender: TypeAlias = type[PoolAdapter]

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        *(orm.Stock, orm.Persistent, orm.Pooled, orm.PooledPsycopg2, Watched),
        *(orm.Native, orm.DjangoDbConnectionPool),
        *(drivers.Bare, drivers.Psycopg2Simple, drivers.Psycopg2Threaded, drivers.PsycopgPool),
        *(drivers.SqlAlchemy, drivers.Asyncpg),
        *(simulated.Unpooled, simulated.Pooled),
    )
}
USUAL = tuple(contender for contender in CONTENDERS.values() if not contender.on_request)
