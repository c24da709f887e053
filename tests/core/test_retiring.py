"""Connections are replaced when they are old, used up, or not needed."""

from __future__ import annotations

import pytest

from pooling.core.connection import DiscardReason
from pooling.core.state import RECYCLE_SPREAD
from tests.support.fakes import Caller, FakeConnection, PoolHarness


def numbers(connections: list[FakeConnection]) -> list[int]:
    return [each.number for each in connections]


def test_an_old_connection_is_replaced_when_it_comes_back(harness: PoolHarness) -> None:
    pool = harness.pool(recycle=100.0)
    lease = pool.acquire()
    harness.clock.advance(100.0)
    lease.release()
    assert harness.driver.open == []
    assert pool.stats().discards[DiscardReason.RECYCLED] == 1


def test_an_old_connection_is_not_leased_any_more(harness: PoolHarness) -> None:
    pool = harness.pool(recycle=100.0, ping_after=None)
    pool.acquire().release()
    harness.clock.advance(100.0)
    with pool.acquire() as connection:
        assert connection.number == 2
    assert pool.stats().discards[DiscardReason.RECYCLED] == 1
    assert numbers(harness.driver.open) == [2]


def test_maintenance_replaces_old_connections(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=1, recycle=100.0)
    pool.acquire().release()
    harness.pass_time(99.9)
    assert numbers(harness.driver.open) == [1]
    harness.pass_time(0.2)
    assert numbers(harness.driver.open) == [2]
    assert pool.stats().discards[DiscardReason.RECYCLED] == 1


def test_a_connection_in_use_is_not_taken_away_for_its_age(harness: PoolHarness) -> None:
    pool = harness.pool(recycle=100.0)
    with pool.acquire() as connection:
        harness.pass_time(500.0)
        assert not connection.closes
    assert connection.closes == 1


@pytest.mark.parametrize(("luck", "age"), [(0.0, 100.0), (0.5, 90.0), (1.0, 80.0)])
def test_the_age_of_replacement_is_drawn_from_the_last_fifth(
    harness: PoolHarness, luck: float, age: float
) -> None:
    assert RECYCLE_SPREAD == 0.2
    harness.luck = luck
    pool = harness.pool(recycle=100.0, ping_after=None)
    pool.acquire().release()
    harness.clock.advance(age - 0.5)
    with pool.acquire() as connection:
        assert connection.number == 1
        harness.clock.advance(0.5)
    with pool.acquire() as connection:
        assert connection.number == 2


def test_connections_that_were_opened_together_are_not_replaced_together(
    harness: PoolHarness,
) -> None:
    """Scenario 24: their ages are spread."""
    pool = harness.pool(recycle=100.0)
    leases = []
    for harness.luck in (0.0, 0.25, 0.5, 0.75, 1.0):
        leases.append(pool.acquire())
    for lease in leases:
        lease.release()
    harness.pass_time(79.0)
    recycled = []
    for _ in range(5):
        harness.pass_time(5.0)
        recycled.append(pool.stats().discards[DiscardReason.RECYCLED])
    assert recycled == [1, 2, 3, 4, 5]


def test_no_recycle_means_no_age(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=1, recycle=None, max_idle=None)
    pool.acquire().release()
    harness.pass_time(10_000.0)
    assert numbers(harness.driver.open) == [1]


def test_a_connection_is_replaced_after_max_uses(harness: PoolHarness) -> None:
    pool = harness.pool(max_uses=2)
    seen = []
    for _ in range(5):
        with pool.acquire() as connection:
            seen.append(connection.number)
    assert seen == [1, 1, 2, 2, 3]
    assert pool.stats().discards[DiscardReason.USED_UP] == 2
    assert numbers(harness.driver.open) == [3]


def test_a_used_up_connection_is_replaced_for_whoever_waits(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1, max_uses=1)
    lease = pool.acquire()
    waiting = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    lease.release()
    assert waiting.result().connection.number == 2


def test_connections_that_nobody_needs_are_closed_the_coldest_first(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=1, max_idle=60.0)
    leases = [pool.acquire() for _ in range(3)]
    for lease in (leases[2], leases[0], leases[1]):
        lease.release()
        harness.clock.advance(1.0)
    harness.clock.advance(57.0)
    pool._tasks.maintain()
    assert numbers(harness.driver.open) == [1, 2]
    harness.clock.advance(1.0)
    pool._tasks.maintain()
    assert numbers(harness.driver.open) == [2]
    assert pool.stats().discards[DiscardReason.IDLE] == 2


def test_maintenance_comes_when_a_connection_gets_too_cold(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=0, max_idle=60.0)
    pool.acquire().release()
    harness.pass_time(59.9)
    assert pool.stats().idle == 1
    harness.pass_time(30.1)
    assert pool.stats().idle == 0


def test_a_pool_in_use_never_shrinks_below_min_size(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=2, max_idle=60.0, recycle=None)
    leases = [pool.acquire() for _ in range(4)]
    for lease in leases:
        lease.release()
    for _ in range(60):
        harness.pass_time(50.0)
        assert pool.stats().size >= 2
        pool.acquire().release()
    assert pool.stats().size == 2
    assert len(harness.driver.connections) == 4  # and keeps what it has instead of replacing it


def test_a_pool_that_is_not_used_for_max_idle_closes_everything(harness: PoolHarness) -> None:
    """Scenario 64: `min_size` is for pools in use: a tenant's pool must not hold sessions for
    ever."""
    pool = harness.pool(min_size=2, max_idle=60.0)
    pool.acquire().release()
    harness.pass_time(59.0)
    assert pool.stats().size == 2
    harness.pass_time(62.0)
    assert pool.stats().size == 0
    assert harness.driver.open == []
    assert harness.scheduler.due == float("inf")  # nothing is left to do for it
    harness.pass_time(1000.0)
    assert pool.stats().size == 0
    pool.acquire().release()  # and then it begins again
    assert pool.stats().size == 2


def test_a_lease_keeps_min_size_however_long_it_lasts(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=2, max_idle=60.0, recycle=None)
    lease = pool.acquire()
    harness.pass_time(1000.0)
    assert pool.stats().size == 2
    lease.release()
    harness.pass_time(200.0)
    assert pool.stats().size == 0


def test_connections_in_use_count_for_min_size(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=2, max_idle=60.0)
    held = [pool.acquire() for _ in range(2)]
    pool.acquire().release()
    harness.pass_time(100.0)
    assert (pool.stats().leased, pool.stats().idle) == (2, 0)
    for lease in held:
        lease.release()


def test_a_connection_that_is_needed_now_and_then_stays_warm(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=0, max_idle=60.0)
    for _ in range(10):
        pool.acquire().release()
        harness.pass_time(50.0)
    assert numbers(harness.driver.connections) == [1]


def test_without_max_idle_nothing_gets_too_cold(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=0, max_idle=None, recycle=None)
    pool.acquire().release()
    harness.pass_time(100_000.0)
    assert pool.stats().idle == 1


def test_min_size_is_kept_up_after_a_loss(harness: PoolHarness) -> None:
    """Scenario 28: maintenance sees to it."""
    pool = harness.pool(min_size=3)
    pool.acquire().discard()
    harness.pass_time(30.0)
    assert (pool.stats().idle, pool.stats().size) == (3, 3)
