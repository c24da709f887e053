"""Servers that cannot be connected to: for the moment, or not like this."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError

from pooling import DiscardReason
from tests.support.databases import PATIENCE, PostgresDatabase, eventually, in_threads
from tests.support.faulty_servers import REPLICATION, error_server, fill, starting_up
from tests.support.postgres import PrivatePostgres
from tests.support.timing import TRIES, overshoot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import DatabaseSettings
    from tests.support.fault_proxy import FaultProxy

pytest_plugins = ["tests.support.fault_fixtures"]


@pytest.fixture(scope="module")
def small_server() -> Iterator[PrivatePostgres]:
    """A server with few connections to give, and none in reserve."""
    limits = {"superuser_reserved_connections": "0", "reserved_connections": "0"}
    with PrivatePostgres(max_connections=5, configuration={**REPLICATION, **limits}) as server:
        yield server


@pytest.fixture
def small(
    small_server: PrivatePostgres, database_settings: DatabaseSettings
) -> Iterator[PostgresDatabase]:
    """Its database."""
    settings = small_server.database_settings("pooling.backends.postgresql")
    entry = database_settings(settings.pop("ENGINE"), **settings)
    database = PostgresDatabase(entry, small_server.url)
    yield database
    database.close()


def select(wrapper: Any) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()


def request(database: PostgresDatabase, **settings: Any) -> Any:
    """Do what a request does, with a wrapper of its own."""
    wrapper = database.wrapper(**settings)
    try:
        return select(wrapper)
    finally:
        wrapper.close()


def pool_of(database: PostgresDatabase, **settings: Any) -> Any:
    return database.wrapper(**settings).resolve_pool()


# ---- refused, and back again -------------------------------------------------------------------


def test_one_failed_connect_fails_nobody(proxied: PostgresDatabase, proxy: FaultProxy) -> None:
    """scenario 12: connect fails once, and all those who wait are served all the same."""
    settings = {"pool": {"timeout": PATIENCE, "max_size": 3}}
    proxy.truncate(1)
    results = in_threads(3, lambda: request(proxied, **settings))
    assert results == [(1,)] * 3
    # All may have been served while the failed attempt is not over yet.
    eventually(lambda: pool_of(proxied, **settings).stats().connect_errors == 1)


def test_a_pool_recovers_by_itself_within_a_second_of_its_server(
    proxied: PostgresDatabase, proxy: FaultProxy
) -> None:
    """scenario 29: everybody who waited during the outage is served, the first within a second."""
    settings = {"pool": {"timeout": PATIENCE, "max_size": 4, "fail_fast": None}}
    pool = pool_of(proxied, **settings)
    delays = []
    for _ in range(TRIES):
        assert request(proxied, **settings) == (1,)
        proxy.refuse()
        proxy.drop()
        refusals = pool.stats().connect_errors + 3
        served: list[float] = []

        def use(served: list[float] = served) -> None:
            request(proxied, **settings)
            served.append(time.monotonic())

        with ThreadPoolExecutor(6) as executor:
            futures = [executor.submit(use) for _ in range(6)]
            eventually(lambda refusals=refusals: pool.stats().connect_errors >= refusals)
            assert served == []
            back = time.monotonic()
            proxy.serve()
            for future in futures:
                future.result(PATIENCE)
        delays.append(min(served) - back)
        if delays[-1] < 1:
            break
    assert min(delays) < 1
    assert (pool.stats().timeouts, pool.stats().leased) == (0, 0)


def test_callers_wait_while_a_server_is_starting_up(
    small: PostgresDatabase, small_server: PrivatePostgres
) -> None:
    """scenario 21: "the database system is starting up" is no answer for a request."""
    settings = {"pool": {"timeout": PATIENCE * 2, "fail_fast": None}}
    assert request(small, **settings) == (1,)
    pool = pool_of(small, **settings)
    small_server.stop()
    with ThreadPoolExecutor(2) as executor:
        with starting_up(small_server):
            futures = [executor.submit(lambda: request(small, **settings)) for _ in range(2)]
            eventually(lambda: "starting up" in (pool.stats().last_error or ""))
            assert not any(future.done() for future in futures)
        assert [future.result(PATIENCE * 2) for future in futures] == [(1,)] * 2


@pytest.mark.parametrize(
    ("sqlstate", "words"),
    [
        ("57P01", "terminating connection due to administrator command"),
        ("57P03", "the database system is shutting down"),
        ("57P03", "the database system is in recovery mode"),
        ("53300", 'too many connections for role "demo"'),
        ("08P01", "no more connections allowed (max_client_conn)"),
    ],
)
def test_callers_wait_while_a_server_makes_excuses(
    proxied: PostgresDatabase, proxy: FaultProxy, sqlstate: str, words: str
) -> None:
    """scenario 21: what a server says when it is about to go, or has just come, is no answer."""
    settings = {"pool": {"timeout": PATIENCE, "fail_fast": None}}
    pool = pool_of(proxied, **settings)
    server = proxy.server
    with ThreadPoolExecutor(1) as executor:
        with error_server(sqlstate, words) as (host, port):
            proxy.aim(host, port)
            future = executor.submit(lambda: request(proxied, **settings))
            eventually(lambda: words in (pool.stats().last_error or ""))
            assert not future.done()
            proxy.aim(*server)
        assert future.result(PATIENCE) == (1,)


# ---- full --------------------------------------------------------------------------------------


def test_a_caller_waits_for_a_place_at_a_server_that_is_full(
    small: PostgresDatabase, small_server: PrivatePostgres
) -> None:
    """scenario 16: at `max_connections`; somebody lets go, and the caller gets through."""
    settings = {"pool": {"timeout": PATIENCE, "fail_fast": None}}
    others = fill(small_server, leave=0)
    pool = pool_of(small, **settings)
    try:
        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(lambda: request(small, **settings))
            eventually(lambda: pool.stats().connect_errors >= 2)
            assert not future.done()
            others.pop().close()
            assert future.result(PATIENCE) == (1,)
    finally:
        for each in others:
            each.close()


def test_a_full_server_is_the_cause_of_a_time_out(
    small: PostgresDatabase, small_server: PrivatePostgres
) -> None:
    """scenario 16: nobody lets go."""
    settings = {"pool": {"timeout": 0.3, "fail_fast": None}}
    pool = pool_of(small, **settings)
    others = fill(small_server, leave=0)
    try:
        while not pool.stats().connect_errors:  # which takes its time on a busy machine
            with pytest.raises(OperationalError, match=r"no connection within 0\.3 s"):
                request(small, **settings)
        with pytest.raises(OperationalError, match="too many clients") as caught:
            request(small, **settings)
    finally:
        for each in others:
            each.close()
    pool_error = caught.value.__cause__
    assert pool_error is not None
    assert "too many clients" in str(pool_error.__cause__)


def test_a_pool_makes_do_with_what_a_full_server_gives(
    small: PostgresDatabase, small_server: PrivatePostgres
) -> None:
    """scenario 16: one place for a pool that may have three; nobody fails."""
    settings = {"pool": {"timeout": PATIENCE, "max_size": 3, "fail_fast": None}}
    others = fill(small_server, leave=1)
    try:
        assert in_threads(6, lambda: request(small, **settings)) == [(1,)] * 6
        assert pool_of(small, **settings).stats().connects >= 1
    finally:
        for each in others:
            each.close()


# ---- silent ------------------------------------------------------------------------------------


@contextlib.contextmanager
def half_a_handshake() -> Iterator[int]:
    """A server that agrees to TLS, and then says nothing more."""
    clients: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                clients.append(client)
                if client.recv(8):
                    client.sendall(b"S")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)
            for client in clients:
                client.close()


def assert_deadline_holds(database: PostgresDatabase, **settings: Any) -> None:
    """Assert that a request fails on time: within 0.2 s of its `timeout` of 0.3 s."""

    def attempt() -> None:
        with pytest.raises(OperationalError, match=r"no connection within 0\.3 s"):
            request(database, pool={"timeout": 0.3}, **settings)

    assert overshoot(attempt, 0.3) < 0.2


def test_an_interrupted_caller_leaves_the_connection_that_comes_to_the_pool(
    proxied: PostgresDatabase, proxy: FaultProxy
) -> None:
    """scenario 15: Ctrl-C while a connection is being opened for the caller."""
    settings = {"pool": {"timeout": PATIENCE, "max_size": 1}}
    pool = pool_of(proxied, **settings)
    proxy.pause()

    def interrupt() -> None:
        eventually(lambda: pool.stats().waiting == 1 and proxy.connections == 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        request(proxied, **settings)
    thread.join(PATIENCE)
    assert (pool.stats().waiting, pool.stats().leased, pool.stats().connecting) == (0, 0, 1)
    proxy.resume()
    eventually(lambda: pool.stats().idle == 1)
    assert request(proxied, **settings) == (1,)
    assert (pool.stats().connects, pool.stats().connect_errors) == (1, 0)


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
def test_the_deadline_holds_at_a_server_that_accepts_and_says_nothing(
    proxied: PostgresDatabase, proxy: FaultProxy, sslmode: str
) -> None:
    """scenario 18: whether it is TLS that hangs, or what comes before or after."""
    proxy.ignore()
    assert_deadline_holds(proxied, OPTIONS={"sslmode": sslmode})


def test_the_deadline_holds_when_tls_hangs(postgresql: PostgresDatabase) -> None:
    """scenario 18: in the middle of the TLS handshake."""
    with half_a_handshake() as port:
        assert_deadline_holds(postgresql, PORT=str(port), OPTIONS={"sslmode": "require"})


def test_a_release_serves_a_waiter_while_a_connect_hangs(
    proxied: PostgresDatabase, proxy: FaultProxy
) -> None:
    """scenario 14: who waits is served by whatever comes first."""
    settings = {"pool": {"timeout": PATIENCE, "max_size": 2}}
    wrapper = proxied.wrapper(**settings)
    session = proxied.session(wrapper)
    pool = wrapper.resolve_pool()
    proxy.ignore()
    with ThreadPoolExecutor(1) as executor:

        def use() -> int:
            other = proxied.wrapper(**settings)
            try:
                return proxied.session(other)
            finally:
                other.close()

        future = executor.submit(use)
        eventually(lambda: (pool.stats().waiting, pool.stats().connecting) == (1, 1))
        wrapper.close()
        assert future.result(PATIENCE) == session
    assert pool.stats().connecting == 1  # it still hangs


def test_a_frozen_server_holds_nobody_longer_than_the_timeout(
    small: PostgresDatabase, small_server: PrivatePostgres
) -> None:
    """scenario 18: a server suspended with all its sessions; thawed, it goes on at once."""
    settings = {"pool": {"timeout": 0.3, "max_size": 2, "ping_after": 0}}
    small.warm(small.wrapper(**settings))
    small_server.freeze()
    try:

        def attempt() -> None:
            with pytest.raises(OperationalError, match=r"no connection within 0\.3 s"):
                request(small, **settings)

        assert overshoot(attempt, 0.3) < 0.2
    finally:
        small_server.thaw()
    pool = pool_of(small, **settings)
    eventually(lambda: pool.stats().connecting == 0)
    small.warm(small.wrapper(**settings))
    assert request(small, **settings) == (1,)


# ---- not like this -----------------------------------------------------------------------------

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "password": ({"PASSWORD": "wrong"}, "password authentication failed"),
    "role": ({"USER": "no_such_role"}, "authentication failed"),
    "database": ({"NAME": "no_such_database"}, 'database "no_such_database" does not exist'),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_for_good_is_told_in_the_servers_words_in_under_a_second(
    postgresql: PostgresDatabase, what: str
) -> None:
    """scenario 17: the callers' time is 30 seconds, and none of it is waited for."""
    settings, words = WRONG[what]

    def attempt() -> None:
        with pytest.raises(OperationalError, match=words):
            request(postgresql, pool={"timeout": 30}, **settings)

    def without_pool() -> None:
        with pytest.raises(OperationalError, match=words):
            request(postgresql, pool=False, **settings)

    usual = overshoot(without_pool, 0, hangs=PATIENCE)  # some milliseconds
    assert overshoot(attempt, 0, hangs=PATIENCE) < usual + 1


