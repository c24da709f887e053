"""Waiting for a condition by asking again and again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_until(done: Callable[[], bool], within: float = 10.0, every: float = 0.005) -> bool:
    """Wait until `done()` or for `within` seconds; return whether it came true."""
    deadline = time.monotonic() + within
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
