"""What a lease leaves in the driver's object, beyond what libpq calls a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.backends.test_postgresql_cursors import ends
from tests.support.databases import PostgresDatabase
from tests.support.postgres import PrivatePostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.backends.conftest import Thing
    from tests.conftest import DatabaseSettings

RESETS = pytest.mark.parametrize("reset", ["rollback", "session", "always"])
SMALL = {"max_size": 1, "timeout": 10}


@pytest.fixture(scope="module")
def two_phase_server() -> Iterator[PrivatePostgres]:
    """A server that allows prepared transactions; PostgreSQL's default is none."""
    with PrivatePostgres(configuration={"max_prepared_transactions": "4"}) as server:
        yield server


@pytest.fixture
def two_phase(
    two_phase_server: PrivatePostgres, database_settings: DatabaseSettings
) -> Iterator[PostgresDatabase]:
    server = two_phase_server
    entry = database_settings(
        "pooling.backends.postgresql",
        NAME="postgres",
        HOST=server.host,
        PORT=str(server.port),
        USER=server.user,
        PASSWORD=server.password,
    )
    database = PostgresDatabase(entry, server.url)
    yield database
    database.close()
    for (gid,) in database.execute("SELECT gid FROM pg_prepared_xacts"):
        database.execute(f"ROLLBACK PREPARED '{gid}'")


def used_as_usual(database: PostgresDatabase, reset: str) -> None:
    """Use the pool's connection as a request does, with transactions of Django's."""
    wrapper = database.wrapper(pool={**SMALL, "reset": reset})
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
        wrapper.set_autocommit(False)
        cursor.execute("CREATE TABLE IF NOT EXISTS used (id integer)")
        cursor.execute("INSERT INTO used VALUES (1)")
        wrapper.commit()
        cursor.execute("INSERT INTO used VALUES (2)")
        wrapper.rollback()
        cursor.execute("DELETE FROM used RETURNING id")
        assert cursor.fetchall() == [(1,)]
        wrapper.commit()
    wrapper.close()
    assert wrapper.resolve_pool().stats().leased == 0


def leave_a_pipeline(raw: Any) -> Any:
    pipeline = raw.pipeline()
    pipeline.__enter__()
    return pipeline


def leave_a_pipeline_with_a_query(raw: Any) -> Any:
    pipeline = raw.pipeline()
    pipeline.__enter__()
    raw.execute("SELECT 1")
    return pipeline


def leave_a_transaction_context(raw: Any) -> Any:
    block = raw.transaction()
    block.__enter__()
    return block


def leave_a_transaction_context_of_a_committed_transaction(raw: Any) -> Any:
    block = leave_a_transaction_context(raw)
    raw.execute("COMMIT")
    return block


def leave_notifies_half_read(raw: Any) -> Any:
    raw.execute("LISTEN channel")
    raw.execute("NOTIFY channel")
    notifications = raw.notifies(timeout=10)
    next(notifications)
    return notifications


def leave_a_stream_half_read(raw: Any) -> Any:
    rows = raw.cursor().stream("SELECT generate_series(1, 3)")
    next(rows)
    return rows


@RESETS
@pytest.mark.parametrize(
    "leave",
    [
        leave_a_pipeline,
        leave_a_pipeline_with_a_query,
        leave_a_transaction_context,
        leave_a_transaction_context_of_a_committed_transaction,
        leave_notifies_half_read,
        leave_a_stream_half_read,
    ],
)
def test_a_block_that_is_left_open_is_not_the_next_leases(
    postgresql: PostgresDatabase, psycopg2: bool, reset: str, leave: Callable[[Any], Any]
) -> None:
    """Scenario 58: the connection is replaced: libpq calls it idle in some of these states."""
    if psycopg2:
        pytest.skip("psycopg2 has no such blocks")
    wrapper = postgresql.wrapper(pool={**SMALL, "reset": reset})
    wrapper.ensure_connection()
    block = leave(wrapper.connection)
    wrapper.close()
    assert ends(lambda: used_as_usual(postgresql, reset)), "the connection's lock is held"
    assert wrapper.resolve_pool().stats().connects == 2
    assert block is not None


