"""Networks that lose packets, cut messages short and break off."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError

from pooling import DiscardReason
from pooling.backends.postgresql import deadlines
from tests.support.databases import PATIENCE, PostgresDatabase, eventually
from tests.support.timing import overshoot

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fault_proxy import FaultProxy

pytest_plugins = ["tests.support.fault_fixtures"]


def select(wrapper: Any, sql: str = "SELECT 1") -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def idle_sessions(database: PostgresDatabase, count: int, **pool: Any) -> list[Any]:
    """Return wrappers that share a pool with so many idle connections."""
    wrappers = [database.wrapper(pool=pool) for _ in range(count)]
    for wrapper in wrappers:
        select(wrapper)
    for wrapper in wrappers:
        wrapper.close()
    return wrappers


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up round trips of the pool's own soon."""
    monkeypatch.setattr(deadlines, "ANSWER_TIMEOUT", 0.3)


def test_a_network_that_was_away_while_nobody_used_it_costs_nothing(
    proxied: PostgresDatabase, proxy: FaultProxy
) -> None:
    """scenario 23: packets vanish while the connections are idle, and come through again."""
    [wrapper] = idle_sessions(proxied, 1, ping_after=0, max_size=1)
    session = proxied.session(wrapper)
    wrapper.close()
    proxy.pause()
    proxy.resume()
    assert proxied.session(wrapper) == session
    assert wrapper.resolve_pool().stats().connects == 1


def test_the_deadline_holds_when_a_ping_hangs(proxied: PostgresDatabase, proxy: FaultProxy) -> None:
    """scenario 26: and scenario 23, packets vanish during a ping."""
    wrapper = proxied.wrapper(pool={"ping_after": 0, "max_size": 1, "timeout": 0.3})
    proxied.warm(wrapper)
    proxy.forget()

    def attempt() -> None:
        with pytest.raises(OperationalError, match=r"no connection within 0\.3 s"):
            wrapper.ensure_connection()

    assert overshoot(attempt, 0.3) < 0.2


@pytest.mark.usefixtures("impatient")
def test_connections_that_a_firewall_forgot_are_replaced(
    proxied: PostgresDatabase, proxy: FaultProxy
) -> None:
    """scenario 23: no ping is ever answered, and yet they do not block the pool's places."""
    wrappers = idle_sessions(proxied, 2, ping_after=0, max_size=2, timeout=PATIENCE)
    proxy.forget()
    assert [select(wrapper) for wrapper in wrappers] == [1, 1]
    stats = wrappers[0].resolve_pool().stats()
    assert (stats.discards[DiscardReason.BROKEN], stats.connects) == (2, 4)


