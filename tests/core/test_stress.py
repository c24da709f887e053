"""Many threads do everything at once. POOLING_STRESS_OPERATIONS=1000000 for a night of it."""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import time

import pytest

from pooling.core.clock import Clock
from pooling.core.config import PoolConfig
from pooling.core.errors import PoolTimeout
from pooling.core.maintenance import Maintenance
from pooling.core.pool import Pool
from pooling.core.workers import Workers
from tests.core.fakes import (
    Caller,
    FakeDriver,
    FakeOperationalError,
    RefusedError,
    WrongPasswordError,
)

OPERATIONS = int(os.environ.get("POOLING_STRESS_OPERATIONS", "20000"))
SEED = int(os.environ.get("POOLING_STRESS_SEED", str(time.time_ns() % 1_000_000)))
THREADS = 12


class FastClock(Clock):
    """A clock by which pauses and ages of connections are over soon."""

    SPEED = 100.0

    def now(self) -> float:
        return time.monotonic() * self.SPEED

    def wait(self, bell: threading.Lock, seconds: float | None) -> bool:
        return super().wait(bell, None if seconds is None else seconds / self.SPEED)


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
            maintenance=Maintenance(clock),
        )  # fmt: skip
        self.acquired = [0] * THREADS
        self.stop = threading.Event()

    def work(self, number: int) -> None:
        """Use the pool in all ways, the right and the careless ones."""
        draw = random.Random(f"{SEED}-{number}")
        for _ in range(OPERATIONS // THREADS):
            try:
                lease = self.pool.acquire(draw.choice([None, None, 0, 1.0]), thread_bound=True)
            except (PoolTimeout, WrongPasswordError):
                continue
            self.acquired[number] += 1
            connection = lease.connection
            assert connection.busy.acquire(blocking=False), f"{connection} is leased twice"
            assert not connection.closes
            connection.busy.release()
            chance = draw.random()
            if chance < 0.01:
                connection.dead = True
            if chance < 0.02:
                lease.discard()
            elif chance < 0.04:
                del lease  # forgotten
            else:
                self.pool.release(lease, ping=chance < 0.06)

    def disturb(self) -> None:
        """Make trouble, and look whether the numbers add up."""
        draw = random.Random(f"{SEED}-trouble")
        while not self.stop.is_set():
            stats = self.pool.stats()
            assert stats.size == stats.connecting + stats.idle + stats.leased
            assert min(stats.idle, stats.leased, stats.connecting, stats.waiting) >= 0
            assert stats.size <= 6
            repr(self.pool)
            self.pool.holders()
            chance = draw.random()
            if chance < 0.01:
                self.pool.drain()
            elif chance < 0.03:
                self.pool.resize(max_size=draw.randint(2, 6))
            elif chance < 0.05:
                self.driver.plan(
                    "connect", draw.choice([RefusedError("away"), WrongPasswordError("no")])
                )
            elif chance < 0.08:
                self.driver.plan(
                    draw.choice(["is_alive", "ping", "reset", "close"]), FakeOperationalError("oh")
                )
            self.stop.wait(0.0005)


@pytest.fixture
def _many_switches() -> object:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_many_switches")
def test_the_invariants_hold_under_stress() -> None:
    print(f"POOLING_STRESS_SEED={SEED}")  # noqa: T201 - shown when the test fails
    stress = Stress()
    disturber = Caller(stress.disturb)
    threads = [Caller(lambda number=number: stress.work(number)) for number in range(THREADS)]
    try:
        for thread in threads:
            thread.thread.join()
            thread.result()
    finally:
        stress.stop.set()
    disturber.result()

    pool, driver = stress.pool, stress.driver
    gc.collect()
    pool.acquire().release()
    pool.maintain()
    stats = pool.stats()
    assert stats.waiting == 0
    assert stats.acquired == sum(stress.acquired) + 1
    pool.close()
    # What workers are still at, a thread of the pool's own may take a moment to finish.
    quiet = threading.Event()
    for _ in range(2000):
        if not driver.open and not pool.stats().size:
            break
        pool.maintain()
        quiet.wait(0.01)
    stats = pool.stats()
    assert (stats.size, stats.leased, stats.idle, stats.connecting) == (0, 0, 0, 0)
    assert driver.open == []
    assert stats.connects == len(driver.connections) == sum(stats.discards.values())
    assert driver.faults == []
