"""What acquire and release may cost, counted: whoever adds something has to raise a budget here.

Counts are the same on every machine and under every load. What they are in microseconds is in
docs/performance.md; lower a budget when the code gets better.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from pooling.core.clock import SYSTEM_CLOCK
from pooling.core.config import PoolConfig
from pooling.core.pool import Pool
from tests.benchmarks.micro.probes.internals import enqueue, idle_bytes, waiter_bytes
from tests.benchmarks.micro.probes.stubs import Stub, StubDriver
from tests.support.call_counter import blocks_kept, bytecodes, bytes_in_use, calls, names
from tests.support.fakes import InlineWorkers, ManualScheduler

pytestmark = pytest.mark.serial

PYTHON_CALLS = 12
"""Functions written in Python that an acquire and a release call, the driver's two included."""
C_CALLS = 10
"""The same of those that are not, the ends of `with` included."""
BYTECODES = 430
"""Instructions that Python runs for them; the versions differ by a tenth, this is the most."""
BYTES_IN_USE = 620
"""Memory that is taken meanwhile, and given back."""
BLOCKS_KEPT = 500
"""Pieces of memory by which ten thousand of them may make the process grow: caches, and what the
system under the tests does. Whoever keeps one for each of them, or for each tenth, is caught."""
BYTES_PER_IDLE, BYTES_PER_WAITER = 2048, 2048
"""Memory of a connection beyond the driver's own, and of a caller beyond its thread's."""
MAINTENANCE_PER_IDLE = 110
"""Instructions that maintenance runs for each idle connection, all of them under the lock."""

MANY_IDLE = 1_000
MANY_WAITERS = 10_000
IMPORTS = {"__future__", "bisect", "ctypes", "dataclasses", "random"}
"""Modules beyond Django's that `import pooling` brings; parts of them begin with `_`."""
OWN_IMPORTS = 22
"""Modules of our own that it brings."""
HEAVY = {
    "asyncio",
    "django",
    "email",
    "multiprocessing",
    "psycopg",
    "psycopg2",
    "socket",
    "sqlite3",
}
"""What `import pooling` by itself must not bring, since people import it where Django is not."""
ROOT = Path(__file__).parents[2]


def new_pool(connections: int = 1) -> Pool[Stub]:
    """Return a pool with so many idle connections, which does nothing by itself."""
    pool: Pool[Stub] = Pool(
        StubDriver(),
        PoolConfig(min_size=0, max_size=connections),
        workers=InlineWorkers(),
        scheduler=ManualScheduler(SYSTEM_CLOCK),
    )
    held = [pool.acquire() for _ in range(connections)]
    while held:
        pool.release(held.pop())
    return pool


def use(pool: Pool[Stub]) -> None:
    """What is counted."""
    pool.release(pool.acquire())


def test_acquire_and_release_call_few_functions() -> None:
    pool = new_pool()

    counted = calls(lambda: use(pool))

    what = ", ".join(names(lambda: use(pool)))
    assert counted.python - 1 <= PYTHON_CALLS, what  # without `use`
    assert counted.c <= C_CALLS, what


def test_acquire_and_release_run_few_instructions() -> None:
    pool = new_pool()

    assert bytecodes(lambda: use(pool)) <= BYTECODES


def test_acquire_and_release_give_all_memory_back() -> None:
    pool = new_pool()

    assert bytes_in_use(lambda: use(pool)) <= BYTES_IN_USE
    assert blocks_kept(lambda: use(pool), 10_000) <= BLOCKS_KEPT


def test_acquire_and_release_leave_nothing_to_the_collector() -> None:
    pool = new_pool()
    use(pool)
    gc.collect()

    gc.disable()
    try:
        for _ in range(100):
            use(pool)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_acquire_and_release_cost_the_same_with_many_idle_connections() -> None:
    few, many = new_pool(1), new_pool(MANY_IDLE)

    assert bytecodes(lambda: use(many)) == bytecodes(lambda: use(few))
    assert calls(lambda: use(many)) == calls(lambda: use(few))


def hand_off_costs(waiters: int) -> int:
    """Return the instructions of a release that serves a waiter, with so many in the queue."""
    pool = new_pool()
    lease = pool.acquire()
    leases = iter([lease, *(enqueue(pool) for _ in range(waiters + 20))])
    return bytecodes(lambda: pool.release(next(leases)))


def test_hand_off_costs_the_same_with_many_waiters() -> None:
    assert hand_off_costs(MANY_WAITERS) == hand_off_costs(1)


def test_queueing_costs_the_same_behind_many_waiters() -> None:
    def costs(waiters: int) -> int:
        pool = new_pool()
        leases = [pool.acquire(), *(enqueue(pool) for _ in range(waiters))]
        return bytecodes(lambda: leases.append(enqueue(pool)))

    assert costs(MANY_WAITERS) == costs(1)


def test_maintenance_costs_little_for_each_idle_connection() -> None:
    few, many = new_pool(1), new_pool(MANY_IDLE)

    grown = bytecodes(many._tasks.maintain) - bytecodes(few._tasks.maintain)

    assert grown / (MANY_IDLE - 1) <= MAINTENANCE_PER_IDLE


def test_an_idle_connection_takes_little_memory() -> None:
    assert idle_bytes(200) < BYTES_PER_IDLE


def test_a_waiter_takes_little_memory() -> None:
    assert waiter_bytes(50) < BYTES_PER_WAITER


IDLE_PROCESS = """
import threading
from pooling.core import worker_threads
worker_threads.IDLE_TIMEOUT = 0.01
import pooling
from tests.benchmarks.micro.probes.stubs import StubDriver

pools = [pooling.Pool(StubDriver(), pooling.PoolConfig(min_size=1)) for _ in range(20)]
for pool in pools:
    pool.acquire().release()
for thread in threading.enumerate():
    if thread.name.startswith("pooling-worker"):
        thread.join(20)
print(*(thread.name for thread in threading.enumerate()))
"""


def fresh_interpreter(script: str) -> str:
    """Return what a script prints in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.strip()


def test_an_idle_process_has_one_thread_more_for_all_pools() -> None:
    assert fresh_interpreter(IDLE_PROCESS) == "MainThread pooling-maintenance"


IMPORTED = """
import sys
{before}
before = set(sys.modules)
import pooling
print(*sorted(set(sys.modules) - before))
"""


def test_the_package_imports_little_that_django_has_not_imported() -> None:
    found = fresh_interpreter(IMPORTED.format(before="import django.db")).split()

    own = {name for name in found if name.startswith("pooling")}
    others = {name.partition(".")[0] for name in found} - {"pooling"}
    assert {name for name in others - IMPORTS if not name.startswith("_")} == set()
    assert len(own) <= OWN_IMPORTS, own


def test_the_package_by_itself_imports_nothing_heavy() -> None:
    found = fresh_interpreter(IMPORTED.format(before="")).split()

    assert HEAVY & set(found) == set()
