"""The option `replay_reads`: reads whose session is ended are run again, and writes never.

Scenario 72.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.db import Error, OperationalError, transaction

from pooling.backends.postgresql.sql_classifier import is_plain_read
from tests.support.databases import OBSERVER, PATIENCE, PostgresDatabase, eventually
from tests.support.postgres import PrivatePostgres
from tests.support.servers import driver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import DatabaseSettings
    from tests.support.databases import SqliteDatabase

THREADS = 8
TERMINATIONS = 5
SCOPES = ["request", "transaction"]
END_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
    f"AND backend_type = 'client backend' AND application_name <> '{OBSERVER}'"
)


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgres]:
    """A server to be stopped."""
    with PrivatePostgres() as server:
        yield server


@pytest.fixture
def own(server: PrivatePostgres, database_settings: DatabaseSettings) -> Iterator[PostgresDatabase]:
    """Its database."""
    settings = server.database_settings("pooling.backends.postgresql")
    entry = database_settings(settings.pop("ENGINE"), **settings)
    database = PostgresDatabase(entry, server.url)
    yield database
    database.close()


def options(scope: str, **pool: Any) -> dict[str, Any]:
    return {
        "replay_reads": True,
        "scope": scope,
        "timeout": PATIENCE,
        "fail_fast": None,
        "max_size": THREADS,
        **pool,
    }


def read(wrapper: Any, sql: str = "SELECT 1", params: Any = None) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()[0]


def pid_of(wrapper: Any) -> int:
    """The session of the wrapper's present lease, without a statement."""
    connection = wrapper.connection
    if driver().__name__ == "psycopg":
        return int(connection.info.backend_pid)
    return int(connection.get_backend_pid())


def replays(wrapper: Any) -> int:
    return int(wrapper.resolve_pool().stats().replayed)


@pytest.mark.parametrize("scope", SCOPES)
def test_no_read_fails_while_sessions_are_ended_and_the_server_restarts(
    own: PostgresDatabase, server: PrivatePostgres, scope: str
) -> None:
    pool = own.wrapper(pool=options(scope)).resolve_pool()
    end = threading.Event()
    done = [0] * THREADS
    failed: list[Error] = []

    def work(number: int) -> None:
        mine = own.wrapper(pool=options(scope))
        while not end.is_set():
            try:
                # Each is in progress for a while, so that sessions end in the middle of it.
                assert read(mine, "SELECT %s FROM pg_sleep(0.002)", [number]) == number
            except Error as error:
                failed.append(error)
            if scope == "request":
                mine.close()
            done[number] += 1

    def progress() -> None:
        goal = [count + 5 for count in done]
        eventually(lambda: all(count >= each for count, each in zip(done, goal, strict=True)))

    with ThreadPoolExecutor(THREADS) as executor:
        futures = [executor.submit(work, number) for number in range(THREADS)]
        try:
            for _ in range(TERMINATIONS):
                progress()
                own.execute(END_ALL)
            progress()
            server.restart()
            progress()
        finally:
            end.set()
        for future in futures:
            future.result(PATIENCE)
    assert failed == []
    assert pool.stats().replayed > 0
    assert pool.stats().timeouts == pool.stats().rejected == 0


