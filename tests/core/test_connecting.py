"""How a pool opens connections, and what it does when that fails."""

from __future__ import annotations

import gc
import weakref
from itertools import pairwise
from operator import attrgetter

import pytest

from pooling.core.backoff import FIRST_PAUSE, LONGEST_PAUSE, MAX_CONCURRENT_CONNECTS, REFILL_PAUSE
from pooling.core.errors import PoolError, PoolTimeout
from pooling.core.housekeeping import STALL
from pooling.core.worker_threads import Workers
from tests.support.fakes import (
    Caller,
    FakeOperationalError,
    Gate,
    PoolHarness,
    RefusedError,
    WrongPasswordError,
)


def test_nothing_is_opened_before_the_first_use(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=3)
    pool.stats()
    pool.holders()
    assert harness.driver.connections == []


@pytest.mark.parametrize("act", ["drain", "resize", "_tasks.maintain"])
def test_what_operators_do_is_no_first_use(harness: PoolHarness, act: str) -> None:
    pool = harness.pool(min_size=3)
    attrgetter(act)(pool)()
    assert harness.driver.connections == []


def test_the_first_use_opens_min_size_connections(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=3)
    pool.acquire().release()
    assert (pool.stats().size, len(harness.driver.connections)) == (3, 3)


def test_the_caller_does_not_wait_for_the_rest_of_min_size(manual_harness: PoolHarness) -> None:
    pool = manual_harness.pool(min_size=3)
    manual_harness.clock.meanwhile(manual_harness.workers.work)
    with pool.acquire():
        assert pool.stats().connecting == 2
        manual_harness.workers.work_all()
        assert pool.stats().size == 3


def test_a_spike_of_callers_opens_few_connections() -> None:
    """Scenario 20. 50 callers, and a server slow to connect: two connections serve them all."""
    harness = PoolHarness(Workers())
    pool = harness.pool(max_size=50)
    connect = Gate()
    harness.driver.always("connect", connect)
    callers = [Caller(lambda: pool.acquire().release()) for _ in range(50)]
    harness.clock.wait_for_sleepers(50)
    connect.wait_for(MAX_CONCURRENT_CONNECTS)
    assert pool.stats().connecting == MAX_CONCURRENT_CONNECTS
    harness.driver.plan("connect", None, None)
    connect.admit(1)
    for caller in callers:
        caller.join()
    assert pool.stats().acquired == 50
    assert (
        len(harness.driver.connections) + pool.stats().connecting <= 2 * MAX_CONCURRENT_CONNECTS + 1
    )
    connect.open()


def test_workers_that_hang_are_not_waited_for() -> None:
    """Two connects hang; when that has lasted too long, two more are begun, up to max_size."""
    harness = PoolHarness(Workers())
    pool = harness.pool(max_size=3, timeout=60.0)
    hanging = Gate()
    harness.driver.plan("connect", *[hanging] * MAX_CONCURRENT_CONNECTS)
    callers = [Caller(pool.acquire) for _ in range(MAX_CONCURRENT_CONNECTS)]
    hanging.wait_for(MAX_CONCURRENT_CONNECTS)
    harness.clock.wait_for_sleepers(MAX_CONCURRENT_CONNECTS)
    harness.clock.advance(STALL / 2)
    pool._tasks.maintain()
    assert pool.stats().size == MAX_CONCURRENT_CONNECTS
    harness.clock.advance(STALL / 2)
    pool._tasks.maintain()
    harness.clock.wait_for_sleepers(MAX_CONCURRENT_CONNECTS - 1)
    assert pool.stats().leased == 1
    hanging.open()
    for caller in callers:
        caller.join()
    assert pool.stats().size <= 3


def test_a_connect_that_hangs_keeps_no_release_from_serving_a_waiter() -> None:
    """Scenario 14: what comes back is handed over meanwhile."""
    harness = PoolHarness(Workers())
    pool = harness.pool(max_size=2)
    lease = Caller(pool.acquire).result()
    connect = Gate()
    harness.driver.always("connect", connect)
    waiting = Caller(pool.acquire)
    connect.wait_for(1)  # the lock is free while a worker is in the driver
    harness.clock.wait_for_sleepers(1)
    assert (pool.stats().connecting, pool.stats().waiting) == (1, 1)
    lease.release()
    assert waiting.result().connection.number == 1
    connect.open()


