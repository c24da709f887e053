"""The contract of both backends: a session is set up once, and by nobody who could go away."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError
from django.db.backends.signals import connection_created

from tests.support.databases import Database, PostgresDatabase, eventually, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def receiver(function: Callable[..., Any]) -> Iterator[None]:
    connection_created.connect(function)
    try:
        yield
    finally:
        connection_created.disconnect(function)


def test_a_session_is_set_up_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """trap 14: time zone, functions and the like belong to the physical connection."""
    wrapper_class = type(database.wrapper())
    calls: list[str] = []
    for name in ("init_connection_state", "set_autocommit"):
        original = getattr(wrapper_class, name)

        def counted(self: Any, *args: Any, name: str = name, original: Any = original) -> Any:
            calls.append(name)
            return original(self, *args)

        monkeypatch.setattr(wrapper_class, name, counted)
    for _ in range(3):
        wrapper = database.wrapper()
        database.session(wrapper)
        wrapper.close()
    assert calls.count("init_connection_state") == 1
    assert calls.count("set_autocommit") == 1
    assert wrapper.resolve_pool().stats().acquired == 3


def test_connection_created_is_sent_once_for_a_physical_connection(database: Database) -> None:
    """trap 14: its users set up sessions with it."""
    seen: list[Any] = []

    def remember(sender: Any, connection: Any, **kwargs: Any) -> None:
        assert sender is type(connection)
        seen.append((connection, connection.connection))

    with receiver(remember):
        first, second = database.wrapper(), database.wrapper()
        database.session(first)
        database.session(second)
        raws = [first.connection, second.connection]
        assert seen == [(first, raws[0]), (second, raws[1])]
        for wrapper in (first, second):
            wrapper.close()
        for _ in range(3):
            database.session(first)
            first.close()
    assert len(seen) == 2


def test_a_receiver_that_connects_later_sees_the_connections_that_are_open(
    database: Database,
) -> None:
    """trap 14: otherwise what it sets up would hold for new connections only."""
    wrapper = database.wrapper()
    database.session(wrapper)
    wrapper.close()
    seen: list[Any] = []

    def remember(connection: Any, **kwargs: Any) -> None:
        seen.append(connection.connection)

    with receiver(remember):
        database.session(wrapper)
        raw = wrapper.connection
        wrapper.close()
        database.session(wrapper)
    assert seen == [raw]


def test_a_receiver_may_use_the_connection(database: Database) -> None:
    """trap 14: the signal comes when the session works."""
    results: list[Any] = []

    def query(connection: Any, **kwargs: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            results.append(cursor.fetchone())

    with receiver(query):
        wrapper = database.wrapper()
        database.session(wrapper)
    assert results == [(1,)]


def test_a_receiver_that_raises_gives_the_place_back(database: Database) -> None:
    """trap 8: released exactly once, and the next attempt works."""

    def fail(**kwargs: Any) -> None:
        raise ZeroDivisionError

    wrapper = database.wrapper(pool={"max_size": 1, "timeout": 10})
    with receiver(fail):
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                wrapper.ensure_connection()
            assert wrapper.connection is None
            assert wrapper.resolve_pool().stats().leased == 0
    eventually(lambda: not database.sessions())
    assert database.session(wrapper)
    assert len(database.sessions()) == 1


@pytest.mark.parametrize("method", ["init_connection_state", "set_autocommit"])
def test_a_set_up_that_raises_leaves_nothing_behind(
    database: Database, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """trap 8: the error reaches the caller, the half-made session goes, the place is free."""
    wrapper = database.wrapper(pool={"max_size": 1, "timeout": 10})

    def fail(self: Any, *args: Any) -> None:
        raise ZeroDivisionError(method)

    with monkeypatch.context() as patch:
        patch.setattr(type(wrapper), method, fail)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError, match=method):
                wrapper.ensure_connection()
    stats = wrapper.resolve_pool().stats()
    assert (stats.size, stats.leased, stats.waiting, stats.connect_errors) == (0, 0, 0, 2)
    eventually(lambda: not database.sessions())
    assert database.session(wrapper)


def test_a_set_autocommit_that_raises_in_a_lease_releases_once(database: Database) -> None:
    """trap 8: the user's own `set_autocommit` on a connection that breaks."""
    wrapper = database.wrapper(pool={"max_size": 1, "timeout": 10})
    wrapper.ensure_connection()
    raw = wrapper.connection
    wrapper.set_autocommit(False)
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
    database.break_connection(wrapper)
    with pytest.raises(OperationalError), wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
    wrapper.close()
    assert wrapper.resolve_pool().stats().leased == 0
    database.session(wrapper)
    assert wrapper.connection is not raw
    assert wrapper.resolve_pool().stats().leased == 1


