"""From what the user asked for to an arena, servers included."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.utils import load_backend

from .databases import Arena, ArenaError, PostgresArena, SimulatedArena, SqliteArena
from .contenders import SIMULATED, SQLITE
from .server import PostgresUnavailableError, PrivatePostgres, ServerError
from .adapters.orm import STOCK_ENGINES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SPARE_CONNECTIONS = 50


@contextmanager
def private_arena(vendor: str, connections_needed: int = 50) -> Iterator[Arena]:
    """Open an arena that needs nothing: a temporary folder, or a private PostgreSQL.

    Raises:
        ArenaError: the driver or the server is missing, or does not work.
    """
    if vendor == SIMULATED:
        yield SimulatedArena()
        return
    if vendor == SQLITE:
        yield SqliteArena({})
        return
    try:
        load_backend(STOCK_ENGINES[vendor])
    except ImproperlyConfigured as error:
        raise ArenaError(f"{error}; pip install 'pooling[psycopg]'") from error
    # One contender's sessions may still be leaving when those of the next one come.
    server = PrivatePostgres(max_connections=2 * connections_needed + SPARE_CONNECTIONS)
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
    vendor = vendor_of_alias(alias)
    if vendor == SQLITE:
        yield SqliteArena(connections.settings[alias])
        return
    with closing(PostgresArena(connections.settings[alias])) as arena:
        yield arena


def vendor_of_alias(alias: str) -> str:
    """Return what kind of database an alias is.

    Raises:
        ArenaError: there is no such alias, or no way to benchmark its kind of database.
    """
    if alias not in connections.settings:
        raise ArenaError(
            f"no database {alias!r} in DATABASES; choose from {names(connections.settings)}"
        )
    vendor = connections[alias].vendor
    if vendor not in STOCK_ENGINES:
        raise ArenaError(f"{alias!r} is a {vendor} database; choose one of {names(STOCK_ENGINES)}")
    return vendor


def distant_host(entry: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> str:
    """Return the name of the server of a `DATABASES` entry if it is not this machine, else "".

    A service may be anywhere, so its name is returned as well.
    """
    if "sqlite" in entry.get("ENGINE", ""):
        return ""
    options = entry.get("OPTIONS", {})
    if service := options.get("service"):
        return f"service {service}"
    hosts = [
        options.get("hostaddr"),
        entry.get("HOST") or options.get("host") or environment.get("PGHOST"),
        environment.get("PGHOSTADDR"),
    ]
    distant = [
        host
        for given in hosts
        for host in str(given or "").split(",")
        if not is_local(host.strip())
    ]
    return ", ".join(distant)


def is_local(host: str) -> bool:
    """Whether a host is this machine: a socket in its file system, or its own address."""
    if not host or host.startswith(("/", "@", "127.")):
        return True
    return host.lower() in ("localhost", "::1")


def names(choices: Iterable[str]) -> str:
    return ", ".join(map(repr, choices))
