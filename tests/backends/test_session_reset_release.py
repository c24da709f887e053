"""The contract of both backends: what a release stands, seen from Django. Scenarios 36 to 41."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import DatabaseError, OperationalError, transaction

from pooling.core.errors import LeaseError
from tests.support.databases import PATIENCE, eventually, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.backends.conftest import Thing
    from tests.support.databases import Database, PostgresDatabase, SqliteDatabase

SMALL = {"max_size": 1, "timeout": 10}
RESETS = pytest.mark.parametrize("reset", ["rollback", "session", "always"])

entered, gate = threading.Event(), threading.Event()


def wait_for_the_gate(connection: Any) -> None:
    """A reset function that hangs: `reset="tests.backends.test_session_reset_release...."`."""
    entered.set()
    assert gate.wait(PATIENCE)


@pytest.fixture(autouse=True)
def _gate() -> Iterator[None]:
    entered.clear()
    gate.clear()
    yield
    gate.set()


def execute(wrapper: Any, statement: str) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone() if cursor.description else None


def test_released_twice_it_remains_the_next_owners(database: Database) -> None:
    """scenario 36: the second time it is somebody else's."""
    first, second = database.wrapper(pool=SMALL), database.wrapper(pool=SMALL)
    first.ensure_connection()
    lease, raw = first._lease, first.connection
    first.close()
    second.ensure_connection()
    assert second.connection is raw
    first.close()
    with pytest.raises(LeaseError):
        lease.release()
    with pytest.raises(LeaseError):
        first.resolve_pool().discard(lease)
    assert second.resolve_pool().stats().leased == 1
    assert execute(second, "SELECT 1") == (1,)


def test_released_to_the_wrong_pool_it_remains_where_it_is(database: Database) -> None:
    """scenario 37: the error says so, and nothing has changed."""
    mine, other = (database.wrapper(pool={**SMALL, "name": name}) for name in ("mine", "other"))
    mine.ensure_connection()
    with pytest.raises(LeaseError, match=r"'other'.*'mine'|'mine'.*'other'"):
        other.resolve_pool().release(mine._lease)
    assert execute(mine, "SELECT 1") == (1,)
    assert other.resolve_pool().stats().connects == 0
    mine.close()
    assert mine.resolve_pool().stats().idle == 1


def test_what_is_used_after_the_release_is_another_lease(database: Database) -> None:
    """scenario 38: the wrapper gets a connection again; the old handle has none to give."""
    wrapper = database.wrapper(pool=SMALL)
    wrapper.ensure_connection()
    old = wrapper._lease
    wrapper.close()
    assert execute(wrapper, "SELECT 1") == (1,)
    assert wrapper._lease is not old
    for use in (lambda: old.connection, lambda: old._record, lambda: old.release()):
        with pytest.raises(LeaseError, match="over"):
            use()


@RESETS
def test_released_in_a_transaction(
    database: Database, things: Callable[[Database], type[Thing]], reset: str
) -> None:
    """scenario 39: it is rolled back, and the next lease is in none."""
    things(database)
    wrapper = database.wrapper(pool={**SMALL, "reset": reset})
    wrapper.set_autocommit(False)
    execute(wrapper, "INSERT INTO backends_thing (name) VALUES ('lost')")
    raw = wrapper.connection
    wrapper.close()
    execute(wrapper, "INSERT INTO backends_thing (name) VALUES ('kept')")
    assert wrapper.connection is raw
    wrapper.close()
    assert database.execute("SELECT name FROM backends_thing") == [("kept",)]


@RESETS
def test_released_in_an_error(
    database: Database, things: Callable[[Database], type[Thing]], reset: str
) -> None:
    """scenario 39: the failed transaction ends with the lease, and the connection is kept."""
    things(database)
    wrapper = database.wrapper(pool={**SMALL, "reset": reset})
    wrapper.set_autocommit(False)
    execute(wrapper, "INSERT INTO backends_thing (name) VALUES ('lost')")
    with pytest.raises(Exception, match="no_such_table"):
        execute(wrapper, "SELECT * FROM no_such_table")
    raw = wrapper.connection
    wrapper.close()
    assert execute(wrapper, "SELECT count(*) FROM backends_thing") == (0,)
    assert wrapper.connection is raw


class Broken:
    """A file that cannot be written."""

    def write(self, data: object) -> None:
        raise ZeroDivisionError


@RESETS
def test_released_in_mid_query_on_postgresql(
    postgresql: PostgresDatabase, psycopg2: bool, reset: str
) -> None:
    """scenario 39: an answer that is still to come is nobody else's: the connection is replaced.

    psycopg2 does not let go of a query before its end, except for a COPY that went wrong.
    """
    wrapper = postgresql.wrapper(pool={**SMALL, "reset": reset})
    session = postgresql.session(wrapper)
    raw = wrapper.connection
    if psycopg2:
        with pytest.raises(ZeroDivisionError), raw.cursor() as cursor:
            cursor.copy_expert("COPY (SELECT 1) TO STDOUT", Broken())
    else:
        raw.pgconn.send_query(b"SELECT pg_sleep(60)")
    wrapper.close()
    assert execute(wrapper, "SELECT 1") == (1,)
    assert psycopg2 or postgresql.session(wrapper) != session


@RESETS
def test_released_in_mid_query_on_sqlite(
    sqlite: SqliteDatabase, things: Callable[[Database], type[Thing]], reset: str
) -> None:
    """scenario 39: a half-read SELECT ends with its lease."""
    things(sqlite)
    sqlite.execute("INSERT INTO backends_thing (name) VALUES ('one'), ('two')")
    wrapper = sqlite.wrapper(pool={**SMALL, "reset": reset})
    kept = wrapper.cursor()
    kept.execute("SELECT name FROM backends_thing")
    kept.fetchone()
    raw = wrapper.connection
    wrapper.close()
    sqlite.execute("DROP TABLE backends_thing")
    assert execute(wrapper, "SELECT 1") == (1,)
    assert wrapper.connection is raw


def test_a_reset_that_hangs_is_in_nobodys_way(database: Database) -> None:
    """scenario 41: it stops whoever releases, and keeps one connection; the others are served."""
    options = {"max_size": 2, "timeout": 10, "reset": f"{__name__}.wait_for_the_gate"}
    wrapper, other = database.wrapper(pool=options), database.wrapper(pool=options)

    def hang() -> None:
        wrapper.inc_thread_sharing()
        wrapper.ensure_connection()
        wrapper.close()

    thread = threading.Thread(target=hang)
    thread.start()
    assert entered.wait(PATIENCE)
    pool = other.resolve_pool()
    try:
        assert execute(other, "SELECT 1") == (1,)
        assert pool.stats().leased == 2
        third = database.wrapper(pool=options)
        third.acquire_timeout = 0.05
        with pytest.raises(OperationalError):
            third.ensure_connection()
    finally:
        gate.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    other.close()
    eventually(lambda: pool.stats().idle == 2)


def test_another_thread_cannot_release_it(database: Database) -> None:
    """scenario 36: Django's own rule for threads comes first, and nothing is released."""
    with database.alias("pooled", pool=SMALL) as wrapper, transaction.atomic(using="pooled"):
        wrapper.ensure_connection()
        with pytest.raises(DatabaseError, match="thread"):
            in_thread(wrapper.close)
        assert wrapper.resolve_pool().stats().leased == 1
        assert execute(wrapper, "SELECT 1") == (1,)
