"""What PostgreSQL says of its sessions, asked through the pool, and their names there."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from pooling.backends.postgresql.driver import LONGEST_NAME, application_name
from pooling.fleet.server_sessions import ServerSessions
from tests.support.databases import PostgresDatabase, SqliteDatabase, eventually

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
