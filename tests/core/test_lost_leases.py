"""A lease whose holder is gone comes back."""

from __future__ import annotations

import gc

import pytest

from pooling.core.connection import DiscardReason
from pooling.core.errors import LeaseError, PoolTimeout
from pooling.core.housekeeping import RECOVERY_PAUSE
from tests.support.fakes import Caller, FakeOperationalError, Gate, PoolHarness


def test_a_forgotten_lease_is_back_for_the_next_caller(harness: PoolHarness) -> None:
    """Scenario 10: a lease is garbage-collected."""
    pool = harness.pool(max_size=1)
    pool.acquire()
    with pool.acquire(timeout=0) as connection:
        assert connection.number == 1
        assert connection.resets == 1
    assert pool.stats().recovered == 1


def test_a_forgotten_lease_in_a_cycle_is_back_after_a_collection(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    cycle = [pool.acquire()]
    cycle.append(cycle)  # type: ignore[arg-type]
    del cycle
    gc.collect()
    with pool.acquire(timeout=0) as connection:
        assert connection.number == 1


def test_maintenance_takes_a_forgotten_lease_back_by_itself(harness: PoolHarness) -> None:
    pool = harness.pool()
    pool.acquire()
    assert pool.stats().leased == 1
    pool._tasks.maintain()
    assert (pool.stats().leased, pool.stats().idle) == (0, 1)


def test_a_forgotten_lease_serves_a_caller_who_waits_already(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    leases = [pool.acquire()]
    waiting = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    leases.clear()
    harness.pass_time(0.1)
    waiting.result().release()


def test_a_lease_that_ended_properly_is_not_taken_back_again(harness: PoolHarness) -> None:
    pool = harness.pool()
    pool.acquire().release()
    pool._tasks.maintain()
    assert pool.stats().recovered == 0


def test_a_lease_may_be_lost_in_a_thread_that_holds_the_lock(harness: PoolHarness) -> None:
    """Scenario 11: at a moment when the lock is held."""
    pool = harness.pool()
    leases = [pool.acquire()]
    with pool._lock:
        leases.clear()  # would hang here if that took the lock
    pool._tasks.maintain()
    assert pool.stats().idle == 1


def test_a_lease_of_a_thread_that_ended_is_back_for_the_next_caller(harness: PoolHarness) -> None:
    """Scenario 9: a thread dies with a lease."""
    pool = harness.pool(max_size=1)
    lease = Caller(lambda: pool.acquire(thread_bound=True)).result()
    harness.clock.advance(RECOVERY_PAUSE)
    with pool.acquire(timeout=0) as connection:
        assert connection.number == 1
        assert connection.resets == 1
        assert not lease._current
        with pytest.raises(LeaseError):
            lease.release()
        assert pool.stats().leased == 1
    assert pool.stats().recovered == 1


def test_the_stale_handle_of_a_dead_threads_lease_is_collected_without_consequence(
    harness: PoolHarness,
) -> None:
    pool = harness.pool(max_size=1)
    leases = [Caller(lambda: pool.acquire(thread_bound=True)).result()]
    harness.clock.advance(RECOVERY_PAUSE)
    with pool.acquire(timeout=0):
        leases.clear()
        pool._tasks.maintain()
        assert (pool.stats().leased, pool.stats().recovered) == (1, 1)


def test_maintenance_takes_the_lease_of_a_dead_thread_back(harness: PoolHarness) -> None:
    pool = harness.pool()
    lease = Caller(lambda: pool.acquire(thread_bound=True)).result()
    harness.pass_time(30.0)
    assert pool.stats().idle == 1
    assert not lease._current


def test_a_lease_that_is_not_bound_outlives_its_thread(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    lease = Caller(pool.acquire).result()
    pool._tasks.maintain()
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0)
    assert lease._current
    lease.release()


def test_a_bound_lease_of_a_living_thread_is_left_alone(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    end = Gate()
    leases = []

    def hold() -> None:
        leases.append(pool.acquire(thread_bound=True))
        end()

    holder = Caller(hold)
    end.wait_for(1)
    pool._tasks.maintain()
    assert leases[0]._current
    end.open()
    holder.result()
    harness.clock.advance(RECOVERY_PAUSE)
    pool._tasks.maintain()
    assert not leases[0]._current


def test_a_bound_lease_is_still_bound_after_it_was_tested(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1, ping_after=0)
    pool.acquire().release()
    harness.clock.advance(1.0)

    lease = Caller(lambda: pool.acquire(thread_bound=True)).result()
    assert lease.connection.pings == 1
    pool._tasks.maintain()
    assert not lease._current


def test_a_lost_connection_that_cannot_be_cleaned_is_replaced(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    pool.acquire()
    harness.driver.plan("reset", FakeOperationalError("gone"))
    with pool.acquire(timeout=0) as connection:
        assert connection.number == 2
    assert pool.stats().discards[DiscardReason.LEAKED] == 1
    assert len(harness.driver.open) == 1


def test_callers_at_an_exhausted_pool_do_not_all_search_for_dead_threads(
    harness: PoolHarness,
) -> None:
    pool = harness.pool(max_size=1)
    pool.acquire().release()
    harness.clock.advance(1.0)
    blocking = pool.acquire()
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0)  # this one has searched
    blocking.release()

    lease = Caller(lambda: pool.acquire(thread_bound=True)).result()
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0)
    harness.clock.advance(RECOVERY_PAUSE)
    pool.acquire(timeout=0).release()
    assert not lease._current
