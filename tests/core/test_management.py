"""What operators do with a pool: drain, resize, close."""

from __future__ import annotations

import threading

import pytest

from pooling.core.connection import DiscardReason
from pooling.core.errors import LeaseError, PoolClosed, PoolConfigError, PoolTimeout
from pooling.core.open_test_close import QUIESCENCE_TIMEOUT
from pooling.core.pool import close_all
from pooling.core.worker_threads import Workers
from tests.support.fakes import Caller, FakeOperationalError, Gate, ManualWorkers, PoolHarness


def test_drain_closes_idle_connections_and_keeps_serving(harness: PoolHarness) -> None:
    pool = harness.pool()
    leases = [pool.acquire() for _ in range(3)]
    for lease in leases:
        lease.release()
    pool.drain()
    assert harness.driver.open == []
    assert pool.stats().discards[DiscardReason.DRAINED] == 3
    with pool.acquire() as connection:
        assert connection.number == 4


def test_drain_closes_leased_connections_when_they_come_back(harness: PoolHarness) -> None:
    """Scenario 44: drain with leases out."""
    pool = harness.pool()
    lease = pool.acquire()
    connection = lease.connection
    pool.drain()
    assert lease.connection is connection
    assert not connection.closes
    lease.release()
    assert connection.closes == 1
    assert pool.stats().discards[DiscardReason.DRAINED] == 1


def test_drain_closes_what_is_being_opened_and_serves_the_caller_with_a_new_one(
    manual_harness: PoolHarness,
) -> None:
    pool = manual_harness.pool()
    manual_harness.clock.meanwhile(pool.drain, manual_harness.workers.work_all)
    with pool.acquire() as connection:
        assert connection.number == 2
    manual_harness.workers.work_all()
    assert pool.stats().discards[DiscardReason.DRAINED] == 1


def test_drain_replaces_min_size(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=2)
    pool.acquire().release()
    pool.drain()
    assert [each.number for each in harness.driver.open] == [3, 4]


def test_drain_survives_connections_that_cannot_be_closed(harness: PoolHarness) -> None:
    pool = harness.pool()
    leases = [pool.acquire() for _ in range(3)]
    for lease in leases:
        lease.release()
    harness.driver.plan("close", FakeOperationalError("gone"), ValueError("worse"))
    pool.drain()
    assert pool.stats().size == 0
    assert harness.driver.open == []


def test_drain_closes_the_connections_of_lost_leases(harness: PoolHarness) -> None:
    pool = harness.pool()
    pool.acquire()
    pool.drain()
    assert harness.driver.open == []
    assert pool.stats().recovered == 1


@pytest.mark.parametrize("act", ["drain", "close"])
def test_an_interrupted_end_is_finished_by_whoever_comes_next(
    harness: PoolHarness, act: str
) -> None:
    pool = harness.pool()
    leases = [pool.acquire() for _ in range(3)]
    for lease in leases:
        lease.release()
    harness.driver.plan("close", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        getattr(pool, act)()
    assert pool.stats().size == 0
    assert len(harness.driver.open) == 2
    getattr(pool, act)()
    assert harness.driver.open == []


def test_a_smaller_pool_closes_idle_connections_at_once_the_coldest_first(
    harness: PoolHarness,
) -> None:
    pool = harness.pool(max_size=4)
    leases = [pool.acquire() for _ in range(4)]
    for lease in leases:
        lease.release()
    pool.resize(max_size=2)
    assert [each.number for each in harness.driver.open] == [3, 4]
    assert pool.stats().discards[DiscardReason.SURPLUS] == 2
    assert pool.config.max_size == 2


def test_a_smaller_pool_closes_leased_connections_when_they_come_back(harness: PoolHarness) -> None:
    """Scenario 43: down while it is full."""
    pool = harness.pool(max_size=3)
    leases = [pool.acquire() for _ in range(3)]
    pool.resize(max_size=1)
    with pytest.raises(PoolTimeout, match="max_size=1, leased=3"):
        pool.acquire(timeout=0)
    sizes = []
    for lease in leases:
        lease.release()
        sizes.append(pool.stats().size)
    assert sizes == [2, 1, 1]
    assert pool.stats().idle == 1


def test_a_smaller_pool_serves_its_waiters_when_it_has_shrunk(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=2)
    leases = [pool.acquire() for _ in range(2)]
    waiting = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    pool.resize(max_size=1)
    leases[0].release()
    assert pool.stats().waiting == 1
    leases[1].release()
    waiting.result().release()
    assert pool.stats().size == 1


def test_a_shrunk_pool_turns_nobody_away_before_max_waiting(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=2, max_waiting=1)
    leases = [pool.acquire() for _ in range(2)]
    pool.resize(max_size=1)
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0)
    for lease in leases:
        lease.release()


