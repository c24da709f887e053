"""The clock of the machine is not the clock of the pools."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pooling.core.clock import SYSTEM_CLOCK
from pooling.core.config import PoolConfig
from pooling.core.pool import Pool
from tests.support.fakes import FakeDriver, InlineWorkers, ManualScheduler

if TYPE_CHECKING:
    from tests.support.fakes import FakeConnection


@pytest.mark.parametrize("hours", [-1, 1])
def test_nothing_happens_when_the_wall_clock_jumps(
    monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Scenario 30: nobody is told that time is up, and nothing is too old or has to be tested."""
    driver = FakeDriver()
    pool: Pool[FakeConnection] = Pool(
        driver,
        PoolConfig(min_size=0, recycle=1800.0, max_idle=600.0, ping_after=600.0, leak_after=600.0),
        workers=InlineWorkers(),
        scheduler=ManualScheduler(SYSTEM_CLOCK),
    )
    held = pool.acquire()
    pool.acquire().release()
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + hours * 3600)
    pool._tasks.maintain()
    pool.acquire().release()
    held.release()
    stats = pool.stats()
    assert stats.idle == stats.connects == 2
    assert not any(stats.discards.values())
    assert [connection.pings for connection in driver.connections] == [0, 0]
    assert pool.holders() == ()
    pool.close()
