"""How a pool opens connections, and what it does when that fails."""

from __future__ import annotations

import gc
import weakref
from itertools import pairwise

import pytest

from pooling.core.errors import PoolError, PoolTimeout
from pooling.core.reach import FIRST_PAUSE, LONGEST_PAUSE, OPENERS, UPKEEP_PAUSE
from pooling.core.upkeep import STALL
from pooling.core.workers import Workers
from tests.core.fakes import (
    Caller,
    FakeOperationalError,
    Gate,
    Lab,
    RefusedError,
    WrongPasswordError,
)


def test_nothing_is_opened_before_the_first_use(lab: Lab) -> None:
    pool = lab.pool(min_size=3)
    pool.stats()
    pool.holders()
    assert lab.driver.connections == []


@pytest.mark.parametrize("act", ["drain", "resize", "maintain"])
def test_what_operators_do_is_no_first_use(lab: Lab, act: str) -> None:
    pool = lab.pool(min_size=3)
    getattr(pool, act)()
    assert lab.driver.connections == []


def test_the_first_use_opens_min_size_connections(lab: Lab) -> None:
    pool = lab.pool(min_size=3)
    pool.acquire().release()
    assert (pool.stats().size, len(lab.driver.connections)) == (3, 3)


def test_the_caller_does_not_wait_for_the_rest_of_min_size(slow_lab: Lab) -> None:
    pool = slow_lab.pool(min_size=3)
    slow_lab.clock.meanwhile(slow_lab.workers.work)
    with pool.acquire():
        assert pool.stats().connecting == 2
        slow_lab.workers.work_all()
        assert pool.stats().size == 3


def test_a_spike_of_callers_opens_few_connections() -> None:
    """Scenario 20. 50 callers, and a server slow to connect: two connections serve them all."""
    lab = Lab(Workers())
    pool = lab.pool(max_size=50)
    connect = Gate()
    lab.driver.always("connect", connect)
    callers = [Caller(lambda: pool.acquire().release()) for _ in range(50)]
    lab.clock.wait_for_sleepers(50)
    connect.wait_for(OPENERS)
    assert pool.stats().connecting == OPENERS
    lab.driver.plan("connect", None, None)
    connect.admit(1)
    for caller in callers:
        caller.join()
    assert pool.stats().acquired == 50
    assert len(lab.driver.connections) + pool.stats().connecting <= 2 * OPENERS + 1
    connect.open()


def test_workers_that_hang_are_not_waited_for() -> None:
    """Two connects hang; when that has lasted too long, two more are begun, up to max_size."""
    lab = Lab(Workers())
    pool = lab.pool(max_size=3, timeout=60.0)
    hanging = Gate()
    lab.driver.plan("connect", *[hanging] * OPENERS)
    callers = [Caller(pool.acquire) for _ in range(OPENERS)]
    hanging.wait_for(OPENERS)
    lab.clock.wait_for_sleepers(OPENERS)
    lab.clock.advance(STALL / 2)
    pool.maintain()
    assert pool.stats().size == OPENERS
    lab.clock.advance(STALL / 2)
    pool.maintain()
    lab.clock.wait_for_sleepers(OPENERS - 1)
    assert pool.stats().leased == 1
    hanging.open()
    for caller in callers:
        caller.join()
    assert pool.stats().size <= 3


def test_a_connect_that_hangs_keeps_no_release_from_serving_a_waiter() -> None:
    """Scenario 14: what comes back is handed over meanwhile."""
    lab = Lab(Workers())
    pool = lab.pool(max_size=2)
    lease = Caller(pool.acquire).result()
    connect = Gate()
    lab.driver.always("connect", connect)
    waiting = Caller(pool.acquire)
    connect.wait_for(1)  # the lock is free while a worker is in the driver
    lab.clock.wait_for_sleepers(1)
    assert (pool.stats().connecting, pool.stats().waiting) == (1, 1)
    lease.release()
    assert waiting.result().connection.number == 1
    connect.open()


