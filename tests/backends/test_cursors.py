"""The contract of both backends: cursors end with the lease that they were made in."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from django.db import Error, transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.backends.conftest import Thing
    from tests.support.databases import Database, PostgresDatabase, SqliteDatabase

ROWS = 500
SMALL = {"pool": {"max_size": 1, "timeout": 10}}


def fill(database: Database, things: Callable[[Database], type[Thing]]) -> type[Thing]:
    model = things(database)
    names = ", ".join(f"('thing {number}')" for number in range(ROWS))
    database.execute(f"INSERT INTO backends_thing (name) VALUES {names}")
    return model


def test_a_cursor_kept_after_close_cannot_touch_the_next_owners_transaction(
    database: Database, things: Callable[[Database], type[Thing]]
) -> None:
    """The physical connection is the same, and another's now."""
    fill(database, things)
    wrapper, other = database.wrapper(**SMALL), database.wrapper(**SMALL)
    kept = wrapper.cursor()
    kept.execute("SELECT name FROM backends_thing ORDER BY id")
    kept.fetchone()
    raw = wrapper.connection
    wrapper.close()
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("INSERT INTO backends_thing (name) VALUES ('new')")
        assert other.connection is raw
        with pytest.raises(Exception, match=r"closed|Cannot operate on a closed cursor"):
            kept.execute("DELETE FROM backends_thing")
        if database.vendor != "mysql":  # there the rows are the cursor's own by now
            with pytest.raises(Exception, match=r"closed|Cannot operate on a closed cursor"):
                kept.fetchone()
        kept.close()
        cursor.execute("SELECT count(*) FROM backends_thing")
        assert cursor.fetchone() == (ROWS + 1,)
    other.commit()
    assert database.execute("SELECT count(*) FROM backends_thing") == [(ROWS + 1,)]


def test_a_half_read_iterator_closed_late_leaves_the_next_owner_alone(
    database: Database, things: Callable[[Database], type[Thing]]
) -> None:
    """scenario 53: sent late, its CLOSE aborted another thread's transaction."""
    model = fill(database, things)
    other = database.wrapper(**SMALL)
    with database.alias("pooled", **SMALL) as wrapper:
        iterator: Any = model.objects.using("pooled").order_by("pk").iterator(chunk_size=10)
        assert next(iterator).name == "thing 0"
        raw = wrapper.connection
        wrapper.close()
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("INSERT INTO backends_thing (name) VALUES ('new')")
            assert other.connection is raw
            iterator.close()
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
        other.commit()
        assert database.execute("SELECT count(*) FROM backends_thing") == [(ROWS + 1,)]


def test_a_half_read_iterator_that_goes_on_after_close_fails_and_disturbs_nobody(
    database: Database, things: Callable[[Database], type[Thing]]
) -> None:
    """scenario 53: its rows are not read from the next owner's connection."""
    model = fill(database, things)
    other = database.wrapper(**SMALL)
    with database.alias("pooled", **SMALL) as wrapper:
        iterator = model.objects.using("pooled").order_by("pk").iterator(chunk_size=10)
        next(iterator)
        wrapper.close()
        with transaction.atomic(using="pooled"):
            pass  # the same wrapper again: it is another lease all the same
        wrapper.close()
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("INSERT INTO backends_thing (name) VALUES ('new')")
            if database.vendor == "mysql":
                with suppress(TypeError):  # all its rows were read at once; mysqlclient drops them
                    list(iterator)
            else:
                with pytest.raises(Exception, match=r"closed|lost|does not exist"):
                    list(iterator)
            cursor.execute("SELECT 1")
        other.commit()
        assert database.execute("SELECT count(*) FROM backends_thing") == [(ROWS + 1,)]


def test_a_half_read_cursor_does_not_hold_its_lock_after_the_release(
    sqlite: SqliteDatabase, things: Callable[[Database], type[Thing]]
) -> None:
    """On SQLite an unfinished SELECT is a read lock on the file."""
    fill(sqlite, things)
    wrapper = sqlite.wrapper(**SMALL)
    kept = wrapper.cursor()
    kept.execute("SELECT name FROM backends_thing")
    kept.fetchone()
    wrapper.close()
    # DROP TABLE needs the file for itself.
    sqlite.execute("DROP TABLE backends_thing")
    assert kept is not None


def test_a_named_cursor_of_the_raw_connection_is_gone_for_the_next_owner(
    postgresql: PostgresDatabase, things: Callable[[Database], type[Thing]]
) -> None:
    """`chunked_cursor` makes cursors WITH HOLD, which outlive transactions."""
    fill(postgresql, things)
    wrapper = postgresql.wrapper(**SMALL)
    cursor = wrapper.chunked_cursor()
    cursor.execute("SELECT name FROM backends_thing")
    assert len(cursor.fetchmany(3)) == 3
    session = postgresql.session(wrapper)
    with wrapper.cursor() as ordinary:
        ordinary.execute("SELECT count(*) FROM pg_cursors WHERE is_holdable")
        assert ordinary.fetchone() == (1,)
    wrapper.close()
    other = postgresql.wrapper(**SMALL)
    with other.cursor() as ordinary:
        ordinary.execute("SELECT count(*) FROM pg_cursors WHERE is_holdable")
        assert ordinary.fetchone() == (0,)
    assert postgresql.session(other) == session
    with pytest.raises((Error, wrapper.Database.Error), match="closed"):
        cursor.fetchone()


def test_many_cursors_of_one_lease_are_all_closed(database: Database) -> None:
    wrapper = database.wrapper(**SMALL)
    cursors = [wrapper.cursor() for _ in range(200)]
    for cursor in cursors[::3]:
        cursor.execute("SELECT 1")
    wrapper.close()
    other = database.wrapper(**SMALL)
    database.session(other)
    for cursor in cursors:
        with pytest.raises(Exception, match=r"closed|Cannot operate on a closed cursor"):
            cursor.execute("SELECT 1")


@pytest.mark.parametrize("trouble", ["session ended", "transaction failed"])
def test_a_half_read_iterator_is_no_reason_for_close_to_fail(
    postgresql: PostgresDatabase,
    things: Callable[[Database], type[Thing]],
    trouble: str,
) -> None:
    """`close()` at the end of a request never fails for a cursor of it."""
    model = fill(postgresql, things)
    with postgresql.alias("pooled", **SMALL) as wrapper:
        wrapper.ensure_connection()
        wrapper.set_autocommit(False)
        iterator = model.objects.using("pooled").iterator(chunk_size=10)
        next(iterator)
        if trouble == "session ended":
            postgresql.break_connection(wrapper)
        else:
            with pytest.raises(Error), wrapper.cursor() as cursor:
                cursor.execute("SELECT * FROM there_is_no_such_table")
        wrapper.close()
        assert wrapper.connection is None
        assert wrapper.resolve_pool().stats().leased == 0
        assert model.objects.using("pooled").count() == ROWS
        with pytest.raises(Exception, match=r"closed|lost|does not exist"):
            list(iterator)
        assert model.objects.using("pooled").count() == ROWS
