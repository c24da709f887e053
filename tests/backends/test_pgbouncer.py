"""Pools in front of a real PgBouncer: its three modes, its restarts, its commands and errors.

Scenario 73.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.db import Error, OperationalError, connections, transaction
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from pooling import DiscardReason
from tests.backends.test_outages_restart import THREADS, Crowd, request
from tests.support.databases import PATIENCE, PostgresDatabase, eventually
from tests.support.pgbouncer import PgBouncer, missing, version
from tests.support.postgres import PrivatePostgres
from tests.support.servers import driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.backends.conftest import Thing
    from tests.conftest import DatabaseSettings

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

SCOPES = ["request", "transaction"]
MODES = ["session", "transaction"]
UNPOOLED = ["transaction", "statement"]
"""The modes in which a client has no session of its own."""
ROUNDS = 3
EVERY = {"timeout": PATIENCE, "fail_fast": None}
"""Options of pools whose callers wait until the server is back."""


@pytest.fixture
def bounced(postgresql: PostgresDatabase) -> Iterator[Callable[..., PgBouncer]]:
    """A function that starts a PgBouncer in front of the test's database."""
    with ExitStack() as stack:
        yield lambda *args, **settings: stack.enter_context(
            PgBouncer(postgresql, *args, **settings)
        )


def error_text(text: str) -> str:
    """Return a pattern of the error with which PgBouncer closes a connection; psycopg2 drops it."""
    if driver().__name__ == "psycopg2":
        return "server closed the connection unexpectedly"
    return text


def ask(wrapper: Any, sql: str) -> Any:
    """Run a statement; return the first value of its answer, if it has one."""
    with wrapper.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


@contextmanager
def in_transaction(database: PostgresDatabase) -> Iterator[Any]:
    """Keep one of PgBouncer's connections to the server busy, as another client."""
    wrapper = database.wrapper(pool={"name": "other"})
    with database.known_as("other", wrapper), transaction.atomic(using="other"):
        ask(wrapper, "SELECT 1")
        yield wrapper
    wrapper.close()


@contextmanager
def another_query(bouncer: PgBouncer) -> Iterator[None]:
    """Keep the connection that PgBouncer would use next busy with a long query, and cancel it."""
    wrapper = bouncer.database.wrapper(pool={"name": "other"})
    wrapper.inc_thread_sharing()
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(ask, wrapper, "SELECT pg_sleep(60)")
        eventually(lambda: running(bouncer.database, "pg_sleep"))
        try:
            yield
        finally:
            wrapper.resolve_pool()._driver.cancel(wrapper.connection)
            with pytest.raises(OperationalError, match="canceling statement"):
                future.result(PATIENCE)
            wrapper.close()


def discarded(wrapper: Any) -> int:
    return int(wrapper.resolve_pool().stats().discards[DiscardReason.BROKEN])


# Session mode


@pytest.mark.parametrize("scope", SCOPES)
def test_session_mode_keeps_a_session_and_the_pool_resets_it(
    bounced: Callable[..., PgBouncer], scope: str
) -> None:
    """`reset="session"`, which `scope="transaction"` implies, works as without PgBouncer."""
    database = bounced(pool_mode="session").database
    pool = {"max_size": 1, "reset": "session"} if scope == "request" else {"scope": scope}
    wrapper = database.wrapper(pool={"max_size": 1, **pool})
    session = database.session(wrapper)
    ask(wrapper, "SET statement_timeout = 12345")
    ask(wrapper, "CREATE TEMPORARY TABLE leftover (id integer)")
    ask(wrapper, "SELECT pg_advisory_lock(42)")
    assert ask(wrapper, "SHOW statement_timeout") == "12345ms"
    assert ask(wrapper, "SELECT count(*) FROM leftover") == 0
    wrapper.close()

    assert database.session(wrapper) == session
    assert ask(wrapper, "SHOW statement_timeout") == "0"
    assert ask(wrapper, "SELECT to_regclass('leftover')") is None
    # Only of this database: other tests use the server at the same time.
    assert database.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())"
    ) == [(0,)]


