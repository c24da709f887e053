"""SQLite: a release undoes what its lease did to the session, and runs nothing if it did nothing.

Scenario 42. What SQLite runs is read off the connection: `set_trace_callback` tells.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.db import models, transaction

from pooling.backends.sqlite3 import session_tracking
from pooling.core.config import SCOPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.backends.conftest import Thing
    from tests.support.databases import SqliteDatabase

ROLLBACK = {"max_size": 1, "timeout": 10}
SESSION = {**ROLLBACK, "reset": "session"}
IN_BOTH_SCOPES = pytest.mark.usefixtures("scope")
EITHER = pytest.mark.parametrize("pool", [ROLLBACK, SESSION], ids=["rollback", "session"])


@pytest.fixture(params=SCOPES)
def scope(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the leases of `SESSION` last."""
    monkeypatch.setitem(SESSION, "scope", request.param)


@contextmanager
def overheard(raw: sqlite3.Connection) -> Iterator[list[str]]:
    """Give the statements that a connection runs."""
    statements: list[str] = []
    raw.set_trace_callback(statements.append)
    try:
        yield statements
    finally:
        raw.set_trace_callback(None)


def value(wrapper: Any, sql: str) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute(sql)
        (result,) = cursor.fetchone()
        return result


def schemas(wrapper: Any) -> list[str]:
    with wrapper.cursor() as cursor:
        cursor.execute("PRAGMA database_list")
        return [schema for _, schema, _ in cursor.fetchall() if schema != "temp"]


@EITHER
def test_a_release_after_what_the_orm_does_runs_nothing(
    sqlite: SqliteDatabase, things: Callable[[SqliteDatabase], type[Thing]], pool: dict[str, Any]
) -> None:
    model = things(sqlite)
    with sqlite.alias("pooled", pool=pool) as wrapper:
        everything = model.objects.using("pooled")
        for number in range(3):
            with transaction.atomic(using="pooled"), transaction.atomic(using="pooled"):
                everything.create(name=f"one {number}")
                everything.bulk_create([model(name=f"{letter} {number}") for letter in "abc"])
            assert everything.filter(name__startswith="b").update(name="other") == 1
            assert everything.aggregate(n=models.Count("id")) == {"n": 4}
            everything.all().delete()
            wrapper.introspection.get_table_description(wrapper.cursor(), "backends_thing")
            raw = wrapper.connection
            with overheard(raw) as statements:
                wrapper.close()
            assert statements == []
        assert wrapper.resolve_pool().stats().connects == 1


@EITHER
@pytest.mark.parametrize("statement", ["PRAGMA foreign_keys = OFF", "pragma FOREIGN_KEYS(0)"])
def test_foreign_keys_are_on_again_each_time(
    sqlite: SqliteDatabase, pool: dict[str, Any], statement: str
) -> None:
    """scenario 42: also when the statement comes from the driver's cache."""
    wrapper = sqlite.wrapper(pool=pool)
    for _ in range(4):
        assert value(wrapper, "PRAGMA foreign_keys") == 1
        with wrapper.cursor() as cursor:
            cursor.execute(statement)
        assert value(wrapper, "PRAGMA foreign_keys") == 0
        wrapper.close()
    assert wrapper.resolve_pool().stats().connects == 1


def test_what_django_does_to_foreign_keys_is_undone_if_it_is_interrupted(
    sqlite: SqliteDatabase,
) -> None:
    wrapper = sqlite.wrapper(pool=ROLLBACK)
    wrapper.ensure_connection()
    assert wrapper.disable_constraint_checking()
    wrapper.close()
    assert value(wrapper, "PRAGMA foreign_keys") == 1


def by_cursor(wrapper: Any, path: str) -> None:
    with wrapper.cursor() as cursor:
        cursor.execute("ATTACH DATABASE %s AS extra", [path])


def by_connection(wrapper: Any, path: str) -> None:
    wrapper.connection.execute("ATTACH DATABASE ? AS extra", [path])


def by_script(wrapper: Any, path: str) -> None:
    wrapper.connection.executescript(f"SELECT 1; ATTACH DATABASE '{path}' AS extra;")


def by_hand(wrapper: Any, path: str) -> None:
    sqlite3.Cursor(wrapper.connection).execute(f"ATTACH DATABASE '{path}' AS extra")


@EITHER
@pytest.mark.parametrize("way", [by_cursor, by_connection, by_script, by_hand])
def test_databases_are_detached_however_they_came(
    sqlite: SqliteDatabase,
    pool: dict[str, Any],
    way: Callable[[Any, str], None],
    tmp_path: Path,
) -> None:
    """scenario 42: the raw connection and cursors made by hand are seen as well."""
    wrapper = sqlite.wrapper(pool=pool)
    for _ in range(3):
        wrapper.ensure_connection()
        way(wrapper, str(tmp_path / "extra.sqlite3"))
        assert schemas(wrapper) == ["main", "extra"]
        wrapper.close()
        assert schemas(wrapper) == ["main"]
        wrapper.close()
    assert wrapper.resolve_pool().stats().connects == 1


