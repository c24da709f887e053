"""Whether a thread has ended, and threads at the end of the process."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pooling.core.errors import PoolError
from pooling.core.threads import DaemonStarter, has_ended, in_nested_call
from pooling.core.worker_threads import WORKERS, Workers
from tests.support.fakes import TEST_TIMEOUT, Gate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.fakes import PoolHarness

ROOT = Path(__file__).parents[2]


@pytest.fixture
def starter() -> Iterator[DaemonStarter]:
    starter = DaemonStarter()
    yield starter
    starter.stop()


class Running:
    """A thread that runs until the test lets it end."""

    def __init__(self, kind: type[threading.Thread] = threading.Thread) -> None:
        self.gate = Gate()
        self.thread = kind(target=self.gate, daemon=True)

    def __enter__(self) -> threading.Thread:
        self.thread.start()
        self.gate.wait_for(1)
        return self.thread

    def __exit__(self, *_: object) -> None:
        self.gate.open()
        wait_for_end(self.thread)


def wait_for_end(thread: threading.Thread) -> None:
    """Return when a thread has ended, whose `join` may return too early."""
    deadline = time.monotonic() + TEST_TIMEOUT
    while not has_ended(thread):
        assert time.monotonic() < deadline, f"{thread.name} does not end"
        time.sleep(0.001)


def test_a_thread_has_ended_when_it_has_and_not_before() -> None:
    running = Running()
    assert has_ended(running.thread)  # it has not begun: there is nothing it could still do
    with running as thread:
        assert not has_ended(thread)
    assert has_ended(thread)
    assert not has_ended(threading.main_thread())
    assert not has_ended(threading.current_thread())


def test_a_thread_that_says_it_is_dead_is_not_believed() -> None:
    class Liar(threading.Thread):
        def is_alive(self) -> bool:
            return False

    with Running(Liar) as thread:
        assert not has_ended(thread)
    assert has_ended(thread)


def test_an_interrupted_join_does_not_end_the_thread_that_was_joined() -> None:
    """python/cpython#90882: `is_alive()` is wrong for ever once an exception came inside of it."""
    with Running() as thread:
        interrupt_every_step(lambda: thread.join(0))
        interrupt_every_step(thread.is_alive)
        assert not has_ended(thread)
    assert has_ended(thread)


def interrupt_every_step(act: Any) -> None:
    """Run `act` again and again, with an exception at one line of `threading` after the other."""
    for strike_at in range(1, 40):
        left = strike_at

        def trace(frame: Any, event: str, _: Any) -> Any:
            nonlocal left
            if "threading" not in frame.f_code.co_filename:
                return None
            left -= event == "line"
            if left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            act()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)


def test_a_lease_survives_an_interrupted_join_of_its_thread(harness: PoolHarness) -> None:
    """Scenario 54: the thread is in a transaction; the pool has one connection and another caller
    wants it."""
    pool = harness.pool(max_size=1)
    gate, held = Gate(), []

    def work() -> None:
        held.append(pool.acquire(thread_bound=True))
        gate()
        held[0].release()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    gate.wait_for(1)
    interrupt_every_step(lambda: thread.join(0))
    pool._tasks.maintain()
    assert pool.stats().recovered == 0
    assert held[0]._current
    gate.open()
    wait_for_end(thread)
    assert pool.stats().idle == 1


def test_no_thread_is_started_once_the_process_exits(starter: DaemonStarter) -> None:
    """Scenario 59."""
    started = starter.start(lambda: None, "before")
    assert started is not None
    started.join(TEST_TIMEOUT)
    starter.stop()
    assert starter.exiting
    assert starter.start(lambda: None, "after") is None


def test_the_exit_waits_for_a_thread_that_is_just_being_started(
    starter: DaemonStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. A worker starts a thread. 2. The process exits. 3. The new thread runs. 4. Only then the
    interpreter is torn down."""
    gate, order = Gate(), []
    start = threading.Thread.start

    def slow_start(thread: threading.Thread) -> None:
        if thread.name == "new":
            gate()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", slow_start)
    worker = threading.Thread(target=lambda: starter.start(lambda: order.append("runs"), "new"))
    worker.start()
    gate.wait_for(1)
    leaving = threading.Thread(target=lambda: (starter.stop(), order.append("exits")))
    leaving.start()
    gate.open()
    worker.join(TEST_TIMEOUT)
    leaving.join(TEST_TIMEOUT)
    assert sorted(order) == ["exits", "runs"]
    assert starter.exiting


AT_EXIT = """
import pooling, sys, time
from pooling.core.config import PoolConfig
from pooling.core.scheduler import SCHEDULER

class Driver:
    operational_error = RuntimeError
    def connect(self): return object()
    def is_alive(self, connection): return True
    def ping(self, connection): pass
    def reset(self, connection): pass
    def close(self, connection): pass
    def is_transient(self, error): return False

pool = pooling.Pool(Driver(), PoolConfig())
pool.acquire().release()
# A thread that looks at the pool would keep this module alive.
while not (SCHEDULER._thread and 5 < SCHEDULER._wakes_at - SCHEDULER._clock.now() < 60):
    time.sleep(0.001)

class AtTeardown:
    def __del__(self, Pool=pooling.Pool, Driver=Driver, PoolConfig=PoolConfig, out=sys.stdout):
        with Pool(Driver(), PoolConfig()).acquire(timeout=20):
            print("acquired", file=out, flush=True)

keep = AtTeardown()
"""


def test_a_finaliser_at_teardown_gets_a_connection_at_once() -> None:
    """Scenario 59: without a thread to be had the task is run in place."""
    answer = subprocess.run(
        [sys.executable, "-X", "dev", "-c", AT_EXIT],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=15,
    )
    assert answer.stdout == "acquired\n"
    assert answer.stderr == ""


def test_a_nested_call_runs_its_task_in_place(starter: DaemonStarter) -> None:
    """1. A thread holds a lock that workers need. 2. A signal handler in it wants a connection."""
    seen = []
    with starter._lock:
        assert in_nested_call()
        Workers().run(lambda: seen.append(threading.current_thread()))
    assert seen == [threading.current_thread()]
    assert not in_nested_call()


def test_a_nested_call_does_not_wait_for_another_callers_release(harness: PoolHarness) -> None:
    pool = harness.pool(max_size=1)
    lease = pool.acquire()
    with WORKERS._lock, pytest.raises(PoolError, match="re-entrant use"):
        pool.acquire(timeout=5.0)
    lease.release()
    pool.acquire().release()


def test_a_daemon_thread_works_in_a_context_of_its_own(
    starter: DaemonStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in that of the request that happens to start it."""
    tenant: ContextVar[str | None] = ContextVar("tenant", default=None)

    class Inheriting(threading.Thread):
        """A thread as in the free-threaded Python 3.14."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.inherited = copy_context()

        def run(self) -> None:
            self.inherited.run(super().run)

    monkeypatch.setattr(threading, "Thread", Inheriting)
    seen = []
    token = tenant.set("a tenant's")
    try:
        thread = starter.start(lambda: seen.append(tenant.get()), "test")
    finally:
        tenant.reset(token)
    assert thread is not None
    wait_for_end(thread)
    assert seen == [None]
