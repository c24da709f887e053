"""How punctual something is, on a machine that has other things to do as well."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TRIES = 5
PUNCTUAL = 0.05
"""Seconds of delay for which no other try is made."""
DEADLINES = 1.5
"""A delay in seconds that load does not explain: something hangs."""


def overshoot(attempt: Callable[[], object], seconds: float, hangs: float = DEADLINES) -> float:
    """Return by how much an attempt that should take `seconds` takes longer, the best of a few.

    None may take less, and none may take `hangs` more: then something must have hung.
    """
    durations = []
    for _ in range(TRIES):
        begin = time.monotonic()
        attempt()
        durations.append(time.monotonic() - begin)
        assert seconds * 0.99 <= durations[-1] < seconds + hangs
        if durations[-1] < seconds + PUNCTUAL:
            break
    return min(durations) - seconds