def test_a_ping_that_hangs_delays_nobody(
    proxied: PostgresDatabase, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """scenario 26: not even the caller that it was for, who gets another connection."""
    monkeypatch.setattr(deadlines, "ANSWER_TIMEOUT", 10 * PATIENCE)
    wrappers = [
        proxied.wrapper(pool={"ping_after": 0, "max_size": 2, "timeout": PATIENCE})
        for _ in range(2)
    ]
    select(wrappers[0])
    proxy.forget()
    select(wrappers[1])
    wrappers[1].close()
    wrappers[0].close()  # the one to be used first
    pool = wrappers[0].resolve_pool()
    with ThreadPoolExecutor(2) as executor:

        def use(wrapper: Any) -> Any:
            try:
                return select(wrapper)
            finally:
                wrapper.close()

        for wrapper in wrappers:
            wrapper.inc_thread_sharing()
        assert list(executor.map(use, wrappers)) == [1, 1]
    assert (pool.stats().connecting, pool.stats().idle) == (1, 1)  # it still hangs


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("after", ["a transaction", "an error"])
def test_a_release_does_not_hang_with_the_network(
    proxied: PostgresDatabase, proxy: FaultProxy, after: str
) -> None:
    """scenario 41: the rollback, or the ping after an error, gets no answer."""
    pool = {"max_size": 1, "timeout": PATIENCE}
    wrapper = proxied.wrapper(pool=pool)
    session = proxied.session(wrapper)
    if after == "a transaction":
        wrapper.set_autocommit(False)
        select(wrapper)
    else:
        wrapper.errors_occurred = True
    proxy.forget()
    wrapper.close()
    assert wrapper.resolve_pool().stats().discards[DiscardReason.BROKEN] == 1
    assert proxied.session(wrapper) != session


@pytest.mark.usefixtures("impatient")
def test_closing_a_cursor_that_the_server_keeps_does_not_hang_with_the_network(
    proxied: PostgresDatabase, proxy: FaultProxy
) -> None:
    """scenario 23: a half-read server-side cursor is closed by a round trip."""
    wrapper = proxied.wrapper(pool={"max_size": 1, "timeout": PATIENCE})
    session = proxied.session(wrapper)
    cursor = wrapper.chunked_cursor()
    cursor.execute("SELECT generate_series(1, 10)")
    assert cursor.fetchone() == (1,)
    proxy.forget()
    wrapper.close()
    assert wrapper.resolve_pool().stats().discards[DiscardReason.BROKEN] == 1
    assert proxied.session(wrapper) != session
    cursor.close()  # psycopg 3 warns of one whose own close has failed


@pytest.mark.usefixtures("impatient")
def test_restoring_a_session_does_not_hang_with_the_network(
    proxied: PostgresDatabase, proxy: FaultProxy
) -> None:
    """scenario 41: with `reset="session"` the release has something to undo, and no answer."""
    wrapper = proxied.wrapper(pool={"max_size": 1, "timeout": PATIENCE, "reset": "session"})
    session = proxied.session(wrapper)
    with wrapper.cursor() as cursor:
        cursor.execute("SET lock_timeout = '1s'")
    proxy.forget()
    wrapper.close()
    assert wrapper.resolve_pool().stats().discards[DiscardReason.BROKEN] == 1
    assert proxied.session(wrapper) != session


@pytest.mark.usefixtures("impatient")
def test_a_session_that_hangs_while_it_is_set_up_is_given_up(
    proxied: PostgresDatabase, proxy: FaultProxy
) -> None:
    """scenario 14: the server let us in and then vanished."""
    vanishings = iter([proxy.forget])

    class Wrapper(type(proxied.wrapper())):  # type: ignore[misc]
        def init_connection_state(self) -> None:
            super().init_connection_state()
            next(vanishings, lambda: None)()
            with self.connection.cursor() as cursor:
                cursor.execute("SELECT 1")

    wrapper = Wrapper(proxied.settings(pool={"max_size": 1, "timeout": PATIENCE}), "own")
    try:
        assert select(wrapper) == 1
        stats = wrapper.resolve_pool().stats()
        assert (stats.connects, stats.connect_errors) == (1, 1)
    finally:
        wrapper.close()
        wrapper.resolve_pool().close()


def test_a_query_that_hangs_keeps_its_own_connection_and_no_other(
    proxied: PostgresDatabase, proxy: FaultProxy
) -> None:
    """scenario 23: packets vanish during a query. Its end is the business of whoever asked.

    When the network breaks off at last, that is Django's OperationalError, and the pool is whole.
    """
    pool_options = {"max_size": 2, "timeout": PATIENCE}
    wrapper, other = (proxied.wrapper(pool=pool_options) for _ in range(2))
    select(wrapper)
    pool = wrapper.resolve_pool()
    proxy.forget()
    wrapper.inc_thread_sharing()
    caught: list[BaseException] = []

    def query() -> None:
        try:
            select(wrapper)
        except BaseException as error:
            caught.append(error)
        wrapper.close()

    thread = threading.Thread(target=query)
    thread.start()
    assert select(other) == 1
    other.close()
    assert (pool.stats().leased, caught) == (1, [])
    proxy.reset()
    thread.join(PATIENCE)
    assert isinstance(caught[0], OperationalError)
    assert select(other) == 1
    assert (pool.stats().size, pool.stats().leased) == (1, 1)


def test_closing_what_a_network_forgot_delays_nobody(
    proxied: PostgresDatabase, proxy: FaultProxy
) -> None:
    """scenario 27: and scenario 23, packets vanish during a close."""
    wrappers = idle_sessions(proxied, 3, max_size=3, timeout=PATIENCE)
    pool = wrappers[0].resolve_pool()
    proxy.forget()
    pool.drain()
    assert select(wrappers[0]) == 1
    stats = pool.stats()
    assert (stats.size, stats.discards[DiscardReason.DRAINED]) == (1, 3)


def test_a_close_that_hangs_delays_nobody(
    proxied: PostgresDatabase, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """scenario 27: whatever the driver waits for; it has a thread of its own for that."""
    [wrapper] = idle_sessions(proxied, 1, max_size=1, timeout=PATIENCE, max_uses=1)
    driver = wrapper.resolve_pool()._driver
    gate, close = threading.Event(), driver.close
    monkeypatch.setattr(driver, "close", lambda raw: (gate.wait(PATIENCE), close(raw)))
    try:
        for _ in range(5):
            assert select(wrapper) == 1
            wrapper.close()
    finally:
        gate.set()
    eventually(lambda: proxied.sessions() == [])


BREAKS: dict[str, Callable[[FaultProxy], None]] = {
    "reset": lambda proxy: proxy.reset(),
    "drop": lambda proxy: proxy.drop(),
    "cut short in a message": lambda proxy: proxy.truncate(1000),
    "cut short at once": lambda proxy: proxy.truncate(1),
    "question cut short": lambda proxy: proxy.truncate(5, "to server"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_connection_that_breaks_in_a_query_is_djangos_error_and_not_kept(
    proxied: PostgresDatabase, proxy: FaultProxy, name: str
) -> None:
    """scenario 39: in mid-query; the next request works."""
    wrapper = proxied.wrapper(pool={"max_size": 1, "timeout": PATIENCE})
    session = proxied.session(wrapper)
    BREAKS[name](proxy)
    with pytest.raises(OperationalError):
        select(wrapper, "SELECT repeat('long', 100000)")
    wrapper.close()
    stats = wrapper.resolve_pool().stats()
    assert (stats.leased, stats.discards[DiscardReason.BROKEN]) == (0, 1)
    assert proxied.session(wrapper) != session


def test_a_slow_network_is_only_slow(proxied: PostgresDatabase, proxy: FaultProxy) -> None:
    """scenario 20: and a spike of callers on it opens few connections."""
    proxy.delay(0.03)
    wrappers = [proxied.wrapper(pool={"max_size": 20, "timeout": PATIENCE}) for _ in range(20)]

    def use(wrapper: Any) -> Any:
        try:
            return select(wrapper)
        finally:
            wrapper.close()

    for wrapper in wrappers:
        wrapper.inc_thread_sharing()
    start = time.monotonic()
    with ThreadPoolExecutor(20) as executor:
        assert list(executor.map(use, wrappers)) == [1] * 20
    assert time.monotonic() - start < PATIENCE
    assert wrappers[0].resolve_pool().stats().connects < 20