def test_what_a_waiter_did_not_need_any_more_stays_for_the_next(slow_lab: Lab) -> None:
    pool = slow_lab.pool(max_size=2)
    slow_lab.clock.meanwhile(slow_lab.workers.work_all)
    lease = pool.acquire()
    slow_lab.clock.meanwhile(lease.release)
    pool.acquire().release()
    assert pool.stats().connecting == 1
    slow_lab.workers.work_all()
    assert (pool.stats().connecting, pool.stats().idle) == (0, 2)


def test_a_permanent_error_reaches_the_caller_as_the_driver_raised_it(lab: Lab) -> None:
    error = WrongPasswordError("password authentication failed")
    lab.driver.plan("connect", error)
    pool = lab.pool()
    start = lab.clock.now()
    with pytest.raises(WrongPasswordError) as caught:
        pool.acquire()
    assert caught.value is error
    assert not isinstance(caught.value, PoolError)
    assert lab.clock.now() == start
    assert (pool.stats().size, pool.stats().connect_errors) == (0, 1)
    pool.acquire().release()


def test_a_permanent_error_goes_to_one_waiter_and_the_next_gets_an_attempt_of_its_own(
    slow_lab: Lab,
) -> None:
    """Scenario 12: one attempt fails, and the others are served."""
    pool = slow_lab.pool(max_size=1)
    slow_lab.driver.plan("connect", WrongPasswordError("yesterday's"))
    first = Caller(pool.acquire)
    slow_lab.clock.wait_for_sleepers(1)
    second = Caller(pool.acquire)
    slow_lab.clock.wait_for_sleepers(2)
    slow_lab.workers.work()
    with pytest.raises(WrongPasswordError):
        first.result()
    assert pool.stats().waiting == 1
    slow_lab.workers.work()
    second.result().release()


def test_a_permanent_error_for_everybody_is_one_for_each(lab: Lab) -> None:
    """Scenario 13: each gets the real error."""
    pool = lab.pool(max_size=1)
    lease = pool.acquire()
    callers = []
    for count in range(1, 4):
        callers.append(Caller(pool.acquire))
        lab.clock.wait_for_sleepers(count)
    lab.driver.plan("connect", *(WrongPasswordError(str(number)) for number in range(3)))
    lease.discard()
    for number, caller in enumerate(callers):
        with pytest.raises(WrongPasswordError, match=str(number)):
            caller.result()


def test_a_transient_error_is_tried_again_while_the_caller_waits(lab: Lab) -> None:
    lab.driver.plan("connect", RefusedError("starting up"))
    pool = lab.pool()
    start = lab.clock.now()
    lab.clock.meanwhile(lambda: lab.pass_time(FIRST_PAUSE))
    with pool.acquire() as connection:
        assert connection.number == 1
    assert lab.clock.now() - start == pytest.approx(FIRST_PAUSE)
    assert (pool.stats().connect_errors, pool.stats().connects) == (1, 1)


@pytest.mark.parametrize(("luck", "part"), [(0.0, 1.0), (0.5, 0.75), (1.0, 0.5)])
def test_the_pauses_between_attempts_grow_to_a_limit_and_are_jittered(
    lab: Lab, luck: float, part: float
) -> None:
    lab.luck = luck
    attempts: list[float] = []

    def refuse(_: object) -> None:
        attempts.append(lab.clock.now())
        raise RefusedError("down")

    lab.driver.always("connect", refuse)
    pool = lab.pool(max_size=1, timeout=10.0)
    lab.clock.meanwhile(lambda: lab.pass_time(3.0))
    with pytest.raises(PoolTimeout, match="down"):
        pool.acquire()
    pauses = [after - before for before, after in pairwise(attempts)]
    wanted = [min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) * part for n in range(6)]
    assert pauses[:6] == pytest.approx(wanted)


def test_while_a_server_is_away_callers_share_its_attempts(lab: Lab) -> None:
    lab.driver.always("connect", RefusedError("down"))
    pool = lab.pool(max_size=10)
    for _ in range(5):
        with pytest.raises(PoolTimeout, match="down"):
            pool.acquire(timeout=0)
    assert pool.stats().connect_errors == 1


