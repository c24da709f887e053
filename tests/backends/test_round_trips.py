"""What a lease costs on the wire, seen there: nothing, unless there is a reason.

Bytes arrive in the order in which they were sent. So if two queries with a release and an acquire
between them look on the wire as they do without, then neither of the two has sent anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.databases import SERVERS
from tests.support.fault_fixtures import recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper

    from tests.support.databases import Database
    from tests.support.recording_proxy import RecordingProxy

ACQUIRE, RELEASE = 0, 0
"""Bytes on the wire of an acquire and a release, in the normal case."""
PING, ROLLBACK = 1, 1
"""Round trips of the two things that may come on top."""


pytestmark = SERVERS


@pytest.fixture
def wire(database: Database) -> Iterator[RecordingProxy]:
    with recorded(database) as wire:
        yield wire


def query(wrapper: BaseDatabaseWrapper) -> None:
    """Make one round trip, or two where the driver has to begin a transaction."""
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 42")
        assert cursor.fetchone() == (42,)


def end_request(wrapper: BaseDatabaseWrapper) -> None:
    """Do what Django does between two requests."""
    wrapper.close_if_unusable_or_obsolete()


def sent(wire: RecordingProxy, act: Callable[[], Any]) -> bytes:
    """Return what `act` sends to the server; it has to end with an answer."""
    since = wire.mark()
    act()
    return wire.sent(since)


def round_trips(wire: RecordingProxy, act: Callable[[], Any]) -> int:
    """Return how often `act` asks the server; it has to end with an answer."""
    since = wire.mark()
    act()
    return wire.round_trips(since)


def two_queries(wrapper: BaseDatabaseWrapper, between: Callable[[], Any]) -> Callable[[], Any]:
    """Return an act that does something between two queries."""

    def act() -> None:
        query(wrapper)
        between()
        query(wrapper)

    return act


def test_acquire_and_release_send_nothing(database: Database, wire: RecordingProxy) -> None:
    wrapper = database.wrapper()
    query(wrapper)

    def again() -> None:
        for _ in range(3):
            end_request(wrapper)
            wrapper.ensure_connection()

    plain = sent(wire, two_queries(wrapper, lambda: None))
    leased = sent(wire, two_queries(wrapper, again))

    assert len(leased) - len(plain) == ACQUIRE + RELEASE
    assert leased == plain


def test_a_request_with_one_query_is_one_round_trip(
    database: Database, wire: RecordingProxy
) -> None:
    wrapper = database.wrapper()
    query(wrapper)
    end_request(wrapper)

    def request() -> None:
        query(wrapper)
        end_request(wrapper)

    def requests() -> None:
        for _ in range(5):
            request()

    assert round_trips(wire, request) == 1
    assert round_trips(wire, requests) == 5


@pytest.mark.parametrize("autocommit", [True, False])
def test_requests_send_what_they_send_on_a_connection_that_stays(
    database: Database, wire: RecordingProxy, autocommit: bool
) -> None:
    pooled = database.wrapper(AUTOCOMMIT=autocommit)
    stock = database.stock(AUTOCOMMIT=autocommit, CONN_MAX_AGE=None)

    def request(wrapper: BaseDatabaseWrapper) -> None:
        query(wrapper)
        if not autocommit:
            wrapper.commit()
        end_request(wrapper)

    for wrapper in (pooled, stock):
        request(wrapper)
    expected = sent(wire, lambda: request(stock))

    assert sent(wire, lambda: request(pooled)) == expected
    assert sent(wire, lambda: request(pooled)) == expected


def test_connecting_asks_no_more_often_than_the_stock_backend(
    database: Database, wire: RecordingProxy
) -> None:
    pooled, stock = database.wrapper(), database.stock()

    assert round_trips(wire, lambda: query(pooled)) == round_trips(wire, lambda: query(stock))


def test_an_open_transaction_costs_one_round_trip_at_the_end(
    database: Database, wire: RecordingProxy
) -> None:
    wrapper = database.wrapper(AUTOCOMMIT=False)
    query(wrapper)
    end_request(wrapper)

    def request() -> None:
        query(wrapper)
        end_request(wrapper)

    assert b"ROLLBACK" in sent(wire, request)
    asked = round_trips(wire, lambda: query(wrapper))
    end_request(wrapper)
    assert round_trips(wire, request) == asked + ROLLBACK


def test_after_ping_after_an_acquire_asks_once(database: Database, wire: RecordingProxy) -> None:
    eager, patient = database.wrapper(pool={"ping_after": 0}), database.wrapper()
    for wrapper in (eager, patient):
        query(wrapper)
        end_request(wrapper)

    assert round_trips(wire, eager.ensure_connection) == PING
    end_request(eager)
    assert round_trips(wire, patient.ensure_connection) == 0
    assert round_trips(wire, lambda: query(patient)) == 1


def test_a_failed_query_costs_one_round_trip_at_the_end(
    database: Database, wire: RecordingProxy
) -> None:
    """After an error nobody knows whether the connection still works, so it is asked."""
    wrapper = database.wrapper()
    query(wrapper)
    wrapper.errors_occurred = True

    assert round_trips(wire, lambda: end_request(wrapper)) == PING
    assert wrapper.resolve_pool().stats().idle == 1
