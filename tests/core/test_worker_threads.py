"""Threads for calls that may hang."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from typing import Any

import pytest

from pooling.core import worker_threads as workers_module
from pooling.core.errors import PoolTimeout
from pooling.core.threads import DAEMONS
from pooling.core.worker_threads import Workers
from tests.support.fakes import TEST_TIMEOUT, Gate, ManualWorkers, PoolHarness


class Stack(dict[Any, None]):
    """The idle workers, and how often one came to rest."""

    def __init__(self) -> None:
        self.rests = Gate()
        self.rests.open()

    def __setitem__(self, worker: Any, value: None) -> None:
        super().__setitem__(worker, value)
        self.rests()


@pytest.fixture
def workers() -> Workers:
    workers = Workers()
    workers._idle = Stack()
    return workers


def wait_for_rests(workers: Workers, number: int) -> None:
    """Return when workers have come to rest `number` times, since the test began."""
    workers._idle.rests.wait_for(number)  # type: ignore[attr-defined]


def test_a_job_runs_in_a_daemon_thread_of_its_own(workers: Workers) -> None:
    seen = []
    gate = Gate()
    workers.run(lambda: (seen.append(threading.current_thread()), gate()))
    gate.wait_for(1)
    assert seen[0] is not threading.current_thread()
    assert seen[0].daemon
    assert seen[0].name == "pooling-worker-1"
    gate.open()


def test_jobs_that_hang_do_not_keep_others_from_running() -> None:
    workers, hanging, other = Workers(), Gate(), Gate()
    workers.run(hanging)
    workers.run(hanging)
    hanging.wait_for(2)
    workers.run(other)
    other.wait_for(1)
    hanging.open()
    other.open()


def test_a_thread_is_used_again(workers: Workers) -> None:
    seen = []
    for number in (1, 2, 3):
        workers.run(lambda: seen.append(threading.current_thread()))
        wait_for_rests(workers, number)
    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_a_thread_without_a_job_ends(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "IDLE_TIMEOUT", 0.0)
    seen: list[threading.Thread] = []
    workers.run(lambda: seen.append(threading.current_thread()))
    wait_for_rests(workers, 1)
    seen[0].join(TEST_TIMEOUT)
    assert not seen[0].is_alive()
    assert not workers._idle
    done = Gate()
    workers.run(done)
    done.wait_for(1)
    done.open()


def test_a_job_that_comes_as_the_wait_ends_is_done(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers are those of `_Worker.run`, which runs in the test's own thread here."""
    started: list[Any] = []
    done: list[str] = []
    monkeypatch.setattr(DAEMONS, "start", lambda run, _: started.append(run.__self__) or True)
    workers.run(lambda: done.append("first"))
    [worker] = started

    class Bell:
        rung = heard = False

        def release(self) -> None:
            self.rung = True

        def acquire(self, timeout: float) -> bool:
            if self.rung and not self.heard:  # 3. the wait ends at once
                self.heard = True
                return True
            if "second" not in done:  # 1. the wait for a job runs out
                workers.run(lambda: done.append("second"))  # 2. a job comes
                assert not workers._idle
            return False

    worker.wakeup = Bell()
    worker.run()
    assert worker.wakeup.heard
    assert done == ["first", "second"]
    assert started == [worker]
    assert not workers._idle


def test_a_job_is_done_here_and_now_when_no_thread_can_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    seen = []
    monkeypatch.setattr(threading.Thread, "start", fail)
    Workers().run(lambda: seen.append(threading.current_thread()))
    assert seen == [threading.current_thread()]


def test_a_failing_job_is_logged_and_its_thread_goes_on(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "pooling")
    seen = []

    def fail() -> None:
        seen.append(threading.current_thread())
        raise ValueError("oh")

    workers.run(fail)
    wait_for_rests(workers, 1)
    workers.run(lambda: seen.append(threading.current_thread()))
    wait_for_rests(workers, 2)
    assert "ValueError: oh" in caplog.text
    assert len(seen) == 2
    assert seen[0] is seen[1]


def test_an_idle_worker_keeps_nothing_of_its_last_job_alive(workers: Workers) -> None:
    class Job:
        def __call__(self) -> None:
            pass

    job = Job()
    reference = weakref.ref(job)
    workers.run(job)
    del job
    wait_for_rests(workers, 1)
    gc.collect()
    assert reference() is None


def test_workers_are_as_many_as_tasks_however_many_callers_there_are(
    manual_harness: PoolHarness,
) -> None:
    """Scenario 60: A fork holds the workers up while callers come and are turned away, each of
    which looks at the tasks that no worker has claimed yet."""
    pool = manual_harness.pool(max_size=2)
    for _ in range(100):
        with pytest.raises(PoolTimeout):
            pool.acquire(timeout=0)
    assert len(manual_harness.workers.jobs) <= 2
    manual_harness.clock.advance(2.0)  # a job that was lost does not count for ever
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0)
    assert 1 <= len(manual_harness.workers.jobs) <= 4
    manual_harness.workers.work_all()
    assert pool.stats().idle >= 1


def test_a_task_that_comes_as_another_one_is_claimed_has_a_job_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1. A worker claims a task and releases the lock. 2. Another thread adds a task."""
    workers = ManualWorkers()
    harness = PoolHarness(workers)
    pool = harness.pool(max_size=2)
    harness.clock.meanwhile(workers.work_all)
    first = pool.acquire()
    harness.clock.meanwhile(workers.work_all)
    second = pool.acquire()
    first.discard()
    run_locked = pool._run_locked

    def run_and_add(decision: Any) -> Any:
        result = run_locked(decision)
        monkeypatch.undo()
        second.discard()
        return result

    monkeypatch.setattr(pool, "_run_locked", run_and_add)
    workers.work()
    assert len(workers.jobs) == 1
    workers.work()
    assert harness.driver.open == []
    assert not workers.jobs
