"""What a pool says of itself."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest

from pooling.core.connection import DiscardReason
from pooling.core.errors import PoolTimeout
from tests.support.fakes import (
    Caller,
    FakeOperationalError,
    Gate,
    PoolHarness,
    RefusedError,
    WrongPasswordError,
)


def test_a_fresh_pool_has_all_zeros(harness: PoolHarness) -> None:
    stats = harness.pool(name="default", min_size=1, max_size=3).stats()
    plain = dataclasses.replace(stats, discards={}, pins={}, waits=None, holds=None, opens=None)
    assert dataclasses.asdict(plain) == {
        "name": "default",
        "min_size": 1,
        "max_size": 3,
        "size": 0,
        "idle": 0,
        "leased": 0,
        "connecting": 0,
        "waiting": 0,
        "suspended": False,
        "closed": False,
        "acquired": 0,
        "waited": 0,
        "budget": None,
        "waits": None,
        "holds": None,
        "opens": None,
        "timeouts": 0,
        "rejected": 0,
        "connects": 0,
        "connect_errors": 0,
        "recovered": 0,
        "replayed": 0,
        "max_wait": 0.0,
        "outage": None,
        "last_error": None,
        "last_error_age": None,
        "discards": {},
        "pins": {},
    }
    assert dict(stats.pins) == {}
    assert dict(stats.discards) == dict.fromkeys(DiscardReason, 0)


def test_a_snapshot_cannot_be_changed_and_does_not_change(harness: PoolHarness) -> None:
    pool = harness.pool()
    before = pool.stats()
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.size = 7  # type: ignore[misc]
    with pytest.raises(TypeError):
        before.discards[DiscardReason.IDLE] = 7  # type: ignore[index]
    pool.acquire().discard()
    assert (before.size, before.acquired, before.discards[DiscardReason.BROKEN]) == (0, 0, 0)


def test_acquired_counts_leases_also_those_of_connections_that_are_gone(
    harness: PoolHarness,
) -> None:
    pool = harness.pool()
    pool.acquire().release()
    pool.acquire().discard()
    pool.acquire().release()
    pool.drain()
    assert pool.stats().acquired == 3


def test_a_failed_acquire_is_not_counted_as_one(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    harness.driver.plan("connect", WrongPasswordError("wrong"))
    with pytest.raises(WrongPasswordError):
        pool.acquire()
    with pool.acquire(), pytest.raises(PoolTimeout):
        pool.acquire()
    stats = pool.stats()
    assert (stats.acquired, stats.timeouts, stats.connect_errors, stats.connects) == (1, 1, 1, 1)


def test_waits_are_those_of_all_who_waited(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    served = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    harness.clock.advance(2.0)
    late = Caller(lambda: pool.acquire(timeout=3.0))
    harness.clock.wait_for_sleepers(2)
    harness.clock.advance(1.0)
    lease.release()
    lease = served.result()  # after 3 seconds
    harness.clock.advance(2.0)
    with pytest.raises(PoolTimeout):
        late.result()  # after 3 seconds
    stats = pool.stats()
    assert (stats.waited, stats.waits.count, stats.waits.seconds) == (3, 3, 6.0)
    lease.release()


def test_those_whom_close_sends_away_have_waited_too(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    waiting = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)
    harness.clock.advance(2.0)
    pool.close()
    waiting.join()
    assert pool.stats().waits.seconds == 2.0
    lease.release()


def test_the_numbers_add_up_while_a_connection_is_opened_and_tested(
    manual_harness: PoolHarness,
) -> None:
    """Scenario 48: at every instant of it."""
    pool = manual_harness.pool(ping_after=0)
    seen = []

    def look_and_work() -> None:
        stats = pool.stats()
        assert stats.size == stats.connecting + stats.idle + stats.leased
        seen.append((stats.connecting, stats.waiting))
        manual_harness.workers.work()

    for _ in range(2):
        manual_harness.clock.meanwhile(look_and_work)
        pool.acquire().release()
    assert seen == [(1, 1), (1, 1)]


def test_the_repr_has_the_numbers(harness: PoolHarness) -> None:
    pool = harness.pool(name="default", max_size=10)
    assert repr(pool) == "<Pool 'default' 0/10: 0 leased, 0 idle, 0 waiting>"
    leases = [pool.acquire() for _ in range(3)]
    leases.pop().release()
    leases.pop().release()
    assert repr(pool) == "<Pool 'default' 3/10: 1 leased, 2 idle, 0 waiting>"
    pool.close()
    assert repr(pool) == "<Pool 'default' 1/10: 1 leased, 0 idle, 0 waiting, closed>"
    leases.pop().release()


def test_the_repr_says_what_is_connecting_and_needs_no_lock(manual_harness: PoolHarness) -> None:
    pool = manual_harness.pool(max_size=10)
    texts = []

    def look() -> None:
        with pool._lock:
            texts.append(repr(pool))
        manual_harness.workers.work()

    manual_harness.clock.meanwhile(look)
    pool.acquire().release()
    assert texts == ["<Pool 'pool' 1/10: 0 leased, 0 idle, 1 waiting, 1 connecting>"]


def test_opens_are_what_connecting_took(harness: PoolHarness) -> None:
    pool = harness.pool()
    slow = Gate()
    harness.driver.plan("connect", slow)
    caller = Caller(pool.acquire)
    slow.wait_for()
    harness.clock.advance(2.0)
    slow.open()
    caller.result().release()
    with pool.acquire():
        pass
    stats = pool.stats()
    assert (stats.connects, stats.opens.count, stats.opens.seconds) == (1, 1, 2.0)
    pool.clear_stats()
    assert pool.stats().opens.count == 0


def test_holders_are_listed_longest_first(harness: PoolHarness) -> None:
    pool = harness.pool()
    leases = []
    for name in ("one", "two", "three"):
        leases.append(Caller(pool.acquire, name=name).result())
        harness.clock.advance(1.0)
    assert [(each.thread, each.seconds) for each in pool.holders()] == [
        ("one", 3.0),
        ("two", 2.0),
        ("three", 1.0),
    ]
    leases[1].release()
    assert [each.thread for each in pool.holders()] == ["one", "three"]
    assert pool.holders()[0].stack is None
    for lease in (leases[0], leases[2]):
        lease.release()
    assert pool.holders() == ()


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.DEBUG) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= level]


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pooling")


def test_an_acquire_and_its_release_leave_no_line(harness: PoolHarness, caplog: Any) -> None:
    pool = harness.pool()
    pool.acquire().release()
    caplog.clear()
    for _ in range(10):
        pool.acquire().release()
    assert messages(caplog) == []


def test_every_connection_that_goes_leaves_a_line_with_the_reason(
    harness: PoolHarness, caplog: Any
) -> None:
    pool = harness.pool(name="default", max_uses=1)
    pool.acquire().release()
    pool.acquire().discard()
    closing = [line for line in messages(caplog, logging.INFO) if "closing" in line]
    assert [line.rpartition(" ")[2] for line in closing] == ["(used_up)", "(broken)"]
    assert all(line.startswith("<Pool 'default' ") for line in closing)


def test_a_failed_connect_is_a_warning(harness: PoolHarness, caplog: Any) -> None:
    pool = harness.pool()
    harness.driver.plan("connect", RefusedError("connection refused\n"))
    harness.clock.meanwhile(lambda: harness.pass_time(1.0))
    pool.acquire().release()
    [line] = messages(caplog, logging.WARNING)
    assert line.endswith("could not connect: connection refused")


def test_a_failed_close_is_a_matter_for_debugging_only(harness: PoolHarness, caplog: Any) -> None:
    harness.driver.plan("close", FakeOperationalError("gone"))
    harness.pool().acquire().discard()
    assert messages(caplog, logging.WARNING) == []
    assert any("closing a connection failed" in line for line in messages(caplog))


def test_a_recovered_lease_is_a_warning_with_the_holders_name(
    harness: PoolHarness, caplog: Any
) -> None:
    pool = harness.pool()
    Caller(pool.acquire, name="careless").result()
    pool._tasks.maintain()
    [line] = messages(caplog, logging.WARNING)
    assert line.endswith("thread 'careless' lost its lease; recovering it")


def test_the_queue_says_who_waits_and_since_when(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1, timeout=60.0)
    lease = pool.acquire()
    assert pool.queue() == ()
    waiting = Caller(lambda: pool.acquire(note="GET /orders/"))
    harness.clock.wait_for_sleepers(1)
    harness.clock.advance(3.0)
    (caller,) = pool.queue()
    assert (caller.note, caller.seconds) == ("GET /orders/", 3.0)
    assert pool.stats().max_wait == 3.0
    lease.release()
    waiting.result().release()
    assert pool.stats().max_wait == 0.0


def test_peaks_are_not_samples(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=5)
    leases = [pool.acquire() for _ in range(4)]
    for lease in leases:
        lease.release()
    harness.clock.advance(1.0)
    for _ in range(10):  # one after the other: the same connection each time
        pool.acquire().release()
    assert pool._peaks(0.5) == (1, 1)  # the first caller waits for the connect
    assert pool._peaks(2.0) == (4, 0)
    leases = [pool.acquire() for _ in range(5)]
    waiting = [Caller(pool.acquire) for _ in range(3)]
    harness.clock.wait_for_sleepers(3)
    for lease in leases:
        lease.release()
    for caller in waiting:
        caller.result().release()
    assert pool._peaks(0.5) == (5, 3)
    assert pool._peaks(0.5) == (5, 0)
