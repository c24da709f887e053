"""The contract of both backends: what `reset` undoes between two leases."""

from __future__ import annotations

import sqlite3
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.backends.signals import connection_created

from tests.support.databases import Database, PostgresDatabase, SqliteDatabase, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SESSION = {"pool": {"max_size": 1, "timeout": 10, "reset": "session"}}

called: list[Any] = []


def remember(connection: Any) -> None:
    """A reset function: `reset="tests.backends.test_reset.remember"`."""
    called.append(connection)


def leave_a_transaction(connection: Any) -> None:
    """A reset function that reads and forgets to end its transaction."""
    cursor = connection.cursor()
    cursor.execute("BEGIN")
    cursor.execute("CREATE TABLE left_over (id integer)")
    cursor.close()


def fail(connection: Any) -> None:
    """A reset function that fails."""
    called.append(connection)
    raise ZeroDivisionError


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    called.clear()
    yield
    called.clear()


def value(wrapper: Any, sql: str) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone()
        return row and row[0]


def test_a_function_of_the_users_sees_every_release(database: Database) -> None:
    wrapper = database.wrapper(pool={"reset": f"{__name__}.remember"})
    database.session(wrapper)
    raw = wrapper.connection
    wrapper.close()
    assert called == [raw]
    with wrapper.resolve_pool().acquire():
        pass
    assert called == [raw, raw]
    assert wrapper.resolve_pool().stats().connects == 1


def test_a_function_that_leaves_a_transaction_open_does_no_harm(database: Database) -> None:
    wrapper = database.wrapper(pool={"reset": f"{__name__}.leave_a_transaction"})
    database.session(wrapper)
    raw = wrapper.connection
    wrapper.close()
    if database.vendor == "mysql":  # CREATE TABLE commits
        assert not raw.pooling_in_transaction
    else:
        database.execute("CREATE TABLE left_over (id integer)")
    database.session(wrapper)
    assert wrapper.connection is raw


def test_a_function_that_fails_costs_the_connection_and_nothing_else(database: Database) -> None:
    """scenario 40: reset raises."""
    wrapper = database.wrapper(pool={"max_size": 1, "timeout": 10, "reset": f"{__name__}.fail"})
    database.session(wrapper)
    raw = wrapper.connection
    wrapper.close()
    database.session(wrapper)
    assert called == [raw]
    assert wrapper.connection is not raw
    eventually(lambda: len(database.sessions()) == 1)


def test_session_undoes_what_a_lease_changed_on_postgresql(postgresql: PostgresDatabase) -> None:
    wrapper = postgresql.wrapper(
        **SESSION, OPTIONS={"application_name": "mine"}, TIME_ZONE="Asia/Karachi"
    )
    session = postgresql.session(wrapper)
    with wrapper.cursor() as cursor:
        for statement in (
            "SET application_name = 'changed'",
            "SET TIME ZONE 'America/Lima'",
            "SET statement_timeout = 1234",
            "CREATE TEMPORARY TABLE scratch (id integer)",
            "LISTEN channel",
            "SELECT pg_advisory_lock(1)",
            "DECLARE kept CURSOR WITH HOLD FOR SELECT 1",
        ):
            cursor.execute(statement)
    wrapper.close()
    other = postgresql.wrapper(
        **SESSION, OPTIONS={"application_name": "mine"}, TIME_ZONE="Asia/Karachi"
    )
    assert postgresql.session(other) == session
    assert value(other, "SHOW application_name") == "mine"
    assert value(other, "SHOW TIME ZONE") == "Asia/Karachi"
    assert value(other, "SHOW statement_timeout") == "0"
    assert value(other, "SELECT to_regclass('pg_temp.scratch')") is None
    assert value(other, "SELECT count(*) FROM pg_listening_channels()") == 0
    assert value(other, "SELECT count(*) FROM pg_cursors WHERE name = 'kept'") == 0
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    assert value(other, locks) == 0


def test_session_keeps_the_role_and_the_isolation_level(
    postgresql: PostgresDatabase, role: str
) -> None:
    """What belongs to the settings is there again after the reset."""
    options = {"assume_role": role, "isolation_level": IsolationLevel.SERIALIZABLE}
    wrapper = postgresql.wrapper(**SESSION, OPTIONS=options)
    for _ in range(2):
        assert value(wrapper, "SELECT current_user") == role
        wrapper.set_autocommit(False)
        assert value(wrapper, "SHOW transaction_isolation") == "serializable"
        wrapper.rollback()
        with wrapper.cursor() as cursor:
            cursor.execute("RESET ROLE")
        wrapper.commit()
        wrapper.close()
    assert wrapper.resolve_pool().stats().connects == 1


def test_session_works_when_statements_are_prepared(postgresql: PostgresDatabase) -> None:
    """The driver's prepared statements survive the reset: it would not know they are gone."""
    wrapper = postgresql.wrapper(**SESSION)
    for _ in range(12):
        with wrapper.cursor() as cursor:
            for _ in range(3):
                cursor.execute("SELECT %s::integer", [1])
                assert cursor.fetchone() == (1,)
        wrapper.close()
    assert wrapper.resolve_pool().stats().connects == 1


