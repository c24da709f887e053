"""PostgreSQL's own account of its sessions, asked for through the pool without disturbing it."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from pooling.backends.driver import driver_of
from pooling.core import forks
from pooling.core.errors import PoolError
from pooling.core.workers import WORKERS
from pooling.fleet.snapshots import cleaned

if TYPE_CHECKING:
    from pooling.core.pool import Pool

logger = logging.getLogger("pooling")

ASK_EVERY = 2.0
"""Seconds for which an answer is good."""

PATIENCE = 0.4
"""Seconds a page waits for a new answer, before it shows the last one."""

ACQUIRE_TIMEOUT = 0.25
STATEMENT_TIMEOUT = 500
"""Milliseconds."""

NOTE = "server's account for the page of the connection pools"

SESSIONS = """
SELECT coalesce(application_name, ''), coalesce(state, '(hidden)'),
       datname IS NOT DISTINCT FROM current_database(), count(*)
FROM pg_stat_activity WHERE backend_type = 'client backend'
GROUP BY 1, 2, 3 ORDER BY 3 DESC, 1, 2 LIMIT 300
"""

LIMITS = """
SELECT current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
       + coalesce(current_setting('reserved_connections', true), '0')::int,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       current_setting('server_version')
"""


class Account:
    """What one server said last, and why it said nothing since."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.done.set()
        self.asked = float("-inf")
        self.answered = float("-inf")
        self.answer: dict[str, Any] | None = None
        self.problem: str | None = None


class Accounts:
    """The accounts of all servers that this process has a pool for."""

    def __init__(self) -> None:
        self._start_over()
        forks.register(self)

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._accounts: weakref.WeakKeyDictionary[Pool[Any], Account] = weakref.WeakKeyDictionary()

    def after_fork_in_child(self) -> None:
        """Forget the parent's questions, which nobody answers here."""
        self._start_over()

    def look(self, pool: Pool[Any]) -> dict[str, Any] | None:
        """Return what is known, asking anew if it is old; None if it is no PostgreSQL.

        Waits `PATIENCE` seconds at most. The answer has `sessions` (dictionaries with
        `application_name`, `state`, `own_database`, `count`), `max_connections`, `reserved`,
        `total`, `version`; `age` in seconds; and `problem`, why there is nothing newer.
        """
        driver = driver_of(pool)
        if driver is None or driver.vendor != "postgresql":
            return None
        with self._lock:
            account = self._accounts.setdefault(pool, Account())
        self._ask(pool, account)
        late = not account.done.wait(PATIENCE)
        with account.lock:
            age = time.monotonic() - account.answered
            problem = account.problem or ("it has not answered yet" if late else None)
            answer = account.answer
        if answer is None:
            return {"sessions": None, "age": None, "problem": problem or "it was not asked yet"}
        return {**answer, "age": age, "problem": problem}

    def _ask(self, pool: Pool[Any], account: Account) -> None:
        with account.lock:
            if not account.done.is_set() or time.monotonic() - account.asked < ASK_EVERY:
                return
            account.asked = time.monotonic()
            account.problem = _obstacle(pool)
            if account.problem is not None:
                return
            account.done.clear()
        WORKERS.run(lambda: _inquire(pool, account))


def _obstacle(pool: Pool[Any]) -> str | None:
    """Return why asking would disturb somebody: it must neither queue nor open a connection."""
    stats = pool.stats()
    if stats.suspended:
        return "the pool is suspended"
    if stats.idle:
        return None
    if stats.leased:
        return "every connection of this process is in use"
    if stats.last_error:
        return f"this process has no connection to it; connecting failed last with: {_error(pool)}"
    return "this process has no connection to it at the moment"


def _error(pool: Pool[Any]) -> str:
    return cleaned(pool, pool.stats().last_error or "")


def _inquire(pool: Pool[Any], account: Account) -> None:
    answer: dict[str, Any] | None = None
    problem: str | None = None
    try:
        with pool.acquire(ACQUIRE_TIMEOUT, note=NOTE) as connection:
            answer = _query(connection)
    except PoolError as error:
        logger.debug("no account of the server: %s", error)
        problem = "no connection was free in time, or the server is away"
        if pool.stats().last_error:
            problem += f"; connecting failed last with: {_error(pool)}"
    except Exception as error:
        logger.debug("no account of the server: %s", error)
        problem = f"asking failed: {type(error).__name__}"
    finally:
        with account.lock:
            account.problem = problem
            if answer is not None:
                account.answer, account.answered = answer, time.monotonic()
        account.done.set()


def _query(connection: Any) -> dict[str, Any]:
    """Ask on a raw connection, in a transaction that the release ends."""
    with connection.cursor() as cursor:
        if connection.autocommit:
            cursor.execute("BEGIN READ ONLY")
        cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT}")
        cursor.execute(SESSIONS)
        sessions = [tuple(row) for row in cursor.fetchall()]
        cursor.execute(LIMITS)
        [limits] = cursor.fetchall()
    names = ("application_name", "state", "own_database", "count")
    return {
        "sessions": [dict(zip(names, session, strict=True)) for session in sessions],
        **dict(zip(("max_connections", "reserved", "total", "version"), limits, strict=True)),
    }


ACCOUNTS = Accounts()