@pytest.mark.parametrize("pool", [{}, {"scope": "transaction"}], ids=SCOPES)
def test_session_mode_has_server_side_cursors_and_the_role(
    bounced: Callable[..., PgBouncer],
    role: str,
    things: Callable[[PostgresDatabase], type[Thing]],
    pool: dict[str, Any],
) -> None:
    database = bounced(pool_mode="session").database
    model = things(database)
    database.execute(
        "INSERT INTO backends_thing (name) SELECT 'thing ' || n FROM generate_series(1, 50) n",
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT SELECT ON backends_thing TO {role}",
    )
    wrapper = database.wrapper(pool=pool, OPTIONS={"assume_role": role})
    with database.known_as("pooled", wrapper):
        iterator = model.objects.using("pooled").iterator(chunk_size=10)
        next(iterator)
        with in_transaction(database) as other:
            assert len(list(iterator)) == 49
            assert ask(wrapper, "SELECT current_user") == role
            assert ask(other, "SELECT current_user") != role


def test_session_mode_has_budgets(bounced: Callable[..., PgBouncer]) -> None:
    """Two processes share a budget of one connection through PgBouncer."""
    database = bounced(pool_mode="session").database
    options = {"budget": 1, "max_size": 2, "reset": "session"}
    first, second = (
        database.wrapper(pool={**options, "name": name, **EVERY}) for name in ("first", "second")
    )
    assert ask(first, "SELECT 1") == 1
    second.inc_thread_sharing()
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(ask, second, "SELECT 1")
        pool = second.resolve_pool()
        eventually(lambda: pool.stats().waiting)
        assert ask(first, "SELECT 2") == 2
        assert pool.stats().waiting == 1
        first.close()
        assert future.result(PATIENCE) == 1


def test_in_session_mode_idle_connections_of_a_pool_keep_their_place(
    bounced: Callable[..., PgBouncer],
) -> None:
    """A second process gets nothing until the first one's connections are closed."""
    database = bounced(1, pool_mode="session", query_wait_timeout=1).database
    first, second = (database.wrapper(pool={"name": name}) for name in ("first", "second"))
    ask(first, "SELECT 1")
    first.close()
    with pytest.raises(OperationalError, match=error_text("query_wait_timeout")):
        ask(second, "SELECT 1")
    second.close()

    first.resolve_pool().drain()
    assert ask(second, "SELECT 1") == 1


# Transaction mode


@pytest.mark.parametrize("pool", [{}, {"scope": "transaction"}], ids=SCOPES)
def test_transaction_mode_serves_the_orm(
    bounced: Callable[..., PgBouncer],
    things: Callable[[PostgresDatabase], type[Thing]],
    pool: dict[str, Any],
) -> None:
    """Eight threads with transactions, savepoints and iterators share two connections."""
    bouncer = bounced(2, pool_mode="transaction")
    database = bouncer.database
    model = things(database)
    changes = {"DISABLE_SERVER_SIDE_CURSORS": True, "pool": {"max_size": THREADS, **pool}}
    barrier = threading.Barrier(THREADS)

    def work(number: int) -> None:
        barrier.wait(PATIENCE)
        objects = model.objects.using("pooled")
        for turn in range(10):
            name = f"{number}/{turn}"
            with transaction.atomic(using="pooled"):
                objects.create(name=name)
                with pytest.raises(Error), transaction.atomic(using="pooled"):
                    objects.create(name=name)
            found = objects.filter(name__startswith=f"{number}/")
            assert len(list(found.iterator(chunk_size=2))) == turn + 1
            connections["pooled"].close()

    with database.alias("pooled", **changes), ThreadPoolExecutor(THREADS) as executor:
        for future in [executor.submit(work, number) for number in range(THREADS)]:
            future.result(PATIENCE)
    assert database.execute("SELECT count(*) FROM backends_thing") == [(THREADS * 10,)]
    assert 1 <= len(database.sessions()) <= 2


@pytest.mark.parametrize("mode", UNPOOLED)
@pytest.mark.parametrize("pool", [{}, {"scope": "transaction"}], ids=SCOPES)
def test_each_client_keeps_its_time_zone(
    bounced: Callable[..., PgBouncer], mode: str, pool: dict[str, Any]
) -> None:
    """PgBouncer itself sets it before it passes a query on to a connection of another client's."""
    database = bounced(1, pool_mode=mode).database
    zones = ("Europe/Vienna", "Asia/Tokyo")
    wrappers = [database.wrapper(TIME_ZONE=zone, pool=pool) for zone in zones]
    for _ in range(3):
        for wrapper, zone in zip(wrappers, zones, strict=True):
            assert ask(wrapper, "SHOW TimeZone") == zone
            wrapper.close()
    assert len(database.sessions()) == 1


