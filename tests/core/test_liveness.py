"""A connection is tested before it is used: for free always, with a round trip when in doubt."""

from __future__ import annotations

import pytest

from pooling.core.connection import DiscardReason
from pooling.core.errors import PoolClosed, PoolTimeout
from tests.support.fakes import Caller, FakeOperationalError, PoolHarness, RefusedError


def test_a_warm_connection_costs_no_round_trip(harness: PoolHarness) -> None:
    pool = harness.pool(ping_after=30.0)
    pool.acquire().release()
    harness.clock.advance(29.9)
    with pool.acquire() as connection:
        assert connection.pings == 0


def test_a_connection_that_rested_is_pinged(harness: PoolHarness) -> None:
    """Scenario 31: whether it was unused or the machine asleep."""
    pool = harness.pool(ping_after=30.0)
    pool.acquire().release()
    harness.clock.advance(30.0)
    with pool.acquire() as connection:
        assert (connection.number, connection.pings) == (1, 1)
    with pool.acquire() as connection:
        assert connection.pings == 1


def test_ping_after_zero_pings_every_time(harness: PoolHarness) -> None:
    pool = harness.pool(ping_after=0)
    for pings in range(4):
        with pool.acquire() as connection:
            assert connection.pings == pings


def test_without_ping_after_nothing_is_pinged_for_its_rest(harness: PoolHarness) -> None:
    pool = harness.pool(ping_after=None, recycle=None)
    pool.acquire().release()
    harness.clock.advance(1e6)
    with pool.acquire() as connection:
        assert connection.pings == 0


def test_a_connection_that_fails_its_ping_is_replaced(harness: PoolHarness) -> None:
    pool = harness.pool(ping_after=30.0)
    pool.acquire().release()
    harness.clock.advance(30.0)
    harness.driver.plan("ping", FakeOperationalError("gone"))
    with pool.acquire() as connection:
        assert connection.number == 2
    assert pool.stats().discards[DiscardReason.BROKEN] == 1
    assert len(harness.driver.open) == 1


def test_the_free_test_comes_before_every_lease_and_finds_the_dead(harness: PoolHarness) -> None:
    pool = harness.pool()
    with pool.acquire() as connection:
        pass
    connection.dead = True
    with pool.acquire() as connection:
        assert connection.number == 2
    assert pool.stats().discards[DiscardReason.BROKEN] == 1


def test_a_readable_connection_is_pinged_and_not_thrown_away(harness: PoolHarness) -> None:
    pool = harness.pool()
    with pool.acquire() as connection:
        pass
    connection.readable = True
    with pool.acquire() as again:
        assert again is connection
        assert again.pings == 1


@pytest.mark.parametrize("error", [FakeOperationalError("bad descriptor"), ValueError("-1")])
def test_a_free_test_that_fails_means_look_closer(harness: PoolHarness, error: Exception) -> None:
    pool = harness.pool()
    pool.acquire().release()
    harness.driver.plan("is_alive", error)
    with pool.acquire() as connection:
        assert (connection.number, connection.pings) == (1, 1)


def test_an_interrupt_in_the_free_test_loses_nothing(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    pool.acquire().release()
    harness.driver.plan("is_alive", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    assert (pool.stats().leased, pool.stats().idle) == (0, 1)


def test_one_dead_connection_makes_all_idle_ones_suspect(harness: PoolHarness) -> None:
    pool = harness.pool()
    leases = [pool.acquire() for _ in range(4)]
    connections = [lease.connection for lease in leases]
    for lease in leases:
        lease.release()
    harness.clock.advance(1.0)
    connections[3].dead = True
    leases = [pool.acquire() for _ in range(3)]
    assert [lease.connection.number for lease in leases] == [3, 2, 1]
    assert [each.pings for each in connections] == [1, 1, 1, 1]
    for lease in leases:
        lease.release()


def test_what_was_proven_since_is_not_suspect_any_more(harness: PoolHarness) -> None:
    pool = harness.pool()
    leases = [pool.acquire() for _ in range(2)]
    connections = [lease.connection for lease in leases]
    for lease in leases:
        lease.release()
    harness.clock.advance(1.0)
    connections[1].dead = True
    with pool.acquire():
        harness.clock.advance(1.0)
    for _ in range(3):
        pool.acquire().release()
    assert connections[0].pings == 1


def test_after_a_massacre_a_caller_gets_a_new_connection(harness: PoolHarness) -> None:
    """Scenario 22: all sessions were ended at the server."""
    pool = harness.pool(max_size=5)
    leases = [pool.acquire() for _ in range(5)]
    for lease in leases:
        lease.connection.dead = True
    for lease in leases:
        harness.driver.plan("reset", None)
        lease.connection.dead = False
        connection = lease.connection
        lease.release()
        connection.dead = True
    harness.clock.advance(1.0)
    with pool.acquire() as connection:
        assert connection.number == 6
    assert [each.number for each in harness.driver.open] == [6]


def test_a_caller_whose_connection_is_tested_is_first_in_the_queue(
    manual_harness: PoolHarness,
) -> None:
    pool = manual_harness.pool(max_size=1, ping_after=10.0)
    manual_harness.clock.meanwhile(manual_harness.workers.work_all)
    pool.acquire().release()
    manual_harness.clock.advance(10.0)
    first = Caller(pool.acquire)
    manual_harness.clock.wait_for_sleepers(1)
    second = Caller(pool.acquire)
    manual_harness.clock.wait_for_sleepers(2)
    manual_harness.workers.work_all()
    lease = first.result()
    lease.release()
    second.result().release()


def test_the_replacement_of_a_dead_connection_is_bounded_by_the_timeout(
    harness: PoolHarness,
) -> None:
    pool = harness.pool(timeout=5.0)
    with pool.acquire() as connection:
        pass
    connection.dead = True
    harness.driver.always("connect", RefusedError("down"))
    start = harness.clock.now()
    with pytest.raises(PoolTimeout, match="down"):
        pool.acquire()
    assert harness.clock.now() - start == 5.0


def test_a_pool_that_closes_during_the_free_test_sends_the_caller_away(
    harness: PoolHarness,
) -> None:
    """1. A caller takes the idle connection. 2. The pool is closed. 3. The test says no."""
    pool = harness.pool(timeout=5.0)
    with pool.acquire() as connection:
        pass
    connection.readable = True
    harness.driver.plan("is_alive", lambda _: pool.close())
    start = harness.clock.now()
    with pytest.raises(PoolClosed):
        pool.acquire()
    assert harness.clock.now() == start
    assert harness.driver.open == []
    assert pool.stats().size == 0


def test_a_pool_that_closes_during_a_ping_sends_the_caller_away(
    manual_harness: PoolHarness,
) -> None:
    pool = manual_harness.pool(ping_after=0)
    manual_harness.clock.meanwhile(manual_harness.workers.work_all)
    pool.acquire().release()
    manual_harness.clock.meanwhile(pool.close)
    with pytest.raises(PoolClosed):
        pool.acquire()
    manual_harness.workers.work_all()
    assert manual_harness.driver.open == []


def test_a_pool_that_drains_during_the_free_test_replaces_the_connection(
    harness: PoolHarness,
) -> None:
    pool = harness.pool()
    with pool.acquire() as connection:
        pass
    connection.readable = True
    harness.driver.plan("is_alive", lambda _: pool.drain())
    with pool.acquire() as connection:
        assert connection.number == 2
    assert pool.stats().discards[DiscardReason.DRAINED] == 1
