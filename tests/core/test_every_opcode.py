"""An interrupt at any bytecode of the core loses nothing (scenario 7).

`injection.py` says how, and where an interrupt can strike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pooling.core.budget import BudgetUse, Probe
from pooling.core.errors import BudgetExhausted, PoolClosed, PoolTimeout, TooManyWaiters
from tests.support.fakes import (
    FakeOperationalError,
    ManualWorkers,
    RefusedError,
    WrongPasswordError,
)
from tests.support.injection import InjectionHarness, interrupt_everywhere, untraced

if TYPE_CHECKING:
    from collections.abc import Callable


# ---- acquire -----------------------------------------------------------------------------------


def acquire_idle(injection: InjectionHarness) -> None:
    injection.warm()
    injection.strike(lambda: injection.pool.acquire().release())


def acquire_with_opening(injection: InjectionHarness) -> None:
    injection.strike(lambda: injection.pool.acquire().release())


def acquire_after_a_refused_attempt(injection: InjectionHarness) -> None:
    injection.driver.plan("connect", RefusedError("away"))
    injection.clock.meanwhile(*[lambda: untraced(injection.let_others_work)] * 3)
    injection.strike(lambda: injection.pool.acquire().release())


def acquire_with_the_wrong_password(injection: InjectionHarness) -> None:
    injection.driver.plan("connect", WrongPasswordError("wrong"))
    injection.strike(injection.pool.acquire, WrongPasswordError)


def acquire_by_hand_over(injection: InjectionHarness) -> None:
    leases = [injection.pool.acquire() for _ in range(2)]
    injection.meanwhile(lambda: leases.pop().release(), lambda: leases.pop().release())
    injection.strike(lambda: injection.pool.acquire().release())


def acquire_what_a_thread_forgot(injection: InjectionHarness) -> None:
    injection.pool.acquire()
    injection.hold()
    injection.strike(lambda: injection.pool.acquire().release())


def acquire_in_vain(injection: InjectionHarness) -> None:
    injection.hold(), injection.hold()
    injection.strike(lambda: injection.pool.acquire(timeout=1.0), PoolTimeout)


def acquire_timing_out_as_it_is_served(injection: InjectionHarness) -> None:
    """Scenario 1: the wait is over, and then, before anybody looks, the release comes."""
    leases = [injection.pool.acquire() for _ in range(2)]
    wait = injection.clock.wait

    def wait_too_long(*args: Any) -> bool:
        served = wait(*args)
        untraced(lambda: [lease.release() for lease in leases])
        leases.clear()
        return served

    injection.clock.wait = wait_too_long  # type: ignore[method-assign]
    injection.strike(lambda: injection.pool.acquire(timeout=1.0).release())
    del injection.clock.wait


def acquire_when_the_queue_is_full(injection: InjectionHarness) -> None:
    injection.pool = injection.harness.pool(max_size=1, max_waiting=0)
    injection.hold()
    injection.strike(injection.pool.acquire, TooManyWaiters)


def acquire_with_ping(injection: InjectionHarness) -> None:
    injection.warm()
    injection.clock.advance(31.0)
    injection.strike(lambda: injection.pool.acquire().release())


def acquire_what_is_dead(injection: InjectionHarness) -> None:
    injection.warm(2)
    for connection in injection.driver.open:
        connection.dead = True
    injection.strike(lambda: injection.pool.acquire().release())


def acquire_what_cannot_be_tested(injection: InjectionHarness) -> None:
    injection.warm()
    injection.driver.plan("is_alive", FakeOperationalError("oh"))
    injection.strike(lambda: injection.pool.acquire().release())


def acquire_what_is_outdated(injection: InjectionHarness) -> None:
    injection.warm()
    injection.clock.advance(3601.0)
    injection.strike(lambda: injection.pool.acquire().release())


def acquire_for_the_records(injection: InjectionHarness) -> None:
    injection.pool = injection.harness.pool(max_size=2, leak_after=10.0)
    injection.strike(lambda: injection.pool.acquire(note="for a test").release())


# ---- release -----------------------------------------------------------------------------------


def release_to_idle(injection: InjectionHarness) -> None:
    injection.strike(injection.hold().release)


def release_with_hand_off(injection: InjectionHarness) -> None:
    mine, _ = [injection.pool.acquire()], injection.hold()
    injection.while_another_waits(lambda: injection.strike(mine.pop().release))


def release_with_ping(injection: InjectionHarness) -> None:
    lease = injection.hold()
    injection.strike(lambda: injection.pool.release(lease, ping=True))


def release_what_cannot_be_reset(injection: InjectionHarness) -> None:
    mine, _ = [injection.pool.acquire()], injection.hold()
    injection.driver.plan("reset", FakeOperationalError)
    injection.while_another_waits(lambda: injection.strike(mine.pop().release))


def release_what_is_used_up(injection: InjectionHarness) -> None:
    injection.pool = injection.harness.pool(max_size=2, max_uses=1)
    mine, _ = [injection.pool.acquire()], injection.hold()
    injection.while_another_waits(lambda: injection.strike(mine.pop().release))


def release_what_is_outdated(injection: InjectionHarness) -> None:
    lease = injection.hold()
    injection.pool.drain()
    injection.strike(lease.release)


def release_what_is_surplus(injection: InjectionHarness) -> None:
    lease, _ = injection.hold(), injection.hold()
    injection.pool.resize(max_size=1)
    injection.strike(lease.release)


def release_after_close(injection: InjectionHarness) -> None:
    lease = injection.hold()
    injection.pool.close()
    injection.strike(lease.release)


def discard(injection: InjectionHarness) -> None:
    injection.strike(injection.hold().discard)


def discard_while_another_waits(injection: InjectionHarness) -> None:
    mine, _ = [injection.pool.acquire()], injection.hold()
    injection.while_another_waits(lambda: injection.strike(mine.pop().discard))


def use_as_context(injection: InjectionHarness) -> None:
    def use() -> None:
        with injection.pool.acquire(), injection.pool.acquire():
            pass

    injection.strike(use)


# ---- operators ---------------------------------------------------------------------------------


def drain(injection: InjectionHarness) -> None:
    injection.warm(2)
    injection.hold()
    injection.strike(injection.pool.drain)


def resize_down(injection: InjectionHarness) -> None:
    injection.warm(2)
    injection.hold()
    injection.strike(lambda: injection.pool.resize(max_size=1))


def resize_up_while_another_waits(injection: InjectionHarness) -> None:
    def resize() -> None:
        injection.strike(lambda: injection.pool.resize(max_size=3))
        injection.pool.resize(max_size=3)  # an interrupted caller would repeat it

    injection.hold(), injection.hold()
    injection.while_another_waits(resize)


def suspend(injection: InjectionHarness) -> None:
    injection.warm()
    injection.strike(injection.pool.suspend)
    injection.pool.resume()


def resume_while_another_waits(injection: InjectionHarness) -> None:
    def resume() -> None:
        injection.strike(injection.pool.resume)
        injection.pool.resume()

    injection.warm(2)
    injection.pool.suspend()
    injection.while_another_waits(resume)


def clear_stats(injection: InjectionHarness) -> None:
    injection.warm()
    injection.uncounted = 2  # counters of before the clearing and of after it
    injection.strike(injection.pool.clear_stats)


def look(injection: InjectionHarness) -> None:
    injection.hold()
    injection.strike(
        lambda: (injection.pool.stats(), injection.pool.holders(), repr(injection.pool))
    )


def close(injection: InjectionHarness) -> None:
    injection.warm(2)
    injection.hold()
    injection.strike(injection.pool.close)


def close_while_another_waits(injection: InjectionHarness) -> None:
    injection.hold(), injection.hold()

    def close_twice() -> None:
        injection.strike(injection.pool.close)
        injection.pool.close()

    injection.clock.meanwhile(close_twice, *injection.patience())
    with pytest.raises(PoolClosed):
        injection.pool.acquire(timeout=60.0)


# ---- maintenance, in a thread of its own -------------------------------------------------------


def maintain_with_a_lost_lease(injection: InjectionHarness) -> None:
    mine, _ = [injection.pool.acquire()], injection.hold()

    def maintain() -> None:
        mine.clear()
        injection.strike(injection.pool._tasks.maintain)

    injection.while_another_waits(maintain)


def maintain_with_old_idle_connections(injection: InjectionHarness) -> None:
    injection.pool = injection.harness.pool(max_size=2, max_idle=10.0, min_size=1)
    injection.warm(2)
    injection.clock.advance(11.0)
    injection.strike(injection.pool._tasks.maintain)


def maintain_with_too_few_connections(injection: InjectionHarness) -> None:
    injection.pool = injection.harness.pool(max_size=2, min_size=2)
    injection.hold().discard()
    injection.strike(injection.pool._tasks.maintain)


def maintain_with_a_leak(injection: InjectionHarness) -> None:
    injection.pool = injection.harness.pool(max_size=2, leak_after=10.0)
    injection.hold()
    injection.clock.advance(11.0)
    injection.strike(injection.pool._tasks.maintain)


def release_when_the_budget_is_looked_at(injection: InjectionHarness) -> None:
    injection.pool = injection.harness.pool(max_size=2, budget=5, reset="session")
    mine, _ = [injection.pool.acquire()], injection.hold()
    injection.clock.advance(1.0)
    injection.while_another_waits(lambda: injection.strike(mine.pop().release))


def maintain_with_a_look_at_the_budget(injection: InjectionHarness) -> None:
    injection.pool = injection.harness.pool(max_size=2, budget=5, reset="session")
    injection.warm(2)
    injection.clock.advance(1.0)
    injection.driver.found = Probe(BudgetUse(5, 5, 2, 1), 0.5, ceiling=1)
    injection.strike(injection.pool._tasks.maintain)
    injection.driver.found = Probe(None, 0.5)


# ---- workers, whose threads are another kind of victim -------------------------------------------
#
# Ctrl-C does not reach them, but `PyThreadState_SetAsyncExc` does, and a driver may raise
# `SystemExit`. Whatever ends a worker, the connection it had claimed must not stay claimed.


def open_in_worker(injection: InjectionHarness) -> None:
    injection.while_another_waits(lambda: injection.strike(injection.work))


def fail_to_open_in_worker(injection: InjectionHarness) -> None:
    injection.driver.plan("connect", RefusedError)
    injection.while_another_waits(lambda: injection.strike(injection.work))


def ping_in_worker(injection: InjectionHarness) -> None:
    injection.while_another_waits(injection.let_others_work)
    injection.clock.advance(31.0)
    injection.while_another_waits(lambda: injection.strike(injection.work))


def find_dead_in_worker(injection: InjectionHarness) -> None:
    injection.while_another_waits(injection.let_others_work)
    injection.driver.open[0].dead = True
    injection.while_another_waits(lambda: injection.strike(injection.work))


def clean_in_worker(injection: InjectionHarness) -> None:
    injection.clock.meanwhile(injection.let_others_work)
    injection.pool.acquire()
    injection.pool._tasks.maintain()
    injection.while_another_waits(lambda: injection.strike(injection.work))


def close_in_worker(injection: InjectionHarness) -> None:
    injection.clock.meanwhile(injection.let_others_work)
    injection.pool.acquire().discard()
    injection.strike(injection.work)


def fail_to_close_in_worker(injection: InjectionHarness) -> None:
    injection.driver.plan("close", FakeOperationalError)
    close_in_worker(injection)


def look_at_the_budget_in_worker(injection: InjectionHarness) -> None:
    injection.pool = injection.harness.pool(max_size=2, budget=5, reset="session")
    mine: list[Any] = []
    injection.clock.meanwhile(injection.let_others_work)
    mine.append(injection.pool.acquire())
    injection.clock.advance(1.0)
    injection.driver.found = Probe(BudgetUse(5, 5, 2, 1), 0.5, ceiling=1, give_up=True)
    mine.pop().release()
    injection.strike(injection.work)
    injection.driver.found = Probe(None, 0.5)


def be_turned_away_in_worker(injection: InjectionHarness) -> None:
    injection.pool = injection.harness.pool(max_size=2, budget=5, reset="session")
    injection.driver.plan("connect", BudgetExhausted("budget 5 of 5 used", None, 0.2))
    injection.while_another_waits(lambda: injection.strike(injection.work))


JOBS: list[Callable[[InjectionHarness], None]] = [
    open_in_worker,
    fail_to_open_in_worker,
    ping_in_worker,
    find_dead_in_worker,
    clean_in_worker,
    close_in_worker,
    fail_to_close_in_worker,
    look_at_the_budget_in_worker,
    be_turned_away_in_worker,
]

STORIES: list[Callable[[InjectionHarness], None]] = [
    acquire_idle,
    acquire_with_opening,
    acquire_after_a_refused_attempt,
    acquire_with_the_wrong_password,
    acquire_by_hand_over,
    acquire_what_a_thread_forgot,
    acquire_in_vain,
    acquire_timing_out_as_it_is_served,
    acquire_when_the_queue_is_full,
    acquire_with_ping,
    acquire_what_is_dead,
    acquire_what_cannot_be_tested,
    acquire_what_is_outdated,
    acquire_for_the_records,
    release_to_idle,
    release_with_hand_off,
    release_with_ping,
    release_what_cannot_be_reset,
    release_what_is_used_up,
    release_what_is_outdated,
    release_what_is_surplus,
    release_after_close,
    discard,
    discard_while_another_waits,
    use_as_context,
    drain,
    resize_down,
    resize_up_while_another_waits,
    suspend,
    resume_while_another_waits,
    clear_stats,
    look,
    close,
    close_while_another_waits,
    maintain_with_a_lost_lease,
    maintain_with_old_idle_connections,
    maintain_with_too_few_connections,
    maintain_with_a_leak,
    release_when_the_budget_is_looked_at,
    maintain_with_a_look_at_the_budget,
]


@pytest.mark.parametrize("scenario", STORIES, ids=lambda scenario: scenario.__name__)
def test_an_interrupt_at_any_bytecode_loses_nothing(
    scenario: Callable[[InjectionHarness], None],
) -> None:
    """Scenario 7."""
    interrupt_everywhere(scenario, InjectionHarness, at_least=20)


def test_no_code_of_the_core_runs_when_a_lease_is_forgotten() -> None:
    """Scenario 10: Python swallows what interrupts a finaliser, so there must not be one."""
    injection = InjectionHarness(1)
    leases = [injection.pool.acquire()]
    injection.strike(leases.clear)
    assert not injection.struck
    assert injection.check() == []


def workshop(strike_at: int) -> InjectionHarness:
    return InjectionHarness(strike_at, error=SystemExit, workers=ManualWorkers())


@pytest.mark.parametrize("scenario", JOBS, ids=lambda scenario: scenario.__name__)
def test_the_end_of_a_worker_at_any_bytecode_loses_nothing(
    scenario: Callable[[InjectionHarness], None],
) -> None:
    interrupt_everywhere(scenario, workshop, at_least=20)