@pytest.mark.parametrize("scope", SCOPES)
def test_a_read_is_run_again_and_says_so(
    postgresql: PostgresDatabase, scope: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pooling")
    wrapper = postgresql.wrapper(pool=options(scope))
    with wrapper.cursor() as cursor:
        first = pid_of(wrapper)
        postgresql.terminate(first)
        cursor.execute("SELECT pg_backend_pid()")
        second = cursor.fetchone()[0]
        assert second != first
        cursor.execute("SELECT pg_backend_pid()")
        assert cursor.fetchone()[0] == second, "the lease goes on with the new session"
    wrapper.close()
    stats = wrapper.resolve_pool().stats()
    assert (stats.replayed, stats.leased, stats.idle, stats.size) == (1, 0, 1, 1)
    assert stats.pins == {}
    [said] = [each.message for each in caplog.records if "again" in each.message]
    assert "running a read again: its session ended: " in said


@pytest.mark.parametrize("scope", SCOPES)
def test_idle_sessions_that_end_too_are_passed_over(
    postgresql: PostgresDatabase, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They end a moment after the pool has found them well, which its tests here always do."""
    wrapper = postgresql.wrapper(pool=options(scope, ping_after=None))
    pool = wrapper.resolve_pool()
    leases = [pool.acquire() for _ in range(3)]
    for lease in leases:
        lease.release()
    monkeypatch.setattr(type(pool._driver), "is_alive", lambda *_: True)
    monkeypatch.setattr(type(pool._driver), "ping", lambda *_: None)
    with wrapper.cursor() as cursor:
        postgresql.execute(END_ALL)
        eventually(lambda: not postgresql.sessions())
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    assert replays(wrapper) == 3


@pytest.mark.parametrize("scope", SCOPES)
def test_no_write_is_repeated(postgresql: PostgresDatabase, scope: str) -> None:
    """Each statement adds a row, and is ended after that, before the answer."""
    postgresql.execute(
        "CREATE TABLE counted (number int)",
        "CREATE SEQUENCE numbers",
        "CREATE FUNCTION add_row() RETURNS int LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO counted VALUES (1); RETURN 1; END'",
    )
    wrapper = postgresql.wrapper(pool=options(scope))
    end_itself = "pg_terminate_backend(pg_backend_pid())"
    for sql in (
        f"INSERT INTO counted SELECT 1 WHERE {end_itself}",
        f"WITH added AS (INSERT INTO counted VALUES (1) RETURNING 1) SELECT {end_itself}",
        f"SELECT add_row(), {end_itself}",
        f"SELECT nextval('numbers'), {end_itself}",
        f"UPDATE counted SET number = 2 WHERE {end_itself}",
        f"SELECT 1 WHERE {end_itself} FOR UPDATE",
    ):
        with pytest.raises(Error):
            read(wrapper, sql)
        wrapper.close()
    assert replays(wrapper) == 0
    assert postgresql.execute("SELECT last_value FROM numbers") == [(1,)], "it was called once"


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO counted VALUES (1)",
        "SELECT nextval('numbers')",
        "SELECT * FROM counted FOR UPDATE",
        "SELECT add_row()",
    ],
)
def test_what_is_no_read_fails_when_its_session_has_ended(
    postgresql: PostgresDatabase, scope: str, sql: str
) -> None:
    postgresql.execute("CREATE TABLE counted (number int)", "CREATE SEQUENCE numbers")
    wrapper = postgresql.wrapper(pool=options(scope))
    with wrapper.cursor() as cursor:
        postgresql.terminate(pid_of(wrapper))
        with pytest.raises(Error):
            cursor.execute(sql)
    wrapper.close()
    assert replays(wrapper) == 0
    assert postgresql.execute("SELECT count(*) FROM counted") == [(0,)]
    assert read(wrapper) == 1


@pytest.mark.parametrize("scope", SCOPES)
def test_a_write_through_terminations_is_in_the_table_once(
    postgresql: PostgresDatabase, scope: str
) -> None:
    """Each number is written by one attempt, and a repetition would be a second row."""
    postgresql.execute("CREATE TABLE counted (number int)")
    end = threading.Event()
    unknown: set[int] = set()
    done = [0] * THREADS

    def work(worker: int) -> int:
        mine, number = postgresql.wrapper(pool=options(scope)), worker
        while not end.is_set():
            try:
                with mine.cursor() as cursor:
                    cursor.execute("INSERT INTO counted VALUES (%s)", [number])
            except Error:
                unknown.add(number)
            mine.close()
            number += THREADS
            done[worker] += 1
        return number

    with ThreadPoolExecutor(THREADS) as executor:
        futures = [executor.submit(work, worker) for worker in range(THREADS)]
        try:
            for _ in range(TERMINATIONS):
                goal = sum(done) + 5 * THREADS
                eventually(lambda goal=goal: sum(done) >= goal)
                postgresql.execute(END_ALL)
        finally:
            end.set()
        ends = [future.result(PATIENCE) for future in futures]
    rows = postgresql.execute("SELECT number, count(*) FROM counted GROUP BY number")
    attempted = {each for worker, last in enumerate(ends) for each in range(worker, last, THREADS)}
    assert {count for _, count in rows} == {1}
    assert attempted - {number for number, _ in rows} <= unknown


@pytest.mark.parametrize("scope", SCOPES)
def test_the_second_statement_of_a_lease_is_not_replayed(
    postgresql: PostgresDatabase, scope: str
) -> None:
    wrapper = postgresql.wrapper(pool=options(scope))
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
        postgresql.terminate(pid_of(wrapper))
        with pytest.raises(Error):
            cursor.execute("SELECT 1")
    assert replays(wrapper) == 0


@pytest.mark.parametrize("scope", SCOPES)
def test_a_statement_of_another_cursor_counts(postgresql: PostgresDatabase, scope: str) -> None:
    wrapper = postgresql.wrapper(pool=options(scope))
    with wrapper.cursor() as first, wrapper.cursor() as second:
        second.execute("SET search_path TO pg_catalog")
        postgresql.terminate(pid_of(wrapper))
        with pytest.raises(Error):
            first.execute("SELECT 1")
    assert replays(wrapper) == 0


def read_after_the_end(database: PostgresDatabase, wrapper: Any) -> None:
    """Read in a lease whose session has ended."""
    with wrapper.cursor() as cursor:
        database.terminate(pid_of(wrapper))
        cursor.execute("SELECT 1")


@pytest.mark.parametrize("scope", SCOPES)
def test_nothing_in_a_transaction_is_replayed(postgresql: PostgresDatabase, scope: str) -> None:
    with postgresql.alias("own", pool=options(scope)) as wrapper:
        with pytest.raises(Error), transaction.atomic("own"):
            read_after_the_end(postgresql, wrapper)
        assert replays(wrapper) == 0


def test_a_lease_whose_session_others_may_have_changed_is_not_replayed(
    postgresql: PostgresDatabase,
) -> None:
    wrapper = postgresql.wrapper(pool=options("request"))
    wrapper.ensure_connection()
    wrapper.connection.cursor().execute("SET search_path TO pg_catalog")
    postgresql.terminate(pid_of(wrapper))
    with pytest.raises(Error):
        read(wrapper)
    assert replays(wrapper) == 0


def test_the_drivers_own_methods_count_as_statements(postgresql: PostgresDatabase) -> None:
    wrapper = postgresql.wrapper(pool=options("request"))
    with wrapper.cursor() as cursor:
        assert cursor.rowcount == -1  # an attribute of the driver's: as good as a statement
        postgresql.terminate(pid_of(wrapper))
        with pytest.raises(Error):
            cursor.execute("SELECT 1")
    assert replays(wrapper) == 0


@pytest.mark.parametrize("scope", SCOPES)
def test_other_errors_are_not_replayed(postgresql: PostgresDatabase, scope: str) -> None:
    wrapper = postgresql.wrapper(pool=options(scope))
    with pytest.raises(Error, match="division by zero"):
        read(wrapper, "SELECT 1/0")
    assert replays(wrapper) == 0
    assert read(wrapper) == 1


@pytest.mark.parametrize("scope", SCOPES)
def test_the_timeout_holds_for_both_together(postgresql: PostgresDatabase, scope: str) -> None:
    """A statement that has taken longer than `timeout` is not begun again."""
    wrapper = postgresql.wrapper(pool=options(scope, timeout=0.5))
    postgresql.warm(wrapper)
    with wrapper.cursor() as cursor:
        attempt = wrapper._attempt
        wrapper._attempt = attempt._replace(deadline=attempt.deadline - 1)
        postgresql.terminate(pid_of(wrapper))
        with pytest.raises(Error) as caught:
            cursor.execute("SELECT 1")
    assert "no connection" not in str(caught.value)
    assert replays(wrapper) == 0


@pytest.mark.parametrize("scope", SCOPES)
def test_a_server_that_does_not_come_back_is_told_within_the_timeout(
    own: PostgresDatabase, server: PrivatePostgres, scope: str
) -> None:
    wrapper = own.wrapper(pool=options(scope, timeout=0.5))
    own.warm(wrapper)
    try:
        with wrapper.cursor() as cursor:
            server.stop()
            with pytest.raises(OperationalError, match=r"no connection within|closed|terminat"):
                cursor.execute("SELECT 1")
    finally:
        server.start()
    wrapper.close()
    assert wrapper.resolve_pool().stats().leased == 0
    eventually(lambda: _works(wrapper))


def _works(wrapper: Any) -> bool:
    try:
        return read(wrapper) == 1
    except Error:
        return False


def test_without_the_option_nothing_is_replayed(postgresql: PostgresDatabase) -> None:
    wrapper = postgresql.wrapper(pool={"scope": "transaction"})
    with wrapper.cursor() as cursor:
        postgresql.terminate(pid_of(wrapper))
        with pytest.raises(Error):
            cursor.execute("SELECT 1")
    assert replays(wrapper) == 0


def test_a_copy_of_a_wrapper_replays_too(postgresql: PostgresDatabase) -> None:
    wrapper = postgresql.wrapper(pool=options("transaction")).copy()
    with wrapper.cursor() as cursor:
        postgresql.terminate(pid_of(wrapper))
        cursor.execute("SELECT 1")
    assert replays(wrapper) == 1
    wrapper.close()


def test_sqlite_ignores_it(sqlite: SqliteDatabase) -> None:
    wrapper = sqlite.wrapper(pool={"replay_reads": True})
    assert read(wrapper) == 1
    assert not hasattr(wrapper, "_attempt")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        ' select "update", "a"."delete" from "share" ;',
        "(SELECT 1) UNION (SELECT 2)",
        "WITH a AS (SELECT count(*) FROM b) SELECT upper(x) FROM a WHERE x = %s",
        "VALUES (1, 'INSERT')",
        "SELECT 1 /* FOR UPDATE */ -- INTO",
        "SELECT pg_backend_pid()",
        "SELECT substring(a from 1 for 2) FROM b",
    ],
)
def test_a_plain_read(sql: str) -> None:
    assert is_plain_read(sql, (1, "text", None, [1.5, b"x"]))
    assert is_plain_read(sql, {"a": True})


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "INSERT INTO a VALUES (1)",
        "UPDATE a SET b = 1",
        "DELETE FROM a",
        "MERGE INTO a USING b ON true WHEN MATCHED THEN DELETE",
        "WITH a AS (DELETE FROM b RETURNING *) SELECT * FROM a",
        "SELECT * FROM a FOR UPDATE",
        "SELECT * FROM a FOR NO KEY UPDATE SKIP LOCKED",
        "SELECT * FROM a FOR KEY SHARE",
        "SELECT 1 INTO a",
        "SELECT nextval('a')",
        "SELECT \"nextval\"('a')",
        "SELECT pg_catalog.setval('a', 1)",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_notify('a', 'b')",
        "SELECT pg_terminate_backend(1)",
        "SELECT set_config('a', 'b', false)",
        "SELECT mine()",
        "SELECT 1; DELETE FROM a",
        "EXPLAIN ANALYZE DELETE FROM a",
        "COPY a TO STDOUT",
        "CALL a()",
        "DO $$ BEGIN END $$",
        "SELECT $$ a $$",
        "BEGIN",
        "SHOW search_path",
        "SET a = 1",
        "NOTIFY a",
        "LOCK a",
    ],
)
def test_what_is_no_plain_read(sql: str) -> None:
    assert not is_plain_read(sql)


def test_what_is_not_text_is_no_plain_read() -> None:
    class AsIs:
        """psycopg2's, which becomes SQL."""

    assert not is_plain_read(b"SELECT 1")
    assert not is_plain_read(None)
    assert not is_plain_read("SELECT %s", [AsIs()])
    assert not is_plain_read("SELECT %(a)s", {"a": [AsIs()]})
