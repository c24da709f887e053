"""Many threads do everything at once. POOLING_STRESS_OPERATIONS=1000000 for a night of it."""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pooling.core.clock import Clock
from pooling.core.config import PoolConfig
from pooling.core.errors import PoolTimeout
from pooling.core.pool import Pool
from pooling.core.scheduler import Scheduler
from pooling.core.worker_threads import Workers
from tests.support.fakes import (
    TEST_TIMEOUT,
    Caller,
    FakeDriver,
    FakeOperationalError,
    RefusedError,
    WrongPasswordError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.fakes import FakeConnection

OPERATIONS = int(os.environ.get("POOLING_STRESS_OPERATIONS", "15000"))
SEED = int(os.environ.get("POOLING_STRESS_SEED", str(time.time_ns() % 1_000_000)))
THREADS, MOST = 12, 6


class FastClock(Clock):
    """A clock by which pauses and ages of connections are over soon."""

    SPEED = 100.0

    def now(self) -> float:
        return time.monotonic() * self.SPEED

    def wait(self, wakeup: threading.Lock, seconds: float | None) -> bool:
        return super().wait(wakeup, None if seconds is None else seconds / self.SPEED)


class Stress:
    """What the threads share."""

    def __init__(self) -> None:
        self.driver = FakeDriver()
        self.pool = Pool(
            self.driver,
            PoolConfig(
                min_size=2, max_size=4, timeout=3000.0, recycle=60.0, max_idle=5.0,
                max_uses=200, ping_after=1.0, leak_after=100.0,
            ),
            clock=(clock := FastClock()),
            workers=Workers(),
            scheduler=Scheduler(clock),
        )  # fmt: skip
        self.acquired = [0] * THREADS

    def work(self, number: int) -> None:
        """Use the pool in all ways, the right and the careless ones."""
        rng = random.Random(f"{SEED}-{number}")
        for _ in range(OPERATIONS // THREADS):
            if rng.random() < 0.05:
                self.disturb(rng)
            try:
                lease = self.pool.acquire(rng.choice([None, None, 0, 1.0]), thread_bound=True)
            except (PoolTimeout, WrongPasswordError):
                continue
            self.acquired[number] += 1
            connection = lease.connection
            assert connection.busy.acquire(blocking=False), f"{connection} is leased twice"
            assert not connection.closes
            connection.busy.release()
            chance = rng.random()
            if chance < 0.01:
                connection.dead = True
            if chance < 0.02:
                lease.discard()
            elif chance < 0.04:
                del lease  # forgotten
            else:
                self.pool.release(lease, ping=chance < 0.06)

    def disturb(self, rng: random.Random) -> None:
        """Look whether the numbers add up, and make trouble."""
        stats = self.pool.stats()
        assert stats.size == stats.connecting + stats.idle + stats.leased
        assert min(stats.idle, stats.leased, stats.connecting, stats.waiting) >= 0
        assert stats.size <= MOST
        repr(self.pool)
        self.pool.holders()
        trouble = rng.randrange(20)
        if trouble == 0:
            self.pool.drain()
        elif trouble == 1:
            self.pool.resize(max_size=rng.randint(2, MOST))
        elif trouble == 2:
            error = rng.choice([RefusedError("away"), WrongPasswordError("no")])
            self.driver.plan("connect", error)
        elif trouble == 3:
            method = rng.choice(["is_alive", "ping", "reset", "close"])
            self.driver.plan(method, FakeOperationalError("oh"))


@pytest.fixture
def _many_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_many_switches")
def test_the_invariants_hold_under_stress() -> None:
    """Scenario 48: whenever one of the threads looks."""
    print(f"POOLING_STRESS_SEED={SEED}")  # noqa: T201 - shown when the test fails
    stress = Stress()
    threads = [Caller(lambda number=number: stress.work(number)) for number in range(THREADS)]
    for thread in threads:
        thread.thread.join()
        thread.result()

    pool, driver = stress.pool, stress.driver
    gc.collect()
    pool._tasks.maintain()
    stats = pool.stats()
    assert (stats.waiting, stats.leased) == (0, 0)
    assert stats.acquired == sum(stress.acquired) > 0
    pool.close()
    wait_for_rest(pool)
    stats = pool.stats()
    assert stats.size == 0
    assert driver.open == []
    assert stats.connects == len(driver.connections) == sum(stats.discards.values())
    assert driver.faults == []


def wait_for_rest(pool: Pool[FakeConnection]) -> None:
    """Return when no worker has claimed a connection."""
    wakeup = threading.Lock()
    wakeup.acquire()
    with pool._lock:
        busy = pool._state.notify_when_quiescent(wakeup)
    if busy:
        assert wakeup.acquire(timeout=TEST_TIMEOUT)
