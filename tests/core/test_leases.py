"""What a caller may do with a lease, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from pooling.core.connection import DiscardReason, Lease
from pooling.core.errors import LeaseError
from tests.support.fakes import FakeOperationalError, PoolHarness


def test_a_lease_gives_the_drivers_own_connection(harness: PoolHarness) -> None:
    lease = harness.pool().acquire()
    assert lease.connection is harness.driver.connections[0]
    assert lease._current
    lease.release()
    assert not lease._current


def test_a_with_block_gives_the_connection_and_releases_it(harness: PoolHarness) -> None:
    pool = harness.pool()
    with pool.acquire() as connection:
        assert connection is harness.driver.connections[0]
        assert pool.stats().leased == 1
    assert pool.stats().idle == 1


def test_a_with_block_releases_after_an_error_too(harness: PoolHarness) -> None:
    pool = harness.pool()
    with pytest.raises(ZeroDivisionError), pool.acquire():
        raise ZeroDivisionError
    assert pool.stats().idle == 1


def test_the_warmest_connection_is_used_first(harness: PoolHarness) -> None:
    pool = harness.pool()
    first, second, third = (pool.acquire() for _ in range(3))
    connections = [each.connection for each in (first, second, third)]
    second.release()
    third.release()
    first.release()
    again = [pool.acquire() for _ in range(3)]
    assert [each.connection for each in again] == [connections[0], connections[2], connections[1]]
    for lease in again:
        lease.release()


def test_one_caller_after_the_other_needs_one_connection(harness: PoolHarness) -> None:
    pool = harness.pool()
    for _ in range(5):
        with pool.acquire():
            pass
    assert len(harness.driver.connections) == 1


def test_no_two_leases_share_a_connection(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=4)
    leases = [pool.acquire() for _ in range(4)]
    assert len({lease.connection.number for lease in leases}) == 4
    for lease in leases:
        lease.release()


def test_a_lease_can_be_released_once(harness: PoolHarness) -> None:
    """Scenario 36: the second time is an error, and changes nothing."""
    pool = harness.pool()
    lease = pool.acquire()
    lease.release()
    before = pool.stats()
    with pytest.raises(LeaseError, match="'pool': this lease is over"):
        lease.release()
    with pytest.raises(LeaseError):
        lease.discard()
    assert pool.stats() == before


def test_a_stale_handle_does_not_touch_the_next_lease(harness: PoolHarness) -> None:
    pool = harness.pool()
    stale = pool.acquire()
    stale.release()
    lease = pool.acquire()
    with pytest.raises(LeaseError):
        stale.release()
    with pytest.raises(LeaseError):
        stale.discard()
    assert lease._current
    assert pool.stats().leased == 1
    lease.release()


def test_a_disrupted_lease_is_the_last_of_its_connection(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1, min_size=0)
    lease = pool.acquire()
    (holder,) = pool.holders()
    seen: list[object] = []
    assert pool._disrupt(holder.id, seen.append)
    assert seen == [lease.connection]
    lease.release()
    with pool.acquire() as other:
        assert other is not seen[0]
        assert not pool._disrupt(holder.id, seen.append), "its lease is over"
    assert len(seen) == 1


def test_a_lease_over_gives_no_connection(harness: PoolHarness) -> None:
    """Scenario 38: use after release."""
    lease = harness.pool().acquire()
    lease.release()
    with pytest.raises(LeaseError, match="acquire a new one"):
        lease.connection  # noqa: B018
    with pytest.raises(LeaseError), lease:
        pytest.fail("the block must not be entered")


def test_a_lease_goes_back_to_its_own_pool_only(harness: PoolHarness) -> None:
    """Scenario 37: the wrong pool refuses it."""
    pool, other = harness.pool(name="mine"), harness.pool(name="other")
    lease = pool.acquire()
    for give_back in (other.release, other.discard):
        with pytest.raises(LeaseError, match=r"pool 'other' cannot .* connection of pool 'mine'"):
            give_back(lease)
    assert (pool.stats().leased, other.stats().size) == (1, 0)
    lease.release()


def test_a_lease_that_never_began_is_over(harness: PoolHarness) -> None:
    lease = Lease(harness.pool())
    assert not lease._current
    with pytest.raises(LeaseError):
        lease.release()


def test_the_repr_says_whether_a_lease_is_over(harness: PoolHarness) -> None:
    lease = harness.pool(name="default").acquire()
    assert repr(lease) == "<Lease of pool 'default': current>"
    lease.release()
    assert repr(lease) == "<Lease of pool 'default': over>"


def test_a_discarded_connection_is_closed_and_not_used_again(harness: PoolHarness) -> None:
    pool = harness.pool()
    lease = pool.acquire()
    connection = lease.connection
    lease.discard()
    assert connection.closes == 1
    assert pool.stats().size == 0
    assert pool.stats().discards[DiscardReason.BROKEN] == 1
    with pool.acquire() as another:
        assert another is not connection


def test_a_release_resets_the_session_and_makes_no_round_trip(harness: PoolHarness) -> None:
    pool = harness.pool()
    with pool.acquire() as connection:
        assert connection.resets == 0
    assert (connection.resets, connection.pings) == (1, 0)


def test_a_release_with_ping_proves_the_connection(harness: PoolHarness) -> None:
    pool = harness.pool()
    lease = pool.acquire()
    connection = lease.connection
    pool.release(lease, ping=True)
    assert (connection.resets, connection.pings, pool.stats().idle) == (1, 1, 1)


def test_a_connection_that_fails_the_ping_of_its_release_is_thrown_away(
    harness: PoolHarness,
) -> None:
    pool = harness.pool()
    lease = pool.acquire()
    harness.driver.plan("ping", FakeOperationalError("gone"))
    pool.release(lease, ping=True)
    assert harness.driver.open == []
    assert pool.stats().discards[DiscardReason.BROKEN] == 1


def test_a_connection_that_cannot_be_reset_is_thrown_away(harness: PoolHarness) -> None:
    """Scenario 40: reset raises."""
    pool = harness.pool()
    harness.driver.plan("reset", FakeOperationalError("gone"))
    with pool.acquire() as connection:
        pass
    assert connection.closes == 1
    assert pool.stats().size == 0
    assert pool.stats().discards[DiscardReason.BROKEN] == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_reset_throws_the_connection_away(
    harness: PoolHarness, error: type[BaseException]
) -> None:
    """Scenario 8: `SystemExit` in a hook, or Ctrl-C."""
    pool = harness.pool()
    lease = pool.acquire()
    harness.driver.plan("reset", error)
    with pytest.raises(error):
        lease.release()
    assert not lease._current
    assert harness.driver.open == []
    assert pool.stats().size == 0


def test_a_connection_that_cannot_be_reset_is_replaced_for_whoever_waits(
    harness: PoolHarness,
) -> None:
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    harness.driver.plan("reset", FakeOperationalError("gone"))
    harness.clock.meanwhile(lease.release)
    with pool.acquire() as connection:
        assert connection.number == 2


def test_a_failing_close_is_of_no_consequence(harness: PoolHarness) -> None:
    pool = harness.pool()
    harness.driver.plan("close", FakeOperationalError("gone"))
    pool.acquire().discard()
    assert pool.stats().size == 0
    with pool.acquire() as connection:
        assert connection.number == 2


def test_a_lease_may_be_given_up_inside_its_own_block(harness: PoolHarness) -> None:
    pool = harness.pool()
    with (lease := pool.acquire()):
        lease.discard()
    with (lease := pool.acquire()):
        lease.release()
    assert pool.stats().discards[DiscardReason.BROKEN] == 1
    with pytest.raises(LeaseError, match="this lease is over"):
        lease.release()


@pytest.mark.parametrize("timeout", ["5", True, [], b"1"])
def test_a_timeout_that_is_no_number_is_named(harness: PoolHarness, timeout: Any) -> None:
    pool = harness.pool()
    with pytest.raises(TypeError, match=r"acquire\(timeout\): must be a number of seconds or None"):
        pool.acquire(timeout)
    with pytest.raises(ValueError, match="not NaN"):
        pool.acquire(float("nan"))
    assert pool.stats().waited == 0
