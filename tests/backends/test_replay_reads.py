"""`replay_reads`: reads survive the end of their session, and nothing is written twice."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, transaction
from django.db.utils import ConnectionHandler

from pooling.backends.postgresql.sql_classifier import is_plain_read
from pooling.core.config import SCOPES
from tests.support.databases import PATIENCE, PostgresDatabase, eventually
from tests.support.servers import settings_from_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.postgres import PrivatePostgres

OPTIONS = {"replay_reads": True, "timeout": PATIENCE}
READ = "SELECT 1"
NEXT = "SELECT nextval('counted_id_seq')"
COUNT = "INSERT INTO counted DEFAULT VALUES RETURNING id"


@pytest.fixture(params=SCOPES)
def wrapper(request: pytest.FixtureRequest, postgresql: PostgresDatabase) -> Iterator[Any]:
    postgresql.execute("CREATE TABLE counted (id serial)")
    with postgresql.alias("replayed", pool={**OPTIONS, "scope": request.param}) as wrapper:
        yield wrapper


def run(wrapper: Any, sql: str, params: Any = None) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


def end_during(postgresql: PostgresDatabase, wrapper: Any, job: Callable[[], Any]) -> Any:
    """Do a job whose first statement finds its session ended as it is sent."""
    killed = []

    def kill(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not killed:
            killed.append(sql)
            pid = wrapper.connection.info.backend_pid
            postgresql.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
        return execute(sql, params, many, context)

    with wrapper.execute_wrapper(kill):
        return job()


def replayed(wrapper: Any) -> int:
    return int(wrapper.resolve_pool().stats().replayed)


def test_a_read_whose_session_has_ended_is_run_again(
    postgresql: PostgresDatabase, wrapper: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pooling")
    wrapper.force_debug_cursor = True
    found = end_during(postgresql, wrapper, lambda: run(wrapper, "SELECT %s", ["x"]))
    assert found == [("x",)]
    assert replayed(wrapper) == 1
    [line] = [each for each in caplog.messages if "run again" in each]
    assert "since its session had ended: " in line
    assert [each["sql"] for each in wrapper.queries_log] == ["SELECT 'x'"]
    assert run(wrapper, READ) == [(1,)]
    assert wrapper.errors_occurred is False
    wrapper.close()
    stats = wrapper.resolve_pool().stats()
    assert (stats.leased, stats.discards["broken"]) == (0, 1)


def in_transaction(wrapper: Any) -> None:
    with transaction.atomic("replayed"):
        run(wrapper, READ)


def run_many(wrapper: Any) -> None:
    with wrapper.cursor() as cursor:
        cursor.executemany("SELECT %s", [(1,), (2,)])


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(lambda wrapper: run(wrapper, COUNT), id="a write"),
        pytest.param(lambda wrapper: run(wrapper, NEXT), id="nextval"),
        pytest.param(lambda wrapper: run(wrapper, "SELECT 1 FOR UPDATE"), id="a lock"),
        pytest.param(in_transaction, id="in a transaction"),
        pytest.param(run_many, id="executemany"),
    ],
)
def test_nothing_else_is_run_again(
    postgresql: PostgresDatabase, wrapper: Any, job: Callable[[Any], Any]
) -> None:
    with pytest.raises(OperationalError):
        end_during(postgresql, wrapper, lambda: job(wrapper))
    wrapper.close()
    assert replayed(wrapper) == 0
    assert postgresql.execute("SELECT count(*) FROM counted") == [(0,)]
    assert postgresql.execute("SELECT is_called FROM counted_id_seq") == [(False,)]
    assert run(wrapper, READ) == [(1,)]


def test_the_second_statement_of_a_lease_is_not_run_again(
    postgresql: PostgresDatabase, wrapper: Any
) -> None:
    with wrapper.cursor() as cursor:
        cursor.execute(READ)
        pid = wrapper.connection.info.backend_pid
        postgresql.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
        with pytest.raises(OperationalError):
            cursor.execute(READ)
    wrapper.close()
    assert replayed(wrapper) == 0


def test_a_lease_that_was_used_past_django_is_not_given_up(
    postgresql: PostgresDatabase, wrapper: Any
) -> None:
    wrapper.ensure_connection()
    wrapper.connection.cursor().execute("SET search_path = pg_catalog")
    with pytest.raises(OperationalError):
        end_during(postgresql, wrapper, lambda: run(wrapper, READ))
    wrapper.close()
    assert replayed(wrapper) == 0


def test_a_statement_that_was_cancelled_is_not_run_again(
    postgresql: PostgresDatabase,
) -> None:
    options = {"options": "-c statement_timeout=50"}
    with postgresql.alias("replayed", pool=OPTIONS, OPTIONS=options) as wrapper:
        with pytest.raises(OperationalError, match="statement timeout"):
            run(wrapper, "SELECT pg_sleep(60)")
        assert replayed(wrapper) == 0


def test_it_is_off_unless_it_is_asked_for(postgresql: PostgresDatabase) -> None:
    with postgresql.alias("plain") as wrapper, pytest.raises(OperationalError):
        end_during(postgresql, wrapper, lambda: run(wrapper, READ))


@pytest.mark.parametrize("scope", SCOPES)
def test_readers_survive_terminations_and_a_restart(
    private_postgres: PrivatePostgres, allow_databases: None, scope: str
) -> None:
    """Eight readers and a writer; five times all sessions are ended, then the server restarts."""
    url = private_postgres.url
    entries = {"default": settings_from_url(url, "pooling.backends.postgresql")}
    server = PostgresDatabase(ConnectionHandler(entries).settings["default"], url)
    server.execute("CREATE TABLE counted (id serial, number int)")
    pool = {**OPTIONS, "scope": scope, "max_size": 4, "fail_fast": None}
    over = threading.Event()
    reads: list[int] = []
    failures: list[str] = []
    written: list[int] = []
    failed_writes: list[int] = []

    def read() -> None:
        wrapper = server.wrapper("reader", pool=pool)
        while not over.is_set():
            try:
                assert run(wrapper, "SELECT count(*) >= 0 FROM counted") == [(True,)]
            except Exception as error:
                failures.append(repr(error))
            reads.append(1)
            wrapper.close()

    def write() -> None:
        wrapper = server.wrapper("writer", pool=pool)
        number = 0
        while not over.is_set():
            number += 1
            try:
                run(wrapper, "INSERT INTO counted (number) VALUES (%s) RETURNING id", [number])
                written.append(number)
            except OperationalError:
                failed_writes.append(number)
            wrapper.close()

    threads = [threading.Thread(target=each) for each in [read] * 8 + [write]]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            before = len(reads)
            eventually(lambda before=before: len(reads) > before + 100)
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        before = len(reads)
        private_postgres.restart()
        eventually(lambda: len(reads) > before + 100)
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
    stats = server.wrapper("reader", pool=pool).resolve_pool().stats()
    rows = [number for (number,) in server.execute("SELECT number FROM counted ORDER BY number")]
    server.close()
    assert failures == []
    assert stats.replayed > 0
    assert len(set(rows)) == len(rows), "no write was repeated"
    assert set(written) <= set(rows) <= {*written, *failed_writes}


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        ("SELECT 1", True),
        ("(SELECT 1) UNION (SELECT 2);", True),
        ('SELECT "a"."id", count(*) FROM "a" WHERE "a"."name" = %s GROUP BY 1 LIMIT 21', True),
        ("WITH x AS (SELECT now()) TABLE x", True),
        ("VALUES (1), (2)", True),
        ("SELECT 'for update'", True),
        ("WITH x AS (DELETE FROM a RETURNING *) SELECT * FROM x", False),
        ("WITH x AS (INSERT INTO a VALUES (1) RETURNING *) SELECT * FROM x", False),
        ("SELECT * FROM a FOR NO KEY UPDATE", False),
        ("SELECT * FROM a FOR KEY SHARE SKIP LOCKED", False),
        ("SELECT * INTO b FROM a", False),
        ("SELECT pg_advisory_xact_lock(1)", False),
        ("SELECT pg_notify('a', 'b')", False),
        ("SELECT lastval()", False),
        ('SELECT "nextval"(%s)', False),
        ("SELECT my_function()", False),
        ("SELECT 1; DELETE FROM a", False),
        ("EXPLAIN ANALYZE DELETE FROM a", False),
        ("SHOW search_path", False),
        ("BEGIN", False),
        ("UPDATE a SET b = 1", False),
        (b"SELECT 1", False),
    ],
)
def test_what_is_a_plain_read(sql: Any, reads: bool) -> None:
    assert is_plain_read(sql) is reads
