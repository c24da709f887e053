"""One thread does for all pools what is due."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from pooling.core.scheduler import RETRY_PAUSE, Scheduler
from pooling.core.threads import has_ended
from tests.support.fakes import TEST_TIMEOUT, FakeClock, Gate, PoolHarness

if TYPE_CHECKING:
    from collections.abc import Callable


class Chore:
    """Something to maintain: `plan` says what the next rounds return, raise or do."""

    def __init__(self, *plan: Any) -> None:
        self.plan = list(plan)
        self.threads: list[threading.Thread] = []
        self.rounds = threading.Semaphore(0)

    def maintain(self) -> float | None:
        self.threads.append(threading.current_thread())
        self.rounds.release()
        step = self.plan.pop(0) if self.plan else None
        if isinstance(step, Exception):
            raise step
        return step() if callable(step) else step

    def wait_for_round(self) -> None:
        assert self.rounds.acquire(timeout=TEST_TIMEOUT)


def end_of(scheduler: Scheduler, act: Callable[[], object]) -> None:
    """Return when the thread has ended that `act` leaves nothing to do."""
    thread = scheduler._thread
    act()
    assert thread is not None
    thread.join(TEST_TIMEOUT)
    assert not thread.is_alive()


def test_run_once_maintains_what_is_due_and_says_when_to_come_again() -> None:
    scheduler = Scheduler(clock := FakeClock())
    due, later = Chore(clock.now() + 7.0), Chore()
    scheduler._due.update({due: clock.now(), later: clock.now() + 5.0})
    assert scheduler.run_once() == clock.now() + 5.0
    assert (len(due.threads), len(later.threads)) == (1, 0)
    clock.advance(5.0)
    assert scheduler.run_once() == clock.now() + 2.0
    assert (len(due.threads), len(later.threads)) == (1, 1)
    clock.advance(2.0)
    assert scheduler.run_once() is None
    assert (len(due.threads), len(later.threads)) == (2, 1)


def test_a_call_during_a_round_is_not_overridden_by_the_round(manual_harness: PoolHarness) -> None:
    scheduler = Scheduler(clock := FakeClock())
    chore = Chore()
    soon = clock.now() + 1.0

    def call() -> float:
        scheduler._due[chore] = soon
        return clock.now() + 100.0

    chore.plan = [call]
    scheduler._due[chore] = clock.now()
    assert scheduler.run_once() == soon


def test_nothing_runs_before_the_first_call() -> None:
    assert Scheduler(FakeClock())._thread is None


def test_one_thread_serves_all_pools() -> None:
    scheduler = Scheduler(clock := FakeClock())
    chores = [Chore() for _ in range(5)]
    keep = Chore()
    scheduler.schedule(keep, clock.now() + 100.0)
    for chore in chores:
        scheduler.schedule(chore, clock.now() + 1.0)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    for chore in chores:
        chore.wait_for_round()
    [thread] = {thread for chore in chores for thread in chore.threads}
    assert thread.name == "pooling-maintenance"
    assert thread.daemon
    clock.wait_for_sleepers(1)
    end_of(scheduler, lambda: clock.advance(100.0))


def test_a_sooner_call_wakes_the_thread() -> None:
    scheduler = Scheduler(clock := FakeClock())
    late, soon = Chore(), Chore()
    scheduler.schedule(late, clock.now() + 100.0)
    clock.wait_for_sleepers(1)
    scheduler.schedule(soon, clock.now())
    soon.wait_for_round()
    assert late.threads == []
    clock.wait_for_sleepers(1)
    end_of(scheduler, lambda: clock.advance(100.0))


def test_a_later_call_does_not_put_a_round_off() -> None:
    scheduler = Scheduler(clock := FakeClock())
    chore, keep = Chore(), Chore()
    scheduler.schedule(keep, clock.now() + 100.0)
    scheduler.schedule(chore, clock.now() + 1.0)
    scheduler.schedule(chore, clock.now() + 50.0)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    chore.wait_for_round()
    clock.wait_for_sleepers(1)
    end_of(scheduler, lambda: clock.advance(100.0))


def test_the_thread_ends_with_the_last_pool_and_begins_again_with_the_next() -> None:
    scheduler = Scheduler(clock := FakeClock())
    for _ in range(2):
        chore = Chore()
        scheduler.schedule(chore, clock.now() + 1.0)
        clock.wait_for_sleepers(1)
        end_of(scheduler, lambda: clock.advance(1.0))
        assert len(chore.threads) == 1
        assert scheduler._thread is None


def test_an_error_in_one_pools_maintenance_does_not_end_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Scenario 47: it is logged, and the others go on."""
    caplog.set_level(logging.ERROR, "pooling")
    scheduler = Scheduler(clock := FakeClock())
    failing, other = Chore(ValueError("oh")), Chore()
    scheduler._due.update({failing: clock.now(), other: clock.now()})
    assert scheduler.run_once() == clock.now() + RETRY_PAUSE
    assert len(other.threads) == 1
    clock.advance(RETRY_PAUSE)
    assert scheduler.run_once() is None
    assert len(failing.threads) == 2
    assert "will be tried again" in caplog.text
    assert "ValueError: oh" in caplog.text


