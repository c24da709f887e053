"""What happens to the server, the network, the pool and the threads."""

from __future__ import annotations

import ctypes
import random
import sys
import threading
import time
from typing import TYPE_CHECKING

from pooling.core.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.proxy import FaultProxy
    from tests.soak.load import Worker
    from tests.soak.watch import Watch
    from tests.support_postgres import PrivatePostgres

GRACE = 0.3
"""Seconds that a new thread is left alone: it would die before it can be interrupted."""


def _starts_another(ident: int) -> bool:
    """Tell whether a thread is in `Thread.start`.

    The new thread's state bears the starter's number for a moment, so that CPython would raise the
    interrupt there, before its first line: then the starter waits for it for ever.
    """
    frame = sys._current_frames().get(ident)
    while frame is not None:
        if frame.f_code is threading.Thread.start.__code__:
            return True
        frame = frame.f_back
    return False


class Faults:
    """A thread that makes trouble of one random kind after the other.

    Args:
        server, proxy: only where there are such things.
        pace: seconds between two of them, on average.
    """

    def __init__(
        self,
        watch: Watch,
        workers: list[Worker],
        seed: str,
        *,
        most: int,
        pace: float = 0.3,
        server: PrivatePostgres | None = None,
        blackout: threading.Lock | None = None,
        proxy: FaultProxy | None = None,
        terminate: Callable[[bool], None] | None = None,
    ) -> None:
        self.watch = watch
        self.workers = workers
        self.random = random.Random(seed)
        self.most = most
        self.pace = pace
        self.server = server
        self.blackout = blackout or threading.Lock()
        """Held while the server is down or frozen."""
        self.proxy = proxy
        self._terminate = terminate
        self.over = threading.Event()
        self.kinds: dict[Callable[[], None], float] = {
            self.interrupt_somebody: 10,
            self.resize: 3,
            self.drain: 2,
            self.suspend_and_resume: 1,
            self.clear_stats: 0.5,
        }
        if terminate is not None:
            self.kinds |= {self.terminate_one: 5, self.terminate_idle: 2}
        if server is not None:
            self.kinds |= {self.restart: 0.4, self.crash: 0.2, self.freeze: 1}
        if proxy is not None:
            self.kinds |= {self.reset: 2, self.pause: 1, self.refuse: 1, self.delay: 1}
        self.thread = threading.Thread(target=self._run, name="faults", daemon=True)

    def _run(self) -> None:
        while not self.over.wait(self.pace * 2 * self.random.random()):
            [kind] = self.random.choices(list(self.kinds), list(self.kinds.values()))
            try:
                kind()
                self.watch.count(f"fault: {kind.__name__}")
            except PoolError as error:
                self.watch.wrong(f"{kind.__name__} failed: {error}")
            except Exception as error:
                self.watch.count(f"fault that failed: {kind.__name__}: {type(error).__name__}")

    def end(self) -> None:
        """Stop making trouble, and let everything be well again."""
        self.over.set()
        self.thread.join(60.0)
        self.watch.pool.resume()
        self.watch.pool.resize(max_size=self.most)

    # ---- threads -------------------------------------------------------------------------------

    def interrupt_somebody(self) -> None:
        # Not in a fork: what strikes in its hooks is swallowed by Python, and `logging` for one
        # does not release its lock then. (Ours can bear it: tests/core/test_interrupted_threads.)
        worker = self.random.choice(self.workers)
        ident = worker.thread.ident
        with self.watch.forking:
            fresh = time.monotonic() - worker.started < GRACE
            if ident is None or fresh or _starts_another(ident):
                return
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(ident), ctypes.py_object(KeyboardInterrupt)
            )

    # ---- the pool ------------------------------------------------------------------------------

    def resize(self) -> None:
        self.watch.pool.resize(max_size=self.random.randint(1, self.most))

    def drain(self) -> None:
        self.watch.pool.drain()

    def suspend_and_resume(self) -> None:
        self.watch.pool.suspend()
        self._endure(0.5)
        self.watch.pool.resume()

    def clear_stats(self) -> None:
        self.watch.pool.clear_stats()

    # ---- the server ----------------------------------------------------------------------------

    def terminate_one(self) -> None:
        assert self._terminate is not None
        self._terminate(False)

    def terminate_idle(self) -> None:
        assert self._terminate is not None
        self._terminate(True)

    def restart(self) -> None:
        self._down("fast")

    def crash(self) -> None:
        self._down("immediate")

    def _down(self, mode: str) -> None:
        assert self.server is not None
        with self.blackout:
            self.server.stop(mode)  # type: ignore[arg-type]
            self._endure(1.0)
            self.server.start()

    def freeze(self) -> None:
        assert self.server is not None
        with self.blackout:
            self.server.freeze()
            self._endure(1.5)
            self.server.thaw()

    # ---- the network ---------------------------------------------------------------------------

    def reset(self) -> None:
        assert self.proxy is not None
        self.proxy.reset()

    def pause(self) -> None:
        assert self.proxy is not None
        self.proxy.pause()
        self._endure(1.5)
        self.proxy.resume()

    def refuse(self) -> None:
        assert self.proxy is not None
        self.proxy.refuse()
        self._endure(1.0)
        self.proxy.serve()

    def delay(self) -> None:
        assert self.proxy is not None
        self.proxy.delay(self.random.random() * 0.02)
        self._endure(1.0)
        self.proxy.delay(0.0)

    def _endure(self, seconds: float) -> None:
        time.sleep(self.random.random() * seconds)
