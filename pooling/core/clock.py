"""Where a pool gets its time from, so that tests can give it theirs."""

from __future__ import annotations

import threading
import time
from functools import partial


class Clock:
    """The machine's monotonic clock: no jump of the wall clock reaches a pool.

    The time that a machine sleeps counts, since servers do not sleep with it. Linux has a clock of
    its own for that; elsewhere `time.monotonic` does it, or nothing does.
    """

    now = staticmethod(
        partial(time.clock_gettime, time.CLOCK_BOOTTIME)
        if hasattr(time, "CLOCK_BOOTTIME")
        else time.monotonic
    )

    def wait(self, wakeup: threading.Lock, seconds: float | None) -> bool:
        """Block until `wakeup` can be acquired or `seconds` have passed; say whether it was."""
        if seconds is None:
            return wakeup.acquire()
        return wakeup.acquire(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))


SYSTEM_CLOCK = Clock()
