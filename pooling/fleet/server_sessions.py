"""Sessions on the database server, queried through the pool without disturbing its users."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from pooling.backends.driver import driver_of
from pooling.backends.postgresql.deadlines import DEADLINES
from pooling.core import forks
from pooling.core.errors import PoolError
from pooling.core.worker_threads import WORKERS
from pooling.fleet.snapshots import redacted

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooling.core.pool import Pool

logger = logging.getLogger("pooling")

VENDORS = ("postgresql", "mysql")
"""The kinds of servers that can be queried."""

REFRESH_AFTER = 2.0
"""Seconds for which an answer is reused."""

ANSWER_TIMEOUT = 0.4
"""Seconds a page waits for a new answer before it shows the last one."""

CONNECT_AFTER = 10.0
"""Seconds between two connections outside the pool: opened when all of its own are in use, since
the server's side is never more interesting. They are closed at once."""

ACQUIRE_TIMEOUT = 0.25
STATEMENT_TIMEOUT = 500
"""Milliseconds."""

IN_USE = "every connection of this process is in use"

NOTE = "pooling admin page: sessions on the server"

SESSIONS = """
SELECT coalesce(application_name, ''),
       CASE pid WHEN pg_backend_pid() THEN 'idle' ELSE coalesce(state, '(hidden)') END,
       datname IS NOT DISTINCT FROM current_database(), count(*)
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND (pid <> pg_backend_pid() OR %s)
GROUP BY 1, 2, 3 ORDER BY 3 DESC, 1, 2 LIMIT 300
"""

LIMITS = """
SELECT current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
       + coalesce(current_setting('reserved_connections', true), '0')::int,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       current_setting('server_version')
"""


MYSQL_SESSIONS = """
SELECT coalesce(
           name.attr_value,
           concat(user, '@', trim(TRAILING concat(':', substring_index(host, ':', -1)) FROM host))
       ),
       CASE WHEN id = connection_id() OR command = 'Sleep' THEN 'idle' ELSE 'active' END,
       db <=> database(), count(*)
FROM information_schema.PROCESSLIST
LEFT JOIN performance_schema.session_account_connect_attrs AS name
       ON name.processlist_id = id AND name.attr_name = 'program_name'
WHERE user = (SELECT user FROM information_schema.PROCESSLIST WHERE id = connection_id())
  AND (id <> connection_id() OR %s)
GROUP BY 1, 2, 3 ORDER BY 3 DESC, 1, 2 LIMIT 300
"""
"""The sessions of the pool's own user: others are hidden from users without `PROCESS`. MySQL has
their names if `performance_schema` is on; otherwise the user and the host stand for them."""


