"""Clocks that jump, and machines that sleep."""

from __future__ import annotations

import importlib.util
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from pooling import DiscardReason
from pooling.backends.postgresql import deadlines
from pooling.core import clock
from pooling.core.clock import SYSTEM_CLOCK
from tests.support.databases import PATIENCE, Database, PostgresDatabase, eventually

if TYPE_CHECKING:
    from tests.support.fault_proxy import FaultProxy

pytest_plugins = ["tests.support.fault_fixtures"]

HOUR = 3600.0
OPTIONS = {"timeout": PATIENCE, "recycle": 60, "max_idle": 60, "ping_after": 30, "leak_after": 60}


def request(wrapper: Any) -> Any:
    try:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
            return cursor.fetchone()
    finally:
        wrapper.close()


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_nothing_happens_when_the_wall_clock_jumps(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    jump: float,
) -> None:
    """scenario 30: nothing gets too old, nobody waits too long or too short, nothing is a leak."""
    wrapper = database.wrapper(pool={**OPTIONS, "max_size": 1})
    request(wrapper)
    wrapper.ensure_connection()
    pool = wrapper.resolve_pool()
    waiter = database.wrapper(pool={**OPTIONS, "max_size": 1})
    waiter.inc_thread_sharing()
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(request, waiter)
        eventually(lambda: pool.stats().waiting == 1)
        real = time.time, time.time_ns
        monkeypatch.setattr(time, "time", lambda: real[0]() + jump)
        monkeypatch.setattr(time, "time_ns", lambda: real[1]() + int(jump * 1e9))
        pool._tasks.maintain()
        assert not future.done()
        wrapper.close()
        assert future.result(PATIENCE) == (1,)
    pool._tasks.maintain()
    request(wrapper)
    stats = pool.stats()
    assert (stats.connects, stats.timeouts, sum(stats.discards.values())) == (1, 0, 0)
    assert 0 <= stats.holds.seconds < HOUR / 2
    assert "has held a connection" not in caplog.text


@pytest.fixture
def sleep(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that lets the machine sleep for an hour, as the pools' clock sees it."""
    hours = [0]
    now = SYSTEM_CLOCK.now
    monkeypatch.setattr(SYSTEM_CLOCK, "now", lambda: now() + hours[0] * HOUR, raising=False)

    def sleep() -> None:
        hours[0] += 1

    return sleep


def test_after_a_sleep_connections_are_tested_before_use(
    proxied: PostgresDatabase,
    proxy: FaultProxy,
    sleep: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """scenario 31: what a firewall forgot meanwhile is found out by a ping, not by a request."""
    wrapper = proxied.wrapper(pool={"timeout": PATIENCE, "recycle": None, "max_idle": None})
    request(wrapper)
    pool = wrapper.resolve_pool()
    sleep()
    request(wrapper)
    assert pool.stats().connects == 1  # it was still good
    monkeypatch.setattr(deadlines, "ANSWER_TIMEOUT", 0.3)
    sleep()
    proxy.forget()
    assert request(wrapper) == (1,)
    stats = pool.stats()
    assert (stats.connects, stats.discards[DiscardReason.BROKEN]) == (2, 1)


def read_a_new_clock() -> float:
    """Return the time by a pool's clock that was made just now."""
    spec = importlib.util.spec_from_file_location("new_clock", clock.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SYSTEM_CLOCK.now()


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="a clock of Linux")
def test_the_pools_clock_goes_on_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """scenario 31: which `time.monotonic` does not, on Linux."""
    clocks = {time.CLOCK_BOOTTIME: 2.0, time.CLOCK_MONOTONIC: 1.0, time.CLOCK_REALTIME: 0.0}
    monkeypatch.setattr(time, "clock_gettime", lambda which: clocks[which])
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    assert read_a_new_clock() == 2.0


def test_the_pools_clock_is_monotonic_where_there_is_no_better_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """scenario 30."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    assert read_a_new_clock() == 1.0