@pytest.mark.parametrize("mode", UNPOOLED)
@pytest.mark.parametrize("pool", [{}, {"scope": "transaction"}], ids=SCOPES)
def test_server_side_cursors_are_lost_outside_of_transactions(
    bounced: Callable[..., PgBouncer],
    things: Callable[[PostgresDatabase], type[Thing]],
    mode: str,
    pool: dict[str, Any],
) -> None:
    """They work with `DISABLE_SERVER_SIDE_CURSORS`, or in a transaction."""
    bouncer = bounced(2, pool_mode=mode)
    database = bouncer.database
    model = things(database)
    database.execute(
        "INSERT INTO backends_thing (name) SELECT 'thing ' || n FROM generate_series(1, 50) n"
    )

    def read(**changes: Any) -> int:
        wrapper = database.wrapper(pool=pool, **changes)
        try:
            with database.known_as("pooled", wrapper):
                iterator = model.objects.using("pooled").iterator(chunk_size=10)
                next(iterator)
                with another_query(bouncer):
                    return len(list(iterator))
        finally:
            wrapper.close()

    # The driver's error, where Django closes the cursor.
    with pytest.raises((Error, driver().Error), match=r'cursor ".+" does not exist'):
        read()
    assert read(DISABLE_SERVER_SIDE_CURSORS=True) == 49
    if mode == "statement":
        return

    wrapper = database.wrapper(pool=pool)
    with database.known_as("pooled", wrapper), transaction.atomic(using="pooled"):
        iterator = model.objects.using("pooled").iterator(chunk_size=10)
        next(iterator)
        with in_transaction(database):
            assert len(list(iterator)) == 49


@pytest.mark.parametrize("mode", MODES)
def test_only_session_mode_has_prepared_statements(
    bounced: Callable[..., PgBouncer], psycopg2: bool, mode: str
) -> None:
    """Django turns them off, unless OPTIONS have `prepare_threshold` and `server_side_binding`."""
    if psycopg2:
        pytest.skip("psycopg2 prepares no statements")
    off = {"max_prepared_statements": 0} if version() >= (1, 21) else {}
    database = bounced(1, pool_mode=mode, **off).database
    binding = {"server_side_binding": True}

    def use(name: str, **options: Any) -> None:
        wrapper = database.wrapper(pool={"name": name}, OPTIONS=options)
        with wrapper.cursor() as cursor:
            for number in range(10):
                cursor.execute("SELECT %s::int", [number])
                assert cursor.fetchone() == (number,)
        wrapper.close()
        if mode == "session":
            wrapper.resolve_pool().drain()  # PgBouncer resets the session for the next client

    use("first", prepare_threshold=0, **binding)
    if mode == "session":
        use("second", prepare_threshold=0, **binding)
        return
    with pytest.raises(Error, match=r'prepared statement "\w+" already exists'):
        use("second", prepare_threshold=0, **binding)
    use("third", prepare_threshold=0)
    use("fourth", **binding)
    use("fifth")


@pytest.mark.parametrize(
    "pool", [{}, {"reset": "session"}, {"reset": "always"}, {"scope": "transaction"}], ids=str
)
@pytest.mark.parametrize(
    ("statement", "question", "lost", "left"),
    [
        ("SET statement_timeout = 12345", "SHOW statement_timeout", "0", "12345ms"),
        (
            "CREATE TEMPORARY TABLE leftover (id integer)",
            "SELECT to_regclass('leftover')::text",
            None,
            "leftover",
        ),
        (
            "SELECT pg_advisory_lock(42)",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
            0,
            1,
        ),
        ("LISTEN news", "SELECT count(*) FROM pg_listening_channels()", 0, 1),
    ],
    ids=["SET", "temporary table", "advisory lock", "LISTEN"],
)
def test_transaction_mode_loses_what_a_client_sets_and_no_reset_finds_it(
    bounced: Callable[..., PgBouncer],
    pool: dict[str, Any],
    statement: str,
    question: str,
    lost: Any,
    left: Any,
) -> None:
    """The client does not have it in its next transaction, and another one does."""
    database = bounced(2, pool_mode="transaction").database
    wrapper = database.wrapper(pool=pool)
    ask(wrapper, statement)
    with in_transaction(database) as other:
        assert ask(wrapper, question) == lost
        wrapper.close()
        assert ask(other, question) == left


