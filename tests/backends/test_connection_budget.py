"""The option `budget` on a real server: exact, fair, and freed by whatever ends a process.

Scenario 68.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from pooling.backends.postgresql.budget import POOLS, SLOTS
from pooling.core.errors import BudgetExhausted
from tests.fleet.members import Member
from tests.support.databases import PostgresDatabase, eventually
from tests.support.postgres import PrivatePostgres
from tests.support.servers import execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.conftest import DatabaseSettings
    from tests.support.databases import MariaDatabase, SqliteDatabase
    from tests.support.recording_proxy import RecordingProxy

pytest_plugins = ["tests.support.fault_fixtures"]

BOUND = 60.0

COUNT = f"""
SELECT a.pid, (SELECT objid FROM pg_locks l
               WHERE l.pid = a.pid AND locktype = 'advisory' AND classid = {SLOTS} AND objid > 0),
       (SELECT objid FROM pg_locks l
        WHERE l.pid = a.pid AND locktype = 'advisory' AND classid = {POOLS})
FROM pg_stat_activity a
WHERE datname = current_database() AND backend_type = 'client backend'
      AND pid <> pg_backend_pid()
"""
"""The sessions of the database: their slots and processes, where they have one."""


def slots(database: PostgresDatabase) -> dict[int, int]:
    """Return the slot of each session that has one."""
    return {pid: slot for pid, slot, _ in database.execute(COUNT) if slot is not None}


def budget(limit: int, **options: Any) -> dict[str, Any]:
    return {"budget": limit, "min_size": 0, "timeout": 5.0, **options}


# ---- one process ---------------------------------------------------------------------------------


def test_each_session_has_a_slot_of_its_own(postgresql: PostgresDatabase) -> None:
    with ExitStack() as stack:
        pool = postgresql.wrapper(pool=budget(3)).resolve_pool()
        for _ in range(3):
            stack.callback(pool.acquire().release)
        taken = slots(postgresql)
        assert sorted(taken.values()) == [1, 2, 3]
        assert set(taken) == set(postgresql.sessions())


def test_beyond_the_budget_callers_wait_and_are_told(postgresql: PostgresDatabase) -> None:
    first = postgresql.wrapper(pool=budget(2))
    pool = first.resolve_pool()
    with pool.acquire(), pool.acquire():
        with pytest.raises(OperationalError, match="budget 2 of 2 used by 1 process") as caught:
            postgresql.wrapper(pool=budget(2, timeout=0.5)).ensure_connection()
        assert isinstance(caught.value.__cause__.__cause__, BudgetExhausted)  # type: ignore[union-attr]
        assert pool.stats().outage is None
    first.ensure_connection()
    first.close()


def test_pools_of_one_process_share_its_budget(postgresql: PostgresDatabase) -> None:
    """An idle connection of one pool is given up for callers of the other."""
    with postgresql.alias("one", pool=budget(1, name="one")) as one:
        one.ensure_connection()
        one.close()
        with postgresql.alias("two", pool=budget(1, name="two", timeout=BOUND)) as two:
            two.ensure_connection()
            assert len(slots(postgresql)) == 1
            two.close()


def test_a_session_that_ends_frees_its_slot(postgresql: PostgresDatabase) -> None:
    wrapper = postgresql.wrapper(pool=budget(1))
    session = postgresql.session(wrapper)
    postgresql.terminate(session)
    wrapper.close()
    assert postgresql.session(wrapper) != session
    wrapper.close()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_advisory_unlock_all()",
        "DISCARD ALL",
        "SELECT pg_advisory_lock(7)",
        f"SELECT pg_advisory_unlock({SLOTS}, 1)",
        "DO $$ BEGIN PERFORM pg_advisory_unlock_all(); END $$",
    ],
)
def test_what_a_lease_does_to_locks_neither_frees_nor_leaks_a_slot(
    postgresql: PostgresDatabase, statement: str
) -> None:
    wrapper = postgresql.wrapper(pool=budget(1))
    session = postgresql.session(wrapper)
    with wrapper.cursor() as cursor:
        cursor.execute(statement)
    assert slots(postgresql) == {session: 1}
    wrapper.close()
    assert slots(postgresql) == {session: 1}
    assert postgresql.session(wrapper) == session
    wrapper.close()
    assert postgresql.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())"
    ) == [(2,)]


def test_a_hidden_unlock_is_mended_when_the_lease_ends(postgresql: PostgresDatabase) -> None:
    postgresql.execute(
        "CREATE FUNCTION freeing() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_unlock_all()'"
    )
    wrapper = postgresql.wrapper(pool=budget(1))
    session = postgresql.session(wrapper)
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT freeing()")
    assert slots(postgresql) == {}
    wrapper.close()
    assert slots(postgresql) == {session: 1}


def test_a_session_whose_slot_was_taken_does_not_outlast_its_lease(
    postgresql: PostgresDatabase,
) -> None:
    postgresql.execute(
        "CREATE FUNCTION freeing() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_unlock_all()'"
    )
    wrapper = postgresql.wrapper(pool=budget(1))
    session = postgresql.session(wrapper)
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT freeing()")
    other = postgresql.wrapper(pool=False)
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, 1)", [SLOTS])
    wrapper.close()
    eventually(lambda: session not in postgresql.sessions())
    other.close()


def test_a_transaction_is_not_ended_by_keeping_the_slot(postgresql: PostgresDatabase) -> None:
    wrapper = postgresql.wrapper(pool=budget(1))
    wrapper.set_autocommit(False)
    with wrapper.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE kept (n int)")
        cursor.execute("SELECT pg_advisory_unlock_all()")
        cursor.execute("INSERT INTO kept VALUES (1)")
        wrapper.rollback()
        cursor.execute("SELECT to_regclass('kept')")
        assert cursor.fetchone() == (None,)
    wrapper.rollback()
    wrapper.set_autocommit(True)
    wrapper.close()


def test_a_session_that_has_lost_its_slot_never_takes_the_flag(
    postgresql: PostgresDatabase,
) -> None:
    wrapper = postgresql.wrapper(pool=budget(1))
    wrapper.ensure_connection()
    own = wrapper.resolve_pool()._driver.budget  # type: ignore[attr-defined]
    hold, again = own.around(wrapper.connection)
    assert f"({SLOTS}, 1)" in hold
    own.forget(wrapper.connection)
    hold, again = own.around(wrapper.connection)
    assert not hold
    assert f"({SLOTS}, 0)" not in again
    wrapper.connection.close()
    wrapper.close()


def test_a_budget_costs_a_round_trip_per_connection_and_none_per_lease(
    postgresql: PostgresDatabase, wire: RecordingProxy
) -> None:
    def round_trips(wrapper: Any) -> list[int]:
        found = []
        for _ in range(3):
            since = wire.mark()
            postgresql.session(wrapper)
            wrapper.close()
            found.append(wire.round_trips(since))
        return found

    without = round_trips(postgresql.wrapper(pool={"reset": "session", "min_size": 0}))
    with_budget = round_trips(postgresql.wrapper(pool=budget(5)))
    assert with_budget[0] - without[0] == 1
    assert with_budget[1:] == without[1:]


def test_there_is_no_budget_elsewhere(sqlite: SqliteDatabase) -> None:
    with pytest.raises(ImproperlyConfigured, match="a file has no server"):
        sqlite.wrapper(pool=budget(5)).ensure_connection()


def test_there_is_no_budget_with_mysql(mariadb: MariaDatabase) -> None:
    with pytest.raises(ImproperlyConfigured, match="GET_LOCK"):
        mariadb.wrapper(pool=budget(5)).ensure_connection()


# ---- a fleet -------------------------------------------------------------------------------------


class Fleet:
    """Processes with one budget, on a server of their own, watched by it."""

    def __init__(self, server: PrivatePostgres, limit: int, entry: dict[str, Any]) -> None:
        self.limit = limit
        self.server = server
        self.entry = entry
        self.members: list[Member] = []
        self.most = 0
        """The most sessions with a slot, and of those without one per process, seen so far."""
        self.most_in_one_process = 0
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def start(self, number: int) -> Sequence[Member]:
        """Start so many processes more."""
        new = [Member(self.entry, {}, {}) for _ in range(number)]
        self.members += new
        module = "__import__('tests.fleet.demand', fromlist=['Demand'])"
        for member in new:
            member.ask(f"names.update(Demand={module}.Demand)")
        return new

    def sizes(self) -> list[int]:
        """Return how many sessions with a slot each process has, ascending."""
        sizes: dict[int, int] = {}
        for _, slot, process in execute(self.server.url, COUNT):
            if slot is not None:
                sizes[process] = sizes.get(process, 0) + 1
        return sorted(sizes.values())

    def watch(self) -> None:
        self._watcher.start()

    def _watch(self) -> None:
        while not self._stop.is_set():
            sessions = execute(self.server.url, COUNT)
            self.most = max(self.most, sum(slot is not None for _, slot, _ in sessions))
            self._stop.wait(0.01)

    def close(self) -> None:
        self._stop.set()
        if self._watcher.ident:
            self._watcher.join(BOUND)
        for member in self.members:
            if member.process.poll() is None:
                member.kill()


@contextmanager
def fleet(limit: int, database_settings: DatabaseSettings, **options: Any) -> Iterator[Fleet]:
    server = PrivatePostgres(max_connections=2 * limit + 60)
    server.start()
    entry = database_settings(
        "pooling.backends.postgresql",
        NAME="postgres",
        HOST=server.host,
        PORT=server.port,
        USER=server.user,
        PASSWORD=server.password,
    )
    entry["OPTIONS"]["pool"] = budget(limit, max_size=10, **options)
    running = Fleet(server, limit, entry)
    try:
        yield running
    finally:
        running.close()
        server.close()


def wait_for(condition: Callable[[], bool], seconds: float = BOUND) -> float:
    """Wait until it is true; return for how many seconds."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "it did not come true"
        time.sleep(0.02)
    return time.monotonic() - begin


