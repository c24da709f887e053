"""`scope="transaction"`: a lease lasts as long as something depends on its session."""

from __future__ import annotations

import gc
import itertools
import logging
import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, IntegrityError, ProgrammingError, connections, transaction
from django.http import StreamingHttpResponse
from django.template import Context, Engine
from django.test.utils import CaptureQueriesContext
from django.utils.functional import lazy

from pooling.backends import replay_reads, transaction_scope
from tests.support.databases import PATIENCE, Database, eventually, in_thread
from tests.support.fakes import TEST_TIMEOUT, Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.http import HttpRequest
    from django.test import RequestFactory

    from tests.backends.conftest import Thing
    from tests.support.databases import PostgresDatabase, SqliteDatabase

SCOPE = {"scope": "transaction", "max_size": 2, "timeout": 5}


def leased(wrapper: Any) -> int:
    return int(wrapper.resolve_pool().stats().leased)


def pins(wrapper: Any) -> dict[str, int]:
    return dict(wrapper.resolve_pool().stats().pins)


def run(wrapper: BaseDatabaseWrapper, sql: str, params: Any = None) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone() if cursor.description else None


@pytest.fixture
def wrapper(database: Database) -> Iterator[Any]:
    with database.alias("pooled", pool=SCOPE) as wrapper:
        yield wrapper


@pytest.fixture
def model(database: Database, things: Callable[[Database], type[Thing]], wrapper: Any) -> Any:
    return things(database)


def atomic(**options: Any) -> transaction.Atomic:
    return transaction.atomic(using="pooled", **options)


# ---- how long the connection is yours ------------------------------------------------------------


def test_a_query_holds_a_connection_while_it_runs(wrapper: Any, model: Any) -> None:
    things = model.objects.using("pooled")
    things.create(name="one")
    assert leased(wrapper) == 0
    assert [thing.name for thing in things.all()] == ["one"]
    assert leased(wrapper) == 0
    assert things.filter(name="one").update(name="two") == 1
    assert things.count() == 1
    assert leased(wrapper) == 0
    assert wrapper.connection is None
    assert pins(wrapper) == {}


def test_a_cursor_holds_a_connection_until_it_is_closed(wrapper: Any) -> None:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert leased(wrapper) == 1
        with wrapper.cursor() as other:
            other.execute("SELECT 2")
            assert other.fetchone() == (2,)
        assert leased(wrapper) == 1, "the first one is still open"
        assert cursor.fetchone() == (1,)
    assert leased(wrapper) == 0


def test_a_cursor_holds_a_connection_until_it_is_dropped(wrapper: Any) -> None:
    cursor = wrapper.cursor()
    cursor.execute("SELECT 1")
    assert leased(wrapper) == 1
    del cursor
    gc.collect()
    assert leased(wrapper) == 0
    wrapper.cursor().execute("SELECT 1")
    gc.collect()
    assert leased(wrapper) == 0


def test_a_cursor_that_has_run_nothing_is_dropped_at_once(wrapper: Any) -> None:
    """Nothing of it waits for the collector of cycles."""
    gc.disable()
    try:
        wrapper.cursor()
        assert leased(wrapper) == 0
    finally:
        gc.enable()


def test_a_method_of_a_cursor_may_be_kept(wrapper: Any) -> None:
    with wrapper.cursor() as cursor:
        execute = cursor.execute
        execute("SELECT 1")
        execute("SELECT 2")
        assert cursor.fetchone() == (2,)
    assert leased(wrapper) == 0


def test_a_cursor_dropped_in_another_thread_ends_the_lease_later(wrapper: Any) -> None:
    """That thread must not touch the connection."""
    cursors = [wrapper.cursor()]
    cursors[0].execute("SELECT 1")
    in_thread(cursors.clear)
    gc.collect()
    assert leased(wrapper) == 1
    wrapper.close()
    assert leased(wrapper) == 0