@EITHER
def test_an_authorizer_of_the_users_is_not_the_end_of_hygiene(
    sqlite: SqliteDatabase, pool: dict[str, Any]
) -> None:
    """It takes the place of the pool's own, and the pool looks for itself again."""
    wrapper = sqlite.wrapper(pool=pool)
    wrapper.ensure_connection()
    raw = wrapper.connection
    seen: list[Any] = []

    def permit(*args: Any) -> int:
        seen.append(args)
        return sqlite3.SQLITE_OK

    raw.set_authorizer(permit)
    for _ in range(2):
        raw.execute("PRAGMA foreign_keys = OFF")
        assert seen
        wrapper.close()
        assert value(wrapper, "PRAGMA foreign_keys") == 1
        assert wrapper.connection is raw
    raw.set_authorizer(None)
    raw.execute("PRAGMA foreign_keys = OFF")
    wrapper.close()
    assert value(wrapper, "PRAGMA foreign_keys") == 1


def connection_of_the_users(*args: Any, **kwargs: Any) -> sqlite3.Connection:
    return sqlite3.Connection(*args, **kwargs)


@EITHER
@pytest.mark.parametrize("factory", [sqlite3.Connection, connection_of_the_users])
def test_another_authorizer_is_noticed_while_the_pools_own_still_exists(
    sqlite: SqliteDatabase, pool: dict[str, Any], factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a free-threaded build an object may outlive its last reference."""
    monkeypatch.setattr(session_tracking, "FREE_THREADED", True)
    wrapper = sqlite.wrapper(pool=pool, OPTIONS={"factory": factory})
    wrapper.ensure_connection()
    raw = wrapper.connection
    assert isinstance(raw, sqlite3.Connection)
    own = wrapper.resolve_pool()._driver._sessions[raw].tracker()
    assert (own is None) == (factory is connection_of_the_users)
    raw.set_authorizer(None)
    raw.execute("PRAGMA foreign_keys = OFF")
    wrapper.close()
    assert value(wrapper, "PRAGMA foreign_keys") == 1
    assert wrapper.connection is raw


def test_session_sets_back_the_pragmas_that_were_set_and_looks_at_no_other(
    sqlite: SqliteDatabase,
) -> None:
    wrapper = sqlite.wrapper(pool=SESSION)
    before = value(wrapper, "PRAGMA cache_size")
    for _ in range(3):
        with wrapper.cursor() as cursor:
            cursor.execute("PRAGMA cache_size = 123")
        raw = wrapper.connection
        with overheard(raw) as statements:
            wrapper.close()
        assert statements == ["PRAGMA cache_size", f"PRAGMA cache_size = {before}"]
        assert value(wrapper, "PRAGMA cache_size") == before
        assert wrapper.connection is raw
        with overheard(raw) as statements:
            wrapper.close()
        assert statements == [], "what was undone is forgotten"


@IN_BOTH_SCOPES
def test_session_does_not_mind_pragmas_of_the_file(sqlite: SqliteDatabase) -> None:
    wrapper = sqlite.wrapper(pool=SESSION)
    with wrapper.cursor() as cursor:
        cursor.execute("PRAGMA user_version = 7")
        cursor.execute("PRAGMA table_info('sqlite_master')")
    raw = wrapper.connection
    wrapper.close()
    assert value(wrapper, "PRAGMA user_version") == 7
    assert wrapper.connection is raw


BEYOND_REPAIR = {
    "a temporary table": "CREATE TEMPORARY TABLE scratch (id integer)",
    "one by its schema's name": "CREATE TABLE temp.scratch (id integer)",
    "a temporary view": "CREATE TEMPORARY VIEW scratch AS SELECT 1",
    "a temporary trigger": (
        "CREATE TEMPORARY TRIGGER scratch AFTER INSERT ON main.known BEGIN SELECT 1; END"
    ),
    "a pragma that cannot be set back": "PRAGMA locking_mode = EXCLUSIVE",
    "another one": "PRAGMA journal_mode = MEMORY",
    "one that cannot be read": "PRAGMA case_sensitive_like = ON",
    "a database that is missing": "DETACH DATABASE extra",
    "a pragma of another database": "PRAGMA extra.cache_size = 123",
}


@IN_BOTH_SCOPES
@pytest.mark.parametrize("name", BEYOND_REPAIR)
def test_session_replaces_a_connection_that_cannot_be_repaired(
    sqlite: SqliteDatabase, tmp_path: Path, name: str
) -> None:
    """scenario 42: the next lease never sees it."""
    sqlite.execute("CREATE TABLE known (id integer)")
    attach = f"ATTACH DATABASE '{tmp_path / 'extra.sqlite3'}' AS extra"
    wrapper = sqlite.wrapper(pool=SESSION, OPTIONS={"init_command": attach})
    wrapper.ensure_connection()
    raw = wrapper.connection
    raw.execute(BEYOND_REPAIR[name])
    wrapper.close()
    wrapper.ensure_connection()
    assert wrapper.connection is not raw
    assert schemas(wrapper) == ["main", "extra"]
    assert value(wrapper, "SELECT count(*) FROM sqlite_temp_master") == 0


def test_what_receivers_have_set_up_counts_as_the_begin(
    sqlite: SqliteDatabase, tmp_path: Path
) -> None:
    """trap 14: `mark_baseline` is what says that they have done so."""
    for pool in (ROLLBACK, SESSION):
        wrapper = sqlite.wrapper(pool=pool)
        wrapper.ensure_connection()
        raw = wrapper.connection
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute(f"ATTACH DATABASE '{tmp_path / 'extra.sqlite3'}' AS extra")
        wrapper.resolve_pool()._driver.mark_baseline(raw)
        wrapper.close()
        for _ in range(2):
            assert schemas(wrapper) == ["main", "extra"]
            assert value(wrapper, "PRAGMA foreign_keys") == 0
            raw.execute("PRAGMA foreign_keys = ON")
            wrapper.close()
        assert wrapper.resolve_pool().stats().connects == 1


def test_the_connection_is_what_the_stock_backend_has(sqlite: SqliteDatabase) -> None:
    """trap 12: the notes are taken without a class of our own."""
    wrapper = sqlite.wrapper(pool=SESSION)
    wrapper.ensure_connection()
    stock = sqlite.stock()
    stock.ensure_connection()
    assert type(wrapper.connection) is type(stock.connection)


def test_the_drivers_own_autocommit_mode_is_as_django_left_it(
    sqlite: SqliteDatabase, things: Callable[[SqliteDatabase], type[Thing]]
) -> None:
    """scenario 42: Python 3.12 has a second one; with it, the next lease would commit nothing."""
    things(sqlite)
    wrapper = sqlite.wrapper(pool=ROLLBACK)
    wrapper.ensure_connection()
    raw = wrapper.connection
    if hasattr(raw, "autocommit"):
        raw.autocommit = False
    raw.isolation_level = "EXCLUSIVE"
    wrapper.close()
    with wrapper.cursor() as cursor:
        cursor.execute("INSERT INTO backends_thing (name) VALUES ('one')")
    assert wrapper.connection is raw
    wrapper.close()
    assert sqlite.execute("SELECT name FROM backends_thing") == [("one",)]


STAYS = {
    "a pragma": ("PRAGMA cache_size = 123", "PRAGMA cache_size"),
    "a temporary table": (
        "CREATE TEMPORARY TABLE scratch (id integer)",
        "SELECT count(*) FROM sqlite_temp_master",
    ),
}


@pytest.mark.parametrize("name", STAYS)
def test_the_default_undoes_no_other_trace(sqlite: SqliteDatabase, name: str) -> None:
    """scenario 42: what the documentation says of "rollback" is true."""
    trace, look = STAYS[name]
    wrapper = sqlite.wrapper(pool=ROLLBACK)
    before = value(wrapper, look)
    wrapper.connection.execute(trace)
    after = value(wrapper, look)
    wrapper.close()
    assert value(wrapper, look) == after != before


@EITHER
def test_functions_of_the_users_stay(sqlite: SqliteDatabase, pool: dict[str, Any]) -> None:
    """scenario 42: as the documentation says; Django's own functions are made like that."""
    wrapper = sqlite.wrapper(pool=pool)
    wrapper.ensure_connection()
    wrapper.connection.create_function("answer", 0, lambda: 42)
    wrapper.close()
    assert value(wrapper, "SELECT answer()") == 42


def test_without_autocommit_a_lease_that_set_it_leaves_none_to_the_next(
    sqlite: SqliteDatabase,
) -> None:
    """Scenario 42: the next lease's rollback would else undo nothing."""
    wrapper = sqlite.wrapper(AUTOCOMMIT=False)
    with wrapper.cursor() as cursor:
        cursor.execute("CREATE TABLE numbers (n integer)")
    wrapper.commit()
    wrapper.set_autocommit(True)
    wrapper.close()
    with wrapper.cursor() as cursor:
        cursor.execute("INSERT INTO numbers VALUES (1)")
    wrapper.rollback()
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM numbers")
        assert cursor.fetchone() == (0,)
    wrapper.close()