def test_the_raw_connection_is_the_drivers_own(database: Database) -> None:
    """trap 12: adapters, `.info`, server-side cursors and third-party code use it."""
    wrapper = database.wrapper()
    database.session(wrapper)
    stock = database.stock(**({"OPTIONS": {}} if database.vendor == "sqlite" else {}))
    stock.ensure_connection()
    if database.vendor != "mysql":  # a subclass, which sees the statements
        assert type(wrapper.connection) is type(stock.connection)
    assert isinstance(wrapper.connection, database.raw_class)
    with wrapper.resolve_pool().acquire() as raw:
        assert type(raw) is type(wrapper.connection)


def test_a_pool_outlives_the_wrapper_and_the_thread_that_made_it(database: Database) -> None:
    """trap 13: a driver holds frozen parameters, never a wrapper."""
    references: list[weakref.ref[Any]] = []

    def first_user() -> Any:
        wrapper = database.wrapper(pool={"max_size": 2})
        session = database.session(wrapper)
        wrapper.close()
        references.extend([weakref.ref(wrapper), weakref.ref(threading.current_thread())])
        return session

    session = in_thread(first_user)
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    wrapper, other = (database.wrapper(pool={"max_size": 2}) for _ in range(2))
    assert database.session(wrapper) == session
    assert database.session(other) != session
    assert len(database.sessions()) == 2


def test_no_wrapper_is_kept_alive_by_the_connection_it_leased(database: Database) -> None:
    """trap 13: not even by one that is connected and forgotten."""
    wrapper = database.wrapper(pool={"max_size": 1, "timeout": 10})
    session = database.session(wrapper)
    reference = weakref.ref(wrapper)
    del wrapper
    gc.collect()
    assert reference() is None
    # And its lease came back: with a pool of one, the next user gets the very same connection.
    assert database.session(database.wrapper(pool={"max_size": 1, "timeout": 10})) == session


@pytest.mark.parametrize("reset", ["rollback", "session"])
def test_without_autocommit_every_lease_finds_what_receivers_set(
    postgresql: PostgresDatabase, reset: str
) -> None:
    """What a receiver sets is part of the lease's transaction then, and ends with it."""

    def limit(connection: Any, **kwargs: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1234ms'")

    wrapper = postgresql.wrapper(pool={"reset": reset}, AUTOCOMMIT=False)
    with receiver(limit):
        for _ in range(3):
            with wrapper.cursor() as cursor:
                cursor.execute("SHOW lock_timeout")
                assert cursor.fetchone() == ("1234ms",)
            wrapper.close()


def test_without_autocommit_a_new_session_is_not_left_in_a_transaction(
    postgresql: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What sets up a session is not the first lease's to roll back."""
    wrapper = postgresql.wrapper(AUTOCOMMIT=False)
    original = type(wrapper).init_connection_state

    def init_connection_state(self: Any) -> None:
        original(self)
        with self.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1234ms'")

    monkeypatch.setattr(type(wrapper), "init_connection_state", init_connection_state)
    wrapper.ensure_connection()
    wrapper.close()
    for _ in range(2):
        with wrapper.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            assert cursor.fetchone() == ("1234ms",)
        wrapper.close()