def test_a_larger_pool_opens_connections_for_those_who_wait(harness: PoolHarness) -> None:
    """Scenario 43: up with waiters."""
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    callers = []
    for count in range(1, 4):
        callers.append(Caller(pool.acquire))
        harness.clock.wait_for_sleepers(count)
    pool.resize(max_size=3)
    served = [callers[0].result(), callers[1].result()]
    assert pool.stats().waiting == 1
    lease.release()
    served.append(callers[2].result())
    for each in served:
        each.release()


def test_a_larger_min_size_is_met_at_once(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=0)
    pool.acquire().release()
    pool.resize(min_size=3)
    assert pool.stats().idle == 3


def test_limits_that_make_no_sense_change_nothing(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=0, max_size=2)
    config = pool.config
    with pytest.raises(PoolConfigError, match="5 > 2"):
        pool.resize(min_size=5)
    with pytest.raises(PoolConfigError):
        pool.resize(max_size=0)
    assert pool.config is config


def test_close_ends_the_pool_and_what_is_leased_ends_with_its_lease(harness: PoolHarness) -> None:
    pool = harness.pool()
    lease = pool.acquire()
    pool.acquire().release()
    pool.close()
    assert pool.closed
    assert [each.number for each in harness.driver.open] == [1]
    lease.release()
    assert harness.driver.open == []
    assert pool.stats().discards[DiscardReason.CLOSED] == 2
    with pytest.raises(LeaseError):
        lease.release()


def test_close_may_be_called_again(harness: PoolHarness) -> None:
    """Scenario 45: twice."""
    pool = harness.pool()
    pool.acquire().release()
    pool.close()
    pool.close()
    assert pool.stats().discards[DiscardReason.CLOSED] == 1


def test_what_is_opened_after_close_is_closed_at_once(manual_harness: PoolHarness) -> None:
    pool = manual_harness.pool()
    manual_harness.clock.meanwhile(pool.close)
    with pytest.raises(PoolClosed):
        pool.acquire()
    manual_harness.workers.work_all()
    assert manual_harness.driver.open == []
    assert len(manual_harness.driver.connections) == 1


def test_a_closed_pool_opens_nothing_any_more(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=2)
    pool.acquire().release()
    pool.close()
    pool.drain()
    pool.resize(max_size=20, min_size=5)
    pool._tasks.maintain()
    assert harness.driver.open == []
    assert pool._tasks.maintain() is None


def test_two_threads_may_close_at_once() -> None:
    """Scenario 45: from two threads."""
    harness = PoolHarness(Workers())
    pool = harness.pool()
    leases = [Caller(pool.acquire).result() for _ in range(3)]
    for lease in leases:
        lease.release()
    closing = Gate()
    harness.driver.plan("close", closing)
    first = Caller(pool.close)
    closing.wait_for(1)
    second = Caller(pool.close)
    closing.open()
    first.result()
    second.result()
    with pytest.raises(PoolClosed):
        pool.acquire()
    assert harness.driver.open == []
    assert harness.driver.faults == []