def test_a_transaction_holds_a_connection_until_its_end(wrapper: Any, model: Any) -> None:
    with atomic():
        session = leased(wrapper), wrapper.connection
        model.objects.using("pooled").create(name="one")
        with pytest.raises(IntegrityError), atomic():
            model.objects.using("pooled").create(name="one")
        with atomic(savepoint=False):
            list(model.objects.using("pooled").select_for_update())
        assert (leased(wrapper), wrapper.connection) == session
    assert leased(wrapper) == 0
    with pytest.raises(ZeroDivisionError), atomic():  # noqa: PT012 - leaving the block raises
        model.objects.using("pooled").create(name="two")
        raise ZeroDivisionError
    assert leased(wrapper) == 0
    assert model.objects.using("pooled").count() == 1


def test_a_transaction_begun_by_a_statement_lasts_until_its_end(wrapper: Any, model: Any) -> None:
    run(wrapper, "BEGIN")
    run(wrapper, "INSERT INTO backends_thing (name) VALUES ('one')")
    assert leased(wrapper) == 1
    run(wrapper, "ROLLBACK")
    assert leased(wrapper) == 0
    assert model.objects.using("pooled").count() == 0


def test_what_waits_for_the_commit_runs_without_a_connection(wrapper: Any, model: Any) -> None:
    """It may call another service, and it may query."""
    seen = []

    def look() -> None:
        seen.append(leased(wrapper))
        model.objects.using("pooled").create(name="after")
        seen.append(leased(wrapper))
        with atomic():
            transaction.on_commit(lambda: seen.append(leased(wrapper)), using="pooled")

    with atomic():
        transaction.on_commit(look, using="pooled")
        transaction.on_commit(lambda: seen.append("last"), using="pooled")
        model.objects.using("pooled").create(name="before")
    assert seen == [0, 0, 0, "last"]
    assert model.objects.using("pooled").count() == 2
    transaction.on_commit(lambda: seen.append("at once"), using="pooled")
    assert seen[-1] == "at once"
    assert leased(wrapper) == 0


@pytest.mark.parametrize("ends", ["read", "dropped"])
def test_an_iterator_holds_a_connection_while_it_is_read(
    wrapper: Any, model: Any, ends: str
) -> None:
    things = model.objects.using("pooled")
    things.bulk_create(model(name=str(number)) for number in range(300))
    iterator = things.order_by("pk").iterator(chunk_size=10)
    assert next(iterator).name == "0"
    assert leased(wrapper) == 1
    assert things.count() == 300, "others run beside it"
    assert leased(wrapper) == 1
    if ends == "read":
        assert len(list(iterator)) == 299
    del iterator
    gc.collect()
    assert leased(wrapper) == 0
    assert pins(wrapper) == {}


def test_an_iterator_in_a_cycle_is_closed_at_the_end_of_the_request(
    wrapper: Any, model: Any
) -> None:
    things = model.objects.using("pooled")
    things.bulk_create(model(name=str(number)) for number in range(300))
    cycle: list[Any] = [things.iterator(chunk_size=10)]
    next(cycle[0])
    cycle.append(cycle)
    del cycle
    wrapper.close()
    assert leased(wrapper) == 0
    gc.collect()
    assert things.count() == 300


def test_an_error_gives_back_a_clean_connection(wrapper: Any, model: Any) -> None:
    things = model.objects.using("pooled")
    things.create(name="one")
    for _ in range(3):
        with pytest.raises(IntegrityError):
            things.create(name="one")
        assert leased(wrapper) == 0
        with pytest.raises(DatabaseError):
            run(wrapper, "SELECT nonsense FROM nowhere")
        assert leased(wrapper) == 0
    assert things.count() == 1
    assert wrapper.resolve_pool().stats().connects == 1


def test_a_cursor_that_cannot_be_made_leaves_no_lease(wrapper: Any, monkeypatch: Any) -> None:
    run(wrapper, "SELECT 1")

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(type(wrapper), "_prepare_cursor", fail)
    with pytest.raises(ZeroDivisionError):
        wrapper.cursor()
    assert leased(wrapper) == 0


def test_two_threads_take_turns_on_one_connection(database: Database, model: Any) -> None:
    with database.alias("one", pool={**SCOPE, "max_size": 1}) as wrapper:
        assert run(wrapper, "SELECT 1") == (1,)

        def other() -> Any:
            try:
                return run(connections["one"], "SELECT 2")
            finally:
                connections["one"].close()

        assert in_thread(other) == (2,)
        assert run(wrapper, "SELECT 3") == (3,)
        assert wrapper.resolve_pool().stats().connects == 1