def grouped(sessions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return sessions by name and database: `name`, `own`, `total`, and `states` as text."""
    rows: dict[tuple[str, bool], dict[str, int]] = {}
    for session in sessions:
        states = rows.setdefault((session["application_name"], session["own_database"]), {})
        states[session["state"]] = session["count"]
    return [
        {
            "name": name or "(no name)",
            "own": own,
            "states": ", ".join(f"{number} {state}" for state, number in states.items()),
            "total": sum(states.values()),
        }
        for (name, own), states in rows.items()
    ]


def occupancy(answer: dict[str, Any]) -> str:
    """Return how many of the server's connections are taken."""
    left = answer["max_connections"] - answer["reserved"] - answer["total"]
    reserved = f", of which {answer['reserved']} are reserved" if answer["reserved"] else ""
    text = (
        f"{answer['product']} {answer['version']}: {answer['total']} of "
        f"{answer['max_connections']} connections{reserved}: {max(left, 0)} are left."
    )
    if answer["max_user_connections"]:
        own = sum(session["count"] for session in answer["sessions"])
        text += f" This user has {own} of {answer['max_user_connections']}."
    return text


class _ServerState:
    """The last answer of one server, and why there is no newer one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.done.set()
        self.asked = float("-inf")
        self.connected = float("-inf")
        self.answered = float("-inf")
        self.answer: dict[str, Any] | None = None
        self.problem: str | None = None


class ServerSessions:
    """The last answers of the servers of this process's pools."""

    def __init__(self) -> None:
        self._start_over()
        forks.register(self)

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._states: weakref.WeakKeyDictionary[Pool[Any], _ServerState] = (
            weakref.WeakKeyDictionary()
        )

    def after_fork_in_child(self) -> None:
        """Drop the parent's queries: their workers do not exist here."""
        self._start_over()

    def read(self, pool: Pool[Any]) -> dict[str, Any] | None:
        """Return the last answer, after querying again if it is old; None for SQLite.

        Blocks `ANSWER_TIMEOUT` seconds at most. The answer has `sessions` (dictionaries with
        `application_name`, `state`, `own_database`, `count`), `max_connections`, `reserved`,
        `max_user_connections` (None: no limit), `total`, `product`, `version`; `age` in seconds;
        and `problem`, why there is no newer one.
        """
        if vendor_of(pool) not in VENDORS:
            return None
        with self._lock:
            state = self._states.setdefault(pool, _ServerState())
        self._refresh(pool, state)
        late = not state.done.wait(ANSWER_TIMEOUT)
        with state.lock:
            age = time.monotonic() - state.answered
            problem = state.problem or ("it has not answered yet" if late else None)
            answer = state.answer
        if answer is None:
            return {"sessions": None, "age": None, "problem": problem or "it was not queried yet"}
        return {**answer, "age": age, "problem": problem}

    def _refresh(self, pool: Pool[Any], state: _ServerState) -> None:
        with state.lock:
            if not state.done.is_set() or time.monotonic() - state.asked < REFRESH_AFTER:
                return
            state.asked = time.monotonic()
            state.problem = _obstacle(pool)
            read = _read_leased
            if state.problem == IN_USE and time.monotonic() - state.connected >= CONNECT_AFTER:
                state.connected = time.monotonic()
                state.problem, read = None, read_outside
            if state.problem is not None:
                return
            state.done.clear()
        WORKERS.run(lambda: _fetch(pool, state, read))


def _obstacle(pool: Pool[Any]) -> str | None:
    """Return why not to query now: a query must neither queue nor open a connection."""
    stats = pool.stats()
    if stats.suspended:
        return "the pool is suspended"
    if stats.idle:
        return None
    if stats.leased:
        return IN_USE
    if stats.last_error:
        return f"this process has no connection to it; connecting failed last with: {_error(pool)}"
    return "this process has no connection to it at the moment"


def _error(pool: Pool[Any]) -> str:
    return redacted(pool, pool.stats().last_error or "")


def _read_leased(pool: Pool[Any]) -> dict[str, Any]:
    with pool.acquire(ACQUIRE_TIMEOUT, note=NOTE) as connection:
        return _query(connection, vendor=vendor_of(pool), of_pool=True)


def read_outside(pool: Pool[Any]) -> dict[str, Any]:
    """Query the server over a connection outside the pool, which is closed at once.

    Blocks, and raises the driver's errors. The answer is that of `ServerSessions.read`, without
    `age` and `problem`.
    """
    driver = pool._driver  # noqa: SLF001
    connection = driver.connect()
    try:
        return _query(connection, vendor=vendor_of(pool), of_pool=False)
    finally:
        driver.close(connection)


def _fetch(
    pool: Pool[Any], state: _ServerState, read: Callable[[Pool[Any]], dict[str, Any]]
) -> None:
    answer: dict[str, Any] | None = None
    problem: str | None = None
    try:
        answer = read(pool)
    except PoolError as error:
        logger.debug("the server's sessions cannot be read: %s", error)
        problem = "no connection was free in time, or the server is unreachable"
        if pool.stats().last_error:
            problem += f"; connecting failed last with: {_error(pool)}"
    except Exception as error:
        logger.debug("the server's sessions cannot be read: %s", error)
        problem = f"the query failed: {type(error).__name__}"
    finally:
        with state.lock:
            state.problem = problem
            if answer is not None:
                state.answer, state.answered = answer, time.monotonic()
        state.done.set()


def vendor_of(pool: Pool[Any]) -> str:
    """Return what Django calls the kind of the pool's database."""
    driver = driver_of(pool)
    return "unknown" if driver is None else driver.vendor


def _query(connection: Any, *, vendor: str, of_pool: bool) -> dict[str, Any]:
    """Query a raw connection.

    Its own session is idle but for this query; one outside the pool is not counted.
    """
    query = _query_mysql if vendor == "mysql" else _query_postgresql
    with contextlib.closing(connection.cursor()) as cursor:
        sessions, limits = query(connection, cursor, of_pool)
    names = ("application_name", "state", "own_database", "count")
    return {"sessions": [dict(zip(names, session, strict=True)) for session in sessions], **limits}


def _query_postgresql(
    connection: Any, cursor: Any, of_pool: bool
) -> tuple[list[Any], dict[str, Any]]:
    """Query in a transaction that the release rolls back."""
    if connection.autocommit:
        cursor.execute("BEGIN READ ONLY")
    cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT}")
    cursor.execute(SESSIONS, [of_pool])
    sessions = cursor.fetchall()
    cursor.execute(LIMITS)
    [limits] = cursor.fetchall()
    names = ("max_connections", "reserved", "total", "version")
    about = {"product": "PostgreSQL", "max_user_connections": None}
    return sessions, {**about, **dict(zip(names, limits, strict=True))}


def _query_mysql(connection: Any, cursor: Any, of_pool: bool) -> tuple[list[Any], dict[str, Any]]:
    with DEADLINES.limit(connection):
        cursor.execute(MYSQL_SESSIONS, [of_pool])
        sessions = [(name, state, bool(own), number) for name, state, own, number in cursor]
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
        [[_, total]] = cursor.fetchall()
        cursor.execute("SELECT @@max_connections, @@max_user_connections, version()")
        [[most, most_of_user, version]] = cursor.fetchall()
    return sessions, {
        "product": "MariaDB" if "MariaDB" in version else "MySQL",
        "version": version.partition("-")[0],
        "max_connections": most,
        "max_user_connections": most_of_user or None,
        "reserved": 0,
        "total": int(total),
    }


SERVER_SESSIONS = ServerSessions()
"""The process's cache of answers."""
