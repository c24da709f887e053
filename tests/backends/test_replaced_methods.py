"""The short paths of what every query does.

Where Django's own methods would refuse they count, and so do others that somebody has put in their
place: a test runner, a tool, another package's wrapper.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.sqlite3 import base as stock
from django.db.utils import DatabaseError

from pooling.backends.sqlite3.base import PooledSQLite
from tests.support.databases import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.databases import Database, SqliteDatabase


@pytest.mark.parametrize("name", ["cursor", "ensure_connection"])
def test_what_is_put_in_the_place_of_djangos_counts(
    database: Database, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    called = []
    djangos = getattr(BaseDatabaseWrapper, name)

    def replaced(self: BaseDatabaseWrapper) -> Any:
        called.append(self)
        return djangos(self)

    wrapper = database.wrapper()
    monkeypatch.setattr(BaseDatabaseWrapper, name, replaced)
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")

    assert wrapper in called  # beside those that open connections
    wrapper.close()


def test_another_packages_cursor_method_counts(sqlite: SqliteDatabase) -> None:
    called = []

    class Theirs(stock.DatabaseWrapper):
        def cursor(self) -> Any:
            called.append(self)
            return super().cursor()

    class Pooled(PooledSQLite, Theirs):
        """As the documentation shows it."""

    settings = sqlite.wrapper().settings_dict
    wrapper = Pooled(settings)
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")

    assert called == [wrapper]
    wrapper.close()


@pytest.mark.parametrize("is_leased", [False, True])
@pytest.mark.parametrize("name", ["cursor", "ensure_connection", "connect"])
def test_an_event_loop_is_refused(database: Database, name: str, is_leased: bool) -> None:
    wrapper = database.wrapper()
    if is_leased:
        wrapper.ensure_connection()
    call: Callable[[], Any] = getattr(wrapper, name)

    async def main() -> None:
        call()

    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(main())
    wrapper.close()


@pytest.mark.parametrize("name", ["cursor", "commit", "rollback"])
def test_other_threads_are_refused_until_they_may(database: Database, name: str) -> None:
    wrapper = database.wrapper()
    wrapper.ensure_connection()
    with pytest.raises(DatabaseError, match="thread"):
        in_thread(getattr(wrapper, name))

    wrapper.inc_thread_sharing()
    in_thread(getattr(wrapper, name))
    wrapper.dec_thread_sharing()
    wrapper.close()