def test_what_a_waiter_did_not_need_any_more_stays_for_the_next(
    manual_harness: PoolHarness,
) -> None:
    pool = manual_harness.pool(max_size=2)
    manual_harness.clock.meanwhile(manual_harness.workers.work_all)
    lease = pool.acquire()
    manual_harness.clock.meanwhile(lease.release)
    pool.acquire().release()
    assert pool.stats().connecting == 1
    manual_harness.workers.work_all()
    assert (pool.stats().connecting, pool.stats().idle) == (0, 2)


def test_a_permanent_error_reaches_the_caller_as_the_driver_raised_it(harness: PoolHarness) -> None:
    error = WrongPasswordError("password authentication failed")
    harness.driver.plan("connect", error)
    pool = harness.pool()
    start = harness.clock.now()
    with pytest.raises(WrongPasswordError) as caught:
        pool.acquire()
    assert caught.value is error
    assert not isinstance(caught.value, PoolError)
    assert harness.clock.now() == start
    assert (pool.stats().size, pool.stats().connect_errors) == (0, 1)
    pool.acquire().release()


def test_a_permanent_error_goes_to_one_waiter_and_the_next_gets_an_attempt_of_its_own(
    manual_harness: PoolHarness,
) -> None:
    """Scenario 12: one attempt fails, and the others are served."""
    pool = manual_harness.pool(max_size=1)
    manual_harness.driver.plan("connect", WrongPasswordError("yesterday's"))
    first = Caller(pool.acquire)
    manual_harness.clock.wait_for_sleepers(1)
    second = Caller(pool.acquire)
    manual_harness.clock.wait_for_sleepers(2)
    manual_harness.workers.work()
    with pytest.raises(WrongPasswordError):
        first.result()
    assert pool.stats().waiting == 1
    manual_harness.workers.work()
    second.result().release()


def test_a_permanent_error_for_everybody_is_one_for_each(harness: PoolHarness) -> None:
    """Scenario 13: each gets the real error."""
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    callers = []
    for count in range(1, 4):
        callers.append(Caller(pool.acquire))
        harness.clock.wait_for_sleepers(count)
    harness.driver.plan("connect", *(WrongPasswordError(str(number)) for number in range(3)))
    lease.discard()
    for number, caller in enumerate(callers):
        with pytest.raises(WrongPasswordError, match=str(number)):
            caller.result()


def test_a_transient_error_is_tried_again_while_the_caller_waits(harness: PoolHarness) -> None:
    harness.driver.plan("connect", RefusedError("starting up"))
    pool = harness.pool()
    start = harness.clock.now()
    harness.clock.meanwhile(lambda: harness.pass_time(FIRST_PAUSE))
    with pool.acquire() as connection:
        assert connection.number == 1
    assert harness.clock.now() - start == pytest.approx(FIRST_PAUSE)
    assert (pool.stats().connect_errors, pool.stats().connects) == (1, 1)


@pytest.mark.parametrize(("luck", "part"), [(0.0, 1.0), (0.5, 0.75), (1.0, 0.5)])
def test_the_pauses_between_attempts_grow_to_a_limit_and_are_jittered(
    harness: PoolHarness, luck: float, part: float
) -> None:
    harness.luck = luck
    attempts: list[float] = []

    def refuse(_: object) -> None:
        attempts.append(harness.clock.now())
        raise RefusedError("down")

    harness.driver.always("connect", refuse)
    pool = harness.pool(max_size=1, timeout=10.0)
    harness.clock.meanwhile(lambda: harness.pass_time(3.0))
    with pytest.raises(PoolTimeout, match="down"):
        pool.acquire()
    pauses = [after - before for before, after in pairwise(attempts)]
    wanted = [min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) * part for n in range(6)]
    assert pauses[:6] == pytest.approx(wanted)


