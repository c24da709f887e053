"""Connect backoff and outage state: when to retry, when to fail fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooling.core.clock import LONG_AGO
from pooling.core.errors import BudgetExhausted

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
"""Seconds between attempts to connect to a server that is down: doubled each time, then jittered
down by up to a half. The longest is short enough to notice a returning server within a second."""

REFILL_PAUSE = 5.0
"""Seconds until a connection for `min_size` is tried again after a failure. No caller waits for it.
"""

OUTAGE_MEMORY = 2 * REFILL_PAUSE
"""Seconds for which a failed connect says something about the server. An attempt after a longer
silence is the beginning of another outage."""

MAX_CONCURRENT_CONNECTS = 2
"""How many connections a pool opens at a time. A spike of callers is mostly served by the first few
connections coming back, long before one for each caller could be open; more connects would only add
load to a busy server. While the server is down, one is enough to see it come back."""


class ConnectBackoff:
    """What the attempts to connect say about the server. Used under the pool's lock.

    Args:
        random: returns a random number from 0 to 1.
    """

    __slots__ = (
        "_failed_at",
        "_failures",
        "_random",
        "down_since",
        "error",
        "error_text",
        "next_attempt",
        "next_refill",
    )

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._failures = 0
        self._failed_at = LONG_AGO
        self.down_since: float | None = None
        """Since when every attempt has found the server down; None while it is not."""
        self.next_attempt = LONG_AGO
        """When the next attempt may be made."""
        self.next_refill = LONG_AGO
        """When the next attempt for `min_size` may be made, for which no caller waits."""
        self.error: BaseException | None = None
        """Why the last attempt found the server down."""
        self.error_text = ""
        """The last error as text."""

    @property
    def max_concurrent_connects(self) -> int:
        """How many attempts may be under way at a time."""
        return MAX_CONCURRENT_CONNECTS if self.down_since is None else 1

    def down_for(self, now: float) -> float:
        """Return for how many seconds the server has been down, a negative number if it is not."""
        return -1.0 if self.down_since is None else now - self.down_since

    def begin(self, now: float) -> None:
        """Note that an attempt begins while no other is under way: forget what is long ago."""
        if now - self._failed_at > OUTAGE_MEMORY:
            self.down_since = None

    def succeeded(self) -> None:
        """Note that a connection was opened."""
        self._failures = 0
        self.next_attempt = self.next_refill = LONG_AGO
        self.error = self.down_since = None

    def failed(self, error: BaseException, error_text: str, now: float) -> None:
        """Note that an attempt has found the server down."""
        if self.down_since is None:
            self.down_since = now
        self._failed_at = now
        self.error, self.error_text = error, error_text
        pause = min(FIRST_PAUSE * 2 ** min(self._failures, 16), LONGEST_PAUSE)
        self._failures += 1
        self.next_attempt = now + pause * (1 - self._random() / 2)
        self.next_refill = now + REFILL_PAUSE

    def turned_away(self, error: BudgetExhausted, error_text: str, now: float) -> None:
        """Note that the budget allows no other connection: the server is up, but try later."""
        self.down_since = None
        self.error, self.error_text = error, error_text
        self.next_attempt = now + error.pause
        self.next_refill = now + max(REFILL_PAUSE, error.pause)

    def room_was_seen(self) -> bool:
        """Note that the budget has room again; return whether that was not known."""
        if not isinstance(self.error, BudgetExhausted):
            return False
        self.next_attempt = self.next_refill = LONG_AGO
        return True

    def refused(self, error_text: str, now: float) -> None:
        """Note that the server has answered with an error that another attempt does not mend."""
        # The error itself is not kept: the caller raises it, and its traceback holds frames.
        self.error, self.error_text = None, error_text
        self._failures += 1
        self.down_since = None
        self.next_refill = now + REFILL_PAUSE