def test_settings_without_autocommit(database: Database, model: Any) -> None:
    """The lease ends with the transaction, which the caller commits."""
    with database.alias("manual", pool=SCOPE, AUTOCOMMIT=False) as wrapper:
        model.objects.using("manual").create(name="kept")
        assert leased(wrapper) == 1
        wrapper.commit()
        assert leased(wrapper) == 0
        model.objects.using("manual").create(name="lost")
        wrapper.rollback()
        assert leased(wrapper) == 0
        assert not wrapper.get_autocommit()
        assert [thing.name for thing in model.objects.using("manual")] == ["kept"]
        wrapper.rollback()
        with transaction.atomic(using="manual"):
            model.objects.using("manual").create(name="also kept")
        assert leased(wrapper) == 1
        wrapper.commit()
        assert leased(wrapper) == 0
        assert model.objects.using("manual").count() == 2
        wrapper.rollback()


def test_a_view_holds_no_connection_while_it_renders_sleeps_or_calls_out(
    wrapper: Any, model: Any, rf: RequestFactory
) -> None:
    """Whatever stands between two queries: the holders' list is empty at every such moment."""
    held: list[int] = []

    def elsewhere(*_: object) -> str:
        held.append(len(connections["pooled"].resolve_pool().holders()))
        return ""

    def rows(things: Any) -> Iterator[str]:
        yield elsewhere()
        for thing in things:
            yield thing.name + elsewhere()

    engine = Engine()
    template = engine.from_string(
        "{{ pause }}{% for thing in things %}{{ thing.name }}{{ pause }}{% endfor %}{{ pause }}"
    )

    def view(request: HttpRequest) -> StreamingHttpResponse:
        things = model.objects.using("pooled")
        things.create(name=f"of {request.path}")
        elsewhere()  # a service
        with atomic():
            things.select_for_update().update(name="seen")
            transaction.on_commit(elsewhere, using="pooled")
        text = template.render(Context({"things": things.all(), "pause": lazy(elsewhere, str)()}))
        return StreamingHttpResponse(itertools.chain([text], rows(things.all())))

    response = view(rf.get("/view/"))
    assert b"".join(response.streaming_content) == b"seenseen"
    assert len(held) >= 6
    assert set(held) == {0}


# ---- pinned --------------------------------------------------------------------------------------


POSTGRESQL_PINS = [
    ("SET statement_timeout = 1234", "SET"),
    ("SELECT set_config('statement_timeout', '1234', false)", "set_config()"),
    ("CREATE TEMPORARY TABLE pinned (n int)", "temporary table"),
    ("LISTEN somebody", "LISTEN"),
    ("SELECT pg_advisory_lock(4711)", "advisory lock"),
    ("PREPARE pinned AS SELECT 1", "PREPARE"),
    ("DECLARE pinned CURSOR WITH HOLD FOR SELECT 1", "cursor WITH HOLD"),
    ("DO $$ BEGIN PERFORM 1; END $$", "unclassified statement"),
    ("CREATE TABLE pinned (n int)", "DDL"),
]


@pytest.mark.parametrize(("sql", "reason"), POSTGRESQL_PINS)
def test_statements_that_pin_a_postgresql_lease(
    postgresql: PostgresDatabase, sql: str, reason: str
) -> None:
    with postgresql.alias("pooled", pool={**SCOPE, "max_size": 1}) as wrapper:
        before = run(wrapper, "SHOW statement_timeout")
        run(wrapper, sql)
        assert leased(wrapper) == 1
        assert pins(wrapper) == {reason: 1}
        [holder] = wrapper.resolve_pool().holders()
        assert holder.pinned == reason
        session = run(wrapper, "SELECT pg_backend_pid()")
        assert run(wrapper, "SELECT pg_backend_pid()") == session
        wrapper.close()
        assert leased(wrapper) == 0
        # Nothing of it is left in the session, which is the same.
        assert run(wrapper, "SELECT pg_backend_pid()") == session
        assert run(wrapper, "SHOW statement_timeout") == before
        assert run(wrapper, "SELECT count(*) FROM pg_prepared_statements WHERE from_sql") == (0,)
        # Only its own: other tests use the server at the same time.
        advisory = "FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        assert run(wrapper, f"SELECT count(*) {advisory}") == (0,)
        assert run(wrapper, "SELECT count(*) FROM pg_cursors") == (0,)
        assert run(wrapper, "SELECT to_regclass('pg_temp.pinned')") == (None,)
        assert leased(wrapper) == 0
        assert pins(wrapper) == {reason: 1}


