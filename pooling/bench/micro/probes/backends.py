"""Through Django: what a request pays for its connection, with and without a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections

from pooling.bench.worker import find_class

from .base import LoopProbe

settings.configure(USE_TZ=True)
django.setup()

from pooling.bench.users import BenchUser  # noqa: E402 - a model, which needs the settings

if TYPE_CHECKING:
    from pooling.bench.ways.base import Place


class Request(LoopProbe):
    """Take a connection as a request does, and end the request.

    Args:
        way: the contender, as `module:name`.
        place: where its database is.
        query: run before the end of each request, if there is one.
    """

    def __init__(self, way: str, place: Place, query: str = "") -> None:
        super().__init__()
        self.way: Any = find_class(way)(place)
        # As in a project with one database: Django looks at each of them when a request ends.
        connections.settings.pop(DEFAULT_DB_ALIAS, None)
        self.query = query
        self.connection = self.way.acquire()
        self.way.release(self.connection)

    def loop(self, number: int) -> None:
        from django.db import close_old_connections

        ensure, query = self.connection.ensure_connection, self.query
        if not query:
            for _ in range(number):
                ensure()
                close_old_connections()
            return
        new_cursor = self.connection.cursor
        for _ in range(number):
            with new_cursor() as cursor:
                cursor.execute(query)
                cursor.fetchone()
            close_old_connections()

    def close(self) -> None:
        self.way.close()


class OrmRead(Request):
    """Read one row through the ORM in each request."""

    def loop(self, number: int) -> None:
        from django.db import close_old_connections

        users = BenchUser.objects.using(self.connection.alias)
        for _ in range(number):
            users.get(pk=1)
            close_old_connections()
