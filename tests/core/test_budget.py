"""A budget in the pool: turned away, looked at, given up. Drivers know who has what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pooling import PoolConfigError, PoolTimeout
from pooling.core.budget import BudgetUse, Probe
from pooling.core.config import PoolConfig
from pooling.core.connection import DiscardReason
from pooling.core.errors import BudgetExhausted

if TYPE_CHECKING:
    from tests.support.fakes import PoolHarness

FULL = BudgetUse(limit=6, used=6, processes=3, wanting=1)
BUDGET = {"budget": 6, "reset": "session"}


def turned_away(pause: float = 1.0) -> BudgetExhausted:
    return BudgetExhausted(str(FULL), FULL, pause)


def test_a_caller_that_the_budget_turns_away_waits_for_its_time(harness: PoolHarness) -> None:
    pool = harness.pool(timeout=3.0, **BUDGET)
    harness.driver.always("connect", turned_away())
    with pytest.raises(PoolTimeout, match="budget 6 of 6 used by 3 processes") as caught:
        pool.acquire()
    assert isinstance(caught.value.__cause__, BudgetExhausted)
    stats = pool.stats()
    assert stats.budget == FULL
    assert (stats.size, stats.timeouts, stats.connect_errors, stats.outage) == (0, 1, 0, None)
    assert stats.max_size == 10


def test_the_next_attempt_comes_when_the_driver_says(harness: PoolHarness) -> None:
    pool = harness.pool(timeout=30.0, **BUDGET)
    harness.driver.plan("connect", turned_away(pause=7.0))
    begin = harness.clock.now()
    harness.clock.meanwhile(lambda: harness.pass_time(6.9), lambda: harness.pass_time(0.2))
    pool.acquire()
    assert harness.clock.now() - begin == pytest.approx(7.1)


def test_a_look_that_finds_room_ends_the_pause(harness: PoolHarness) -> None:
    pool = harness.pool(timeout=60.0, **BUDGET)
    pool.acquire().release()
    harness.driver.plan("connect", turned_away(pause=50.0))
    lease = pool.acquire()
    begin = harness.clock.now()

    def use_the_first() -> None:
        harness.clock.advance(1.0)
        lease.release()

    harness.driver.found = Probe(FULL._replace(used=5), 0.5)
    harness.clock.meanwhile(use_the_first)
    pool.acquire()
    pool.acquire()
    assert harness.clock.now() - begin < 2.0


def test_a_connection_that_ends_leaves_its_room_to_the_next(harness: PoolHarness) -> None:
    """Scenario 68: no other connection may be there to look with, and the pause may be long."""
    pool = harness.pool(timeout=60.0, max_size=2, **BUDGET)
    lease = pool.acquire()
    harness.driver.plan("connect", turned_away(pause=50.0))
    begin = harness.clock.now()
    harness.clock.meanwhile(lambda: harness.pass_time(1.0), lease.discard)
    pool.acquire()
    assert harness.clock.now() - begin < 2.0


def test_what_is_given_up_for_others_is_no_room(harness: PoolHarness) -> None:
    pool = harness.pool(timeout=60.0, max_size=2, **BUDGET)
    lease = pool.acquire()
    harness.pass_time(1.0)
    harness.driver.plan("connect", turned_away(pause=50.0))
    begin = harness.clock.now()
    harness.driver.found = Probe(FULL, 0.5, give_up=True)
    harness.clock.meanwhile(lease.release, lambda: harness.pass_time(51.0))
    pool.acquire()
    assert harness.driver.connections[0].closes
    assert harness.clock.now() - begin > 40.0


def test_a_full_budget_is_no_outage(harness: PoolHarness) -> None:
    pool = harness.pool(timeout=20.0, fail_fast=2.0, **BUDGET)
    harness.driver.always("connect", turned_away())
    with pytest.raises(PoolTimeout):
        pool.acquire()
    harness.driver.always("connect", None)
    pool.acquire()


def test_one_connection_at_a_time_is_opened(harness: PoolHarness) -> None:
    pool = harness.pool(**BUDGET)
    assert pool._state.max_opening == 1
    assert harness.pool()._state.max_opening > 1


def test_an_idle_connection_looks_at_the_budget_without_being_used(harness: PoolHarness) -> None:
    pool = harness.pool(max_idle=10.0, **BUDGET)
    first, second = pool.acquire(), pool.acquire()
    first.release()
    second.release()
    harness.pass_time(8.0)
    one, two = harness.driver.connections
    assert len(one.probes) >= 14
    assert not two.probes
    assert not any(one.probes)
    # It is still the one that is used last, and the first whose idle time is up.
    assert pool.acquire()._record.connection is two
    harness.pass_time(2.1)
    assert pool.stats().discards[DiscardReason.IDLE] == 1
    assert harness.driver.open == [two]


def test_a_released_connection_looks_before_the_next_caller_gets_it(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1, **BUDGET)
    lease = pool.acquire()
    harness.clock.advance(1.0)
    harness.clock.meanwhile(lease.release)
    pool.acquire().release()
    [connection] = harness.driver.connections
    assert connection.probes == [True]


def test_idle_connections_above_the_ceiling_are_given_up(harness: PoolHarness) -> None:
    pool = harness.pool(**BUDGET)
    leases = [pool.acquire() for _ in range(5)]
    for lease in leases[:4]:
        lease.release()
    harness.driver.found = Probe(FULL, 0.5, ceiling=2)
    harness.pass_time(1.0)
    stats = pool.stats()
    assert (stats.size, stats.idle, stats.discards[DiscardReason.BUDGET]) == (2, 1, 3)
    assert (stats.max_size, stats.budget) == (10, FULL)


def test_leased_connections_above_the_ceiling_are_given_up_as_they_come_back(
    harness: PoolHarness,
) -> None:
    pool = harness.pool(**BUDGET)
    leases = [pool.acquire() for _ in range(4)]
    harness.clock.advance(1.0)
    harness.driver.found = Probe(FULL, 60.0, ceiling=2)
    for lease in leases:
        lease.release()
    stats = pool.stats()
    assert (stats.size, stats.discards[DiscardReason.BUDGET]) == (2, 2)


def test_a_pool_under_the_ceiling_opens_no_more_until_it_is_lifted(harness: PoolHarness) -> None:
    pool = harness.pool(timeout=3.0, **BUDGET)
    pool.acquire().release()
    harness.driver.found = Probe(FULL, 0.5, ceiling=1)
    harness.pass_time(1.0)
    lease = pool.acquire()
    with pytest.raises(PoolTimeout):
        pool.acquire()
    harness.driver.found = Probe(None, 0.5)
    lease.release()
    harness.pass_time(1.0)
    pool.acquire(), pool.acquire()


def test_a_ceiling_ends_when_nothing_is_free_to_look_with(harness: PoolHarness) -> None:
    pool = harness.pool(timeout=60.0, **BUDGET)
    pool.acquire().release()
    harness.driver.found = Probe(FULL, 0.5, ceiling=1)
    harness.pass_time(0.6)
    pool.acquire()
    begin = harness.clock.now()
    harness.clock.meanwhile(*[lambda: harness.pass_time(0.5)] * 12)
    pool.acquire()
    assert harness.clock.now() - begin <= 3.0


def test_the_connection_that_was_looked_with_is_given_up(harness: PoolHarness) -> None:
    pool = harness.pool(**BUDGET)
    pool.acquire().release()
    harness.driver.found = Probe(FULL, 0.5, ceiling=1, give_up=True)
    harness.pass_time(1.0)
    assert pool.stats().discards[DiscardReason.BUDGET] == 1
    assert not harness.driver.open
    pool.acquire()


def test_a_connection_with_which_looking_fails_is_replaced(harness: PoolHarness) -> None:
    pool = harness.pool(**BUDGET)
    pool.acquire().release()
    harness.driver.open[0].dead = True
    harness.pass_time(1.0)
    assert pool.stats().discards[DiscardReason.BROKEN] == 1
    pool.acquire().release()
    harness.pass_time(1.0)
    assert harness.driver.open[0].probes


def test_a_resize_keeps_the_ceiling_and_an_interrupt_does(harness: PoolHarness) -> None:
    pool = harness.pool(**BUDGET)
    pool.acquire().release()
    harness.driver.found = Probe(FULL, 60.0, ceiling=3)
    harness.pass_time(1.0)
    pool.resize(min_size=1)
    assert (pool.config.max_size, pool._state.max_size) == (10, 3)
    pool._state.restore_invariants()
    assert pool._state.max_size == 3
    pool.resize(max_size=2)
    assert pool._state.max_size == 2


def test_without_a_budget_nobody_looks(harness: PoolHarness) -> None:
    pool = harness.pool()
    pool.acquire().release()
    harness.pass_time(60.0)
    assert not harness.driver.connections[0].probes


def test_a_budget_needs_tracked_sessions() -> None:
    with pytest.raises(PoolConfigError, match="must be 'session' with a budget"):
        PoolConfig(budget=5)
    with pytest.raises(PoolConfigError, match="at least 1"):
        PoolConfig(budget=0, reset="session")