def test_a_password_that_is_wrong_for_all_is_told_to_each(postgresql: PostgresDatabase) -> None:
    """scenario 13: connect fails for all; each gets the real error, of an attempt of its own."""
    settings = {"pool": {"timeout": 30, "max_size": 4}, "PASSWORD": "wrong"}

    def attempt() -> str:
        with pytest.raises(OperationalError) as caught:
            request(postgresql, **settings)
        return str(caught.value)

    for message in in_threads(6, attempt):
        assert "password authentication failed" in message
    stats = pool_of(postgresql, **settings).stats()
    assert (stats.timeouts, stats.waiting, stats.size) == (0, 0, 0)


def test_min_size_is_restored_after_a_massacre(postgresql: PostgresDatabase) -> None:
    """scenario 28: all sessions end at once; the next request has them all replaced."""
    settings = {"pool": {"timeout": PATIENCE, "min_size": 3}}
    assert request(postgresql, **settings) == (1,)
    killed = eventually(lambda: len(found := postgresql.sessions()) == 3 and found)
    for session in killed:
        postgresql.terminate(session)
    assert request(postgresql, **settings) == (1,)
    pool = pool_of(postgresql, **settings)
    eventually(lambda: len(set(postgresql.sessions()) - set(killed)) == 3)
    assert pool.stats().discards[DiscardReason.BROKEN] == 3