def test_session_undoes_what_a_lease_changed_on_sqlite(sqlite: SqliteDatabase) -> None:
    wrapper = sqlite.wrapper(**SESSION)
    raw = sqlite.session(wrapper)
    before = {
        name: value(wrapper, f"PRAGMA {name}")
        for name in ("cache_size", "query_only", "recursive_triggers", "synchronous")
    }
    with wrapper.cursor() as cursor:
        cursor.execute("PRAGMA cache_size = 123")
        cursor.execute("PRAGMA query_only = 1")
        cursor.execute("PRAGMA recursive_triggers = 1")
        cursor.execute("PRAGMA synchronous = 0")
    wrapper.close()
    assert sqlite.session(wrapper) is raw
    assert {name: value(wrapper, f"PRAGMA {name}") for name in before} == before


def test_session_never_shows_temporary_tables_to_the_next_lease(sqlite: SqliteDatabase) -> None:
    wrapper = sqlite.wrapper(**SESSION)
    with wrapper.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE scratch (id integer)")
    wrapper.close()
    assert value(wrapper, "SELECT count(*) FROM sqlite_temp_master") == 0


@pytest.mark.parametrize("reset", ["rollback", "session", "always"])
def test_what_receivers_set_up_is_there_in_each_lease(
    database: Database, tmp_path: Path, reset: str
) -> None:
    """A restored session has forgotten what receivers of `connection_created` did."""
    if database.vendor == "postgresql":
        set_up, look, spoil = "SET lock_timeout = 4321", "SHOW lock_timeout", "SET work_mem = 1234"
        expected: Any = "4321ms"
    elif database.vendor == "mysql":
        set_up, look = "SET lock_wait_timeout = 4321", "SELECT @@lock_wait_timeout"
        spoil, expected = "SET @spoilt = 1", 4321
    else:
        set_up = f"ATTACH DATABASE '{tmp_path / 'extra.sqlite3'}' AS extra"
        look, spoil = "SELECT count(*) FROM extra.sqlite_master", "PRAGMA recursive_triggers = 1"
        expected = 0

    def receiver(connection: Any, **kwargs: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(set_up)

    connection_created.connect(receiver)
    try:
        wrapper = database.wrapper(pool={**SESSION["pool"], "reset": reset})
        for _ in range(3):
            assert value(wrapper, look) == expected
            wrapper.close()
            assert value(wrapper, look) == expected
            with wrapper.cursor() as cursor:
                cursor.execute(spoil)
            wrapper.close()
    finally:
        connection_created.disconnect(receiver)
    assert wrapper.resolve_pool().stats().connects == 1


def test_session_tells_receivers_again_only_if_it_has_undone_something(
    postgresql: PostgresDatabase,
) -> None:
    """What receivers do costs time, and the session that was left alone still has it."""
    seen: list[Any] = []

    def remember(connection: Any, **kwargs: Any) -> None:
        seen.append(connection.connection)

    connection_created.connect(remember)
    try:
        wrapper = postgresql.wrapper(**SESSION)
        for statement in ("SELECT 1", "SELECT 2", "SET work_mem = '1234kB'", "SELECT 3"):
            assert value(wrapper, "SELECT 4") == 4
            with wrapper.cursor() as cursor:
                cursor.execute(statement)
            raw = wrapper.connection
            wrapper.close()
    finally:
        connection_created.disconnect(remember)
    assert seen == [raw, raw], "when it was new, and after the SET"


def test_row_factories_do_not_reach_the_next_lease(database: Database, psycopg2: bool) -> None:
    """The raw object is the user's during the lease, a popular recipe included."""
    wrapper = database.wrapper()
    wrapper.ensure_connection()
    raw = wrapper.connection
    if database.vendor == "sqlite":
        raw.row_factory = sqlite3.Row
        raw.text_factory = bytes
    elif psycopg2:
        raw.cursor_factory = import_module("psycopg2.extras").DictCursor
    else:
        raw.row_factory = import_module("psycopg.rows").dict_row
    wrapper.close()
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 'text' AS name")
        row = cursor.fetchone()
    assert (type(row), row) == (tuple, ("text",))
    assert wrapper.connection is raw


def test_session_undoes_what_the_drivers_object_was_told(
    postgresql: PostgresDatabase, psycopg2: bool
) -> None:
    wrapper = postgresql.wrapper(**SESSION)
    wrapper.ensure_connection()
    raw = wrapper.connection
    raw.isolation_level = IsolationLevel.SERIALIZABLE
    raw.deferrable = True
    if psycopg2:
        raw.readonly = True
    else:
        raw.read_only = True
    wrapper.close()
    wrapper.set_autocommit(False)
    assert value(wrapper, "SHOW transaction_read_only") == "off"
    assert value(wrapper, "SHOW transaction_deferrable") == "off"
    assert value(wrapper, "SHOW transaction_isolation") == "read committed"