def test_transaction_mode_keeps_set_local(bounced: Callable[..., PgBouncer]) -> None:
    database = bounced(2, pool_mode="transaction").database
    wrapper = database.wrapper()

    with transaction_of(database, wrapper):
        ask(wrapper, "SET LOCAL statement_timeout = 23456")
        with in_transaction(database):
            assert ask(wrapper, "SHOW statement_timeout") == "23456ms"


def test_transaction_mode_has_isolation_levels_in_transactions(
    bounced: Callable[..., PgBouncer],
) -> None:
    database = bounced(2, pool_mode="transaction").database
    level = {"isolation_level": IsolationLevel.SERIALIZABLE}
    wrapper = database.wrapper(OPTIONS=level)
    ask(wrapper, "SELECT 1")
    with in_transaction(database) as other, transaction_of(database, wrapper):
        assert ask(wrapper, "SHOW transaction_isolation") == "serializable"
        assert ask(other, "SHOW transaction_isolation") == "read committed"


def test_transaction_mode_loses_the_role(bounced: Callable[..., PgBouncer], role: str) -> None:
    """Another client gets it: `assume_role` is not to be used there."""
    database = bounced(2, pool_mode="transaction").database
    wrapper = database.wrapper(OPTIONS={"assume_role": role})
    assert ask(wrapper, "SELECT current_user") == role
    with in_transaction(database) as other:
        assert ask(wrapper, "SELECT current_user") != role
        assert ask(other, "SELECT current_user") == role


@contextmanager
def transaction_of(database: PostgresDatabase, wrapper: Any) -> Iterator[None]:
    with database.known_as("pooled", wrapper), transaction.atomic(using="pooled"):
        yield


@pytest.mark.parametrize("mode", [*MODES, "statement"])
def test_options_for_the_server_are_refused_at_once(
    bounced: Callable[..., PgBouncer], mode: str
) -> None:
    """PgBouncer refuses `OPTIONS["options"]`, or is told to ignore it; both are permanent."""
    bouncer = bounced(pool_mode=mode, ignore_startup_parameters="extra_float_digits")
    database = bouncer.database
    options = {"options": "-c statement_timeout=12345"}
    refused = database.wrapper(OPTIONS=options, pool=EVERY)
    with pytest.raises(OperationalError, match="unsupported startup parameter"):
        ask(refused, "SELECT 1")
    assert refused.resolve_pool().stats().connect_errors == 1

    bouncer.reload(ignore_startup_parameters="extra_float_digits,options")
    assert ask(database.wrapper(OPTIONS=options), "SHOW statement_timeout") == "0"


@pytest.mark.parametrize("mode", [*MODES, "statement"])
def test_a_query_is_cancelled_through_pgbouncer(
    bounced: Callable[..., PgBouncer], mode: str
) -> None:
    database = bounced(pool_mode=mode).database
    wrapper = database.wrapper()
    pool = wrapper.resolve_pool()
    wrapper.inc_thread_sharing()
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(ask, wrapper, "SELECT pg_sleep(60)")
        eventually(lambda: running(database, "pg_sleep"))
        pool._driver.cancel(wrapper.connection)
        with pytest.raises(OperationalError, match="canceling statement due to user request"):
            future.result(PATIENCE)
    assert ask(wrapper, "SELECT 1") == 1


def running(database: PostgresDatabase, text: str) -> int:
    [(count,)] = database.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
        f"AND query LIKE '%{text}%' AND pid <> pg_backend_pid()"
    )
    return int(count)


# Statement mode


@pytest.mark.parametrize("pool", [{}, {"scope": "transaction"}], ids=SCOPES)
def test_statement_mode_refuses_transactions(
    bounced: Callable[..., PgBouncer], pool: dict[str, Any]
) -> None:
    """It closes the connection, which the pool replaces; statements alone are served."""
    database = bounced(pool_mode="statement").database
    wrapper = database.wrapper(pool=pool)
    assert ask(wrapper, "SELECT 1") == 1
    with (
        pytest.raises(Error, match=error_text("not allowed in statement pooling mode")),
        transaction_of(database, wrapper),
    ):
        ask(wrapper, "SELECT 1")
    wrapper.close()

    assert discarded(wrapper) == 1
    assert ask(wrapper, "SELECT 1") == 1


