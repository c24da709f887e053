"""One thread does for all pools what is due."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from pooling.core.maintenance import AFTER_AN_ERROR, Maintenance
from tests.core.fakes import PATIENCE, FakeClock, Gate, Lab

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
        assert self.rounds.acquire(timeout=PATIENCE)


def end_of(maintenance: Maintenance, act: Callable[[], object]) -> None:
    """Return when the thread has ended that `act` leaves nothing to do."""
    thread = maintenance._thread
    act()
    assert thread is not None
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_run_once_maintains_what_is_due_and_says_when_to_come_again() -> None:
    maintenance = Maintenance(clock := FakeClock())
    due, later = Chore(clock.now() + 7.0), Chore()
    maintenance._due.update({due: clock.now(), later: clock.now() + 5.0})
    assert maintenance.run_once() == clock.now() + 5.0
    assert (len(due.threads), len(later.threads)) == (1, 0)
    clock.advance(5.0)
    assert maintenance.run_once() == clock.now() + 2.0
    assert (len(due.threads), len(later.threads)) == (1, 1)
    clock.advance(2.0)
    assert maintenance.run_once() is None
    assert (len(due.threads), len(later.threads)) == (2, 1)


def test_a_call_during_a_round_is_not_overridden_by_the_round(slow_lab: Lab) -> None:
    maintenance = Maintenance(clock := FakeClock())
    chore = Chore()
    soon = clock.now() + 1.0

    def call() -> float:
        maintenance._due[chore] = soon
        return clock.now() + 100.0

    chore.plan = [call]
    maintenance._due[chore] = clock.now()
    assert maintenance.run_once() == soon


def test_nothing_runs_before_the_first_call() -> None:
    assert Maintenance(FakeClock())._thread is None


def test_one_thread_serves_all_pools() -> None:
    maintenance = Maintenance(clock := FakeClock())
    chores = [Chore() for _ in range(5)]
    keep = Chore()
    maintenance.call(keep, clock.now() + 100.0)
    for chore in chores:
        maintenance.call(chore, clock.now() + 1.0)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    for chore in chores:
        chore.wait_for_round()
    [thread] = {thread for chore in chores for thread in chore.threads}
    assert thread.name == "pooling-maintenance"
    assert thread.daemon
    clock.wait_for_sleepers(1)
    end_of(maintenance, lambda: clock.advance(100.0))


def test_a_sooner_call_wakes_the_thread() -> None:
    maintenance = Maintenance(clock := FakeClock())
    late, soon = Chore(), Chore()
    maintenance.call(late, clock.now() + 100.0)
    clock.wait_for_sleepers(1)
    maintenance.call(soon, clock.now())
    soon.wait_for_round()
    assert late.threads == []
    clock.wait_for_sleepers(1)
    end_of(maintenance, lambda: clock.advance(100.0))


def test_a_later_call_does_not_put_a_round_off() -> None:
    maintenance = Maintenance(clock := FakeClock())
    chore, keep = Chore(), Chore()
    maintenance.call(keep, clock.now() + 100.0)
    maintenance.call(chore, clock.now() + 1.0)
    maintenance.call(chore, clock.now() + 50.0)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    chore.wait_for_round()
    clock.wait_for_sleepers(1)
    end_of(maintenance, lambda: clock.advance(100.0))


def test_the_thread_ends_with_the_last_pool_and_begins_again_with_the_next() -> None:
    maintenance = Maintenance(clock := FakeClock())
    for _ in range(2):
        chore = Chore()
        maintenance.call(chore, clock.now() + 1.0)
        clock.wait_for_sleepers(1)
        end_of(maintenance, lambda: clock.advance(1.0))
        assert len(chore.threads) == 1
        assert maintenance._thread is None


def test_an_error_in_one_pools_maintenance_does_not_end_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Scenario 47: it is logged, and the others go on."""
    caplog.set_level(logging.ERROR, "pooling")
    maintenance = Maintenance(clock := FakeClock())
    failing, other = Chore(ValueError("oh")), Chore()
    maintenance._due.update({failing: clock.now(), other: clock.now()})
    assert maintenance.run_once() == clock.now() + AFTER_AN_ERROR
    assert len(other.threads) == 1
    clock.advance(AFTER_AN_ERROR)
    assert maintenance.run_once() is None
    assert len(failing.threads) == 2
    assert "will be tried again" in caplog.text
    assert "ValueError: oh" in caplog.text


