"""What operators do: suspend, resume, clear, listen, and see what leases are for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pooling.core.connection import DiscardReason
from pooling.core.errors import PoolError, PoolTimeout
from pooling.core.listener import Listener
from tests.support.fakes import Caller, RefusedError

if TYPE_CHECKING:
    from pooling.core.pool import Pool
    from tests.support.fakes import PoolHarness


def test_a_suspended_pool_makes_callers_wait_though_something_is_idle(harness: PoolHarness) -> None:
    pool = harness.pool()
    pool.acquire().release()
    pool.suspend()
    waiting = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    stats = pool.stats()
    assert (stats.suspended, stats.idle, stats.waiting) == (True, 1, 1)
    assert "suspended" in repr(pool)
    pool.resume()
    waiting.result().release()
    assert not pool.stats().suspended


def test_what_was_leased_comes_back_to_a_suspended_pool_and_is_not_handed_over(
    harness: PoolHarness,
) -> None:
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    pool.suspend()
    waiting = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    lease.release()
    assert (pool.stats().idle, pool.stats().waiting) == (1, 1)
    pool.resume()
    waiting.result().release()


def test_the_timeout_holds_in_a_suspended_pool(harness: PoolHarness) -> None:
    pool = harness.pool(timeout=2.0)
    pool.suspend()
    with pytest.raises(PoolTimeout, match="suspended"):
        pool.acquire()
    assert pool.stats().connects == 0


def test_connections_are_pinged_before_those_who_waited_get_them(harness: PoolHarness) -> None:
    pool = harness.pool()
    pool.acquire().release()
    pool.suspend()
    waiting = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    pool.resume()
    lease = waiting.result()
    assert lease.connection.pings == 1
    lease.release()


def test_cleared_statistics_count_from_zero(harness: PoolHarness) -> None:
    pool = harness.pool()
    lease = pool.acquire()
    pool.acquire().discard()
    pool.clear_stats()
    stats = pool.stats()
    assert (stats.acquired, stats.waited, stats.connects, stats.holds.count) == (0, 0, 0, 0)
    assert sum(stats.discards.values()) == 0
    lease.release()
    pool.acquire().release()
    assert (pool.stats().acquired, pool.stats().size) == (1, 1)


def test_a_holder_says_what_it_acquired_for(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    with pool.acquire(note="GET /orders/"):
        (holder,) = pool.holders()
        assert holder.note == "GET /orders/"
        with pytest.raises(PoolTimeout, match=r"\(GET /orders/\)"):
            pool.acquire()
    pool.acquire()
    assert pool.holders()[0].note is None


def test_a_note_goes_with_its_caller_through_the_queue(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    lease = pool.acquire(note="first")
    waiting = Caller(lambda: pool.acquire(note="second"))
    harness.clock.wait_for_sleepers(1)
    lease.release()
    lease = waiting.result()
    assert [holder.note for holder in pool.holders()] == ["second"]
    lease.release()


def test_the_statistics_keep_the_last_error_of_connecting(harness: PoolHarness) -> None:
    pool = harness.pool()
    harness.driver.plan("connect", RefusedError("the server is away\n"))
    harness.clock.meanwhile(lambda: harness.pass_time(1.0))
    pool.acquire().release()
    assert pool.stats().last_error == "the server is away"


class Diary(Listener):
    def __init__(self) -> None:
        self.entries: list[Any] = []

    def connection_opened(self, pool: Pool[Any]) -> None:
        self.entries.append("opened")

    def connection_closed(self, pool: Pool[Any], reason: DiscardReason | None) -> None:
        self.entries.append(("closed", reason))

    def acquire_timed_out(self, pool: Pool[Any], error: PoolError) -> None:
        self.entries.append("timed out")

    def lease_leaked(self, pool: Pool[Any], holder: Any) -> None:
        self.entries.append(("leaked", holder.note))


def test_a_listener_hears_of_the_rare_events_and_of_no_acquire(harness: PoolHarness) -> None:
    diary = Diary()
    pool = harness.pool(listener=diary, max_size=1, leak_after=60.0)
    pool.acquire().release()
    lease = pool.acquire(note="a report")
    with pytest.raises(PoolTimeout):
        pool.acquire()
    harness.clock.advance(60.0)
    pool._tasks.maintain()
    lease.release()
    pool.close()
    assert diary.entries == [
        "opened",
        "timed out",
        ("leaked", "a report"),
        ("closed", DiscardReason.CLOSED),
    ]


def test_a_listener_that_fails_disturbs_nobody(
    harness: PoolHarness, caplog: pytest.LogCaptureFixture
) -> None:
    class Clumsy(Listener):
        def connection_opened(self, pool: Pool[Any]) -> None:
            raise RuntimeError("oops")

    pool = harness.pool(listener=Clumsy())
    pool.acquire().release()
    assert "a listener failed" in caplog.text


def test_a_suspended_pool_opens_nothing_and_rejects_nobody(harness: PoolHarness) -> None:
    """During a fail-over the server is down for longer than `fail_fast`; callers wait for it."""
    pool = harness.pool(min_size=2, timeout=60.0, fail_fast=4.0)
    pool.acquire().release()
    harness.driver.always("connect", RefusedError("away"))
    pool.suspend()
    pool.drain()
    attempts = pool.stats().connect_errors

    def end_of_the_fail_over() -> None:
        harness.pass_time(20.0)
        assert pool.stats().connect_errors == attempts
        harness.driver.always("connect", None)
        pool.resume()

    harness.clock.meanwhile(end_of_the_fail_over)
    pool.acquire().release()


def test_resume_has_idle_connections_tested_before_they_are_used(harness: PoolHarness) -> None:
    """They may lead to the server of before the fail-over."""
    pool = harness.pool(min_size=0)
    with pool.acquire() as old:
        pass
    pool.suspend()
    old.dead = True
    pool.resume()
    with pool.acquire() as connection:
        assert connection is not old
    assert old.pings == 1
