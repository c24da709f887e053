"""From what the user asked for to an arena, servers included."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.utils import load_backend

from .arenas import Arena, ArenaError, PostgresArena, SqliteArena
from .contenders import STOCK
from .server import PostgresUnavailableError, PrivatePostgres, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VENDORS = ("sqlite", "postgresql")


@contextmanager
def private_arena(vendor: str) -> Iterator[Arena]:
    """Open an arena that needs nothing: a temporary folder, or a private PostgreSQL.

    Raises:
        ArenaError: the driver or the server is missing, or does not work.
    """
    if vendor == "sqlite":
        yield SqliteArena({})
        return
    try:
        load_backend(STOCK.engines[vendor])
    except ImproperlyConfigured as error:
        raise ArenaError(f"{error}; pip install 'pooling[psycopg]'") from error
    server = PrivatePostgres()
    try:
        server.start()
    except (PostgresUnavailableError, ServerError) as error:
        raise ArenaError(str(error)) from error
    with closing(server), closing(PostgresArena(server.database_settings())) as arena:
        yield arena


@contextmanager
def arena_of_alias(alias: str) -> Iterator[Arena]:
    """Open an arena on the server, or beside the file, of an alias in `DATABASES`.

    Raises:
        ArenaError: there is no such alias, or no way to benchmark its kind of database.
    """
    if alias not in connections.settings:
        raise ArenaError(
            f"no database {alias!r} in DATABASES; choose from {_names(connections.settings)}"
        )
    vendor = connections[alias].vendor
    if vendor == "sqlite":
        yield SqliteArena(connections.settings[alias])
    elif vendor == "postgresql":
        with closing(PostgresArena(connections.settings[alias])) as arena:
            yield arena
    else:
        raise ArenaError(f"{alias!r} is a {vendor} database; choose one of {_names(VENDORS)}")


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