def test_maintenance_keeps_no_pool_alive() -> None:
    harness = PoolHarness()
    scheduler = Scheduler(harness.clock)
    harness.scheduler = scheduler  # type: ignore[assignment]
    pool = harness.pool()
    pool.acquire().release()
    reference = weakref.ref(pool)
    harness.clock.wait_for_sleepers(1)
    del pool
    gc.collect()
    assert reference() is None
    end_of(scheduler, lambda: harness.clock.advance(1000.0))


def test_a_pool_that_vanishes_while_the_thread_looks_does_not_end_maintenance() -> None:
    """The garbage collector takes no lock."""
    scheduler = Scheduler(clock := FakeClock())
    doomed = [Chore()]

    class Vanishing(weakref.WeakKeyDictionary):  # type: ignore[type-arg]
        def __len__(self) -> int:
            length = super().__len__()
            self._vanish()
            return length

        def items(self) -> Any:
            self._vanish()
            return super().items()

        def _vanish(self) -> None:
            if threading.current_thread().name == "pooling-maintenance":
                doomed.clear()

    scheduler._due = Vanishing()
    scheduler.schedule(doomed[0], clock.now() + 1.0)
    clock.advance(1.0)
    deadline = time.monotonic() + TEST_TIMEOUT
    while (thread := scheduler._thread) is not None and not has_ended(thread):
        assert time.monotonic() < deadline, "the thread does not end"
        time.sleep(0.001)

    chore = Chore()
    scheduler._due = weakref.WeakKeyDictionary()
    scheduler.schedule(chore, clock.now())
    chore.wait_for_round()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_a_thread_that_cannot_be_had_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    scheduler = Scheduler(clock := FakeClock())
    first, second = Chore(), Chore()

    def fail(_: threading.Thread) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with suppress(KeyboardInterrupt):
            scheduler.schedule(first, clock.now())
    scheduler.schedule(second, clock.now())
    second.wait_for_round()
    first.wait_for_round()


def test_a_call_never_waits_for_a_round() -> None:
    scheduler = Scheduler(clock := FakeClock())
    gate = Gate()
    slow, other = Chore(gate), Chore()
    scheduler.schedule(slow, clock.now())
    gate.wait_for(1)
    scheduler.schedule(other, clock.now())
    end_of(scheduler, gate.open)
    assert len(other.threads) == 1


def test_a_pool_calls_when_it_is_used_and_not_before(harness: PoolHarness) -> None:
    pool = harness.pool()
    assert harness.scheduler.calls == []
    pool.acquire().release()
    assert harness.scheduler.calls != []


def test_a_pool_at_rest_needs_no_maintenance_any_more(harness: PoolHarness) -> None:
    pool = harness.pool(min_size=0)
    pool.acquire().discard()
    harness.pass_time(1000.0)
    assert pool._tasks.maintain() is None
    assert harness.scheduler.due == float("inf")


def test_a_companion_comes_along_as_soon_as_something_is_maintained() -> None:
    scheduler = Scheduler(clock := FakeClock())
    periodic = Chore(clock.now() + 5.0, None)
    scheduler.add_periodic(periodic)
    scheduler.add_periodic(periodic)
    assert not periodic.threads
    scheduler.schedule(chore := Chore(), clock.now() + 30.0)
    periodic.wait_for_round()
    clock.advance(5.0)
    periodic.wait_for_round()
    # It wants no more, until something is due sooner than before.
    scheduler.schedule(chore, clock.now() + 1.0)
    periodic.wait_for_round()
    end_of(scheduler, lambda: clock.advance(30.0))
    assert len(periodic.threads) == 3
