"""Callers that find no connection queue, first come, first served."""

from __future__ import annotations

import pytest

from pooling.core.errors import PoolClosed, PoolTimeout, TooManyWaiters
from tests.support.fakes import Caller, FakeOperationalError, PoolHarness


def queue_up(harness: PoolHarness, pool, number: int) -> list[Caller]:  # type: ignore[no-untyped-def]
    """Have `number` threads wait, one after the other."""
    callers = []
    for count in range(1, number + 1):
        callers.append(Caller(pool.acquire))
        harness.clock.wait_for_sleepers(count)
    return callers


def test_a_release_serves_the_caller_who_waits(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    harness.clock.meanwhile(lease.release)
    with pool.acquire() as connection:
        assert connection.number == 1
    assert pool.stats().waited == 2  # the first caller waited for the connect


def test_waiters_are_served_first_come_first_served(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    callers = queue_up(harness, pool, 3)
    for caller in callers:
        waiting = pool.stats().waiting
        lease.release()
        assert pool.stats().waiting == waiting - 1
        assert pool.stats().idle == 0  # handed over, never up for grabs
        lease = caller.result()
    lease.release()


def test_a_newcomer_does_not_overtake_those_who_wait(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    [waiting] = queue_up(harness, pool, 1)
    lease.release()
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0)
    waiting.result().release()


def test_a_caller_who_gave_up_is_not_served(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    impatient = Caller(lambda: pool.acquire(timeout=1.0))
    harness.clock.wait_for_sleepers(1)
    patient = Caller(lambda: pool.acquire(timeout=2.0))
    harness.clock.wait_for_sleepers(2)
    harness.clock.advance(1.0)
    with pytest.raises(PoolTimeout):
        impatient.result()
    lease.release()
    patient.result().release()


def test_the_size_never_exceeds_max_size(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=3)
    leases = [pool.acquire() for _ in range(3)]
    queue_up(harness, pool, 5)
    assert (pool.stats().size, pool.stats().waiting) == (3, 5)
    for lease in leases:
        lease.release()
    assert len(harness.driver.connections) == 3


def test_max_waiting_is_the_number_that_may_wait(harness: PoolHarness) -> None:
    """Scenario 3: exactly as many, and not one more."""
    pool = harness.pool(max_size=1, max_waiting=2)
    lease = pool.acquire()
    callers = queue_up(harness, pool, 2)
    with pytest.raises(TooManyWaiters, match=r"max_size=1, leased=1, idle=0, waiting=2"):
        pool.acquire()
    assert (pool.stats().waiting, pool.stats().rejected, pool.stats().timeouts) == (2, 1, 0)
    lease.release()
    lease = callers[0].result()
    late = Caller(pool.acquire)  # the place in the queue that became free
    harness.clock.wait_for_sleepers(2)
    lease.release()
    callers[1].result().release()
    late.result().release()


def test_max_waiting_zero_means_nobody_waits_for_a_release(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1, max_waiting=0)
    with pool.acquire(), pytest.raises(TooManyWaiters):
        pool.acquire()
    pool.acquire().release()


def test_callers_for_whom_there_is_room_do_not_count_as_waiting(
    manual_harness: PoolHarness,
) -> None:
    """They only wait for the server."""
    pool = manual_harness.pool(max_size=3, max_waiting=1)
    callers = queue_up(manual_harness, pool, 4)
    with pytest.raises(TooManyWaiters):
        pool.acquire()
    manual_harness.workers.work_all()
    for caller in callers[:3]:
        caller.result().release()
    callers[3].result().release()


def test_too_many_waiters_is_the_drivers_operational_error(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1, max_waiting=0, name="default")
    with pool.acquire(), pytest.raises(FakeOperationalError, match="pool 'default': max_waiting"):
        pool.acquire()


def test_close_sends_all_waiters_away(harness: PoolHarness) -> None:
    """Scenario 6: all of them at once."""
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    callers = queue_up(harness, pool, 3)
    pool.close()
    for caller in callers:
        with pytest.raises(PoolClosed, match=r"pool 'pool' (was|is) closed"):
            caller.result()
    assert pool.stats().waiting == 0
    lease.release()
    assert harness.driver.open == []


def test_a_closed_pool_serves_nobody(harness: PoolHarness) -> None:
    """Scenario 46: acquire after close."""
    pool = harness.pool()
    pool.acquire().release()
    pool.close()
    with pytest.raises(PoolClosed, match="pool 'pool' is closed") as caught:
        pool.acquire()
    assert isinstance(caught.value, FakeOperationalError)


def test_an_interrupt_while_waiting_loses_nothing(harness: PoolHarness) -> None:
    """Scenario 2: Ctrl-C while waiting."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    harness.clock.meanwhile(interrupt)
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    assert pool.stats().waiting == 0
    lease.release()
    assert (pool.stats().idle, pool.stats().leased) == (1, 0)
    pool.acquire(timeout=0).release()


def test_a_connection_that_comes_together_with_an_interrupt_is_not_lost(
    harness: PoolHarness,
) -> None:
    """1. A release serves the waiter. 2. The interrupt comes before the waiter has noticed."""
    pool = harness.pool(max_size=1)
    lease = pool.acquire()

    def serve_and_interrupt() -> None:
        lease.release()
        assert pool.stats().leased == 1
        raise KeyboardInterrupt

    harness.clock.meanwhile(serve_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    assert (pool.stats().idle, pool.stats().leased) == (1, 0)


def test_what_an_interrupted_waiter_was_served_with_goes_to_the_next(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    other = []

    def interrupt() -> None:
        other.append(Caller(pool.acquire))
        harness.clock.wait_for_sleepers(1)
        lease.release()
        raise KeyboardInterrupt

    harness.clock.meanwhile(interrupt)
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    other[0].result().release()
    assert pool.stats().idle == 1