# Restart, reload, and commands on the console


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pool", [{}, {"scope": "transaction"}], ids=SCOPES)
def test_a_restart_costs_the_requests_under_way_and_no_other(
    bounced: Callable[..., PgBouncer], mode: str, pool: dict[str, Any]
) -> None:
    bouncer = bounced(pool_mode=mode)
    restarts: list[tuple[float, float]] = []
    with Crowd(bouncer.database, **pool) as crowd:
        for _ in range(ROUNDS):
            crowd.wait_for(THREADS * 10)
            begin = time.monotonic()
            bouncer.restart()
            restarts.append((begin, time.monotonic()))
        crowd.wait_for(THREADS * 10)
    for failure in crowd.failed:
        assert any(failure.began < end and begin < failure.ended for begin, end in restarts)
    assert len(crowd.failed) <= THREADS * ROUNDS
    assert_nothing_is_lost(bouncer, **pool)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pool", [{}, {"scope": "transaction"}], ids=SCOPES)
def test_a_restart_while_no_request_is_under_way_costs_none(
    bounced: Callable[..., PgBouncer], mode: str, pool: dict[str, Any]
) -> None:
    """The threads go on as soon as PgBouncer is down, and wait for it."""
    bouncer = bounced(pool_mode=mode)
    with Crowd(bouncer.database, **pool) as crowd:
        for _ in range(ROUNDS):
            crowd.wait_for(THREADS * 10)
            crowd.rest()
            bouncer.close()
            errors = pool_of(bouncer, **pool).stats().connect_errors
            crowd.go_on()
            eventually(lambda: pool_of(bouncer, **pool).stats().connect_errors > errors)  # noqa: B023
            bouncer.start()
        crowd.wait_for(THREADS * 10)
    assert crowd.failed == []
    assert_nothing_is_lost(bouncer, **pool)


def pool_of(bouncer: PgBouncer, **pool: Any) -> Any:
    """Return the pool of the threads."""
    return Crowd(bouncer.database, **pool).wrapper().resolve_pool()


def assert_nothing_is_lost(bouncer: PgBouncer, **pool: Any) -> None:
    """All connections are idle, there are not too many, and PgBouncer has no others."""
    of_threads = pool_of(bouncer, **pool)
    eventually(lambda: not of_threads.stats().connecting)
    stats = of_threads.stats()
    assert stats.idle == stats.size <= THREADS
    assert stats.recovered == 0
    eventually(lambda: bouncer.clients() == stats.size)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("by", ["signal", "console"])
def test_a_reload_costs_nothing(bounced: Callable[..., PgBouncer], mode: str, by: str) -> None:
    bouncer = bounced(THREADS, pool_mode=mode)
    with Crowd(bouncer.database) as crowd:
        for number in range(ROUNDS):
            crowd.wait_for(THREADS * 10)
            if by == "signal":
                bouncer.reload(default_pool_size=THREADS + 1 + number)
            else:
                bouncer.console("RELOAD")
        crowd.wait_for(THREADS * 10)
    assert crowd.failed == []
    assert pool_of(bouncer).stats().connects <= THREADS
    assert_nothing_is_lost(bouncer)


def test_pause_and_resume_let_requests_wait(bounced: Callable[..., PgBouncer]) -> None:
    """In transaction mode, as for a restart of the server; RECONNECT too costs nothing.

    PgBouncer has all its connections then: if it pauses while it opens one, 1.18 takes that for a
    failed login, and refuses queries for `server_login_retry` seconds.
    """
    bouncer = bounced(2, pool_mode="transaction")
    with Crowd(bouncer.database) as crowd:
        for command in ("RESUME", "RESUME", "RECONNECT"):
            crowd.wait_for(THREADS * 10)
            eventually(lambda: bouncer.pool_state("sv_active", "sv_idle", "sv_used") == 2)
            if command == "RESUME":
                bouncer.console("PAUSE")
                eventually(lambda: bouncer.pool_state("cl_waiting"))
            bouncer.console(command)
        crowd.wait_for(THREADS * 10)
    assert crowd.failed == []
    assert_nothing_is_lost(bouncer)


