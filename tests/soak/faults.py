"""Random faults of the server, the network, the pool, the threads and the file."""

from __future__ import annotations

import random
import sys
import threading
import time
from typing import TYPE_CHECKING

from pooling.core.errors import PoolError
from tests.soak.load import interrupt
from tests.soak.monitor import choose

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.soak.load import Worker
    from tests.soak.monitor import Monitor
    from tests.support.fault_proxy import FaultProxy
    from tests.support.mariadb import PrivateMariaDB
    from tests.support.postgres import PrivatePostgres, StopMode

GRACE = 0.3
"""Seconds that a new thread is left alone: it would end before it can be interrupted."""
REST_SECONDS = 10.0
"""Seconds to wait for all workers to rest, before a file is replaced."""


def _is_starting_another(ident: int) -> bool:
    """Tell whether a thread is in `Thread.start`.

    The new thread's state has the starter's number for a moment, so that CPython would raise the
    interrupt there, before its first line: then the starter waits for it for ever.
    """
    frame = sys._current_frames().get(ident)
    while frame is not None:
        if frame.f_code is threading.Thread.start.__code__:
            return True
        frame = frame.f_back
    return False


class Faults:
    """A thread that injects one random fault after the other.

    Args:
        server, proxy: where there are any.
        terminate: ends sessions at the server: a part of all, or the idle ones (True).
        replace_file: replaces the database file; called while no thread uses it.
        is_resting: tells whether the main thread rests while the run is paused.
        others: further faults of this kind of server, with their weights.
        pace: seconds between two faults, on average.
    """

    def __init__(
        self,
        monitor: Monitor,
        workers: list[Worker],
        seed: str,
        *,
        max_size: int,
        pace: float = 0.3,
        server: PrivatePostgres | PrivateMariaDB | None = None,
        blackout: threading.Lock | None = None,
        proxy: FaultProxy | None = None,
        terminate: Callable[[bool], None] | None = None,
        replace_file: Callable[[random.Random], None] | None = None,
        is_resting: Callable[[], bool] = lambda: True,
        others: dict[Callable[[], None], float] | None = None,
    ) -> None:
        self.monitor = monitor
        self.workers = workers
        self.random = random.Random(seed)
        self.max_size = max_size
        self.pace = pace
        self.server = server
        self.blackout = blackout or threading.Lock()
        """Held while the server is down or frozen."""
        self.proxy = proxy
        self._terminate = terminate
        self._replace_file = replace_file
        self._is_resting = is_resting
        self.over = threading.Event()
        self.kinds: dict[Callable[[], None], float] = {
            self.interrupt_worker: 10,
            self.resize: 3,
            self.drain: 2,
            self.suspend_and_resume: 1,
            self.clear_stats: 0.5,
        }
        if terminate is not None:
            self.kinds |= {self.terminate_some: 5, self.terminate_idle: 2}
        if server is not None:
            self.kinds |= {self.restart: 0.4, self.crash: 0.2, self.freeze: 1}
        if proxy is not None:
            self.kinds |= {self.reset: 2, self.pause: 1, self.refuse: 1, self.delay: 1}
        if replace_file is not None:
            self.kinds |= {self.replace_file: 4}
        self.kinds |= others or {}
        self.thread = threading.Thread(target=self._run, name="faults", daemon=True)

    def _run(self) -> None:
        while not self.over.wait(self.pace * 2 * self.random.random()):
            kind = choose(self.random, self.kinds)
            try:
                kind()
                self.monitor.count(f"fault: {kind.__name__}")
            except PoolError as error:
                self.monitor.report(f"{kind.__name__} failed: {error}")
            except Exception as error:
                self.monitor.count(f"fault that failed: {kind.__name__}: {type(error).__name__}")

    def end(self) -> None:
        """Stop, and undo what the faults have changed."""
        self.over.set()
        self.thread.join(60.0)
        self.monitor.pool.resume()
        self.monitor.pool.resize(max_size=self.max_size)

    # ---- threads ---------------------------------------------------------------------------------

    def interrupt_worker(self) -> None:
        # Not in a fork: what arrives in its hooks is swallowed by Python, and `logging` for one
        # does not release its lock then. (The pool can bear it: test_interrupted_threads.)
        worker = self.random.choice(self.workers)
        ident = worker.thread.ident
        with self.monitor.forking:
            is_new = time.monotonic() - worker.started < GRACE
            if ident is not None and not is_new and not _is_starting_another(ident):
                interrupt(ident)

    # ---- the file --------------------------------------------------------------------------------

    def replace_file(self) -> None:
        """Replace the database at rest: no act runs, and no lease is out."""
        assert self._replace_file is not None
        self.monitor.pool.resume()
        self.monitor.paused.set()
        try:
            deadline = time.monotonic() + REST_SECONDS
            while not self._is_at_rest():
                if time.monotonic() > deadline or self.over.is_set():
                    self.monitor.count("files not replaced, since leases were out")
                    return
                time.sleep(0.002)
            self._replace_file(self.random)
        finally:
            self.monitor.paused.clear()

    def _is_at_rest(self) -> bool:
        return (
            self._is_resting()
            and all(each.resting or not each.thread.is_alive() for each in self.workers)
            and self.monitor.is_at_rest()
        )

    # ---- the pool ------------------------------------------------------------------------------

    def resize(self) -> None:
        self.monitor.pool.resize(max_size=self.random.randint(1, self.max_size))

    def drain(self) -> None:
        self.monitor.pool.drain()

    def suspend_and_resume(self) -> None:
        self.monitor.pool.suspend()
        self._sleep(0.5)
        self.monitor.pool.resume()

    def clear_stats(self) -> None:
        self.monitor.pool.clear_stats()

    # ---- the server ----------------------------------------------------------------------------

    def terminate_some(self) -> None:
        assert self._terminate is not None
        self._terminate(False)

    def terminate_idle(self) -> None:
        assert self._terminate is not None
        self._terminate(True)

    def restart(self) -> None:
        self._down("fast")

    def crash(self) -> None:
        self._down("immediate")

    def _down(self, mode: StopMode) -> None:
        assert self.server is not None
        with self.blackout:
            self.server.stop(mode)
            self._sleep(1.0)
            self.server.start()

    def freeze(self) -> None:
        assert self.server is not None
        with self.blackout:
            self.server.freeze()
            self._sleep(1.5)
            self.server.thaw()

    # ---- the network ---------------------------------------------------------------------------

    def reset(self) -> None:
        assert self.proxy is not None
        self.proxy.reset()

    def pause(self) -> None:
        assert self.proxy is not None
        self.proxy.pause()
        self._sleep(1.5)
        self.proxy.resume()

    def refuse(self) -> None:
        assert self.proxy is not None
        self.proxy.refuse()
        self._sleep(1.0)
        self.proxy.serve()

    def delay(self) -> None:
        assert self.proxy is not None
        self.proxy.delay(self.random.random() * 0.02)
        self._sleep(1.0)
        self.proxy.delay(0.0)

    def _sleep(self, seconds: float) -> None:
        time.sleep(self.random.random() * seconds)
