"""The clock of a pool, which tests replace by a fake one."""

from __future__ import annotations

import threading
import time
from functools import partial

LONG_AGO = float("-inf")
"""An instant before all others: what is due then is due."""


class Clock:
    """The machine's monotonic clock: jumps of the wall clock have no effect on a pool.

    The time that a machine is suspended counts, since servers are not suspended with it. Linux has
    a clock of its own for that; elsewhere it depends on `time.monotonic`.
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
