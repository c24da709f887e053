"""A caller waits as long as it said, and then learns why."""

from __future__ import annotations

import threading

import pytest

from pooling.core.errors import PoolTimeout
from tests.support.fakes import (
    Caller,
    FakeOperationalError,
    Gate,
    ManualWorkers,
    PoolHarness,
    RefusedError,
)


def test_the_pools_own_timeout_holds_unless_the_caller_has_another(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1, timeout=5.0)
    with pool.acquire():
        for timeout, seconds in ((None, 5.0), (2.5, 2.5), (0, 0.0), (60.0, 60.0)):
            start = harness.clock.now()
            with pytest.raises(PoolTimeout, match=f"no connection within {seconds:g} s"):
                pool.acquire(timeout=timeout)
            assert harness.clock.now() - start == seconds


def test_without_a_timeout_a_caller_waits_until_it_is_served(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1, timeout=None)
    lease = pool.acquire()
    waiting = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    harness.clock.advance(1e9)
    lease.release()
    waiting.result().release()


def test_a_negative_timeout_is_no_time_at_all(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    pool.acquire(timeout=-1).release()
    with pool.acquire(), pytest.raises(PoolTimeout):
        pool.acquire(timeout=-1)


def test_a_timeout_of_zero_takes_what_is_there(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    pool.acquire().release()
    pool.acquire(timeout=0).release()


def test_a_timeout_has_numbers_and_holders(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=2, name="default")
    leases = [Caller(pool.acquire, name="worker-1").result()]
    harness.clock.advance(2.0)
    leases.append(Caller(pool.acquire, name="worker-2").result())
    with pytest.raises(PoolTimeout) as caught:
        pool.acquire(timeout=5.0)
    assert str(caught.value) == (
        "pool 'default': no connection within 5 s (max_size=2, leased=2, idle=0, waiting=1); "
        "held by thread 'worker-1' for 7.0 s, thread 'worker-2' for 5.0 s"
    )
    assert caught.value.__cause__ is None
    assert isinstance(caught.value, FakeOperationalError)
    for lease in leases:
        lease.release()


def test_a_timeout_names_the_five_who_hold_longest(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=7)
    leases = [Caller(pool.acquire, name=f"worker-{n}").result() for n in range(7)]
    with pytest.raises(PoolTimeout) as caught:
        pool.acquire(timeout=1.0)
    assert str(caught.value).count("thread 'worker-") == 5
    assert str(caught.value).endswith(", 2 more")
    for lease in leases:
        lease.release()


def test_a_thread_that_waits_for_itself_is_told_so(harness: PoolHarness) -> None:
    """Scenario 5: the error names the deadlock."""
    pool = harness.pool(max_size=1)
    with pool.acquire(), pytest.raises(PoolTimeout) as caught:
        pool.acquire()
    assert "this thread holds 1 of them itself and would wait for its own release" in str(
        caught.value
    )


def test_a_thread_that_holds_nothing_is_not_told_of_a_deadlock(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    lease = Caller(pool.acquire).result()
    with pytest.raises(PoolTimeout) as caught:
        pool.acquire()
    assert "itself" not in str(caught.value)
    lease.release()


def test_a_connect_that_hangs_does_not_outlast_the_timeout(manual_harness: PoolHarness) -> None:
    """Scenario 14: the deadline holds."""
    pool = manual_harness.pool(max_size=1)
    with pytest.raises(PoolTimeout, match=r"idle=0, connecting=1, waiting=1"):
        pool.acquire(timeout=5.0)
    manual_harness.workers.work_all()  # the connection that came too late is kept for the next one
    pool.acquire(timeout=0).release()
    assert len(manual_harness.driver.connections) == 1


def test_a_ping_that_hangs_does_not_outlast_the_timeout(manual_harness: PoolHarness) -> None:
    """Scenario 26: the deadline holds."""
    pool = manual_harness.pool(max_size=1, ping_after=10.0)
    manual_harness.clock.meanwhile(manual_harness.workers.work_all)
    pool.acquire().release()
    manual_harness.clock.advance(10.0)
    start = manual_harness.clock.now()
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=3.0)
    assert manual_harness.clock.now() - start == 3.0
    manual_harness.workers.work_all()
    assert pool.stats().idle == 1


def test_a_timeout_has_the_last_connect_error_as_its_cause_and_in_its_text(
    harness: PoolHarness,
) -> None:
    pool = harness.pool()
    error = RefusedError("connection refused\n")
    harness.driver.always("connect", error)
    with pytest.raises(PoolTimeout) as caught:
        pool.acquire()
    assert caught.value.__cause__ is error
    assert "the last attempt to connect failed: connection refused" in str(caught.value)


def test_an_old_connect_error_is_forgotten_after_a_success(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    harness.driver.plan("connect", RefusedError("away"))
    harness.clock.meanwhile(lambda: harness.pass_time(1.0))
    with pool.acquire(), pytest.raises(PoolTimeout) as caught:
        pool.acquire()
    assert caught.value.__cause__ is None
    assert "away" not in str(caught.value)


class StickyLock:
    """A lock that a thread can be kept from acquiring, while all others may."""

    def __init__(self, lock: threading.Lock) -> None:
        self.lock = lock
        self.gates: dict[threading.Thread, Gate] = {}

    def __enter__(self) -> None:
        self.gates.get(threading.current_thread(), lambda: None)()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_a_waiter_served_at_the_very_moment_it_times_out_gets_its_connection() -> None:
    """Scenario 1. The numbers are those of `Pool._wait`."""
    harness = PoolHarness(ManualWorkers())
    pool = harness.pool(max_size=1)
    harness.clock.meanwhile(harness.workers.work_all)
    lease = pool.acquire()
    waiting = Caller(lambda: pool.acquire(timeout=1.0))
    harness.clock.wait_for_sleepers(1)

    lock = StickyLock(pool._lock)
    lock.gates[waiting.thread] = at_the_lock = Gate()
    pool._lock = lock  # type: ignore[assignment]
    harness.clock.advance(1.0)  # 1. its wait ends empty-handed
    at_the_lock.wait_for(1)
    lease.release()  # 2. somebody takes it out of the queue and settles it
    assert (pool.stats().leased, pool.stats().idle) == (1, 0)
    at_the_lock.open()  # 3. it gets the lock and finds itself resolved

    lease = waiting.result()
    assert lease.connection.number == 1
    assert pool.stats().timeouts == 0
    lease.release()
    assert pool.stats().idle == 1


def test_a_waiter_that_timed_out_first_leaves_the_connection_to_the_next() -> None:
    """Scenario 1: the other way round."""
    harness = PoolHarness()
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    first = Caller(lambda: pool.acquire(timeout=1.0))
    harness.clock.wait_for_sleepers(1)
    second = Caller(lambda: pool.acquire(timeout=9.0))
    harness.clock.wait_for_sleepers(2)
    harness.clock.advance(1.0)
    with pytest.raises(PoolTimeout):
        first.result()
    lease.release()
    second.result().release()
    assert (pool.stats().idle, pool.stats().timeouts) == (1, 1)
