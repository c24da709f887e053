"""Nobody starves: the queue goes by arrival, not by who is quickest."""

from __future__ import annotations

import threading
from collections import Counter, deque

from pooling.core.worker_threads import Workers
from tests.support.fakes import TEST_TIMEOUT, Caller, PoolHarness

THREADS, SIZE, TURNS = 32, 4, 1600


def jains_index(shares: list[int]) -> float:
    """Return 1 if all have the same share, 1/n if one has everything (Jain, Chiu, Hawe 1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


def test_32_threads_share_4_connections_evenly() -> None:
    """Scenario 4. Who has held longest releases when all who hold none stand in the queue.

    So every release is a choice between all the others, whatever the machine is busy with. And it
    waits until who was chosen last has noticed: threads that wake late are not the pool's doing.
    """
    harness = PoolHarness(Workers())
    pool = harness.pool(max_size=SIZE, timeout=None)
    changed = harness.clock._changed
    turns: list[int] = []
    holders: deque[int] = deque()

    def take_turns(number: int) -> None:
        def may_release() -> bool:
            all_hold = len(holders) == SIZE
            all_wait = pool.stats().waiting == THREADS - SIZE
            return (all_hold and all_wait and holders[0] == number) or len(turns) >= TURNS

        while len(turns) < TURNS:
            with pool.acquire(), changed:
                turns.append(number)
                holders.append(number)
                changed.notify_all()
                assert changed.wait_for(may_release, TEST_TIMEOUT)
                holders.remove(number)

    callers = [Caller(lambda number=number: take_turns(number)) for number in range(THREADS)]
    for caller in callers:
        caller.result()
    counts = Counter(turns[:TURNS])
    shares = [counts[number] for number in range(THREADS)]
    assert jains_index(shares) >= 0.99, shares


def test_turns_go_round_when_everybody_comes_back_at_once(harness: PoolHarness) -> None:
    """One connection and three threads that want it again right after each turn: 1 2 3 1 2 3 ..."""
    pool = harness.pool(max_size=1, timeout=None)
    lease = pool.acquire()
    order: list[int] = []
    back_in_queue = threading.Semaphore(0)

    def take_turns(number: int) -> None:
        for _ in range(3):
            with pool.acquire():
                order.append(number)
                assert back_in_queue.acquire(timeout=TEST_TIMEOUT)

    callers = []
    for number in (1, 2, 3):
        callers.append(Caller(lambda number=number: take_turns(number)))
        harness.clock.wait_for_sleepers(number)
    lease.release()
    for waiting in (2, 2, 2, 2, 2, 2, 2, 1, 0):
        harness.clock.wait_for_sleepers(waiting)
        back_in_queue.release()
    for caller in callers:
        caller.result()
    assert order == [1, 2, 3] * 3
