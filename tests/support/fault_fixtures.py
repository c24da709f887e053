"""A database behind a network that fails as told.

A test module that wants it says `pytest_plugins = ["tests.support.fault_fixtures"]`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.mariadb import without_tls
from tests.support.recording_proxy import RecordingProxy
from tests.support.servers import settings_from_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import Database, PostgresDatabase


@pytest.fixture
def proxy(postgresql_url: str) -> Iterator[FaultProxy]:
    """A network of the test's own in front of the session's server."""
    server = settings_from_url(postgresql_url, "")
    with FaultProxy(server["HOST"] or "127.0.0.1", int(server["PORT"] or 5432)) as proxy:
        yield proxy


@pytest.fixture
def proxied(postgresql: PostgresDatabase, proxy: FaultProxy) -> PostgresDatabase:
    """The database `postgresql`, with wrappers that reach it through `proxy`.

    Its own `execute`, `terminate` and `sessions` go past the proxy. Whatever a test leaves broken:
    the proxy ends first, and with it everything that hangs.
    """
    postgresql.entry.update(HOST=proxy.host, PORT=str(proxy.port))
    return postgresql


@pytest.fixture
def wire(postgresql: PostgresDatabase) -> Iterator[RecordingProxy]:
    """What the wrappers of the database `postgresql` and their server say to each other."""
    with recorded(postgresql) as wire:
        yield wire


@contextmanager
def recorded(database: Database) -> Iterator[RecordingProxy]:
    """Let the wrappers of a database reach its server by a proxy that records."""
    entry = database.entry
    with RecordingProxy(entry["HOST"] or "127.0.0.1", int(entry["PORT"] or 5432)) as wire:
        entry.update(HOST=wire.host, PORT=str(wire.port))
        # Encrypted, the same query would never look the same.
        if database.vendor == "postgresql":
            entry["OPTIONS"].update(sslmode="disable", gssencmode="disable")
        else:
            entry["OPTIONS"].update(without_tls())
        yield wire
        database.close()