def test_while_a_server_is_away_callers_share_its_attempts(harness: PoolHarness) -> None:
    harness.driver.always("connect", RefusedError("down"))
    pool = harness.pool(max_size=10)
    for _ in range(5):
        with pytest.raises(PoolTimeout, match="down"):
            pool.acquire(timeout=0)
    assert pool.stats().connect_errors == 1


def test_a_waiter_is_served_by_a_release_while_the_server_is_away(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=2)
    lease = pool.acquire()
    harness.driver.always("connect", RefusedError("down"))
    harness.clock.meanwhile(lease.release)
    with pool.acquire() as connection:
        assert connection.number == 1


def test_a_pool_recovers_within_a_second_of_its_server(harness: PoolHarness) -> None:
    """Scenario 29: by itself."""
    pool = harness.pool(timeout=1000.0, fail_fast=None)
    harness.driver.always("connect", RefusedError("down"))
    start = harness.clock.now()
    harness.clock.meanwhile(
        lambda: harness.pass_time(600.0),
        lambda: harness.driver.always("connect", None),
        lambda: harness.pass_time(1.0),
    )
    pool.acquire().release()
    assert harness.clock.now() - start == 601.0


def test_min_size_is_restored_when_the_server_is_back(harness: PoolHarness) -> None:
    """Scenario 28: without anybody asking."""
    pool = harness.pool(min_size=3)
    leases = [pool.acquire() for _ in range(3)]
    harness.driver.always("connect", RefusedError("down"))
    for lease in leases:
        lease.discard()
    assert pool.stats().size == 0
    harness.pass_time(100.0)
    assert pool.stats().size == 0
    harness.driver.always("connect", None)
    harness.pass_time(REFILL_PAUSE)
    assert (pool.stats().idle, pool.stats().size) == (3, 3)


def test_upkeep_does_not_hammer_a_server_that_refuses_for_good(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=2)
    harness.driver.always("connect", WrongPasswordError("wrong"))
    with pytest.raises(WrongPasswordError):
        pool.acquire()
    before = pool.stats().connect_errors
    harness.pass_time(10 * REFILL_PAUSE)
    assert pool.stats().connect_errors - before <= 2 * 10


def test_an_interrupted_caller_leaves_the_connection_that_comes_to_the_pool(
    manual_harness: PoolHarness,
) -> None:
    """Scenario 15: its connection is the pool's."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    pool = manual_harness.pool(max_size=1)
    manual_harness.clock.meanwhile(interrupt)
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    assert (pool.stats().connecting, pool.stats().waiting) == (1, 0)
    manual_harness.workers.work_all()
    assert pool.stats().idle == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_connect_leaves_its_place_to_others(
    harness: PoolHarness, error: type[BaseException]
) -> None:
    """Scenario 8: `SystemExit` in a hook that sets up the session."""
    pool = harness.pool(max_size=1)
    harness.driver.plan("connect", error)
    with pytest.raises(error):
        pool.acquire()
    assert (pool.stats().size, pool.stats().waiting) == (0, 0)
    pool.acquire().release()


def test_a_driver_that_cannot_judge_its_error_does_not_cost_a_place(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    harness.driver.plan("connect", WrongPasswordError("wrong"))
    judge, harness.driver.is_transient = harness.driver.is_transient, None  # type: ignore
    with pytest.raises((WrongPasswordError, TypeError, FakeOperationalError)):
        pool.acquire()
    harness.driver.is_transient = judge  # type: ignore[method-assign]
    assert pool.stats().size == 0
    pool.acquire(timeout=0).release()


def test_a_caller_that_got_an_error_is_not_kept_alive_by_it(harness: PoolHarness) -> None:
    class Baggage:
        pass

    def work() -> weakref.ref[Baggage]:
        baggage = Baggage()
        with pytest.raises(WrongPasswordError):
            pool.acquire()
        return weakref.ref(baggage)

    pool = harness.pool()
    harness.driver.plan("connect", WrongPasswordError("wrong"))
    baggage = work()
    gc.collect()
    assert baggage() is None