def test_pause_in_session_mode_waits_for_the_pool_to_drain(
    bounced: Callable[..., PgBouncer],
) -> None:
    """An idle connection of the pool is a client that has not left yet."""
    bouncer = bounced(pool_mode="session")
    name = bouncer.direct.entry["NAME"]
    wrapper = bouncer.database.wrapper(pool=EVERY)
    wrapper.inc_thread_sharing()
    request(wrapper)
    with ThreadPoolExecutor(2) as executor:
        paused = executor.submit(bouncer.console, f"PAUSE {name}")
        try:
            eventually(lambda: any(row["paused"] for row in bouncer.console("SHOW DATABASES")))
            assert not paused.done()
        finally:
            wrapper.resolve_pool().drain()
        paused.result(PATIENCE)

        again = executor.submit(request, wrapper)
        eventually(bouncer.clients)
        bouncer.console(f"RESUME {name}")
        again.result(PATIENCE)


def test_a_server_behind_pgbouncer_that_restarts_costs_no_connection(
    bounced: Callable[..., PgBouncer],
) -> None:
    """In transaction mode PgBouncer replaces its own connections; clients keep theirs."""
    bouncer = bounced(pool_mode="transaction")
    database = bouncer.database
    wrapper = database.wrapper()
    for _ in range(3):
        session = database.session(wrapper)
        wrapper.close()
        database.terminate(session)
        assert database.session(wrapper) != session
        wrapper.close()
    assert wrapper.resolve_pool().stats().connects == 1


# Errors of PgBouncer


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgres]:
    """A server to be stopped."""
    with PrivatePostgres() as server:
        yield server


@pytest.fixture
def own(server: PrivatePostgres, database_settings: DatabaseSettings) -> PostgresDatabase:
    """Its database."""
    if not server.is_running:  # a test has failed
        server.start()
    settings = server.database_settings("pooling.backends.postgresql")
    entry = database_settings(settings.pop("ENGINE"), **settings)
    return PostgresDatabase(entry, server.url)


@pytest.mark.parametrize("setting", ["query_wait_timeout", "client_login_timeout"])
def test_a_connect_is_tried_again_while_pgbouncer_has_no_server(
    own: PostgresDatabase, server: PrivatePostgres, setting: str
) -> None:
    """Callers wait, at most for `timeout`, as for a server without PgBouncer."""
    settings = {"pool_mode": "transaction", "server_login_retry": 1, setting: 1}
    with PgBouncer(own, **settings) as bouncer:
        server.stop()
        bouncer.restart()  # it has never reached the server
        assert_waits_for(server, bouncer.database.wrapper(pool=EVERY), setting)


def test_a_connect_is_tried_again_while_pgbouncer_cannot_log_in(
    own: PostgresDatabase, server: PrivatePostgres
) -> None:
    """It accepts clients, and refuses their first query: here the one that sets the time zone."""
    with PgBouncer(own, pool_mode="transaction", query_wait_timeout=1, server_login_retry=1) as it:
        request(it.database.wrapper(pool={"name": "other"}))
        server.stop()
        wrapper = it.database.wrapper(pool=EVERY, TIME_ZONE="Europe/Vienna")
        assert_waits_for(server, wrapper, error_text("server login has been failing"))


def assert_waits_for(server: PrivatePostgres, wrapper: Any, text: str) -> None:
    """Connect while a server is down, and start it after the first error with the text."""
    pool = wrapper.resolve_pool()
    wrapper.inc_thread_sharing()
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(request, wrapper)
        try:
            eventually(lambda: text in str(pool.stats().last_error))
        finally:
            server.start()
        future.result(PATIENCE)


def test_queries_fail_while_pgbouncer_has_no_server_and_no_longer(
    own: PostgresDatabase, server: PrivatePostgres
) -> None:
    """PgBouncer still accepts connections, so the pool's own waiting does not help."""
    with PgBouncer(own, pool_mode="transaction", query_wait_timeout=1, server_login_retry=1) as it:
        wrapper = it.database.wrapper(pool=EVERY)
        request(wrapper)
        server.stop()
        try:
            for text in ("query_wait_timeout|server login has", "server login has been failing"):
                with pytest.raises(OperationalError, match=error_text(text)):
                    request(wrapper)
        finally:
            server.start()
        eventually(lambda: serves(wrapper))
        request(wrapper)
        stats = wrapper.resolve_pool().stats()
        assert stats.discards[DiscardReason.BROKEN] == stats.connects - 1
        assert stats.connect_errors == 0


