"""Thousands of random steps in one thread, with the books audited after each.

While somebody waits, the same thread goes on with other steps, other waits among them: so there is
a queue without a second thread, and a seed repeats everything.
"""

from __future__ import annotations

import gc
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pooling.core.connection import State
from pooling.core.errors import LeaseError, PoolTimeout, TooManyWaiters
from tests.core.fakes import (
    FakeConnection,
    FakeOperationalError,
    Lab,
    ManualWorkers,
    RefusedError,
    WrongPasswordError,
)

if TYPE_CHECKING:
    from pooling.core.connection import Lease

STEPS = 3000
DEPTH = 5
"""How many may wait at a time."""


class Model:
    """What a pool should be, after a number of random steps."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.workers = ManualWorkers()
        self.lab = Lab(self.workers)
        self.pool = self.lab.pool(
            min_size=1, max_size=4, timeout=3.0, max_waiting=2, max_uses=20, fail_fast=None,
            recycle=500.0, max_idle=60.0, ping_after=10.0, leak_after=30.0,
        )  # fmt: skip
        self.leases: list[Lease[FakeConnection]] = []
        self.depth = 0
        self.acquired = self.timeouts = self.rejected = 0
        self.acts = {
            self.acquire: 10,
            self.release: 8,
            self.work: 12,
            self.pass_time: 4,
            self.discard: 1,
            self.forget: 1,
            self.kill: 1,
            self.plan_trouble: 1,
            self.drain: 0.2,
            self.resize: 0.3,
            self.release_twice: 0.3,
        }

    def step(self) -> None:
        self.lab.luck = self.random.random()
        [act] = self.random.choices(list(self.acts), list(self.acts.values()))
        act()
        self.audit()

    def acquire(self) -> None:
        if self.depth >= DEPTH:
            return
        self.depth += 1
        self.lab.clock.meanwhile(*[self.step] * self.random.randrange(6))
        if self.random.random() < 0.05:
            self.lab.clock.meanwhile(self.interrupt)
        try:
            self.leases.append(self.pool.acquire(self.random.choice([None, 0, 0.5])))
            self.acquired += 1
        except PoolTimeout:
            self.timeouts += 1
        except TooManyWaiters:
            self.rejected += 1
        except (WrongPasswordError, KeyboardInterrupt):
            pass
        finally:
            self.depth -= 1

    def interrupt(self) -> None:
        raise KeyboardInterrupt

    def take_lease(self) -> Lease[FakeConnection] | None:
        if not self.leases:
            return None
        return self.leases.pop(self.random.randrange(len(self.leases)))

    def release(self) -> None:
        if lease := self.take_lease():
            self.pool.release(lease, ping=self.random.random() < 0.1)

    def release_twice(self) -> None:
        if lease := self.take_lease():
            lease.release()
            with pytest.raises(LeaseError):
                lease.release()

    def discard(self) -> None:
        if lease := self.take_lease():
            lease.discard()

    def forget(self) -> None:
        self.take_lease()

    def work(self) -> None:
        if self.workers.jobs:
            self.workers.work()

    def pass_time(self) -> None:
        self.lab.pass_time(self.random.choice([0.01, 0.1, 1.0, 5.0, 40.0]))

    def kill(self) -> None:
        if self.pool.books.idle:
            connection = self.random.choice(list(self.pool.books.idle)).connection
            self.random.choice([self._die, self._become_readable])(connection)

    def _die(self, connection: FakeConnection) -> None:
        connection.dead = True

    def _become_readable(self, connection: FakeConnection) -> None:
        connection.readable = True

    def plan_trouble(self) -> None:
        method = self.random.choice(["connect", "connect", "is_alive", "ping", "reset", "close"])
        error = self.random.choice([RefusedError("away"), WrongPasswordError("wrong")])
        self.lab.driver.plan(method, error if method == "connect" else FakeOperationalError("oh"))

    def drain(self) -> None:
        self.pool.drain()

    def resize(self) -> None:
        self.pool.resize(max_size=self.random.randint(1, 6))

    def audit(self) -> None:
        books, stats, driver = self.pool.books, self.pool.stats(), self.lab.driver
        states = [record.state for record in books.records]
        assert stats.size == stats.connecting + stats.idle + stats.leased
        assert stats.connecting == states.count(State.CONNECTING)
        assert stats.idle == states.count(State.IDLE)
        assert stats.leased == states.count(State.LEASED) >= len(self.leases)
        assert len(set(books.idle)) == len(books.idle)
        assert books.records.issuperset(books.idle)
        assert stats.size <= stats.max_size or not stats.idle
        assert not stats.idle or stats.waiting <= stats.connecting
        assert all(lease.current for lease in self.leases)
        assert len({lease.connection.number for lease in self.leases}) == len(self.leases)
        assert not any(lease.connection.closes for lease in self.leases)
        assert stats.connects == len(driver.connections)
        assert stats.connects == stats.size - books.opening + sum(stats.discards.values())
        assert stats.acquired == self.acquired
        assert (stats.timeouts, stats.rejected) == (self.timeouts, self.rejected)
        assert driver.faults == []

    def end(self) -> None:
        self.lab.clock._meanwhile.clear()
        self.leases.clear()
        # A worker's error remembers the frames that were below it: here, with one thread for
        # everything, those of callers, and their leases.
        self.pool.books.last_error = None
        gc.collect()
        self.pool.maintain()
        self.workers.work_all()
        assert self.pool.stats().leased == self.pool.stats().connecting == 0
        self.pool.close()
        self.workers.work_all()
        assert self.lab.driver.open == []
        assert self.pool.stats().size == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_books_are_right_after_every_random_step(seed: int) -> None:
    model = Model(seed)
    for _ in range(STEPS):
        with suppress(KeyboardInterrupt):  # planned for a wait that was served before
            model.step()
    model.end()
    assert model.acquired > STEPS / 10
    assert model.timeouts
    assert model.rejected
