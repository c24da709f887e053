"""A forked child leaves everything to its parent, and the parent goes on as if nothing happened."""

from __future__ import annotations

import os
import signal
import threading
import traceback
import weakref
from typing import TYPE_CHECKING

import pytest

from pooling.core import forks
from pooling.core import worker_threads as workers_module
from pooling.core.errors import LeaseError, PoolClosed
from pooling.core.scheduler import Scheduler
from pooling.core.worker_threads import Workers
from tests.support.fakes import TEST_TIMEOUT, Caller, FakeClock, Gate, PoolHarness

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def in_a_child(act: Callable[[], object]) -> None:
    """Fork, run `act` in the child, and fail with the child's traceback if it failed there."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(int(TEST_TIMEOUT))  # ends a child that hangs
        verdict = b"ok"
        try:
            act()
        except BaseException:
            verdict = traceback.format_exc().encode()
        os.write(writer, verdict)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        verdict = pipe.read()
    os.waitpid(child, 0)
    assert verdict == b"ok", verdict.decode() or "the child hung"


def test_a_child_begins_with_empty_books_and_its_own_connections(harness: PoolHarness) -> None:
    """Scenario 32: a fork with idle connections."""
    pool = harness.pool(max_size=2)
    pool.acquire().release()
    held = pool.acquire()

    def child() -> None:
        stats = pool.stats()
        assert (stats.size, stats.idle, stats.leased, stats.acquired) == (0, 0, 0, 0)
        with pool.acquire() as connection:
            assert connection.number == 2
        assert [each.closes for each in harness.driver.connections] == [0, 0]

    in_a_child(child)
    assert held._current
    held.release()
    assert pool.stats().idle == 1


def test_a_lease_from_before_the_fork_is_over_in_the_child(harness: PoolHarness) -> None:
    """Scenario 32: a fork with leased connections."""
    pool = harness.pool()
    lease = pool.acquire()

    def child() -> None:
        assert not lease._current
        with pytest.raises(LeaseError):
            lease.release()
        with pytest.raises(LeaseError):
            lease.connection  # noqa: B018

    in_a_child(child)
    lease.release()


def test_a_child_closes_nothing_of_its_parents(harness: PoolHarness) -> None:
    """Scenario 33: not at its exit either."""
    pool = harness.pool(max_size=3)
    leases = [pool.acquire() for _ in range(3)]
    leases.pop().release()

    def child() -> None:
        leases.clear()
        pool._tasks.maintain()
        pool.drain()
        pool.close()
        assert [each.closes for each in harness.driver.connections] == [0, 0, 0]
        assert harness.driver.faults == []

    in_a_child(child)
    for lease in leases:
        lease.release()
    assert len(harness.driver.open) == 3


def test_a_child_never_collects_what_it_inherited() -> None:
    """A collected connection would say goodbye on the socket that it shares with the parent."""
    harness = PoolHarness()
    pool = harness.pool(max_size=3)
    collected = []

    class Noticed:
        def __del__(self) -> None:
            collected.append(self)

    leases = [pool.acquire() for _ in range(3)]
    for lease in leases:
        lease._record.context = Noticed()
    leases.pop().release()
    jobs: list[object] = []
    harness.workers.run = jobs.append  # type: ignore[method-assign, assignment]
    leases.pop().discard()  # its connection still has to be closed

    def child() -> None:
        leases.clear()
        jobs.clear()
        harness.driver.connections.clear()
        pool.close()
        pool.drain()
        pool._state.records.clear()
        assert collected == []

    in_a_child(child)
    collected.clear()
    leases.pop().release()


def test_a_fork_while_another_thread_holds_the_lock_blocks_nobody(harness: PoolHarness) -> None:
    """Scenario 32: a fork with the lock held."""
    pool = harness.pool()
    pool.acquire().release()
    gate = Gate()

    def hold_the_lock() -> None:
        with pool._lock:
            gate()

    holder = Caller(hold_the_lock)
    gate.wait_for(1)
    in_a_child(lambda: pool.acquire().release())
    gate.open()
    holder.result()
    pool.acquire(timeout=0).release()


def test_a_child_has_nobody_in_its_queue(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    waiting = Caller(pool.acquire)
    harness.clock.wait_for_sleepers(1)

    def child() -> None:
        assert pool.stats().waiting == 0
        pool.acquire().release()
        assert pool.stats().idle == 1

    in_a_child(child)
    lease.release()
    waiting.result().release()


def test_a_pool_that_was_closed_stays_closed_in_the_child(harness: PoolHarness) -> None:
    pool = harness.pool()
    pool.acquire().release()
    pool.close()

    def child() -> None:
        with pytest.raises(PoolClosed):
            pool.acquire()

    in_a_child(child)


def test_a_pool_that_was_resized_keeps_its_size_in_the_child(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=3)
    pool.resize(max_size=7)

    def child() -> None:
        assert pool.config.max_size == 7

    in_a_child(child)


def test_the_parents_idle_workers_are_no_workers_of_the_child() -> None:
    workers = Workers()
    gate = Gate()
    workers.run(gate)
    gate.wait_for(1)
    gate.open()

    def child() -> None:
        assert not workers._idle
        done = Gate()
        workers.run(done)
        done.wait_for(1)

    in_a_child(child)


def test_a_fork_waits_for_the_jobs_in_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a library's own locks are like in the middle of a job is nobody's to know."""
    monkeypatch.setattr(workers_module, "FORK_TIMEOUT", TEST_TIMEOUT)
    monkeypatch.setattr(forks, "_pausables", weakref.WeakSet())  # no jobs that others have left
    begun, job = Gate(), Gate()
    begun.open()
    running: list[int] = []

    class WatchedWorkers(Workers):
        def before_fork(self) -> None:
            begun()
            super().before_fork()
            running.append(self._running)

    workers = WatchedWorkers()
    workers.run(job)
    job.wait_for(1)
    forker = Caller(lambda: in_a_child(lambda: None))
    begun.wait_for(1)
    assert running == []
    job.open()
    forker.result()
    assert running == [set()]
    workers.run(job)
    job.wait_for(2)