def test_what_is_set_holds_for_the_rest_of_the_request(postgresql: PostgresDatabase) -> None:
    with postgresql.alias("pooled", pool={**SCOPE, "max_size": 3}) as wrapper:
        others = [postgresql.wrapper("pooled", pool={**SCOPE, "max_size": 3}) for _ in range(2)]
        for other in others:
            run(other, "SELECT 1")
        run(wrapper, "SET application_name = 'pinned'")
        for _ in range(5):
            for other in others:
                assert run(other, "SHOW application_name") != ("pinned",)
            assert run(wrapper, "SHOW application_name") == ("pinned",)


SQLITE_PINS: list[tuple[str, str]] = [
    ("PRAGMA foreign_keys = OFF", "PRAGMA"),
    ("CREATE TEMPORARY TABLE pinned (n)", "temporary table"),
    ("ATTACH ':memory:' AS other", "ATTACH or DETACH"),
]


@pytest.mark.parametrize(("sql", "reason"), SQLITE_PINS)
def test_statements_that_pin_a_sqlite_lease(sqlite: SqliteDatabase, sql: str, reason: str) -> None:
    with sqlite.alias("pooled", pool={**SCOPE, "max_size": 1}) as wrapper:
        run(wrapper, sql)
        assert pins(wrapper) == {reason: 1}
        assert leased(wrapper) == 1
        wrapper.close()
        assert run(wrapper, "PRAGMA foreign_keys") == (1,)
        assert run(wrapper, "SELECT count(*) FROM sqlite_temp_master") == (0,)
        with wrapper.cursor() as cursor:
            rows = cursor.execute("PRAGMA database_list").fetchall()
        assert "other" not in {row[1] for row in rows}
        assert leased(wrapper) == 0


def test_a_function_registered_on_the_drivers_object_pins(sqlite: SqliteDatabase) -> None:
    with sqlite.alias("pooled", pool={**SCOPE, "max_size": 1}) as wrapper:
        with wrapper.cursor() as cursor:
            wrapper.connection.create_function("twice", 1, lambda value: 2 * value)
            cursor.execute("SELECT twice(1)")
        assert list(pins(wrapper)) == ["function or hook of the driver's connection"]
        assert run(wrapper, "SELECT twice(21)") == (42,)
        wrapper.close()
        with pytest.raises(DatabaseError, match="no such function"):
            run(wrapper, "SELECT twice(21)")
        assert run(wrapper, "SELECT django_date_extract('year', '2026-01-01')") == (2026,)
        assert leased(wrapper) == 0


