"""A lease that lasts too long is reported, with the stack that acquired it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from tests.support.fakes import Caller, PoolHarness

if TYPE_CHECKING:
    from collections.abc import Iterator


class Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What the pool has warned of so far."""
    listener = Listener()
    logging.getLogger("pooling").addHandler(listener)
    yield listener.heard
    logging.getLogger("pooling").removeHandler(listener)


def this_line_acquires(pool):  # type: ignore[no-untyped-def]
    return pool.acquire()


def test_a_lease_beyond_leak_after_is_reported_once(
    harness: PoolHarness, warnings: list[str]
) -> None:
    pool = harness.pool(leak_after=60.0)
    lease = pool.acquire()
    harness.pass_time(59.9)
    assert warnings == []
    harness.pass_time(1000.0)
    [warning] = warnings
    assert "thread 'MainThread' has held a connection for 60.0 s" in warning
    assert lease._current
    lease.release()


def test_the_report_has_the_stack_of_the_acquirer_without_the_pools_own_frames(
    harness: PoolHarness, warnings: list[str]
) -> None:
    pool = harness.pool(leak_after=60.0)
    lease = this_line_acquires(pool)
    harness.pass_time(60.0)
    text = warnings[0]
    assert text.rstrip().endswith("return pool.acquire()")
    assert ", in this_line_acquires\n" in text
    assert "_take_or_queue" not in text
    assert pool.holders()[0].stack in text
    lease.release()


def test_the_stack_is_that_of_the_caller_who_waited_not_of_who_served_it(
    harness: PoolHarness, warnings: list[str]
) -> None:
    pool = harness.pool(leak_after=60.0, max_size=1)
    lease = pool.acquire()
    waiting = Caller(lambda: this_line_acquires(pool))
    harness.clock.wait_for_sleepers(1)
    lease.release()
    lease = waiting.result()
    harness.pass_time(60.0)
    assert "this_line_acquires" in warnings[0]
    lease.release()


def test_a_tested_connection_has_its_holders_stack_too(harness: PoolHarness) -> None:
    pool = harness.pool(leak_after=60.0, ping_after=0)
    pool.acquire().release()
    lease = this_line_acquires(pool)
    assert lease.connection.pings == 1
    assert "this_line_acquires" in (pool.holders()[0].stack or "")
    lease.release()


def test_every_lease_is_reported_for_itself(harness: PoolHarness, warnings: list[str]) -> None:
    pool = harness.pool(leak_after=60.0)
    for number in range(1, 4):
        lease = pool.acquire()
        harness.pass_time(100.0)
        lease.release()
        assert len(warnings) == number


def test_a_leak_after_a_recovered_one_is_reported_again(
    harness: PoolHarness, warnings: list[str]
) -> None:
    pool = harness.pool(leak_after=60.0, max_size=1, recycle=None, ping_after=None)
    leases = [pool.acquire()]
    harness.pass_time(60.0)
    leases.clear()
    pool._tasks.maintain()
    warnings.clear()
    lease = pool.acquire()
    assert lease.connection.number == 1
    harness.pass_time(60.0)
    assert len(warnings) == 1
    lease.release()


def test_without_leak_after_no_stack_is_taken_and_nothing_is_reported(
    harness: PoolHarness, warnings: list[str]
) -> None:
    pool = harness.pool(leak_after=None)
    lease = pool.acquire()
    harness.pass_time(100_000.0)
    assert warnings == []
    assert lease._record.stack is None
    lease.release()


def test_an_idle_connection_is_no_leak(harness: PoolHarness, warnings: list[str]) -> None:
    pool = harness.pool(leak_after=60.0, min_size=1)
    pool.acquire().release()
    harness.pass_time(1000.0)
    assert warnings == []


def test_a_connect_that_hangs_is_no_leak_and_does_not_keep_maintenance_busy(
    manual_harness: PoolHarness, warnings: list[str]
) -> None:
    pool = manual_harness.pool(leak_after=1.0, max_size=1, timeout=20.0)
    waiting = Caller(pool.acquire)
    manual_harness.clock.wait_for_sleepers(1)
    manual_harness.clock.advance(10.0)
    assert (pool._tasks.maintain() or 0) > manual_harness.clock.now()
    assert warnings == []
    manual_harness.workers.work_all()
    waiting.result().release()
