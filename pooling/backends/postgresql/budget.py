"""A budget's slots: session-level advisory locks, so that they end with their session.

Each session of a pool with the option `budget` holds one of so many slots, an exclusive lock, and
shares a lock with the other sessions of its pool, by which others see who has how many. The
server keeps both as long as the session lives, and frees them when its process is killed.

A session that finds no slot is closed again. Until then it tries for a while and holds the flag, a
shared lock, if callers wait for it: so the others see that somebody wants a connection. To find out
that nobody does costs them one lock that is free (`NOBODY_WANTS`); only else they read who has what
(`SHARES`). `pooling.core.budget` decides then.

Advisory locks belong to a database, so a budget is one of the sessions of one database.
"""

from __future__ import annotations

import itertools
import random
import threading
from typing import TYPE_CHECKING, Any

from pooling.core import budget as policy
from pooling.core import forks
from pooling.core.clock import LONG_AGO, SYSTEM_CLOCK
from pooling.core.errors import BudgetExhausted, as_driver_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pooling.backends.postgresql.driver import PsycopgDriver

SLOTS, POOLS = 1886351212, 1886351216
"""The first numbers of the locks: "pool" in ASCII, modified in the last byte. The second number is
the slot, from 1, or the pool; slot 0 is the flag."""

ATTEMPT = 0.8
"""Seconds for which a session waits for a slot at most, and never for more than half of the pool's
`timeout`, so that its callers are told. Below `housekeeping.STALL`, after which the pool
would begin another connect."""

ATTEMPT_STEP = 0.1
"""Seconds between two tries of it."""

LONGEST_LOOK = 5.0
"""Seconds after which the shares are read although nobody wants any, for people to see."""

NOBODY_WANTS = f"SELECT pg_catalog.pg_try_advisory_xact_lock({SLOTS}, 0)::text"
"""Take the flag for an instant, exclusively."""

OURS = """
locktype = 'advisory' AND granted AND objsubid = 2 AND (objid <> 0 OR mode = 'ShareLock')
AND database = (SELECT oid FROM pg_catalog.pg_database
                WHERE datname = pg_catalog.current_database())
"""
"""Locks with two numbers of this database, without those of `NOBODY_WANTS`."""

SHARES = f"""
SELECT concat_ws(':', pool, count(*) FILTER (WHERE slot > 0), count(*) FILTER (WHERE wants),
                 max(slot) FILTER (WHERE pid = pg_catalog.pg_backend_pid()))
FROM (
    SELECT pid, max(objid::bigint) FILTER (WHERE classid = {POOLS}) AS pool,
           coalesce(max(objid::bigint) FILTER (WHERE classid = {SLOTS}), 0) AS slot,
           coalesce(bool_or(classid = {SLOTS} AND objid = 0), false) AS wants
    FROM pg_catalog.pg_locks WHERE {OURS} AND classid IN ({SLOTS}, {POOLS}) GROUP BY pid
) AS sessions WHERE pool IS NOT NULL GROUP BY pool
"""  # noqa: S608 - numbers of this module
"""Read who has how much. The row of the own pool has a fourth part, the session's slot."""

SOMEBODY_WANTS = f"""
EXISTS (SELECT FROM pg_catalog.pg_locks WHERE {OURS} AND classid = {SLOTS} AND objid = 0)
"""

TAKE = f"""
WITH RECURSIVE tries(number, taken) AS (
    SELECT 0, false WHERE {{anyway}} OR NOT {SOMEBODY_WANTS}
    UNION ALL
    SELECT number + 1,
           pg_catalog.pg_try_advisory_lock({SLOTS}, ({{first}} + number) % {{limit}} + 1)
    FROM tries WHERE NOT taken AND number < {{limit}}
) SELECT count(*) FROM tries;
"""  # noqa: S608
"""Take the first slot that is free, if nobody wants one or if `anyway` is true. A recursive query,
since that is certain to stop there."""

JOIN = f"SELECT pg_catalog.pg_advisory_lock_shared({POOLS}, {{pool}}); "
WANT = f"SELECT pg_catalog.pg_advisory_lock_shared({SLOTS}, 0)::text"
WANT_NO_MORE = f"SELECT pg_catalog.pg_advisory_unlock_shared({SLOTS}, 0)::text"
HOLD = f"SELECT pg_catalog.pg_try_advisory_xact_lock({SLOTS}, {{slot}}); "
"""Keep a slot until the end of the transaction, whatever is unlocked in it."""

LOST = ""
"""What stands for a slot that is another session's by now. No prepared statement is called so."""


class _Process:
    """What identifies this process to the others, and its connects, one at a time."""

    def __init__(self) -> None:
        forks.register(self)
        self._pools = itertools.count()
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        self.number = random.SystemRandom().getrandbits(31 - policy.POOL_BITS) << policy.POOL_BITS
        self.locks: dict[object, threading.Lock] = {}

    def number_pool(self) -> int:
        return next(self._pools) % (1 << policy.POOL_BITS)


_PROCESS = _Process()


