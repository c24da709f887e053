"""The threads behind a pool may end at any bytecode, and forks may be interrupted at any.

Ctrl-C reaches neither workers nor maintenance, but `PyThreadState_SetAsyncExc` does. Here their
threads are run in the test's own one, so that `injection.py` can strike in them.
"""

from __future__ import annotations

import gc
import importlib.util
import itertools
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from pooling.core import forks, scheduler, worker_threads
from pooling.core.scheduler import Scheduler
from pooling.core.worker_threads import Workers
from tests.support.fakes import FakeClock
from tests.support.injection import InjectionHarness, Interrupter, everywhere, interrupt_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable


class StandIn:
    """A thread that runs when the test says so, in the test's thread."""

    started: list[StandIn]

    def __init__(self, target: Callable[[], None], **_: Any) -> None:
        self._target = target
        self._alive = False

    def start(self) -> None:
        self._alive = True
        self.started.append(self)

    def is_alive(self) -> bool:
        return self._alive

    def run(self) -> None:
        try:
            self._target()
        except SystemExit:
            pass
        finally:
            self._alive = False


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> list[StandIn]:
    """The threads that were started and have not run yet."""
    started: list[StandIn] = []
    monkeypatch.setattr("threading.Thread", StandIn)
    monkeypatch.setattr(StandIn, "started", started, raising=False)
    monkeypatch.setattr(scheduler, "has_ended", lambda thread: not thread.is_alive())
    return started


class Ward:
    """Something that is maintained once."""

    def __init__(self) -> None:
        self.visits = 0

    def maintain(self) -> None:
        self.visits += 1


def test_maintenance_goes_on_after_the_end_of_its_thread_at_any_bytecode(
    threads: list[StandIn],
) -> None:
    def once(interrupter: Interrupter) -> None:
        threads.clear()
        clock = FakeClock()
        subject, ward, other = Scheduler(clock), Ward(), Ward()
        subject.schedule(ward, clock.now())
        subject.schedule(other, clock.now())
        with interrupter:
            threads.pop().run()
        clock.advance(1.0)
        late = Ward()
        subject.schedule(late, clock.now())
        subject.schedule(ward, clock.now())
        if threads:
            threads.pop().run()
        assert late.visits
        assert ward.visits
        assert other.visits or not interrupter.where

    everywhere(once, error=SystemExit, at_least=50)


def test_workers_go_on_after_the_end_of_one_at_any_bytecode(
    threads: list[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_threads, "IDLE_TIMEOUT", 0.0)

    def once(interrupter: Interrupter) -> None:
        threads.clear()
        tasks, done = Workers(), []
        tasks.run(lambda: done.append("first"))
        with interrupter:
            threads.pop().run()
        # A job may go to a worker that has just died. Its task is still in the pool's state, and
        # brings another job as soon as somebody, maintenance at the latest, looks at them.
        for _ in range(2):
            tasks.run(lambda: done.append("later"))
            if threads:
                threads.pop().run()
        assert "later" in done
        assert not tasks._running, "every fork would wait for this worker"

    everywhere(once, error=SystemExit, at_least=50)


def test_a_caller_who_is_interrupted_on_its_way_to_the_workers_does_them_no_harm(
    threads: list[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_threads, "IDLE_TIMEOUT", 0.0)

    def once(interrupter: Interrupter) -> None:
        threads.clear()
        tasks, done = Workers(), []
        with interrupter, suppress(KeyboardInterrupt):
            tasks.run(lambda: done.append("first"))
        tasks.run(lambda: done.append("second"))
        while threads:
            threads.pop().run()
        assert "second" in done
        assert not tasks._running

    everywhere(once, at_least=20)


class Hooks:
    """A copy of the module `forks` of one's own, and the hooks that it has registered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._hooks: list[dict[str, Callable[[], None]]] = []
        monkeypatch.setattr(os, "register_at_fork", lambda **hooks: self._hooks.append(hooks))
        spec = importlib.util.spec_from_file_location("forks_for_a_test", str(forks.__file__))
        assert spec is not None
        assert spec.loader is not None
        self.module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)

    def call(self, when: str) -> None:
        """Call the hooks as Python does: what one raises is swallowed."""
        for hooks in self._hooks:
            if when in hooks:
                with suppress(KeyboardInterrupt):
                    hooks[when]()


def test_an_interrupted_fork_does_not_slow_the_workers_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hooks = Hooks(monkeypatch)

    def once(interrupter: Interrupter) -> None:
        tasks = Workers()
        hooks.module.register_pausable(tasks)
        with interrupter:
            hooks.call("before")
            hooks.call("after_in_parent")
        assert not tasks._forking, "every job would wait for the end of this fork"

    everywhere(once, at_least=20)


def test_a_child_forgets_everything_though_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pids = itertools.count(1_000_000)
    monkeypatch.setattr(os, "getpid", lambda: pid)

    def fork(injection: InjectionHarness) -> None:
        nonlocal pid
        hooks = Hooks(monkeypatch)
        other = injection.harness.pool()
        other.acquire().release()
        injection.warm()
        lease = injection.hold()
        inherited = list(injection.driver.connections)
        hooks.module.register(injection.pool._tasks)
        hooks.module.register(other._tasks)
        pid = next(pids)
        injection.strike(lambda: hooks.call("after_in_child"))
        for pool in (injection.pool, other):
            if pool.stats().size:
                injection.losses.append(f"{pool!r} goes on with its parent's connections")
        if lease._current:
            injection.losses.append("the parent's lease goes on in the child")
        if any(each.closes or each.resets > 1 for each in inherited):
            injection.losses.append(f"the child used its parent's connections: {inherited}")
        injection.leases.clear()
        injection.driver.forget()
        gc.freeze()  # what the child keeps for ever need not be looked at again

    pid = next(pids)
    interrupt_everywhere(fork, InjectionHarness, at_least=40)
