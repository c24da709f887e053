"""MySQL and MariaDB: restarts, a full server, a frozen one, a server that becomes read-only.

Scenario 75.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from typing import TYPE_CHECKING

import pytest
from django.db import OperationalError

from pooling import DiscardReason
from pooling.backends.postgresql import deadlines
from tests.support.database_fixtures import mariadb_entry
from tests.support.databases import eventually
from tests.support.freezing import suspended
from tests.support.mariadb import MariaDatabase, PrivateMariaDB, missing
from tests.support.servers import mysql_driver

if TYPE_CHECKING:
    from collections.abc import Iterator

POOL = {"max_size": 4, "timeout": 20, "fail_fast": None, "ping_after": None}


@pytest.fixture(scope="module")
def own_server() -> Iterator[PrivateMariaDB]:
    """A server to be stopped."""
    if reason := missing():
        pytest.skip(reason)
    mysql_driver()
    with PrivateMariaDB() as server:
        server.execute("CREATE DATABASE shop", "CREATE TABLE shop.things (number int)")
        yield server


@pytest.fixture
def own(own_server: PrivateMariaDB, allow_databases: None) -> Iterator[MariaDatabase]:
    database = MariaDatabase(mariadb_entry(own_server, "shop"), own_server)
    yield database
    database.close()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_is_seen_by_nobody_who_was_idle(own: MariaDatabase, mode: str) -> None:
    wrapper = own.wrapper(pool=POOL)
    own.session(wrapper)
    wrapper.close()
    own.server.stop(mode)
    own.server.start()
    assert isinstance(own.session(wrapper), int)
    assert wrapper.resolve_pool().stats().connects == 2


def test_a_server_that_comes_back_within_the_timeout_is_waited_for(own: MariaDatabase) -> None:
    from threading import Timer

    wrapper = own.wrapper(pool=POOL)
    own.session(wrapper)
    wrapper.close()
    own.server.stop()
    timer = Timer(0.3, own.server.start)
    timer.start()
    try:
        assert isinstance(own.session(wrapper), int)
    finally:
        timer.join()


def test_a_full_server_is_waited_for(own: MariaDatabase) -> None:
    before = own.server.execute("SELECT @@max_connections")[0][0]
    own.server.execute("SET GLOBAL max_connections = 10")
    try:
        filling = [own.stock() for _ in range(12)]
        with pytest.raises(OperationalError):
            deque((other.ensure_connection() for other in filling), maxlen=0)
        wrapper = own.wrapper(pool={**POOL, "timeout": 0.5})
        with pytest.raises(OperationalError):
            own.session(wrapper)
        assert wrapper.resolve_pool().stats().connect_errors > 1
        for other in filling:
            other.close()
        patient = own.wrapper(pool=POOL)
        assert isinstance(own.session(patient), int)
    finally:
        own.server.execute(f"SET GLOBAL max_connections = {before}")


def test_a_frozen_server_costs_bounded_time(own: MariaDatabase) -> None:
    wrapper = own.wrapper(pool={**POOL, "timeout": 1})
    with suspended(own.server.pid):
        began = time.monotonic()
        with pytest.raises(OperationalError):
            wrapper.ensure_connection()
        assert time.monotonic() - began < 5
        wrapper.resolve_pool().close()


def test_a_session_of_a_frozen_server_costs_bounded_time(
    own: MariaDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "ANSWER_TIMEOUT", 0.5)
    wrapper = own.wrapper(pool={**POOL, "timeout": 1.5, "ping_after": 0})
    own.session(wrapper)
    wrapper.close()
    with suspended(own.server.pid):
        began = time.monotonic()
        with pytest.raises(OperationalError):
            wrapper.ensure_connection()
        assert time.monotonic() - began < 5
        # The deadline ends the ping; the server does not.
        stats = wrapper.resolve_pool().stats
        eventually(lambda: stats().discards[DiscardReason.BROKEN] == 1)
    assert isinstance(own.session(own.wrapper(pool=POOL)), int)


def test_a_read_only_server_is_left_for_another(own: MariaDatabase) -> None:
    own.server.execute(
        "DROP USER IF EXISTS writer",
        "CREATE USER writer IDENTIFIED BY 'writer'",
        "GRANT ALL ON shop.* TO writer",
    )
    user = {"USER": "writer", "PASSWORD": "writer"}
    writer = own.wrapper(pool=POOL, **user)
    session = own.session(writer)
    own.server.execute("SET GLOBAL read_only = 1")
    try:
        with writer.cursor() as cursor, pytest.raises(OperationalError, match="read-only"):
            cursor.execute("INSERT INTO things VALUES (1)")
        writer.close()
        assert own.session(writer) != session
    finally:
        own.server.execute("SET GLOBAL read_only = 0")


def test_a_host_that_answers_nothing_costs_bounded_time(own: MariaDatabase) -> None:
    """The port takes connections, as a proxy without a server behind it does, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = str(silent.getsockname()[1])
        wrapper = own.wrapper(PORT=port, pool={**POOL, "timeout": 1})
        began = time.monotonic()
        with pytest.raises(OperationalError):
            wrapper.ensure_connection()
        assert time.monotonic() - began < 5
