"""What the main thread does, to which alone signals are delivered."""

from __future__ import annotations

import faulthandler
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.db import Error, connections

from pooling.core.errors import PoolError
from tests.soak.load import ALIAS, JOIN_SECONDS, HeldTransaction, Load
from tests.soak.monitor import WITHOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from tests.soak.monitor import Monitor

PAUSES = (0.0002, 0.003)
"""The shortest and the longest time between two signals, in seconds."""
HANG = 90.0
"""Seconds after which an act of the main thread hangs: the process ends with all stacks."""


class MainThreadLoad(Load):
    """Acts under an interval timer whose handler uses the ORM, and Ctrl-C in `join()`."""

    def __init__(self, monitor: Monitor, seed: str) -> None:
        super().__init__(monitor, seed)
        self.acts |= {self.be_interrupted_in_join: 2, self.use_tenants: 2}
        self._is_in_handler = False
        self._repeats = False
        """Whether the handler sets the timer again."""

    def step(self) -> None:
        """Do a random act while signals arrive."""
        faulthandler.dump_traceback_later(HANG, exit=True)
        try:
            with self._signals(self._use_orm):
                if "signal_handlers" not in WITHOUT:
                    self._repeats = True
                    self._set_timer()
                super().step()
        except KeyboardInterrupt:
            self.monitor.count("interrupted")  # just before or after a `join()`
        finally:
            faulthandler.cancel_dump_traceback_later()

    def be_interrupted_in_join(self) -> None:
        """Get Ctrl-C in `join()` of a thread that is in a transaction."""
        with self._signals(self._raise):
            held = HeldTransaction(self)
            held.thread.start()
            held.is_open.wait(JOIN_SECONDS)
            try:
                self._set_timer()
                held.thread.join(JOIN_SECONDS)
            except KeyboardInterrupt:
                self.monitor.count("interrupted in join")
            # `join()` returns at once for a thread that is marked as ended.
            if not held.done.wait(JOIN_SECONDS):
                self.monitor.report("a transaction of another thread hung while it was joined")

    @contextmanager
    def _signals(self, handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
        self._stop_timer()
        before = signal.signal(signal.SIGALRM, handler)
        try:
            yield
        finally:
            self._stop_timer()
            signal.signal(signal.SIGALRM, before)

    def _stop_timer(self) -> None:
        self._repeats = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _set_timer(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self.random.uniform(*PAUSES))

    def _raise(self, _number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def _use_orm(self, _number: int, _frame: FrameType | None) -> None:
        """Query with this thread's wrapper, where it has no connection at this moment.

        In the middle of a query that would block for ever with psycopg 3, with or without a pool.
        """
        if self._is_in_handler:
            return
        self._is_in_handler = True
        try:
            wrapper = connections[ALIAS]
            if wrapper.connection is None and not wrapper.in_atomic_block:
                with wrapper.cursor() as cursor:
                    cursor.execute("SELECT 1")
                    cursor.fetchone()
                self.monitor.count("queries in a signal handler")
                if self.random.random() < 0.5:
                    wrapper.close()
        except (Error, PoolError) as error:
            self.monitor.count(f"refused in a signal handler: {type(error).__name__}")
        finally:
            self._is_in_handler = False
            if self._repeats:
                self._set_timer()
