"""Sessions that end behind our back, and servers that go away and come back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import Error, OperationalError, transaction

from pooling import DiscardReason
from tests.support.databases import PATIENCE, PostgresDatabase, eventually, in_thread

if TYPE_CHECKING:
    from tests.conftest import DatabaseSettings
    from tests.support.postgres import PrivatePostgres


def select(wrapper: Any) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()


@pytest.fixture
def own(private_postgres: PrivatePostgres, database_settings: DatabaseSettings) -> Any:
    """A database on a server that the test may stop."""
    settings = private_postgres.database_settings("pooling.backends.postgresql")
    entry = database_settings(settings.pop("ENGINE"), **settings)
    database = PostgresDatabase(entry, private_postgres.url)
    yield database
    database.close()


def test_a_session_terminated_while_idle_is_not_served(postgresql: PostgresDatabase) -> None:
    """scenario 22: found by the free socket test; `ping_after` is far away."""
    wrapper = postgresql.wrapper(pool={"ping_after": None})
    session = postgresql.session(wrapper)
    wrapper.close()
    postgresql.terminate(session)
    assert select(wrapper) == (1,)
    assert postgresql.session(wrapper) != session
    stats = wrapper.resolve_pool().stats()
    assert (stats.discards[DiscardReason.BROKEN], stats.connects) == (1, 2)


def test_all_idle_sessions_terminated_at_once_cost_nobody_an_error(
    postgresql: PostgresDatabase,
) -> None:
    """scenario 22."""
    wrappers = [postgresql.wrapper() for _ in range(4)]
    sessions = {postgresql.session(wrapper) for wrapper in wrappers}
    for wrapper in wrappers:
        wrapper.close()
    for session in sessions:
        postgresql.terminate(session)
    assert [select(wrapper) for wrapper in wrappers] == [(1,)] * 4
    assert not sessions & {postgresql.session(wrapper) for wrapper in wrappers}
    assert len(postgresql.sessions()) == 4


def test_a_session_terminated_while_leased_fails_once(postgresql: PostgresDatabase) -> None:
    """scenario 21: the request that held it gets the server's word; the next one works."""
    wrapper = postgresql.wrapper(pool={"max_size": 1, "timeout": 10})
    session = postgresql.session(wrapper)
    postgresql.terminate(session)
    with pytest.raises(Error):
        select(wrapper)
    wrapper.close()
    assert select(wrapper) == (1,)
    assert wrapper.resolve_pool().stats().discards[DiscardReason.BROKEN] == 1


def test_a_session_terminated_while_leased_and_not_used_again_is_not_kept(
    postgresql: PostgresDatabase,
) -> None:
    """Nobody saw an error, so the release knows nothing; the next lease's socket test does."""
    wrapper = postgresql.wrapper(pool={"max_size": 1, "timeout": 10, "ping_after": None})
    postgresql.terminate(postgresql.session(wrapper))
    wrapper.close()
    assert select(wrapper) == (1,)


def test_a_session_terminated_in_a_transaction_fails_once(postgresql: PostgresDatabase) -> None:
    """And the transaction is over for the wrapper, too."""
    settings = {"pool": {"max_size": 1, "timeout": 10}}
    with postgresql.alias("pooled", **settings) as wrapper:
        with pytest.raises(Error), transaction.atomic(using="pooled"):  # noqa: PT012
            postgresql.terminate(postgresql.session(wrapper))
            select(wrapper)
        with transaction.atomic(using="pooled"):
            assert select(wrapper) == (1,)


def test_a_query_still_running_means_discard(postgresql: PostgresDatabase) -> None:
    """scenario 39: nobody waits for a query that another thread runs on the connection."""
    wrapper = postgresql.wrapper(pool={"max_size": 1, "timeout": 10})
    session = postgresql.session(wrapper)
    raw, pool = wrapper.connection, wrapper.resolve_pool()

    def sleep() -> None:
        with pytest.raises(wrapper.Database.Error), raw.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(600)")

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    try:
        query = f"SELECT 1 FROM pg_stat_activity WHERE pid = {session} AND state = 'active'"
        eventually(lambda: postgresql.execute(query))
        wrapper.close()
        stats = pool.stats()
        assert (stats.idle, stats.discards[DiscardReason.BROKEN]) == (0, 1)
    finally:
        postgresql.terminate(session)
        sleeper.join(PATIENCE)
    assert not sleeper.is_alive()
    assert postgresql.session(wrapper) != session


def test_a_notification_is_no_reason_to_connect_anew(postgresql: PostgresDatabase) -> None:
    """A readable socket means "look closer", not "throw away"."""
    wrapper = postgresql.wrapper(pool={"ping_after": None})
    with wrapper.cursor() as cursor:
        cursor.execute("LISTEN channel")
    session = postgresql.session(wrapper)
    wrapper.close()
    postgresql.execute("NOTIFY channel")
    assert postgresql.session(wrapper) == session
    assert wrapper.resolve_pool().stats().connects == 1


def test_a_restart_between_two_requests_is_invisible(
    own: PostgresDatabase, private_postgres: PrivatePostgres
) -> None:
    """scenario 21: with the nearest thing to a crash."""
    wrapper = own.wrapper(pool={"min_size": 1})
    assert select(wrapper) == (1,)
    wrapper.close()
    private_postgres.restart("immediate")
    assert select(wrapper) == (1,)
    wrapper.close()


def test_a_request_waits_for_a_server_that_is_coming_back(
    own: PostgresDatabase, private_postgres: PrivatePostgres
) -> None:
    """scenario 29: refused connects are tried again within the caller's `timeout`."""
    wrapper = own.wrapper(pool={"timeout": PATIENCE})
    assert select(wrapper) == (1,)
    wrapper.close()
    pool = wrapper.resolve_pool()
    private_postgres.stop()
    results: list[Any] = []
    request = threading.Thread(
        target=lambda: results.append(select(own.wrapper(pool={"timeout": PATIENCE})))
    )
    request.start()
    # The request has been refused at least twice before the server is there again.
    eventually(lambda: pool.stats().connect_errors >= 2)
    assert results == []
    private_postgres.start()
    request.join(PATIENCE * 2)
    assert results == [(1,)]


def test_a_server_that_stays_away_is_a_clear_error_within_the_timeout(
    own: PostgresDatabase, private_postgres: PrivatePostgres
) -> None:
    """scenario 13: connect fails for all, and the error says why."""
    private_postgres.stop()
    wrapper = own.wrapper(pool={"timeout": 1, "name": "away"})
    with pytest.raises(OperationalError) as caught:
        wrapper.ensure_connection()
    message = str(caught.value)
    assert "pool 'away': no connection within 1 s" in message
    assert "refused" in message
    assert private_postgres.password not in message
    assert caught.value.__cause__.__cause__ is not None
    private_postgres.start()
    assert in_thread(lambda: select(own.wrapper(pool={"timeout": PATIENCE}))) == (1,)
