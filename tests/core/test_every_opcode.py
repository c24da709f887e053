"""An interrupt at any bytecode of the core loses nothing (scenario 7).

`injection.py` says how, and where an interrupt can strike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pooling.core.errors import PoolClosed, PoolTimeout, TooManyWaiters
from tests.core.fakes import FakeOperationalError, ManualWorkers, RefusedError, WrongPasswordError
from tests.core.injection import World, interrupt_everywhere, untraced

if TYPE_CHECKING:
    from collections.abc import Callable


# ---- acquire -----------------------------------------------------------------------------------


def acquire_idle(world: World) -> None:
    world.warm()
    world.strike(lambda: world.pool.acquire().release())


def acquire_with_opening(world: World) -> None:
    world.strike(lambda: world.pool.acquire().release())


def acquire_after_a_refused_attempt(world: World) -> None:
    world.driver.plan("connect", RefusedError("away"))
    world.clock.meanwhile(*[lambda: untraced(world.let_others_work)] * 3)
    world.strike(lambda: world.pool.acquire().release())


def acquire_with_the_wrong_password(world: World) -> None:
    world.driver.plan("connect", WrongPasswordError("wrong"))
    world.strike(world.pool.acquire, WrongPasswordError)


def acquire_by_hand_over(world: World) -> None:
    leases = [world.pool.acquire() for _ in range(2)]
    world.meanwhile(lambda: leases.pop().release(), lambda: leases.pop().release())
    world.strike(lambda: world.pool.acquire().release())


def acquire_what_a_thread_forgot(world: World) -> None:
    world.pool.acquire()
    world.hold()
    world.strike(lambda: world.pool.acquire().release())


def acquire_in_vain(world: World) -> None:
    world.hold(), world.hold()
    world.strike(lambda: world.pool.acquire(timeout=1.0), PoolTimeout)


def acquire_timing_out_as_it_is_served(world: World) -> None:
    """Scenario 1: the wait is over, and then, before anybody looks, the release comes."""
    leases = [world.pool.acquire() for _ in range(2)]
    wait = world.clock.wait

    def wait_too_long(*args: Any) -> bool:
        served = wait(*args)
        untraced(lambda: [lease.release() for lease in leases])
        leases.clear()
        return served

    world.clock.wait = wait_too_long  # type: ignore[method-assign]
    world.strike(lambda: world.pool.acquire(timeout=1.0).release())
    del world.clock.wait


def acquire_when_the_queue_is_full(world: World) -> None:
    world.pool = world.lab.pool(max_size=1, max_waiting=0)
    world.hold()
    world.strike(world.pool.acquire, TooManyWaiters)


def acquire_with_ping(world: World) -> None:
    world.warm()
    world.clock.advance(31.0)
    world.strike(lambda: world.pool.acquire().release())


def acquire_what_is_dead(world: World) -> None:
    world.warm(2)
    for connection in world.driver.open:
        connection.dead = True
    world.strike(lambda: world.pool.acquire().release())


def acquire_what_cannot_be_tested(world: World) -> None:
    world.warm()
    world.driver.plan("is_alive", FakeOperationalError("oh"))
    world.strike(lambda: world.pool.acquire().release())


def acquire_what_is_outdated(world: World) -> None:
    world.warm()
    world.clock.advance(3601.0)
    world.strike(lambda: world.pool.acquire().release())


def acquire_for_the_records(world: World) -> None:
    world.pool = world.lab.pool(max_size=2, leak_after=10.0)
    world.strike(lambda: world.pool.acquire(note="for a test").release())


# ---- release -----------------------------------------------------------------------------------


def release_to_idle(world: World) -> None:
    world.strike(world.hold().release)


def release_with_hand_off(world: World) -> None:
    mine, _ = [world.pool.acquire()], world.hold()
    world.while_another_waits(lambda: world.strike(mine.pop().release))


def release_with_ping(world: World) -> None:
    lease = world.hold()
    world.strike(lambda: world.pool.release(lease, ping=True))


def release_what_cannot_be_reset(world: World) -> None:
    mine, _ = [world.pool.acquire()], world.hold()
    world.driver.plan("reset", FakeOperationalError)
    world.while_another_waits(lambda: world.strike(mine.pop().release))


def release_what_is_used_up(world: World) -> None:
    world.pool = world.lab.pool(max_size=2, max_uses=1)
    mine, _ = [world.pool.acquire()], world.hold()
    world.while_another_waits(lambda: world.strike(mine.pop().release))


def release_what_is_outdated(world: World) -> None:
    lease = world.hold()
    world.pool.drain()
    world.strike(lease.release)


def release_what_is_surplus(world: World) -> None:
    lease, _ = world.hold(), world.hold()
    world.pool.resize(max_size=1)
    world.strike(lease.release)


def release_after_close(world: World) -> None:
    lease = world.hold()
    world.pool.close()
    world.strike(lease.release)


def discard(world: World) -> None:
    world.strike(world.hold().discard)


def discard_while_another_waits(world: World) -> None:
    mine, _ = [world.pool.acquire()], world.hold()
    world.while_another_waits(lambda: world.strike(mine.pop().discard))


def use_as_context(world: World) -> None:
    def use() -> None:
        with world.pool.acquire(), world.pool.acquire():
            pass

    world.strike(use)


# ---- operators ---------------------------------------------------------------------------------


def drain(world: World) -> None:
    world.warm(2)
    world.hold()
    world.strike(world.pool.drain)


def resize_down(world: World) -> None:
    world.warm(2)
    world.hold()
    world.strike(lambda: world.pool.resize(max_size=1))


def resize_up_while_another_waits(world: World) -> None:
    def resize() -> None:
        world.strike(lambda: world.pool.resize(max_size=3))
        world.pool.resize(max_size=3)  # who is interrupted at it does it again

    world.hold(), world.hold()
    world.while_another_waits(resize)


def suspend(world: World) -> None:
    world.warm()
    world.strike(world.pool.suspend)
    world.pool.resume()


def resume_while_another_waits(world: World) -> None:
    def resume() -> None:
        world.strike(world.pool.resume)
        world.pool.resume()

    world.warm(2)
    world.pool.suspend()
    world.while_another_waits(resume)


def clear_stats(world: World) -> None:
    world.warm()
    world.uncounted = 2  # totals of before the clearing and of after it
    world.strike(world.pool.clear_stats)


def look(world: World) -> None:
    world.hold()
    world.strike(lambda: (world.pool.stats(), world.pool.holders(), repr(world.pool)))


def close(world: World) -> None:
    world.warm(2)
    world.hold()
    world.strike(world.pool.close)


def close_while_another_waits(world: World) -> None:
    world.hold(), world.hold()

    def close_twice() -> None:
        world.strike(world.pool.close)
        world.pool.close()

    world.clock.meanwhile(close_twice, *world.patience())
    with pytest.raises(PoolClosed):
        world.pool.acquire(timeout=60.0)


# ---- maintenance, in a thread of its own -------------------------------------------------------


def maintain_with_a_lost_lease(world: World) -> None:
    mine, _ = [world.pool.acquire()], world.hold()

    def maintain() -> None:
        mine.clear()
        world.strike(world.pool.maintain)

    world.while_another_waits(maintain)


def maintain_with_old_idle_connections(world: World) -> None:
    world.pool = world.lab.pool(max_size=2, max_idle=10.0, min_size=1)
    world.warm(2)
    world.clock.advance(11.0)
    world.strike(world.pool.maintain)


def maintain_with_too_few_connections(world: World) -> None:
    world.pool = world.lab.pool(max_size=2, min_size=2)
    world.hold().discard()
    world.strike(world.pool.maintain)


def maintain_with_a_leak(world: World) -> None:
    world.pool = world.lab.pool(max_size=2, leak_after=10.0)
    world.hold()
    world.clock.advance(11.0)
    world.strike(world.pool.maintain)


# ---- workers, whose threads are another kind of victim -------------------------------------------
#
# Ctrl-C does not reach them, but `PyThreadState_SetAsyncExc` does, and a driver may raise
# `SystemExit`. Whatever ends a worker, the connection it had in its hands must not stay there.


def open_in_worker(world: World) -> None:
    world.while_another_waits(lambda: world.strike(world.work))


def fail_to_open_in_worker(world: World) -> None:
    world.driver.plan("connect", RefusedError)
    world.while_another_waits(lambda: world.strike(world.work))


def ping_in_worker(world: World) -> None:
    world.while_another_waits(world.let_others_work)
    world.clock.advance(31.0)
    world.while_another_waits(lambda: world.strike(world.work))


def find_dead_in_worker(world: World) -> None:
    world.while_another_waits(world.let_others_work)
    world.driver.open[0].dead = True
    world.while_another_waits(lambda: world.strike(world.work))


def clean_in_worker(world: World) -> None:
    world.clock.meanwhile(world.let_others_work)
    world.pool.acquire()
    world.pool.maintain()
    world.while_another_waits(lambda: world.strike(world.work))


def close_in_worker(world: World) -> None:
    world.clock.meanwhile(world.let_others_work)
    world.pool.acquire().discard()
    world.strike(world.work)


def fail_to_close_in_worker(world: World) -> None:
    world.driver.plan("close", FakeOperationalError)
    close_in_worker(world)


JOBS: list[Callable[[World], None]] = [
    open_in_worker,
    fail_to_open_in_worker,
    ping_in_worker,
    find_dead_in_worker,
    clean_in_worker,
    close_in_worker,
    fail_to_close_in_worker,
]

STORIES: list[Callable[[World], None]] = [
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
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_an_interrupt_at_any_bytecode_loses_nothing(story: Callable[[World], None]) -> None:
    """Scenario 7."""
    interrupt_everywhere(story, World, at_least=20)


def test_no_code_of_the_core_runs_when_a_lease_is_forgotten() -> None:
    """Scenario 10: Python swallows what interrupts a finaliser, so there must not be one."""
    world = World(1)
    leases = [world.pool.acquire()]
    world.strike(leases.clear)
    assert not world.struck
    assert world.check() == []


def workshop(strike_at: int) -> World:
    return World(strike_at, error=SystemExit, workers=ManualWorkers())


@pytest.mark.parametrize("story", JOBS, ids=lambda story: story.__name__)
def test_the_end_of_a_worker_at_any_bytecode_loses_nothing(story: Callable[[World], None]) -> None:
    interrupt_everywhere(story, workshop, at_least=20)
