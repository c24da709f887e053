"""`reset="session"` on PostgreSQL: what a lease did is undone, and it costs nothing without need.

Scenario 42. The price is read off the wire: the answers of the server are counted.
"""

from __future__ import annotations

import contextlib
import random
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections, models, transaction
from django.db.backends.signals import connection_created
from django.db.models.functions import Lower, TruncDay
from django.utils import timezone

from pooling.backends.postgresql.sql_classifier import is_session_neutral
from pooling.core.config import SCOPES
from tests.support.databases import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.backends.conftest import Thing
    from tests.support.databases import PostgresDatabase
    from tests.support.recording_proxy import RecordingProxy

pytest_plugins = ["tests.support.fault_fixtures"]

ROLLBACK = {"max_size": 1, "timeout": 10}
SESSION = {**ROLLBACK, "reset": "session"}
IN_BOTH_SCOPES = pytest.mark.usefixtures("scope")


@pytest.fixture(params=SCOPES)
def scope(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the leases of `SESSION` last."""
    monkeypatch.setitem(SESSION, "scope", request.param)


def price(wire: RecordingProxy, wrapper: Any) -> int:
    """Release; return the round trips that took."""
    mark = wire.mark()
    wrapper.close()
    assert wrapper.connection is None
    assert wrapper.resolve_pool().stats().connects == 1
    return wire.round_trips(mark)


def run(wrapper: Any, *statements: str) -> Any:
    with wrapper.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchone() if cursor.description else None


@IN_BOTH_SCOPES
def test_what_the_orm_does_all_day_costs_nothing(
    postgresql: PostgresDatabase,
    wire: RecordingProxy,
    things: Callable[[PostgresDatabase], type[Thing]],
) -> None:
    model = things(postgresql)
    with postgresql.alias("pooled", pool=SESSION) as wrapper:
        everything = model.objects.using("pooled")
        for number in range(3):
            with transaction.atomic(using="pooled"), transaction.atomic(using="pooled"):
                everything.create(name=f"one {number}")
                everything.bulk_create([model(name=f"{letter} {number}") for letter in "abc"])
                everything.select_for_update().first()
            names = everything.annotate(lower=Lower("name"), day=TruncDay(timezone.now()))
            assert names.filter(lower__icontains="O").exists()
            assert everything.values("name").annotate(n=models.Count("id")).count() == 4
            everything.filter(name__startswith="b").update(name=f"other {number}")
            everything.get_or_create(name=f"one {number}")
            everything.all().delete()
            assert price(wire, wrapper) == 0


@IN_BOTH_SCOPES
def test_nothing_at_all_costs_nothing(postgresql: PostgresDatabase, wire: RecordingProxy) -> None:
    wrapper = postgresql.wrapper(pool=SESSION)
    for _ in range(3):
        wrapper.ensure_connection()
        mark = wire.mark()
        assert price(wire, wrapper) == 0
        wrapper.ensure_connection()
        assert wire.sent(mark) == b"", "and neither does the acquire"


TRACES = {
    "search_path": ("SET search_path = pg_catalog", "SHOW search_path"),
    "a setting": ("SET statement_timeout = 1234", "SHOW statement_timeout"),
    "a setting by a function": (
        "SELECT set_config('work_mem', '1234kB', false)",
        "SHOW work_mem",
    ),
    "the time zone": ("SET TIME ZONE 'America/Lima'", "SHOW TIME ZONE"),
    "the role": ("SET ROLE pg_monitor", "SELECT current_user"),
    "the session's user": ("SET SESSION AUTHORIZATION pg_monitor", "SELECT session_user"),
    "an advisory lock": (
        "SELECT pg_advisory_lock(1)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    "a temporary table": (
        "CREATE TEMPORARY TABLE scratch (id integer)",
        "SELECT to_regclass('pg_temp.scratch')",
    ),
    "a temporary table by SELECT": (
        "SELECT 1 AS id INTO TEMPORARY scratch",
        "SELECT to_regclass('pg_temp.scratch')",
    ),
    "LISTEN": ("LISTEN channel", "SELECT count(*) FROM pg_listening_channels()"),
    "a cursor": (
        "DECLARE kept CURSOR WITH HOLD FOR SELECT 1",
        "SELECT count(*) FROM pg_cursors WHERE is_holdable",
    ),
    "a block of code": (
        "DO $$ BEGIN PERFORM set_config('work_mem', '1234kB', false); END $$",
        "SHOW work_mem",
    ),
    "a prepared statement": (
        "PREPARE mine AS SELECT 1",
        "SELECT count(*) FROM pg_prepared_statements",
    ),
    "two statements in one": ("SELECT 1; SET work_mem = '1234kB'", "SHOW work_mem"),
}


@IN_BOTH_SCOPES
@pytest.mark.parametrize("name", TRACES)
def test_a_trace_is_undone_and_has_its_price(
    postgresql: PostgresDatabase, wire: RecordingProxy, name: str
) -> None:
    """scenario 42: search_path, settings, time zone, role, locks, tables, LISTEN, cursors."""
    trace, look = TRACES[name]
    wrapper = postgresql.wrapper(pool=SESSION)
    before = run(wrapper, look)
    price(wire, wrapper)
    run(wrapper, trace)
    assert run(wrapper, look) != before
    # Prepared statements are ended by name, when the first message has told their names.
    assert price(wire, wrapper) == (2 if name == "a prepared statement" else 1)
    assert run(wrapper, look) == before
    price(wire, wrapper)
    run(wrapper, "SELECT 1")
    assert price(wire, wrapper) == 0, "the trace is forgotten, too"


@IN_BOTH_SCOPES
def test_prepared_statements_of_a_lease_cost_one_message_more(
    postgresql: PostgresDatabase, wire: RecordingProxy
) -> None:
    """scenario 42: only the lease's own have to go, by name."""
    wrapper = postgresql.wrapper(pool=SESSION)
    run(wrapper, "PREPARE mine AS SELECT 1", 'PREPARE "my ""other"" one" AS SELECT 2')
    assert price(wire, wrapper) == 2
    assert run(wrapper, "SELECT count(*) FROM pg_prepared_statements") == (0,)


@IN_BOTH_SCOPES
def test_the_drivers_own_prepared_statements_go_on_working(
    postgresql: PostgresDatabase, wire: RecordingProxy, psycopg2: bool
) -> None:
    """It would not know that they are gone. (psycopg2 prepares none.)"""
    options = {} if psycopg2 else {"prepare_threshold": 1, "server_side_binding": True}
    wrapper = postgresql.wrapper(pool=SESSION, OPTIONS=options)
    count = "SELECT count(*) FROM pg_prepared_statements WHERE"
    for _ in range(3):
        with wrapper.cursor() as cursor:
            for number in range(4):
                cursor.execute("SELECT %s::integer", [number])
                assert cursor.fetchone() == (number,)
            cursor.execute("PREPARE mine AS SELECT 1")
        assert price(wire, wrapper) == 2
        (prepared,) = run(wrapper, f"{count} NOT from_sql")
        assert psycopg2 or prepared >= 1
    assert run(wrapper, f"{count} from_sql") == (0,)


@IN_BOTH_SCOPES
def test_django_finds_its_time_zone_in_the_restored_session(
    postgresql: PostgresDatabase, wire: RecordingProxy
) -> None:
    """One message: that the time zone is not the server's own does not cost another one."""
    wrapper = postgresql.wrapper(pool=SESSION, TIME_ZONE="Asia/Karachi")
    run(wrapper, "SET work_mem = '1234kB'", "SET TIME ZONE 'America/Lima'")
    assert price(wire, wrapper) == 1
    assert run(wrapper, "SHOW TIME ZONE") == ("Asia/Karachi",)


@IN_BOTH_SCOPES
def test_the_role_of_the_settings_costs_one_message_more(
    postgresql: PostgresDatabase, wire: RecordingProxy, role: str
) -> None:
    """It is Django that sets it, without a look whether it is set."""
    wrapper = postgresql.wrapper(pool=SESSION, OPTIONS={"assume_role": role})
    run(wrapper, "RESET ROLE")
    assert price(wire, wrapper) == 2
    assert run(wrapper, "SELECT current_user") == (role,)
    assert price(wire, wrapper) == 0


@IN_BOTH_SCOPES
def test_a_role_of_the_connections_options_is_there_again(
    postgresql: PostgresDatabase, wire: RecordingProxy
) -> None:
    """`SET SESSION AUTHORIZATION DEFAULT` alone, as in DISCARD ALL, would end it."""
    options = {"options": "-c role=pg_monitor"}
    wrapper = postgresql.wrapper(pool=SESSION, OPTIONS=options)
    assert run(wrapper, "SELECT current_user") == ("pg_monitor",)
    run(wrapper, "SET ROLE NONE")
    assert price(wire, wrapper) == 1
    assert run(wrapper, "SELECT current_user") == ("pg_monitor",)


@IN_BOTH_SCOPES
@pytest.mark.parametrize("committed", [True, False])
def test_traces_are_undone_without_autocommit_as_well(
    postgresql: PostgresDatabase, wire: RecordingProxy, committed: bool
) -> None:
    """A RESET in a transaction that is rolled back at its end would undo nothing."""
    wrapper = postgresql.wrapper(pool=SESSION, AUTOCOMMIT=False)
    session = postgresql.session(wrapper)
    run(wrapper, "SET statement_timeout = 1234")
    if committed:
        wrapper.commit()
    price(wire, wrapper)
    state = f"SELECT state FROM pg_stat_activity WHERE pid = {session}"
    assert postgresql.execute(state) == [("idle",)]
    assert run(wrapper, "SHOW statement_timeout") == ("0",)
    assert wrapper.get_autocommit() is False


@IN_BOTH_SCOPES
def test_what_ends_with_the_transaction_costs_nothing(
    postgresql: PostgresDatabase, wire: RecordingProxy
) -> None:
    """Nothing but the ROLLBACK or COMMIT that is due anyway."""
    wrapper = postgresql.wrapper(pool=SESSION)
    run(wrapper, "BEGIN", "SET LOCAL statement_timeout = 1234", "SELECT pg_advisory_xact_lock(1)")
    run(wrapper, "COMMIT")
    assert price(wire, wrapper) == 0
    assert run(wrapper, "SHOW statement_timeout") == ("0",)


def raw_execute(raw: Any, statement: str) -> None:
    cursor = raw.cursor()
    cursor.execute(statement)
    cursor.close()


@IN_BOTH_SCOPES
def test_a_trace_left_through_the_raw_connection_is_seen(
    postgresql: PostgresDatabase, wire: RecordingProxy, psycopg2: bool
) -> None:
    """Third-party code uses `connection.connection`."""
    wrapper = postgresql.wrapper(pool=SESSION)
    ways: list[Callable[[Any, str], Any]] = [raw_execute]
    if psycopg2:
        extras = import_module("psycopg2.extras")

        def with_dictionaries(raw: Any, statement: str) -> None:
            with raw.cursor(cursor_factory=extras.DictCursor) as cursor:
                cursor.execute(statement)

        ways += [with_dictionaries]
    else:

        def on_the_connection(raw: Any, statement: str) -> None:
            raw.execute(statement)

        def streamed(raw: Any, statement: str) -> None:
            with raw.cursor() as cursor:
                list(cursor.stream("SELECT set_config('statement_timeout', '1234', false)"))

        def for_many(raw: Any, statement: str) -> None:
            with raw.cursor() as cursor:
                cursor.executemany("SELECT set_config('statement_timeout', %s, false)", [("1234",)])

        ways += [on_the_connection, streamed, for_many]
    for way in ways:
        wrapper.ensure_connection()
        way(wrapper.connection, "SET statement_timeout = 1234")
        assert run(wrapper, "SHOW statement_timeout") == ("1234ms",)
        assert price(wire, wrapper) == 1, way
        assert run(wrapper, "SHOW statement_timeout") == ("0",)
        assert price(wire, wrapper) == 0, way


def test_cursors_of_another_class_count_as_a_trace(
    postgresql: PostgresDatabase, wire: RecordingProxy, psycopg2: bool
) -> None:
    """Their statements were not classified."""
    wrapper = postgresql.wrapper(pool=SESSION)
    wrapper.ensure_connection()
    raw = wrapper.connection
    watching = raw.cursor_factory
    module = import_module("psycopg2.extensions").cursor if psycopg2 else None
    raw.cursor_factory = module or import_module("psycopg").ClientCursor
    raw_execute(raw, "SET statement_timeout = 1234")
    assert price(wire, wrapper) == 1
    assert run(wrapper, "SHOW statement_timeout") == ("0",)
    assert wrapper.connection is raw
    assert raw.cursor_factory is watching


@IN_BOTH_SCOPES
def test_the_cursors_of_the_user_are_the_users(
    postgresql: PostgresDatabase, wire: RecordingProxy, psycopg2: bool
) -> None:
    """A class of cursors from the settings is watched, and remains what it was."""
    if psycopg2:
        factory: type = import_module("psycopg2.extras").DictCursor
    else:
        factory = type("Mine", (import_module("psycopg").ClientCursor,), {"mine": True})
    wrapper = postgresql.wrapper(pool=SESSION, OPTIONS={"cursor_factory": factory})
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1 AS one")
        assert isinstance(cursor.cursor, factory)
        assert type(cursor.cursor).__name__ == factory.__name__
    assert price(wire, wrapper) == 0


@IN_BOTH_SCOPES
def test_the_next_lease_speaks_the_same_encoding(
    postgresql: PostgresDatabase, wire: RecordingProxy, psycopg2: bool
) -> None:
    """psycopg 3 is told by the server; psycopg2 remembers what it was told last."""
    wrapper = postgresql.wrapper(pool=SESSION)
    wrapper.ensure_connection()
    if psycopg2:
        wrapper.connection.set_client_encoding("LATIN1")
    else:
        run(wrapper, "SET client_encoding = 'LATIN1'")
    wrapper.close()
    assert run(wrapper, "SHOW client_encoding") == ("UTF8",)
    assert run(wrapper, "SELECT 'Ł'") == ("Ł",)


@IN_BOTH_SCOPES
def test_a_reset_of_somebodys_own_counts_as_a_trace(
    postgresql: PostgresDatabase, wire: RecordingProxy, psycopg2: bool
) -> None:
    """It takes away what Django has set up."""
    wrapper = postgresql.wrapper(pool=SESSION, TIME_ZONE="Asia/Karachi")
    wrapper.ensure_connection()
    if psycopg2:
        wrapper.connection.reset()
    else:
        run(wrapper, "DISCARD ALL")
    assert price(wire, wrapper) == 1
    assert run(wrapper, "SHOW TIME ZONE") == ("Asia/Karachi",)


@IN_BOTH_SCOPES
def test_what_the_drivers_object_was_told_is_undone_for_nothing(
    postgresql: PostgresDatabase, wire: RecordingProxy, psycopg2: bool
) -> None:
    """psycopg 3 keeps it to itself; psycopg2 tells the server in autocommit mode."""
    wrapper = postgresql.wrapper(pool=SESSION)
    wrapper.ensure_connection()
    raw = wrapper.connection
    wished = {"deferrable": True} if psycopg2 else {"prepare_threshold": 0, "prepared_max": 1}
    before = {name: getattr(raw, name) for name in wished}
    for name, value in wished.items():
        setattr(raw, name, value)
    assert price(wire, wrapper) == (1 if psycopg2 else 0)
    wrapper.ensure_connection()
    assert wrapper.connection is raw
    assert {name: getattr(raw, name) for name in wished} == before


@IN_BOTH_SCOPES
def test_a_session_that_cannot_be_restored_is_replaced(
    postgresql: PostgresDatabase, wire: RecordingProxy
) -> None:
    """scenario 40: reset raises, here because the session has ended."""
    wrapper = postgresql.wrapper(pool=SESSION)
    session = postgresql.session(wrapper)
    run(wrapper, "SET statement_timeout = 1234")
    postgresql.terminate(session)
    wrapper.close()
    assert run(wrapper, "SHOW statement_timeout") == ("0",)
    assert postgresql.session(wrapper) != session


@IN_BOTH_SCOPES
def test_a_trace_of_a_thread_that_died_is_undone(
    postgresql: PostgresDatabase, wire: RecordingProxy
) -> None:
    """scenario 42 and 9: its connection comes back by itself, and clean."""
    with postgresql.alias("pooled", pool=SESSION) as wrapper:

        def leave() -> int:
            run(connections["pooled"], "SET statement_timeout = 1234")
            (pid,) = run(connections["pooled"], "SELECT pg_backend_pid()")
            return pid

        session = in_thread(leave)
        assert run(wrapper, "SHOW statement_timeout") == ("0",)
        assert postgresql.session(wrapper) == session


@IN_BOTH_SCOPES
def test_what_receivers_set_is_no_trace_of_the_lease(
    postgresql: PostgresDatabase, wire: RecordingProxy
) -> None:
    """Or each lease of a project with such a receiver would have to be undone."""

    def set_up(connection: Any, **kwargs: Any) -> None:
        run(connection, "SET lock_timeout = 4321")

    connection_created.connect(set_up)
    try:
        wrapper = postgresql.wrapper(pool=SESSION)
        for _ in range(3):
            assert run(wrapper, "SHOW lock_timeout") == ("4321ms",)
            assert price(wire, wrapper) == 0
    finally:
        connection_created.disconnect(set_up)


@IN_BOTH_SCOPES
def test_a_server_side_cursor_costs_what_its_statement_does(
    postgresql: PostgresDatabase,
    wire: RecordingProxy,
    things: Callable[[PostgresDatabase], type[Thing]],
) -> None:
    model = things(postgresql)
    with postgresql.alias("pooled", pool=SESSION) as wrapper:
        list(model.objects.using("pooled").iterator())
        assert price(wire, wrapper) == 0
        with wrapper.chunked_cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', '1234', false)")
        assert price(wire, wrapper) == 1
        assert run(wrapper, "SHOW statement_timeout") == ("0",)


def test_a_server_side_cursor_that_is_left_open_is_closed(
    postgresql: PostgresDatabase, wire: RecordingProxy
) -> None:
    held = "SELECT count(*) FROM pg_cursors WHERE is_holdable"
    for reset in ("rollback", "session"):
        wrapper = postgresql.wrapper(pool={**ROLLBACK, "reset": reset})
        cursor = wrapper.chunked_cursor()
        cursor.execute("SELECT generate_series(1, 1000)")
        assert price(wire, wrapper) == 1
        if reset == "session":
            wrapper.chunked_cursor().execute("SELECT generate_series(1, 1000)")  # and drop it
            wrapper.close()
        assert run(wrapper, held) == (0,)
        wrapper.close()
        del cursor


def test_always_does_not_look(
    postgresql: PostgresDatabase,
    wire: RecordingProxy,
    things: Callable[[PostgresDatabase], type[Thing]],
) -> None:
    """For what cannot be seen: here a trigger that changes a setting behind an INSERT."""
    things(postgresql)
    postgresql.execute(
        "CREATE FUNCTION surprise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM set_config('statement_timeout', '1234', false); RETURN NEW; END $$",
        "CREATE TRIGGER surprise AFTER INSERT ON backends_thing EXECUTE FUNCTION surprise()",
    )
    insert, look = "INSERT INTO backends_thing (name) VALUES ('one')", "SHOW statement_timeout"
    for reset, expected in (("session", "1234ms"), ("always", "0")):
        wrapper = postgresql.wrapper(pool={**SESSION, "reset": reset})
        run(wrapper, insert)
        assert price(wire, wrapper) == (0 if reset == "session" else 1)
        assert run(wrapper, look) == (expected,)
        run(wrapper, "DELETE FROM backends_thing")
        wrapper.close()


def test_always_undoes_what_session_undoes(
    postgresql: PostgresDatabase, wire: RecordingProxy, psycopg2: bool
) -> None:
    wrapper = postgresql.wrapper(pool={**SESSION, "reset": "always"}, TIME_ZONE="Asia/Karachi")
    for name, (trace, look) in TRACES.items():
        before = run(wrapper, look)
        run(wrapper, trace)
        assert price(wire, wrapper) == (2 if name == "a prepared statement" else 1)
        assert run(wrapper, look) == before, name
    wrapper.ensure_connection()
    assert type(wrapper.connection) is postgresql.raw_class, "which needs no tracking"


def test_the_default_never_looks(postgresql: PostgresDatabase, wire: RecordingProxy) -> None:
    """The driver's own classes, nothing in between."""
    wrapper = postgresql.wrapper(pool=ROLLBACK)
    wrapper.ensure_connection()
    stock = postgresql.stock()
    stock.ensure_connection()
    assert type(wrapper.connection) is type(stock.connection)
    assert wrapper.connection.cursor_factory is stock.connection.cursor_factory


@pytest.mark.parametrize("name", TRACES)
def test_the_default_undoes_no_trace_and_costs_nothing(
    postgresql: PostgresDatabase, wire: RecordingProxy, name: str
) -> None:
    """scenario 42: what the documentation says of "rollback" is true."""
    trace, look = TRACES[name]
    wrapper = postgresql.wrapper(pool=ROLLBACK)
    before = run(wrapper, look)
    run(wrapper, trace)
    after = run(wrapper, look)
    assert price(wire, wrapper) == 0
    assert run(wrapper, look) == after != before


@IN_BOTH_SCOPES
@pytest.mark.parametrize("pool", [ROLLBACK, SESSION], ids=["rollback", "session"])
def test_a_trace_in_a_transaction_that_is_open_goes_with_it(
    postgresql: PostgresDatabase, wire: RecordingProxy, pool: dict[str, Any]
) -> None:
    """scenario 39: released in a transaction. Its ROLLBACK undoes the SET in it."""
    wrapper = postgresql.wrapper(pool=pool)
    run(wrapper, "BEGIN", "SET statement_timeout = 1234")
    assert price(wire, wrapper) == (2 if pool is SESSION else 1)
    assert run(wrapper, "SHOW statement_timeout") == ("0",)


@IN_BOTH_SCOPES
@pytest.mark.parametrize("pool", [ROLLBACK, SESSION], ids=["rollback", "session"])
def test_what_was_registered_in_python_stays(
    postgresql: PostgresDatabase, wire: RecordingProxy, psycopg2: bool, pool: dict[str, Any]
) -> None:
    """scenario 42: as the documentation says. Adapters of one connection are part of its object."""
    wrapper = postgresql.wrapper(pool=pool)
    wrapper.ensure_connection()
    if psycopg2:
        extensions = import_module("psycopg2.extensions")
        number = extensions.new_type((23,), "NUMBER", lambda value, cursor: f"number {value}")
        extensions.register_type(number, wrapper.connection)
    else:
        loader = import_module("psycopg.types.string").TextLoader
        wrapper.connection.adapters.register_loader("int4", loader)
    wrapper.close()
    assert isinstance(run(wrapper, "SELECT 1")[0], str)


PIECES = [
    *("'", "''", '"', " E'", "\\", "--", "\n", "/*", "*/", "$$", ";", ",", "(", ")", " x", " U&"),
    *("::", "||", "'a'", " 1 ", " INTO ", "%", "N", "pg_catalog.", " SELECT 1 "),
    *("set_config('work_mem','99MB',false)", " SET work_mem='98MB' "),
]
"""What statements are thrown together of, to confuse a reader."""


def test_whatever_counts_as_harmless_changes_nothing_on_a_server(
    postgresql: PostgresDatabase,
) -> None:
    """Thousands of odd texts, at random but always the same: the server has the last word."""
    draw = random.Random(1)
    wrapper = postgresql.wrapper(pool=ROLLBACK)
    wrapper.ensure_connection()
    raw = wrapper.connection
    verdicts = {True: 0, False: 0}
    for _ in range(12_000):
        parts = draw.choices(PIECES, k=draw.randint(1, 8))
        statement = "SELECT 1 " + "".join(parts)
        if "work_mem" not in statement:
            continue
        harmless = is_session_neutral(statement)
        if not harmless and verdicts[False] > 50:
            continue
        with raw.cursor() as cursor, contextlib.suppress(wrapper.Database.Error):
            cursor.execute(statement)
        if run(wrapper, "SHOW work_mem") != ("4MB",):
            assert not harmless, statement
            run(wrapper, "RESET work_mem")
        verdicts[harmless] += 1
    assert verdicts[True] > 300, "and there were enough of them"
