"""What receivers of `connection_created` set up holds for every lease of their alias alone."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from django.db.backends.signals import connection_created

from tests.support.databases import PATIENCE, eventually
from tests.support.mariadb import READ_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.databases import Database, SqliteDatabase


@contextmanager
def receiver(function: Callable[..., Any]) -> Iterator[None]:
    connection_created.connect(function)
    try:
        yield
    finally:
        connection_created.disconnect(function)


def factory_attribute(wrapper: Any) -> str:
    if wrapper.vendor == "mysql":
        return "cursorclass"
    return "row_factory" if hasattr(wrapper.connection, "row_factory") else "cursor_factory"


def other_factory(wrapper: Any) -> Any:
    """Return something that the attribute may be set to."""
    if wrapper.vendor == "sqlite":
        return sqlite3.Row
    if wrapper.vendor == "mysql":
        return import_module("MySQLdb.cursors").SSCursor
    if factory_attribute(wrapper) == "row_factory":
        from psycopg.rows import namedtuple_row

        return namedtuple_row
    from psycopg2.extras import NamedTupleCursor

    return NamedTupleCursor


@pytest.mark.parametrize("reset", ["rollback", "session", "always"])
def test_attributes_that_receivers_set_hold_for_every_lease(database: Database, reset: str) -> None:
    """Scenario 65."""

    def receive(connection: Any, **_: Any) -> None:
        setattr(connection.connection, factory_attribute(connection), other_factory(connection))

    with receiver(receive):
        wrappers = [database.wrapper(pool={"reset": reset}) for _ in range(2)]
        for _ in range(3):
            for wrapper in wrappers:
                wrapper.ensure_connection()
            for wrapper in wrappers:
                name = factory_attribute(wrapper)
                assert getattr(wrapper.connection, name) is other_factory(wrapper)
                if reset != "rollback":  # what a lease sets is undone as ever
                    setattr(wrapper.connection, name, None)
            for wrapper in wrappers:
                wrapper.close()


def test_each_connection_has_a_baseline_of_its_own(database: Database) -> None:
    made: dict[int, Any] = {}

    def receive(connection: Any, **_: Any) -> None:
        base = other_factory(connection)
        made[id(connection.connection)] = (
            type("Own", (base,), {}) if isinstance(base, type) else lambda cursor: base(cursor)
        )
        setattr(
            connection.connection, factory_attribute(connection), made[id(connection.connection)]
        )

    with receiver(receive):
        wrappers = [database.wrapper() for _ in range(2)]
        for _ in range(3):
            for wrapper in wrappers:
                wrapper.ensure_connection()
                raw = wrapper.connection
                assert getattr(raw, factory_attribute(wrapper)) is made[id(raw)]
                setattr(raw, factory_attribute(wrapper), other_factory(wrapper))
            for wrapper in wrappers:
                wrapper.close()
    assert len(made) == 2


def test_the_isolation_level_that_a_receiver_sets_on_sqlite_stays(sqlite: SqliteDatabase) -> None:
    def receive(connection: Any, **_: Any) -> None:
        connection.connection.isolation_level = "IMMEDIATE"
        connection.connection.text_factory = bytes

    with receiver(receive):
        wrapper = sqlite.wrapper()
        for _ in range(3):
            wrapper.ensure_connection()
            assert wrapper.connection.isolation_level == "IMMEDIATE"
            assert wrapper.connection.text_factory is bytes
            wrapper.connection.isolation_level = "EXCLUSIVE"
            wrapper.close()


def read_only(wrapper: Any) -> bool:
    statement, on = {
        "postgresql": ("SHOW default_transaction_read_only", "on"),
        "sqlite": ("PRAGMA query_only", 1),
        "mysql": (READ_ONLY, 1),
    }[wrapper.vendor]
    with wrapper.cursor() as cursor:
        cursor.execute(statement)
        return bool(cursor.fetchone()[0] == on)


def make_reporting_read_only(connection: Any, **_: Any) -> None:
    if connection.alias == "reporting":
        with connection.cursor() as cursor:
            cursor.execute(
                {
                    "postgresql": "SET default_transaction_read_only = on",
                    "sqlite": "PRAGMA query_only = 1",
                    "mysql": "SET SESSION TRANSACTION READ ONLY",
                }[connection.vendor]
            )


@pytest.mark.parametrize("first", ["default", "reporting"])
def test_what_a_receiver_does_for_one_alias_does_not_reach_another(
    database: Database, first: str
) -> None:
    """Scenario 65."""
    second = "reporting" if first == "default" else "default"
    with receiver(make_reporting_read_only):
        for alias in (first, second, first, second):
            wrapper = database.wrapper(alias)
            assert read_only(wrapper) is (alias == "reporting")
            wrapper.close()


def test_aliases_part_when_a_receiver_comes_later(database: Database) -> None:
    wrappers = {alias: database.wrapper(alias) for alias in ("default", "reporting")}
    for wrapper in wrappers.values():
        assert not read_only(wrapper)
        wrapper.close()
    assert wrappers["default"].resolve_pool() is wrappers["reporting"].resolve_pool()
    with receiver(make_reporting_read_only):
        for _ in range(2):
            for alias, wrapper in wrappers.items():
                assert read_only(wrapper) is (alias == "reporting")
                wrapper.close()
    # And what they have done stays with their alias when they are gone.
    for alias in ("default", "reporting"):
        wrapper = database.wrapper(alias)
        if alias == "default":
            assert not read_only(wrapper)
        wrapper.close()


@pytest.mark.parametrize("holder", ["default", "reporting"])
def test_aliases_part_when_a_receiver_comes_while_one_waits(
    database: Database, holder: str
) -> None:
    """The session that it was handed is not its own any more, and must not be set up for it."""
    waiter = "default" if holder == "reporting" else "reporting"
    pool = {"max_size": 1, "timeout": PATIENCE}
    holding, waiting = (database.wrapper(alias, pool=pool) for alias in (holder, waiter))
    assert not read_only(holding)
    shared = holding.resolve_pool()
    assert waiting.resolve_pool() is shared

    def work() -> bool:
        try:
            return read_only(waiting)
        finally:
            waiting.close()

    waiting.inc_thread_sharing()
    with ThreadPoolExecutor(1) as executor:
        found = executor.submit(work)
        eventually(lambda: shared.stats().waiting == 1)
        with receiver(make_reporting_read_only):
            holding.close()
            assert found.result(PATIENCE) is (waiter == "reporting")
            assert waiting.resolve_pool() is not shared
            assert read_only(holding) is (holder == "reporting")
            holding.close()
    waiting.dec_thread_sharing()


def test_sessions_that_receivers_have_set_up_are_not_shared_afterwards(database: Database) -> None:
    with receiver(make_reporting_read_only):
        wrapper = database.wrapper("reporting")
        assert read_only(wrapper)
        wrapper.close()
    other = database.wrapper("default")
    assert not read_only(other)


def test_a_receiver_may_close_the_connection(database: Database) -> None:
    def receive(connection: Any, **_: Any) -> None:
        connection.close()

    wrapper = database.wrapper()
    with receiver(receive):
        wrapper.ensure_connection()
    assert wrapper.connection is None
    assert wrapper.resolve_pool().stats().leased == 0
    assert database.session(wrapper)


def test_what_is_noted_of_a_connection_is_forgotten_with_it(database: Database) -> None:
    wrapper = database.wrapper()
    database.session(wrapper)
    pool = wrapper.resolve_pool()
    driver = pool._driver
    assert len(driver._baselines) == len(driver._clean_fingerprints) == 1
    wrapper.close()
    pool.close()
    assert len(driver._baselines) == len(driver._clean_fingerprints) == 0