def test_a_fork_waits_not_for_ever_for_a_job_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "FORK_TIMEOUT", 0.0)
    workers, job = Workers(), Gate()
    workers.run(job)
    job.wait_for(1)
    in_a_child(lambda: None)
    job.open()


def test_maintenance_begins_anew_in_the_child_when_a_pool_is_used_there() -> None:
    class Chore:
        def __init__(self) -> None:
            self.gate = Gate()
            self.gate.open()

        def maintain(self) -> None:
            self.gate()

    maintenance = Scheduler(clock := FakeClock())
    parents, childs = Chore(), Chore()
    maintenance.schedule(parents, clock.now() + 10.0)
    clock.wait_for_sleepers(1)

    def child() -> None:
        assert not maintenance._due
        assert threading.active_count() == 1
        maintenance.schedule(childs, clock.now())
        childs.gate.wait_for(1)

    in_a_child(child)
    clock.advance(10.0)
    parents.gate.wait_for(1)


def test_a_grandchild_is_a_child_too(harness: PoolHarness) -> None:
    pool = harness.pool()
    pool.acquire().release()

    def child() -> None:
        lease = pool.acquire()

        def grandchild() -> None:
            assert not lease._current
            assert pool.stats().size == 0

        in_a_child(grandchild)
        lease.release()

    in_a_child(child)
    pool.acquire(timeout=0).release()


def test_one_object_that_cannot_be_reset_leaves_no_other_unreset(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reset = []

    class Broken:
        def after_fork_in_child(self) -> None:
            raise ValueError("no")

    class Whole:
        def after_fork_in_child(self) -> None:
            reset.append(self)

    objects = [Broken(), Whole(), Broken(), Whole()]
    monkeypatch.setattr(forks, "_forkables", objects)
    forks._after_fork_in_child()
    assert len(reset) == 2
    assert caplog.text.count("could not be reset in a forked child") == 2
