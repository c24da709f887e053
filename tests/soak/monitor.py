"""What must hold throughout a run, and what was seen."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

from pooling.core.connection import State

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from pooling.core.pool import Pool

WITHOUT = frozenset((os.environ.get("SOAK_WITHOUT") or "").split(","))
"""The names of acts and faults that are left out."""
BOUND = 10.0
"""Seconds that the server may take to notice that sessions have ended."""


class Monitor:
    """The pool under test, the state of the run, and the problems found.

    Args:
        pool: returns the pool that is audited.
        sessions: returns how many sessions of the pool the server has, None if it cannot tell now.
        mark, read_mark: write a token into a session, and read it.
        read_generation: reads which of the files that replaced each other a session is on; None
            where files are not replaced.
        forks: whether threads may fork.
    """

    def __init__(
        self,
        pool: Callable[[], Pool[Any]],
        *,
        sessions: Callable[[], int | None],
        mark: Callable[[Any, str], None],
        read_mark: Callable[[Any], str],
        read_generation: Callable[[Any], int] | None = None,
        forks: bool,
    ) -> None:
        self._pool = pool
        self.sessions = sessions
        self.mark = mark
        self.read_mark = read_mark
        self.read_generation = read_generation
        self.generation = 0
        """The number of the file that is in place; it changes while `paused` is set."""
        self.forks = forks
        self.ended = threading.Event()
        self.calm = threading.Event()
        """Set while no faults are injected: then no caller may see an error."""
        self.paused = threading.Event()
        """Set while the workers have to rest between two acts."""
        self.forking = threading.Lock()
        """One at a time: other children would disturb the audit of a child."""
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.problems: list[str] = []
        self.other_pools: list[Pool[Any]] = []
        """Pools that are audited as well."""
        self._claims = Claims()
        self._too_many_since: float | None = None

    @property
    def pool(self) -> Pool[Any]:
        return self._pool()

    def count(self, name: str) -> None:
        self.counts[name] += 1  # a lost update under contention does not matter

    def report(self, problem: str) -> None:
        self.problems.append(problem)

    def failed(self, act: str, error: Exception, *, calm: bool) -> None:
        """Note an error, which is a problem if no fault explains it."""
        lines = str(error).strip().splitlines() or [""]
        self.errors[f"{type(error).__name__}: {lines[0][:70]}"] += 1
        if calm:
            self.report(f"{act} failed without a fault: {type(error).__name__}: {error}")

    def claim(self, connection: Any, lease: Any) -> None:
        """Note that a lease uses a connection; it is a problem if another one does."""
        if lease is not None and (problem := self._claims.claim(connection, lease)):
            self.report(problem)

    # ---- invariants ------------------------------------------------------------------------------

    def audit(self) -> None:
        """Check the state of the pools, each under its lock."""
        for pool in (self.pool, *self.other_pools):
            for problem in pool._run_locked(lambda pool=pool: audit(pool)):
                self.report(problem)
        self.count("audits")

    def compare(self) -> None:
        """Compare with the sessions at the server, which learns of their ends a little later."""
        pool = self.pool
        found = self.sessions()
        if found is None:
            self._too_many_since = None
            return
        self.count("comparisons")
        allowed = pool._run_locked(
            lambda: max(pool.config.max_size, len(pool._state.records)) + len(pool._state.closing)
        )
        if found <= allowed:
            self._too_many_since = None
        elif self._too_many_since is None:
            self._too_many_since = time.monotonic()
        elif time.monotonic() - self._too_many_since > BOUND:
            self.report(f"{found} sessions at the server for {BOUND:g} s, {allowed} are ours")
            self._too_many_since = None

    def is_at_rest(self, pool: Pool[Any] | None = None) -> bool:
        """Tell whether no lease is out and no task under way, after housekeeping."""
        pool = pool or self.pool
        pool._tasks.maintain()
        stats = pool.stats()
        return not (stats.leased or stats.connecting or stats.waiting)

    def wait_for_rest(self, pool: Pool[Any] | None = None) -> None:
        """Wait until no lease is out any more; report if that does not come."""
        pool = pool or self.pool
        deadline = time.monotonic() + BOUND
        while not self.is_at_rest(pool):
            if time.monotonic() > deadline:
                holders = [(each.thread, each.seconds, each.note) for each in pool.holders()]
                self.report(f"leases are left: {pool!r}, {holders}")
                return
            time.sleep(0.02)


def choose(random: random.Random, acts: dict[Callable[[], None], float]) -> Callable[[], None]:
    """Return a random act, by their weights."""
    wanted = {act: weight for act, weight in acts.items() if act.__name__ not in WITHOUT}
    return random.choices(list(wanted), list(wanted.values()))[0]


def audit(pool: Pool[Any]) -> list[str]:
    """Return what is wrong in the state of a pool. Caller holds the lock."""
    state, problems = pool._state, []
    states = Counter(record.state for record in state.records)
    size, idle = len(state.records), len(state.idle)
    if size != state.connecting + idle + state.leased:
        problems.append(f"the numbers do not add up: {pool!r}")
    if (states[State.CONNECTING], states[State.IDLE], states[State.LEASED]) != (
        state.connecting,
        idle,
        state.leased,
    ):
        problems.append(f"the states are not the numbers: {pool!r}, {states}")
    if size > state.max_size and idle:
        problems.append(f"too many connections, and some idle: {pool!r}")
    if len(set(state.idle)) != idle or not state.records.issuperset(state.idle):
        problems.append(f"the idle connections are inconsistent: {pool!r}")
    if not 0 <= state.opening <= state.connecting:
        problems.append(f"{state.opening} are being opened: {pool!r}")
    if idle and state.waiters and not state.suspended and len(state.waiters) > state.connecting:
        problems.append(f"a caller waits while connections are idle: {pool!r}")
    return problems


class Claims:
    """Which lease uses which connection: never two at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[int, tuple[Any, weakref.ref[Any]]] = {}

    def claim(self, connection: Any, lease: Any) -> str | None:
        """Note that `lease` uses `connection`; return a text if another lease does."""
        with self._lock:
            before = self._claims.get(id(connection))
            self._claims[id(connection)] = connection, weakref.ref(lease)
            if len(self._claims) > 1000:
                self._claims.clear()
        if before is None:
            return None
        other = before[1]()
        if other is not None and other is not lease and other._current and lease._current:
            return f"{connection} is leased twice: {other} and {lease}"
        return None
