"""Nobody waits for a server that is known to be down, but somebody sees when it is back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pooling.core.errors import PoolTimeout, ServerDown
from pooling.core.housekeeping import STALL
from tests.support.fakes import (
    Caller,
    FakeOperationalError,
    Gate,
    RefusedError,
    WrongPasswordError,
)

if TYPE_CHECKING:
    from pooling.core.pool import Pool
    from tests.support.fakes import FakeConnection, PoolHarness


def go_down(harness: PoolHarness, pool: Pool[FakeConnection]) -> None:
    """Let the server be away until the pool knows it."""
    harness.driver.always("connect", RefusedError("connection refused"))
    harness.clock.meanwhile(lambda: harness.pass_time(11.0))
    with pytest.raises(ServerDown):
        pool.acquire(timeout=1000.0)


def test_before_fail_fast_is_over_callers_wait_for_the_server(harness: PoolHarness) -> None:
    pool = harness.pool(timeout=60.0, fail_fast=10.0)
    harness.driver.always("connect", RefusedError("connection refused"))
    harness.clock.meanwhile(
        lambda: harness.pass_time(9.0),
        lambda: harness.driver.always("connect", None),
        lambda: harness.pass_time(1.0),
    )
    pool.acquire().release()


def test_when_it_is_over_all_who_wait_get_the_servers_words(harness: PoolHarness) -> None:
    """scenario 13: nobody burns a timeout for a server that everybody knows to be away."""
    pool = harness.pool(max_size=3, timeout=1000.0, fail_fast=10.0)
    harness.driver.always("connect", RefusedError("connection refused"))
    callers = [Caller(pool.acquire) for _ in range(5)]
    harness.clock.wait_for_sleepers(5)
    harness.pass_time(11.0)
    for caller in callers:
        with pytest.raises(
            ServerDown, match=r"unreachable for 10\.\d s.*connection refused"
        ) as caught:
            caller.result()
        assert isinstance(caught.value.__cause__, RefusedError)
        assert isinstance(caught.value, FakeOperationalError)


def test_the_next_callers_get_the_last_error_at_once(harness: PoolHarness) -> None:
    pool = harness.pool(fail_fast=10.0)
    go_down(harness, pool)
    with pytest.raises(ServerDown):
        pool.acquire()  # tries again, since it is time for that
    before, start = pool.stats(), harness.clock.now()
    for _ in range(3):
        with pytest.raises(ServerDown, match="connection refused"):
            pool.acquire()
    assert harness.clock.now() == start
    assert pool.stats().rejected == before.rejected + 3
    assert pool.stats().connect_errors == before.connect_errors


def test_one_caller_at_a_time_probes(manual_harness: PoolHarness) -> None:
    harness = manual_harness
    pool = harness.pool(max_size=4, timeout=1000.0, fail_fast=0)
    harness.driver.always("connect", RefusedError("connection refused"))
    first = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    harness.workers.work_all()
    with pytest.raises(ServerDown):
        first.result()
    harness.clock.advance(1.0)  # the pause between attempts is over
    prober = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    assert pool.stats().connecting == 1
    for _ in range(3):
        with pytest.raises(ServerDown):
            pool.acquire()
    harness.driver.always("connect", None)
    harness.workers.work_all()
    prober.result().release()
    pool.acquire().release()


def test_nobody_fails_fast_while_a_connection_may_become_free(harness: PoolHarness) -> None:
    """scenario 16: a server that is full serves us with the connections we have."""
    pool = harness.pool(max_size=2, timeout=1000.0, fail_fast=10.0)
    lease = pool.acquire()
    harness.driver.always("connect", RefusedError("too many clients already"))
    harness.clock.meanwhile(lambda: harness.pass_time(60.0), lease.release)
    pool.acquire().release()


def test_an_answer_is_the_end_of_the_outage_even_if_it_is_a_no(harness: PoolHarness) -> None:
    pool = harness.pool(timeout=5.0, fail_fast=10.0)
    go_down(harness, pool)
    harness.clock.advance(1.0)
    harness.driver.always("connect", WrongPasswordError("wrong"))
    with pytest.raises(WrongPasswordError):
        pool.acquire()
    harness.driver.always("connect", RefusedError("connection refused"))
    with pytest.raises(PoolTimeout):
        pool.acquire()


def test_none_makes_everybody_wait_as_long_as_timeout_says(harness: PoolHarness) -> None:
    pool = harness.pool(timeout=300.0, fail_fast=None)
    harness.driver.always("connect", RefusedError("connection refused"))
    start = harness.clock.now()
    for number in (1, 2):
        with pytest.raises(PoolTimeout, match="connection refused"):
            pool.acquire()
        assert harness.clock.now() == start + 300.0 * number


def test_while_the_server_is_away_one_attempt_is_made_at_a_time(
    manual_harness: PoolHarness,
) -> None:
    harness = manual_harness
    pool = harness.pool(max_size=8, timeout=1000.0)
    harness.driver.always("connect", RefusedError("connection refused"))
    callers = [Caller(pool.acquire) for _ in range(8)]
    harness.clock.wait_for_sleepers(8)
    harness.workers.work_all()
    for _ in range(10):
        harness.clock.advance(0.5)
        pool._tasks.maintain()
        assert pool.stats().connecting == 1
        harness.workers.work_all()
    harness.driver.always("connect", None)
    harness.clock.advance(0.5)
    pool._tasks.maintain()
    harness.workers.work_all()
    for caller in callers:
        caller.result().release()


def test_an_attempt_after_a_long_silence_begins_another_outage(harness: PoolHarness) -> None:
    """Nobody has asked the server since the last time it was away: what was then means nothing."""
    pool = harness.pool(timeout=60.0, fail_fast=10.0)
    go_down(harness, pool)
    harness.clock.advance(3600.0)
    harness.clock.meanwhile(
        lambda: harness.pass_time(9.0),
        lambda: harness.driver.always("connect", None),
        lambda: harness.pass_time(1.0),
    )
    pool.acquire().release()


def test_a_failure_of_long_ago_turns_nobody_away(harness: PoolHarness) -> None:
    """Once the server was full; an hour later the pool is empty, and a crowd comes."""
    pool = harness.pool(max_size=2, fail_fast=10.0)
    lease = pool.acquire()
    harness.driver.plan("connect", RefusedError("too many clients already"))
    harness.clock.meanwhile(lease.release)
    pool.acquire().release()
    harness.pass_time(3600.0)
    assert pool.stats().size == 0
    gate = Gate()
    harness.driver.plan("connect", gate)
    first = Caller(pool.acquire)  # with workers that do a job where it is brought
    gate.wait_for(1)
    second = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    gate.open()
    first.result().release()
    second.result().release()


def test_callers_fail_fast_even_when_all_places_are_taken_by_attempts_that_hang(
    manual_harness: PoolHarness,
) -> None:
    harness = manual_harness
    pool = harness.pool(max_size=2, timeout=1000.0, fail_fast=0)
    harness.driver.always("connect", RefusedError("connection refused"))
    first = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    harness.workers.work_all()
    with pytest.raises(ServerDown):
        first.result()
    harness.clock.advance(STALL)
    caller = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    for _ in range(2):  # its attempt hangs, nobody does the job, and then another one's
        harness.clock.advance(STALL)
        pool._tasks.maintain()
    assert pool.stats().connecting == 2
    with pytest.raises(ServerDown):
        pool.acquire()
    harness.driver.always("connect", None)
    harness.workers.work_all()
    caller.result().release()


def test_an_outage_is_told_with_its_numbers(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=1, timeout=60.0, fail_fast=10.0)
    assert pool.stats().outage is None
    go_down(harness, pool)
    with pytest.raises(ServerDown):
        pool.acquire()
    stats = pool.stats()
    assert stats.outage is not None
    assert stats.outage.seconds >= 11.0
    assert stats.outage.refused == stats.rejected == 2
    assert stats.outage.next_attempt is not None
    assert not stats.outage.answered
    assert stats.last_error_age is not None
    assert stats.last_error_age < 11.0
    pool.clear_stats()  # which does not end it
    assert pool.stats().outage is not None
    harness.driver.always("connect", None)
    harness.pass_time(1.0)
    pool.acquire().release()
    harness.pass_time(30.0)
    stats = pool.stats()
    assert stats.outage is None
    assert stats.last_error == "connection refused"
    assert stats.last_error_age is not None
    assert stats.last_error_age >= 30.0


def test_a_server_that_says_no_is_an_outage_with_an_answer(harness: PoolHarness) -> None:
    pool = harness.pool()
    harness.driver.always("connect", WrongPasswordError("password authentication failed"))
    with pytest.raises(WrongPasswordError):
        pool.acquire()
    outage = pool.stats().outage
    assert outage is not None
    assert outage.answered