def serves(wrapper: Any) -> bool:
    try:
        request(wrapper)
    except OperationalError:
        return False
    return True


def test_a_connect_is_tried_again_while_pgbouncer_is_full(
    bounced: Callable[..., PgBouncer],
) -> None:
    """`max_client_conn`."""
    database = bounced(max_client_conn=2).database
    others = [database.wrapper(pool={"name": "other"}) for _ in range(2)]
    for other in others:
        ask(other, "SELECT 1")
    wrapper = database.wrapper(pool=EVERY)
    wrapper.inc_thread_sharing()
    pool = wrapper.resolve_pool()
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(request, wrapper)
        eventually(lambda: "no more connections allowed" in str(pool.stats().last_error))
        for other in others:
            other.close()
        drain_all(database)
        future.result(PATIENCE)
    assert pool.stats().connects == 1


def test_a_database_that_is_disabled_is_refused_at_once(bounced: Callable[..., PgBouncer]) -> None:
    """DISABLE and ENABLE; idle connections go on."""
    bouncer = bounced()
    name = bouncer.direct.entry["NAME"]
    first, second = (bouncer.database.wrapper(pool=EVERY) for _ in range(2))
    ask(first, "SELECT 1")
    bouncer.console(f"DISABLE {name}")
    with pytest.raises(OperationalError, match="is disabled"):
        ask(second, "SELECT 1")
    assert second.resolve_pool().stats().connect_errors == 1
    first.close()
    request(second)

    bouncer.console(f"ENABLE {name}")
    assert ask(first, "SELECT 1") == ask(second, "SELECT 1") == 1


@pytest.mark.parametrize("pool", [{}, {"scope": "transaction"}], ids=SCOPES)
def test_reads_are_replayed_after_a_restart(
    bounced: Callable[..., PgBouncer], pool: dict[str, Any]
) -> None:
    """`replay_reads` saves the first read of a lease whose connection PgBouncer has closed."""
    bouncer = bounced(pool_mode="transaction")
    wrapper = bouncer.database.wrapper(pool={"replay_reads": True, **EVERY, **pool})
    ask(wrapper, "SELECT 1")
    wrapper.close()
    with wrapper.cursor() as cursor:
        bouncer.restart()
        cursor.execute("SELECT 2")
        assert cursor.fetchone() == (2,)
    assert wrapper.resolve_pool().stats().replayed == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "pool", [{}, {"scope": "transaction"}, {"reset": "session"}], ids=[*SCOPES, "reset"]
)
def test_a_query_that_waited_too_long_loses_its_connection(
    bounced: Callable[..., PgBouncer], mode: str, pool: dict[str, Any]
) -> None:
    """`query_wait_timeout`: PgBouncer closes the connection, and the pool discards it."""
    database = bounced(1, pool_mode=mode, query_wait_timeout=1).database
    wrapper = database.wrapper(pool=pool)
    with in_transaction(database):
        with wrapper.cursor() as cursor:
            connection = wrapper.connection
            with pytest.raises(OperationalError, match=error_text("query_wait_timeout")) as caught:
                cursor.execute("SELECT 1")
            assert wrapper.resolve_pool()._driver.has_ended(connection, caught.value.__cause__)
        wrapper.close()
        assert discarded(wrapper) == 1
    drain_all(database)

    assert ask(wrapper, "SELECT 1") == 1
    assert wrapper.resolve_pool().stats().connects == 2


def drain_all(database: PostgresDatabase) -> None:
    """Close the connections of the other client's pool, which keep their place in session mode."""
    database.wrapper(pool={"name": "other"}).resolve_pool().drain()


# Moving away


def test_processes_with_and_without_pgbouncer_serve_one_site(
    bounced: Callable[..., PgBouncer],
    postgresql: PostgresDatabase,
    things: Callable[[PostgresDatabase], type[Thing]],
) -> None:
    """A change of HOST and PORT is all there is to it, in either direction."""
    through, direct = bounced(pool_mode="transaction").database, postgresql
    model = things(direct)
    for turn in range(2):
        for name, database in (("through", through), ("direct", direct)):
            with database.alias("pooled"):
                model.objects.using("pooled").create(name=f"{name} {turn}")
                assert model.objects.using("pooled").filter(name__endswith=turn).exists()
    assert direct.execute("SELECT count(*) FROM backends_thing") == [(4,)]