def test_a_close_that_hangs_delays_nobody_else() -> None:
    """Scenario 27: it has a thread of its own."""
    harness = PoolHarness(Workers())
    pool = harness.pool(max_size=2)
    leases = [Caller(pool.acquire).result() for _ in range(2)]
    closing = Gate()
    harness.driver.plan("close", closing)
    leases[0].discard()
    closing.wait_for(1)
    leases[1].release()
    pool.acquire(timeout=0).release()
    lease, other = pool.acquire(), Caller(pool.acquire)
    other.result().release()
    lease.release()
    closing.open()


def test_a_hook_may_use_the_pool_itself(harness: PoolHarness) -> None:
    """No lock is held while the driver works."""
    pool = harness.pool(max_size=2)
    seen = []
    for method in ("connect", "is_alive", "ping", "reset", "close"):
        harness.driver.plan(method, lambda _: seen.append(pool.stats()))
    with pool.acquire() as connection:
        pass
    connection.readable = True
    pool.acquire().discard()
    assert len(seen) == 5
    assert threading.active_count() >= 1


@pytest.mark.parametrize("act", ["drain", "close"])
def test_who_ends_connections_waits_until_they_are_closed(act: str) -> None:
    harness = PoolHarness(Workers())
    pool = harness.pool()
    Caller(lambda: pool.acquire().release()).result()
    closing = Gate()
    harness.driver.plan("close", closing)
    operator = Caller(getattr(pool, act))
    closing.wait_for(1)
    harness.clock.wait_for_sleepers(1)
    closing.open()
    operator.result()
    assert [each.gone for each in harness.driver.connections] == [True]


def test_a_close_that_hangs_holds_nobody_up_for_ever() -> None:
    harness = PoolHarness(Workers())
    pool = harness.pool()
    Caller(lambda: pool.acquire().release()).result()
    closing = Gate()
    harness.driver.plan("close", closing)
    operator = Caller(pool.close)
    closing.wait_for(1)
    harness.clock.wait_for_sleepers(1)
    harness.clock.advance(QUIESCENCE_TIMEOUT)
    operator.result()
    assert not harness.driver.connections[0].gone
    closing.open()


def test_an_interrupt_while_the_resting_are_told_breaks_nothing(harness: PoolHarness) -> None:
    """1. A wakeup is set. 2. An interrupt keeps the state from forgetting it. 3. Again."""
    pool = harness.pool()
    wakeup = threading.Lock()
    pool._state.quiescence_waiters.append(wakeup)
    pool.acquire().release()
    pool.drain()
    assert pool._state.quiescence_waiters == []


def test_close_waits_for_a_connection_that_was_just_being_opened(
    manual_harness: PoolHarness,
) -> None:
    """Else who copies a database file then copies it while a connection is open: scenario 50.

    1. A connection is being opened. 2. The pool is closed. 3. The connection is open, and has to be
    closed: until then `close` must not return.
    """
    harness = manual_harness
    pool = harness.pool()
    waiting = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    closing = Caller(pool.close)
    with pytest.raises(PoolClosed):
        waiting.result()
    harness.clock.wait_for_sleepers(1)
    wakeup = pool._state.quiescence_waiters[0]
    harness.workers.work()
    assert pool._state.quiescence_waiters == [wakeup]
    assert len(harness.driver.open) == 1
    harness.workers.work_all()
    closing.result()
    assert harness.driver.open == []


def test_pools_that_are_closed_together_have_one_bound() -> None:
    """Scenario 59: servers that do not answer, three pools: the process ends after one bound, not
    three."""
    harness = PoolHarness(ManualWorkers())
    pools = [harness.pool(name=f"pool {number}") for number in range(3)]
    for pool in pools:
        harness.clock.meanwhile(harness.workers.work_all)
        pool.acquire().release()
    began = harness.clock.now()
    close_all(pools)
    assert harness.clock.now() - began == QUIESCENCE_TIMEOUT
    assert all(pool.closed for pool in pools)
    harness.workers.work_all()
    assert harness.driver.open == []
