"""Probes that look inside this project's pool: ten thousand waiters without as many threads."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import tracemalloc
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pooling
from pooling.core import worker_threads
from pooling.core.queue import Waiter

from .base import WAIT_TIMEOUT, Probe
from .pools import POOLS, TIMEOUT
from .stubs import Stub, StubDriver

if TYPE_CHECKING:
    from collections.abc import Callable


class HandOff(Probe):
    """Release with few and with many in the queue: each hands over to the first of them."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self.pool: pooling.Pool[Stub] = pooling.Pool(
            StubDriver(), pooling.PoolConfig(max_size=1, min_size=0)
        )

    def trial(self, number: int) -> dict[str, float]:
        """Hand over `number` times; return the seconds that each took, by the queue's length."""
        found = {}
        for size in self.sizes:
            lease = self.pool.acquire()
            leases = [lease] + [enqueue(self.pool) for _ in range(size + number)]
            release = self.pool.release
            begin = perf_counter()
            for each in leases[:number]:
                release(each)
            found[str(size)] = (perf_counter() - begin) / number
            for each in leases[number:]:
                release(each)
        return found

    def close(self) -> None:
        self.pool.close()


def enqueue(pool: pooling.Pool[Stub]) -> pooling.Lease[Stub]:
    """Put a waiter into the queue as `acquire` does, without a thread that waits."""
    lease: pooling.Lease[Stub] = pooling.Lease(pool)
    waiter = Waiter(lease, time.monotonic())
    pool._run_locked(lambda: pool._state.enqueue(waiter))
    return lease


class PreparedDriver(StubDriver):
    """Has its connections ready, so that none of them counts as the pool's memory."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.ready = [Stub() for _ in range(number)]

    def connect(self) -> Stub:
        return self.ready.pop()


class Memory(Probe):
    """How much memory an idle connection takes beyond the driver's own, and a waiter."""

    def trial(self, number: int) -> dict[str, float]:
        """Return the bytes of each of `number`."""
        return {"idle": idle_bytes(number), "waiter": waiter_bytes(number)}


def idle_bytes(number: int) -> float:
    """Return the memory of an idle connection, that of the driver's object left out."""
    driver = PreparedDriver(number + 1)
    pool = pooling.Pool(driver, pooling.PoolConfig(max_size=number + 1, min_size=0))
    pool.acquire().release()
    with traced() as memory:
        held = [pool.acquire() for _ in range(number)]
        while held:
            pool.release(held.pop())
        del held
        grown = memory()
    pool.close()
    return grown / number


def waiter_bytes(number: int) -> float:
    """Return the memory of a caller in the queue, that of its thread left out."""
    pool = pooling.Pool(
        PreparedDriver(1), pooling.PoolConfig(max_size=1, min_size=0, timeout=TIMEOUT)
    )
    lease = pool.acquire()
    gate = threading.Lock()
    there = threading.Semaphore(0)
    gate.acquire()

    def wait() -> None:
        there.release()
        with gate:
            pass
        pool.acquire().release()

    stack = threading.stack_size(256 * 1024)
    threads = [threading.Thread(target=wait, daemon=True) for _ in range(number)]
    try:
        for thread in threads:
            thread.start()
    finally:
        threading.stack_size(stack)
    for _ in threads:
        there.acquire(timeout=WAIT_TIMEOUT)
    with traced() as memory:
        gate.release()
        deadline = time.monotonic() + WAIT_TIMEOUT
        while pool.stats().waiting < number and time.monotonic() < deadline:
            time.sleep(0.005)
        grown = memory()
    lease.release()
    for thread in threads:
        thread.join(WAIT_TIMEOUT)
    pool.close()
    return grown / number


class traced:  # noqa: N801 - a context manager
    """Trace allocations; the value is a function that says by how much memory has grown."""

    def __enter__(self) -> Callable[[], int]:
        gc.collect()
        tracemalloc.start()
        begin = tracemalloc.get_traced_memory()[0]

        def grown() -> int:
            gc.collect()
            return tracemalloc.get_traced_memory()[0] - begin

        return grown

    def __exit__(self, *_: object) -> None:
        tracemalloc.stop()


class Threads(Probe):
    """How many threads are left when nothing happens.

    Workers end when they had nothing to do for some seconds; here, sooner.
    """

    def __init__(self, pool: str) -> None:
        worker_threads.IDLE_TIMEOUT = 0.1
        self.new_pool = POOLS[pool]

    def trial(self, number: int) -> dict[str, float]:
        """Use `number` pools; return how many threads they leave."""
        before = threading.active_count()
        pools = [self.new_pool(2) for _ in range(number)]
        for pool in pools:
            pool.fill(2)
        time.sleep(0.5)
        found = threading.active_count() - before
        for pool in pools:
            pool.close()
        return {"threads": found}


IMPORT = """
import {before}
from time import perf_counter, process_time
begin, before = perf_counter(), process_time()
import {module}
print(perf_counter() - begin, process_time() - before)
"""


class Import(Probe):
    """How long an import takes in a new interpreter, after what is there anyway.

    It is compiled already, as what was installed is. The environment may forbid to keep what was
    compiled, or have it from another version: so the probe has a folder of its own for it.
    """

    def __init__(self, module: str, before: str) -> None:
        import tempfile

        self.script = IMPORT.format(module=module, before=before)
        self._compiled = tempfile.TemporaryDirectory(prefix="poolbench-")
        self.trial(1)

    def close(self) -> None:
        """Remove the folder."""
        self._compiled.cleanup()

    def trial(self, number: int) -> dict[str, float]:
        """Import it once."""
        import subprocess

        environment = {**os.environ, "PYTHONPYCACHEPREFIX": self._compiled.name}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done: Any = subprocess.run(
            [sys.executable, "-c", self.script],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=WAIT_TIMEOUT,
        )
        seconds, processor = map(float, done.stdout.split())
        return {"seconds": seconds, "processor": processor}
