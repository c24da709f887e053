"""What must be true all the time, and what was seen."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from pooling.core.connection import State
from tests.soak.load import Claims

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooling.core.pool import Pool

BOUND = 10.0
"""Seconds that the server may take to notice that sessions have ended."""


class Watch:
    """The pool under test, what is known of it, and what was wrong.

    Args:
        sessions: returns how many sessions of ours the server has, None if it cannot tell now.
        mark, read_mark: write a token into a session, and read it.
    """

    def __init__(
        self,
        pool: Callable[[], Pool[Any]],
        *,
        sessions: Callable[[], int | None],
        mark: Callable[[Any, str], None],
        read_mark: Callable[[Any], str],
        forks: bool,
    ) -> None:
        self._pool = pool
        self._sessions = sessions
        self.mark = mark
        self.read_mark = read_mark
        self.forks = forks
        self.ended = threading.Event()
        self.calm = threading.Event()
        """Set while nothing bad is done to the server: then nobody may see an error."""
        self.forking = threading.Lock()
        """One at a time: a child must find its parent at peace with the other children."""
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.faults: list[str] = []
        self._claims = Claims()
        self._too_many_since: float | None = None

    @property
    def pool(self) -> Pool[Any]:
        return self._pool()

    def count(self, what: str) -> None:
        self.counts[what] += 1  # a lost update under contention does not matter

    def wrong(self, what: str) -> None:
        self.faults.append(what)

    def failed(self, act: str, error: Exception, *, calm: bool) -> None:
        """Take note of an error that a fault explains; in calm weather nothing does."""
        words = str(error).strip().splitlines() or [""]
        self.errors[f"{type(error).__name__}: {words[0][:70]}"] += 1
        if calm:
            self.wrong(f"{act} failed in calm weather: {type(error).__name__}: {error}")

    def claim(self, connection: Any, lease: Any) -> None:
        if lease is not None and (problem := self._claims.claim(connection, lease)):
            self.wrong(problem)

    # ---- invariants ----------------------------------------------------------------------------

    def look(self) -> None:
        """Audit the books, under their lock."""
        pool = self.pool
        for problem in pool.decide(lambda: audit(pool)):
            self.wrong(problem)
        self.count("audits")

    def compare(self) -> None:
        """Compare with the sessions at the server, which learns of their ends a little later."""
        pool = self.pool
        found = self._sessions()
        if found is None:
            self._too_many_since = None
            return
        self.count("comparisons")
        allowed = pool.decide(
            lambda: max(pool.config.max_size, len(pool._state.records)) + len(pool._state.closing)
        )
        if found <= allowed:
            self._too_many_since = None
        elif self._too_many_since is None:
            self._too_many_since = time.monotonic()
        elif time.monotonic() - self._too_many_since > BOUND:
            self.wrong(f"{found} sessions at the server for {BOUND:g} s, {allowed} are ours")
            self._too_many_since = None

    def come_to_rest(self) -> None:
        """Wait until nobody has a connection any more; it is wrong if that does not come."""
        pool = self.pool
        deadline = time.monotonic() + BOUND
        while True:
            pool._tasks.maintain()
            stats = pool.stats()
            if not (stats.leased or stats.connecting or stats.waiting):
                return
            if time.monotonic() > deadline:
                holders = [(each.thread, each.seconds, each.note) for each in pool.holders()]
                self.wrong(f"somebody still has a connection: {pool!r}, {holders}")
                return
            time.sleep(0.02)


def audit(pool: Pool[Any]) -> list[str]:
    """Say what is wrong in the books of a pool. Caller holds the lock."""
    books, problems = pool._state, []
    states = Counter(record.state for record in books.records)
    size, idle = len(books.records), len(books.idle)
    if size != books.connecting + idle + books.leased:
        problems.append(f"the numbers do not add up: {pool!r}")
    if (states[State.CONNECTING], states[State.IDLE], states[State.LEASED]) != (
        books.connecting,
        idle,
        books.leased,
    ):
        problems.append(f"the states are not the numbers: {pool!r}, {states}")
    if size > books.max_size and idle:
        problems.append(f"too many connections, and some idle: {pool!r}")
    if len(set(books.idle)) != idle or not books.records.issuperset(books.idle):
        problems.append(f"the idle ones are in disorder: {pool!r}")
    if not 0 <= books.opening <= books.connecting:
        problems.append(f"{books.opening} are being opened: {pool!r}")
    if idle and books.waiters and not books.suspended and len(books.waiters) > books.connecting:
        problems.append(f"somebody waits, and some are idle: {pool!r}")
    return problems