def test_a_factory_of_the_users_is_tracked(sqlite: SqliteDatabase) -> None:
    class Connection(sqlite3.Connection):
        pass

    def make(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        return Connection(*args, **kwargs)

    for factory, expected in (
        (Connection, {}),
        (make, {"connection class that is not tracked": 1}),
    ):
        with sqlite.alias("pooled", pool=SCOPE, OPTIONS={"factory": factory}) as wrapper:
            run(wrapper, "SELECT 1")
            assert pins(wrapper) == expected
            with wrapper.cursor():
                assert isinstance(wrapper.connection, Connection)


def attribute(wrapper: Any) -> str:
    if wrapper.vendor == "mysql":
        return "cursorclass"
    return "row_factory" if hasattr(wrapper.connection, "row_factory") else "cursor_factory"


def test_an_attribute_of_the_drivers_object_pins(database: Database, wrapper: Any) -> None:
    with wrapper.cursor():
        name = attribute(wrapper)
        before = getattr(wrapper.connection, name)
        setattr(wrapper.connection, name, type("Changed", (object,), {}))
    assert leased(wrapper) == 1
    [reason] = pins(wrapper)
    assert reason in (
        "attribute of the driver's connection",
        "cursor class that is not tracked",  # psycopg2
    )
    wrapper.close()
    with wrapper.cursor():
        assert getattr(wrapper.connection, name) is before


def test_a_notice_handler_pins(postgresql: PostgresDatabase) -> None:
    with postgresql.alias("pooled", pool=SCOPE) as wrapper:
        with wrapper.cursor():
            if not hasattr(wrapper.connection, "add_notice_handler"):
                return  # psycopg2 has a list of notices
            wrapper.connection.add_notice_handler(print)
        assert list(pins(wrapper)) == ["attribute of the driver's connection"]
        wrapper.connection.remove_notice_handler(print)


def test_raw_use_pins(wrapper: Any) -> None:
    run(wrapper, "SELECT 1")
    assert wrapper.connection is None
    wrapper.ensure_connection()
    with closing(wrapper.connection.cursor()) as cursor:
        cursor.execute("SELECT 1")
    run(wrapper, "SELECT 1")
    assert leased(wrapper) == 1
    assert pins(wrapper) == {"ensure_connection()": 1}
    wrapper.close_if_unusable_or_obsolete()
    assert leased(wrapper) == 0
    wrapper.connect()
    run(wrapper, "SELECT 1")
    assert leased(wrapper) == 1
    wrapper.close()


def test_thread_sharing_pins(wrapper: Any) -> None:
    wrapper.inc_thread_sharing()
    assert in_thread(lambda: run(wrapper, "SELECT 1")) == (1,)
    assert run(wrapper, "SELECT 1") == (1,)
    assert leased(wrapper) == 1
    assert pins(wrapper) == {"thread sharing": 1}
    wrapper.dec_thread_sharing()
    wrapper.close()
    assert leased(wrapper) == 0


def test_autocommit_off_pins(wrapper: Any, model: Any) -> None:
    wrapper.set_autocommit(False)
    model.objects.using("pooled").create(name="lost")
    wrapper.rollback()
    model.objects.using("pooled").create(name="kept")
    wrapper.commit()
    assert leased(wrapper) == 1
    wrapper.set_autocommit(True)
    assert pins(wrapper) == {"autocommit off": 1}
    wrapper.close()
    assert leased(wrapper) == 0
    assert [thing.name for thing in model.objects.using("pooled")] == ["kept"]


def test_a_schema_editor_pins(wrapper: Any, model: Any) -> None:
    with wrapper.schema_editor(atomic=False) as editor:
        field = model._meta.get_field("name")
        assert editor.quote_value("it's")
        editor.execute(f"CREATE INDEX some_index ON {model._meta.db_table} ({field.column})")
    assert pins(wrapper) == {"schema editor": 1}
    wrapper.close()
    assert leased(wrapper) == 0


def test_each_reason_and_place_is_logged_once(
    wrapper: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_scope, "_logged", set())
    with caplog.at_level(logging.DEBUG, "pooling"):
        for _ in range(3):
            wrapper.ensure_connection()  # here
            wrapper.close()
    [message] = [each.getMessage() for each in caplog.records if "is kept" in each.getMessage()]
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    here = 1 + next(number for number, line in enumerate(lines) if line.endswith("  # here"))
    assert "(ensure_connection())" in message
    assert message.endswith(f"{__file__}:{here}")


# ---- what tells of an earlier statement ----------------------------------------------------------


def test_functions_that_tell_of_an_earlier_statement(database: Database, wrapper: Any) -> None:
    """It had another session, perhaps, and so they would tell of somebody else's."""
    key, function = {
        "postgresql": ("serial", "lastval()"),
        "sqlite": ("integer", "last_insert_rowid()"),
        "mysql": ("integer AUTO_INCREMENT", "last_insert_id()"),
    }[database.vendor]
    database.execute(f"CREATE TABLE counted (id {key} PRIMARY KEY, n int)")
    run(wrapper, "INSERT INTO counted (n) VALUES (1)")
    with pytest.raises(ProgrammingError, match="RETURNING"):
        run(wrapper, f"SELECT {function}")
    assert leased(wrapper) == 0
    with wrapper.cursor() as cursor:
        cursor.execute("INSERT INTO counted (n) VALUES (1)")
        cursor.execute(f"SELECT {function}")
        assert cursor.fetchone() == (2,)
    with atomic():
        run(wrapper, "INSERT INTO counted (n) VALUES (1)")
        assert run(wrapper, f"SELECT {function}") == (3,)
    assert run(wrapper, "SELECT count(*) FROM counted") == (3,)


# ---- Django's own --------------------------------------------------------------------------------


def test_queries_are_captured(wrapper: Any, model: Any) -> None:
    model.objects.using("pooled").create(name="asks MySQL's wrapper for the server's version")
    with CaptureQueriesContext(wrapper) as captured:
        model.objects.using("pooled").create(name="it's")
        list(model.objects.using("pooled").filter(name="it's"))
    assert len(captured) == 2
    assert {"it''s", r"it\'s"} & set(re.findall("it.*s", captured[1]["sql"]))
    wrapper.close()
    with CaptureQueriesContext(wrapper) as captured, atomic():
        run(wrapper, "SELECT 1")
    assert [query["sql"] for query in captured] == ["BEGIN", "SELECT 1", "COMMIT"]


def test_execute_wrappers_see_each_statement(wrapper: Any, model: Any) -> None:
    seen = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        return execute(sql, params, many, context)

    with wrapper.execute_wrapper(note):
        run(wrapper, "SELECT 1")
        with wrapper.cursor() as cursor:
            cursor.executemany("INSERT INTO backends_thing (name) VALUES (%s)", [["a"], ["b"]])
    assert len(seen) == 2
    assert leased(wrapper) == 0
    assert model.objects.using("pooled").count() == 2


def test_receivers_of_connection_created_do_not_end_the_lease(database: Database) -> None:
    from django.db.backends.signals import connection_created

    seen = []

    def receive(connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connection.ensure_connection()
        seen.append(connection.connection is not None)

    connection_created.connect(receive)
    try:
        with database.alias("pooled", pool=SCOPE) as wrapper:
            for _ in range(3):
                assert run(wrapper, "SELECT 2") == (2,)
            assert leased(wrapper) == 0
            assert pins(wrapper) == {}
            assert seen == [True]
    finally:
        connection_created.disconnect(receive)


def test_a_database_in_memory_is_left_as_it_is(sqlite: SqliteDatabase) -> None:
    wrapper = sqlite.wrapper(NAME=":memory:", pool=SCOPE)
    run(wrapper, "CREATE TABLE here (n)")
    assert run(wrapper, "SELECT count(*) FROM here") == (0,)
    wrapper.ensure_connection()
    assert wrapper.resolve_pool() is None
    wrapper.inc_thread_sharing()
    vars(wrapper)["connection"].close()
    wrapper.connection = None


def test_a_reset_that_contradicts_the_scope_is_refused(database: Database) -> None:
    for reset in ("rollback", "always", "os.getcwd"):
        wrapper = database.wrapper(pool={**SCOPE, "reset": reset})
        with pytest.raises(ImproperlyConfigured, match="must be 'session' with scope="):
            wrapper.ensure_connection()
    assert database.wrapper(pool=SCOPE).resolve_pool().config.reset == "session"
    with pytest.raises(ImproperlyConfigured, match="must be 'request' or 'transaction', not"):
        database.wrapper(pool={"scope": "statement"}).ensure_connection()


def test_waiting_again_in_a_request_is_bounded_by_timeout(database: Database) -> None:
    with database.alias("pooled", pool={**SCOPE, "max_size": 1, "timeout": 0.05}) as wrapper:
        database.warm(wrapper)
        run(wrapper, "SELECT 1")
        with wrapper.resolve_pool().acquire(PATIENCE), pytest.raises(DatabaseError, match="within"):
            run(wrapper, "SELECT 1")
        assert run(wrapper, "SELECT 1") == (1,)
        eventually(lambda: leased(wrapper) == 0)


@pytest.mark.parametrize("variant", [transaction_scope.transaction_scoped, replay_reads.replaying])
def test_threads_that_ask_at_the_same_moment_get_the_same_class(variant: Any) -> None:
    """The class is part of the pool's key: another class would mean another pool."""
    two_at_once = threading.Barrier(2, timeout=TEST_TIMEOUT)

    class Wrapper:
        def __init_subclass__(cls) -> None:
            two_at_once.wait()

    callers = [Caller(lambda: variant(Wrapper)) for _ in range(2)]
    first, second = (caller.result() for caller in callers)
    assert first is second
