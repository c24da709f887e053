"""Probes of pools by themselves: acquire a stub connection, release it."""

from __future__ import annotations

import random
import threading
import time
from time import perf_counter
from typing import TYPE_CHECKING

from pooling.bench.statistics import jain

from .base import WAIT_TIMEOUT, LoopProbe, Probe, in_threads
from .pools import POOLS
from .stubs import Stub

if TYPE_CHECKING:
    from collections.abc import Callable

SOME = 100


class AcquireRelease(LoopProbe):
    """Acquire and release, by as many threads as there are connections."""

    def __init__(self, pool: str, threads: int = 1) -> None:
        super().__init__(threads)
        self.pool = POOLS[pool](threads)
        self.pool.fill(threads)

    def loop(self, number: int) -> None:
        acquire, release = self.pool.acquire, self.pool.release
        for _ in range(number):
            release(acquire())

    def close(self) -> None:
        self.pool.close()


class SqlAlchemyAcquireRelease(AcquireRelease):
    """The same without a function of ours between the loop and SQLAlchemy's `close`."""

    def loop(self, number: int) -> None:
        acquire = self.pool.acquire
        for _ in range(number):
            acquire().close()


class Floor(Probe):
    """What no pool written in Python can do without: each of it alone, and all of it in a loop."""

    def trial(self, number: int) -> dict[str, float]:
        """Return the seconds of each, for one acquire and release."""
        connection = Stub()
        parts = {"lock and list": self.lock_and_list, "poll": self.poll, "clocks": self.clocks}
        found = {name: part(number, connection) for name, part in parts.items()}
        return {**found, "seconds": self.everything(number, connection)}

    @staticmethod
    def lock_and_list(number: int, connection: Stub) -> float:
        lock, idle = threading.Lock(), [connection]
        begin = perf_counter()
        for _ in range(number):
            with lock:
                taken = idle.pop()
            with lock:
                idle.append(taken)
        return (perf_counter() - begin) / number

    @staticmethod
    def poll(number: int, connection: Stub) -> float:
        poll = connection.is_readable
        begin = perf_counter()
        for _ in range(number):
            poll()
        return (perf_counter() - begin) / number

    @staticmethod
    def clocks(number: int, _connection: Stub) -> float:
        now = time.monotonic
        begin = perf_counter()
        for _ in range(number):
            now()
            now()
        return (perf_counter() - begin) / number

    @staticmethod
    def everything(number: int, connection: Stub) -> float:
        lock, idle = threading.Lock(), [connection]
        now, poll = time.monotonic, connection.is_readable
        begin = perf_counter()
        for _ in range(number):
            now()
            with lock:
                taken = idle.pop()
            poll()
            now()
            with lock:
                idle.append(taken)
        return (perf_counter() - begin) / number


class Contention(Probe):
    """More threads than connections, each of which holds its connection for a moment."""

    def __init__(self, pool: str, threads: int, size: int, hold: float) -> None:
        self.threads, self.size, self.hold = threads, size, hold
        self.pool = POOLS[pool](size)
        self.pool.fill(size)

    def trial(self, number: int) -> dict[str, float]:
        """Go on for `number` milliseconds; say how much was done and how evenly."""
        waits: list[list[float]] = []
        holds: list[float] = []
        end = perf_counter() + number / 1000

        def work() -> None:
            mine: list[float] = []
            held: list[float] = []
            begin = perf_counter()
            while begin < end or not mine:
                connection = self.pool.acquire()
                acquired = perf_counter()
                time.sleep(self.hold)
                held.append(perf_counter() - acquired)
                self.pool.release(connection)
                mine.append(acquired - begin)
                begin = perf_counter()
            waits.append(mine)
            holds.extend(held)

        seconds = in_threads(self.threads, work)
        everything = [wait for each in waits for wait in each]
        rate = len(everything) / seconds
        mean = sum(everything) / len(everything)
        held = sum(holds) / len(holds)
        return {
            "rate": rate,
            "hold": held,
            "of nominal": rate / (self.size / self.hold),
            "of measured": rate / (self.size / held),
            "jain": jain([len(each) for each in waits]) or 0.0,
            "worst wait": max(everything) / mean,
        }

    def close(self) -> None:
        self.pool.close()


class Spike(Probe):
    """Many threads arrive at the same moment at a pool that has no connection yet."""

    def __init__(self, pool: str, threads: int, connect_seconds: float, work: float) -> None:
        self.new_pool = POOLS[pool]
        self.threads, self.connect_seconds, self.work = threads, connect_seconds, work

    def trial(self, number: int) -> dict[str, float]:
        """Do it once; say how long it took until the last had its turn."""
        pool = self.new_pool(self.threads, self.connect_seconds)

        def work() -> None:
            connection = pool.acquire()
            time.sleep(self.work)
            pool.release(connection)

        try:
            seconds = in_threads(self.threads, work)
            # One that is being opened when the last caller has finished was begun before that.
            return {"seconds": seconds, "connects": pool.connects}
        finally:
            pool.close()


class Sizes(Probe):
    """Acquire and release with few and with many idle connections, in a pool for each number."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.pools = {size: POOLS["pooling"](size) for size in sizes}
        for size, pool in self.pools.items():
            pool.fill(size)

    def trial(self, number: int) -> dict[str, float]:
        """Return the seconds of each, by the number of idle connections."""
        found = {}
        for size in random.sample(list(self.pools), len(self.pools)):
            acquire, release = self.pools[size].acquire, self.pools[size].release
            begin = perf_counter()
            for _ in range(number):
                release(acquire())
            found[str(size)] = (perf_counter() - begin) / number
        return found

    def close(self) -> None:
        for pool in self.pools.values():
            pool.close()


class Maintained(Probe):
    """Acquires while maintenance looks through many idle connections."""

    def __init__(self, idle: int) -> None:
        self.pool = POOLS["pooling"](idle)
        self.pool.fill(idle)
        self.worst = 0.0
        self.uses = 0

    def trial(self, number: int) -> dict[str, float]:
        """Let maintenance come `number` times; return the longest acquire and release meanwhile."""
        over = threading.Event()

        def work() -> None:
            acquire, release = self.pool.acquire, self.pool.release
            while not over.is_set():
                begin = perf_counter()
                release(acquire())
                self.worst = max(self.worst, perf_counter() - begin)
                self.uses += 1

        maintain = self.pool.pool._tasks.maintain
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            self.longest(lambda: None, 1)  # until it runs
            calm = self.longest(lambda: None, number)
            maintained = self.longest(maintain, number)
        finally:
            over.set()
            thread.join(WAIT_TIMEOUT)
        begin = perf_counter()
        maintain()
        return {"calm": calm, "maintained": maintained, "maintenance": perf_counter() - begin}

    def longest(self, action: Callable[[], object], times: int) -> float:
        """Do something every 2 ms; return the longest that the other thread took meanwhile."""
        self.worst, self.uses = 0.0, 0
        for _ in range(times):
            action()
            time.sleep(0.002)
        deadline = perf_counter() + WAIT_TIMEOUT
        while self.uses < SOME and perf_counter() < deadline:  # a busy machine
            time.sleep(0.002)
        return self.worst

    def close(self) -> None:
        self.pool.close()