@RESETS
@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("prepared", [True, False])
def test_a_two_phase_transaction_that_is_left_open_is_not_the_next_leases(
    two_phase: PostgresDatabase, reset: str, autocommit: bool, prepared: bool
) -> None:
    """A prepared one stays at the server, where another session may commit it."""
    wrapper = two_phase.wrapper(pool={**SMALL, "reset": reset})
    wrapper.set_autocommit(False)
    raw = wrapper.connection
    raw.tpc_begin(raw.xid(1, "two", "phase"))
    with raw.cursor() as cursor:
        cursor.execute("CREATE TABLE two_phase (id integer)")
    if prepared:
        raw.tpc_prepare()
        if autocommit and not hasattr(raw, "get_transaction_status"):
            raw.autocommit = True  # psycopg2 refuses
    wrapper.close()
    used_as_usual(two_phase, reset)
    assert two_phase.execute("SELECT count(*) FROM pg_prepared_xacts") == [(int(prepared),)]
    assert two_phase.execute("SELECT to_regclass('two_phase')") == [(None,)]


def test_a_two_phase_transaction_that_has_ended_costs_no_connection(
    two_phase: PostgresDatabase,
) -> None:
    wrapper = two_phase.wrapper(pool=SMALL)
    for _ in range(2):
        wrapper.set_autocommit(False)
        raw = wrapper.connection
        raw.tpc_begin(raw.xid(1, "two", "phase"))
        with raw.cursor() as cursor:
            cursor.execute("SELECT 1")
        raw.tpc_prepare()
        raw.tpc_rollback()
        wrapper.close()
    assert wrapper.resolve_pool().stats().connects == 1


def test_the_next_lease_begins_transactions_after_a_commit_that_the_driver_did_not_see(
    postgresql: PostgresDatabase, things: Callable[[PostgresDatabase], type[Thing]]
) -> None:
    """psycopg2 would take the transaction for open, begin none, and roll nothing back."""
    things(postgresql)
    wrapper = postgresql.wrapper(pool=SMALL, AUTOCOMMIT=False)
    with wrapper.cursor() as cursor:
        cursor.execute("INSERT INTO backends_thing (name) VALUES ('kept')")
        cursor.execute("COMMIT")
    wrapper.close()
    with wrapper.cursor() as cursor:
        cursor.execute("INSERT INTO backends_thing (name) VALUES ('lost')")
    wrapper.rollback()
    wrapper.close()
    assert postgresql.execute("SELECT name FROM backends_thing") == [("kept",)]
    assert wrapper.resolve_pool().stats().connects == 1


def received(raw: Any, psycopg2: bool) -> list[str]:
    """Return the channels of the notifications that the connection has received."""
    if psycopg2:
        raw.poll()
        return [notification.channel for notification in raw.notifies]
    return [notification.channel for notification in raw.notifies(timeout=0)]


@pytest.mark.parametrize("reset", ["session", "always"])
def test_notifications_of_a_lease_are_not_the_next_ones(
    postgresql: PostgresDatabase, psycopg2: bool, reset: str
) -> None:
    """Neither those that the driver has received, nor those that wait in the socket."""
    wrapper = postgresql.wrapper(pool={**SMALL, "reset": reset})
    session = postgresql.session(wrapper)
    with wrapper.cursor() as cursor:
        cursor.execute("LISTEN mine")
        postgresql.execute("NOTIFY mine")
        cursor.execute("SELECT 1")
        postgresql.execute("NOTIFY mine")
    wrapper.close()
    postgresql.execute("NOTIFY mine")
    assert postgresql.session(wrapper) == session
    assert received(wrapper.connection, psycopg2) == []
    with wrapper.cursor() as cursor:
        cursor.execute("LISTEN other")
        postgresql.execute("NOTIFY other")
        cursor.execute("SELECT 1")
    assert received(wrapper.connection, psycopg2) == ["other"], "and it has its own"


@pytest.mark.parametrize("reset", ["session", "always"])
def test_notices_of_a_lease_are_not_the_next_ones(
    postgresql: PostgresDatabase, psycopg2: bool, reset: str
) -> None:
    """psycopg2 keeps them, also those of statements that do nothing to the session."""
    if not psycopg2:
        pytest.skip("psycopg 3 keeps no notices")
    wrapper = postgresql.wrapper(pool={**SMALL, "reset": reset})
    with wrapper.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = 1")
    raw = wrapper.connection
    assert raw.notices, "SET LOCAL outside of a transaction"
    wrapper.close()
    wrapper.ensure_connection()
    assert wrapper.connection is raw
    assert raw.notices == []