def test_a_fleet_shares_its_budget_fairly_and_never_exceeds_it(
    database_settings: DatabaseSettings,
) -> None:
    with fleet(9, database_settings, timeout=BOUND) as running:
        members = running.start(6)
        running.watch()
        for member in members:  # one after the other: the first take everything
            member.ask("names.update(demand=Demand(6))")
        wait_for(lambda: running.sizes() == [1, 1, 1, 2, 2, 2])
        assert running.most == 9
        for member in members:
            seen = member.ask("demand.stop()")
            assert seen["served"]
            assert not seen["failures"]
        members[0].use()
        wait_for(lambda: members[0].ask("get_pool('default').stats().budget")[:3] == [9, 9, 6])


def test_a_process_that_starts_when_all_is_taken_gets_its_first_connection(
    database_settings: DatabaseSettings,
) -> None:
    """Idle connections of others are given up, and a killed process's share is free by itself."""
    with fleet(6, database_settings, timeout=BOUND) as running:
        first, second = running.start(2)
        for member in (first, second):
            member.ask("names.update(demand=Demand(3))")
        wait_for(lambda: running.sizes() == [3, 3])
        for member in (first, second):
            assert not member.ask("demand.stop()")["failures"]
        assert running.sizes() == [3, 3]
        [third] = running.start(1)
        running.watch()
        third.use()
        assert running.sizes() in ([1, 2, 3], [1, 2, 2])
        first.kill()
        third.ask("names.update(demand=Demand(10))")
        wait_for(lambda: sum(running.sizes()) == 6 and running.sizes()[-1] > 2)
        assert not third.ask("demand.stop()")["failures"]
        assert running.most <= 6


@pytest.mark.slow
def test_forty_processes_that_all_want_ten_against_a_budget_of_sixty(
    database_settings: DatabaseSettings,
) -> None:
    with fleet(60, database_settings, timeout=BOUND) as running:
        members = running.start(40)
        running.watch()
        for member in members:
            member.ask("names.update(demand=Demand(10))")
        wait_for(lambda: running.sizes() == [1] * 20 + [2] * 20)
        assert running.most == 60
        for member in members:
            assert not member.ask("demand.stop()")["failures"]