class Budget:
    """The slots of one pool's sessions.

    Args:
        driver: runs statements, and knows the place.
        limit: the most sessions of all processes.
        timeout: seconds for which callers wait for a connection.
    """

    def __init__(self, driver: PsycopgDriver, limit: int, timeout: float | None) -> None:
        self._driver = driver
        self._limit = limit
        self._attempt = ATTEMPT if timeout is None else min(ATTEMPT, timeout / 2)
        self.has_demand: Callable[[], bool] = lambda: True
        """Tells whether callers wait for a connection."""
        self._number = _PROCESS.number_pool()
        self._slots: dict[Any, int] = {}
        self._next_look = LONG_AGO
        self._processes = 1
        self._pause, self._was_hopeful = 0.0, False

    @property
    def _me(self) -> int:
        """What identifies the pool to others: the process, and its pool."""
        return _PROCESS.number + self._number

    # ---- taking a slot ---------------------------------------------------------------------------

    def connecting(self, *place: object) -> threading.Lock:
        """Return what to hold while a session is opened: one of this process at a time.

        So at most one session per process is without a slot.
        """
        return _PROCESS.locks.setdefault(place, threading.Lock())

    def take(self, connection: Any) -> None:
        """Take a slot for a new session. Blocks for a round trip; for `ATTEMPT` if all are taken.

        Raises:
            BudgetExhausted: there is none. The session must be closed.
        """
        shares = self._try_take(connection, anyway=not self._slots)
        if connection in self._slots:
            return
        shares[self._me] = shares[self._me]._replace(wants=True)
        end = SYSTEM_CLOCK.now() + self._attempt
        pause = threading.Event()
        is_flagged = False
        while self._may_hope(shares) and self.has_demand() and SYSTEM_CLOCK.now() < end:
            if not is_flagged:
                self._driver.ask(connection, WANT)
                is_flagged = True
            pause.wait(ATTEMPT_STEP * (0.5 + random.random()))
            shares = self._read_shares(connection)
            if self._may_hope(shares) and policy.use_of(shares, self._limit).used < self._limit:
                shares = self._try_take(connection, anyway=True)
            if connection in self._slots:
                self._driver.ask(connection, WANT_NO_MORE)
                return
        use = policy.use_of(shares, self._limit)
        hopeful = self._may_hope(shares)
        last = self._pause if hopeful is self._was_hopeful else 0.0
        self._pause = policy.attempt_pause(last, use.wanting, hopeful=hopeful)
        self._was_hopeful = hopeful
        seconds = self._pause * (0.75 + random.random() / 2)
        kind: Any = as_driver_error(BudgetExhausted, self._driver.operational_error)
        raise kind(str(use), use, seconds)

    def _may_hope(self, shares: Mapping[int, policy.Share]) -> bool:
        return policy.may_hope(shares, self._me, self._limit)

    def _try_take(self, connection: Any, *, anyway: bool) -> dict[int, policy.Share]:
        first = random.randrange(self._limit)
        take = TAKE.format(anyway=anyway, first=first, limit=self._limit)
        return self._read_shares(connection, self._joining() + take)

    def _joining(self) -> str:
        return JOIN.format(pool=self._me)

    def _read_shares(self, connection: Any, before: str = "") -> dict[int, policy.Share]:
        """Read the shares of all pools; note this session's slot."""
        shares = {}
        slot = 0
        for row in self._driver.ask(connection, before + SHARES):
            pool, connections, wanting, *own = (int(part) for part in row.split(":"))
            shares[pool] = policy.Share(connections, wanting > 0)
            slot = max([slot, *own])
        shares.setdefault(self._me, policy.Share(0, wants=False))
        self._processes = len(shares)
        self._next_look = SYSTEM_CLOCK.now() + max(
            LONGEST_LOOK, 10 * policy.probe_pause(len(shares), random.random)
        )
        if slot:
            self._slots[connection] = slot
            self._pause = 0.0
        else:
            self._slots.pop(connection, None)
        return shares

    # ---- keeping it ------------------------------------------------------------------------------

    def forget(self, connection: Any) -> None:
        """Forget a session that is about to be closed: the server frees its slot."""
        self._slots.pop(connection, None)

    def around(self, connection: Any) -> tuple[str, str]:
        """Return what keeps the slot in a message that unlocks everything: its begin and its end.

        The end is that of a query, which also returns `LOST` if the slot is another session's.
        """
        slot = self._slots.get(connection)
        if slot is None:
            return "", f"{self._joining()}SELECT '{LOST}' UNION ALL "
        again = f"SELECT '{LOST}' WHERE NOT pg_catalog.pg_try_advisory_lock({SLOTS}, {slot})"
        return HOLD.format(slot=slot), f"{self._joining()}{again} UNION ALL "

    def keep(self, connection: Any) -> bool:
        """Take the slot again that a statement may have freed, or another one. One round trip.

        Returns:
            Whether the session has one. If not, it must not outlast its lease.
        """
        if slot := self._slots.get(connection):
            again = f"SELECT pg_catalog.pg_try_advisory_lock({SLOTS}, {slot}); "
            self._read_shares(connection, self._joining() + again)
        if connection not in self._slots:
            self._try_take(connection, anyway=True)
        return connection in self._slots

    # ---- giving it up ----------------------------------------------------------------------------

    def probe(self, connection: Any, *, in_demand: bool) -> policy.Probe:
        """Look whether others need this process's connections. One or two round trips."""
        now = SYSTEM_CLOCK.now()
        if now < self._next_look and self._driver.ask(connection, NOBODY_WANTS) == ["true"]:
            return policy.Probe(None, policy.probe_pause(self._processes, random.random))
        shares = self._read_shares(connection)
        return policy.probe(
            shares,
            self._me,
            self._limit,
            in_demand=in_demand,
            age=now - self._driver.opened_at(connection),
            random=random.random,
        )