def test_maintenance_keeps_no_pool_alive() -> None:
    lab = Lab()
    maintenance = Maintenance(lab.clock)
    lab.maintenance = maintenance  # type: ignore[assignment]
    pool = lab.pool()
    pool.acquire().release()
    reference = weakref.ref(pool)
    lab.clock.wait_for_sleepers(1)
    del pool
    gc.collect()
    assert reference() is None
    end_of(maintenance, lambda: lab.clock.advance(1000.0))


def test_a_pool_that_vanishes_while_the_thread_looks_does_not_end_maintenance() -> None:
    """The garbage collector takes no lock."""
    maintenance = Maintenance(clock := FakeClock())
    doomed = [Chore()]

    class Vanishing(weakref.WeakKeyDictionary):  # type: ignore[type-arg]
        def __len__(self) -> int:
            length = super().__len__()
            if threading.current_thread() is maintenance._thread:
                doomed.clear()
            return length

        def values(self) -> Any:
            if threading.current_thread() is maintenance._thread:
                doomed.clear()
            return super().values()

    maintenance._due = Vanishing()
    maintenance.call(doomed[0], clock.now() + 1.0)
    thread = maintenance._thread
    if thread is not None:
        thread.join(PATIENCE)
        assert not thread.is_alive()

    chore = Chore()
    maintenance._due = weakref.WeakKeyDictionary()
    maintenance.call(chore, clock.now())
    chore.wait_for_round()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_a_thread_that_cannot_be_had_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    maintenance = Maintenance(clock := FakeClock())
    first, second = Chore(), Chore()

    def fail(_: threading.Thread) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with suppress(KeyboardInterrupt):
            maintenance.call(first, clock.now())
    maintenance.call(second, clock.now())
    second.wait_for_round()
    first.wait_for_round()


def test_a_call_never_waits_for_a_round() -> None:
    maintenance = Maintenance(clock := FakeClock())
    gate = Gate()
    slow, other = Chore(gate), Chore()
    maintenance.call(slow, clock.now())
    gate.wait_for(1)
    maintenance.call(other, clock.now())
    end_of(maintenance, gate.open)
    assert len(other.threads) == 1


def test_a_pool_calls_when_it_is_used_and_not_before(lab: Lab) -> None:
    pool = lab.pool()
    assert lab.maintenance.calls == []
    pool.acquire().release()
    assert lab.maintenance.calls != []


def test_a_pool_at_rest_needs_no_maintenance_any_more(lab: Lab) -> None:
    pool = lab.pool(min_size=0)
    pool.acquire().discard()
    lab.pass_time(1000.0)
    assert pool.maintain() is None
    assert lab.maintenance.due == float("inf")


def test_a_companion_comes_along_as_soon_as_something_is_maintained() -> None:
    maintenance = Maintenance(clock := FakeClock())
    companion = Chore(clock.now() + 5.0, None)
    maintenance.accompany(companion)
    maintenance.accompany(companion)
    assert not companion.threads
    maintenance.call(chore := Chore(), clock.now() + 30.0)
    companion.wait_for_round()
    clock.advance(5.0)
    companion.wait_for_round()
    # It wants no more, until something is due sooner than before.
    maintenance.call(chore, clock.now() + 1.0)
    companion.wait_for_round()
    end_of(maintenance, lambda: clock.advance(30.0))
    assert len(companion.threads) == 3
