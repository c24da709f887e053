"""A server that is known to be down: one caller at a time tries it, the rest are told at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError

from pooling import ServerDown
from pooling.core import housekeeping
from tests.support.databases import PATIENCE, PostgresDatabase, eventually, in_threads
from tests.support.timing import TRIES

if TYPE_CHECKING:
    from tests.support.fault_proxy import FaultProxy

pytest_plugins = ["tests.support.fault_fixtures"]

FAIL_FAST = 0.3
POOL = {"timeout": 3 * PATIENCE, "fail_fast": FAIL_FAST, "max_size": 4}


def request(database: PostgresDatabase) -> Any:
    wrapper = database.wrapper(pool=POOL)
    try:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
            return cursor.fetchone()
    finally:
        wrapper.close()


def refusal(database: PostgresDatabase) -> OperationalError:
    """Make a request that fails because the server is down; return its error."""
    with pytest.raises(OperationalError) as caught:
        request(database)
    assert isinstance(caught.value.__cause__, ServerDown), caught.value
    return caught.value


def take_down(database: PostgresDatabase, proxy: FaultProxy) -> None:
    """Let the server be away for so long that the pool knows."""
    proxy.refuse()
    proxy.drop()
    refusal(database)


def test_callers_are_told_what_the_server_said_before_their_time_is_up(
    proxied: PostgresDatabase, proxy: FaultProxy
) -> None:
    """scenario 13: everybody gets the real error, after `fail_fast` and not after `timeout`."""
    request(proxied)
    proxy.refuse()
    proxy.drop()
    begin = time.monotonic()
    for error in in_threads(6, lambda: refusal(proxied)):
        assert "refused" in str(error)
        assert error.__cause__ is not None
        assert "refused" in str(error.__cause__.__cause__)
    assert FAIL_FAST <= time.monotonic() - begin < POOL["timeout"] / 2
    begin = time.monotonic()
    assert "refused" in str(refusal(proxied))
    assert time.monotonic() - begin < POOL["timeout"] / 2
    stats = proxied.wrapper(pool=POOL).resolve_pool().stats()
    assert (stats.timeouts, stats.waiting, stats.size) == (0, 0, 0)


def test_only_one_caller_at_a_time_tries_a_server_that_is_down(
    proxied: PostgresDatabase, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """scenario 13: and nobody waits for the one who does."""
    monkeypatch.setattr(housekeeping, "STALL", 10 * PATIENCE)
    pool = proxied.wrapper(pool=POOL).resolve_pool()
    take_down(proxied, proxy)
    proxy.ignore()
    proxy.accepted = proxy.most = 0
    with ThreadPoolExecutor(1) as executor:

        def probe() -> OperationalError:
            """Be the one who comes when the pause between attempts is over."""
            while True:
                before = pool.stats().connect_errors
                error = refusal(proxied)
                if pool.stats().connect_errors > before:
                    return error

        prober = executor.submit(probe)
        eventually(lambda: pool.stats().connecting == 1)
        for _ in range(3):
            in_threads(8, lambda: refusal(proxied))
        assert not prober.done()
        eventually(lambda: proxy.accepted)
        assert (proxy.accepted, proxy.most) == (1, 1)
        proxy.refuse()
        proxy.drop()  # the attempt fails, and who waited for it hears of it
        assert isinstance(prober.result(PATIENCE).__cause__, ServerDown)


def test_the_next_callers_are_served_within_a_second_of_the_servers_return(
    proxied: PostgresDatabase, proxy: FaultProxy
) -> None:
    """scenario 29: though nobody waits for it."""
    delays = []
    for _ in range(TRIES):
        take_down(proxied, proxy)
        for _ in range(20):
            refusal(proxied)
        proxy.serve()
        back = time.monotonic()

        def served() -> bool:
            try:
                return request(proxied) == (1,)
            except OperationalError:
                return False

        eventually(served)
        delays.append(time.monotonic() - back)
        assert in_threads(4, lambda: request(proxied)) == [(1,)] * 4
        if delays[-1] < 1:
            break
    assert min(delays) < 1


def test_a_connection_that_may_become_free_is_worth_waiting_for(
    proxied: PostgresDatabase, proxy: FaultProxy
) -> None:
    """scenario 14: new connections are refused, those there are work."""
    holder = proxied.wrapper(pool=POOL)
    holder.ensure_connection()
    pool = holder.resolve_pool()
    proxy.refuse()
    with ThreadPoolExecutor(3) as executor:
        futures = [executor.submit(request, proxied) for _ in range(3)]
        eventually(lambda: pool.stats().waiting == 3 and pool.stats().connect_errors >= 1)
        begin = time.monotonic()
        eventually(lambda: time.monotonic() - begin > 2 * FAIL_FAST)
        errors = pool.stats().connect_errors
        eventually(lambda: pool.stats().connect_errors > errors)
        assert not any(future.done() for future in futures)
        holder.close()
        assert [future.result(PATIENCE) for future in futures] == [(1,)] * 3
