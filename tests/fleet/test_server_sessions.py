"""What a server says of its sessions, asked through the pool, and their names there."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from pooling.backends.driver import driver_of
from pooling.backends.postgresql.driver import LONGEST_NAME, application_name
from pooling.fleet import server_sessions as fleet_sessions
from pooling.fleet.server_sessions import ServerSessions, occupancy
from tests.support.database_fixtures import mariadb_entry
from tests.support.databases import PATIENCE, PostgresDatabase, SqliteDatabase, eventually
from tests.support.mariadb import (
    MariaDatabase,
    PrivateMariaDB,
    create_user,
)
from tests.support.servers import mysql_driver, uses_mysqlclient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import DatabaseSettings


@pytest.fixture
def database(
    database_settings: DatabaseSettings, postgresql_url: str
) -> Iterator[PostgresDatabase]:
    database = PostgresDatabase(database_settings("pooling.backends.postgresql"), postgresql_url)
    yield database
    database.close()


@pytest.fixture
def server_sessions(monkeypatch: pytest.MonkeyPatch) -> ServerSessions:
    """ServerSessions that ask anew every time, and wait for the answer."""
    monkeypatch.setattr("pooling.fleet.server_sessions.REFRESH_AFTER", 0.0)
    monkeypatch.setattr("pooling.fleet.server_sessions.ANSWER_TIMEOUT", 20.0)
    return ServerSessions()


def session_name(wrapper: Any) -> str:
    with wrapper.cursor() as cursor:
        cursor.execute("SHOW application_name")
        return str(cursor.fetchone()[0])


def test_sessions_name_host_and_process(database: PostgresDatabase) -> None:
    assert session_name(database.wrapper()) == application_name()
    assert application_name().startswith("pooling ")
    assert application_name().endswith(f":{os.getpid()}")


def test_a_long_host_is_cut_and_the_process_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "hôst" * 30)
    assert len(application_name().encode()) == LONGEST_NAME
    assert application_name().endswith(f":{os.getpid()}")


@pytest.mark.parametrize(
    "options",
    [{"application_name": "mine"}, {"options": "-c application_name=mine"}],
    ids=["parameter", "options"],
)
def test_a_name_the_user_chose_stays(database: PostgresDatabase, options: dict[str, str]) -> None:
    assert session_name(database.wrapper(OPTIONS=options)) == "mine"


@pytest.mark.parametrize("variable", ["PGAPPNAME", "PGOPTIONS", "PGSERVICE"])
def test_a_name_from_the_environment_stays(
    database: PostgresDatabase, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    if variable == "PGSERVICE":
        (tmp_path / "services").write_text("[known]\napplication_name=mine\n")
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    value = {"PGOPTIONS": "-c application_name=mine", "PGSERVICE": "known"}.get(variable, "mine")
    monkeypatch.setenv(variable, value)
    assert session_name(database.wrapper()) == "mine"


def test_the_server_tells_of_its_sessions(
    database: PostgresDatabase, server_sessions: ServerSessions
) -> None:
    wrapper = database.wrapper()
    wrapper.ensure_connection()
    wrapper.close()
    pool = wrapper.resolve_pool()
    account = server_sessions.read(pool)
    assert account is not None
    assert account["problem"] is None
    [own] = [row for row in account["sessions"] if row["own_database"]]
    assert own["application_name"] == application_name()
    assert (own["state"], own["count"]) == ("idle", 1)
    assert account["max_connections"] > account["reserved"] > 0
    assert account["total"] >= 1
    # It leaves the session as it was.
    assert pool.stats().leased == 0
    with wrapper.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone()[0] == "0"


def test_sqlite_has_no_account(
    database_settings: DatabaseSettings, server_sessions: ServerSessions
) -> None:
    database = SqliteDatabase(database_settings("pooling.backends.sqlite3"))
    assert server_sessions.read(database.wrapper().resolve_pool()) is None
    database.close()


def test_mariadb_tells_of_the_user_s_sessions(
    mariadb: MariaDatabase, server_sessions: ServerSessions
) -> None:
    """Without performance_schema, its default, it does not know what sessions are called."""
    wrapper, busy = mariadb.wrapper(), mariadb.wrapper()
    for each in (wrapper, busy):
        each.ensure_connection()
    wrapper.close()
    pool = wrapper.resolve_pool()
    name = f"{mariadb.server.user}@127.0.0.1"
    own = {"application_name": name, "state": "idle", "own_database": True, "count": 2}
    other = {"application_name": name, "state": "active", "own_database": False, "count": 1}
    with in_other_database(mariadb, "DO sleep(60)"):
        # The sessions of the fixtures may not have ended quite yet.
        account = eventually(lambda: _with_sessions(server_sessions.read(pool), [own, other]))
    assert account["problem"] is None
    assert (account["product"], account["reserved"]) == ("MariaDB", 0)
    [(limit, version)] = mariadb.execute("SELECT @@max_connections, version()")
    assert (account["max_connections"], account["max_user_connections"]) == (limit, None)
    assert version.startswith(account["version"])
    assert account["total"] >= 3
    assert (pool.stats().leased, pool.stats().connects) == (1, 2)
    # It leaves the session as it was, so that the release costs nothing.
    fleet_sessions._query(busy.connection, vendor="mysql", of_pool=True)
    assert driver_of(pool).session_change(busy.connection) is None
    busy.close()


def test_mariadb_counts_what_the_user_may_have(
    mariadb: MariaDatabase, mariadb_user: dict[str, str], server_sessions: ServerSessions
) -> None:
    wrapper = mariadb.wrapper(**mariadb_user)
    wrapper.ensure_connection()
    for each in mariadb.wrapper(), wrapper:
        each.ensure_connection()
        each.close()
    account = server_sessions.read(wrapper.resolve_pool())
    assert account is not None
    assert [each["count"] for each in account["sessions"]] == [1]  # not those of other users
    assert "are left. This user has 1 of 7." in occupancy(account)


@pytest.mark.skipif(uses_mysqlclient(), reason="mysqlclient does not name its sessions")
def test_mariadb_tells_the_names_if_it_knows_them(server_sessions: ServerSessions) -> None:
    with PrivateMariaDB(performance_schema="ON") as server:
        server.execute("CREATE DATABASE test", *create_user("low"))
        entry = {**mariadb_entry(server, "test"), "USER": "low", "PASSWORD": "low"}
        database = MariaDatabase(entry, server)
        wrapper = database.wrapper()
        wrapper.ensure_connection()
        wrapper.close()
        account = server_sessions.read(wrapper.resolve_pool())
        database.close()
    assert account is not None
    [own] = account["sessions"]
    assert (own["application_name"], own["state"]) == (application_name(), "idle")


def _with_sessions(account: Any, sessions: list[dict[str, Any]]) -> Any:
    return account if account["sessions"] == sessions else None


@contextmanager
def in_other_database(mariadb: MariaDatabase, statement: str) -> Iterator[None]:
    """Run a statement without a database, until the end of the context."""
    server = mariadb.server
    connection = mysql_driver().connect(
        host=server.host, port=server.port, user=server.user, password=server.password
    )
    number = connection.thread_id()  # not while it is in use
    thread = threading.Thread(target=_run, args=(connection, statement))
    thread.start()
    try:
        yield
    finally:
        server.execute(f"KILL {number}")
        thread.join(PATIENCE)


def _run(connection: Any, statement: str) -> None:
    with suppress(mysql_driver().Error), connection.cursor() as cursor:  # it is killed
        cursor.execute(statement)


def test_asking_never_queues_and_never_fills_the_pool(
    database: PostgresDatabase, server_sessions: ServerSessions
) -> None:
    wrapper = database.wrapper(pool={"max_size": 1})
    pool = wrapper.resolve_pool()
    assert "no connection to it at the moment" in server_sessions.read(pool)["problem"]
    wrapper.ensure_connection()
    before = server_sessions.read(pool)  # over a connection outside the pool, every ten seconds
    assert before["problem"] is None
    [own] = [row for row in before["sessions"] if row["own_database"]]
    assert (own["state"], own["count"]) == ("idle", 1)
    again = server_sessions.read(pool)
    assert "every connection of this process is in use" in again["problem"]
    with wrapper.cursor() as cursor:  # it is closed
        mine = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        eventually(lambda: (cursor.execute(mine), cursor.fetchone())[1] == (1,))
    wrapper.close()
    assert server_sessions.read(pool)["problem"] is None
    pool.suspend()
    suspended = server_sessions.read(pool)
    assert suspended["problem"] == "the pool is suspended"
    assert suspended["sessions"], "what it said last is still there"
    pool.resume()
    stats = pool.stats()
    assert (stats.connects, stats.timeouts) == (1, 0)


def test_a_server_that_is_down_is_said_so(
    private_postgres: Any, server_sessions: ServerSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.servers import settings_from_url

    entry = settings_from_url(private_postgres.url, "pooling.backends.postgresql")
    database = PostgresDatabase(complete(entry), private_postgres.url)
    wrapper = database.wrapper(pool={"timeout": 5.0})
    wrapper.ensure_connection()
    wrapper.close()
    pool = wrapper.resolve_pool()
    private_postgres.stop()
    problem = eventually(lambda: server_sessions.read(pool)["problem"])
    assert "no connection" in problem
    problem = eventually(lambda: _with_error(server_sessions, pool))
    assert entry["PASSWORD"] not in problem
    pool.close()
    database.close()


def _with_error(server_sessions: ServerSessions, pool: Any) -> str | None:
    problem = str(server_sessions.read(pool)["problem"])
    return problem if "connecting failed last with" in problem else None


def complete(entry: dict[str, Any]) -> dict[str, Any]:
    from django.db.utils import ConnectionHandler

    return ConnectionHandler({"default": entry}).settings["default"]


def test_a_page_does_not_wait_for_a_server_that_hangs(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pooling.fleet.server_sessions.ANSWER_TIMEOUT", 0.05)
    monkeypatch.setattr("pooling.fleet.server_sessions.REFRESH_AFTER", 0.0)
    wrapper = database.wrapper()
    wrapper.ensure_connection()
    wrapper.close()
    answered: list[float] = []

    def hang(connection: Any, **_: Any) -> dict[str, Any]:
        eventually(lambda: answered)
        raise RuntimeError

    monkeypatch.setattr("pooling.fleet.server_sessions._query", hang)
    server_sessions = ServerSessions()
    pool = wrapper.resolve_pool()
    for _ in range(3):
        assert server_sessions.read(pool)["problem"] == "it has not answered yet"
    assert pool.stats().leased == 1  # one question hangs, not three
    answered.append(time.time())
    eventually(lambda: pool.stats().leased == 0)