def test_a_waiter_is_served_by_a_release_while_the_server_is_away(lab: Lab) -> None:
    pool = lab.pool(max_size=2)
    lease = pool.acquire()
    lab.driver.always("connect", RefusedError("down"))
    lab.clock.meanwhile(lease.release)
    with pool.acquire() as connection:
        assert connection.number == 1


def test_a_pool_recovers_within_a_second_of_its_server(lab: Lab) -> None:
    """Scenario 29: by itself."""
    pool = lab.pool(timeout=1000.0, fail_fast=None)
    lab.driver.always("connect", RefusedError("down"))
    start = lab.clock.now()
    lab.clock.meanwhile(
        lambda: lab.pass_time(600.0),
        lambda: lab.driver.always("connect", None),
        lambda: lab.pass_time(1.0),
    )
    pool.acquire().release()
    assert lab.clock.now() - start == 601.0


def test_min_size_is_restored_when_the_server_is_back(lab: Lab) -> None:
    """Scenario 28: without anybody asking."""
    pool = lab.pool(min_size=3)
    leases = [pool.acquire() for _ in range(3)]
    lab.driver.always("connect", RefusedError("down"))
    for lease in leases:
        lease.discard()
    assert pool.stats().size == 0
    lab.pass_time(100.0)
    assert pool.stats().size == 0
    lab.driver.always("connect", None)
    lab.pass_time(UPKEEP_PAUSE)
    assert (pool.stats().idle, pool.stats().size) == (3, 3)


def test_upkeep_does_not_hammer_a_server_that_refuses_for_good(lab: Lab) -> None:
    pool = lab.pool(min_size=2)
    lab.driver.always("connect", WrongPasswordError("wrong"))
    with pytest.raises(WrongPasswordError):
        pool.acquire()
    before = pool.stats().connect_errors
    lab.pass_time(10 * UPKEEP_PAUSE)
    assert pool.stats().connect_errors - before <= 2 * 10


def test_an_interrupted_caller_leaves_the_connection_that_comes_to_the_pool(slow_lab: Lab) -> None:
    """Scenario 15: its connection is the pool's."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    pool = slow_lab.pool(max_size=1)
    slow_lab.clock.meanwhile(interrupt)
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    assert (pool.stats().connecting, pool.stats().waiting) == (1, 0)
    slow_lab.workers.work_all()
    assert pool.stats().idle == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_connect_leaves_its_place_to_others(
    lab: Lab, error: type[BaseException]
) -> None:
    """Scenario 8: `SystemExit` in a hook that sets up the session."""
    pool = lab.pool(max_size=1)
    lab.driver.plan("connect", error)
    with pytest.raises(error):
        pool.acquire()
    assert (pool.stats().size, pool.stats().waiting) == (0, 0)
    pool.acquire().release()


def test_a_driver_that_cannot_judge_its_error_does_not_cost_a_place(lab: Lab) -> None:
    pool = lab.pool(max_size=1)
    lab.driver.plan("connect", WrongPasswordError("wrong"))
    judge, lab.driver.is_transient = lab.driver.is_transient, None  # type: ignore
    with pytest.raises((WrongPasswordError, TypeError, FakeOperationalError)):
        pool.acquire()
    lab.driver.is_transient = judge  # type: ignore[method-assign]
    assert pool.stats().size == 0
    pool.acquire(timeout=0).release()


def test_a_caller_that_got_an_error_is_not_kept_alive_by_it(lab: Lab) -> None:
    class Baggage:
        pass

    def work() -> weakref.ref[Baggage]:
        baggage = Baggage()
        with pytest.raises(WrongPasswordError):
            pool.acquire()
        return weakref.ref(baggage)

    pool = lab.pool()
    lab.driver.plan("connect", WrongPasswordError("wrong"))
    baggage = work()
    gc.collect()
    assert baggage() is None
